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
from torch.nn.modules.batchnorm import _BatchNorm


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


class _SynchronisedBatchNorm(_BatchNorm):
    """A batch norm over the batches of all processes in training; in evaluation the very same.

    Torch's own `SyncBatchNorm` refuses the CPU.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise `(batch_size, num_channels, ...)`; the batch sizes of the processes may differ."""
        if not self.training or num_processes() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        values = input if input.dtype == torch.float64 else input.float()
        axes, channels = (0, *range(2, input.dim())), (1, -1, *[1] * (input.dim() - 2))
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
        """Move the running statistics as torch does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        self.running_var.lerp_(unbiased_variance.to(self.running_var), momentum)


class SynchronisedBatchNorm1d(_SynchronisedBatchNorm, nn.BatchNorm1d):
    """`BatchNorm1d` over all processes."""


class SynchronisedBatchNorm2d(_SynchronisedBatchNorm, nn.BatchNorm2d):
    """`BatchNorm2d` over all processes."""


_SYNCHRONISED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: SynchronisedBatchNorm1d,
    nn.BatchNorm2d: SynchronisedBatchNorm2d,
}


@contextmanager
def synchronised_batch_norm(model: nn.Module) -> Iterator[None]:
    """Every batch norm of a model over all processes, for as long as the context lasts.

    The modules stay the same objects with the same parameters and buffers; only their class changes, and changes back.
    """
    norms = [module for module in model.modules() if type(module) in _SYNCHRONISED] if num_processes() > 1 else []
    kinds = [type(norm) for norm in norms]
    for norm, kind in zip(norms, kinds, strict=True):
        norm.__class__ = _SYNCHRONISED[kind]
    try:
        yield
    finally:
        for norm, kind in zip(norms, kinds, strict=True):
            norm.__class__ = kind


@contextmanager
def known_statistics_for_one_value(model: nn.Module) -> Iterator[None]:
    """Let a batch norm that gets one value per channel use its running statistics.

    An epoch's last batch may be one row, and of an embedding that is one value: it has no variance, and torch refuses
    it. A sequence or a spectrogram of one row has many. With other processes there are more rows.
    """

    def settle(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        norm.train(norm.training and inputs[0].numel() > inputs[0].shape[1])

    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d) and module.training]
    handles = [norm.register_forward_pre_hook(settle) for norm in norms] if num_processes() == 1 else []
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for norm in norms:
            norm.train()
