# SPDX-License-Identifier: Apache-2.0
"""Nearest point of the cone of some directions: what a query is made of, and what is left over.

A point of the cone of the unit rows x_i of X is X^T w with w >= 0. The nearest one to a unit query q is a problem of
non-negative least squares, solved exactly by an active-set method; the length of what is left over is the sine of the
angle between the query and the cone. Few weights are positive: they are the explanation, "60 % A + 40 % B".

Certificate: with the residual r = q - z, the plane r^T y = 0 has the whole cone on one side if all <x_i, r> <= 0, and
the query, with <q, r> > 0, on the other. Rounding leaves v = max_i <x_i, r> a little above zero. Be p the point of the
convex hull of the x_i that is nearest to the origin: <x_i, p> >= |p|^2, so a point y of the cone has weights of a sum
of at most <y, p> / |p|^2 <= |y| / |p|, and the nearest point to q is not longer than q. So <z*, r> <= v |q| / |p|, and
|r|^2 + <z, r> > v |q| / |p| proves q outside. A cone that holds a whole line (p = 0) has no such bound: there only
v <= 0 proves it.

Source: Lawson and Hanson, "Solving least squares problems", 1974, chapter 23 (as `scipy.optimize.nnls`).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from .simplex import NearestPoints, nearest_in_hull, rounding


def nearest_in_cone(directions: np.ndarray, queries: np.ndarray) -> NearestPoints:
    """Nearest point of the cone to each query.

    Args:
        directions: `(num_points, num_dimensions)`, of unit length; zero rows are passed over (their weight is 0).
        queries: `(num_queries, num_dimensions)`, of unit length; a zero query lies in the apex.

    Returns:
        Non-negative weights, and what follows from them; `gaps` are such that `squared - gaps > 0` proves outside.
    """
    used = np.flatnonzero(np.any(directions != 0.0, axis=1))
    matrix = np.ascontiguousarray(directions[used].T)
    weights = np.zeros((len(queries), len(directions)))
    for row, query in enumerate(queries):
        if len(used) and query.any():
            weights[row, used] = _weights(matrix, query)
    found = weights @ directions
    residual = queries - found
    squared = np.einsum("ij,ij->i", residual, residual)
    if not len(used):
        return NearestPoints(weights, found, squared, np.zeros(len(queries)))
    violation = np.maximum((residual @ matrix).max(axis=1), 0.0)
    nearest = nearest_in_hull(directions[used], np.zeros((1, matrix.shape[0])))
    # What the search for p left open is taken off its length.
    pointed = max(float(nearest.squared[0] - nearest.gaps[0]), 0.0)
    length = np.sqrt(nearest.squared[0])
    reach = length / pointed if pointed > 1e-12 else np.inf
    lengths = np.linalg.norm(queries, axis=1)
    bound = np.multiply(violation * lengths, reach, out=np.zeros(len(queries)), where=violation > 0)
    gaps = np.maximum(bound - np.einsum("ij,ij->i", found, residual), 0.0)
    gaps += rounding(1.0 + lengths + weights.sum(axis=1), np.sqrt(squared), matrix.shape[0])
    return NearestPoints(weights, found, squared, np.minimum(gaps, squared))


def leave_one_out_residuals(directions: np.ndarray) -> np.ndarray:
    """Distance of each unit row from the cone of the others, `(num_points,)`; at least two rows."""
    found = []
    for place, query in enumerate(directions):
        matrix = np.ascontiguousarray(np.delete(directions, place, axis=0).T)
        found.append(np.linalg.norm(matrix @ _weights(matrix, query) - query))
    return np.array(found)


def _weights(matrix: np.ndarray, query: np.ndarray) -> np.ndarray:
    try:
        return nnls(matrix, query, maxiter=50 * matrix.shape[1])[0]
    except RuntimeError:
        # Duplicates can make the active set go round in circles; tiny costs that differ break the tie.
        size = matrix.shape[1]
        bent = np.vstack([matrix, np.diag(1e-7 * (1.0 + np.arange(size) / size))])
        return nnls(bent, np.append(query, np.zeros(size)), maxiter=500 * size)[0]
