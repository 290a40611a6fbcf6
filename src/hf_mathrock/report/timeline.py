# SPDX-License-Identifier: Apache-2.0
"""One clip as a picture: its waveform, its emotions over time, and a strip for each thing that it is one of.

The picture is drawn without pyplot and outside the user's matplotlib settings, so it looks the same everywhere and
leaves no state behind. Class colours are Paul Tol's "bright" scheme (its yellow from "high contrast") and the heat map
only darkens, so both survive colour-blind eyes; every class is also written out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from .grid import Grid, lay_on_grid
from .results import Result, format_duration, task_names, task_types
from .sheet import (
    DOTS_PER_INCH,
    LEFT,
    MUTED,
    RIGHT,
    ROW,
    WAVE,
    WIDTH,
    draw_rows,
    draw_scale,
    draw_waveform,
    hatch_silence,
    mark_seconds,
    name_row,
    open_sheet,
    runs,
    shorten,
    write,
    write_inside,
    write_title,
)

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

STRIP = 0.34  # inches


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
    end = max(float(grid.edges[-1]), result["duration"])
    with open_sheet(heights, float(grid.edges[0]), end, path) as (figure, stack):
        _write_title(figure, result, mapped, strips)
        axes = iter(stack)
        if envelope is not None:
            draw_waveform(next(axes), envelope, 0.0, result["duration"], grid)
        if mapped:
            _draw_heat_map(next(axes), grid, result, mapped, rows)
        unwritten: dict[str, str] = {}
        for task, axis in zip(strips, axes, strict=True):
            unwritten |= _draw_strip(axis, grid, result, task)
        _explain_colours(figure, unwritten)
        if stack:
            mark_seconds(stack[-1])


def _leading_labels(result: Result, grid: Grid, task: str, max_rows: int) -> list[str]:
    ranked = [entry["label"] for entry in result.get(task, ())]
    return (ranked or grid.labels[task])[:max_rows]


def _write_title(figure: Figure, result: Result, mapped: str | None, strips: Sequence[str]) -> None:
    flags = [flag.replace("_", " ") for flag in result.get("quality", ())]
    leading = [entry["label"] for entry in result.get(mapped, ())[:3]] if mapped else []
    kinds = [_kind(task, result[task][0]["label"]) for task in strips if result[task]]
    line = "   ·   ".join(part for part in (", ".join(leading), *kinds) if part)
    write_title(figure, result.get("file"), [*flags, format_duration(result["duration"])], line or "nothing to hear")


def _kind(task: str, label: str) -> str:
    # "high" alone says nothing, "high intensity" does; "atmospheric" needs no help.
    return f"{label} {task}" if task in ("intensity", "tempo") else label


def _draw_heat_map(axis: Axes, grid: Grid, result: Result, task: str, rows: Sequence[str]) -> None:
    hatch_silence(axis, grid, named=not rows)
    if not rows:
        axis.set_ylim(0, 1)
        name_row(axis, 0.5, task)
        return
    known = {label: grid.scores[task][row] for row, label in enumerate(grid.labels[task])}
    blank = np.full(len(grid.edges) - 1, np.nan)
    values = np.array([known.get(label, blank) for label in rows])
    highest = np.nanmax(values, initial=0.0)
    # A round end of the scale, so that pictures of similar clips share it.
    limit = next(step for step in (0.2, 0.4, 0.6, 0.8, 1.0) if highest <= step or step == 1.0)
    mesh = draw_rows(axis, grid.edges, values, HEAT, 0, limit)
    overall = {entry["label"]: entry for entry in result[task]}
    for row, label in enumerate(rows):
        entry = overall.get(label, {"score": np.nan, "active": False})
        y = 1 - (row + 0.5) / len(rows)
        name_row(axis, y, label, score=entry["score"], strong=entry["active"])
    draw_scale(axis, mesh, (0, limit / 2, limit), f"{task} score")


def _draw_strip(axis: Axes, grid: Grid, result: Result, task: str) -> dict[str, str]:
    """Draws a single-label task and returns the colours of the classes that found no room for their word."""
    labels, scores = grid.labels[task], grid.scores[task]
    colour_of = _colours(labels)
    axis.set_ylim(0, 1)
    hatch_silence(axis, grid, named=True)
    winner = np.full(len(grid.edges) - 1, -1)
    heard = np.isfinite(scores).any(axis=0) if labels else np.zeros(len(winner), dtype=bool)
    if heard.any():
        winner[heard] = np.nanargmax(scores[:, heard], axis=0)
    shown: dict[str, str] = {}
    written = set()
    shortest = 0.008 * (grid.edges[-1] - grid.edges[0])
    for first, last in runs(winner):
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
        if write_inside(axis, start, end, label, _blend(colour_of[label], certainty.mean())):
            written.add(label)
        shown[label] = colour_of[label]
    name_row(axis, 0.5, task)
    if result[task]:
        best = result[task][0]
        x = 1 + 0.16 / (WIDTH - LEFT - RIGHT)
        summary = write(axis, x, 0.5, f"{best['label']} {best['score']:.2f}", size=10, transform=axis.transAxes)
        shorten(summary, RIGHT - 0.3)
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


def _explain_colours(figure: Figure, unwritten: Mapping[str, str]) -> None:
    """Names below the axis the classes whose runs were all too short to hold their word."""
    total = figure.get_figheight()
    x = LEFT
    for label, colour in unwritten.items():
        text = write(figure, (x + 0.17) / WIDTH, 0.16 / total, label, size=9.5, color=MUTED)
        end = x + 0.17 + text.get_window_extent().width / DOTS_PER_INCH
        if end > WIDTH - 0.2:
            text.remove()
            break
        figure.add_artist(
            Rectangle((x / WIDTH, 0.1 / total), 0.12 / WIDTH, 0.12 / total, facecolor=colour, linewidth=0)
        )
        x = end + 0.22
