# SPDX-License-Identifier: Apache-2.0
"""Vary recordings in training in what their labels do not depend on."""

from __future__ import annotations

import warnings
from typing import Any, Literal, get_args

import torch

Strength = Literal["none", "light", "heavy"]


class Augmentation:
    """Change a batch of waveforms, each in its own way, by torch's generator.

    "light": level (±8 dB) and polarity. "heavy": also coloured noise (15 to 40 dB below), a filter that takes away the
    highest or lowest part of the spectrum, another recording of the batch far in the background (15 to 25 dB below;
    the labels stay those of the foreground), and up to a tenth of the window silent.

    Args:
        strength: "light" or "heavy".
        sampling_rate: Hz.

    Raises:
        ImportError: torch-audiomentations is not installed.
        ValueError: There is no such strength.
    """

    def __init__(self, strength: str, sampling_rate: int) -> None:
        if strength not in get_args(Strength)[1:]:
            raise ValueError(f"`strength` is {strength!r}; allowed: 'light', 'heavy'.")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from torch_audiomentations import (
                    AddColoredNoise,
                    Compose,
                    Gain,
                    HighPassFilter,
                    LowPassFilter,
                    PolarityInversion,
                )
        except (ImportError, OSError) as error:  # OSError: torchaudio, which it imports, is there and cannot be loaded
            raise ImportError(
                f'Augmentation needs torch-audiomentations ({error}): pip install "hf-mathrock[train]"'
            ) from error

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a word of each step on what its next version will return
            options = {"sample_rate": sampling_rate, "output_type": "tensor"}
            steps: list[Any] = [
                Gain(min_gain_in_db=-8.0, max_gain_in_db=8.0, p=0.8, **options),
                PolarityInversion(p=0.5, **options),
            ]
            if strength == "heavy":
                steps += [
                    AddColoredNoise(min_snr_in_db=15.0, max_snr_in_db=40.0, p=0.5, **options),
                    LowPassFilter(
                        # Below half the rate: nothing is above that.
                        min_cutoff_freq=min(3_000, 0.25 * sampling_rate),
                        max_cutoff_freq=min(12_000, 0.49 * sampling_rate),
                        p=0.3,
                        **options,
                    ),
                    HighPassFilter(min_cutoff_freq=30, max_cutoff_freq=300, p=0.3, **options),
                ]
            self._steps = Compose(steps, output_type="tensor")
        self.strength = strength

    def __call__(self, audio: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Changed waveforms.

        Args:
            audio: Mono, `(batch_size, num_samples)`, zeros after the end of each.
            lengths: How many samples of each row are sound, `(batch_size,)`.

        Returns:
            The same shape, zeros after the ends.
        """
        inside = torch.arange(audio.shape[1]) < lengths[:, None]
        if self.strength == "heavy":
            audio = self._with_background(audio)
        audio = self._steps(audio[:, None])[:, 0]
        if self.strength == "heavy":
            audio = self._with_gaps(audio, lengths)
        return audio * inside

    @staticmethod
    def _with_background(audio: torch.Tensor) -> torch.Tensor:
        """Half the rows with another row under them."""
        if len(audio) < 2:
            return audio
        others = torch.roll(audio, int(torch.randint(1, len(audio), ())), dims=0)
        level = audio.square().mean(dim=1).sqrt() / others.square().mean(dim=1).sqrt().clamp(min=1e-6)
        gain = level * 10 ** (-(15 + 10 * torch.rand(len(audio))) / 20) * (torch.rand(len(audio)) < 0.5)
        return audio + gain[:, None] * others

    @staticmethod
    def _with_gaps(audio: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Half the rows with silence somewhere."""
        wide = (torch.rand(len(audio)) * 0.1 * lengths * (torch.rand(len(audio)) < 0.5)).long()
        start = (torch.rand(len(audio)) * lengths).long()
        position = torch.arange(audio.shape[1])
        return audio * ~((position >= start[:, None]) & (position < (start + wide)[:, None]))
