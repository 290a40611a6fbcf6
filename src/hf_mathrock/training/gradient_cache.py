# SPDX-License-Identifier: Apache-2.0
"""A loss over many rows in the memory of a few: each is embedded twice, and only a few at a time with gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

__all__ = ["cached_rows"]


def cached_rows(
    passes: Sequence[Callable[[], torch.Tensor]],
    no_sync: Callable[[], AbstractContextManager] = nullcontext,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Rows of several passes, one after the other, as if computed at once; no pass is kept for the way back.

    On the way back each pass is made again with gradients, and with the random numbers it had. Values and gradients are
    those of the one large batch, so a loss may compare all rows with all. Gradients go into leaves only, such as a
    model's parameters.

    Args:
        passes: Each gives `(num_rows, size)`, the same whenever it is called with the same random numbers.
        no_sync: Context in which gradients are not yet exchanged between processes; the last pass is made outside it.
        device: Where the passes draw random numbers, beside the CPU.

    Returns:
        `(sum of num_rows, size)`.

    Source: Gao et al., "Scaling deep contrastive learning batch size under memory limited setup" (2021).
    """
    if not torch.is_grad_enabled():
        return torch.cat([embed() for embed in passes])
    return _CachedRows.apply(torch.ones((), requires_grad=True), passes, no_sync, torch.device(device))


class _CachedRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, leaf: torch.Tensor, passes: Any, no_sync: Any, device: torch.device) -> torch.Tensor:
        ctx.passes, ctx.no_sync, ctx.device, ctx.random_states, parts = passes, no_sync, device, [], []
        for embed in passes:
            ctx.random_states.append(_random_state(device))
            parts.append(embed().detach())
        ctx.lengths = [len(part) for part in parts]
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[None, ...]:
        pieces = gradient.split(ctx.lengths)
        devices = [ctx.device] if ctx.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.enable_grad():
            for index, (embed, piece) in enumerate(zip(ctx.passes, pieces, strict=True)):
                _set_random_state(ctx.random_states[index], ctx.device)
                with nullcontext() if index == len(pieces) - 1 else ctx.no_sync():
                    torch.autograd.backward(embed(), piece)
        return None, None, None, None


def _random_state(device: torch.device) -> tuple[torch.Tensor, torch.Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_random_state(state: tuple[torch.Tensor, torch.Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
