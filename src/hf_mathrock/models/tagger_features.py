# SPDX-License-Identifier: Apache-2.0
"""Spectral front ends of the taggers: mel and harmonic bands, computed inside the model."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.audio_utils import mel_filter_bank

from .configuration_features import check_below_half_the_rate, fill_feature, harmonic_notes, shortest_feature
from .configuration_tagging import TaggerConfig

# Bandwidth of a harmonic filter in Hz: 0.1079 f + 24.7, divided by its quality.
_BANDWIDTH_SLOPE, _BANDWIDTH_OFFSET_HZ = 0.1079, 24.7


def mel_spectrogram(
    waveform: torch.Tensor,
    feature: Mapping[str, Any],
    sampling_rate: int,
    pad_left: bool = True,
    pad_right: bool = True,
) -> torch.Tensor:
    """Compressed power in mel bands.

    In single precision whatever the input, and row by row on the CPU, so that a clip alone equals the clip in a batch.
    Where bands are narrower than bins (128 HTK bands of a 512-point transform at 16 kHz: band 0) one may hold no bin;
    it is silent then, as in the projects that the published results come from.

    Args:
        waveform: `(batch_size, num_samples)`.
        feature: A description of kind "mel", see `fill_feature`.
        sampling_rate: Hz.
        pad_left: `False`: the first `n_fft // 2` samples are the real sound before the middle of the first frame, so
            that nothing is padded there.
        pad_right: `False`: likewise the last ones.

    Returns:
        `(batch_size, num_mel_bins, num_frames)`, float32; `num_frames = 1 + num_samples // hop_length`, where samples
        that stand for padding do not count.

    Raises:
        ValueError: The clip is too short for one frame, or a band lies above half the sampling rate.
    """
    feature = fill_feature(feature)
    check_below_half_the_rate(feature, sampling_rate)
    filters = _mel_filters(
        feature["n_fft"],
        feature["num_mel_bins"],
        sampling_rate,
        feature["min_frequency_hz"],
        feature["max_frequency_hz"],
        feature["mel_scale"],
        feature["mel_norm"],
        waveform.device,
    )
    return _bands(waveform, filters, feature, pad_left, pad_right)


class TaggerFeatures(nn.Module):
    """What the first layer of a tagger sees of its audio.

    The only parameter is the quality of harmonic filters, `q`, where it is learnt. Windows and filters are no buffers:
    they follow from the settings, so no state dict holds them and no loading can lose them.

    Harmonic: band i has the centres h f_i for h = 1 to `num_harmonics`, where f_i rise in `bands_per_semitone` equal
    steps to the semitone; around every centre f stands a triangle of height 1 that reaches zero at a distance of
    (0.1079 f + 24.7) / (2 q) Hz. Where a triangle falls between two bins of the transform its band is silent (one with
    the default settings, the fundamental of 46.25 Hz), and `q` learns nothing from it until it shrinks.

    Source: Won, Chun, Nieto and Serra, "Data-driven harmonic filters for audio representation learning" (2020). Only
    the quality is learnt, as in the code that its published figures come from; the paper also offers to learn centres.
    """

    def __init__(self, config: TaggerConfig) -> None:
        super().__init__()
        self.feature = fill_feature(config.feature)
        self.sampling_rate = config.sampling_rate
        self.q: nn.Parameter | None = None
        if self.feature["kind"] == "harmonic":
            harmonic_notes(self.feature, self.sampling_rate)
            if self.feature["learn_q"]:
                self.q = nn.Parameter(torch.empty(()))
                self.reset_parameters()

    def reset_parameters(self) -> None:
        """Give `q` its first value."""
        if self.q is not None:
            init.constant_(self.q, self.feature["initial_q"])

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Compute the feature.

        Args:
            waveform: `(batch_size, num_samples)` at the config's `sampling_rate`.

        Returns:
            "raw": `(batch_size, 1, num_samples)` in the waveform's type. "mel": `(batch_size, 1, num_mel_bins,
            num_frames)`. "harmonic": `(batch_size, num_harmonics, num_bands, num_frames)`. The last two in float32,
            `num_frames = 1 + num_samples // hop_length`.

        Raises:
            ValueError: The clip is too short for one frame.
        """
        if self.feature["kind"] == "raw":
            return waveform.unsqueeze(1)
        if self.feature["kind"] == "mel":
            return mel_spectrogram(waveform, self.feature, self.sampling_rate).unsqueeze(1)
        bands = _bands(waveform, self.harmonic_filters(waveform.device), self.feature, True, True)
        return bands.unflatten(1, (self.feature["num_harmonics"], -1))

    def harmonic_filters(self, device: torch.device | None = None) -> torch.Tensor:
        """Triangles of the current quality, `(n_fft // 2 + 1, num_harmonics * num_bands)`, harmonic by harmonic."""
        low, high = harmonic_notes(self.feature, self.sampling_rate)
        device = device if device is not None else self.q.device if self.q is not None else torch.device("cpu")
        distances = _harmonic_distances(
            self.feature["n_fft"],
            self.sampling_rate,
            low,
            high,
            self.feature["bands_per_semitone"],
            self.feature["num_harmonics"],
            device,
        )
        quality = self.q.float() if self.q is not None else self.feature["initial_q"]
        return (1.0 - distances * quality).clamp(min=0.0)


def harmonic_centres_hz(feature: Mapping[str, Any], sampling_rate: int) -> np.ndarray:
    """Centres of all bands of a harmonic feature in Hz, `(num_harmonics, num_bands)`, float64."""
    low, high = harmonic_notes(feature, sampling_rate)
    return _centres_hz(low, high, feature["bands_per_semitone"], feature["num_harmonics"])


def _centres_hz(low: int, high: int, bands_per_semitone: int, num_harmonics: int) -> np.ndarray:
    notes = np.linspace(low, high, (high - low) * bands_per_semitone, endpoint=False)
    return np.arange(1, num_harmonics + 1)[:, None] * 440.0 * 2.0 ** ((notes - 69.0) / 12.0)


def _bands(
    waveform: torch.Tensor, filters: torch.Tensor, feature: Mapping[str, Any], pad_left: bool, pad_right: bool
) -> torch.Tensor:
    """Compressed power under each filter, `(batch_size, num_filters, num_frames)`."""
    if waveform.ndim != 2:
        raise ValueError(f"The waveform has shape {tuple(waveform.shape)}; expected (batch_size, num_samples), mono.")
    half = feature["n_fft"] // 2
    num_samples, needed = waveform.shape[1], half * (2 - pad_left - pad_right)
    if pad_left or pad_right:
        needed = max(needed, shortest_feature(feature))
    if num_samples < needed:
        raise ValueError(
            f"The clip has {num_samples} samples; a spectrogram of {feature['n_fft']}-sample windows needs at least "
            f"{needed}. Repeat the clip or leave it out."
        )
    padding = (half if pad_left else 0, half if pad_right else 0)
    window = _window(feature["n_fft"], feature.get("win_length"), waveform.device)

    def of_rows(rows: torch.Tensor) -> torch.Tensor:
        padded = F.pad(rows.float(), padding, mode=feature["pad_mode"])
        spectrum = torch.fft.rfft(padded.unfold(-1, feature["n_fft"], feature["hop_length"]) * window)
        power = spectrum.real.square() + spectrum.imag.square()
        return _compressed(power @ filters, feature).transpose(1, 2)

    # Autocast would round the power to half precision before its logarithm.
    with torch.autocast(device_type=waveform.device.type, enabled=False):
        if waveform.device.type != "cpu" or len(waveform) < 2:
            return of_rows(waveform)
        return torch.cat([of_rows(row) for row in waveform.split(1)])


def _compressed(power: torch.Tensor, feature: Mapping[str, Any]) -> torch.Tensor:
    if feature["compression"] == "db":
        return 10.0 * torch.log10(power.clamp(min=1e-10))
    compressed = torch.log1p(feature["scale"] * power)
    return compressed / math.log(10.0) if feature["compression"] == "log10" else compressed


# Made outside inference mode and on a stated device: what is cached also serves a later training step, and must have
# values although the first call stood under `torch.device("meta")`.
@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _window(n_fft: int, win_length: int | None, device: torch.device) -> torch.Tensor:
    """Periodic Hann window in the middle of a frame, `(n_fft,)`, float32."""
    length = n_fft if win_length is None else win_length
    values = np.zeros(n_fft)
    first = (n_fft - length) // 2
    values[first : first + length] = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(length) / length)
    return torch.from_numpy(values.astype(np.float32)).to(device)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _mel_filters(
    n_fft: int,
    num_mel_bins: int,
    sampling_rate: int,
    min_frequency_hz: float,
    max_frequency_hz: float,
    mel_scale: str,
    mel_norm: str | None,
    device: torch.device,
) -> torch.Tensor:
    """Mel triangles, `(n_fft // 2 + 1, num_mel_bins)`, float32."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="At least one mel filter has all zero values")
        filters = mel_filter_bank(
            num_frequency_bins=n_fft // 2 + 1,
            num_mel_filters=num_mel_bins,
            min_frequency=min_frequency_hz,
            max_frequency=max_frequency_hz,
            sampling_rate=sampling_rate,
            norm=mel_norm,
            mel_scale=mel_scale,
        )
    return torch.from_numpy(filters.astype(np.float32)).to(device)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _harmonic_distances(
    n_fft: int,
    sampling_rate: int,
    low: int,
    high: int,
    bands_per_semitone: int,
    num_harmonics: int,
    device: torch.device,
) -> torch.Tensor:
    """Distance of every bin from every centre, in half bandwidths of quality 1, `(n_fft // 2 + 1, num_filters)`."""
    centres = _centres_hz(low, high, bands_per_semitone, num_harmonics).reshape(-1)
    bins = np.linspace(0.0, sampling_rate / 2, n_fft // 2 + 1)
    half_widths = (_BANDWIDTH_SLOPE * centres + _BANDWIDTH_OFFSET_HZ) / 2
    return torch.from_numpy((np.abs(bins[:, None] - centres) / half_widths).astype(np.float32)).to(device)
