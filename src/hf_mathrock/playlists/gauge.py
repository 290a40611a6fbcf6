# SPDX-License-Identifier: Apache-2.0
"""Inside, near or outside in one number: by how much a hull must be scaled about its centre to reach a point.

    gamma(q) = min sum v    such that    (X - c)^T v = q - c,    v >= 0

is a linear programme. Below 1 the point is inside, at 1 on the boundary, above 1 outside; it is 0 at the centre c, and
it is the same in any coordinates (affine invariance), so no whitening enters it. A point that no scaling reaches, off
the plane that the songs span, has the gauge infinity.

The soft gauge lets the point be missed by a residual r at a price of `penalty` for every radius of the playlist (root
mean square distance of its songs from the centre) of sum |r_j|: finite everywhere, at most the hard one, and meaningful
for playlists of few songs, whose hull has no volume. It depends on the coordinates.

Source: Minkowski's functional; the programme is solved by HiGHS through `scipy.optimize.linprog`.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog


def gauges(points: np.ndarray, centre: np.ndarray, queries: np.ndarray, penalty: float | None = None) -> np.ndarray:
    """The gauge of each query.

    Args:
        points: `(num_points, num_dimensions)`.
        centre: A point of their hull, `(num_dimensions,)`.
        queries: `(num_queries, num_dimensions)`.
        penalty: `None` for the hard gauge; for the soft one the price of a residual of one radius, above 0.

    Returns:
        `(num_queries,)`, from 0 to infinity.

    Raises:
        ValueError: `penalty` is not above 0.
    """
    if penalty is not None and not penalty > 0:
        raise ValueError(f"penalty is {penalty}; a residual must cost something (more than 0), or every gauge is 0")
    spokes = points - centre
    radius = float(np.sqrt(np.mean(np.sum(spokes**2, axis=1))))
    wanted = queries - centre
    if radius <= 1e-12 * (1.0 + float(np.abs(centre).max(initial=0.0))):
        # Scaled as much as one likes, a single point stays where it is.
        here = np.linalg.norm(wanted, axis=1) <= 1e-9 * (1.0 + np.linalg.norm(centre))
        return np.where(here, 0.0, np.inf)
    # In the coordinates of the songs' own plane the programme has full rank; what sticks out is told apart first.
    _, spreads, axes = np.linalg.svd(spokes / radius, full_matrices=False)
    axes = axes[spreads > 1e-9 * spreads[0]]
    matrix = spokes @ axes.T / radius
    if penalty is not None:
        matrix, wanted = spokes / radius, wanted / radius
        return np.array([_soft(matrix, target, penalty) for target in wanted])
    flat = wanted @ axes.T / radius
    off = np.linalg.norm(wanted - flat @ axes * radius, axis=1) > 1e-7 * (radius + np.linalg.norm(wanted, axis=1))
    return np.array([np.inf if out else _hard(matrix, target) for target, out in zip(flat, off, strict=True)])


def _hard(matrix: np.ndarray, target: np.ndarray) -> float:
    length = float(np.linalg.norm(target))
    if length == 0.0:
        return 0.0
    # The gauge is homogeneous, and a target of unit length keeps the solver's tolerances meaningful.
    solved = linprog(np.ones(len(matrix)), A_eq=matrix.T, b_eq=target / length, bounds=(0, None), method="highs")
    if solved.status == 2:
        return np.inf
    return float(solved.fun) * length if solved.status == 0 else _least(matrix, target)


def _soft(matrix: np.ndarray, target: np.ndarray, penalty: float) -> float:
    size = matrix.shape[1]
    costs = np.concatenate([np.ones(len(matrix)), np.full(2 * size, penalty)])
    equal = np.hstack([matrix.T, np.eye(size), -np.eye(size)])
    solved = linprog(costs, A_eq=equal, b_eq=target, bounds=(0, None), method="highs")
    return float(solved.fun) if solved.status == 0 else penalty * float(np.abs(target).sum())


def _least(matrix: np.ndarray, target: np.ndarray) -> float:
    """The gauge through its dual, max target^T y such that X y <= 1, for the rare case that the solver gives up."""
    solved = linprog(-target, A_ub=matrix, b_ub=np.ones(len(matrix)), bounds=(None, None), method="highs-ipm")
    return -float(solved.fun) if solved.status == 0 else np.inf
