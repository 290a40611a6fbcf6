# SPDX-License-Identifier: Apache-2.0
"""The metrics of all tasks of a model: arrays in, floats out; what is unknown (-100) does not count.

Rows are songs or windows: the figures are of whatever the rows are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_mathrock.metrics import calibration, multi_label, single_label
from hf_mathrock.metrics.multi_label import evaluate as multi_label_metrics
from hf_mathrock.metrics.single_label import evaluate as single_label_metrics
from hf_mathrock.metrics.thresholds import best_threshold, best_thresholds
from hf_mathrock.metrics.validation import UNKNOWN, checked_scores, names_of

__all__ = [
    "UNKNOWN",
    "best_threshold",
    "best_thresholds",
    "confusion",
    "evaluate_tasks",
    "multi_label_metrics",
    "per_label_metrics",
    "single_label_metrics",
]


def evaluate_tasks(
    tasks: Sequence[Mapping[str, Any]],
    scores: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    thresholds: Mapping[str, Any] | None = None,
    probabilities: bool = False,
) -> dict[str, float]:
    """Metrics of every task under `<task>_<metric>`, and `mean_score`: the mean of macro-F1s and mAPs.

    Args:
        tasks: `MathRockConfig.tasks`.
        scores: Per task `(num_rows, num_labels)`.
        labels: Per task, as `encode_label` makes them, stacked.
        thresholds: Per multi-label task, the score from which a label is claimed, one or `(num_labels,)`, on the scale
            of the scores. A task without has no F1, unless its scores are probabilities: then it is 0.5.
        probabilities: Whether the scores are probabilities; calibration is measured if they are.

    Returns:
        Single label: `accuracy`, `macro_f1`, `micro_f1`. Multi-label: `map`, `prior`, `roc_auc`, and with thresholds
        `macro_f1`, `micro_f1`. Of both, with probabilities: `ece`, `brier`. What nothing is known of is absent.
        `mean_score` takes the macro-F1 of single-label tasks and the mAP of the others.

    Raises:
        ValueError: Arrays that do not fit; the message gives the task and the row.

    Warns:
        A label without positives or without negatives, by name.
    """
    results: dict[str, float] = {}
    headline = []
    for task in tasks:
        name = task["name"]
        try:
            if task["type"] == "multi_label":
                limits = task_thresholds(task, thresholds, probabilities)
                metrics = multi_label_metrics(scores[name], labels[name], task["labels"], limits)
                headline += [metrics["map"]] if metrics else []
            else:
                names_of(checked_scores(scores[name]).shape[1], task["labels"])
                metrics = single_label_metrics(scores[name], labels[name])
                headline += [metrics["macro_f1"]] if metrics else []
            if probabilities:
                metrics = metrics | calibration.evaluate(scores[name], labels[name])
        except ValueError as error:
            raise ValueError(f"task {name!r}: {error}") from error
        results |= {f"{name}_{metric}": value for metric, value in metrics.items()}
    if headline:
        results["mean_score"] = float(np.mean(headline))
    return results


def task_thresholds(task: Mapping[str, Any], thresholds: Mapping[str, Any] | None, probabilities: bool) -> Any:
    """What `evaluate_tasks` takes as the thresholds of one task; `None`: it has none."""
    given = (thresholds or {}).get(task["name"])
    return 0.5 if given is None and probabilities else given


def per_label_metrics(
    task: Mapping[str, Any], scores: np.ndarray, labels: np.ndarray, thresholds: Any = None
) -> dict[str, Any]:
    """Figures of each label of a task; of a single-label task, of each class against the rest.

    Args:
        task: An entry of `MathRockConfig.tasks`.
        scores: `(num_rows, num_labels)`.
        labels: As `encode_label` makes them, stacked.
        thresholds: Of a multi-label task, the score from which a label is claimed, one or `(num_labels,)`; `None`: no
            F1. Of a single-label task the best score claims.

    Returns:
        `average_precision`, `roc_auc` and `f1`, each a dict from label to a number in [0, 1]; `support`, how many
        rows have the label; `left_out`, the labels that none has. A label that a figure is not defined for (no
        positive; for the ROC-AUC also no negative) is not in its dict.
    """
    names = task["labels"]
    scores, hot = each_label(task, scores, labels)
    if task["type"] == "multi_label":
        f1 = multi_label.f1(scores, hot, thresholds) if thresholds is not None else np.full(len(names), np.nan)
    else:
        best = scores.argmax(axis=1)[:, None] == np.arange(len(names))
        f1 = multi_label.f1(best, hot, 0.5)
    support = (hot == 1).sum(axis=0)

    def by_name(values: np.ndarray) -> dict[str, float]:
        return {name: float(value) for name, value in zip(names, values, strict=True) if not np.isnan(value)}

    return {
        "average_precision": by_name(multi_label.average_precision(scores, hot)),
        "roc_auc": by_name(multi_label.roc_auc(scores, hot)),
        "f1": by_name(f1),
        "support": {name: int(count) for name, count in zip(names, support, strict=True)},
        "left_out": [name for name, count in zip(names, support, strict=True) if not count],
    }


def each_label(task: Mapping[str, Any], scores: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scores and multi-hot labels of any task, checked; of a single-label task, of each class against the rest.

    Returns:
        Both `(num_rows, num_labels)` float64, labels -100 where unknown.
    """
    names_of(checked_scores(scores).shape[1], task["labels"])
    if task["type"] == "multi_label":
        return multi_label.validate(scores, labels)
    scores, classes = single_label.validate(scores, labels)
    hot = np.where((classes == UNKNOWN)[:, None], UNKNOWN, classes[:, None] == np.arange(scores.shape[1]))
    return scores, hot.astype(np.float64)


def confusion(task: Mapping[str, Any], scores: np.ndarray, labels: np.ndarray) -> list[list[int]]:
    """How often rows of each class of a single-label task (rows) were heard as each class (columns).

    Args:
        task: An entry of `MathRockConfig.tasks`.
        scores: `(num_rows, num_labels)`.
        labels: `(num_rows,)` class indices, -100 where unknown.

    Raises:
        ValueError: The task is multi-label, or the arrays do not fit.
    """
    if task["type"] != "single_label":
        raise ValueError(
            f"the task {task['name']!r} is {task['type']}: only one label a row can be confused with another. "
            "Take `per_label_metrics`."
        )
    names_of(checked_scores(scores).shape[1], task["labels"])
    return single_label.confusion(scores, labels).tolist()
