# SPDX-License-Identifier: Apache-2.0
"""One extractor for all taggers: any audio to windows of a mono waveform, or of its spectrogram."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature

from .audio_input import AudioSource, AudioWindow
from .configuration_features import fill_feature
from .feature_extraction_windows import WindowedFeatureExtractor
from .tagger_features import mel_spectrogram


class MusicTaggingFeatureExtractor(WindowedFeatureExtractor):
    """Cut audio into windows on a fixed grid, without any randomness.

    A window that is shorter than the model's shortest is repeated until it is as long; one that the model can take as
    it is, is padded with zeros that the `attention_mask` hides.

    Args:
        sampling_rate: Hz that the model hears, and the rate assumed for bare arrays given without one.
        window_samples: Samples of a window at that rate.
        hop_seconds: Distance between the starts of two windows; `None`: one after the other.
        min_samples: Fewest samples of audio that the model takes; `None`: a whole window, as of models of fixed length.
        max_samples: Most samples that the model takes; `None`: a whole window.
        drop_tail: Leave out what is left over behind the last whole window, unless it is all there is.
        feature: Compute this spectrogram here (see `configuration_features`), and leave the waveform at home. At its
            beginning a window then sees the samples that come before it, so that the spectrograms of windows are pieces
            of that of the whole recording. `None`: the model gets the waveform.
        padding_value: Fills the end of short windows.
    """

    model_input_names = ["input_values", "input_features", "attention_mask", "windows_per_clip"]

    def __init__(
        self,
        sampling_rate: int = 16_000,
        window_samples: int = 48_000,
        hop_seconds: float | None = None,
        min_samples: int | None = None,
        max_samples: int | None = None,
        drop_tail: bool = False,
        feature: dict[str, Any] | None = None,
        padding_value: float = 0.0,
        **kwargs: Any,
    ) -> None:
        kwargs.pop("feature_size", None)  # written by the base class, and follows from `feature`
        if feature is not None and (feature := fill_feature(feature))["kind"] != "mel":
            raise ValueError(
                f"`feature` is of kind {feature['kind']!r}; the extractor computes 'mel' only. Leave it out: the model "
                "computes the others itself."
            )
        size = 1 if feature is None else feature["num_mel_bins"]
        super().__init__(feature_size=size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)
        self.window_samples = window_samples
        self.hop_seconds = hop_seconds
        self.min_samples = min_samples
        self.max_samples = max_samples
        self.drop_tail = drop_tail
        self.feature = feature

    @classmethod
    def for_config(cls, config: Any, **kwargs: Any) -> MusicTaggingFeatureExtractor:
        """The extractor that a tagger with this config wants.

        Args:
            config: A `TaggerConfig`.
            **kwargs: Arguments of this class, which go before those of the config.
        """
        return cls(**{**config.extractor_settings(), **kwargs})

    @property
    def window_seconds(self) -> float:  # type: ignore[override]
        """Length of a window in seconds."""
        return self.window_samples / self.sampling_rate

    @property
    def longest_window_seconds(self) -> float:
        """The longest window that may be asked for."""
        return (self.max_samples or self.window_samples) / self.sampling_rate

    @property
    def sampling_rates(self) -> tuple[int, ...]:
        """The rate that a window must come in, in Hz."""
        return (self.sampling_rate,)

    @property
    def _context_samples(self) -> int:
        return 0 if self.feature is None else self.feature["n_fft"] // 2

    def windows(
        self, source: AudioSource, window_seconds: float | None = None, hop_seconds: float | None = None
    ) -> Iterator[AudioWindow]:
        grid = self.checked_grid(window_seconds, hop_seconds)
        context = self._context_samples / self.sampling_rate
        length = round(grid[0] * self.sampling_rate)
        for window in source.windows(*grid, self.sampling_rates, context_seconds=context):
            if self.drop_tail and window.index > 0 and len(window.audio[self.sampling_rate]) < length:
                continue
            yield window

    def count_windows(self, num_frames: int, sampling_rate: int) -> int:
        count = super().count_windows(num_frames, sampling_rate)
        if not self.drop_tail or count == 1:
            return count
        window, hop = self.checked_grid(None, None)
        reached = round(round((count - 1) * hop, 6) * sampling_rate) + round(window * sampling_rate)
        return count - (reached > num_frames)

    def featurize(self, windows: Sequence[AudioWindow]) -> BatchFeature:
        """Inputs of the model.

        Args:
            windows: Windows at `sampling_rate`, of any length above 0.

        Returns:
            `input_values` `(batch_size, num_samples)`, or with `feature` `input_features`
            `(batch_size, num_frames, num_mel_bins)`; and `attention_mask` of the first two axes. As long as the longest
            window, and never shorter than the model's shortest. Torch tensors on the CPU.
        """
        rows = [self._filled(window.audio[self.sampling_rate]) for window in windows]
        if self.feature is None:
            return _padded([torch.from_numpy(row) for row in rows], self.padding_value, "input_values")
        before = [window.before.get(self.sampling_rate, np.empty(0, np.float32)) for window in windows]
        return _padded(self._spectrograms(rows, before), self.padding_value, "input_features")

    def _filled(self, waveform: np.ndarray) -> np.ndarray:
        """The waveform, repeated where it is too short for the model."""
        shortest = self.window_samples if self.min_samples is None else self.min_samples
        return waveform if len(waveform) >= shortest else np.resize(waveform, shortest)

    def _spectrograms(self, rows: list[np.ndarray], before: list[np.ndarray]) -> list[torch.Tensor]:
        """The spectrogram of each row, `(num_frames, num_mel_bins)`; rows of one length at a time."""
        assert self.feature is not None
        spectrograms: list[Any] = [None] * len(rows)
        context = self._context_samples
        kinds: dict[tuple[int, bool], list[int]] = {}
        for index, (row, previous) in enumerate(zip(rows, before, strict=True)):
            kinds.setdefault((len(row), len(previous) == context), []).append(index)
        for (length, has_context), indices in kinds.items():
            stacked = np.stack([rows[index] for index in indices])
            if has_context:
                stacked = np.concatenate([np.stack([before[index] for index in indices]), stacked], axis=1)
            mel = mel_spectrogram(torch.from_numpy(stacked), self.feature, self.sampling_rate, pad_left=not has_context)
            # The frame centred on the end is the first of what follows.
            num_frames = max(1, length // self.feature["hop_length"])
            for index, spectrogram in zip(indices, mel.transpose(1, 2)[:, :num_frames], strict=True):
                spectrograms[index] = spectrogram
        return spectrograms


def _padded(rows: list[torch.Tensor], value: float, name: str) -> BatchFeature:
    """A batch as long as its longest row, and its mask."""
    length = max(len(row) for row in rows)
    batch = rows[0].new_full((len(rows), length, *rows[0].shape[1:]), value)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for index, row in enumerate(rows):
        batch[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return BatchFeature({name: batch, "attention_mask": mask})
