# SPDX-License-Identifier: Apache-2.0
"""Task weights that are learned: the more uncertain a task, the less it counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from hf_mathrock.training.distributed import num_processes, sum_over_processes


class UncertaintyWeights(nn.Module):
    """Weights `exp(-s)` of the tasks' losses, with one learned `s = log σ²` per task.

    The sum is `Σ exp(-s_t) L_t + s_t / 2`: at its minimum a task's weight is `1 / (2 L_t)`, so that tasks with large
    losses do not drown the others. A task counts only in steps that have labels of it; otherwise its second term alone
    would drive the weight up.

    It belongs to the trainer: a model never knows its trainer.

    Args:
        task_names: In the order of `MathRockConfig.tasks`.

    Source: Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and
    Semantics" (2018), eq. 10, for classification: `L / σ² + log σ`. Every task here classifies.
    """

    def __init__(self, task_names: Sequence[str]) -> None:
        super().__init__()
        self.task_names = list(task_names)
        self.log_variances = nn.Parameter(torch.zeros(len(self.task_names)))

    def forward(
        self, task_losses: Mapping[str, torch.Tensor], denominators: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """The weighted sum.

        Args:
            task_losses: Every task's own loss.
            denominators: As `loss_denominators` gives them for the whole step; 0: the task does not count.

        Returns:
            A scalar, which may be negative.
        """
        terms = []
        for name, log_variance in zip(self.task_names, self.log_variances, strict=True):
            counts = denominators[name].to(log_variance) > 0
            terms.append((torch.exp(-log_variance) * task_losses[name] + log_variance / 2) * counts)
        return torch.stack(terms).sum()

    def average_gradients(self) -> None:
        """Make the gradients of all processes their mean, as `DistributedDataParallel` does for a model."""
        gradient = self.log_variances.grad
        if gradient is not None and num_processes() > 1:
            gradient.copy_(sum_over_processes(gradient) / num_processes())

    def weights(self) -> dict[str, float]:
        """The weight of each task now."""
        return dict(zip(self.task_names, torch.exp(-self.log_variances.detach()).tolist(), strict=True))

    def state(self) -> dict[str, float]:
        """Every task's `s`, exact: a float32 survives its decimal form."""
        return dict(zip(self.task_names, self.log_variances.tolist(), strict=True))

    @torch.no_grad()
    def restore(self, state: Mapping[str, float]) -> None:
        """Take over what `state` gave.

        Raises:
            ValueError: It is of other tasks.
        """
        if sorted(state) != sorted(self.task_names):
            raise ValueError(
                f"The saved task weights are of the tasks {sorted(state)}, the model has {sorted(self.task_names)}: "
                "the checkpoint is of another model."
            )
        self.log_variances.copy_(torch.tensor([state[name] for name in self.task_names]))
