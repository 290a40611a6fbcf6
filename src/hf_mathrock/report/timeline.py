# SPDX-License-Identifier: Apache-2.0
"""One clip as a picture: its waveform, its emotions over time, and a strip for each thing that it is one of.

The picture is drawn without pyplot and outside the user's matplotlib settings, so it looks the same everywhere and
leaves no state behind. Class colours are Paul Tol's "bright" scheme (its yellow from "high contrast") and the heat map
only darkens, so both survive colour-blind eyes; every class is also written out.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike

from .grid import Grid, lay_on_grid
from .results import Result, format_duration, format_time, printable, task_names, task_types

INK, MUTED, RULE, SILENCE = "#1d2433", "#6a7282", "#d8dce4", "#e7e9ee"
WAVEFORM = "#47557a"
HEAT = LinearSegmentedColormap.from_list("heat", ["#faf8f5", "#f6d3b0", "#ea8c7a", "#b8477e", "#65297e", "#1f1147"])

BLUE, CYAN, GREEN, YELLOW, RED, PURPLE, GREY = (
    "#4477AA", "#66CCEE", "#228833", "#DDAA33", "#EE6677", "#AA3377", "#BBBBBB",
)  # fmt: skip
# Ordered classes run from cold to hot; the same word has the same colour in every picture.
KNOWN_COLOURS = {
    "aggressive": RED, "atmospheric": CYAN, "melancholic": BLUE, "technical": GREEN,
    "low": BLUE, "medium": YELLOW, "high": RED,
    "slow": BLUE, "moderate": YELLOW, "fast": RED,
}  # fmt: skip
OTHER_COLOURS = (BLUE, RED, GREEN, YELLOW, CYAN, PURPLE, GREY)

# Inches. The margins hold the row names and the summary of each strip.
WIDTH, LEFT, RIGHT = 11.5, 2.05, 1.65
TITLE, WAVE, ROW, STRIP, GAP, FOOT = 0.92, 0.9, 0.245, 0.34, 0.12, 0.55
DOTS_PER_INCH = 160


def draw_timeline(
    result: Result,
    envelope: tuple[ArrayLike, ArrayLike] | None,
    path: str | os.PathLike[str],
    *,
    max_rows: int = 12,
) -> None:
    """Draws one result as a PNG.

    Top to bottom on one axis of seconds: name, duration and leading labels; the waveform; a heat map of the first
    multi-label task; a strip for every other task, coloured by the winning class, the stronger the surer. Overlapping
    windows are averaged. Silent stretches are grey and hatched.

    Args:
        result: What the pipeline returns with `return_segments=True`: plain types, any set of tasks.
        envelope: Lowest and highest sample per bin, equally spaced over the clip, in [-1, 1]; `None` leaves the
            waveform out.
        path: Where the PNG goes. It is written whole or not at all.
        max_rows: How many labels the heat map shows, those with the highest scores over the whole clip.

    Raises:
        ValueError: The result has no segments.
    """
    tasks = task_names(result)
    types = task_types(result)
    grid = lay_on_grid(result.get("segments", ()), tasks)
    mapped = next((task for task in tasks if types[task] == "multi_label"), None)
    strips = [task for task in tasks if task != mapped]
    rows = _leading_labels(result, grid, mapped, max_rows) if mapped else []

    heights = []
    if envelope is not None:
        heights.append(WAVE)
    if mapped:
        heights.append(ROW * max(len(rows), 3))
    heights += [STRIP] * len(strips)
    total = TITLE + sum(heights) + GAP * (len(heights) - 1) + FOOT

    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update({"font.family": _installed_fonts(), "hatch.color": "#b4bac6", "hatch.linewidth": 0.8})
        # A name in a script that no installed font covers is drawn as boxes; that is no news to the user.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(WIDTH, total), dpi=DOTS_PER_INCH, facecolor="white")
        canvas = FigureCanvasAgg(figure)
        _write_title(figure, result, mapped, strips)
        end = max(float(grid.edges[-1]), result["duration"])
        stack = _stack_axes(figure, heights, float(grid.edges[0]), end)
        axes = iter(stack)
        if envelope is not None:
            _draw_waveform(next(axes), envelope, result, grid)
        if mapped:
            _draw_heat_map(next(axes), grid, result, mapped, rows)
        unwritten: dict[str, str] = {}
        for task, axis in zip(strips, axes, strict=True):
            unwritten |= _draw_strip(axis, grid, result, task)
        _explain_colours(figure, unwritten)
        if stack:
            _mark_seconds(stack[-1])
        picture = io.BytesIO()
        canvas.print_png(picture, metadata={"Software": None})
    # The picture is complete before the file is opened.
    Path(path).write_bytes(picture.getvalue())


def _leading_labels(result: Result, grid: Grid, task: str, max_rows: int) -> list[str]:
    ranked = [entry["label"] for entry in result.get(task, ())]
    return (ranked or grid.labels[task])[:max_rows]


def _installed_fonts() -> list[str]:
    # DejaVu comes with matplotlib; the others are asked only for scripts that it lacks.
    installed = {font.name for font in fontManager.ttflist}
    wide = ("Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "Yu Gothic", "Microsoft YaHei", "Arial Unicode MS")
    return ["DejaVu Sans", *(name for name in wide if name in installed)]


def _stack_axes(figure: Figure, heights: Sequence[float], start: float, end: float) -> list[Axes]:
    total = figure.get_figheight()
    top = total - TITLE
    stack = []
    for height in heights:
        box = (LEFT / WIDTH, (top - height) / total, (WIDTH - LEFT - RIGHT) / WIDTH, height / total)
        axis = figure.add_axes(box)
        axis.set_xlim(start, end)
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_color(RULE)
            spine.set_linewidth(0.8)
        stack.append(axis)
        top -= height + GAP
    return stack


def _write_title(figure: Figure, result: Result, mapped: str | None, strips: Sequence[str]) -> None:
    total = figure.get_figheight()
    name = PurePath(result.get("file") or "untitled").name
    duration = format_duration(result["duration"])
    flags = [flag.replace("_", " ") for flag in result.get("quality", ())]
    right = _text(
        figure, 1 - 0.3 / WIDTH, 1 - 0.32 / total, "   ·   ".join([*flags, duration]), color=MUTED, ha="right"
    )
    room = WIDTH - 0.9 - right.get_window_extent().width / DOTS_PER_INCH
    title = _text(figure, 0.3 / WIDTH, 1 - 0.32 / total, name, size=15, weight="bold")
    _shorten(title, room)
    leading = [entry["label"] for entry in result.get(mapped, ())[:3]] if mapped else []
    kinds = [_kind(task, result[task][0]["label"]) for task in strips if result[task]]
    line = "   ·   ".join(part for part in (", ".join(leading), *kinds) if part)
    subtitle = _text(figure, 0.3 / WIDTH, 1 - 0.64 / total, line or "nothing to hear", color=MUTED)
    _shorten(subtitle, WIDTH - 0.6)


def _kind(task: str, label: str) -> str:
    # "high" alone says nothing, "high intensity" does; "atmospheric" needs no help.
    return f"{label} {task}" if task in ("intensity", "tempo") else label


def _text(where: Figure | Axes, x: float, y: float, text: str, **style: Any) -> Text:
    # File names and labels are taken literally: "$" begins no formula.
    return where.text(x, y, printable(text), parse_math=False, **{"va": "center", "size": 11, "color": INK, **style})


def _shorten(text: Text, room: float) -> None:
    """Cuts a text in the middle until it is at most `room` inches wide."""
    whole = text.get_text()
    kept = len(whole)
    while kept > 2 and text.get_window_extent().width / DOTS_PER_INCH > room:
        kept -= max(1, kept // 20)
        text.set_text(f"{whole[: (kept + 1) // 2]}…{whole[len(whole) - kept // 2 :]}")


def _draw_waveform(axis: Axes, envelope: tuple[ArrayLike, ArrayLike], result: Result, grid: Grid) -> None:
    low, high = (np.asarray(side, dtype=float) for side in envelope)
    # Quiet recordings would be a line: the drawing fills its height, the numbers do not come from it.
    peak = max(float(np.max(np.abs(low), initial=0.0)), float(np.max(np.abs(high), initial=0.0)), 1e-3)
    times = (np.arange(len(low)) + 0.5) * (result["duration"] / max(len(low), 1))
    _hatch_silence(axis, grid)
    axis.fill_between(times, low / peak, high / peak, color=WAVEFORM, linewidth=0.4)
    axis.set_ylim(-1.08, 1.08)
    for spine in axis.spines.values():
        spine.set_visible(False)
    _name_row(axis, 0.5, "waveform")


def _draw_heat_map(axis: Axes, grid: Grid, result: Result, task: str, rows: Sequence[str]) -> None:
    _hatch_silence(axis, grid, named=not rows)
    if not rows:
        axis.set_ylim(0, 1)
        _name_row(axis, 0.5, task)
        return
    axis.set_ylim(len(rows), 0)
    known = {label: grid.scores[task][row] for row, label in enumerate(grid.labels[task])}
    blank = np.full(len(grid.edges) - 1, np.nan)
    values = np.array([known.get(label, blank) for label in rows])
    highest = np.nanmax(values, initial=0.0)
    # A round end of the scale, so that pictures of similar clips share it.
    limit = next(step for step in (0.2, 0.4, 0.6, 0.8, 1.0) if highest <= step or step == 1.0)
    masked = np.ma.masked_invalid(values)
    mesh = axis.pcolormesh(grid.edges, np.arange(len(rows) + 1), masked, cmap=HEAT, vmin=0, vmax=limit, linewidth=0)
    for boundary in range(1, len(rows)):
        axis.axhline(boundary, color="white", linewidth=0.9)
    overall = {entry["label"]: entry for entry in result[task]}
    for row, label in enumerate(rows):
        entry = overall.get(label, {"score": np.nan, "active": False})
        y = 1 - (row + 0.5) / len(rows)
        _name_row(axis, y, label, score=entry["score"], strong=entry["active"])
    left, bottom, width, height = axis.get_position().bounds
    bar = axis.figure.add_axes((left + width + 0.16 / WIDTH, bottom, 0.13 / WIDTH, height))
    colours = axis.figure.colorbar(mesh, cax=bar)
    colours.outline.set_visible(False)
    colours.set_ticks([0, limit / 2, limit], labels=[f"{tick:g}" for tick in (0, limit / 2, limit)])
    bar.tick_params(length=0, labelsize=9, labelcolor=MUTED, pad=4)
    style = {"rotation": 270, "ha": "center", "size": 9, "color": MUTED, "transform": bar.transAxes}
    _text(bar, 5.4, 0.5, f"{task} score", **style)


def _draw_strip(axis: Axes, grid: Grid, result: Result, task: str) -> dict[str, str]:
    """Draws a single-label task and returns the colours of the classes that found no room for their word."""
    labels, scores = grid.labels[task], grid.scores[task]
    colour_of = _colours(labels)
    axis.set_ylim(0, 1)
    _hatch_silence(axis, grid, named=True)
    winner = np.full(len(grid.edges) - 1, -1)
    heard = np.isfinite(scores).any(axis=0) if labels else np.zeros(len(winner), dtype=bool)
    if heard.any():
        winner[heard] = np.nanargmax(scores[:, heard], axis=0)
    shown: dict[str, str] = {}
    written = set()
    shortest = 0.008 * (grid.edges[-1] - grid.edges[0])
    for first, last in _runs(winner):
        if winner[first] < 0:
            continue
        label = labels[winner[first]]
        certainty = scores[winner[first], first:last]
        for cell, score in zip(range(first, last), certainty, strict=True):
            axis.add_patch(
                Rectangle(
                    (grid.edges[cell], 0),
                    grid.edges[cell + 1] - grid.edges[cell],
                    1,
                    linewidth=0,
                    antialiased=False,
                    facecolor=_blend(colour_of[label], score),
                )
            )
        start, end = grid.edges[first], grid.edges[last]
        # Among the many short runs of a long file the gaps would outweigh the colours.
        if first and end - start > shortest:
            axis.axvline(start, color="white", linewidth=1.2)
        if _write_inside(axis, start, end, label, _blend(colour_of[label], certainty.mean())):
            written.add(label)
        shown[label] = colour_of[label]
    _name_row(axis, 0.5, task)
    if result[task]:
        best = result[task][0]
        x = 1 + 0.16 / (WIDTH - LEFT - RIGHT)
        summary = _text(axis, x, 0.5, f"{best['label']} {best['score']:.2f}", size=10, transform=axis.transAxes)
        _shorten(summary, RIGHT - 0.3)
    return {label: colour for label, colour in shown.items() if label not in written}


def _colours(labels: Sequence[str]) -> dict[str, str]:
    # Alphabetical, not by score: two clips of one taxonomy agree.
    others = sorted(label for label in labels if label not in KNOWN_COLOURS)
    return {**KNOWN_COLOURS, **{label: OTHER_COLOURS[i % len(OTHER_COLOURS)] for i, label in enumerate(others)}}


def _blend(colour: str, score: float) -> tuple[float, float, float]:
    # On white, from a tint that still shows its hue to the full colour.
    opacity = 0.2 + 0.8 * float(np.clip(score, 0, 1))
    red, green, blue = (1 - opacity * (1 - channel) for channel in to_rgb(colour))
    return red, green, blue


def _write_inside(axis: Axes, start: float, end: float, label: str, background: tuple[float, float, float]) -> bool:
    """Writes a label into its run if there is room, and says whether there was."""
    red, green, blue = background
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
    text = _text(axis, (start + end) / 2, 0.48, label, size=10, color="white" if dark else INK, ha="center")
    left, right = axis.transData.transform([(start, 0), (end, 0)])[:, 0]
    fits = bool(text.get_window_extent().width <= (right - left) - 10)
    if not fits:
        text.remove()
    return fits


def _hatch_silence(axis: Axes, grid: Grid, named: bool = False) -> None:
    for first, last in _runs(grid.silent.astype(int)):
        if grid.silent[first]:
            start, end = grid.edges[first], grid.edges[last]
            axis.axvspan(start, end, facecolor=SILENCE, edgecolor="#b4bac6", hatch="////", linewidth=0, zorder=0)
            if named:
                _write_inside(axis, start, end, "silent", to_rgb(SILENCE))


def _runs(values: np.ndarray) -> list[tuple[int, int]]:
    """Returns `(first, last + 1)` of every stretch of equal values."""
    changes = np.flatnonzero(np.diff(values)) + 1
    bounds = [0, *changes.tolist(), len(values)]
    return list(zip(bounds[:-1], bounds[1:], strict=True))


def _name_row(axis: Axes, y: float, name: str, score: float | None = None, strong: bool = True) -> None:
    width = WIDTH - LEFT - RIGHT
    colour = INK if strong else MUTED
    style = {"color": colour, "ha": "right", "transform": axis.transAxes}
    right = -0.12
    if score is not None:
        _text(axis, right / width, y, f"{score:.2f}", size=9, **style)
        right -= 0.4
    weight = "bold" if strong and score is not None else "normal"
    text = _text(axis, right / width, y, name, size=10, weight=weight, **style)
    _shorten(text, LEFT + right - 0.1)


def _mark_seconds(axis: Axes) -> None:
    start, end = axis.get_xlim()
    length = end - start
    if length <= 90:
        axis.xaxis.set_major_locator(MaxNLocator(nbins=10, steps=[1, 2, 5, 10], integer=length >= 3))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g} s"))
    else:
        steps = (10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
        step = next((step for step in steps if length <= 12 * step), 3600 * math.ceil(length / 12 / 3600))
        axis.xaxis.set_major_locator(FixedLocator(np.arange(start, end + 1e-6, step).tolist()))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: format_time(seconds)))
    axis.tick_params(axis="x", length=3, color=RULE, labelsize=9.5, labelcolor=MUTED, pad=4)


def _explain_colours(figure: Figure, unwritten: Mapping[str, str]) -> None:
    """Names below the axis the classes whose runs were all too short to hold their word."""
    total = figure.get_figheight()
    x = LEFT
    for label, colour in unwritten.items():
        text = _text(figure, (x + 0.17) / WIDTH, 0.16 / total, label, size=9.5, color=MUTED)
        end = x + 0.17 + text.get_window_extent().width / DOTS_PER_INCH
        if end > WIDTH - 0.2:
            text.remove()
            break
        figure.add_artist(
            Rectangle((x / WIDTH, 0.1 / total), 0.12 / WIDTH, 0.12 / total, facecolor=colour, linewidth=0)
        )
        x = end + 0.22
