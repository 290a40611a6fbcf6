# SPDX-License-Identifier: Apache-2.0
"""The metrics of `evaluate_tasks` for rows that count several times or not at all, for many such weightings at once.

A bootstrap resample is a weighting: how often each row was drawn. Scores are sorted once for all resamples, which
makes a thousand of them cheaper than a thousand calls of scikit-learn by a factor of some hundred; that both give the
same numbers is a test. Everything here takes checked arrays, as the `validate` of each task gives them, and `weights`
of the shape `(num_resamples, num_rows)`, and returns `(num_resamples,)` with NaN where a metric is not defined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_mathrock.metrics import calibration, multi_label, single_label
from hf_mathrock.metrics.classification import task_thresholds
from hf_mathrock.metrics.validation import UNKNOWN, checked_thresholds


def evaluate_tasks(
    tasks: Sequence[Mapping[str, Any]],
    scores: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    weights: np.ndarray,
    thresholds: Mapping[str, Any] | None = None,
    probabilities: bool = False,
) -> dict[str, np.ndarray]:
    """What `classification.evaluate_tasks` gives for each resample; a metric that one lacks is NaN there."""
    results: dict[str, np.ndarray] = {}
    headline = []
    for task in tasks:
        name = task["name"]
        if task["type"] == "multi_label":
            limits = task_thresholds(task, thresholds, probabilities)
            metrics = multi_label_metrics(*multi_label.validate(scores[name], labels[name]), weights, limits)
            headline.append(metrics["map"])
        else:
            metrics = single_label_metrics(*single_label.validate(scores[name], labels[name]), weights)
            headline.append(metrics["macro_f1"])
        if probabilities:
            metrics |= calibration_metrics(*calibration.validate(scores[name], labels[name]), weights)
        results |= {f"{name}_{metric}": values for metric, values in metrics.items()}
    results["mean_score"] = _mean_of_defined(np.stack(headline, axis=1))
    return results


def single_label_metrics(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """`accuracy`, `macro_f1` over the classes that a resample has, and `micro_f1`."""
    known = (labels != UNKNOWN)[:, None]
    classes = np.arange(scores.shape[1])
    claimed = (scores.argmax(axis=1)[:, None] == classes) & known
    expected = labels[:, None] == classes
    hits, claims, occurrences = (weights @ part.astype(float) for part in (claimed & expected, claimed, expected))
    accuracy = _ratio(hits.sum(axis=1), occurrences.sum(axis=1))
    f1 = _ratio(2 * hits, np.where(occurrences > 0, claims + occurrences, 0))
    return {"accuracy": accuracy, "macro_f1": _mean_of_defined(f1), "micro_f1": accuracy}


def multi_label_metrics(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray, thresholds: Any = None
) -> dict[str, np.ndarray]:
    """`map`, `prior`, `roc_auc`, and with thresholds `macro_f1` and `micro_f1`, over the labels a resample has."""
    known, positive = labels != UNKNOWN, labels == 1
    precisions, areas = ranking_metrics_per_label(scores, labels, weights)
    positives = weights @ positive.astype(float)
    priors = _ratio(positives, np.where(positives > 0, weights @ known.astype(float), 0))
    results = {"map": _mean_of_defined(precisions), "prior": _mean_of_defined(priors)}
    results["roc_auc"] = _mean_of_defined(areas)
    if thresholds is not None:
        claimed = (scores >= checked_thresholds(thresholds, scores.shape[1])) & known
        hits, claims = weights @ (claimed & positive).astype(float), weights @ claimed.astype(float)
        results["macro_f1"] = _mean_of_defined(_ratio(2 * hits, np.where(positives > 0, claims + positives, 0)))
        of_all = positives.sum(axis=1)
        results["micro_f1"] = _ratio(2 * hits.sum(axis=1), np.where(of_all > 0, claims.sum(axis=1) + of_all, 0))
    return results


def calibration_metrics(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """`ece` and `brier`."""
    count, confidence, held = (weights @ sums for sums in calibration.bin_sums(probabilities, labels))
    error, claims = (weights @ part for part in calibration.squared_errors(probabilities, labels))
    return {"ece": _ratio(np.abs(held - confidence).sum(axis=1), count.sum(axis=1)), "brier": _ratio(error, claims)}


def ranking_metrics_per_label(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`ranking_metrics` of every label over the rows in which it is known: two arrays `(num_resamples, num_labels)`."""
    precisions, areas = np.empty((2, len(weights), scores.shape[1]))
    for column in range(scores.shape[1]):
        rows = labels[:, column] != UNKNOWN
        precisions[:, column], areas[:, column] = ranking_metrics(
            scores[rows, column], labels[rows, column] == 1, weights[:, rows]
        )
    return precisions, areas


def ranking_metrics(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and area under the ROC curve of one label.

    Args:
        scores: `(num_rows,)`.
        positive: `(num_rows,)` booleans.
        weights: `(num_resamples, num_rows)`.

    Returns:
        Two arrays `(num_resamples,)`: NaN without a positive; the area also without a negative.
    """
    if not positive.any():
        return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    order = np.argsort(-scores, kind="stable")
    # Rows of equal scores are passed together, so the curves have a point only after the last of them.
    stops = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    sorted_weights = weights[:, order]
    passed = sorted_weights.cumsum(axis=1)[:, stops]
    hits = (sorted_weights * positive[order]).cumsum(axis=1)[:, stops]
    positives, negatives = hits[:, -1], passed[:, -1] - hits[:, -1]
    steps = np.diff(hits, axis=1, prepend=0)
    precision = np.divide(hits, passed, out=np.zeros_like(hits), where=passed > 0)
    average_precision = _ratio((steps * precision).sum(axis=1), positives)
    # A trapezium for each step: its width in false alarms times the mean of the hits before and after it.
    false_alarms = np.diff(passed - hits, axis=1, prepend=0)
    area = _ratio((false_alarms * (hits - steps / 2)).sum(axis=1), positives * negatives)
    return average_precision, area


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """NaN, without a warning, where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where nothing is left."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1))
