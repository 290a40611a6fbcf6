# SPDX-License-Identifier: Apache-2.0
"""The outline of a waveform, for drawing."""

from __future__ import annotations

import os

import numpy as np

from hf_mathrock.models.audio_input import open_audio

_PIECE_SECONDS = 0.005
_WINDOW_SECONDS = 0.25


def read_envelope(file: str | os.PathLike[str], num_bins: int = 1600) -> tuple[np.ndarray, np.ndarray]:
    """Reads the lowest and highest sample of equal stretches of a file.

    The file is streamed: 3 MB are held for each hour of it.

    Args:
        file: Audio file.
        num_bins: Stretches to return; a file shorter than 5 ms times this gives fewer.

    Returns:
        `(low, high)`, each float32 `(num_bins,)`, of the mono signal as the models hear it (repaired, without offset).

    Raises:
        AudioReadError: The file cannot be read.
    """
    outlines: list[np.ndarray] = []
    with open_audio(file) as source:
        rate = source.info.sampling_rate
        length = max(1, round(_PIECE_SECONDS * rate))
        for window in source.windows(_WINDOW_SECONDS, _WINDOW_SECONDS, (rate,)):
            samples = window.audio[rate]
            starts = np.arange(0, len(samples), length)
            outlines.append(np.stack([np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)]))
    low, high = np.concatenate(outlines, axis=1)
    return _in_bins(low, high, num_bins)


def read_excerpt_envelope(
    file: str | os.PathLike[str], start: float, end: float, num_bins: int = 1600
) -> tuple[np.ndarray, np.ndarray]:
    """Reads the same of a part of a file that is short enough to hold.

    Args:
        file: Audio file.
        start: Seconds.
        end: Seconds.
        num_bins: Stretches to return; a part of fewer samples gives fewer.

    Raises:
        AudioReadError: The file cannot be read, or there is nothing at that place.
    """
    with open_audio(file) as source:
        rate = source.info.sampling_rate
        samples = source.excerpt(start, end - start, (rate,)).audio[rate]
    return _in_bins(samples, samples, num_bins)


def _in_bins(low: np.ndarray, high: np.ndarray, num_bins: int) -> tuple[np.ndarray, np.ndarray]:
    bins = np.unique(np.linspace(0, len(low), min(num_bins, len(low)), endpoint=False).astype(int))
    return np.minimum.reduceat(low, bins), np.maximum.reduceat(high, bins)
