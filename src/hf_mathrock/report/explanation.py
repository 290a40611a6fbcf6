# SPDX-License-Identifier: Apache-2.0
"""An explanation as a picture: the waveform, and under it what each moment says for and against each tag."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FixedFormatter, FixedLocator
from numpy.typing import ArrayLike

from .grid import Grid, lay_on_grid
from .results import format_duration, format_time
from .sheet import (
    GAP,
    MUTED,
    ROW,
    RULE,
    WAVE,
    draw_rows,
    draw_scale,
    draw_waveform,
    hatch_silence,
    mark_seconds,
    name_row,
    open_sheet,
    write_title,
)
from .timeline import HEAT

# Blue against, red for; pale where nothing depends on it. Told apart by colour-blind eyes, and by their darkness at the
# two ends.
EVIDENCE = LinearSegmentedColormap.from_list(
    "evidence", ["#1f3f77", "#4f7fb8", "#a9c5df", "#f7f6f3", "#f0b39a", "#d0614f", "#8c1d2f"]
)
_STAND_INS = {"surroundings": "its surroundings", "noise": "steady noise"}
_ROUND_LIMITS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
_TICK_ROOM = 0.42  # inches between two panels, for the seconds of the upper one
_MAX_CELLS = 900


def draw_explanation(
    explanation: Mapping[str, Any], envelope: tuple[ArrayLike, ArrayLike] | None, path: str | os.PathLike[str]
) -> None:
    """Draws an explanation as a PNG.

    Top to bottom: name and method; the waveform of the explained part; a row per tag over the same seconds, named with
    the tag's probability; and, if there are any, the bands of frequencies, each as wide as the others.

    An occlusion is red where the music speaks for a tag and blue where it speaks against it; all rows share one scale.
    Of a contribution each row goes from its own lowest value to its highest, since its tags differ by orders of
    magnitude. Overlapping stretches are averaged; what was not heard, as silence, is hatched.

    Args:
        explanation: What `Explanation.to_dict` gives, or the same read from its file.
        envelope: Lowest and highest sample per bin, equally spaced over the explained part, in [-1, 1]; `None` leaves
            the waveform out.
        path: Where the PNG goes. It is written whole or not at all.

    Raises:
        ValueError: The explanation has no tags.
    """
    labels, start, end = explanation["labels"], explanation["start"], explanation["end"]
    if not labels:
        raise ValueError("there is no tag in this explanation, so there is nothing to draw")
    grid, values = _over_time(explanation)
    bands = explanation.get("bands")
    rows = ROW * max(len(labels), 3)
    heights = ([] if envelope is None else [WAVE]) + [rows] + ([] if bands is None else [_TICK_ROOM - GAP, rows])
    with open_sheet(heights, start, end, path) as (figure, stack):
        facts = [format_duration(explanation["duration"])]
        write_title(figure, explanation["file"], facts, _subtitle(explanation))
        axes = iter(stack)
        if envelope is not None:
            draw_waveform(next(axes), envelope, start, end, grid)
        axis = next(axes)
        hatch_silence(axis, grid)
        _draw_evidence(axis, grid.edges, values, explanation)
        mark_seconds(axis)
        if bands is not None:
            next(axes).set_visible(False)
            axis = next(axes)
            edges = np.array([low for low, _ in bands["edges_hz"]] + [bands["edges_hz"][-1][1]])
            # Equally wide on the mel scale, and so in the picture.
            axis.set_xlim(0, len(edges) - 1)
            by_band = {**explanation, "method": "occlusion"}  # whatever the method over time
            _draw_evidence(axis, np.arange(len(edges)), np.array(bands["values"]), by_band)
            _mark_frequencies(axis, edges)


def _over_time(explanation: Mapping[str, Any]) -> tuple[Grid, np.ndarray]:
    """Cells without overlap, and the values in them, `(num_labels, num_cells)`; NaN where nothing was heard."""
    columns = np.array(explanation["values"], dtype=float).T
    # A stretch without a word on anything covers the whole part, so that gaps count as silent.
    segments: list[dict[str, Any]] = [{"start": explanation["start"], "end": explanation["end"]}]
    for time, column in zip(explanation["times"], columns, strict=True):
        entries = [{"label": row, "score": value} for row, value in enumerate(column.tolist())]
        segments.append({"start": time["start"], "end": time["end"], "evidence": entries})
    grid = lay_on_grid(segments, ["evidence"], max_cells=_MAX_CELLS)
    values = np.full((len(explanation["labels"]), len(grid.edges) - 1), np.nan)
    for row, scores in zip(grid.labels["evidence"], grid.scores["evidence"], strict=True):
        values[int(row)] = scores
    return grid, values


def _subtitle(explanation: Mapping[str, Any]) -> str:
    settings = explanation["settings"]
    start, end, duration = explanation["start"], explanation["end"], explanation["duration"]
    parts = []
    if end - start < duration - 0.05:
        parts.append(f"{_precise(start)} to {_precise(end)}")
    if explanation["method"] == "occlusion":
        stand_in = _STAND_INS.get(settings["baseline"], settings["baseline"])
        parts.append(f"{settings['width']:.3g} s at a time replaced by {stand_in}")
    else:
        parts.append("what each moment alone would say")
    if name := explanation.get("model", {}).get("name"):
        parts.append(str(name))
    return "   ·   ".join(parts)


def _precise(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 90 else format_time(seconds)


def _draw_evidence(axis: Axes, edges: ArrayLike, values: np.ndarray, explanation: Mapping[str, Any]) -> None:
    """Draws the rows of the tags, their names and the scale."""
    if explanation["method"] == "occlusion":
        highest = float(np.nanmax(np.abs(values), initial=0.0))
        # A round end of the scale, so that pictures of similar clips share it.
        limit = next((limit for limit in _ROUND_LIMITS if highest <= limit), 1.0)
        mesh = draw_rows(axis, edges, values, EVIDENCE, -limit, limit)
        draw_scale(axis, mesh, (-limit, 0, limit), "for / against")
    else:
        mesh = draw_rows(axis, edges, _scaled(values), HEAT, 0, 1)
        draw_scale(axis, mesh, (0, 1), "of its row")
    names = _names(explanation["labels"], explanation["tasks"])
    for row, (name, probability) in enumerate(zip(names, explanation["probabilities"], strict=True)):
        name_row(axis, 1 - (row + 0.5) / len(names), name, score=probability)


def _names(labels: Sequence[str], tasks: Sequence[str]) -> list[str]:
    """The labels, with their tasks where two tasks share one."""
    return [
        f"{label} ({task})" if labels.count(label) > 1 else label for label, task in zip(labels, tasks, strict=True)
    ]


def _scaled(values: np.ndarray) -> np.ndarray:
    """Each row from 0 to 1; a row without any difference is 0."""
    lowest = np.nanmin(values, axis=1, keepdims=True)
    span = np.nanmax(values, axis=1, keepdims=True) - lowest
    return (values - lowest) / np.where(span > 0, span, 1)


def _mark_frequencies(axis: Axes, edges: np.ndarray) -> None:
    every = max(1, len(edges) // 12)
    places = list(range(0, len(edges), every))
    axis.xaxis.set_major_locator(FixedLocator(places))
    axis.xaxis.set_major_formatter(FixedFormatter([_frequency(edges[place]) for place in places]))
    axis.tick_params(axis="x", length=3, color=RULE, labelsize=9.5, labelcolor=MUTED, pad=4)


def _frequency(hertz: float) -> str:
    return f"{hertz:.0f} Hz" if hertz < 995 else f"{hertz / 1000:.1f} kHz"
