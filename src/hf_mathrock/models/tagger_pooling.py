# SPDX-License-Identifier: Apache-2.0
"""Pooling that learns how far from a mean towards a maximum it should be, and the 1-D back end that ends in it."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

NORMS = ("group", "batch")


def per_channel_norm(norm: str, num_channels: int, eps: float = 1e-5) -> nn.Module:
    """A norm whose scale and shift are per channel, so that a clip may have any length.

    Args:
        norm: "group" standardises each clip over its channels and its time: a LayerNorm over both, whose scale and
            shift do not change with time. "batch" is batch norm.
        num_channels: Channels of its input.
        eps: Added to the variance.

    Raises:
        ValueError: There is no norm of that name.
    """
    if norm not in NORMS:
        raise ValueError(f"`norm` is {norm!r}; allowed: {', '.join(map(repr, NORMS))}.")
    made = nn.GroupNorm(1, num_channels, eps=eps) if norm == "group" else nn.BatchNorm1d(num_channels, eps=eps)
    # By its name a model knows which norms must not be kept in half precision.
    return nn.Sequential(OrderedDict({f"{norm}_norm": made}))


class AutoPool(nn.Module):
    """Mean over time, weighted by a softmax over time whose sharpness is learnt.

    `sum_t softmax_t(alpha * a)[t] * v[t]`: the mean at `alpha = 0`, softmax pooling at 1, and the largest value (where
    the input pools itself) in the limit.

    Started at `alpha = 0`, as the adaptive attention of MOVE is, a split pool is stuck at first: the weights do not
    depend on `a`, so that no gradient reaches the layer which computes it until `alpha` has moved by itself. Hence 1.

    Args:
        channels: Channels of the input.
        split: Of the input, the first half are the values `v` and the second half is `a`; the output has half the
            channels. Otherwise the input is both.
        per_channel: One `alpha` for each channel of the output; otherwise one for all.
        initial_alpha: Where `alpha` starts.

    Raises:
        ValueError: A number of channels that cannot be split.

    Source: McFee, Salamon & Bello, "Adaptive pooling operators for weakly labeled sound event detection" (2018); with
    the split, Yesiler, Serra & Gomez, "Accurate and scalable version identification using musically-motivated
    embeddings" (2020).
    """

    def __init__(
        self, channels: int, split: bool = False, per_channel: bool = True, initial_alpha: float = 1.0
    ) -> None:
        super().__init__()
        if split and channels % 2:
            raise ValueError(f"`split` divides the channels into values and weights: {channels} is odd.")
        self.split = split
        self.out_channels = channels // 2 if split else channels
        self.initial_alpha = initial_alpha
        self.alpha = nn.Parameter(torch.empty(self.out_channels if per_channel else 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.constant_(self.alpha, self.initial_alpha)

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Pool over time.

        Args:
            hidden_states: `(batch_size, channels, num_frames)`.
            mask: `(batch_size, num_frames)`, true where a frame counts; `None`: all of them.

        Returns:
            `(batch_size, out_channels)`; zeros for a row without a single valid frame.
        """
        values, weights = hidden_states.chunk(2, dim=1) if self.split else (hidden_states, hidden_states)
        # In single precision: `alpha` grows, and half precision overflows where a softmax does not.
        scores = self.alpha.float()[:, None] * weights.float()
        if mask is not None:
            outside = ~mask.bool()[:, None]
            scores = scores.masked_fill(outside, torch.finfo(scores.dtype).min)
            values = values.masked_fill(outside, 0.0)
        return (scores.softmax(dim=-1) * values.float()).sum(dim=-1).to(hidden_states.dtype)

    def extra_repr(self) -> str:
        return f"out_channels={self.out_channels}, split={self.split}, num_alphas={self.alpha.numel()}"


class _Convolution(nn.Module):
    """Convolution, max pooling, norm, LeakyReLU."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int, pool: int, norm: str, eps: float) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, channels, kernel_size)
        self.pool = nn.MaxPool1d(pool)
        self.norm = per_channel_norm(norm, channels, eps)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(self.norm(self.pool(self.conv(hidden_states))))


class _Pointwise(nn.Module):
    """A linear layer for each frame, batch norm over its channels, LeakyReLU."""

    def __init__(self, in_channels: int, channels: int, eps: float) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, channels)
        self.batch_norm = nn.BatchNorm1d(channels, eps=eps)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(self.batch_norm(self.linear(hidden_states.transpose(1, 2)).transpose(1, 2)))


class TemporalBackend(nn.Module):
    """The back end of the tutorial's four front ends: convolutions, a small network for each frame, AutoPool.

    The tutorial's LayerNorms have a scale and shift for every frame, which ties the model to one length. With
    `norm="group"` they are the same function at the start of training, and hold one per channel.

    Args:
        in_channels: Channels of the input.
        conv_channels: Of every convolution.
        num_convs: How many convolutions, each followed by max pooling, norm and LeakyReLU.
        kernel_size: Frames of a convolution; nothing is padded.
        pool: Frames of a max pooling.
        norm: See `per_channel_norm`; also before the first linear layer.
        linear_channels: Of every linear layer; an even number, half of which are the output.
        num_linear: How many linear layers, each followed by batch norm and LeakyReLU.
        per_channel: See `AutoPool`; the tutorial has one `alpha` for all channels (false).
        initial_alpha: See `AutoPool`; the tutorial starts at 0.
        batch_norm_eps: Added to the variance in every norm.

    Raises:
        ValueError: An option is not possible; the message names it.

    Source: "Deep Learning 101 for Audio-based MIR" (tutorial at ISMIR 2024), its chapter on auto-tagging.
    """

    def __init__(
        self,
        in_channels: int,
        conv_channels: int = 60,
        num_convs: int = 2,
        kernel_size: int = 5,
        pool: int = 3,
        norm: str = "group",
        linear_channels: int = 128,
        num_linear: int = 3,
        per_channel: bool = True,
        initial_alpha: float = 1.0,
        batch_norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        widths = [in_channels] + [conv_channels] * num_convs
        self.convs = nn.ModuleList(
            _Convolution(i, o, kernel_size, pool, norm, batch_norm_eps)
            for i, o in zip(widths[:-1], widths[1:], strict=True)
        )
        self.norm = per_channel_norm(norm, widths[-1], batch_norm_eps)
        widths = [widths[-1]] + [linear_channels] * num_linear
        self.linears = nn.ModuleList(
            _Pointwise(i, o, batch_norm_eps) for i, o in zip(widths[:-1], widths[1:], strict=True)
        )
        self.pooling = AutoPool(widths[-1], split=True, per_channel=per_channel, initial_alpha=initial_alpha)
        self.out_channels = self.pooling.out_channels
        self.kernel_size, self.pool = kernel_size, pool

    @property
    def minimum_frames(self) -> int:
        """Frames that leave one at the end."""
        frames = 1
        for _ in self.convs:
            frames = frames * self.pool + self.kernel_size - 1
        return frames

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Summarise a sequence.

        Args:
            hidden_states: `(batch_size, in_channels, num_frames)`.

        Returns:
            `(batch_size, out_channels)`.

        Raises:
            ValueError: There are fewer frames than the convolutions need.
        """
        return self.forward_with_states(hidden_states)[0]

    def forward_with_states(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """As `forward`, and the sequence after every convolution and every linear layer."""
        if hidden_states.shape[-1] < self.minimum_frames:
            raise ValueError(
                f"{hidden_states.shape[-1]} frames reach the temporal back end, whose {len(self.convs)} convolutions "
                f"need {self.minimum_frames}: the audio is too short, or the stages before shrink it too much."
            )
        states: list[torch.Tensor] = []
        for conv in self.convs:
            hidden_states = conv(hidden_states)
            states.append(hidden_states)
        hidden_states = self.norm(hidden_states)
        for linear in self.linears:
            hidden_states = linear(hidden_states)
            states.append(hidden_states)
        return self.pooling(hidden_states), tuple(states)
