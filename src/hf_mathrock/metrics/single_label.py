# SPDX-License-Identifier: Apache-2.0
"""Metrics of a task with one label a row; rows whose label is unknown (-100) do not count.

The figures are scikit-learn's; a class that no row has is left out of the macro-F1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hf_mathrock.metrics.validation import UNKNOWN, checked_classes, checked_scores


def validate(scores: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scores `(num_rows, num_labels)` as float64 and labels `(num_rows,)` as int64.

    Raises:
        ValueError: A wrong shape, a score that is not finite, a label that is no class; the message names the row.
    """
    scores = checked_scores(scores)
    return scores, checked_classes(labels, *scores.shape)


def accuracy(scores: Any, labels: Any) -> float:
    """Share of the known rows whose best score is their label's, in [0, 1]; NaN where none is known."""
    scores, labels = validate(scores, labels)
    known = labels != UNKNOWN
    return float((scores[known].argmax(axis=1) == labels[known]).mean()) if known.any() else float("nan")


def macro_f1(scores: Any, labels: Any) -> float:
    """Mean over the classes that occur of 2·hits / (claims + occurrences), in [0, 1]; NaN where no row is known."""
    from hf_mathrock.metrics.scikit_learn import sklearn_metrics

    scores, labels = validate(scores, labels)
    known = labels != UNKNOWN
    if not known.any():
        return float("nan")
    predicted, expected = scores[known].argmax(axis=1), labels[known]
    return float(
        sklearn_metrics().f1_score(expected, predicted, labels=np.unique(expected), average="macro", zero_division=0)
    )


def confusion(scores: Any, labels: Any) -> np.ndarray:
    """How often rows of each class (rows) were heard as each class (columns): `(num_labels, num_labels)` int64."""
    scores, labels = validate(scores, labels)
    known = labels != UNKNOWN
    matrix = np.zeros((scores.shape[1], scores.shape[1]), dtype=np.int64)
    np.add.at(matrix, (labels[known], scores[known].argmax(axis=1)), 1)
    return matrix


def evaluate(scores: Any, labels: Any) -> dict[str, float]:
    """Accuracy and F1.

    Args:
        scores: `(num_rows, num_labels)`, logits or probabilities; the first of equal scores wins.
        labels: `(num_rows,)` class indices, -100 where unknown.

    Returns:
        `accuracy`, `macro_f1` over the classes that occur, and `micro_f1`, which over all classes is the accuracy;
        each in [0, 1]. Empty without a known label.

    Raises:
        ValueError: As `validate`.
    """
    scores, labels = validate(scores, labels)
    if not (labels != UNKNOWN).any():
        return {}
    share = accuracy(scores, labels)
    return {"accuracy": share, "macro_f1": macro_f1(scores, labels), "micro_f1": share}
