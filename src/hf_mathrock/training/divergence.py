# SPDX-License-Identifier: Apache-2.0
"""A loss that is no number: what it came from, in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

NUM_NAMED = 8


class NonFiniteLossError(ValueError, RuntimeError):
    """Training stopped before an update that would have ruined the weights.

    A `ValueError` too: its cause lies in data or settings, and the command line says it in one line.
    """


def non_finite_loss(
    model: nn.Module,
    inputs: Mapping[str, Any],
    labels: Mapping[str, torch.Tensor],
    task_logits: Mapping[str, torch.Tensor],
    task_losses: Mapping[str, torch.Tensor],
    *,
    step: int,
    files: Sequence[str] | None = None,
    class_weights: Mapping[str, torch.Tensor] | None = None,
) -> NonFiniteLossError:
    """The error for a loss that is NaN or infinite.

    Args:
        model: With the weights that gave the loss.
        inputs: What it heard.
        labels: Per task, as the objective got them.
        task_logits: Per task `(num_clips, num_labels)`.
        task_losses: Per task, a scalar.
        step: Number of the optimiser step under way, from 1.
        files: Of the batch's rows; `None`: unknown.
        class_weights: Per single-label task.
    """
    values = {name: loss.item() for name, loss in task_losses.items() if not torch.isfinite(loss)}
    losses = ", ".join(f"that of {name!r} is {value}" for name, value in values.items()) or "each task's is finite"
    cause, rows, advice = _cause(model, inputs, labels, task_logits, class_weights or {})
    return NonFiniteLossError(
        f"The loss of training step {step} is not finite ({losses}): {cause}. {_batch(files, rows)}. Nothing was "
        f"updated, and checkpoints stay as they are. {advice}"
    )


def non_finite_gradient(model: nn.Module, *, step: int, files: Sequence[str] | None = None) -> NonFiniteLossError:
    """The error for a finite loss with a gradient that is NaN or infinite."""
    names = [name for name, p in model.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
    # Its norm can overflow where no entry does.
    where = (names[0] if names else "its norm") + (f" and {len(names) - 1} more parameters" if len(names) > 1 else "")
    return NonFiniteLossError(
        f"The gradient of training step {step} is not finite, in {where}, though the loss is. {_batch(files, None)}. "
        "Nothing was updated, and checkpoints stay as they are. Try a lower learning rate, or train in full precision "
        "(no fp16, no bf16)."
    )


def _cause(
    model: nn.Module,
    inputs: Mapping[str, Any],
    labels: Mapping[str, torch.Tensor],
    task_logits: Mapping[str, torch.Tensor],
    class_weights: Mapping[str, torch.Tensor],
) -> tuple[str, torch.Tensor | None, str]:
    """The first thing on the way from files to loss that is not finite; which rows have it; what to do."""
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point() and not torch.isfinite(value).all():
            return f"the inputs were not, in `{name}`", _bad_rows(value), "Look at these files, or leave them out."
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            return (
                f"the weights were not, in {name}, although the inputs were finite",
                None,
                "Go back to an earlier checkpoint, with a lower learning rate.",
            )
    for task, logits in task_logits.items():
        if not torch.isfinite(logits).all():
            return (
                f"the logits of {task!r} were not, although inputs and weights were finite",
                _bad_rows(logits),
                "Try a lower learning rate, or train in full precision (no fp16, no bf16); then look at these files.",
            )
    for task, targets in labels.items():
        if not torch.isfinite(targets).all():
            return f"the labels of {task!r} were not", _bad_rows(targets), "Correct the labels of these files."
    for task, weights in class_weights.items():
        if not torch.isfinite(weights).all():
            return f"the class weights of {task!r} were not", None, "Train with class_weights='none'."
    return (
        "inputs, weights, logits and labels were finite, so it overflowed",
        None,
        "Try a lower learning rate, train in full precision (no fp16, no bf16), and check the task weights.",
    )


def _bad_rows(values: torch.Tensor) -> torch.Tensor:
    """Which rows are not finite, `(num_rows,)`."""
    return ~torch.isfinite(values).reshape(len(values), -1).all(dim=1)


def _batch(files: Sequence[str] | None, bad_rows: torch.Tensor | None) -> str:
    """The files at fault, or all of the batch where it cannot be said which."""
    if files is None:
        return "Which files the batch holds is unknown: the collator gives no `files`"
    named, whose = list(files), "Files of the batch"
    if bad_rows is not None and len(bad_rows) == len(files) and not bad_rows.all():
        named, whose = [file for file, bad in zip(files, bad_rows.tolist(), strict=True) if bad], "Files at fault"
    more = f" and {len(named) - NUM_NAMED} more" if len(named) > NUM_NAMED else ""
    return f"{whose}: {', '.join(map(str, named[:NUM_NAMED]))}{more}"
