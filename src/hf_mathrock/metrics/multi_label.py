# SPDX-License-Identifier: Apache-2.0
"""Metrics of a task with any number of labels a row; entries that are unknown (-100) do not count, one by one.

The figures of a label are scikit-learn's over the rows in which it is known. scikit-learn calls the average precision
of a label without positives 0; nothing can be said about such a label, so here it has no figure and no part in a mean.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from hf_mathrock.metrics.validation import (
    UNKNOWN,
    checked_multi_hot,
    checked_scores,
    checked_thresholds,
    names_of,
)


def validate(scores: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scores and multi-hot labels, both `(num_rows, num_labels)`, as float64.

    Raises:
        ValueError: A wrong shape, a score that is not finite, an entry outside [0, 1] that is not -100; the message
            names the row.
    """
    scores = checked_scores(scores)
    return scores, checked_multi_hot(labels, *scores.shape)


def average_precision(scores: Any, labels: Any) -> np.ndarray:
    """Average precision of each label, `(num_labels,)` in [0, 1]; NaN without a positive row."""
    from hf_mathrock.metrics.scikit_learn import sklearn_metrics

    scores, labels = validate(scores, labels)
    values = np.full(scores.shape[1], np.nan)
    for column in range(scores.shape[1]):
        known = labels[:, column] != UNKNOWN
        expected = labels[known, column] == 1
        if expected.any():
            values[column] = sklearn_metrics().average_precision_score(expected, scores[known, column])
    return values


def roc_auc(scores: Any, labels: Any) -> np.ndarray:
    """Area under each label's ROC curve, `(num_labels,)` in [0, 1]; NaN without a positive or a negative row."""
    from hf_mathrock.metrics.scikit_learn import sklearn_metrics

    scores, labels = validate(scores, labels)
    values = np.full(scores.shape[1], np.nan)
    for column in range(scores.shape[1]):
        known = labels[:, column] != UNKNOWN
        expected = labels[known, column] == 1
        if expected.any() and not expected.all():
            values[column] = sklearn_metrics().roc_auc_score(expected, scores[known, column])
    return values


def f1(scores: Any, labels: Any, thresholds: Any) -> np.ndarray:
    """F1 of each label, 2·hits / (claims + positives), `(num_labels,)` in [0, 1]; NaN without a positive row.

    Args:
        scores: `(num_rows, num_labels)`.
        labels: Multi-hot of the same shape, -100 where unknown.
        thresholds: Score from which a label is claimed, one or `(num_labels,)`.
    """
    hits, claims, positives = _counts(scores, labels, thresholds)
    return np.divide(2 * hits, claims + positives, out=np.full(len(hits), np.nan), where=positives > 0)


def micro_f1(scores: Any, labels: Any, thresholds: Any) -> float:
    """F1 of all known entries together, in [0, 1]; NaN without a positive one. Arguments as for `f1`."""
    hits, claims, positives = _counts(scores, labels, thresholds)
    return float(2 * hits.sum() / (claims.sum() + positives.sum())) if positives.any() else float("nan")


def _counts(scores: Any, labels: Any, thresholds: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores, labels = validate(scores, labels)
    positive = labels == 1
    claimed = (scores >= checked_thresholds(thresholds, scores.shape[1])) & (labels != UNKNOWN)
    return (claimed & positive).sum(axis=0), claimed.sum(axis=0), positive.sum(axis=0)


def evaluate(
    scores: Any, labels: Any, label_names: Sequence[str] | None = None, thresholds: Any = None
) -> dict[str, float]:
    """Means over the labels, and the prior that the mean average precision must beat.

    Args:
        scores: `(num_rows, num_labels)`, logits or probabilities.
        labels: Multi-hot of the same shape, -100 where unknown.
        label_names: For the warnings.
        thresholds: Score from which a label is claimed, one or `(num_labels,)`; `None`: no F1.

    Returns:
        `map` (mean over the labels with a positive), `prior` (mean share of positives of the same labels: what random
        scores reach), `roc_auc` (mean over the labels with a positive and a negative; absent if there is none) and
        with thresholds `macro_f1` (over the labels with a positive) and `micro_f1` (all known entries together).
        Empty where no label has a positive.

    Raises:
        ValueError: As `validate`, or thresholds or names for another number of labels.

    Warns:
        A label without positives, or without negatives, by name: it is left out of the means that need them.
    """
    scores, labels = validate(scores, labels)
    names = names_of(scores.shape[1], label_names)
    positives, known = (labels == 1).sum(axis=0), (labels != UNKNOWN).sum(axis=0)
    missing = [name for name, count in zip(names, positives, strict=True) if not count]
    full = [name for name, count, of in zip(names, positives, known, strict=True) if count and count == of]
    if missing:
        warnings.warn(f"no positive example of {', '.join(missing)}: left out of the mean", stacklevel=2)
    if full:
        warnings.warn(f"no negative example of {', '.join(full)}: left out of the mean ROC-AUC", stacklevel=2)
    if len(missing) == len(names):
        return {}
    some = positives > 0
    results = {
        "map": float(average_precision(scores, labels)[some].mean()),
        "prior": float((positives[some] / known[some]).mean()),
    }
    if len(missing) + len(full) < len(names):
        results["roc_auc"] = float(np.nanmean(roc_auc(scores, labels)))
    if thresholds is not None:
        results["macro_f1"] = float(np.nanmean(f1(scores, labels, thresholds)))
        results["micro_f1"] = micro_f1(scores, labels, thresholds)
    return results
