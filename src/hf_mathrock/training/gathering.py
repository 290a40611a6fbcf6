# SPDX-License-Identifier: Apache-2.0
"""The rows of every process in each of them, with gradients: a contrastive loss needs the whole batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F

from hf_mathrock.training.distributed import num_processes

__all__ = ["gather_rows"]


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """Rows of all processes, those of the first one first; of one process alone the very same tensor.

    Every process must call it and compute the same loss of the result. `DistributedDataParallel` averages gradients
    over processes; so that the average is the gradient of this loss, and not a share of it, the gradient of a process's
    own rows comes back multiplied by the number of processes.

    Args:
        rows: `(num_rows, ...)`; processes may differ in the number of rows, not in the rest of the shape.

    Returns:
        `(sum of num_rows, ...)`.
    """
    if num_processes() == 1:
        return rows
    if not rows.is_floating_point():
        return _gathered(rows)[0]
    return _GatheredRows.apply(rows)


class _GatheredRows(torch.autograd.Function):
    """No exchange is needed on the way back: each process has the whole gradient, and needs its own rows of it."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        gathered, ctx.start = _gathered(rows)
        ctx.num_rows = len(rows)
        return gathered

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient[ctx.start : ctx.start + ctx.num_rows] * num_processes()


def _gathered(rows: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Rows of all processes, and where this one's begin."""
    size = torch.tensor([len(rows)], device=rows.device)
    sizes = [torch.empty_like(size) for _ in range(num_processes())]
    dist.all_gather(sizes, size)
    counts = torch.cat(sizes).tolist()
    # A collective wants equal shapes; the last batch of an epoch may have none.
    padded = F.pad(rows.detach(), (0, 0) * (rows.dim() - 1) + (0, max(counts) - len(rows))).contiguous()
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    whole = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
    return whole, sum(counts[: dist.get_rank()])
