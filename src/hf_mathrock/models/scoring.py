# SPDX-License-Identifier: Apache-2.0
"""From logits to scores, from the scores of windows to those of a recording, and from scores to active labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

AGGREGATIONS = ("mean", "max", "vote")


def task_scores(task: Mapping[str, Any], logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities of a task's labels.

    Args:
        task: An entry of `MathRockConfig.tasks`.
        logits: `(..., num_labels)`.
        temperature: Divides the logits; above 1 makes the scores less sure.

    Returns:
        float64 of the same shape: the sigmoid of a multi-label task, the softmax of the others.
    """
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    if task["type"] == "multi_label":
        return 0.5 * (1 + np.tanh(scaled / 2))  # the sigmoid, without overflow
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def aggregate_scores(scores: np.ndarray, aggregation: str, thresholds: np.ndarray | None = None) -> np.ndarray:
    """Scores of a recording, `(num_labels,)`, from those of its windows, `(num_windows, num_labels)`.

    Args:
        scores: Of its sounding windows.
        aggregation: "mean" or "max" of the scores, or "vote": the share of windows in which a label is active.
        thresholds: As for `active_labels`.
    """
    if aggregation == "mean":
        return scores.mean(axis=0)
    if aggregation == "max":
        return scores.max(axis=0)
    return active_labels(scores, thresholds).mean(axis=0)


def active_labels(scores: np.ndarray, thresholds: np.ndarray | None) -> np.ndarray:
    """Which labels hold: those that reach their threshold, or the best one where a task has no thresholds.

    Args:
        scores: `(..., num_labels)`.
        thresholds: `(num_labels,)` of a multi-label task, `None` of the others.
    """
    if thresholds is not None:
        return scores >= thresholds
    best = np.zeros_like(scores, dtype=bool)
    np.put_along_axis(best, scores.argmax(axis=-1, keepdims=True), True, axis=-1)
    return best
