# SPDX-License-Identifier: Apache-2.0
"""Scores of overlapping windows laid on a grid of cells that do not overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Grid:
    """Cells in time order and the tasks' scores in them.

    Attributes:
        edges: Cell boundaries in seconds, `(num_cells + 1,)`.
        silent: Whether every window over a cell is silent, `(num_cells,)`.
        labels: Task → labels, in order of their mean score.
        scores: Task → `(num_labels, num_cells)`; NaN where no window says anything about a label.
    """

    edges: np.ndarray
    silent: np.ndarray
    labels: dict[str, list[str]]
    scores: dict[str, np.ndarray]


def lay_on_grid(segments: Sequence[Mapping[str, Any]], tasks: Sequence[str], max_cells: int = 600) -> Grid:
    """Averages windows onto cells.

    Between two neighbouring window boundaries the set of windows is constant, so cells cut at all boundaries carry the
    average exactly: windows of 10 s with a hop of 5 s give cells of 5 s, each the mean of the two windows over it.
    Where that gives more cells than a picture has room for, `max_cells` equal ones are used and a window counts in
    each by the seconds it shares with it. Silent windows have no scores and do not pull the average down.

    Args:
        segments: The `segments` of a result, at least one.
        tasks: Names of the tasks to lay out.
        max_cells: Largest number of cells.

    Raises:
        ValueError: There is no segment.
    """
    if not segments:
        raise ValueError("a timeline needs at least one segment: tag the file with return_segments=True")
    starts = np.array([segment["start"] for segment in segments], dtype=float)
    ends = np.array([segment["end"] for segment in segments], dtype=float)
    edges = np.unique(np.concatenate([starts, ends]).round(6))
    if len(edges) > max_cells + 1:
        edges = np.linspace(edges[0], edges[-1], max_cells + 1)
    # Seconds shared by cell and window, (num_cells, num_segments).
    shared = np.minimum(edges[1:, None], ends) - np.maximum(edges[:-1, None], starts)
    shared = np.where(shared > 1e-6, shared, 0.0)

    heard = np.zeros(len(segments), dtype=bool)
    labels: dict[str, list[str]] = {}
    scores: dict[str, np.ndarray] = {}
    for task in tasks:
        names = list(dict.fromkeys(entry["label"] for segment in segments for entry in segment.get(task, ())))
        values = np.full((len(names), len(segments)), np.nan)
        row_of = {name: row for row, name in enumerate(names)}
        for column, segment in enumerate(segments):
            for entry in segment.get(task, ()):
                values[row_of[entry["label"]], column] = entry["score"]
                heard[column] = True
        known = np.isfinite(values)
        weight = known @ shared.T
        total = np.where(known, values, 0.0) @ shared.T
        mean = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
        order = np.argsort(-total.sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-9), kind="stable")
        labels[task] = [names[row] for row in order]
        scores[task] = mean[order]
    covered = shared.sum(axis=1) > 0
    silent = covered & (shared[:, heard].sum(axis=1) == 0)
    return Grid(edges, silent, labels, scores)
