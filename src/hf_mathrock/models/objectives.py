# SPDX-License-Identifier: Apache-2.0
"""Objectives: logits and labels in, a loss out. Unknown labels (-100) never count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

UNKNOWN = -100
"""A label nobody gave: an index of a single-label task, or any entry of a multi-hot row."""


def focal_binary_cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    gamma: float = 2.0,
    label_smoothing: float = 0.0,
    denominator: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean focal binary cross-entropy over the known entries.

    Each entry's cross-entropy against the smoothed target `y (1 - s) + s / 2` is scaled by `(1 - p_t) ** gamma`, where
    `p_t` is the probability the model gives to the unsmoothed target.

    Args:
        logits: `(num_clips, num_labels)`.
        targets: Same shape, 0 or 1, or -100 where unknown.
        gamma: Focusing exponent, >= 0.
        label_smoothing: In [0, 1).
        denominator: What the sum over the known entries is divided by; `None`: their number.

    Returns:
        A scalar; 0, with a gradient of 0, when nothing is known.

    Source: Lin et al., "Focal Loss for Dense Object Detection" (2017), eq. 4, without the class balance α.
    """
    known = targets != UNKNOWN
    positive = (targets > 0.5).to(logits.dtype)
    smoothed = positive * (1 - label_smoothing) + label_smoothing / 2
    cross_entropy = F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")
    # 1 - p_t = sigmoid(-logit) for a positive, sigmoid(logit) for a negative: no cancellation near 1.
    miss = torch.sigmoid(logits * (1 - 2 * positive))
    losses = cross_entropy * miss**gamma * known
    return _quotient(losses.sum(), known.sum() if denominator is None else denominator)


def class_weighted_cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    class_weights: torch.Tensor | None = None,
    denominator: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross-entropy over the known rows, averaged with the weight of each row's class.

    Args:
        logits: `(num_clips, num_labels)`.
        targets: `(num_clips,)` class indices, or -100 where unknown.
        class_weights: `(num_labels,)` or `None` for equal weights.
        denominator: What the weighted sum over the known rows is divided by; `None`: their total weight.

    Returns:
        A scalar; 0, with a gradient of 0, when nothing is known.
    """
    classes, weights = _classes_and_weights(targets, None if class_weights is None else class_weights.to(logits))
    losses = F.cross_entropy(logits, classes, reduction="none") * weights
    return _quotient(losses.sum(), weights.sum() if denominator is None else denominator)


def loss_denominators(
    labels: Mapping[str, torch.Tensor],
    tasks: Sequence[Mapping[str, Any]],
    *,
    class_weights: Mapping[str, torch.Tensor] | None = None,
) -> dict[str, torch.Tensor]:
    """What `multi_task_focal_loss` divides each task's sum of losses by.

    A mean of means over parts of unequal size is not the mean over all. Where a batch is spread over processes or
    steps, the denominators of its parts are added up and given to each part's loss: then these add up to the whole's.

    Args:
        labels: As for `multi_task_focal_loss`.
        tasks: `MathRockConfig.tasks`.
        class_weights: Per single-label task, `(num_labels,)`.

    Returns:
        Per task a float32 scalar: the number of known entries of a multi-label task, the total class weight of the
        known rows of a single-label one; 0 for a task without labels.
    """
    denominators = {}
    for task in tasks:
        targets = labels.get(task["name"])
        if targets is None:
            denominators[task["name"]] = torch.zeros(())
        elif task["type"] == "multi_label":
            denominators[task["name"]] = (targets != UNKNOWN).sum().float()
        else:
            weights = (class_weights or {}).get(task["name"])
            weights = None if weights is None else weights.float().to(targets.device)
            denominators[task["name"]] = _classes_and_weights(targets, weights)[1].float().sum()
    return denominators


def _classes_and_weights(
    targets: torch.Tensor, class_weights: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Class and weight of every row; an unknown one is of class 0 and weighs nothing."""
    known = targets != UNKNOWN
    classes = torch.where(known, targets, 0).long()
    return classes, known.float() if class_weights is None else class_weights[classes] * known


def _quotient(total: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    # Where nothing is known, or all weights are zero, so is the sum of losses: any divisor but zero will do.
    denominator = denominator.to(total)
    return total / torch.where(denominator > 0, denominator, 1.0)


def multi_task_focal_loss(
    task_logits: Mapping[str, torch.Tensor],
    labels: Mapping[str, torch.Tensor],
    tasks: Sequence[Mapping[str, Any]],
    *,
    gamma: float = 2.0,
    label_smoothing: float = 0.1,
    class_weights: Mapping[str, torch.Tensor] | None = None,
    task_weights: Mapping[str, float | torch.Tensor] | None = None,
    denominators: Mapping[str, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The MathRock objective: focal BCE for multi-label tasks, class-weighted cross-entropy for the others.

    Args:
        task_logits: Per task `(num_clips, num_labels)`.
        labels: Per task, multi-hot `(num_clips, num_labels)` or class indices `(num_clips,)`; -100 where unknown.
            A task without an entry does not count.
        tasks: `MathRockConfig.tasks`.
        gamma: Focusing exponent of the multi-label tasks.
        label_smoothing: Smoothing of the multi-label targets.
        class_weights: Per single-label task, `(num_labels,)`.
        task_weights: Factor of each task in the sum; tasks not named count 1.
        denominators: Per task, what its sum of losses is divided by; `None`: this batch's own, see
            `loss_denominators`.

    Returns:
        The weighted sum (a scalar) and every task's own loss before weighting.

    Raises:
        ValueError: Labels name no task of the model, or have the wrong shape.

    Source: "Neural Math Rock" (the published training code): γ 2, smoothing 0.1, unweighted sum of the four tasks.
    """
    names = [task["name"] for task in tasks]
    if unknown := [name for name in labels if name not in names]:
        raise ValueError(f"Labels for {unknown}, but the model's tasks are {names}.")
    losses: dict[str, torch.Tensor] = {}
    for task in tasks:
        name, targets = task["name"], labels.get(task["name"])
        logits = task_logits[name].float()
        if targets is None:
            losses[name] = logits.sum() * 0.0
            continue
        expected = logits.shape if task["type"] == "multi_label" else logits.shape[:1]
        if targets.shape != expected:
            raise ValueError(f"Labels of {name!r} have shape {tuple(targets.shape)}, expected {tuple(expected)}.")
        denominator = None if denominators is None else denominators[name]
        if task["type"] == "multi_label":
            losses[name] = focal_binary_cross_entropy(
                logits, targets, gamma=gamma, label_smoothing=label_smoothing, denominator=denominator
            )
        else:
            weights_of_classes = (class_weights or {}).get(name)
            losses[name] = class_weighted_cross_entropy(
                logits, targets, class_weights=weights_of_classes, denominator=denominator
            )
    weights = task_weights or {}
    total = torch.stack([losses[name] * weights.get(name, 1.0) for name in names]).sum()
    return total, losses


def losses_of_forward(
    task_logits: Mapping[str, torch.Tensor],
    labels: Mapping[str, torch.Tensor] | torch.Tensor | None,
    config: Any,
) -> tuple[torch.Tensor | None, dict[str, torch.Tensor] | None]:
    """What a model's `forward` returns as `loss` and `task_losses`.

    Args:
        task_logits: Per task `(num_clips, num_labels)`.
        labels: As for `multi_task_focal_loss`, or a bare tensor with the first task's; `None`: there is no loss.
        config: A `TaskConfig`: its tasks, `focal_gamma` and `label_smoothing`.

    Returns:
        The sum over the tasks and each task's own, or `None` and `None`.
    """
    if labels is None:
        return None, None
    if isinstance(labels, torch.Tensor):
        labels = {config.task_names[0]: labels}
    return multi_task_focal_loss(
        task_logits, labels, config.tasks, gamma=config.focal_gamma, label_smoothing=config.label_smoothing
    )
