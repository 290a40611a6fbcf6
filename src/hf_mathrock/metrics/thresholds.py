# SPDX-License-Identifier: Apache-2.0
"""From which score on a label is claimed: fitted on rows that no figure is reported on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from hf_mathrock.metrics.validation import UNKNOWN, checked_multi_hot, checked_probabilities, names_of

Rule = Literal["f1"] | tuple[Literal["precision"], float]


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


def best_thresholds(
    probabilities: Any,
    labels: Any,
    *,
    rule: Rule = "f1",
    min_positives: int = 5,
    label_names: Sequence[str] | None = None,
) -> np.ndarray:
    """One threshold per label.

    A threshold lies half-way between the lowest score that it claims and the highest that it does not, so that a song
    that is a hair's breadth away from one of the fitted ones is treated like it.

    Args:
        probabilities: `(num_rows, num_labels)` in [0, 1].
        labels: Multi-hot of the same shape, -100 where unknown; none of the rows a figure is reported on.
        rule: "f1": the threshold of the label's best F1, the lowest of several. `("precision", p)`: the lowest with
            which at least the share p in (0, 1] of its claims holds on these rows.
        min_positives: A label with fewer positive rows takes the threshold that the rule gives for all entries of the
            task together: `best_threshold`, or the lowest that reaches the precision.
        label_names: For the warnings.

    Returns:
        `(num_labels,)` in [0, 1], to be compared as `score >= threshold`. 1 where no threshold reaches the wanted
        precision: such a label stays silent.

    Raises:
        ValueError: Arrays that do not fit, or a rule that is none.

    Warns:
        Labels with too few positives, and labels for which the wanted precision is out of reach, by name.
    """
    probabilities = checked_probabilities(probabilities)
    labels = checked_multi_hot(labels, *probabilities.shape)
    names = names_of(probabilities.shape[1], label_names)
    precision = _wanted_precision(rule)
    rare = (labels == 1).sum(axis=0) < max(min_positives, 1)
    found = np.empty(len(names))
    silent = []
    for column, name in enumerate(names):
        if not rare[column]:
            known = labels[:, column] != UNKNOWN
            found[column] = _fitted(probabilities[known, column], labels[known, column] == 1, precision)
            silent += [name] if np.isnan(found[column]) else []
    if rare.any():
        known = labels != UNKNOWN
        if precision is None:
            pooled = best_threshold(probabilities, labels)
        else:
            pooled = _fitted(probabilities[known], labels[known] == 1, precision)
        few = [name for name, is_rare in zip(names, rare, strict=True) if is_rare]
        silent += few if np.isnan(pooled) else []
        found[rare] = pooled
        warnings.warn(
            f"fewer than {min_positives} positive examples of {', '.join(few)}: the threshold of the whole task "
            f"({1 if np.isnan(pooled) else pooled:.2f}) stands in",
            stacklevel=2,
        )
    if silent:
        warnings.warn(
            f"no threshold of {', '.join(silent)} reaches the precision {precision:g}: it is set to 1 and the label "
            "stays silent. Ask for less, or give more examples",
            stacklevel=2,
        )
    return np.where(np.isnan(found), 1.0, found)


def _wanted_precision(rule: Any) -> float | None:
    """The precision that a rule asks for; `None`: it asks for the best F1."""
    if rule == "f1":
        return None
    if isinstance(rule, (tuple, list)) and len(rule) == 2 and rule[0] == "precision" and 0 < rule[1] <= 1:
        return float(rule[1])
    raise ValueError(f'the rule is {rule!r}; it must be "f1", or ("precision", p) with p above 0 and at most 1.')


def _fitted(scores: np.ndarray, expected: np.ndarray, precision: float | None) -> float:
    """The threshold for one label's scores `(num_rows,)`; NaN where the precision is out of reach."""
    if not len(scores):
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    scores, expected = scores[order], expected[order]
    # Rows of equal scores are claimed together or not at all: only the last of them is a place to stop.
    stops = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    claims, hits = stops + 1, expected.cumsum()[stops]
    if precision is None:
        f1 = 2 * hits / (claims + expected.sum())
        stop = np.flatnonzero(f1 == f1.max())[-1]
    else:
        reached = np.flatnonzero(hits >= claims * (precision - 1e-12))
        if not reached.size:
            return float("nan")
        stop = reached[-1]
    lowest = scores[stops[stop]]
    below = scores[stops[stop] + 1] if stop + 1 < len(stops) else 0.0
    middle = (lowest + below) / 2
    return float(middle if below < middle or stop + 1 == len(stops) else lowest)
