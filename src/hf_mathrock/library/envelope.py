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
    bins = np.unique(np.linspace(0, len(low), min(num_bins, len(low)), endpoint=False).astype(int))
    return np.minimum.reduceat(low, bins), np.maximum.reduceat(high, bins)
