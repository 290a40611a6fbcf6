# SPDX-License-Identifier: Apache-2.0
"""What all extractors share: recordings of any length become windows on a fixed grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import BatchFeature, SequenceFeatureExtractor

from .audio_input import AudioSource, AudioWindow, open_audio
from .audio_windows import count_windows

# Below these a minute is thousands of windows: rather milliseconds that were taken for seconds.
SHORTEST_WINDOW_SECONDS = 0.1
SHORTEST_HOP_SECONDS = 0.01


class WindowedFeatureExtractor(SequenceFeatureExtractor):
    """Base of the extractors; a subclass gives `sampling_rates` and `featurize`.

    Attributes:
        window_seconds: Length of a window.
        hop_seconds: Distance between the starts of two windows; `None`: `window_seconds`, one after the other.
    """

    _auto_class = "AutoFeatureExtractor"

    window_seconds: float
    hop_seconds: float | None

    @property
    def sampling_rates(self) -> tuple[int, ...]:
        """The rates that a window must come in, in Hz."""
        raise NotImplementedError

    def featurize(self, windows: Sequence[AudioWindow]) -> BatchFeature:
        """Inputs of the model for windows that hold all of `sampling_rates`."""
        raise NotImplementedError

    def __call__(
        self,
        audio: Any,
        sampling_rate: int | None = None,
        return_tensors: str | None = "pt",
        window_seconds: float | None = None,
        hop_seconds: float | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Inputs of the model for one clip or a list of clips.

        Args:
            audio: Whatever `open_audio` reads (a path, an array `(num_samples,)` or `(channels, num_samples)`, a
                `{"array", "sampling_rate"}` dict, …), or a list of such clips.
            sampling_rate: Hz, of bare arrays; `None`: `self.sampling_rate`.
            return_tensors: "pt" or "np".
            window_seconds: Instead of the extractor's.
            hop_seconds: Instead of the extractor's.
            **kwargs: `padding`, `truncation` and the like of other extractors have no meaning here and are ignored.

        Returns:
            What `featurize` gives of all windows, and `windows_per_clip` `(num_clips,)`, how many windows of the batch
            each clip has.

        Raises:
            AudioReadError: A clip cannot be read (a `ValueError` that names it).
        """
        clips = audio if is_batch(audio) else [audio]
        windows: list[AudioWindow] = []
        counts = []
        for clip in clips:
            with open_audio(clip, sampling_rate or self.sampling_rate) as source:
                of_clip = list(self.windows(source, window_seconds, hop_seconds))
            windows += of_clip
            counts.append(len(of_clip))
        features = self.featurize(windows)
        features["windows_per_clip"] = torch.tensor(counts)
        return features if return_tensors == "pt" else features.convert_to_tensors(return_tensors)

    def checked_grid(self, window_seconds: float | None, hop_seconds: float | None) -> tuple[float, float]:
        """The window and hop to use, in seconds; `None` stands for the extractor's own.

        Raises:
            ValueError: The window is longer than the model's, or the hop longer than the window.
        """
        window = self.window_seconds if window_seconds is None else float(window_seconds)
        own_hop = window if self.hop_seconds is None else min(self.hop_seconds, window)
        hop = own_hop if hop_seconds is None else float(hop_seconds)
        least = min(SHORTEST_WINDOW_SECONDS, self.window_seconds)
        if not least <= window <= self.longest_window_seconds:
            raise ValueError(
                f"`window_seconds` is {window:g}; this model takes windows of up to {self.longest_window_seconds:g} s, "
                f"and of at least {least:g} s. Longer recordings are cut into several windows by themselves."
            )
        if not SHORTEST_HOP_SECONDS <= hop <= window:
            raise ValueError(
                f"`hop_seconds` is {hop:g}; it must be at least {SHORTEST_HOP_SECONDS:g} s and at most the window, "
                f"{window:g} s."
            )
        return window, hop

    @property
    def longest_window_seconds(self) -> float:
        """The longest window that may be asked for."""
        return self.window_seconds

    def windows(
        self, source: AudioSource, window_seconds: float | None = None, hop_seconds: float | None = None
    ) -> Iterator[AudioWindow]:
        """Windows of a recording as the model wants them, while it is read.

        Args:
            source: The opened recording.
            window_seconds: Instead of the extractor's.
            hop_seconds: Instead of the extractor's.

        Raises:
            ValueError: See `checked_grid`.
            AudioReadError: See `AudioSource.windows`.
        """
        return source.windows(*self.checked_grid(window_seconds, hop_seconds), self.sampling_rates)

    def count_windows(self, num_frames: int, sampling_rate: int) -> int:
        """How many windows `windows` gives of that many samples at that rate, on the extractor's own grid."""
        return count_windows(num_frames, sampling_rate, *self.checked_grid(None, None))


def is_batch(audio: Any) -> bool:
    """Whether a list is one of clips rather than one of samples."""
    return isinstance(audio, (list, tuple)) and not (audio and isinstance(audio[0], (int, float)))
