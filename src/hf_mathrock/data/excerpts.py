# SPDX-License-Identifier: Apache-2.0
"""One window of a recording, for training: at random, without decoding the rest."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from hf_mathrock.models.audio_input import AudioReadError, AudioSource, AudioWindow, open_audio

_ATTEMPTS = 4  # a place that sounds is looked for this often


def random_window(audio: Any, extractor: Any, sampling_rates: tuple[int, ...]) -> AudioWindow:
    """A window from a random place that sounds, by torch's generator.

    Args:
        audio: A recording in any form `open_audio` reads.
        extractor: The model's; its `window_seconds` is the length.
        sampling_rates: Hz.

    Returns:
        The window: of the whole recording where that is shorter; silent only where silence was found at every attempt.

    Raises:
        AudioReadError: The recording cannot be read.
    """
    length = extractor.window_seconds
    with open_audio(audio, extractor.sampling_rate) as source:
        if source.info.claimed_frames is None:
            return _from_the_grid(source, length, sampling_rates, torch.rand(()).item())
        latest = max(0.0, source.info.claimed_frames / source.info.sampling_rate - length)
        for _ in range(_ATTEMPTS):
            place = torch.rand(()).item()
            try:
                window = _excerpt(source, place * latest, length, sampling_rates)
            except AudioReadError as error:
                if error.reason != "empty":
                    raise
                # The header claims more than there is.
                return _from_the_grid(source, length, sampling_rates, place)
            if "silent" not in window.quality:
                break
        return window


def middle_window(audio: Any, extractor: Any, sampling_rates: tuple[int, ...]) -> AudioWindow:
    """The window in the middle of a recording; arguments and errors as for `random_window`."""
    length = extractor.window_seconds
    with open_audio(audio, extractor.sampling_rate) as source:
        if source.info.claimed_frames is None:
            return _from_the_grid(source, length, sampling_rates, 0.5)
        seconds = source.info.claimed_frames / source.info.sampling_rate
        try:
            return _excerpt(source, max(0.0, (seconds - length) / 2), length, sampling_rates)
        except AudioReadError as error:
            if error.reason != "empty":
                raise
            return _from_the_grid(source, length, sampling_rates, 0.5)


def _excerpt(source: AudioSource, start: float, length: float, sampling_rates: tuple[int, ...]) -> AudioWindow:
    """A window of at most its length at each rate: half a sample of the source may be more than one of theirs."""
    window = source.excerpt(start, length, sampling_rates)
    window.audio = {rate: samples[: round(length * rate)] for rate, samples in window.audio.items()}
    return window


def _from_the_grid(source: AudioSource, length: float, sampling_rates: tuple[int, ...], place: float) -> AudioWindow:
    """The window at `place` (0: the first, 1: the last) of those that sound, of a recording of unknown length."""
    windows = list(source.windows(length, length / 2, sampling_rates))
    sounding = [window for window in windows if "silent" not in window.quality] or windows
    return sounding[min(int(place * len(sounding)), len(sounding) - 1)]


def silent_window(extractor: Any) -> AudioWindow:
    """What stands for audio that could not be read."""
    return AudioWindow(
        0, 0.0, 1.0, {rate: np.zeros(rate, dtype=np.float32) for rate in extractor.sampling_rates}, ["silent"]
    )


def filling_windows(extractor: Any) -> Any:
    """An extractor that repeats short recordings up to a whole window, where it could also hand them on as they are.

    For training: a batch then has one length. Rows of different lengths go through a tagger one length at a time, and
    its batch norms would take the statistics of each lot by itself.
    """
    if not hasattr(extractor, "min_samples"):
        return extractor
    filling = copy.copy(extractor)
    filling.min_samples = filling.max_samples = None
    return filling
