# SPDX-License-Identifier: Apache-2.0
"""How much of the variance of continuous targets estimates explain; unknown targets are NaN and do not count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hf_mathrock.metrics.validation import names_of


def validate(reference: Any, estimated: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both `(num_songs, num_targets)` as float64; one target may come as `(num_songs,)`.

    Raises:
        ValueError: Other shapes, an infinite reference, or an estimate that is not finite; the message names the row.
    """
    reference, estimated = (np.asarray(values, dtype=np.float64) for values in (reference, estimated))
    if reference.shape != estimated.shape or reference.ndim not in (1, 2):
        raise ValueError(
            f"there are references of the shape {reference.shape} and estimates of the shape {estimated.shape}; both "
            "must be (num_songs,) or (num_songs, num_targets). Was a song left out of one of them?"
        )
    reference, estimated = reference.reshape(len(reference), -1), estimated.reshape(len(estimated), -1)
    for side, wrong in (("a reference", np.isinf(reference)), ("an estimate", ~np.isfinite(estimated))):
        if wrong.any():
            row, target = np.argwhere(wrong)[0]
            raise ValueError(f"row {row} has {side} for target {target} that is not finite. Did the training diverge?")
    return reference, estimated


def r2(reference: Any, estimated: Any) -> np.ndarray:
    """Coefficient of determination of each target, `(num_targets,)`, at most 1.

    1 is exact, 0 what the mean of the references would reach, and less is worse than that. NaN where fewer than two
    references are known or all are equal.
    """
    reference, estimated = validate(reference, estimated)
    values = np.full(reference.shape[1], np.nan)
    for target in range(reference.shape[1]):
        known = ~np.isnan(reference[:, target])
        true, claimed = reference[known, target], estimated[known, target]
        if len(true) > 1 and np.ptp(true) > 0:
            values[target] = 1 - ((true - claimed) ** 2).sum() / ((true - true.mean()) ** 2).sum()
    return values


def evaluate(reference: Any, estimated: Any, target_names: Sequence[str] | None = None) -> dict[str, float]:
    """R2 of each target and their mean.

    Args:
        reference: `(num_songs, num_targets)`, NaN where unknown.
        estimated: The same of the estimates.
        target_names: Of the targets; `None`: their positions.

    Returns:
        `r2`, the mean over the targets that have one, and `r2_<name>` of each; empty where none has one.

    Raises:
        ValueError: As `validate`, or names for another number of targets.

    Example:
        >>> evaluate([[1.0, 0.0], [2.0, 1.0], [3.0, 0.0]], [[1.0, 0.0], [2.0, 0.5], [3.0, 0.0]], ["arousal", "valence"])
        {'r2': 0.8125, 'r2_arousal': 1.0, 'r2_valence': 0.625}
    """
    values = r2(reference, estimated)
    names = names_of(len(values), target_names)
    if np.isnan(values).all():
        return {}
    each = {f"r2_{name}": float(value) for name, value in zip(names, values, strict=True) if not np.isnan(value)}
    return {"r2": float(np.nanmean(values)), **(each if len(values) > 1 else {})}
