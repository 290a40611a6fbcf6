# SPDX-License-Identifier: Apache-2.0
"""Occlusion: what a tag's probability loses when a part of the audio is taken away.

Source: Zeiler and Fergus (2014), section 2.1, over time or frequency of audio in place of the area of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from hf_mathrock.explanation.replacement import Occluder
from hf_mathrock.models.audio_input import AudioWindow

Listen = Callable[[Iterable[AudioWindow]], np.ndarray]


def stretches(start: float, end: float, width: float, step: float) -> np.ndarray:
    """Stretches of equal width that slide over a span, the last one ending with it: `(num_stretches, 2)` in seconds.

    Args:
        start: Seconds.
        end: Seconds.
        width: Seconds; at most half the span, or a stretch would leave no surroundings worth the name.
        step: Seconds between the beginnings of neighbours; at most `width`, or something would go unexplained.

    Raises:
        ValueError: The width or the step is out of range.
    """
    span = end - start
    if not 0 < width < float("inf"):
        raise ValueError(f"`width` is {width:g}; it must be a number of seconds above 0")
    if not 0 < step <= width:
        raise ValueError(
            f"`step` is {step:g}; it must be above 0 and at most the width ({width:g} s), or some of the music would "
            "never be taken away"
        )
    if width > span / 2:
        raise ValueError(
            f"the audio is {span:.2f} s long, too short to take away {width:g} s of it: give a `width` of at most "
            f"{span / 2:.2f} s, or a longer recording"
        )
    begins = start + step * np.arange(int(np.floor((span - width) / step + 1e-9)) + 1)
    if end - (begins[-1] + width) > 1e-6:
        begins = np.append(begins, end - width)
    return np.stack([begins, begins + width], axis=1)


def occlude_stretches(
    listen: Listen, windows: Iterable[AudioWindow], times: np.ndarray, baseline: str
) -> tuple[np.ndarray, np.ndarray]:
    """Evidence of stretches of time.

    A stretch is taken out of each window that hears it, one window at a time. Its value is the sum of what the windows'
    probabilities lose, divided by how many windows hear it, a window that hears a half of it counting a half.
    So a value means the same in one window and in a song of many; over a song, value times that number, divided by the
    number of windows, is what the song's mean probability loses.

    Args:
        listen: From windows to probabilities.
        windows: Sounding windows; only one is held at a time.
        times: `(num_stretches, 2)`, seconds of the recording.
        baseline: What stands in for a stretch.

    Returns:
        Values `(num_labels, num_stretches)`, and by how many windows each stretch was heard, `(num_stretches,)`; the
        value of a stretch that none heard is 0.
    """
    begins, ends = times.T
    heard = np.zeros(len(times))
    lost: np.ndarray | float = 0.0
    for window in windows:
        inside = np.clip(np.minimum(ends, window.end) - np.maximum(begins, window.start), 0, None) / (ends - begins)
        (touched,) = np.nonzero(inside > 1e-6)
        occluder = Occluder(window, baseline)
        versions = (occluder.without_stretch(begins[place], ends[place]) for place in touched)
        # The whole window is among its own versions: they go through the model in one batch, by the same arithmetic.
        probabilities = listen(_beginning_with(window, versions))
        changes = np.zeros((len(times), probabilities.shape[1]))
        changes[touched] = probabilities[0] - probabilities[1:]
        lost = lost + changes
        heard += inside
    values = np.asarray(lost) / np.maximum(heard, 1e-6)[:, None]
    return values.T, heard


def occlude_bands(listen: Listen, windows: Iterable[AudioWindow], edges: np.ndarray, baseline: str) -> np.ndarray:
    """Evidence of bands of frequencies: the mean over the windows, `(num_labels, num_bands)`.

    Args:
        listen: From windows to probabilities.
        windows: Sounding windows, at least one; only one is held at a time.
        edges: `(num_bands, 2)`, Hz.
        baseline: What stands in for a band.
    """
    lost: np.ndarray | float = 0.0
    num_windows = 0
    for window in windows:
        occluder = Occluder(window, baseline)
        versions = (occluder.without_band(low, high) for low, high in edges)
        probabilities = listen(_beginning_with(window, versions))
        lost = lost + (probabilities[0] - probabilities[1:])
        num_windows += 1
    return (np.asarray(lost) / max(num_windows, 1)).T


def _beginning_with(window: AudioWindow, others: Iterable[AudioWindow]) -> Iterable[AudioWindow]:
    yield window
    yield from others
