# SPDX-License-Identifier: Apache-2.0
"""Whether probabilities mean what they say: of all claims made with 0.8, do eight in ten hold?

All functions take `(num_rows, num_labels)` probabilities, and labels either `(num_rows,)` class indices of a
single-label task, where the claim of a row is its best label with that label's probability, or multi-hot rows
`(num_rows, num_labels)` of a multi-label task, where every entry is a claim of its own. Unknown labels are -100.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hf_mathrock.metrics.validation import UNKNOWN, checked_classes, checked_multi_hot, checked_probabilities

NUM_BINS = 15


def validate(probabilities: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities as float64, labels as int64 `(num_rows,)` or float64 `(num_rows, num_labels)`.

    Raises:
        ValueError: A wrong shape, a probability outside [0, 1] or not finite, a label that is none; the message names
            the row.
    """
    probabilities = checked_probabilities(probabilities)
    check = checked_classes if np.ndim(labels) == 1 else checked_multi_hot
    return probabilities, check(labels, *probabilities.shape)


def expected_calibration_error(
    probabilities: Any, labels: Any, num_bins: int = NUM_BINS, *, per_label: bool = False
) -> float:
    """Mean distance between how sure the claims of a bin are and how often they hold, in [0, 1].

    With bins ((b - 1) / B, b / B] of equal width, n_b claims in bin b and N in all,

        ECE = sum over b of n_b / N * |share that holds in b - mean probability in b|.

    Even of a perfectly calibrated model it is above 0, the more the fewer claims a bin has: compare only what was
    measured on equally many rows.

    Args:
        probabilities: `(num_rows, num_labels)`.
        labels: `(num_rows,)` or multi-hot.
        num_bins: B.
        per_label: Of a multi-label task, the mean of the errors of the labels instead of the error of all entries
            together, in which one label's overconfidence may hide behind another's doubt.

    Returns:
        NaN where nothing is known.

    Source:
        Naeini, Cooper, Hauskrecht: Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015 (binary,
        as here for multi-label tasks); Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML
        2017, equation 3 (best label, as here for single-label tasks; 15 bins).
    """
    probabilities, labels = validate(probabilities, labels)
    if per_label:
        if labels.ndim == 1:
            raise ValueError("`per_label` is of multi-label tasks; these labels are class indices, one a row.")
        columns = [slice(column, column + 1) for column in range(labels.shape[1])]
        errors = [error_of_sums(*bin_sums(probabilities[:, column], labels[:, column], num_bins)) for column in columns]
        known = [error for error in errors if not np.isnan(error)]
        return float(np.mean(known)) if known else float("nan")
    return error_of_sums(*bin_sums(probabilities, labels, num_bins))


def brier_score(probabilities: Any, labels: Any) -> float:
    """Mean squared distance of probabilities from the truth y (1 where a label holds, else 0).

    Single label: mean over rows of the sum over labels of (p - y)², in [0, 2]. Multi-label: mean over known entries
    of (p - y)², in [0, 1].

    Returns:
        NaN where nothing is known.

    Source:
        Brier: Verification of forecasts expressed in terms of probability, 1950. scikit-learn's `brier_score_loss`
        with `scale_by_half=False` for several classes, and its binary form for entries.
    """
    error, count = squared_errors(*validate(probabilities, labels))
    return float(error.sum() / count.sum()) if count.any() else float("nan")


def reliability_curve(scores: Any, labels: Any, num_bins: int = NUM_BINS) -> dict[str, list[float]]:
    """What a reliability diagram shows: for each bin with a claim, how sure the claims are and how often they hold.

    Args:
        scores: Probabilities `(num_rows, num_labels)`.
        labels: `(num_rows,)` or multi-hot.
        num_bins: Bins of equal width over [0, 1].

    Returns:
        Lists of equal length, bins without a claim left out: `low` and `high` (limits of the bin), `confidence` (mean
        probability), `frequency` (share that holds), `count` (claims).
    """
    count, confidence, held = (sums.sum(axis=0) for sums in bin_sums(*validate(scores, labels), num_bins))
    some = count > 0
    edges = np.linspace(0, 1, num_bins + 1)
    return {
        "low": edges[:-1][some].tolist(),
        "high": edges[1:][some].tolist(),
        "confidence": (confidence[some] / count[some]).tolist(),
        "frequency": (held[some] / count[some]).tolist(),
        "count": count[some].astype(int).tolist(),
    }


def evaluate(probabilities: Any, labels: Any, num_bins: int = NUM_BINS) -> dict[str, float]:
    """`ece` and `brier`; empty where nothing is known."""
    probabilities, labels = validate(probabilities, labels)
    if not (labels != UNKNOWN).any():
        return {}
    return {
        "ece": expected_calibration_error(probabilities, labels, num_bins),
        "brier": brier_score(probabilities, labels),
    }


def bin_sums(
    probabilities: np.ndarray, labels: np.ndarray, num_bins: int = NUM_BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each row puts into each bin: number of claims, sum of their probabilities, number that hold.

    Args:
        probabilities: As `validate` gives them.
        labels: As `validate` gives them.
        num_bins: At least 1.

    Returns:
        Three arrays `(num_rows, num_bins)`; rows can be weighted before they are added up.
    """
    if num_bins < 1:
        raise ValueError(f"`num_bins` is {num_bins}; at least 1 is needed.")
    if labels.ndim == 1:
        sure = probabilities.max(axis=1, keepdims=True)
        held = (probabilities.argmax(axis=1) == labels)[:, None]
        known = (labels != UNKNOWN)[:, None]
    else:
        sure, held, known = probabilities, labels == 1, labels != UNKNOWN
    row, column = np.nonzero(known)
    where = np.digitize(sure[row, column], np.linspace(0, 1, num_bins + 1)[1:-1], right=True)
    sums = np.zeros((3, len(sure), num_bins))
    for total, values in zip(sums, (np.ones(len(row)), sure[row, column], held[row, column]), strict=True):
        np.add.at(total, (row, where), values)
    return sums[0], sums[1], sums[2]


def error_of_sums(count: np.ndarray, confidence: np.ndarray, held: np.ndarray) -> float:
    """The expected calibration error of `(num_rows, num_bins)` sums; NaN where nothing is known.

    n_b / N * |held_b / n_b - confidence_b / n_b| is |held_b - confidence_b| / N, which needs no care for empty bins.
    """
    if not count.any():
        return float("nan")
    return float(np.abs(held.sum(axis=0) - confidence.sum(axis=0)).sum() / count.sum())


def squared_errors(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The squared error of each row and the number of claims it is over, both `(num_rows,)`; see `brier_score`."""
    if labels.ndim == 1:
        known = labels != UNKNOWN
        truth = labels[:, None] == np.arange(probabilities.shape[1])
        return ((probabilities - truth) ** 2).sum(axis=1) * known, known.astype(np.float64)
    known = labels != UNKNOWN
    return (np.where(known, probabilities - labels, 0) ** 2).sum(axis=1), known.sum(axis=1).astype(np.float64)
