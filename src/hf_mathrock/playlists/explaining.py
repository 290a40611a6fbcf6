# SPDX-License-Identifier: Apache-2.0
"""Which songs of a playlist a query is made of, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Shares = list[tuple[str, float]]
_SMALLEST_SHARE = 0.005  # less than one per cent when rounded


def shares_of(names: Sequence[str], weights: np.ndarray, max_songs: int) -> Shares:
    """The songs with most weight and their shares of the whole weight, largest first; none where nothing has weight.

    A song that stands twice in the playlist is named once.
    """
    total = float(weights.sum())
    if total <= 0.0:
        return []
    shares: dict[str, float] = {}
    for place in np.flatnonzero(weights).tolist():
        shares[names[place]] = shares.get(names[place], 0.0) + float(weights[place]) / total
    ranked = sorted(shares.items(), key=lambda entry: -entry[1])
    return [(name, share) for name, share in ranked[:max_songs] if share >= _SMALLEST_SHARE]


def describe(shares: Sequence[tuple[str, float]]) -> str:
    """Shares as a sentence.

    >>> describe([("Never Meant", 0.604), ("Honestly", 0.396)])
    '60 % Never Meant + 40 % Honestly'
    >>> describe([])
    'like none of them'
    """
    return " + ".join(f"{100 * share:.0f} % {name}" for name, share in shares) or "like none of them"
