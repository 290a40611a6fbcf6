# SPDX-License-Identifier: Apache-2.0
"""Where a token stands in its track: distances for ALiBi, turns for RoPE, and places to be added.

Positions are whole numbers, `(..., 2)`: column (time) and row (frequency) of the patch, in patches. The class token has
none.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init


def grid_positions(num_rows: int, num_columns: int, device: torch.device | None = None) -> torch.Tensor:
    """Positions of all patches of a spectrogram, `(num_rows * num_columns, 2)`, row by row from the lowest bins."""
    rows = torch.arange(num_rows, device=device).repeat_interleave(num_columns)
    columns = torch.arange(num_columns, device=device).repeat(num_rows)
    return torch.stack([columns, rows], dim=-1)


def alibi_slopes(num_heads: int, kind: str) -> torch.Tensor:
    """How fast the scores of each head fall with distance, `(num_heads,)`, float32.

    For a power of two, n, both kinds are the geometric sequence 2^(-8h/n), h = 1 to n. Otherwise they begin with the
    sequence of the next lower power; "canonical" goes on with every second slope of the sequence twice as long, and
    "halving" by halving the last: for six heads 1/4, 1/16, 1/64, 1/256, and then 1/2, 1/8 or 1/512, 1/1024. The latter
    reach over minutes.

    Source: Press, Smith and Lewis, "Train short, test long" (2022); "halving" as in the code of Myna with relative
    positions, which computes it and leaves it unused.
    """
    if num_heads < 1:
        raise ValueError(f"`num_heads` is {num_heads}; there is at least one.")
    if kind not in ("canonical", "halving"):
        raise ValueError(f"`kind` is {kind!r}; allowed: 'canonical', 'halving'.")
    lower = 2 ** int(math.log2(num_heads))
    slopes = [2.0 ** (-8.0 * head / lower) for head in range(1, lower + 1)]
    while len(slopes) < num_heads:
        if kind == "canonical":
            slopes.append(2.0 ** (-8.0 * (2 * (len(slopes) - lower) + 1) / (2 * lower)))
        else:
            slopes.append(slopes[-1] / 2)
    return torch.tensor(slopes)


class AlibiSlopes(nn.Module):
    """The slope of each head; learned ones are kept positive by a softplus."""

    def __init__(self, num_heads: int, kind: str) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.kind = kind
        self.raw = nn.Parameter(torch.empty(num_heads)) if kind == "learned" else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Begin learned slopes at "halving"."""
        if self.raw is not None:
            init.copy_(self.raw, torch.expm1(alibi_slopes(self.num_heads, "halving")).log())

    def forward(self, device: torch.device) -> torch.Tensor:
        """`(num_heads,)`, float32."""
        if self.raw is not None:
            return F.softplus(self.raw.float())
        return alibi_slopes(self.num_heads, self.kind).to(device)


def sincos_2d(positions: torch.Tensor, hidden_size: int) -> torch.Tensor:
    """Vectors to be added to tokens, `(..., hidden_size)`, float32.

    Sines and cosines of the column, then of the row, at `hidden_size // 4` frequencies from 1 to 1/10000 each, as in
    the Myna of 2025.
    """
    quarter = hidden_size // 4
    steps = torch.arange(quarter, dtype=torch.float32, device=positions.device)
    frequencies = 10_000.0 ** (-steps / (quarter - 1))
    time = positions[..., 0, None].float() * frequencies
    row = positions[..., 1, None].float() * frequencies
    return torch.cat([time.sin(), time.cos(), row.sin(), row.cos()], dim=-1)


def rope_angles(positions: torch.Tensor, head_size: int, base: float) -> torch.Tensor:
    """By how much each pair of a head's channels turns, `(..., head_size // 2)`, float32, less whole turns.

    The first half of the pairs turns with the column, the second with the row; pair j of a half of n pairs by
    `position * base^(-j / n)`.
    """
    pairs = head_size // 4
    # In single precision the angle of a column an hour into a track is good to three decimals, and a shift would show.
    exact = torch.float32 if positions.device.type == "mps" else torch.float64
    steps = torch.arange(pairs, dtype=exact, device=positions.device)
    rates = base ** (-steps / pairs)
    angles = torch.cat([positions[..., 0, None].to(exact) * rates, positions[..., 1, None].to(exact) * rates], dim=-1)
    return torch.remainder(angles, 2 * math.pi).float()


def rotated(states: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Turn pairs of neighbouring channels.

    Args:
        states: `(batch_size, num_heads, num_tokens, head_size)`.
        angles: `(batch_size or 1, num_tokens, head_size // 2)`.

    Returns:
        As `states`, with the same layout of channels.
    """
    cosine, sine = angles.cos().unsqueeze(1), angles.sin().unsqueeze(1)
    even, odd = states.float().unflatten(-1, (-1, 2)).unbind(dim=-1)
    turned = torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1)
    return turned.flatten(-2).to(states.dtype)
