# SPDX-License-Identifier: Apache-2.0
"""Figures of an evaluation: precision and recall, confusion, reliability, and the labels one by one.

Each function draws one PNG from plain lists, as `results.json` and the curves of an evaluation hold them, outside the
user's matplotlib settings and without leaving state behind.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from .results import printable
from .sheet import INK, MUTED, RULE
from .timeline import BLUE, OTHER_COLOURS, RED

DOTS_PER_INCH = 150
MAX_NAMED_CURVES = len(OTHER_COLOURS) - 1  # the last is grey, as the labels without a name are
BAR = "#9db8d6"  # pale enough for a line across it
PALE = LinearSegmentedColormap.from_list("pale", ["#ffffff", "#c9d6ea", BLUE])
Interval = Sequence[float]


def draw_precision_recall(
    task: str,
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    average_precision: Mapping[str, float],
    path: str | os.PathLike[str],
    *,
    support: Mapping[str, int] | None = None,
) -> None:
    """Draws precision over recall of a task's labels; of many labels, the most frequent ones in colour.

    Args:
        task: Its name.
        curves: Label to `{"precision", "recall"}`, equally long, in rising order of recall.
        average_precision: By label; stands in the legend.
        path: Where the PNG goes.
        support: Positive songs by label; decides which labels are in colour.

    Raises:
        ValueError: There is no curve.
    """
    if not curves:
        raise ValueError(f"no label of {task!r} has a positive song, so there is no curve to draw")
    ranked = sorted(curves, key=lambda label: -(support or {}).get(label, 0))
    with open_figure(7.2, 5.0, path) as figure:
        axis = _axis(figure, f"{task}: precision and recall", "recall", "precision")
        for label in ranked[MAX_NAMED_CURVES:]:
            axis.plot(curves[label]["recall"], curves[label]["precision"], color=RULE, linewidth=0.8, zorder=1)
        for label, colour in zip(ranked[:MAX_NAMED_CURVES], OTHER_COLOURS, strict=False):
            axis.plot(
                curves[label]["recall"],
                curves[label]["precision"],
                color=colour,
                linewidth=1.8,
                label=_literal(f"{label} ({average_precision[label]:.2f})"),
            )
        others = len(ranked) - MAX_NAMED_CURVES
        title = "average precision" + (f"\n({others} rarer labels in grey)" if others > 0 else "")
        axis.legend(title=title, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
        _unit_square(axis)


def draw_confusion(
    task: str, labels: Sequence[str], matrix: Sequence[Sequence[int]], path: str | os.PathLike[str]
) -> None:
    """Draws which label was heard for which: rows are what is true, shaded by the share of the row.

    Args:
        task: Its name.
        labels: In the order of the matrix.
        matrix: Counts of songs, `(num_labels, num_labels)`.
        path: Where the PNG goes.

    Raises:
        ValueError: The matrix does not fit the labels.
    """
    counts = np.asarray(matrix, dtype=float)
    if counts.shape != (len(labels), len(labels)):
        raise ValueError(f"{len(labels)} labels need a matrix of as many rows and columns, not {counts.shape}")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 1.6 + max(2.4, 0.62 * len(labels))
    with open_figure(size + 0.6, size, path) as figure:
        axis = _axis(figure, f"{task}: songs", "heard", "true")
        axis.grid(visible=False)
        axis.imshow(shares, cmap=PALE, vmin=0, vmax=1)
        names = [_literal(label) for label in labels]
        axis.set_xticks(range(len(labels)), names, rotation=45, ha="right")
        axis.set_yticks(range(len(labels)), names)
        for row, column in np.ndindex(counts.shape):
            if counts[row, column]:
                colour = "white" if shares[row, column] > 0.7 else INK
                axis.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center", color=colour)


def draw_reliability(
    task: str,
    curves: Mapping[str, Mapping[str, Any]],
    path: str | os.PathLike[str],
) -> None:
    """Draws how often claims hold against how sure they are: on the diagonal, scores mean what they say.

    Args:
        task: Its name.
        curves: Name (such as "before" and "after") to `{"confidence", "frequency", "count"}` by bin; an `ece` among
            them, the calibration error, stands in the legend.
        path: Where the PNG goes.

    Raises:
        ValueError: There is no curve.
    """
    if not curves:
        raise ValueError(f"nothing is known of {task!r}, so there is no reliability to draw")
    with open_figure(5.4, 5.4, path) as figure:
        axis = _axis(figure, f"{task}: reliability", "how sure (mean score)", "how often right")
        axis.plot([0, 1], [0, 1], color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
        # One curve is blue; of two, the first is what was, in grey.
        colours = [BLUE] if len(curves) == 1 else [MUTED, BLUE, *OTHER_COLOURS[1:]]
        for (name, curve), colour in zip(curves.items(), colours, strict=False):
            counts = np.asarray(curve["count"], dtype=float)
            label = f"{name} (ECE {curve['ece']:.3f})" if "ece" in curve else name
            axis.plot(curve["confidence"], curve["frequency"], color=colour, linewidth=1.6, label=_literal(label))
            # As large as the bin is full: a point of three songs proves little.
            areas = 12 + 140 * counts / max(counts.sum(), 1)
            axis.scatter(curve["confidence"], curve["frequency"], s=areas, color=colour, zorder=3)
        axis.legend(loc="upper left", frameon=False)
        _unit_square(axis)
        axis.set_aspect("equal")


def draw_label_bars(
    task: str,
    values: Mapping[str, float],
    path: str | os.PathLike[str],
    *,
    intervals: Mapping[str, Interval] | None = None,
    chance: Mapping[str, float] | None = None,
    metric: str = "average precision",
) -> None:
    """Draws a bar per label, longest first, with its interval and what random scores would reach.

    Args:
        task: Its name.
        values: By label, in [0, 1].
        path: Where the PNG goes.
        intervals: By label the two ends of the 95 % interval.
        chance: By label what random scores reach.
        metric: What the values are.

    Raises:
        ValueError: There is no value.
    """
    if not values:
        raise ValueError(f"no label of {task!r} has a figure to draw")
    ranked = sorted(values, key=lambda label: values[label])
    with open_figure(7.2, 1.3 + 0.27 * max(len(ranked), 3), path) as figure:
        axis = _axis(figure, f"{task}: {metric}", f"{metric}, with 95 % interval", "")
        axis.barh(range(len(ranked)), [values[label] for label in ranked], color=BAR, height=0.62)
        for row, label in enumerate(ranked):
            if intervals and label in intervals:
                axis.plot(intervals[label], [row, row], color=INK, linewidth=1.3, solid_capstyle="butt", zorder=3)
            if chance and label in chance:
                axis.plot([chance[label]] * 2, [row - 0.4, row + 0.4], color=RED, linewidth=1.8, zorder=4)
        axis.set_yticks(range(len(ranked)), [_literal(label) for label in ranked])
        axis.set_xlim(0, 1)
        axis.set_ylim(-0.6, len(ranked) - 0.4)
        axis.grid(axis="y", visible=False)
        if chance:
            axis.plot([], [], color=RED, linewidth=1.8, label="chance")
            axis.legend(loc="lower right", frameon=False)


def draw_evaluation(
    tasks: Sequence[Mapping[str, Any]],
    entry: Mapping[str, Any],
    curves: Mapping[str, Mapping[str, Any]],
    folder: str | os.PathLike[str],
) -> list[Path]:
    """Draws everything that there is to see in one set of `results.json`.

    Args:
        tasks: Their `name` and `labels`.
        entry: The set.
        curves: By task, as the evaluation gives them.
        folder: Made if missing.

    Returns:
        The pictures that were drawn, in the order of the tasks; a task of which nothing is known has none.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []

    def file(kind: str, name: str) -> Path:
        drawn.append(folder / f"{kind}-{name}.png")
        return drawn[-1]

    for task in tasks:
        name = task["name"]
        if name not in curves:
            continue
        precisions, support = entry["average_precision"].get(name, {}), entry.get("support", {}).get(name, {})
        if found := curves[name].get("precision_recall"):
            draw_precision_recall(name, found, precisions, file("precision-recall", name), support=support)
        if name in entry.get("confusion", {}):
            draw_confusion(name, task["labels"], entry["confusion"][name], file("confusion", name))
        if "reliability" in curves[name]:
            draw_reliability(name, curves[name]["reliability"], file("reliability", name))
        if precisions:
            draw_label_bars(
                name,
                precisions,
                file("labels", name),
                intervals=entry.get("label_intervals", {}).get(name),
                chance=entry.get("chance", {}).get(name),
            )
    return drawn


@contextmanager
def open_figure(width: float, height: float, path: str | os.PathLike[str]) -> Iterator[Figure]:
    """A figure of so many inches that is a PNG when the block ends; the file is written whole or not at all."""
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update({"text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK})
        # A label in a script that the font lacks is drawn as boxes; that is no news to the user.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor="white", layout="constrained")
        canvas = FigureCanvasAgg(figure)
        yield figure
        picture = io.BytesIO()
        canvas.print_png(picture, metadata={"Software": None})
    Path(path).write_bytes(picture.getvalue())


def _axis(figure: Figure, title: str, x: str, y: str) -> Axes:
    axis = figure.add_subplot()
    plain_axis(axis, title, x, y)
    return axis


def plain_axis(axis: Axes, title: str, x: str, y: str) -> None:
    """Gives an axis its title, the names of its sides, and pale lines to read values by."""
    axis.set_title(_literal(title), loc="left", fontsize=12, fontweight="bold")
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.set_axisbelow(True)
    axis.grid(color=RULE, linewidth=0.6)
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)


def _unit_square(axis: Axes) -> None:
    axis.set_xlim(-0.02, 1.02)
    axis.set_ylim(-0.02, 1.02)


def _literal(text: str) -> str:
    """A label of the user's so that matplotlib finds no formula in it, and the legend shows it."""
    safe = printable(text).replace("$", r"\$")
    return f"\N{ZERO WIDTH SPACE}{safe}" if safe.startswith("_") else safe
