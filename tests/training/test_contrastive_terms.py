# SPDX-License-Identifier: Apache-2.0
"""SogCLR and the terms that shape the space, against small cases worked out otherwise."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import nnls

from hf_mathrock.models.contrastive import info_nce
from hf_mathrock.training.clustering_terms import SphericalKMeans, balanced_assignments, sliced_width
from hf_mathrock.training.contrastive_terms import ContrastiveObjective, ConvexCombination, SogCLR, hull_weights


def unit(num, size=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(num, size, generator=generator, dtype=torch.float64), dim=1)


def sogclr_by_hand(first, other, ids, remembered, temperature, gamma):
    """Row by row: the loss, and what is remembered afterwards."""
    rows, num, after, losses = np.concatenate([first, other]), len(first), {}, []
    for place, anchor in enumerate(rows):
        track = ids[place % num]
        cosines = np.array([anchor @ row for index, row in enumerate(rows) if ids[index % num] != track])
        nearness = np.exp(cosines / temperature).mean()
        average = (1 - gamma) * remembered[track] + gamma * nearness if track in remembered else nearness
        after.setdefault(track, []).append(average)
        positive = anchor @ rows[(place + num) % len(rows)]
        losses.append((np.exp(cosines / temperature) / average * cosines).mean() - positive)
    return 2 * np.mean(losses), remembered | {track: np.mean(values) for track, values in after.items()}


def test_sogclr_is_its_definition_and_remembers_tracks_from_batch_to_batch():
    term, remembered = SogCLR(0.3, gamma=0.7), {}
    for step, ids in enumerate([[0, 1, 2, 3], [3, 0, 4, 3], [9, 1, 4, 2]]):
        first, other = unit(4, seed=2 * step), unit(4, seed=2 * step + 1)
        loss = term(first, other, torch.tensor(ids))
        expected, remembered = sogclr_by_hand(first.numpy(), other.numpy(), ids, remembered, 0.3, 0.7)
        assert loss.item() == pytest.approx(expected)
    found = {track: value for track, value in enumerate(term.log_averages.exp().tolist()) if value}
    assert found == pytest.approx(remembered)


def test_sogclr_forgets_nothing_of_tracks_that_are_not_in_the_batch_and_nothing_in_evaluation():
    term = SogCLR(0.1)
    term(unit(3), unit(3, seed=1), torch.tensor([0, 1, 2]))
    before = term.log_averages.clone()
    term.eval()(unit(3, seed=2), unit(3, seed=3), torch.tensor([0, 1, 2]))
    torch.testing.assert_close(term.log_averages, before, rtol=0, atol=0)
    term.train()(unit(3, seed=2), unit(3, seed=3), torch.tensor([5, 1, 6]))
    assert torch.equal(term.log_averages[[0, 2]], before[[0, 2]]) and term.log_averages[1] != before[1]
    assert term.log_averages[[3, 4]].isinf().all() and term.log_averages[[5, 6]].isfinite().all()


def test_sogclr_of_a_single_track_is_zero_and_leaves_no_trace():
    term, rows = SogCLR(0.1), unit(2).requires_grad_()
    loss = term(rows, unit(2, seed=1), torch.tensor([3, 3]))
    loss.backward()
    assert loss.item() == 0 and not rows.grad.any() and term.log_averages.isinf().all()


def test_sogclr_stays_finite_at_small_temperatures():
    rows = unit(6).float()
    rows[1] = rows[0]
    loss = SogCLR(0.005)(rows, rows, torch.arange(6))
    assert loss.isfinite()


def test_sogclr_refuses_tracks_without_a_number():
    with pytest.raises(ValueError, match="holds -1"):
        SogCLR(0.1)(unit(2), unit(2), torch.tensor([-1, 0]))


def test_kmeans_finds_clusters_that_are_there():
    centres = unit(4, size=8, seed=5)
    term = SphericalKMeans(4, decay=0.8)
    for step in range(40):
        rows = F.normalize(centres.repeat(6, 1) + 0.05 * unit(24, size=8, seed=step), dim=1)
        loss, members = term(rows)
    assert loss.item() < 0.01
    assert len(set(members[:4].tolist())) == 4 and torch.equal(members, members[:4].repeat(6))
    assert (term.centroids @ centres.float().T).amax(dim=1).min() > 0.99


def test_the_hard_term_is_the_distance_to_the_nearest_centroid_and_the_soft_one_comes_near_it():
    term = SphericalKMeans(3)
    term(unit(9))
    rows = unit(12, seed=1).float().requires_grad_()
    nearest = (rows @ term.centroids.T).amax(dim=1)
    term.eval()
    assert term(rows)[0].item() == pytest.approx(1 - nearest.mean().item(), rel=1e-5)
    term.temperature = 0.001
    assert term(rows)[0].item() == pytest.approx(-nearest.mean().item(), abs=1e-3)
    before = term.sums.clone()
    term(rows)[0].backward()
    assert torch.equal(term.sums, before) and rows.grad.any()


def test_more_clusters_than_rows_are_found_bit_by_bit():
    term = SphericalKMeans(20)
    for step in range(5):
        loss, _ = term(unit(6, size=12, seed=step))
        assert loss.isfinite()
        assert (term.counts > 0).sum() == min(20, 6 * (step + 1))


def test_a_cluster_that_lost_its_members_begins_again_at_the_worst_row():
    # Two directions, one of which is never met again, and then a third one.
    ends = torch.eye(3)
    term = SphericalKMeans(2, decay=0.5)
    term(ends[[0, 1, 0, 1]])
    for _ in range(8):
        term(ends[[0, 0, 0, 2]])
    assert sorted(term.centroids.argmax(dim=1).tolist()) == [0, 2]
    assert (term.centroids.amax(dim=1) > 0.99).all()


def test_copies_of_one_row_do_not_become_two_centroids():
    term = SphericalKMeans(4)
    term(torch.eye(3)[[0, 0, 0, 1]])
    assert (term.counts > 0).sum() == 2


def test_balanced_assignments_give_equal_shares_where_nearest_ones_do_not():
    rows = F.normalize(
        torch.tensor([[1.0, 0.1]]) + 0.3 * torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    )
    cosines = rows @ torch.eye(2).T
    assert (cosines.argmax(dim=1) == 0).float().mean() > 0.9
    shares = balanced_assignments(cosines, 50)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(40))
    torch.testing.assert_close(shares.mean(dim=0), torch.full((2,), 0.5), rtol=0, atol=0.02)


def test_the_sliced_width_is_that_of_the_clusters_with_two_rows():
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0], [9.0, 9.0]], requires_grad=True)
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    width = sliced_width(rows, torch.tensor([7, 7, 2]), directions)
    width.backward()
    assert width.item() == pytest.approx(3.5)
    torch.testing.assert_close(rows.grad, torch.tensor([[-0.5, -0.5], [0.5, 0.5], [0.0, 0.0]]))
    assert sliced_width(rows, torch.tensor([0, 1, 2]), directions).item() == 0


def test_hull_weights_are_those_of_an_exact_solver():
    points = torch.stack([unit(4, size=5, seed=seed) for seed in range(8)])
    targets = unit(8, size=5, seed=99)
    weights = hull_weights(points, targets, 500)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(8, dtype=torch.float64))
    for chosen, corners, target in zip(weights, points, targets, strict=True):
        heavy = 1e4  # of the sum to 1, beside the distance
        exact, _ = nnls(np.vstack([corners.numpy().T, heavy * np.ones(4)]), np.append(target.numpy(), heavy))
        np.testing.assert_allclose(chosen.numpy(), exact, atol=1e-4)
    assert (weights == 0).any()


def test_a_view_inside_the_hull_of_the_others_costs_nothing_and_the_gradient_is_that_of_the_distance():
    points = torch.stack([unit(3, seed=seed) for seed in range(2)])
    inside = (points * torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)[None, :, None]).sum(dim=1)
    assert ConvexCombination(3)(inside, points).item() < 1e-9
    target = unit(2, seed=8).requires_grad_()
    points.requires_grad_()
    nearest = ConvexCombination(3)
    nearest(target, points).backward()
    for rows, which in ((target, 0), (points, 1)):
        moved = [target.detach(), points.detach()]
        step = 1e-5 * torch.randn(rows.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        up, down = ([m + sign * step if i == which else m for i, m in enumerate(moved)] for sign in (1, -1))
        change = (nearest(*up) - nearest(*down)).item() / 2
        assert (rows.grad * step).sum().item() == pytest.approx(change, rel=1e-3)


def test_a_learned_mixture_is_learned():
    term = ConvexCombination(2, learned=True)
    points, target = torch.stack([unit(2, seed=seed) for seed in range(3)]), unit(3, seed=7)
    equal = (points.mean(dim=1) - target).square().sum(dim=1).mean()
    loss = term(target, points)
    loss.backward()
    assert loss.item() == pytest.approx(equal.item()) and term.scores.grad.any()


def test_terms_come_in_with_the_ramp():
    def objective():
        return ContrastiveObjective(
            0.1,
            kmeans=SphericalKMeans(3),
            kmeans_weight=0.5,
            convex=ConvexCombination(3),
            convex_weight=2.0,
            width_weight=0.25,
        )

    views, ids = [unit(6, seed=seed).float() for seed in range(4)], torch.arange(6)
    plain, terms = objective()(views, ids, 0.0)
    assert set(terms) == {"contrastive"}
    pairs = [info_nce(views[0], views[1], 0.1), info_nce(views[2], views[3], 0.1)]
    assert plain.item() == pytest.approx(torch.stack(pairs).mean().item())
    for ramp in (0.5, 1.0):
        loss, terms = objective()(views, ids, ramp)
        added = 0.5 * terms["kmeans"] + 2.0 * terms["convex"] - 0.25 * terms["width"]
        assert loss.item() == pytest.approx((plain + ramp * added).item(), rel=1e-5)
        assert all(term.item() > 0 for term in terms.values())


def test_what_an_objective_remembers_comes_back_and_another_objective_is_refused():
    def objective(**settings):
        return ContrastiveObjective(0.1, loss="sogclr", **settings)

    kmeans = {"kmeans_weight": 0.1, "width_weight": 0.1}
    first = objective(kmeans=SphericalKMeans(3), **kmeans)
    batches = [([unit(5, seed=s), unit(5, seed=s + 50)], torch.arange(5) + s) for s in range(4)]
    for batch in batches[:3]:
        first(*batch)
    second = objective(kmeans=SphericalKMeans(3), **kmeans)
    second.restore({name: tensor.clone() for name, tensor in first.state_dict().items()})
    assert torch.equal(second(*batches[3])[0], first(*batches[3])[0])
    with pytest.raises(ValueError, match=r"remembers kmeans.*needs sogclr.log_averages:"):
        objective().restore(first.state_dict())
