# SPDX-License-Identifier: Apache-2.0
"""The sheet that pictures of a recording are drawn on: a title and rows over one axis of seconds.

Drawn without pyplot and outside the user's matplotlib settings, so it looks the same everywhere and leaves no state
behind.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike

from .grid import Grid
from .results import format_time, printable

INK, MUTED, RULE, SILENCE = "#1d2433", "#6a7282", "#d8dce4", "#e7e9ee"
WAVEFORM = "#47557a"

# Inches. The margins hold the row names and the summary of each row.
WIDTH, LEFT, RIGHT = 11.5, 2.05, 1.65
TITLE, WAVE, ROW, GAP, FOOT = 0.92, 0.9, 0.245, 0.12, 0.55
DOTS_PER_INCH = 160


@contextmanager
def open_sheet(
    heights: Sequence[float], start: float, end: float, path: str | os.PathLike[str]
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure and one axis per height, which is a PNG when the block ends; the file is written whole or not at all.

    Args:
        heights: Of the rows in inches, from top to bottom.
        start: Where their axis of seconds begins.
        end: Where it ends.
        path: Where the PNG goes.
    """
    total = TITLE + sum(heights) + GAP * (len(heights) - 1) + FOOT
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update({"font.family": _installed_fonts(), "hatch.color": "#b4bac6", "hatch.linewidth": 0.8})
        # A name in a script that no installed font covers is drawn as boxes; that is no news to the user.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(WIDTH, total), dpi=DOTS_PER_INCH, facecolor="white")
        canvas = FigureCanvasAgg(figure)
        yield figure, _stack_axes(figure, heights, start, end)
        picture = io.BytesIO()
        canvas.print_png(picture, metadata={"Software": None})
    # The picture is complete before the file is opened.
    Path(path).write_bytes(picture.getvalue())


def write_title(figure: Figure, file: str | None, facts: Sequence[str], subtitle: str) -> None:
    """Writes the name of a file, facts at its right, and a line below."""
    total = figure.get_figheight()
    right = write(figure, 1 - 0.3 / WIDTH, 1 - 0.32 / total, "   ·   ".join(facts), color=MUTED, ha="right")
    room = WIDTH - 0.9 - right.get_window_extent().width / DOTS_PER_INCH
    title = write(figure, 0.3 / WIDTH, 1 - 0.32 / total, PurePath(file or "untitled").name, size=15, weight="bold")
    shorten(title, room)
    shorten(write(figure, 0.3 / WIDTH, 1 - 0.64 / total, subtitle, color=MUTED), WIDTH - 0.6)


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


def write(where: Figure | Axes, x: float, y: float, text: str, **style: Any) -> Text:
    """Writes a text at a place of a figure or an axis."""
    # File names and labels are taken literally: "$" begins no formula.
    return where.text(x, y, printable(text), parse_math=False, **{"va": "center", "size": 11, "color": INK, **style})


def shorten(text: Text, room: float) -> None:
    """Cuts a text in the middle until it is at most `room` inches wide."""
    whole = text.get_text()
    kept = len(whole)
    while kept > 2 and text.get_window_extent().width / DOTS_PER_INCH > room:
        kept -= max(1, kept // 20)
        text.set_text(f"{whole[: (kept + 1) // 2]}…{whole[len(whole) - kept // 2 :]}")


def name_row(axis: Axes, y: float, name: str, score: float | None = None, strong: bool = True) -> None:
    """Writes a name and a score left of a row, at a height given as a part of its axis."""
    width = WIDTH - LEFT - RIGHT
    colour = INK if strong else MUTED
    style = {"color": colour, "ha": "right", "transform": axis.transAxes}
    right = -0.12
    if score is not None:
        write(axis, right / width, y, f"{score:.2f}", size=9, **style)
        right -= 0.4
    weight = "bold" if strong and score is not None else "normal"
    text = write(axis, right / width, y, name, size=10, weight=weight, **style)
    shorten(text, LEFT + right - 0.1)


def draw_waveform(axis: Axes, envelope: tuple[ArrayLike, ArrayLike], start: float, end: float, grid: Grid) -> None:
    """Draws a waveform from its outline.

    Args:
        axis: Where.
        envelope: Lowest and highest sample per bin, equally spaced between the two times.
        start: Seconds.
        end: Seconds.
        grid: Its silent stretches are hatched.
    """
    low, high = (np.asarray(side, dtype=float) for side in envelope)
    # Quiet recordings would be a line: the drawing fills its height, the numbers do not come from it.
    peak = max(float(np.max(np.abs(low), initial=0.0)), float(np.max(np.abs(high), initial=0.0)), 1e-3)
    times = start + (np.arange(len(low)) + 0.5) * ((end - start) / max(len(low), 1))
    hatch_silence(axis, grid)
    axis.fill_between(times, low / peak, high / peak, color=WAVEFORM, linewidth=0.4)
    axis.set_ylim(-1.08, 1.08)
    for spine in axis.spines.values():
        spine.set_visible(False)
    name_row(axis, 0.5, "waveform")


def hatch_silence(axis: Axes, grid: Grid, named: bool = False) -> None:
    """Hatches the silent stretches of a row."""
    for first, last in runs(grid.silent.astype(int)):
        if grid.silent[first]:
            start, end = grid.edges[first], grid.edges[last]
            axis.axvspan(start, end, facecolor=SILENCE, edgecolor="#b4bac6", hatch="////", linewidth=0, zorder=0)
            if named:
                write_inside(axis, start, end, "silent", to_rgb(SILENCE))


def write_inside(axis: Axes, start: float, end: float, label: str, background: tuple[float, float, float]) -> bool:
    """Writes a label into its run if there is room, and says whether there was."""
    red, green, blue = background
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
    text = write(axis, (start + end) / 2, 0.48, label, size=10, color="white" if dark else INK, ha="center")
    left, right = axis.transData.transform([(start, 0), (end, 0)])[:, 0]
    fits = bool(text.get_window_extent().width <= (right - left) - 10)
    if not fits:
        text.remove()
    return fits


def runs(values: np.ndarray) -> list[tuple[int, int]]:
    """Returns `(first, last + 1)` of every stretch of equal values."""
    changes = np.flatnonzero(np.diff(values)) + 1
    bounds = [0, *changes.tolist(), len(values)]
    return list(zip(bounds[:-1], bounds[1:], strict=True))


def draw_rows(
    axis: Axes, edges: ArrayLike, values: np.ndarray, colours: Colormap, lowest: float, highest: float
) -> QuadMesh:
    """Draws numbers as rows of coloured cells, the first on top.

    Args:
        axis: Where.
        edges: Of the cells, `(num_cells + 1,)`.
        values: `(num_rows, num_cells)`; what is not finite is left blank.
        colours: From `lowest` to `highest`.
        lowest: Value of the first colour.
        highest: Value of the last colour.
    """
    axis.set_ylim(len(values), 0)
    rows = np.arange(len(values) + 1)
    masked = np.ma.masked_invalid(values)
    mesh = axis.pcolormesh(edges, rows, masked, cmap=colours, vmin=lowest, vmax=highest, linewidth=0)
    for boundary in range(1, len(values)):
        axis.axhline(boundary, color="white", linewidth=0.9)
    return mesh


def draw_scale(axis: Axes, mapped: ScalarMappable, ticks: Sequence[float], label: str) -> None:
    """Draws the colours of a row beside it, and what they stand for."""
    left, bottom, width, height = axis.get_position().bounds
    figure = axis.get_figure(root=True)
    assert figure is not None
    bar = figure.add_axes((left + width + 0.16 / WIDTH, bottom, 0.13 / WIDTH, height))
    colours = figure.colorbar(mapped, cax=bar)
    colours.outline.set_visible(False)
    colours.set_ticks(list(ticks), labels=[f"{tick:g}" for tick in ticks])
    bar.tick_params(length=0, labelsize=9, labelcolor=MUTED, pad=4)
    style = {"rotation": 270, "ha": "center", "size": 9, "color": MUTED, "transform": bar.transAxes}
    write(bar, 5.4, 0.5, label, **style)


def mark_seconds(axis: Axes) -> None:
    """Puts the seconds below the lowest row."""
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
