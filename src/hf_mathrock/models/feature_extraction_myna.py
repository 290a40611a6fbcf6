# SPDX-License-Identifier: Apache-2.0
"""What Myna hears of a track: one extractor for training, evaluation and inference."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature

from .audio_input import AudioSource, AudioWindow, open_audio
from .configuration_myna import FRONT_END_FIELDS, MynaConfig, check_front_end, myna_feature
from .configuration_values import check_value
from .feature_extraction_windows import WindowedFeatureExtractor, is_batch
from .tagger_features import mel_spectrogram

_BLOCK_SECONDS = 60.0
SILENCE_DB = -100.0
"""What the spectrogram says of silence: 10 log10 of the smallest power that it tells apart."""


class MynaFeatureExtractor(WindowedFeatureExtractor):
    """Whole tracks of any length, or windows of them, as mel spectrograms.

    A track's level is told by its loudest moment, to which `values_of` refers every other; so the crops of a track are
    pieces of its spectrogram only if they are given its `reference`. Windows that a tagging pipeline cuts are each
    referred to their own.

    Args:
        sampling_rate: Hz of the audio.
        feature: See `MynaConfig`, as `values`, `decibel_factor`, `top_db`, `mean` and `std`.
        values: See `MynaConfig`.
        decibel_factor: See `MynaConfig`.
        top_db: See `MynaConfig`.
        mean: See `MynaConfig`.
        std: See `MynaConfig`.
        min_frames: Shorter audio is filled up to so many with the floor.
        window_samples: Samples of a window, where windows are asked for.
        hop_seconds: Distance between the starts of two windows; `None`: one after the other.
        max_samples: The longest window that may be asked for, in samples; `None`: `window_samples`.

    Raises:
        ValueError: A setting is not well formed; the message names it.
    """

    model_input_names = ["input_features", "attention_mask", "windows_per_clip"]

    def __init__(
        self,
        sampling_rate: int = 16_000,
        feature: Mapping[str, Any] | None = None,
        values: str = "decibels",
        decibel_factor: float = 1.0,
        top_db: float | None = 80.0,
        mean: float = -40.0,
        std: float = 40.0,
        min_frames: int = 16,
        window_samples: int = 480_000,
        hop_seconds: float | None = None,
        max_samples: int | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.pop("feature_size", None)  # written by the base class, and follows from `feature`
        kwargs.pop("padding_value", None)  # likewise, from the constants
        self.feature = myna_feature(sampling_rate, feature)
        if values not in ("decibels", "power"):
            raise ValueError(f"`values` is {values!r}; allowed: 'decibels', 'power'.")
        check_front_end(top_db, mean, std)
        check_value("min_frames", min_frames, 1, "`min_frames`")
        self.values = values
        self.decibel_factor = decibel_factor
        self.top_db = top_db
        self.mean = mean
        self.std = std
        self.min_frames = min_frames
        self.window_samples = window_samples
        self.hop_seconds = hop_seconds
        self.max_samples = max_samples
        super().__init__(
            feature_size=self.feature["num_mel_bins"], sampling_rate=sampling_rate, padding_value=self.floor, **kwargs
        )

    @classmethod
    def from_preset(cls, name: str, **kwargs: Any) -> MynaFeatureExtractor:
        """The extractor of a front end: "default", "myna" or "rpe-44k"; see `MynaConfig.front_end`."""
        return cls.for_config(MynaConfig(**MynaConfig.front_end(name)), **kwargs)

    @classmethod
    def for_config(cls, config: Any, **kwargs: Any) -> MynaFeatureExtractor:
        """The extractor that a Myna with this config wants; arguments of this class go before its settings."""
        return cls(**{**config.extractor_settings(), **kwargs})

    @property
    def floor(self) -> float:
        """What silence is to the model, and padding.

        Where nothing is clipped (`top_db` is `None`), digital silence beside loud music lies lower still.
        """
        if self.values == "power":
            return (0.0 - self.mean) / self.std
        span = self.top_db if self.top_db is not None else -self.decibel_factor * SILENCE_DB
        return (-span - self.mean) / self.std

    @property
    def window_seconds(self) -> float:  # type: ignore[override]
        """Length of a window in seconds, where windows are asked for."""
        return self.window_samples / self.sampling_rate

    @property
    def longest_window_seconds(self) -> float:
        """The longest window that may be asked for."""
        return (self.max_samples or self.window_samples) / self.sampling_rate

    @property
    def sampling_rates(self) -> tuple[int, ...]:
        """The rate that audio must come in, in Hz."""
        return (self.sampling_rate,)

    @property
    def frames_per_second(self) -> float:
        """Frames of the spectrogram in a second."""
        return self.sampling_rate / self.feature["hop_length"]

    def front_end_settings(self) -> dict[str, Any]:
        """All that decides what the model hears of a track."""
        return {name: copy.deepcopy(getattr(self, name)) for name in FRONT_END_FIELDS}

    def __call__(
        self,
        audio: Any,
        sampling_rate: int | None = None,
        return_tensors: str | None = "pt",
        window_seconds: float | None = None,
        hop_seconds: float | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Inputs of the model for one track or a list of tracks.

        Args:
            audio: Whatever `open_audio` reads, or a list of such.
            sampling_rate: Hz, of bare arrays; `None`: `self.sampling_rate`.
            return_tensors: "pt" or "np".
            window_seconds: `None`: whole tracks. Otherwise windows of this length.
            hop_seconds: Distance between the starts of two windows.
            **kwargs: `padding`, `truncation` and the like of other extractors have no meaning here and are ignored.

        Returns:
            `input_features` `(num_tracks, num_frames, num_mel_bins)` and their `attention_mask`; of windows
            `(num_windows, ...)` and `windows_per_clip`.

        Raises:
            AudioReadError: A track cannot be read (a `ValueError` that names it).
        """
        if window_seconds is not None or hop_seconds is not None:
            return super().__call__(audio, sampling_rate, return_tensors, window_seconds, hop_seconds, **kwargs)
        tracks = []
        for clip in audio if is_batch(audio) else [audio]:
            with open_audio(clip, sampling_rate or self.sampling_rate) as source:
                tracks.append(self.values_of(self.decibels(source)))
        features = self._batch(tracks)
        return features if return_tensors == "pt" else features.convert_to_tensors(return_tensors)

    def featurize(self, windows: Sequence[AudioWindow]) -> BatchFeature:
        """Inputs of the model for windows at `sampling_rate`: `input_features` and `attention_mask`."""
        return self._batch([self.values_of(self.decibels(window.audio[self.sampling_rate])) for window in windows])

    def decibels(self, audio: AudioSource | np.ndarray) -> np.ndarray:
        """The spectrogram of a whole track in decibels, computed while it is read.

        Args:
            audio: An opened recording, or samples `(num_samples,)` at `sampling_rate`.

        Returns:
            `(num_frames, num_mel_bins)`, float32, at least -100; `num_frames = 1 + num_samples // hop_length`.

        Raises:
            AudioReadError: See `AudioSource.windows`.
        """
        # Loaded from a folder, the class of a recording that a pipeline opened is another than the one known here.
        if not isinstance(audio, np.ndarray):
            windows = audio.windows(_BLOCK_SECONDS, _BLOCK_SECONDS, self.sampling_rates, keep_rest=True)
            blocks: Iterable[np.ndarray] = (window.audio[self.sampling_rate] for window in windows)
        else:
            length = round(_BLOCK_SECONDS * self.sampling_rate)
            blocks = (audio[first : first + length] for first in range(0, max(1, len(audio)), length))
        return np.concatenate(list(self._spectrogram(blocks)))

    def _spectrogram(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The frames of each block, as those of the whole; what a frame reaches back to is held."""
        size, hop = self.feature["n_fft"], self.feature["hop_length"]
        for held in self._padded(blocks):
            num_frames = (len(held) - size) // hop + 1
            if num_frames > 0:
                part = torch.from_numpy(held[: size + (num_frames - 1) * hop]).unsqueeze(0)
                mel = mel_spectrogram(part, self.feature, self.sampling_rate, pad_left=False, pad_right=False)
                yield mel[0].T.numpy()

    def _padded(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Blocks with the end of the block before, up to where no frame has been; the ends are reflected."""
        size, hop = self.feature["n_fft"], self.feature["hop_length"]
        half, mode = size // 2, self.feature["pad_mode"]
        begun, held = False, np.empty(0, np.float32)
        for block in blocks:
            held = np.concatenate([held, np.asarray(block, np.float32)])
            if not begun and len(held) <= half:
                continue
            if not begun:
                held, begun = np.pad(held, (half, 0), mode=mode), True
            # Enough is held back for the reflection, should this have been the last.
            num_frames = (len(held) - size - half) // hop
            if num_frames > 0:
                yield held[: size + (num_frames - 1) * hop]
                held = held[num_frames * hop :]
        if not begun:
            held = np.pad(held if len(held) else np.zeros(1, np.float32), (half, 0), mode=mode)
        yield np.pad(held, (0, half), mode=mode)

    def values_of(self, decibels: np.ndarray, reference: float | None = None) -> np.ndarray:
        """What the model hears of a spectrogram or a piece of one.

        Args:
            decibels: `(num_frames, num_mel_bins)`, as `decibels` gives them, or half as precise.
            reference: Of the track, as `reference_of` gives it; `None`: of this.

        Returns:
            `(num_frames, num_mel_bins)`, float32.
        """
        decibels = np.asarray(decibels, np.float32)
        if self.values == "power":
            values = np.power(np.float32(10.0), decibels / np.float32(10.0))
        else:
            reference = self.reference_of(decibels) if reference is None else reference
            values = np.float32(self.decibel_factor) * (decibels - np.float32(reference))
            if self.top_db is not None:
                values = np.clip(values, np.float32(-self.top_db), np.float32(0.0))
        return (values - np.float32(self.mean)) / np.float32(self.std)

    def reference_of(self, decibels: np.ndarray) -> float:
        """The level of a track: its maximum in decibels, and never so low that silence would rise above the floor."""
        span = 0.0 if self.top_db is None else self.top_db / self.decibel_factor
        return max(float(decibels.max()), SILENCE_DB + span)

    def _batch(self, tracks: list[np.ndarray]) -> BatchFeature:
        """Tracks as one tensor as long as the longest, filled with the floor, and its mask."""
        lengths = [max(len(track), self.min_frames) for track in tracks]
        batch = torch.full((len(tracks), max(lengths), self.feature_size), self.floor)
        mask = torch.zeros(batch.shape[:2], dtype=torch.long)
        for index, track in enumerate(tracks):
            batch[index, : len(track)] = torch.from_numpy(track)
            mask[index, : lengths[index]] = 1
        return BatchFeature({"input_features": batch, "attention_mask": mask})
