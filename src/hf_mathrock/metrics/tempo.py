# SPDX-License-Identifier: Apache-2.0
"""Accuracy of tempo estimates against songs whose beats per minute are known.

`mir_eval.tempo` scores two tempi per song with their weights (MIREX); most corpora give one, which this is for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hf_mathrock.metrics.validation import UNKNOWN

TOLERANCE = 0.04
OCTAVES = (1.0, 2.0, 3.0, 1 / 2, 1 / 3)
SLOWEST, FASTEST = 10.0, 1000.0


def validate(reference_bpm: Any, estimated_bpm: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both `(num_songs,)` as float64.

    Raises:
        ValueError: Other shapes, NaN, a reference outside 10 to 1000 beats per minute that is not -100 (unknown), a
            negative estimate; the message names the row.
    """
    reference = np.asarray(reference_bpm, dtype=np.float64)
    estimated = np.asarray(estimated_bpm, dtype=np.float64)
    if reference.ndim != 1 or reference.shape != estimated.shape:
        raise ValueError(
            f"there are references of the shape {reference.shape} and estimates of the shape {estimated.shape}; "
            "one of each per song is needed. Was a song left out of one of them?"
        )
    wrong = np.flatnonzero(~((reference >= SLOWEST) & (reference <= FASTEST)) & (reference != UNKNOWN))
    if wrong.size:
        raise ValueError(
            f"row {wrong[0]} has the reference {reference[wrong[0]]}; it must lie between {SLOWEST:g} and {FASTEST:g} "
            f"beats per minute, or be {UNKNOWN} where unknown. Is it in beats per second, a period, a tempo class, or "
            "an empty cell?"
        )
    wrong = np.flatnonzero(~(np.isfinite(estimated) & (estimated >= 0)))
    if wrong.size:
        raise ValueError(
            f"row {wrong[0]} has the estimate {estimated[wrong[0]]}; it must be a number of beats per minute, or 0 "
            "where no tempo was found."
        )
    return reference, estimated


def accuracy_1(reference_bpm: Any, estimated_bpm: Any, tolerance: float = TOLERANCE) -> float:
    """Share of the songs with a known tempo whose estimate is within the tolerance (a share of the reference).

    An estimate of 0 (none found) is a miss. NaN where no tempo is known.

    Source:
        Gouyon et al.: An experimental comparison of audio tempo induction algorithms, IEEE TASLP 14(5), 2006.
    """
    return _share(reference_bpm, estimated_bpm, tolerance, (1.0,))


def accuracy_2(reference_bpm: Any, estimated_bpm: Any, tolerance: float = TOLERANCE) -> float:
    """As `accuracy_1`, but an estimate of twice, three times, half or a third of the reference holds, too.

    People tap to different levels of the beat; this asks only whether the estimate is one of them.
    """
    return _share(reference_bpm, estimated_bpm, tolerance, OCTAVES)


def evaluate(reference_bpm: Any, estimated_bpm: Any, tolerance: float = TOLERANCE) -> dict[str, float]:
    """Accuracy 1 and Accuracy 2.

    Args:
        reference_bpm: `(num_songs,)` beats per minute, -100 where unknown.
        estimated_bpm: The same of the estimates, 0 where none was found.
        tolerance: Share of the reference (or of its multiple), inclusive.

    Returns:
        `acc1` and `acc2` in [0, 1]; empty where no tempo is known.

    Raises:
        ValueError: As `validate`, or a tolerance that is not in (0, 1).

    Example:
        >>> evaluate([120, 90, -100], [60, 93, 100])
        {'acc1': 0.5, 'acc2': 1.0}
    """
    reference, estimated = validate(reference_bpm, estimated_bpm)
    if not (reference != UNKNOWN).any():
        return {}
    return {
        "acc1": accuracy_1(reference, estimated, tolerance),
        "acc2": accuracy_2(reference, estimated, tolerance),
    }


def _share(reference_bpm: Any, estimated_bpm: Any, tolerance: float, factors: tuple[float, ...]) -> float:
    if not 0 < tolerance < 1:
        raise ValueError(
            f"the tolerance is {tolerance}; it is a share of the tempo between 0 and 1. Was it given in per cent?"
        )
    reference, estimated = validate(reference_bpm, estimated_bpm)
    known = reference != UNKNOWN
    if not known.any():
        return float("nan")
    allowed = reference[known] * np.array(factors)[:, None]
    # 0.04 is no binary fraction: without the allowance an estimate on the limit would hold or not by chance.
    near = np.abs(estimated[known] - allowed) <= allowed * (tolerance + 1e-12)
    return float(near.any(axis=0).mean())
