# SPDX-License-Identifier: Apache-2.0
"""A taggram as a picture: tags over time, the strongest on top, under the waveform."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .results import Result, task_names, task_types
from .timeline import draw_timeline

MAX_ROWS = 20


def draw_taggram(
    result: Result,
    envelope: tuple[ArrayLike, ArrayLike] | None,
    path: str | os.PathLike[str],
    *,
    task: str | None = None,
    max_rows: int = MAX_ROWS,
) -> None:
    """Draws the scores of one task's tags over time as a PNG, in the look of a timeline.

    Each row is a tag, named with its score over the whole song; they stand in the order of these scores, and names in
    bold are active. The scale beside them ends at the next fifth above the highest score. Overlapping windows are
    averaged, silent stretches are grey and hatched, and what no window reaches stays white.

    Args:
        result: What `music-tagging` returns with `return_taggram=True`, or `mathrock-affect` with
            `return_segments=True`.
        envelope: Lowest and highest sample per bin, equally spaced over the clip, in [-1, 1]; `None` leaves the
            waveform out.
        path: Where the PNG goes. It is written whole or not at all.
        task: Which task of a result with segments; default its first multi-label one, else its first.
        max_rows: How many tags are shown. A row is 0.245 inches high, so that all fifty of the usual tag sets make a
            page.

    Raises:
        ValueError: The result has neither taggram nor segments, or not this task.
    """
    if isinstance(result.get("taggram"), Mapping):
        drawn = _from_taggram(result, task)
    elif result.get("segments"):
        drawn = _from_segments(result, task)
    else:
        raise ValueError(
            "a taggram needs the scores of every window, and this result has none: call music-tagging with "
            "return_taggram=True, or mathrock-affect with return_segments=True"
        )
    draw_timeline(drawn, envelope, path, max_rows=max_rows)


def _from_taggram(result: Result, wanted: str | None) -> dict[str, Any]:
    """A result of one task, as `draw_timeline` takes it, from a result of `music-tagging`."""
    taggram, settings = result["taggram"], result.get("settings", {})
    task = settings.get("task", "tag")
    if wanted not in (None, task):
        raise ValueError(f"this result has no task {wanted!r}: its taggram is of {task!r}")
    labels = taggram["labels"]
    # A silent window is a column of `None`.
    columns = np.array(taggram["scores"], dtype=float).reshape(len(labels), len(taggram["start"]))
    thresholds = settings.get("threshold")
    segments = [
        {"start": start, "end": end, task: _ranked(labels, column, thresholds) if np.isfinite(column).all() else []}
        for start, end, column in zip(taggram["start"], taggram["end"], columns.T, strict=True)
    ]
    heard = columns[:, np.isfinite(columns).all(axis=0)]
    overall: list[dict[str, Any]] = []
    if heard.size:
        # `tags` may be cut short; the mean stands in for what it leaves out.
        scores = dict(zip(labels, heard.mean(axis=1).tolist(), strict=True))
        scores |= {entry["label"]: entry["score"] for entry in result.get("tags", ())}
        overall = _ranked(labels, np.array([scores[label] for label in labels]), thresholds)
    return _facts(result) | {task: overall, "segments": segments, "settings": {"thresholds": {task: thresholds}}}


def _from_segments(result: Result, wanted: str | None) -> dict[str, Any]:
    """A result of one task from a result of several."""
    tasks, types = task_names(result), task_types(result)
    if not tasks or wanted not in (None, *tasks):
        raise ValueError(f"this result has no task {wanted!r}; its tasks are {tasks}")
    task = wanted or next((name for name in tasks if types[name] == "multi_label"), tasks[0])
    segments = [
        {key: segment[key] for key in ("start", "end", task) if key in segment} for segment in result["segments"]
    ]
    # Named among the thresholds it is drawn as a map, whatever its type.
    return _facts(result) | {task: result[task], "segments": segments, "settings": {"thresholds": {task: None}}}


def _facts(result: Result) -> dict[str, Any]:
    return {key: result[key] for key in ("file", "duration", "sampling_rate", "quality") if key in result}


def _ranked(labels: Sequence[str], scores: np.ndarray, thresholds: Any) -> list[dict[str, Any]]:
    limits = np.broadcast_to(np.inf if thresholds is None else np.asarray(thresholds, dtype=float), scores.shape)
    return [
        {"label": labels[index], "score": float(scores[index]), "active": bool(scores[index] >= limits[index])}
        for index in np.argsort(-scores, kind="stable")
    ]
