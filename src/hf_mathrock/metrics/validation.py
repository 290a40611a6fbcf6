# SPDX-License-Identifier: Apache-2.0
"""What every metric asks of its arrays, and what it says when it does not get it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

UNKNOWN = -100


def checked_scores(scores: Any) -> np.ndarray:
    """`(num_rows, num_labels)` as float64.

    Raises:
        ValueError: Another number of dimensions, or a score that is not finite; the message names its row.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2:
        raise ValueError(
            f"scores have the shape {scores.shape}; they must be (num_rows, num_labels). "
            "Was one row, or only the best label of each, given?"
        )
    wrong = np.argwhere(~np.isfinite(scores))
    if len(wrong):
        row, label = wrong[0]
        raise ValueError(
            f"row {row} has the score {scores[row, label]} for label {label} ({len(wrong)} scores in all are not "
            "finite). Did the training diverge, or was a file without sound scored? Leave such rows out."
        )
    return scores


def checked_probabilities(probabilities: Any) -> np.ndarray:
    """`(num_rows, num_labels)` as float64 in [0, 1].

    Raises:
        ValueError: As `checked_scores`, or a value outside [0, 1].
    """
    probabilities = checked_scores(probabilities)
    # Means of float32 probabilities may miss the limits by a rounding error.
    wrong = np.argwhere((probabilities < -1e-6) | (probabilities > 1 + 1e-6))
    if len(wrong):
        row, label = wrong[0]
        raise ValueError(
            f"row {row} has the probability {probabilities[row, label]:g} for label {label}; it must lie in [0, 1]. "
            "Are these logits? Take the sigmoid or the softmax first."
        )
    return np.clip(probabilities, 0, 1)


def checked_classes(labels: Any, num_rows: int, num_labels: int) -> np.ndarray:
    """`(num_rows,)` class indices as int64, -100 where unknown.

    Raises:
        ValueError: Another shape, or a value that is no class; the message names its row.
    """
    given = np.asarray(labels)
    if given.shape != (num_rows,):
        raise ValueError(
            f"labels have the shape {given.shape}; one class index for each of the {num_rows} rows of scores is needed."
        )
    classes = np.where(np.isfinite(given.astype(np.float64)), given, -1).astype(np.int64)
    wrong = np.flatnonzero(((classes != given) | (classes < 0) | (classes >= num_labels)) & (given != UNKNOWN))
    if wrong.size:
        raise ValueError(
            f"row {wrong[0]} has the label {given[wrong[0]]}; with {num_labels} labels it must be a whole number "
            f"from 0 to {num_labels - 1}, or {UNKNOWN} where unknown. Are the labels those of another model?"
        )
    return classes


def checked_multi_hot(labels: Any, num_rows: int, num_labels: int) -> np.ndarray:
    """`(num_rows, num_labels)` as float64: 1 and 0, -100 where unknown; an entry above 0.5 counts as 1.

    Raises:
        ValueError: Another shape, or an entry that is neither in [0, 1] nor -100; the message names its row.
    """
    labels = np.asarray(labels, dtype=np.float64)
    if labels.shape != (num_rows, num_labels):
        raise ValueError(
            f"labels have the shape {labels.shape}, scores {(num_rows, num_labels)}; they must be equal. "
            "Are these class indices instead of multi-hot rows?"
        )
    unknown = labels == UNKNOWN
    wrong = np.argwhere(~((labels >= 0) & (labels <= 1)) & ~unknown)
    if len(wrong):
        row, label = wrong[0]
        raise ValueError(
            f"row {row} has {labels[row, label]} for label {label}; an entry is 1 (holds), 0 (does not) or {UNKNOWN} "
            "(unknown). Was an empty cell read as NaN?"
        )
    return np.where(unknown, UNKNOWN, labels > 0.5).astype(np.float64)


def checked_thresholds(thresholds: Any, num_labels: int) -> np.ndarray:
    """`(num_labels,)` as float64; one number serves all labels.

    Raises:
        ValueError: Neither one number nor as many as labels, or one that is not finite.
    """
    given = np.asarray(thresholds, dtype=np.float64)
    if given.ndim > 1 or (given.ndim == 1 and len(given) != num_labels) or not np.isfinite(given).all():
        raise ValueError(
            f"thresholds are {thresholds}; one finite number, or one for each of the {num_labels} labels, is needed."
        )
    return np.broadcast_to(given, (num_labels,))


def names_of(num_labels: int, label_names: Sequence[str] | None) -> list[str]:
    """The labels' names, or their positions where there are none.

    Raises:
        ValueError: Not as many names as labels.
    """
    if label_names is None:
        return [str(position) for position in range(num_labels)]
    if len(label_names) != num_labels:
        raise ValueError(
            f"there are {len(label_names)} label names for {num_labels} columns of scores. "
            "Are these the names of another task?"
        )
    return list(label_names)
