# SPDX-License-Identifier: Apache-2.0
"""Nearest point of a convex hull, or of a Minkowski sum of hulls, for many queries at once, with a certificate.

A point of the hull of the rows x_i of X is X^T w with w >= 0 and sum w = 1. Of all these the one nearest to q minimises

    f(w) = |X^T w - q|^2 / 2 = w^T G w / 2 - b^T w + const,    G = X X^T,    b = X q.

Accelerated projected gradient: a step of 1 / lambda_max(G) along the gradient of f at an extrapolated point, then the
projection onto the simplex by sorting. The extrapolation starts anew whenever it points uphill. G and b are computed
once for all steps, and queries that are done leave the batch. What is slow or
nearly inside is finished by an active-set method, exactly.

Certificate: with z = X^T w, the Frank-Wolfe gap g = max_i <x_i - z, q - z> bounds the error: for any z' of the hull,
|q - z'|^2 >= |q - z|^2 - 2 <z' - z, q - z> >= d^2 - 2 g. For a yes or no there is more in it: d^2 - g > 0 says that
<x_i, q - z> < <q, q - z> for all i, so q - z is the normal of a plane between q and the whole hull, and q is outside,
however far from its optimum z is.

A Minkowski sum (1 - t) A + t B has a simplex per summand: the same steps, the projection for each block of weights by
itself, and the gap is the sum of the blocks' gaps.

Source: Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm", 2009; O'Donoghue and Candes, "Adaptive
restart for accelerated gradient schemes", 2015; Duchi et al., "Efficient projections onto the l1-ball", 2008; Jaggi,
"Revisiting Frank-Wolfe", 2013, for the gap.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

_TOLERANCE = 1e-13  # of the gap, in squared radii of the set: what rounding leaves
_NEARLY_INSIDE = 1e-8  # of a squared radius: closer queries are solved exactly
_MAX_STEPS = 4000
_CHECK_EVERY = 25
# Of the weights that are worked on at once: 16 MB an array.
_ENTRIES_AT_ONCE = 2_000_000


@dataclass(frozen=True, eq=False)
class NearestPoints:
    """For each query: the weights of the nearest point, that point, its squared distance, and the gap.

    The gap allows for the rounding of its own computation, so that a point of the set is never proved outside.

    Shapes: `(num_queries, num_points)`, `(num_queries, num_dimensions)`, `(num_queries,)` and `(num_queries,)`.
    """

    weights: np.ndarray
    points: np.ndarray
    squared: np.ndarray
    gaps: np.ndarray

    @property
    def outside(self) -> np.ndarray:
        """Where a plane was found between the query and the set; `(num_queries,)` of bool."""
        return self.squared - self.gaps > 0


def project_onto_simplex(values: np.ndarray) -> np.ndarray:
    """Nearest row of non-negative numbers that sum to 1.

    >>> project_onto_simplex(np.array([[0.5, 0.9], [3.0, 0.0]])).round(12).tolist()
    [[0.3, 0.7], [1.0, 0.0]]
    """
    falling = -np.sort(-values, axis=1)
    counts = np.arange(1, values.shape[1] + 1)
    thresholds = (np.cumsum(falling, axis=1) - 1.0) / counts
    num_positive = np.count_nonzero(falling > thresholds, axis=1)
    return np.maximum(values - thresholds[np.arange(len(values)), num_positive - 1][:, None], 0.0)


def nearest_in_hull(
    points: np.ndarray, queries: np.ndarray, blocks: Sequence[int] | None = None, tolerance: float = _TOLERANCE
) -> NearestPoints:
    """Nearest point of the convex hull, or of a Minkowski sum of convex hulls.

    Args:
        points: `(num_points, num_dimensions)`.
        queries: `(num_queries, num_dimensions)`.
        blocks: How many of the points, in their order, belong to each summand; `None` takes all for one hull. For
            (1 - t) A + t B stack the scaled points of A and those of B.
        tolerance: At which gap a query is done, in squared radii of the set; the gap that is left is told.

    Returns:
        Weights that sum to 1 in every block, and what follows from them.
    """
    blocks = [len(points)] if blocks is None else list(blocks)
    if sum(blocks) != len(points) or min(blocks) < 1:
        raise ValueError(f"blocks of {blocks} points do not divide {len(points)} points; each needs one at least")
    # From the middle of the set, rounding is that of the set's own size, wherever it lies.
    bounds = [0, *itertools.accumulate(blocks)]
    centred = points.copy()
    shift = np.zeros(points.shape[1])
    for start, end in itertools.pairwise(bounds):
        middle = points[start:end].mean(axis=0)
        centred[start:end] -= middle
        shift += middle
    moved = queries - shift
    at_once = max(1, _ENTRIES_AT_ONCE // len(points))
    parts = [_solve(centred, moved[i : i + at_once], bounds, tolerance) for i in range(0, len(moved), at_once)]
    weights = np.concatenate(parts) if parts else np.empty((0, len(points)))
    # A gap of g leaves a distance of up to sqrt(2 g): too much to call a song's distance from itself zero.
    close = np.sum((moved - weights @ centred) ** 2, axis=1) <= _NEARLY_INSIDE * np.sum(centred**2, axis=1).max()
    for place in np.flatnonzero(close):
        weights[place] = _exact(centred, moved[place], bounds, weights[place])
    found = weights @ centred
    residual = moved - found
    squared = np.einsum("ij,ij->i", residual, residual)
    slopes = residual @ centred.T
    best = sum(slopes[:, start:end].max(axis=1) for start, end in itertools.pairwise(bounds))
    gaps = np.maximum(best - np.einsum("ij,ij->i", found, residual), 0.0)
    size = np.linalg.norm(points, axis=1).max() * len(blocks) + np.linalg.norm(queries, axis=1)
    return NearestPoints(weights, found + shift, squared, gaps + rounding(size, np.sqrt(squared), points.shape[1]))


def rounding(size: np.ndarray, residual: np.ndarray, num_dimensions: int) -> np.ndarray:
    """What rounding can add to products of vectors of these lengths with these residuals.

    Errors of sums grow with the root of their length; four times that, and eight for the vectors' own errors.
    """
    return 4 * (np.sqrt(num_dimensions) + 8) * np.finfo(np.float64).eps * size * residual


def _solve(points: np.ndarray, queries: np.ndarray, bounds: Sequence[int], tolerance: float) -> np.ndarray:
    """Weights `(num_queries, num_points)`."""
    num_points, num_dimensions = points.shape
    # G and X^T X have the same largest eigenvalue, and G w = X (X^T w): of many points on few axes, the cheaper way.
    gram = points @ points.T if num_points <= 2 * num_dimensions else None
    largest = float(np.linalg.eigvalsh(points.T @ points if gram is None else gram)[-1])
    start = np.zeros((len(queries), len(points)))
    for begin, end in itertools.pairwise(bounds):
        start[:, begin:end] = 1.0 / (end - begin)
    radius = float(np.sum(points**2, axis=1).max())
    if largest <= 0.0 or radius <= 0.0:
        return start  # all points of a summand are one point
    # Far from the set, rounding grows with the distance.
    linear = queries @ points.T
    enough = tolerance * (radius + np.sqrt(radius) * np.linalg.norm(queries, axis=1))
    result = start.copy()
    active = np.arange(len(queries))
    current, ahead, momentum = start, start.copy(), np.ones(len(queries))
    offset = linear
    for step in range(1, _MAX_STEPS + 1):
        gradient = (ahead @ points @ points.T if gram is None else ahead @ gram) - offset
        raised = ahead - gradient / largest
        following = np.empty_like(raised)
        for begin, end in itertools.pairwise(bounds):
            following[:, begin:end] = project_onto_simplex(raised[:, begin:end])
        uphill = np.einsum("ij,ij->i", ahead - following, following - current) > 0
        momentum[uphill] = 1.0
        grown = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum**2))
        push = np.where(uphill, 0.0, (momentum - 1.0) / grown)
        ahead = following + push[:, None] * (following - current)
        current, momentum = following, grown
        if step % _CHECK_EVERY == 0:
            slopes = offset - (current @ points @ points.T if gram is None else current @ gram)
            best = sum(slopes[:, begin:end].max(axis=1) for begin, end in itertools.pairwise(bounds))
            done = best - np.einsum("ij,ij->i", current, slopes) <= enough[active]
            if done.any():
                result[active[done]] = current[done]
                left = ~done
                active, current, ahead = active[left], current[left], ahead[left]
                momentum, offset = momentum[left], offset[left]
                if not len(active):
                    return result
    # Nearly flat directions are slow.
    result[active] = current
    for place in active:
        result[place] = _exact(points, queries[place], bounds, result[place])
    return result


def _exact(points: np.ndarray, query: np.ndarray, bounds: Sequence[int], approximate: np.ndarray) -> np.ndarray:
    """Least distance by NNLS where there is one hull; of several, what the gradient steps found.

    min |Y^T v|^2 + (1 - sum v)^2 over v >= 0, with y_i = x_i - q, scaled: writing v = s w with w in the simplex, the
    best w is that of the least |Y^T w| whatever s, so v / sum v solves the problem exactly, without a large penalty.
    """
    if len(bounds) > 2:
        return approximate
    shifted = points - query
    scale = float(np.abs(shifted).max()) or 1.0
    matrix = np.vstack([shifted.T / scale, np.ones(len(points))])
    try:
        values, _ = nnls(matrix, np.append(np.zeros(points.shape[1]), 1.0), maxiter=50 * len(points))
    except RuntimeError:
        return approximate
    weights = values / values.sum() if values.sum() > 0 else approximate

    def square(w: np.ndarray) -> float:
        return float(np.sum((w @ shifted) ** 2))

    # Within a hull many weights give the same point; which ones are found must not depend on the way there.
    return weights if square(weights) <= square(approximate) + 1e-20 * scale**2 else approximate


def leave_one_out_distances(points: np.ndarray) -> np.ndarray:
    """Distance of each point from the hull of the others, `(num_points,)`; at least two points.

    Raises:
        ValueError: There is one point only.
    """
    if len(points) < 2:
        raise ValueError("one point alone has no others to be held against")
    found = []
    for place, point in enumerate(points):
        others = np.delete(points, place, axis=0)
        weights = _exact(others, point, [0, len(others)], np.full(len(others), 1.0 / len(others)))
        found.append(np.linalg.norm(weights @ others - point))
    return np.array(found)
