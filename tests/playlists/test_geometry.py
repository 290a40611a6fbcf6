# SPDX-License-Identifier: Apache-2.0
"""Distances, certificates and gauges, held against scipy's solutions of the same problems."""

import time

import numpy as np
import pytest
from scipy.optimize import linprog, nnls

from hf_mathrock.playlists.cone import leave_one_out_residuals, nearest_in_cone
from hf_mathrock.playlists.gauge import gauges
from hf_mathrock.playlists.simplex import leave_one_out_distances, nearest_in_hull, project_onto_simplex
from hf_mathrock.playlists.sketch import extreme_points

CASES = [(1, 3), (2, 1), (3, 8), (5, 5), (12, 2), (20, 4), (30, 12)]


def draw(num_points, num_dimensions, seed=0):
    rng = np.random.default_rng([seed, num_points, num_dimensions])
    points = rng.standard_normal((num_points, num_dimensions)) * rng.uniform(0.2, 3, num_dimensions) + 5
    return points, np.vstack([rng.standard_normal((30, num_dimensions)) * 2 + 5, points.mean(axis=0) + 0.1])


def in_hull_by_a_linear_programme(points, query):
    equal = np.vstack([points.T, np.ones(len(points))])
    return linprog(np.zeros(len(points)), A_eq=equal, b_eq=np.append(query, 1.0), bounds=(0, None)).status == 0


@pytest.mark.parametrize(("num_points", "num_dimensions"), CASES)
def test_the_distance_is_that_of_least_squares_with_a_heavy_sum(num_points, num_dimensions):
    points, queries = draw(num_points, num_dimensions)
    found = nearest_in_hull(points, queries)
    heavy = 1e5
    for query, squared in zip(queries, found.squared, strict=True):
        exact = nnls(np.vstack([points.T, np.full(num_points, heavy)]), np.append(query, heavy))[0]
        assert np.sqrt(squared) == pytest.approx(np.linalg.norm(exact / exact.sum() @ points - query), abs=1e-6)
    assert (found.weights >= 0).all() and found.weights.sum(axis=1) == pytest.approx(1)
    assert found.points == pytest.approx(found.weights @ points)


@pytest.mark.parametrize(("num_points", "num_dimensions"), CASES)
def test_the_certificate_says_what_a_linear_programme_says(num_points, num_dimensions):
    points, queries = draw(num_points, num_dimensions)
    found = nearest_in_hull(points, queries)
    inside = [in_hull_by_a_linear_programme(points, query) for query in queries]
    assert found.outside.tolist() == [not yes for yes in inside]
    if 12 <= num_points < 30:
        assert 1 <= sum(inside) < len(inside)


def test_a_proof_holds_before_the_nearest_point_is_found():
    # One song's weight is far from the optimum, and yet q - z separates.
    points, query = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([3.0, 3.0])
    found = nearest_in_hull(points, query[None])
    plane = query - found.points[0]
    assert (points @ plane).max() < query @ plane
    assert found.squared[0] - found.gaps[0] > 0


def test_no_mixture_is_ever_proved_outside():
    rng = np.random.default_rng(1)
    for num_points, num_dimensions in CASES:
        points, _ = draw(num_points, num_dimensions)
        mixtures = np.vstack([points, rng.dirichlet(np.full(num_points, 0.3), 100) @ points])
        found = nearest_in_hull(points, mixtures)
        assert not found.outside.any()
        assert found.squared.max() < 1e-9
        units = points / np.linalg.norm(points, axis=1, keepdims=True)
        inside = rng.dirichlet(np.full(num_points, 0.3), 100) @ units
        found = nearest_in_cone(units, inside / np.linalg.norm(inside, axis=1, keepdims=True))
        assert not found.outside.any() and found.squared.max() < 1e-18


def test_corners_are_at_distance_zero_and_midpoints_inside():
    points, _ = draw(12, 4)
    assert nearest_in_hull(points, points).squared == pytest.approx(0, abs=1e-18)
    midpoints = (points[:, None] + points[None]).reshape(-1, 4) / 2
    assert np.sqrt(nearest_in_hull(points, midpoints).squared).max() < 1e-6


def test_queries_do_not_depend_on_their_batch():
    points, queries = draw(20, 4)
    together = nearest_in_hull(points, queries).squared
    alone = [nearest_in_hull(points, query[None]).squared[0] for query in queries]
    assert together == pytest.approx(alone, abs=1e-10)
    assert nearest_in_hull(points, queries[:0]).weights.shape == (0, 20)


def test_the_simplex_projection_is_the_nearest_point():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((50, 6)) * 2
    projected = project_onto_simplex(values)
    assert projected.sum(axis=1) == pytest.approx(1) and (projected >= 0).all()
    # First-order optimality: no corner lies in the direction of what was taken away.
    residual = values - projected
    assert (residual.max(axis=1) <= np.einsum("ij,ij->i", residual, projected) + 1e-12).all()


def test_a_sum_of_two_hulls_is_the_hull_of_all_sums():
    rng = np.random.default_rng(3)
    one, other, queries = rng.standard_normal((4, 3)), rng.standard_normal((5, 3)) + 2, rng.standard_normal((40, 3)) * 2
    stacked = np.vstack([0.3 * one, 0.7 * other])
    sums = (0.3 * one[:, None] + 0.7 * other[None]).reshape(-1, 3)
    blocks, whole = nearest_in_hull(stacked, queries, [4, 5]), nearest_in_hull(sums, queries)
    assert np.sqrt(blocks.squared) == pytest.approx(np.sqrt(whole.squared), abs=1e-6)
    assert blocks.weights[:, :4].sum(axis=1) == pytest.approx(1) and blocks.weights[:, 4:].sum(axis=1) == pytest.approx(
        1
    )
    assert (blocks.outside == whole.outside).all() and blocks.outside.any() and not blocks.outside.all()


def test_blocks_must_divide_the_points():
    with pytest.raises(ValueError, match="do not divide"):
        nearest_in_hull(np.zeros((3, 2)), np.zeros((1, 2)), [2, 2])


@pytest.mark.parametrize(("num_points", "num_dimensions"), [(2, 3), (4, 4), (6, 3), (10, 6)])
def test_the_cones_certificate_says_what_a_linear_programme_says(num_points, num_dimensions):
    rng = np.random.default_rng([7, num_points])
    units = rng.standard_normal((num_points, num_dimensions)) + 0.8
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    queries = rng.standard_normal((40, num_dimensions)) + 0.6
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    found = nearest_in_cone(units, queries)
    inside = [linprog(np.zeros(num_points), A_eq=units.T, b_eq=query).status == 0 for query in queries]
    assert found.outside.tolist() == [not yes for yes in inside]


def test_a_cone_that_is_all_space_has_nothing_outside():
    units = np.vstack([np.eye(3), -np.eye(3)])
    queries = np.random.default_rng(0).standard_normal((20, 3))
    found = nearest_in_cone(units, queries / np.linalg.norm(queries, axis=1, keepdims=True))
    assert not found.outside.any() and np.isfinite(found.gaps).all() and found.squared.max() < 1e-20


def test_the_gauge_is_the_same_in_any_coordinates():
    rng = np.random.default_rng(5)
    points, queries = draw(15, 3)
    change, shift = rng.standard_normal((3, 3)) * 10, rng.standard_normal(3) * 100
    before = gauges(points, points.mean(axis=0), queries)
    moved = points @ change + shift
    assert gauges(moved, moved.mean(axis=0), queries @ change + shift) == pytest.approx(before, rel=1e-6)
    assert (before < 1).any() and (before > 1).any()


def test_the_gauge_tells_inside_from_outside_and_grows_in_proportion():
    points, queries = draw(15, 3)
    centre = points.mean(axis=0)
    values = gauges(points, centre, queries)
    assert (values <= 1).tolist() == [in_hull_by_a_linear_programme(points, query) for query in queries]
    assert gauges(points, centre, centre + 2.5 * (queries - centre)) == pytest.approx(2.5 * values, rel=1e-6)
    boundary = centre + (queries - centre) / values[:, None]
    assert gauges(points, centre, boundary) == pytest.approx(1)
    assert gauges(points, centre, centre[None]) == pytest.approx(0)
    assert gauges(points, centre, points).max() <= 1 + 1e-9


def test_off_the_songs_plane_the_gauge_is_infinite_and_the_soft_one_is_not():
    triangle = np.array([[0.0, 0, 0], [2, 0, 0], [0, 2, 0]])
    centre = triangle.mean(axis=0)
    queries = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.1], [0.5, 0.5, 1.0]])
    hard, soft = gauges(triangle, centre, queries), gauges(triangle, centre, queries, penalty=1.0)
    assert hard[0] < 1 and np.isinf(hard[1:]).all()
    assert soft[0] <= hard[0] and soft[0] < soft[1] < soft[2] < np.inf
    dear = gauges(triangle, centre, queries[:1], penalty=1e4)
    assert dear == pytest.approx(hard[:1])
    with pytest.raises(ValueError, match="penalty is 0"):
        gauges(triangle, centre, queries, penalty=0)


def test_one_point_has_the_gauge_zero_and_all_else_infinity():
    point = np.array([[1.0, 2.0]])
    assert gauges(point, point[0], np.array([[1.0, 2.0], [1.0, 2.1]])).tolist() == [0.0, np.inf]


def test_left_out_corners_are_far_and_copies_are_not():
    square = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0.5], [1, 1]])
    assert leave_one_out_distances(square) == pytest.approx([0.5**0.5, 0.5**0.5, 0.5**0.5, 0, 0, 0])
    with pytest.raises(ValueError, match="one point alone"):
        leave_one_out_distances(square[:1])
    assert leave_one_out_residuals(np.eye(2)) == pytest.approx([1, 1])


def test_a_sketch_keeps_the_corners_and_stays_within_the_hull():
    rng = np.random.default_rng(0)
    corners = np.array([[0.0, 0], [10, 0], [0, 10], [10, 10]])
    cloud = rng.uniform(1, 9, (2000, 2))
    kept = extreme_points(np.vstack([cloud, corners]), 8)
    assert set(range(2000, 2004)) <= set(kept.tolist()) and len(kept) <= 8
    assert extreme_points(corners, 4).tolist() == [0, 1, 2, 3]
    points = rng.standard_normal((800, 3))
    sketch = points[extreme_points(points, 100)]
    true, near = nearest_in_hull(points, points[:30] * 1.6), nearest_in_hull(sketch, points[:30] * 1.6)
    assert (near.squared >= true.squared - 1e-9).all() and len(sketch) <= 100
    assert np.abs(np.sqrt(near.squared) - np.sqrt(true.squared)).max() < 0.4


def test_a_thousand_queries_take_seconds_at_most():
    rng = np.random.default_rng(0)
    points, queries = rng.standard_normal((100, 128)), rng.standard_normal((1000, 128))
    start = time.perf_counter()
    found = nearest_in_hull(points, queries)
    # 0.2 s on one idle core; the rest is for busy machines.
    assert time.perf_counter() - start < 10
    assert found.gaps.max() < 1e-10 and found.outside.all()
