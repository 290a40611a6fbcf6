# SPDX-License-Identifier: Apache-2.0
"""What several processes must share so that they train as one process would on the whole batch.

`DistributedDataParallel` averages gradients. Two things are left: a loss that is a mean over known labels needs the
number of these in all processes (see `sum_over_processes`), and batch norm the statistics of the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn


def num_processes() -> int:
    """Processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of every process's tensor, in all of them; no gradient flows through it.

    Every process must call it, with a tensor of the same shape.
    """
    total = tensor.detach().clone()
    if num_processes() > 1:
        dist.all_reduce(total)
    return total


class _Sum(torch.autograd.Function):
    """`sum_over_processes` with a gradient: every process's loss depends on every process's tensor."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        return sum_over_processes(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return sum_over_processes(gradient)


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """`BatchNorm2d` over the batches of all processes in training; in evaluation the very same.

    Torch's own `SyncBatchNorm` refuses the CPU.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise `(batch_size, num_channels, height, width)`; the batch sizes of the processes may differ."""
        if not self.training or num_processes() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        values = input if input.dtype == torch.float64 else input.float()
        axes, channels = (0, 2, 3), (1, -1, 1, 1)
        count = values.new_full((1,), values.numel() / values.shape[1])
        *sums, total = _Sum.apply(torch.cat([values.sum(axes), count])).split([values.shape[1], 1])
        mean = sums[0] / total
        centred = values - mean.view(channels)
        # A second exchange, and not the mean of squares less the square of the mean: of a spectrogram in decibels,
        # whose mean is far from zero, that difference would keep few digits.
        variance = _Sum.apply(centred.square().sum(axes)) / total
        self._follow(mean.detach(), variance.detach() * total / (total - 1).clamp(min=1))
        output = centred * torch.rsqrt(variance + self.eps).view(channels)
        if self.weight is not None:
            output = output * self.weight.to(values).view(channels) + self.bias.to(values).view(channels)
        return output.to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: torch.Tensor, unbiased_variance: torch.Tensor) -> None:
        """Move the running statistics as `BatchNorm2d` does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        self.running_var.lerp_(unbiased_variance.to(self.running_var), momentum)


@contextmanager
def synchronised_batch_norm(model: nn.Module) -> Iterator[None]:
    """Every `BatchNorm2d` of a model over all processes, for as long as the context lasts.

    The modules stay the same objects with the same parameters and buffers; only their class changes, and changes back.
    """
    norms = [module for module in model.modules() if type(module) is nn.BatchNorm2d] if num_processes() > 1 else []
    for norm in norms:
        norm.__class__ = SynchronisedBatchNorm2d
    try:
        yield
    finally:
        for norm in norms:
            norm.__class__ = nn.BatchNorm2d
