# SPDX-License-Identifier: Apache-2.0
"""InfoNCE, against its definition in numpy."""

import numpy as np
import pytest
import torch

from hf_mathrock.models.contrastive import info_nce
from hf_mathrock.training.pair_retrieval import pair_retrieval


def views(num, size=5, seed=0):
    random = np.random.default_rng(seed)
    return [torch.from_numpy(random.standard_normal((num, size))).requires_grad_() for _ in range(2)]


def one_direction(first, other, temperature, ids):
    """Row by row, as one would write it down."""
    first, other = (
        rows.detach().numpy() / np.linalg.norm(rows.detach().numpy(), axis=1)[:, None] for rows in (first, other)
    )
    losses = []
    for i, anchor in enumerate(first):
        scores = {j: float(anchor @ other[j]) / temperature for j in range(len(other)) if j == i or ids[j] != ids[i]}
        losses.append(np.log(sum(np.exp(score) for score in scores.values())) - scores[i])
    return np.mean(losses)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize("ids", [[0, 1, 2, 3, 4, 5], [7, 1, 7, 3, 1, 1]])
def test_the_loss_is_its_definition_and_rows_of_one_track_are_no_negatives(ids, temperature):
    first, other = views(6)
    there, back = one_direction(first, other, temperature, ids), one_direction(other, first, temperature, ids)
    assert info_nce(first, other, temperature, track_ids=torch.tensor(ids)).item() == pytest.approx((there + back) / 2)
    one_way = info_nce(first, other, temperature, symmetric=False, track_ids=torch.tensor(ids))
    assert one_way.item() == pytest.approx(there)
    assert there != pytest.approx(back, rel=1e-3)


def test_exchanging_the_views_changes_nothing_only_in_the_symmetric_loss():
    first, other = views(6)
    assert info_nce(first, other, 0.1).item() == pytest.approx(info_nce(other, first, 0.1).item())
    one_way = [info_nce(*pair, 0.1, symmetric=False).item() for pair in ((first, other), (other, first))]
    assert one_way[0] != pytest.approx(one_way[1], rel=1e-3)


def test_the_length_of_rows_does_not_matter():
    first, other = views(4)
    assert info_nce(first * 7, other / 3, 0.1).item() == pytest.approx(info_nce(first, other, 0.1).item())


@pytest.mark.parametrize("ids", [[0], [5, 5, 5]])
def test_without_negatives_loss_and_gradient_are_zero(ids):
    first, other = views(len(ids))
    loss = info_nce(first, other, 0.1, track_ids=torch.tensor(ids))
    loss.backward()
    assert loss.item() == 0
    assert not first.grad.any() and not other.grad.any()


def test_copies_of_a_track_are_not_pushed_apart():
    first, other = views(4)
    torch.autograd.backward(info_nce(first, other, 0.1, track_ids=torch.tensor([0, 1, 0, 2])))
    rows = torch.eye(4, dtype=torch.float64)[[0, 1, 0, 2]].requires_grad_()
    same = info_nce(rows, rows.detach(), 0.1, track_ids=torch.tensor([0, 1, 0, 2]))
    all_differ = info_nce(rows, rows.detach(), 0.1)
    assert same.item() < 0.001 < 0.3 < all_differ.item()


def test_autocast_and_half_precision_do_not_coarsen_it():
    first, other = (rows.detach().bfloat16() for rows in views(8))
    expected = info_nce(first.float(), other.float(), 0.02)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = info_nce(first, other, 0.02)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_gradient_is_right():
    first, other = views(4)
    ids = torch.tensor([0, 1, 2, 1])
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, b, 0.5, track_ids=ids), (first, other))


def test_what_does_not_fit_is_named():
    first, other = views(4)
    with pytest.raises(ValueError, match=r"\(4, 5\) and \(3, 5\)"):
        info_nce(first, other[:3], 0.1)
    with pytest.raises(ValueError, match="at least one row"):
        info_nce(first[:0], other[:0], 0.1)
    with pytest.raises(ValueError, match=r"`track_ids` has shape \(3,\)"):
        info_nce(first, other, 0.1, track_ids=torch.arange(3))
    with pytest.raises(ValueError, match="must be above 0"):
        info_nce(first, other, 0.0)


def test_retrieval_counts_the_other_crop_among_all_tracks(monkeypatch):
    monkeypatch.setattr("hf_mathrock.training.pair_retrieval._BLOCK", 3)
    first = torch.eye(8)
    other = first.clone()
    other[[0, 1]] = first[[1, 0]]  # two of eight are mistaken for each other
    measured = pair_retrieval(first, other, 0.1)
    assert measured["retrieval_top1"] == 0.75 and measured["retrieval_chance"] == 0.125 and measured["num_rows"] == 8
    assert measured["loss"] == pytest.approx(info_nce(first, other, 0.1).item(), rel=1e-5)
    pair = first[:3] + 0.3, first[[0, 2, 1]]
    one_way = pair_retrieval(*pair, 0.1, symmetric=False)
    assert one_way["loss"] == pytest.approx(info_nce(*pair, 0.1, symmetric=False).item(), rel=1e-5)


def test_crops_of_one_track_are_no_rivals_in_retrieval():
    first = torch.eye(4)
    other = first + torch.tensor([[0.0, 2.0, 0.0, 0.0], *[[0.0] * 4] * 3])  # the first is taken for the second
    assert pair_retrieval(first, other, 0.1)["retrieval_top1"] == 7 / 8
    ids = torch.tensor([0, 0, 1, 2])
    measured = pair_retrieval(first, other, 0.1, ids)
    assert measured["retrieval_top1"] == 1.0
    assert measured["retrieval_chance"] == pytest.approx((2 / 3 + 2 / 4) / 4)
    assert measured["loss"] == pytest.approx(info_nce(first, other, 0.1, track_ids=ids).item(), rel=1e-5)


def test_a_collapsed_encoder_retrieves_nothing():
    rows = torch.ones(6, 3)
    measured = pair_retrieval(rows, rows, 0.1)
    assert measured["retrieval_top1"] == 0 and measured["loss"] == pytest.approx(np.log(6))
