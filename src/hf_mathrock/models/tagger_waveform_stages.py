# SPDX-License-Identifier: Apache-2.0
"""Four first stages for one back end: three that hear samples, and one that reads a whole mel spectrum at once.

Each is a whole front end of the auto-tagging chapter of "Deep Learning 101 for Audio-based MIR" (tutorial at ISMIR
2024), up to its LeakyReLU. Convolutions are the tutorial's; three things are not:

- Its LayerNorms have a scale and shift for every frame, most of the parameters of two models, and hold a model to
  one length. Here they are per channel (`norm`): with "group" the same function at the start of training, for any
  length. The norm over the input is part of the stage (`input_norm`).
- Its temporal convolutions hear 31 samples, 1.4 ms. The default here hears 2062 samples, 94 ms.
- It gave the spectrogram 3 s and each waveform 145 ms to decide upon, and compared the results. `HYBRID_PRESETS` gives
  all four 2.97 s; `input_samples=3200` is the tutorial's patch, and needs no other change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from operator import mul
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

from .tagger_pooling import per_channel_norm


class _FrontEnd(nn.Module):
    """Input norm, whatever the subclass does, max pooling over time, norm, LeakyReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, pool: int, norm: str, input_norm: bool, batch_norm_eps: float
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.input_norm = nn.GroupNorm(1, in_channels, eps=batch_norm_eps) if input_norm else nn.Identity()
        self.pool = nn.MaxPool1d(pool) if pool > 1 else nn.Identity()
        self.norm = per_channel_norm(norm, out_channels, batch_norm_eps)

    def sequence(self, inputs: torch.Tensor) -> torch.Tensor:
        """What stands between the input norm and the pooling."""
        raise NotImplementedError

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(self.norm(self.pool(self.sequence(self.input_norm(inputs)))))


class WaveConv(_FrontEnd):
    """One strided convolution over the waveform.

    Args:
        in_channels: Channels of the input, 1 for a waveform.
        channels: Filters.
        kernel_size: Samples of a filter.
        stride: Samples between its places.
        pool: Frames of the max pooling after it; 1: none.
        norm: See `per_channel_norm`.
        input_norm: Standardise each clip first.
        batch_norm_eps: Added to the variance in every norm.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 80,
        kernel_size: int = 251,
        stride: int = 15,
        pool: int = 3,
        norm: str = "group",
        input_norm: bool = True,
        batch_norm_eps: float = 1e-5,
    ) -> None:
        super().__init__(in_channels, channels, pool, norm, input_norm, batch_norm_eps)
        self.conv = nn.Conv1d(in_channels, channels, kernel_size, stride=stride)

    def sequence(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.conv(inputs)


class FullHeightConv(_FrontEnd):
    """A convolution as high as the spectrogram, which leaves a sequence.

    Args:
        in_channels: Channels of the input, 1 for a mel spectrogram.
        channels: Filters.
        height: Mel bands, all of which a filter spans.
        width: Frames of a filter.
        pool: Frames of the max pooling after it; 1: none.
        norm: See `per_channel_norm`.
        input_norm: Standardise each clip first.
        batch_norm_eps: Added to the variance in every norm.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 80,
        height: int = 128,
        width: int = 5,
        pool: int = 1,
        norm: str = "group",
        input_norm: bool = True,
        batch_norm_eps: float = 1e-5,
    ) -> None:
        super().__init__(in_channels, channels, pool, norm, input_norm, batch_norm_eps)
        self.conv = nn.Conv2d(in_channels, channels, (height, width))

    def sequence(self, inputs: torch.Tensor) -> torch.Tensor:
        """`(batch_size, in_channels, height, num_frames)` to `(batch_size, channels, num_frames - width + 1)`."""
        height = self.conv.kernel_size[0]
        if inputs.shape[2] != height:
            raise ValueError(
                f"The filters of this `full_height_conv` are {height} bands high, its input {inputs.shape[2]}: give "
                "the stage a `height` equal to the feature's `num_mel_bins`."
            )
        return self.conv(inputs).squeeze(2)


@lru_cache(maxsize=8)
def _mel_spaced_hz(num_edges: int, low_hz: float, high_hz: float) -> np.ndarray:
    """Frequencies at equal steps of the HTK mel scale."""
    low, high = (2595.0 * math.log10(1.0 + hz / 700.0) for hz in (low_hz, high_hz))
    return 700.0 * (10.0 ** (np.linspace(low, high, num_edges) / 2595.0) - 1.0)


@lru_cache(maxsize=8)
def _hamming(kernel_size: int) -> np.ndarray:
    """A symmetric Hamming window, 1 in the middle; float32."""
    return np.hamming(kernel_size).astype(np.float32)


class Sinc(_FrontEnd):
    """Band-pass filters of which only the two band edges are learnt.

    A filter is the difference of two low-passes, `2 f2 sinc(2 f2 t) - 2 f1 sinc(2 f1 t)`, under a Hamming window and
    divided by twice its bandwidth, with `f1 = minimum_low_hz + |p1|` and
    `f2 = min(f1 + minimum_band_hz + |p2|, sampling_rate / 2)`. Filters start on adjacent bands of the mel scale. What
    follows takes the magnitude of their outputs.

    Edges are kept in units of `unit_hz`: optimisers move a parameter by about the learning rate in a step, and an edge
    in Hz would hardly leave its place. The tutorial and SincNet itself use 1.

    Args:
        in_channels: 1, a waveform.
        channels: Filters, each of two parameters.
        kernel_size: Samples of a filter; an even number is raised by one, so that a filter has a middle.
        stride: Samples between its places.
        sampling_rate: Hz of the waveform; must be the config's.
        minimum_low_hz: Least lower edge.
        minimum_band_hz: Least bandwidth.
        unit_hz: Hz of a parameter's unit.
        pool: Frames of the max pooling after the magnitude; 1: none.
        norm: See `per_channel_norm`.
        input_norm: Standardise each clip first.
        batch_norm_eps: Added to the variance in every norm.

    Raises:
        ValueError: The input is no waveform.

    Source: Ravanelli & Bengio, "Speaker recognition from raw waveform with SincNet" (2018).
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 80,
        kernel_size: int = 251,
        stride: int = 1,
        sampling_rate: int = 22_050,
        minimum_low_hz: float = 50.0,
        minimum_band_hz: float = 50.0,
        unit_hz: float = 1000.0,
        pool: int = 3,
        norm: str = "group",
        input_norm: bool = True,
        batch_norm_eps: float = 1e-5,
    ) -> None:
        if in_channels != 1:
            raise ValueError(f"`sinc` filters one waveform; its input has {in_channels} channels. Put it first.")
        super().__init__(in_channels, channels, pool, norm, input_norm, batch_norm_eps)
        self.kernel_size = kernel_size + 1 - kernel_size % 2
        self.stride = stride
        self.sampling_rate = sampling_rate
        self.minimum_low_hz, self.minimum_band_hz, self.unit_hz = minimum_low_hz, minimum_band_hz, unit_hz
        self.p1 = nn.Parameter(torch.empty(channels, 1))
        self.p2 = nn.Parameter(torch.empty(channels, 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        edges = _mel_spaced_hz(len(self.p1) + 1, 30.0, self.sampling_rate / 2 - 100.0) / self.unit_hz
        with torch.no_grad():
            init.copy_(self.p1, torch.from_numpy(edges[:-1, None]))
            init.copy_(self.p2, torch.from_numpy(np.diff(edges)[:, None]))

    def band_edges(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Lower and upper edge of every filter in Hz, each `(channels, 1)`, float32."""
        low = self.minimum_low_hz + self.unit_hz * self.p1.float().abs()
        high = low + self.minimum_band_hz + self.unit_hz * self.p2.float().abs()
        return low, high.clamp(self.minimum_low_hz, self.sampling_rate / 2)

    def filters(self) -> torch.Tensor:
        """Impulse responses, `(channels, kernel_size)`, float32; 1 in the middle."""
        half = self.kernel_size // 2
        time = torch.arange(-half, half + 1, device=self.p1.device, dtype=torch.float32) / self.sampling_rate
        low, high = self.band_edges()
        responses = 2 * high * torch.sinc(2 * high * time) - 2 * low * torch.sinc(2 * low * time)
        # `torch.as_tensor` of what numpy computed: a tensor cached in inference mode could not be trained through.
        return responses / (2 * (high - low)) * torch.as_tensor(_hamming(self.kernel_size), device=self.p1.device)

    def sequence(self, inputs: torch.Tensor) -> torch.Tensor:
        return F.conv1d(inputs, self.filters().to(inputs.dtype)[:, None], stride=self.stride).abs()


class CausalConv(nn.Module):
    """A dilated convolution with weight norm that hears nothing later than its own place.

    It computes what torch's `weight_norm` of a convolution computes, from parameters of its own: those of torch's
    parametrization, in a module below, transformers leaves uninitialised where a checkpoint lacks them.
    """

    def __init__(self, in_channels: int, channels: int, kernel_size: int, dilation: int, stride: int) -> None:
        super().__init__()
        self.dilation, self.stride = dilation, stride
        self.padding = (kernel_size - 1) * dilation
        self.direction = nn.Parameter(torch.empty(channels, in_channels, kernel_size))
        self.length = nn.Parameter(torch.empty(channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start from torch's default for convolutions."""
        with torch.no_grad():
            init.kaiming_uniform_(self.direction, a=math.sqrt(5))
            init.copy_(self.length, self._norm())
            bound = 1 / math.sqrt(self.direction[0].numel())
            init.uniform_(self.bias, -bound, bound)

    @property
    def weight(self) -> torch.Tensor:
        """The filters, `(channels, in_channels, kernel_size)`."""
        return self.direction * (self.length / self._norm())

    def _norm(self) -> torch.Tensor:
        return torch.linalg.vector_norm(self.direction, dim=(1, 2), keepdim=True)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        padded = F.pad(hidden_states, (self.padding, 0))
        return F.conv1d(padded, self.weight, self.bias, stride=self.stride, dilation=self.dilation)


class TemporalBlock(nn.Module):
    """Two causal convolutions and a shortcut."""

    def __init__(
        self, in_channels: int, channels: int, kernel_size: int, dilation: int, stride: int, dropout: float
    ) -> None:
        super().__init__()
        self.conv1 = CausalConv(in_channels, channels, kernel_size, dilation, stride)
        self.conv2 = CausalConv(channels, channels, kernel_size, dilation, 1)
        self.dropout = nn.Dropout(dropout)
        same = in_channels == channels and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv1d(in_channels, channels, 1, stride=stride)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        main = hidden_states
        for conv in (self.conv1, self.conv2):
            main = self.dropout(F.relu(conv(main)))
        return F.relu(main + self.shortcut(hidden_states))


class TemporalConvolutions(_FrontEnd):
    """A temporal convolutional network: levels of causal convolutions, each hearing twice as far as the one before.

    The defaults hear 2062 samples (94 ms at 22 050 Hz), as far as ten levels that keep every sample; four halvings of
    the rate, where the channels double, make a level of them sixteen times cheaper.
    `{"channels": [4, 8, 16, 32], "strides": None}` is the tutorial's, which hears 31 samples (1.4 ms).

    Args:
        in_channels: Channels of the input, 1 for a waveform.
        channels: Channels of each level.
        kernel_size: Taps of a convolution.
        dilations: Of each level, in frames of its own rate; `None`: what makes the taps of level i stand 2**i input
            samples apart (or, where the strides have gone further than that, one frame).
        strides: Of each level; `None`: 1. The default is for the default's ten levels.
        dropout: After every convolution, in [0, 1).
        pool: Frames of the max pooling at the end; 1: none.
        norm: See `per_channel_norm`.
        input_norm: Standardise each clip first.
        batch_norm_eps: Added to the variance in every norm.

    Raises:
        ValueError: `dilations` or `strides` are not as many as `channels`.

    Source: Bai, Kolter & Koltun, "An empirical evaluation of generic convolutional and recurrent networks for sequence
    modeling" (2018).
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int] = (4, 8, 16, 32, 32, 32, 32, 32, 32, 32),
        kernel_size: int = 2,
        dilations: Sequence[int] | None = None,
        strides: Sequence[int] | None = (2, 2, 2, 2, 1, 1, 1, 1, 1, 1),
        dropout: float = 0.2,
        pool: int = 3,
        norm: str = "group",
        input_norm: bool = True,
        batch_norm_eps: float = 1e-5,
    ) -> None:
        super().__init__(in_channels, channels[-1], pool, norm, input_norm, batch_norm_eps)
        self.kernel_size = kernel_size
        self.strides = [1] * len(channels) if strides is None else list(strides)
        # Input samples between two frames of each level's input, and of the last one's output.
        self.rates = list(accumulate(self.strides, mul, initial=1))
        doubling = [max(1, 2**level // rate) for level, rate in enumerate(self.rates[:-1])]
        self.dilations = doubling if dilations is None else list(dilations)
        for name, given in (("strides", self.strides), ("dilations", self.dilations)):
            if len(given) != len(channels):
                raise ValueError(
                    f"`{name}` is for {len(given)} levels, `channels` for {len(channels)}: give it, or None."
                )
        widths = zip([in_channels, *channels[:-1]], channels, strict=True)
        self.levels = nn.ModuleList(
            TemporalBlock(i, o, kernel_size, dilation, stride, dropout)
            for (i, o), dilation, stride in zip(widths, self.dilations, self.strides, strict=True)
        )

    @property
    def receptive_field(self) -> int:
        """Samples that a frame of the last level depends on; the pooling after it adds a few, the norm all."""
        steps = zip(self.dilations, self.rates[:-1], self.rates[1:], strict=True)
        return 1 + (self.kernel_size - 1) * sum(dilation * (before + after) for dilation, before, after in steps)

    def sequence(self, inputs: torch.Tensor) -> torch.Tensor:
        """`(batch_size, in_channels, num_samples)` to `(batch_size, channels, num_samples / strides, rounded up)`."""
        for level in self.levels:
            inputs = level(inputs)
        return inputs


WAVEFORM_BLOCKS: dict[str, type[nn.Module]] = {
    "wave_conv": WaveConv,
    "tcn": TemporalConvolutions,
    "sinc": Sinc,
    "full_height_conv": FullHeightConv,
}


def _hybrid(stage: dict[str, Any], feature: dict[str, Any]) -> dict[str, Any]:
    return {
        "sampling_rate": 22_050,
        # 64 mel frames of 1024 samples: what the tutorial gives its spectrogram, here for all.
        "input_samples": 65_535,
        "feature": feature,
        "feature_batch_norm": False,
        "stages": [stage],
        "collapse": {"kind": "squeeze"},
        "backend": {"kind": "temporal"},
        "head": {"hidden": None, "dropout": 0.0},
    }


# The fields of `MusicTaggerConfig` that each architecture stands for.
HYBRID_PRESETS: dict[str, dict[str, Any]] = {
    "conv1d_hybrid": _hybrid({"block": "wave_conv"}, {"kind": "raw"}),
    "tcn_hybrid": _hybrid({"block": "tcn"}, {"kind": "raw"}),
    "sincnet_hybrid": _hybrid({"block": "sinc"}, {"kind": "raw"}),
    "logmel_hybrid": _hybrid(
        {"block": "full_height_conv", "height": 128},
        {
            "kind": "mel",
            "n_fft": 2048,
            "hop_length": 1024,
            "num_mel_bins": 128,
            "min_frequency_hz": 0.0,
            "max_frequency_hz": 11_025.0,
            "mel_scale": "slaney",
            "mel_norm": "slaney",
            "pad_mode": "constant",
            "compression": "ln",
            "scale": 10_000.0,
        },
    ),
}
