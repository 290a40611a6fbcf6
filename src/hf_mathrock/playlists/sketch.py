# SPDX-License-Identifier: Apache-2.0
"""The extreme songs of a long playlist: an approximate hull of bounded size.

A song that lies farthest in some direction is a corner of the hull, and one that never does changes nothing. The
farthest songs in a few hundred random directions span nearly the same hull; the sketch lies within the whole hull, so
what it calls inside is inside.
"""

from __future__ import annotations

import numpy as np


def extreme_points(points: np.ndarray, max_points: int, *, num_directions: int = 256, seed: int = 0) -> np.ndarray:
    """Which points lie farthest in random directions, both ways.

    Args:
        points: `(num_points, num_dimensions)`.
        max_points: How many to keep at most; those that were farthest most often, then first in order.
        num_directions: How many directions; each is looked along both ways.
        seed: Of the directions.

    Returns:
        Rising positions, at most `max_points` and at least one.
    """
    if len(points) <= max_points:
        return np.arange(len(points))
    directions = np.random.default_rng(seed).standard_normal((num_directions, points.shape[1]))
    along = (points - points.mean(axis=0)) @ directions.T
    wins = np.bincount(np.concatenate([along.argmax(axis=0), along.argmin(axis=0)]), minlength=len(points))
    kept = np.argsort(-wins, kind="stable")[:max_points]
    return np.sort(kept[wins[kept] > 0])
