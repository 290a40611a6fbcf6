# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_mathrock.models.objectives import (
    class_weighted_cross_entropy,
    focal_binary_cross_entropy,
    loss_denominators,
    multi_task_focal_loss,
)

TASKS = [
    {"name": "emotion", "type": "multi_label", "labels": ["anger", "joy", "grief"]},
    {"name": "tempo", "type": "single_label", "labels": ["slow", "moderate", "fast"]},
]


def focal_in_numpy(logits, targets, gamma, smoothing):
    """The published formula, entry by entry, in float64."""
    losses = []
    for logit, target in zip(logits.ravel().astype(float), targets.ravel(), strict=True):
        if target == -100:
            continue
        p = 1 / (1 + np.exp(-logit))
        soft = float(target) * (1 - smoothing) + smoothing / 2
        p_t = p if target == 1 else 1 - p
        losses.append(-((1 - p_t) ** gamma) * (soft * np.log(p) + (1 - soft) * np.log(1 - p)))
    return np.mean(losses)


def weighted_in_numpy(logits, targets, weights):
    known = targets != -100
    logits, targets = logits[known].astype(float), targets[known]
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    weight = weights[targets]
    return -(weight * log_p[np.arange(len(targets)), targets]).sum() / weight.sum()


@pytest.fixture
def several():
    random = np.random.default_rng(0)
    logits, targets = 2 * random.standard_normal((6, 3)), (random.random((6, 3)) < 0.4).astype(np.float32)
    targets[random.random((6, 3)) < 0.3] = -100
    return torch.tensor(logits), torch.tensor(targets)


@pytest.fixture
def one():
    random = np.random.default_rng(1)
    return torch.tensor(2 * random.standard_normal((8, 3))), torch.tensor([0, 2, -100, 1, 1, -100, 0, 2])


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_the_focal_loss_is_the_published_formula(gamma, smoothing, several):
    given = focal_binary_cross_entropy(*several, gamma=gamma, label_smoothing=smoothing)
    expected = focal_in_numpy(several[0].numpy(), several[1].numpy(), gamma, smoothing)
    assert given.item() == pytest.approx(expected, rel=1e-9)


def test_without_focus_and_smoothing_it_is_binary_cross_entropy():
    logits, targets = torch.randn(5, 4, dtype=torch.float64), torch.randint(2, (5, 4)).double()
    torch.testing.assert_close(
        focal_binary_cross_entropy(logits, targets, gamma=0.0),
        torch.nn.functional.binary_cross_entropy_with_logits(logits, targets),
    )


def test_the_focal_factor_makes_easy_examples_count_less():
    easy, hard = (
        focal_binary_cross_entropy(torch.tensor([[logit]]), torch.ones(1, 1), gamma=2.0)
        / focal_binary_cross_entropy(torch.tensor([[logit]]), torch.ones(1, 1), gamma=0.0)
        for logit in (4.0, -4.0)
    )
    # (1 - p)^2 with p = sigmoid(+-4).
    assert easy.item() == pytest.approx((1 / (1 + np.exp(4.0))) ** 2, rel=1e-5)
    assert hard.item() == pytest.approx((1 / (1 + np.exp(-4.0))) ** 2, rel=1e-5)


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_huge_logits_stay_finite(logit):
    logits = torch.full((1, 2), logit, requires_grad=True)
    loss = focal_binary_cross_entropy(logits, torch.tensor([[0.0, 1.0]]), gamma=2.0, label_smoothing=0.1)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()


def test_class_weights_follow_the_definition(one):
    weights = np.array([0.5, 1.0, 3.0])
    given = class_weighted_cross_entropy(*one, class_weights=torch.tensor(weights, dtype=torch.float32))
    assert given.item() == pytest.approx(weighted_in_numpy(one[0].numpy(), one[1].numpy(), weights), rel=1e-6)
    equal = class_weighted_cross_entropy(*one)
    assert equal.item() == pytest.approx(weighted_in_numpy(one[0].numpy(), one[1].numpy(), np.ones(3)), rel=1e-9)


def test_unknown_labels_never_count(several, one):
    for loss, (logits, targets) in ((focal_binary_cross_entropy, several), (class_weighted_cross_entropy, one)):
        logits = logits.clone().requires_grad_()
        loss(logits, targets).backward()
        unknown = targets == -100
        assert unknown.any() and (logits.grad[unknown] == 0).all() and (logits.grad[~unknown] != 0).any()
        changed = torch.where(unknown if unknown.ndim == 2 else unknown[:, None], 99.0, logits.detach())
        torch.testing.assert_close(loss(changed, targets), loss(logits.detach(), targets), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (focal_binary_cross_entropy, torch.full((2, 3), -100.0)),
        (class_weighted_cross_entropy, torch.full((2,), -100)),
    ],
)
def test_nothing_known_is_a_loss_of_zero_with_a_gradient_of_zero(loss, targets):
    logits = torch.randn(2, 3, requires_grad=True)
    value = loss(logits, targets)
    value.backward()
    assert value.item() == 0 and logits.grad.tolist() == [[0.0] * 3] * 2


def test_the_tasks_are_added_with_their_weights(several, one):
    logits = {"emotion": several[0].float(), "tempo": one[0][:6].float()}
    labels = {"emotion": several[1], "tempo": one[1][:6]}
    options = {"gamma": 1.5, "label_smoothing": 0.2, "class_weights": {"tempo": torch.tensor([1.0, 2.0, 3.0])}}
    total, losses = multi_task_focal_loss(logits, labels, TASKS, **options, task_weights={"emotion": 10.0})
    emotion = focal_in_numpy(logits["emotion"].numpy(), labels["emotion"].numpy(), 1.5, 0.2)
    tempo = weighted_in_numpy(logits["tempo"].numpy(), labels["tempo"].numpy(), np.array([1.0, 2.0, 3.0]))
    assert losses["emotion"].item() == pytest.approx(emotion, rel=1e-5)
    assert losses["tempo"].item() == pytest.approx(tempo, rel=1e-5)
    assert total.item() == pytest.approx(10 * emotion + tempo, rel=1e-5)
    unweighted, _ = multi_task_focal_loss(logits, labels, TASKS, **options)
    assert unweighted.item() == pytest.approx(emotion + tempo, rel=1e-5)


def test_the_defaults_are_the_references(several):
    logits, labels = {"emotion": several[0].float(), "tempo": torch.zeros(6, 3)}, {"emotion": several[1]}
    total, losses = multi_task_focal_loss(logits, labels, TASKS)
    assert total.item() == pytest.approx(focal_in_numpy(several[0].numpy(), several[1].numpy(), 2.0, 0.1), rel=1e-5)
    assert losses["tempo"] == 0


def test_a_task_without_labels_has_a_gradient_of_zero(several):
    tempo = torch.randn(6, 3, requires_grad=True)
    multi_task_focal_loss({"emotion": several[0], "tempo": tempo}, {"emotion": several[1]}, TASKS)[0].backward()
    assert (tempo.grad == 0).all()


def test_half_precision_logits_are_summed_in_full(several):
    logits = {"emotion": several[0].bfloat16(), "tempo": torch.zeros(6, 3, dtype=torch.bfloat16)}
    total, _ = multi_task_focal_loss(logits, {"emotion": several[1]}, TASKS)
    assert total.dtype == torch.float32


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"tempi": torch.zeros(2)}, r"Labels for \['tempi'\], but the model's tasks are"),
        ({"emotion": torch.zeros(2)}, r"'emotion' have shape \(2,\), expected \(2, 3\)"),
        ({"tempo": torch.zeros(2, 3)}, r"'tempo' have shape \(2, 3\), expected \(2,\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, message):
    logits = {"emotion": torch.zeros(2, 3), "tempo": torch.zeros(2, 3)}
    with pytest.raises(ValueError, match=message):
        multi_task_focal_loss(logits, labels, TASKS)


def test_rows_of_a_class_without_weight_do_not_make_the_loss_nan():
    logits = torch.randn(2, 3, requires_grad=True)
    loss = class_weighted_cross_entropy(logits, torch.tensor([2, 2]), class_weights=torch.tensor([1.0, 1.0, 0.0]))
    loss.backward()
    assert loss.item() == 0 and logits.grad.abs().sum() == 0


def test_losses_of_parts_with_the_denominators_of_the_whole_add_up_to_the_losses_of_the_whole(several, one):
    logits = {"emotion": several[0].float().requires_grad_(), "tempo": one[0][:6].float().requires_grad_()}
    labels = {"emotion": several[1], "tempo": one[1][:6]}
    options = {"class_weights": {"tempo": torch.tensor([0.25, 2.0, 3.0])}, "task_weights": {"emotion": 3.0}}
    whole, losses = multi_task_focal_loss(logits, labels, TASKS, **options)
    expected = torch.autograd.grad(whole, list(logits.values()))
    cuts = [slice(0, 1), slice(1, 3), slice(3, 6)]  # of the rows, unevenly known: tempo's third is unknown
    parts = [{name: values[cut] for name, values in labels.items()} for cut in cuts]
    own = [loss_denominators(part, TASKS, class_weights=options["class_weights"]) for part in parts]
    total = {name: sum(each[name] for each in own) for name in labels}
    assert total["emotion"] == (labels["emotion"] != -100).sum() and total["tempo"] == 0.25 + 3.0 + 2 * 2.0
    given = [
        multi_task_focal_loss(
            {name: values[cut] for name, values in logits.items()}, part, TASKS, denominators=total, **options
        )
        for cut, part in zip(cuts, parts, strict=True)
    ]
    torch.testing.assert_close(sum(loss for loss, _ in given), whole)
    for name in labels:
        torch.testing.assert_close(sum(each[name] for _, each in given), losses[name])
    torch.testing.assert_close(torch.autograd.grad(sum(loss for loss, _ in given), list(logits.values())), expected)


def test_a_batchs_own_denominators_change_nothing(several, one):
    logits = {"emotion": several[0].float(), "tempo": one[0][:6].float()}
    labels = {"emotion": several[1], "tempo": one[1][:6]}
    own = loss_denominators(labels, TASKS)
    given, expected = (multi_task_focal_loss(logits, labels, TASKS, denominators=d)[0] for d in (own, None))
    assert given == expected
    nothing = loss_denominators({"emotion": torch.full((2, 3), -100.0)}, TASKS)
    assert nothing == {"emotion": 0, "tempo": 0}
