# SPDX-License-Identifier: Apache-2.0
"""Metrics of tagging and classification: arrays in, floats out; rows with unknown labels (-100) do not count."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

UNKNOWN = -100


def single_label_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy and macro-F1 of a task with one label a row.

    Args:
        scores: `(num_rows, num_labels)`, logits or probabilities.
        labels: `(num_rows,)` class indices, -100 where unknown.

    Returns:
        `accuracy` and `macro_f1` in [0, 1], the latter over the classes that occur; empty without a known label.
    """
    from sklearn.metrics import f1_score

    known = labels != UNKNOWN
    if not known.any():
        return {}
    predicted, expected = scores[known].argmax(axis=1), labels[known]
    macro_f1 = f1_score(expected, predicted, labels=np.unique(expected), average="macro", zero_division=0)
    return {"accuracy": float((predicted == expected).mean()), "macro_f1": float(macro_f1)}


def multi_label_metrics(
    scores: np.ndarray, labels: np.ndarray, label_names: Sequence[str] | None = None
) -> dict[str, float]:
    """Mean average precision of a multi-label task, and the prior it must beat.

    Args:
        scores: `(num_rows, num_labels)`, logits or probabilities.
        labels: Multi-hot of the same shape, -100 where unknown.
        label_names: For the warning.

    Returns:
        `map` (mean over the labels with a positive) and `prior` (mean share of positives of the same labels: what
        random scores reach); empty where no label has a positive.

    Warns:
        A label without positives, by name: it is left out of both means.
    """
    from sklearn.metrics import average_precision_score

    precisions, priors, left_out = [], [], []
    for column in range(scores.shape[1]):
        known = labels[:, column] != UNKNOWN
        expected = labels[known, column] > 0.5
        if not expected.any():
            left_out.append(label_names[column] if label_names is not None else str(column))
            continue
        precisions.append(average_precision_score(expected, scores[known, column]))
        priors.append(expected.mean())
    if left_out:
        warnings.warn(f"no positive example of {', '.join(left_out)}: left out of the mean", stacklevel=2)
    if not precisions:
        return {}
    return {"map": float(np.mean(precisions)), "prior": float(np.mean(priors))}


def best_threshold(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The one threshold for all labels of a task that gives the best micro-F1.

    Args:
        probabilities: `(num_rows, num_labels)` in [0, 1].
        labels: Multi-hot of the same shape, -100 where unknown; none of the rows a figure is reported on.

    Returns:
        A multiple of 0.01 in [0.05, 0.95]; 0.5 where no label has a positive.
    """
    known = labels != UNKNOWN
    expected, heard = labels[known] > 0.5, probabilities[known]
    if not expected.any():
        return 0.5
    thresholds = np.arange(5, 96) / 100
    hits = [(expected & (heard >= threshold)).sum() for threshold in thresholds]
    claims = [(heard >= threshold).sum() for threshold in thresholds]
    f1 = 2 * np.array(hits) / (np.array(claims) + expected.sum())
    return float(thresholds[f1.argmax()])


def evaluate_tasks(
    tasks: Sequence[Mapping[str, Any]], scores: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Metrics of every task under `<task>_<metric>`, and `mean_score`: the mean of macro-F1s and mAPs.

    Args:
        tasks: `MathRockConfig.tasks`.
        scores: Per task `(num_rows, num_labels)`.
        labels: Per task, as `encode_label` makes them, stacked.
    """
    results: dict[str, float] = {}
    headline = []
    for task in tasks:
        name = task["name"]
        if task["type"] == "multi_label":
            metrics = multi_label_metrics(scores[name], labels[name], task["labels"])
            headline += [metrics["map"]] if metrics else []
        else:
            metrics = single_label_metrics(scores[name], labels[name])
            headline += [metrics["macro_f1"]] if metrics else []
        results |= {f"{name}_{metric}": value for metric, value in metrics.items()}
    if headline:
        results["mean_score"] = float(np.mean(headline))
    return results
