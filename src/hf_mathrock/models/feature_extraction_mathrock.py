# SPDX-License-Identifier: Apache-2.0
"""One extractor for both backbones: any audio to WavLM's waveform and CLAP's log-mel spectrogram."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature

from .audio_input import AudioWindow
from .feature_extraction_windows import WindowedFeatureExtractor
from .spectral import log_mel_spectrogram


class MathRockFeatureExtractor(WindowedFeatureExtractor):
    """Cut audio into windows on a fixed grid and compute both backbones' inputs, without any randomness.

    Args:
        sampling_rate: Rate of the CLAP stream in Hz, and the rate assumed for bare arrays given without one.
        wavlm_sampling_rate: Rate of the WavLM stream in Hz.
        window_seconds: Length of a window; both streams see the same span.
        hop_seconds: Distance between the starts of two windows, at most `window_seconds`.
        do_normalize: Give each window zero mean and unit variance for WavLM, as the large WavLM wants (the base: no).
        feature_size: Mel bands of the CLAP stream.
        n_fft: Samples of the CLAP stream's window.
        hop_length: Samples between its frames.
        min_frequency_hz: Lower edge of its bands.
        max_frequency_hz: Upper edge of its bands.
        padding_value: Fills the end of short windows.

    Source: reproduces `Wav2Vec2FeatureExtractor` and `ClapFeatureExtractor` (`rand_trunc` filters, `repeatpad`) to 2e-5
    on clips of at most one window; longer clips are cut, never cropped at random.
    """

    model_input_names = ["input_values", "attention_mask", "input_features", "windows_per_clip"]

    # WavLM's first frame needs this many samples at 16 kHz; shorter clips count as that long, zeros included.
    _min_num_samples = 400

    def __init__(
        self,
        sampling_rate: int = 48_000,
        wavlm_sampling_rate: int = 16_000,
        window_seconds: float = 10.0,
        hop_seconds: float = 5.0,
        do_normalize: bool = False,
        feature_size: int = 64,
        n_fft: int = 1024,
        hop_length: int = 480,
        min_frequency_hz: float = 0.0,
        max_frequency_hz: float = 14_000.0,
        padding_value: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(feature_size=feature_size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)
        self.wavlm_sampling_rate = wavlm_sampling_rate
        self.window_seconds = window_seconds
        self.hop_seconds = hop_seconds
        self.do_normalize = do_normalize
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.min_frequency_hz = min_frequency_hz
        self.max_frequency_hz = max_frequency_hz

    @property
    def sampling_rates(self) -> tuple[int, int]:
        """The two rates a window must come in: WavLM's and CLAP's."""
        return self.wavlm_sampling_rate, self.sampling_rate

    def featurize(self, windows: Sequence[AudioWindow]) -> BatchFeature:
        """Inputs of the model for windows of at most `window_seconds`.

        Args:
            windows: Windows that hold both of `sampling_rates`.

        Returns:
            `input_values`, `attention_mask` and `input_features`, as torch tensors on the CPU.
        """
        num_samples = round(self.window_seconds * self.wavlm_sampling_rate)
        values = np.full((len(windows), num_samples), self.padding_value, dtype=np.float32)
        mask = np.zeros((len(windows), num_samples), dtype=np.int64)
        repeated = np.zeros((len(windows), round(self.window_seconds * self.sampling_rate)), dtype=np.float32)
        for row, window in enumerate(windows):
            waveform = window.audio[self.wavlm_sampling_rate]
            if self.do_normalize:
                waveform = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
            values[row, : len(waveform)] = waveform
            mask[row, : max(len(waveform), self._min_num_samples)] = 1
            self._fill_by_repetition(repeated[row], window.audio[self.sampling_rate])
        mel = log_mel_spectrogram(
            torch.from_numpy(repeated),
            sampling_rate=self.sampling_rate,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            num_mel_bins=self.feature_size,
            min_frequency_hz=self.min_frequency_hz,
            max_frequency_hz=self.max_frequency_hz,
        )
        return BatchFeature(
            {
                "input_values": torch.from_numpy(values),
                "attention_mask": torch.from_numpy(mask),
                "input_features": mel.unsqueeze(1),
            }
        )

    @staticmethod
    def _fill_by_repetition(row: np.ndarray, waveform: np.ndarray) -> None:
        """CLAP's `repeatpad`: a whole number of repetitions, then zeros."""
        copies = len(row) // len(waveform)
        row[: copies * len(waveform)] = np.tile(waveform, copies)
