# SPDX-License-Identifier: Apache-2.0
"""How far a figure would move if the songs were others of the same kind: bootstrap confidence intervals.

Songs are drawn anew with replacement, as many as there are, and the figure is measured again; the middle 95 % of a
thousand such figures are its interval. Songs of one artist, and windows of one song, resemble each other and tell less
than as many strangers would. With `groups`, whole groups are drawn (the cluster bootstrap), which keeps that in
account; by single songs the interval would be too narrow.

Limits: the model is held fixed, so the chance of its training is not in the interval; with fewer than some twenty
groups the interval is too narrow; a figure that is the same for all songs has an interval of width 0; ECE and the
average precision of rare labels grow when songs repeat, so their intervals lean upwards.

Source: Efron, Tibshirani: An Introduction to the Bootstrap, 1993, chapter 13 (percentile interval); Davison, Hinkley:
Bootstrap Methods and their Application, 1997, section 3.8 (groups).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hf_mathrock.metrics import weighted
from hf_mathrock.metrics.classification import each_label, evaluate_tasks

# Of the weights times rows that are worked on at once: 32 MB an array.
_ENTRIES_AT_ONCE = 4_000_000


class Intervals(dict[str, Any]):
    """Lowest and highest plausible value of each metric, by name.

    Attributes:
        undefined (dict): Metrics that could not be measured in all resamples, with the number of those left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.undefined: dict[str, int] = {}


def bootstrap_intervals(
    metric_function: Callable[[np.ndarray], Mapping[str, float]],
    num_songs: int,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    groups: Sequence[Any] | None = None,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of any metrics.

    Args:
        metric_function: From the positions of the drawn songs (int64, repeated as often as drawn) to metrics; one that
            is not defined for them is absent or NaN. Its warnings are not shown.
        num_songs: Number of songs.
        num_resamples: How often songs are drawn; 1000 gives limits that hardly depend on the seed.
        seed: Of the draws.
        level: Share of the resamples within the interval, in (0, 1).
        groups: What each song belongs to (its artist, say), `num_songs` values that can be told apart by `==`.

    Returns:
        `Intervals`: per metric `(low, high)`. Resamples in which a metric is not defined are left out of its interval
        and counted in `undefined`; a metric that is not defined in half of them has no interval.

    Raises:
        ValueError: No songs, not as many groups as songs, or settings out of range.

    Warns:
        All songs are of one group, so that nothing can be drawn anew (no intervals), or a metric was not defined in
        some of the resamples; once per call.
    """
    draws = resamples(num_songs, num_resamples=num_resamples, seed=seed, groups=groups)
    if _only_one(num_songs, groups):
        return Intervals()
    found: dict[str, list[float]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for songs in draws:
            for name, value in metric_function(songs).items():
                found.setdefault(name, []).append(value)
    return _intervals({name: np.array(values) for name, values in found.items()}, num_resamples, level)


def evaluate_tasks_with_intervals(
    tasks: Sequence[Mapping[str, Any]],
    scores: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    *,
    thresholds: Mapping[str, Any] | None = None,
    probabilities: bool = True,
    groups: Sequence[Any] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """`evaluate_tasks` with the interval of every figure; some half a second for 400 songs and 28 labels.

    In a resample, means are over the labels that still have a positive there.

    Args:
        tasks: `MathRockConfig.tasks`.
        scores: Per task `(num_rows, num_labels)`.
        labels: Per task, as `encode_label` makes them, stacked.
        thresholds: As for `evaluate_tasks`.
        probabilities: Whether the scores are probabilities.
        groups: As for `bootstrap_intervals`; of windows, at least the song of each.
        num_resamples: As for `bootstrap_intervals`.
        seed: As for `bootstrap_intervals`; the same draws for the same seed.
        level: As for `bootstrap_intervals`.

    Returns:
        The metrics, as `evaluate_tasks` names them, and `Intervals` of `[low, high]` for those that have one.

    Raises:
        ValueError: As `evaluate_tasks` and `bootstrap_intervals`.

    Warns:
        As `evaluate_tasks` and `bootstrap_intervals`, once per call.
    """
    metrics = evaluate_tasks(tasks, scores, labels, thresholds, probabilities)
    if not metrics:
        return metrics, Intervals()

    def resampled(weights: np.ndarray) -> dict[str, np.ndarray]:
        found = weighted.evaluate_tasks(tasks, scores, labels, weights, thresholds, probabilities)
        return {name: found[name] for name in metrics}

    num_songs = _num_rows(tasks, scores)
    return metrics, _weighted_intervals(resampled, num_songs, num_resamples, seed, level, groups)


def average_precision_intervals(
    tasks: Sequence[Mapping[str, Any]],
    scores: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    *,
    groups: Sequence[Any] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, dict[str, list[float]]]:
    """The interval of every label's average precision, as `per_label_metrics` measures it; as fast as the above.

    Args:
        tasks: As for `evaluate_tasks_with_intervals`, and so on.

    Returns:
        Per task and label `[low, high]`; a label that half of the resamples lack is absent.
    """
    each = {task["name"]: each_label(task, scores[task["name"]], labels[task["name"]]) for task in tasks}

    def resampled(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {
            f"{task['name']}/{label}": precisions
            for task in tasks
            for label, precisions in zip(
                task["labels"], weighted.ranking_metrics_per_label(*each[task["name"]], weights)[0].T, strict=True
            )
        }

    found = _weighted_intervals(resampled, _num_rows(tasks, scores), num_resamples, seed, level, groups)
    by_task: dict[str, dict[str, list[float]]] = {task["name"]: {} for task in tasks}
    for name, limits in found.items():
        task_name, label = name.split("/", 1)
        by_task[task_name][label] = limits
    return by_task


def resamples(
    num_songs: int, *, num_resamples: int = 1000, seed: int = 0, groups: Sequence[Any] | None = None
) -> Iterator[np.ndarray]:
    """Positions of the drawn songs of one resample after the other; see `bootstrap_intervals`.

    Raises:
        ValueError: At once, not at the first resample.
    """
    if num_songs < 1 or num_resamples < 1:
        raise ValueError(
            f"there are {num_songs} songs and {num_resamples} resamples; at least one of each is needed. "
            "Were all songs left out?"
        )
    if groups is None:
        members = None
    else:
        if len(groups) != num_songs:
            raise ValueError(
                f"there are {len(groups)} groups for {num_songs} songs; one for each song is needed. "
                "Were songs left out that still have a group?"
            )
        by_group: dict[Any, list[int]] = {}
        for song, group in enumerate(groups):
            by_group.setdefault(group, []).append(song)
        members = [np.array(songs) for songs in by_group.values()]
    random = np.random.default_rng(seed)

    def draw() -> Iterator[np.ndarray]:
        for _ in range(num_resamples):
            if members is None:
                yield random.integers(num_songs, size=num_songs)
            else:
                yield np.concatenate([members[group] for group in random.integers(len(members), size=len(members))])

    return draw()


def _num_rows(tasks: Sequence[Mapping[str, Any]], scores: Mapping[str, np.ndarray]) -> int:
    rows = {task["name"]: len(scores[task["name"]]) for task in tasks}
    if len(set(rows.values())) != 1:
        raise ValueError(
            f"the tasks have different numbers of rows ({rows}); songs are drawn for all tasks together. "
            "Give every task every song, with the label -100 where it is unknown."
        )
    return next(iter(rows.values()))


def _weighted_intervals(
    measure: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    num_songs: int,
    num_resamples: int,
    seed: int,
    level: float,
    groups: Sequence[Any] | None,
) -> Intervals:
    """As `bootstrap_intervals`, of a function from weights `(num, num_songs)` to `(num,)` per metric."""
    draws = resamples(num_songs, num_resamples=num_resamples, seed=seed, groups=groups)
    if _only_one(num_songs, groups, stacklevel=4):
        return Intervals()
    found: dict[str, list[np.ndarray]] = {}
    at_once = max(1, _ENTRIES_AT_ONCE // num_songs)
    for start in range(0, num_resamples, at_once):
        chunk = range(min(at_once, num_resamples - start))
        weights = np.stack([np.bincount(next(draws), minlength=num_songs) for _ in chunk]).astype(np.float64)
        for name, values in measure(weights).items():
            found.setdefault(name, []).append(values)
    joined = {name: np.concatenate(values) for name, values in found.items()}
    intervals = _intervals(joined, num_resamples, level, stacklevel=4)
    for name, limits in intervals.items():
        intervals[name] = list(limits)
    return intervals


def _only_one(num_songs: int, groups: Sequence[Any] | None, stacklevel: int = 3) -> bool:
    if num_songs > 1 and (groups is None or len(set(groups)) > 1):
        return False
    which = "there is one song only" if num_songs == 1 else f"all {num_songs} songs are of one group"
    warnings.warn(f"{which}: nothing can be drawn anew, so there are no intervals", stacklevel=stacklevel)
    return True


def _intervals(found: Mapping[str, np.ndarray], num_resamples: int, level: float, stacklevel: int = 3) -> Intervals:
    """Percentiles of what each metric was in the resamples; NaN, or fewer values than resamples: not defined."""
    if not 0 < level < 1:
        raise ValueError(f"the level is {level}; it is a share between 0 and 1. Was it given in per cent?")
    intervals = Intervals()
    for name, values in found.items():
        defined = values[~np.isnan(values)]
        if not len(defined):
            continue  # no song has it, which the metric itself says
        if len(defined) < num_resamples:
            intervals.undefined[name] = num_resamples - len(defined)
        if len(defined) > num_resamples / 2:
            low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
            intervals[name] = (float(low), float(high))
    if intervals.undefined:
        counts = ", ".join(f"{name} in {count}" for name, count in intervals.undefined.items())
        warnings.warn(
            f"of {num_resamples} resamples without an example to measure it on, {counts}: left out "
            "(a metric that half of them lack has no interval). There are few songs with such labels",
            stacklevel=stacklevel,
        )
    return intervals
