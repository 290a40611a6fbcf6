# SPDX-License-Identifier: Apache-2.0
"""Scores that mean what they say: a temperature per task and a threshold per label, fitted on some songs and measured
on others.

Temperature scaling: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017. Here it is
fitted at song level: what is to be a probability is the mean of the windows' scores, since that is what users see.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hf_mathrock.evaluation.predictions import Predictions, Task, all_thresholds
from hf_mathrock.metrics.classification import best_thresholds, evaluate_tasks
from hf_mathrock.models.objectives import UNKNOWN

MIN_SONGS = 20
LOWEST, HIGHEST = 0.05, 20.0  # a fit that ends here has not found the temperature
_SMALLEST = 1e-12  # a probability of 0 costs this much and not everything


@dataclass
class Calibration:
    """What was fitted.

    Attributes:
        temperatures: For the config: every task whose temperature is not 1.
        thresholds: For the config: every multi-label task that has thresholds now.
        tasks: Per fitted task `temperature`, and `ece`, `brier` and `nll` (mean negative log-likelihood), each with
            `_before` and `_after`; for a multi-label task also `macro_f1` and `micro_f1`, and `thresholds` by label.
            The figures are of the songs reported on; `None` where nothing is known there.
        remarks: One line for everything that was left as it was, or came out worse.
    """

    temperatures: dict[str, float]
    thresholds: dict[str, list[float]]
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def calibrate(
    fit: Predictions,
    report: Predictions,
    *,
    temperatures: Mapping[str, float] | None = None,
    thresholds: Mapping[str, Sequence[float]] | None = None,
    rule: str = "f1",
) -> Calibration:
    """Fits temperatures and thresholds, and says what they change on other songs.

    Args:
        fit: Songs to fit on.
        report: Songs to measure on.
        temperatures: The model's present ones; 1 for tasks not named.
        thresholds: The model's present ones; 0.5 for tasks not named.
        rule: "f1": the thresholds of the best F1; "precision:0.8": the lowest ones of that precision.

    Returns:
        The calibration. A task with fewer than 20 known songs, or with labels that are all the same, keeps what it
        has, and so does one whose likelihood no other temperature raises.

    Raises:
        ValueError: A song is on both sides.
    """
    if common := set(fit.content_ids) & set(report.content_ids):
        raise ValueError(f"{len(common)} recordings are both fitted and reported on; a figure on them means nothing.")
    before = {task["name"]: float((temperatures or {}).get(task["name"], 1.0)) for task in fit.tasks}
    limits_before = all_thresholds(fit.tasks, thresholds)
    after, limits = dict(before), {name: limits_before[name] for name in thresholds or {}}
    remarks: list[str] = []
    fitted: list[str] = []
    for task in fit.tasks:
        name = task["name"]
        if (reason := _unfit(fit, task)) is not None:
            remarks.append(f"{name}: left as it was (temperature {before[name]:g}): {reason}")
            continue
        fitted.append(name)
        after[name], remark = fit_temperature(fit, task, before[name])
        if remark:
            remarks.append(f"{name}: temperature left at {before[name]:g}: {remark}")
        if task["type"] == "multi_label":
            limits[name] = _fit_thresholds(fit, task, after[name], rule, remarks)
    entries = _described(report, fitted, (before, limits_before), (after, limits_before | limits), rule, remarks)
    return Calibration(
        temperatures={name: value for name, value in after.items() if value != 1},
        thresholds={name: [float(value) for value in values] for name, values in limits.items()},
        tasks=entries,
        remarks=remarks,
    )


def fit_temperature(predictions: Predictions, task: Task, present: float = 1.0) -> tuple[float, str | None]:
    """The temperature that makes the labels of whole songs likeliest.

    Args:
        predictions: Songs with known labels of the task.
        task: An entry of `predictions.tasks`.
        present: What to stay with unless another is better.

    Returns:
        The temperature, to four digits, and why it is the present one if it is.
    """
    from scipy.optimize import minimize_scalar

    def cost(log_temperature: float) -> float:
        return negative_log_likelihood(predictions, task, float(np.exp(log_temperature)))

    name = task["name"]
    if task["type"] == "single_label":
        labels = predictions.labels[name]
        right = predictions.song_scores(tasks=[task])[name].argmax(axis=1) == labels
        if right[labels != UNKNOWN].all():  # the surer the likelier, as far as windows of one song do not disagree
            return present, "all songs are heard rightly, so these songs do not determine it"
    # The mean of windows' scores need not have one minimum only: look around before descending.
    grid = np.linspace(np.log(LOWEST), np.log(HIGHEST), 25)
    best = int(np.argmin([cost(value) for value in grid]))
    bounds = (grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)])
    found = float(np.exp(minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x))
    if found < LOWEST * 1.02 or found > HIGHEST / 1.02:
        return present, f"the likelihood still rises at {found:.3g}, so these songs do not determine it"
    found = float(f"{found:.4g}")
    # A number fitted to noise gains a nat in two at the most in nearly all cases: Akaike's criterion asks for one.
    num_songs = int(predictions.known(name).sum())
    if (cost(np.log(present)) - cost(np.log(found))) * num_songs <= 1:
        return present, "no other makes the labels of the songs fitted on likelier by more than chance would"
    return found, None


def negative_log_likelihood(predictions: Predictions, task: Task, temperature: float) -> float:
    """Mean surprise at the songs' known labels, in nats: per song, or per entry of a multi-label task.

    Args:
        predictions: Songs.
        task: An entry of `predictions.tasks`.
        temperature: Above 0.

    Returns:
        At least 0; NaN where nothing is known.
    """
    name = task["name"]
    scores = predictions.song_scores({name: temperature}, tasks=[task])[name]
    labels = predictions.labels[name]
    known = labels != UNKNOWN
    if not known.any():
        return float("nan")
    if task["type"] == "single_label":
        likelihoods = scores[known, labels[known]]
    else:
        likelihoods = np.where(labels[known] > 0.5, scores[known], 1 - scores[known])
    return float(-np.log(np.maximum(likelihoods, _SMALLEST)).mean())


def _unfit(predictions: Predictions, task: Task) -> str | None:
    """Why nothing can be fitted for a task, if so."""
    num = int(predictions.known(task["name"]).sum())
    if num < MIN_SONGS:
        return f"{num} songs with known labels to fit on, at least {MIN_SONGS} are needed"
    labels = predictions.labels[task["name"]]
    if len(np.unique(labels[labels != UNKNOWN])) < 2:
        return "all songs to fit on have the same label"
    return None


def _fit_thresholds(
    predictions: Predictions, task: Task, temperature: float, rule: str, remarks: list[str]
) -> np.ndarray:
    """A threshold per label, to six digits, for song scores at this temperature."""
    name = task["name"]
    scores = predictions.song_scores({name: temperature}, tasks=[task])[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = best_thresholds(scores, predictions.labels[name], rule=parsed_rule(rule), label_names=task["labels"])
    remarks += [f"{name}: {warning.message}" for warning in caught]
    return found.round(6)


def parsed_rule(rule: str) -> Any:
    """A rule as `best_thresholds` takes it, from the text "f1" or "precision:0.8" (or with an equals sign).

    Raises:
        ValueError: It is neither.
    """
    kind, _, share = rule.replace("=", ":").partition(":")
    if kind == "f1" and not share:
        return "f1"
    try:
        if kind == "precision" and 0 < float(share) <= 1:
            return "precision", float(share)
    except ValueError:
        pass
    raise ValueError(f"{rule!r} is no rule for thresholds; there is f1, and precision=P with P above 0 and at most 1.")


_Setting = tuple[Mapping[str, float], Mapping[str, np.ndarray]]


def _described(
    report: Predictions, fitted: Sequence[str], before: _Setting, after: _Setting, rule: str, remarks: list[str]
) -> dict[str, dict[str, Any]]:
    """What the calibration changes on the songs reported on; what comes out worse is added to the remarks."""
    figures = [_figures(report, *setting) if len(report) else {} for setting in (before, after)]
    entries: dict[str, dict[str, Any]] = {}
    for task in report.tasks:
        name = task["name"]
        if name not in fitted:
            continue
        multi = task["type"] == "multi_label"
        entry: dict[str, Any] = {"temperature": after[0][name]}
        for metric in ("ece", "brier", "nll", *(["macro_f1", "micro_f1"] if multi else [])):
            values: list[Any] = [found.get(f"{name}_{metric}") for found in figures]
            entry |= {f"{metric}_before": values[0], f"{metric}_after": values[1]}
            # Whoever asks for precision pays with F1, and knows it.
            if None not in values and not ("f1" in metric and rule != "f1"):
                fallen, risen = values[1] < values[0], values[1] > values[0]
                if fallen if "f1" in metric else risen:
                    remarks.append(f"{name}: {metric} is worse on the other songs: {values[0]:.4f} → {values[1]:.4f}")
        if multi:
            entry["thresholds"] = dict(zip(task["labels"], map(float, after[1][name]), strict=True))
        entries[name] = entry
    return entries


def _figures(
    predictions: Predictions, temperatures: Mapping[str, float], thresholds: Mapping[str, np.ndarray]
) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # labels without examples have no figure here, which says enough
        figures = evaluate_tasks(
            predictions.tasks,
            predictions.song_scores(temperatures),
            predictions.labels,
            thresholds=all_thresholds(predictions.tasks, thresholds),
            probabilities=True,
        )
    likelihoods = {
        f"{task['name']}_nll": negative_log_likelihood(predictions, task, temperatures[task["name"]])
        for task in predictions.tasks
    }
    return figures | {name: value for name, value in likelihoods.items() if not np.isnan(value)}
