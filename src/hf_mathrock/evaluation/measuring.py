# SPDX-License-Identifier: Apache-2.0
"""From predictions to figures: of whole songs with intervals, of windows beside them, and the curves behind them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from hf_mathrock.evaluation.predictions import Predictions, Task, all_thresholds
from hf_mathrock.metrics import tempo
from hf_mathrock.metrics.bootstrap import (
    average_precision_intervals,
    bootstrap_intervals,
    evaluate_tasks_with_intervals,
)
from hf_mathrock.metrics.calibration import expected_calibration_error, reliability_curve
from hf_mathrock.metrics.classification import confusion, each_label, evaluate_tasks, per_label_metrics
from hf_mathrock.metrics.scikit_learn import sklearn_metrics
from hf_mathrock.metrics.validation import UNKNOWN

CURVE_POINTS = 200
# Aggregations whose scores of songs are probabilities; a vote is a share of windows, which claims none.
PROBABILITIES = ("mean", "mean_logit")


def measure(
    predictions: Predictions,
    *,
    temperatures: Mapping[str, float] | None = None,
    thresholds: Mapping[str, Any] | None = None,
    aggregation: str = "mean",
    num_resamples: int = 1000,
    seed: int = 0,
    window_intervals: bool = False,
) -> dict[str, Any]:
    """Every figure of a set of songs.

    Args:
        predictions: At least one song.
        temperatures: The model's.
        thresholds: The model's.
        aggregation: From windows to songs: "mean", "max", "vote" or "mean_logit".
        num_resamples: Of the bootstrap over songs, or over groups where some hold several songs; 0: no intervals.
        seed: Of the bootstrap.
        window_intervals: Also those of the figures of windows; a song comes and goes with all its windows.

    Returns:
        `metrics`, as `evaluate_tasks` names them; `intervals`, metric to the ends of its 95 % interval;
        `window_metrics`, and `window_intervals` if asked for; `confusion` by single-label task, rows true;
        `average_precision`, `roc_auc`, `f1` and `support`, each by task and label; `label_intervals`, those of the
        average precisions; `chance`, the share of positive songs of every label that has one: what random scores reach;
        `left_out`, by task the labels without a positive song.

    Raises:
        ValueError: There is no song.
    """
    if not len(predictions):
        raise ValueError("There is no song to measure on: none was given, or none could be read.")
    tasks, labels = predictions.tasks, predictions.labels
    limits = all_thresholds(tasks, thresholds)
    songs = predictions.song_scores(temperatures, aggregation, thresholds)
    windows = predictions.window_scores(temperatures)
    rows = predictions.window_songs
    probabilities = aggregation in PROBABILITIES
    song_level = partial(_figures, tasks, songs, labels, predictions.bpm, limits, probabilities)
    window_level = partial(
        _figures, tasks, windows, _taken(labels, rows), predictions.bpm[rows], limits, probabilities=True
    )
    with warnings.catch_warnings():
        # Labels that no song has are in `left_out`, and a resample lacks more of them.
        warnings.simplefilter("ignore")
        metrics, intervals = song_level(groups=predictions.groups, num_resamples=num_resamples, seed=seed)
        window_metrics, of_windows = window_level(
            groups=[predictions.groups[song] for song in rows],
            num_resamples=num_resamples if window_intervals else 0,
            seed=seed,
        )
        label_intervals = (
            average_precision_intervals(
                tasks, songs, labels, groups=predictions.groups, num_resamples=num_resamples, seed=seed
            )
            if num_resamples
            else {task["name"]: {} for task in tasks}
        )
    # The prior is a fact of the songs; drawn anew it leaves out other labels each time, and is another mean.
    intervals = {name: interval for name, interval in intervals.items() if not name.endswith("_prior")}
    result: dict[str, Any] = {"metrics": metrics, "intervals": intervals, "window_metrics": window_metrics}
    if window_intervals:
        result["window_intervals"] = of_windows
    result["confusion"] = {
        task["name"]: confusion(task, songs[task["name"]], labels[task["name"]])
        for task in tasks
        if task["type"] == "single_label"
    }
    by_label = {
        task["name"]: per_label_metrics(task, songs[task["name"]], labels[task["name"]], limits.get(task["name"]))
        for task in tasks
    }
    for key in ("average_precision", "roc_auc", "f1", "support", "left_out"):
        result[key] = {name: figures[key] for name, figures in by_label.items()}
    chance = {task["name"]: _shares(task, songs[task["name"]], labels[task["name"]]) for task in tasks}
    return result | {"label_intervals": label_intervals, "chance": chance}


def curves(
    predictions: Predictions, *, temperatures: Mapping[str, float] | None = None, aggregation: str = "mean"
) -> dict[str, dict[str, Any]]:
    """What the figures of a report are drawn from, by task.

    Args:
        predictions: At least one song.
        temperatures: The model's.
        aggregation: From windows to songs.

    Returns:
        Per task with a known label `precision_recall`, by label with a positive song `{"precision", "recall"}` in
        falling order of the threshold; and `reliability`, as `reliability_curve` gives it with its `ece`, by "scores",
        or where the model has a temperature by "uncalibrated" and "calibrated". A vote is no probability and has none.
    """
    songs = predictions.song_scores(temperatures, aggregation)
    raw = predictions.song_scores(aggregation=aggregation)
    found: dict[str, dict[str, Any]] = {}
    for task in predictions.tasks:
        name = task["name"]
        if not predictions.known(name).any():
            continue
        scores, expected = each_label(task, songs[name], predictions.labels[name])
        found[name] = {
            "precision_recall": {
                label: _precision_recall(scores[:, column], expected[:, column])
                for column, label in enumerate(task["labels"])
                if (expected[:, column] == 1).any()
            }
        }
        if aggregation in PROBABILITIES:
            pair = {"uncalibrated": raw[name], "calibrated": songs[name]}
            if (temperatures or {}).get(name, 1.0) == 1:
                pair = {"scores": songs[name]}
            found[name]["reliability"] = {
                key: reliability_curve(values, predictions.labels[name])
                | {"ece": expected_calibration_error(values, predictions.labels[name])}
                for key, values in pair.items()
            }
    return found


def _shares(task: Task, scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    _, expected = each_label(task, scores, labels)
    known, positives = (expected != UNKNOWN).sum(axis=0), (expected == 1).sum(axis=0)
    return {
        label: float(positives[column] / known[column])
        for column, label in enumerate(task["labels"])
        if positives[column]
    }


def _figures(
    tasks: Sequence[Task],
    scores: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    bpm: np.ndarray,
    limits: Mapping[str, np.ndarray],
    probabilities: bool,
    *,
    groups: Sequence[str],
    num_resamples: int,
    seed: int,
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """The metrics of some rows and, with resamples, their intervals."""
    if not num_resamples:
        metrics = evaluate_tasks(tasks, scores, labels, limits, probabilities)
        return metrics | _tempo_figures(tasks, scores, bpm), {}
    metrics, intervals = evaluate_tasks_with_intervals(
        tasks, scores, labels, thresholds=limits, probabilities=probabilities,
        groups=groups, num_resamples=num_resamples, seed=seed,
    )  # fmt: skip
    if tempi := _tempo_figures(tasks, scores, bpm):
        metrics |= tempi
        of_tempi = bootstrap_intervals(
            lambda chosen: _tempo_figures(tasks, _taken(scores, chosen), bpm[chosen]),
            len(bpm), groups=groups, num_resamples=num_resamples, seed=seed,
        )  # fmt: skip
        intervals |= {name: list(ends) for name, ends in of_tempi.items()}
    return metrics, dict(intervals)


def _tempo_figures(tasks: Sequence[Task], scores: Mapping[str, np.ndarray], bpm: np.ndarray) -> dict[str, float]:
    """Accuracy 1 and 2 of tasks whose labels are beats per minute, where the data state a tempo."""
    known = np.where((bpm >= tempo.SLOWEST) & (bpm <= tempo.FASTEST), bpm, UNKNOWN)
    figures: dict[str, float] = {}
    for task in tasks:
        if task["type"] == "single_label" and (tempi := _label_tempi(task)) is not None:
            heard = tempi[scores[task["name"]].argmax(axis=1)]
            figures |= {f"{task['name']}_{metric}": value for metric, value in tempo.evaluate(known, heard).items()}
    return figures


def _label_tempi(task: Task) -> np.ndarray | None:
    """Beats per minute that the labels of a task name; `None` if they name something else."""
    try:
        tempi = np.array([float(label.lower().removesuffix("bpm")) for label in task["labels"]])
    except ValueError:
        return None
    return tempi if ((tempi >= tempo.SLOWEST) & (tempi <= tempo.FASTEST)).all() else None


def _precision_recall(scores: np.ndarray, expected: np.ndarray) -> dict[str, list[float]]:
    known = expected != UNKNOWN
    precision, recall, _ = sklearn_metrics().precision_recall_curve(expected[known] == 1, scores[known])
    # From the highest threshold down; a picture shows no more points than it has dots.
    chosen = np.unique(np.linspace(0, len(precision) - 1, CURVE_POINTS).round().astype(int))[::-1]
    return {"precision": precision[chosen].tolist(), "recall": recall[chosen].tolist()}


def _taken(arrays: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[rows] for name, values in arrays.items()}
