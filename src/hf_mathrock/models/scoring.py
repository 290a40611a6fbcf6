# SPDX-License-Identifier: Apache-2.0
"""From logits to scores, from the windows of a recording to its own scores, and from scores to active labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

AGGREGATIONS = ("mean", "max", "vote", "mean_logit")


def task_scores(task: Mapping[str, Any], logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities of a task's labels.

    Args:
        task: An entry of a config's `tasks`.
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


def aggregate_scores(
    task: Mapping[str, Any],
    logits: np.ndarray,
    aggregation: str,
    *,
    temperature: float = 1.0,
    thresholds: np.ndarray | None = None,
) -> np.ndarray:
    """Scores of a recording, `(num_labels,)`, from the logits of its windows, `(num_windows, num_labels)`.

    Args:
        task: An entry of a config's `tasks`.
        logits: Of its sounding windows, at least one.
        aggregation: "mean" or "max" of the windows' scores; "vote": the share of windows in which a label is active;
            "mean_logit": the score of the mean logit (for a single-label task the softmax of the mean logits, which is
            the normalised geometric mean of the scores).
        temperature: As for `task_scores`.
        thresholds: As for `active_labels`; only a vote asks for them.

    Raises:
        ValueError: There is no such aggregation.
    """
    if aggregation == "mean_logit":
        return task_scores(task, np.asarray(logits, dtype=np.float64).mean(axis=0), temperature)
    scores = task_scores(task, logits, temperature)
    if aggregation == "mean":
        return scores.mean(axis=0)
    if aggregation == "max":
        return scores.max(axis=0)
    if aggregation == "vote":
        return active_labels(scores, thresholds).mean(axis=0)
    raise ValueError(f"`aggregation` is {aggregation!r}; allowed: {', '.join(AGGREGATIONS)}.")


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


def plain_thresholds(thresholds: np.ndarray) -> float | list[float]:
    """Thresholds as plain JSON: one number where all labels share it."""
    return float(thresholds[0]) if (thresholds == thresholds[0]).all() else [float(value) for value in thresholds]
