# SPDX-License-Identifier: Apache-2.0
"""What stands in for the part of the audio that an occlusion takes away.

Nothing is neutral to a model. Silence is itself a thing to hear, and far from all music that a model was trained on:
taking a stretch out by silence also puts a hole in. The mirrored surroundings sound like the music, so that they say
nothing of what lasts longer than the stretch. Noise at the window's mean level in every third of an octave is as loud
and as bright as the music, and has neither notes nor beats; it is the default, since over all it finds the largest part
of the evidence where that is known to lie (`benchmarks/occlusion.py` measures it; for what stands out briefly, the
surroundings do better).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hf_mathrock.models.audio_input import AudioWindow

BASELINES = {
    "noise": "steady noise of the window's mean spectrum",
    "silence": "silence",
    "surroundings": "what lies before and after it, mirrored and cross-faded",
}
DEFAULT_BASELINE = "noise"
FADE_SECONDS = 0.01
_NOISE_SEED = 0
_NOISE_BANDS_PER_OCTAVE = 3
_LOWEST_NOISE_BAND_HZ = 30.0
_BAND_PAD_SECONDS = 0.25
_SLOPE = 0.1
_MEL_BREAK_HZ = 700.0


class Occluder:
    """Takes stretches of time, or bands of frequencies, out of one window.

    Args:
        window: Is left as it is; every result is a new window of the same times.
        baseline: A key of `BASELINES`.
    """

    def __init__(self, window: AudioWindow, baseline: str = DEFAULT_BASELINE) -> None:
        self._window = window
        self._baseline = baseline
        self._noise = _steady_noise(window.audio) if baseline == "noise" else {}

    def without_stretch(self, start: float, end: float) -> AudioWindow:
        """The window with the seconds from `start` to `end` replaced.

        Nothing outside them changes by a bit; the first and last 10 ms inside are a cross-fade, except where the
        stretch reaches the window's own edge.

        Args:
            start: Seconds of the recording; before the window's beginning means its beginning.
            end: Likewise.
        """
        audio = {}
        for rate, samples in self._window.audio.items():
            first = max(0, round((start - self._window.start) * rate))
            last = min(len(samples), round((end - self._window.start) * rate))
            changed = samples.copy()
            if last > first:
                fade = _fade(first, last, len(samples), rate)
                changed[first:last] += fade * (self._stand_in(rate, samples, first, last) - samples[first:last])
            audio[rate] = changed
        return replace(self._window, audio=audio)

    def _stand_in(self, rate: int, samples: np.ndarray, first: int, last: int) -> np.ndarray:
        if self._baseline == "silence":
            return np.zeros(last - first, dtype=np.float32)
        if self._baseline == "noise":
            return self._noise[rate][first:last]
        return _mirrored(samples, first, last)

    def without_band(self, low: float, high: float) -> AudioWindow:
        """The window with the frequencies from `low` to `high` replaced: by noise, or else by nothing.

        A band has no surroundings in time. The filter has no phase; its slopes, a tenth of their frequency wide, lie
        half inside and half outside, so that neighbouring bands add up to the whole.

        Args:
            low: Hz; 0 begins at the lowest frequency.
            high: Hz.
        """
        audio = {}
        for rate, samples in self._window.audio.items():
            band = _band(samples, rate, low, high)
            stand = _band(self._noise[rate], rate, low, high) if self._baseline == "noise" else 0
            audio[rate] = (samples - band + stand).astype(np.float32)
        return replace(self._window, audio=audio)


def band_baseline(baseline: str) -> str:
    """What stands in for a band of frequencies, in words."""
    return BASELINES["noise"] if baseline == "noise" else "the same audio through a band-stop filter"


def mel_bands(num_bands: int, highest_hz: float) -> np.ndarray:
    """Edges of bands equally wide on the mel scale from 0 to `highest_hz`, `(num_bands, 2)` in Hz."""
    top = np.log1p(highest_hz / _MEL_BREAK_HZ)
    edges = _MEL_BREAK_HZ * np.expm1(np.linspace(0, top, num_bands + 1))
    edges[-1] = highest_hz  # not a rounding error less: what lies above the last edge stays in the audio
    return np.stack([edges[:-1], edges[1:]], axis=1)


def _fade(first: int, last: int, num_samples: int, rate: int) -> np.ndarray:
    """1 inside, rising and falling like half a cosine at the ends that have neighbours."""
    length = max(1, min(round(FADE_SECONDS * rate), (last - first) // 4))
    ramp = (0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / length)).astype(np.float32)
    fade = np.ones(last - first, dtype=np.float32)
    if first > 0:
        fade[:length] = ramp
    if last < num_samples:
        fade[-length:] = ramp[::-1]
    return fade


def _mirrored(samples: np.ndarray, first: int, last: int) -> np.ndarray:
    """The neighbours of a stretch mirrored into it, one fading into the other with their energies adding to one."""
    length = last - first
    before = _reflected(samples[:first][::-1], length)
    after = _reflected(samples[last:], length)
    if before is None or after is None:
        only = before if after is None else after
        stand = np.zeros(length, dtype=np.float32) if only is None else only
        return stand if after is None else stand[::-1]
    angle = (0.5 * np.pi * (np.arange(length) + 0.5) / length).astype(np.float32)
    return np.cos(angle) * before + np.sin(angle) * after[::-1]


def _reflected(neighbours: np.ndarray, length: int) -> np.ndarray | None:
    """`length` samples, beginning at the border; too few neighbours are walked to and fro, none give `None`."""
    if len(neighbours) == 0:
        return None
    there_and_back = np.concatenate([neighbours[:length], neighbours[:length][::-1]])
    return np.resize(there_and_back, length)


def _steady_noise(audio: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Noise with the mean spectrum of the window, in bands of a third of an octave; the same at every rate.

    Finer bands would keep the notes, and with them what is to be taken away.
    """
    highest = max(audio)
    samples = audio[highest].astype(np.float64)
    power = np.abs(np.fft.rfft(samples)) ** 2
    frequencies = np.fft.rfftfreq(len(samples), 1 / highest)
    octaves = np.log2(np.maximum(frequencies, _LOWEST_NOISE_BAND_HZ) / _LOWEST_NOISE_BAND_HZ)
    band = np.floor(octaves * _NOISE_BANDS_PER_OCTAVE).astype(int)
    counts = np.bincount(band)
    mean = np.bincount(band, weights=power) / np.maximum(counts, 1)
    phases = np.random.default_rng(_NOISE_SEED).uniform(0, 2 * np.pi, len(power))
    spectrum = np.sqrt(mean[band]) * np.exp(1j * phases)
    spectrum[0] = 0
    noise = {}
    for rate, values in audio.items():
        # Fewer bins of the same spectrum are the same noise at a lower rate.
        bins = spectrum[: len(values) // 2 + 1]
        noise[rate] = (np.fft.irfft(bins, len(values)) * (len(values) / len(samples))).astype(np.float32)
    return noise


def _band(samples: np.ndarray, rate: int, low: float, high: float) -> np.ndarray:
    """What of a signal lies between two frequencies, without any delay."""
    # Mirrored ends, or the filter would hear the window as a loop.
    pad = min(round(_BAND_PAD_SECONDS * rate), len(samples) - 1)
    padded = np.pad(samples.astype(np.float64), pad, mode="reflect")
    frequencies = np.fft.rfftfreq(len(padded), 1 / rate)
    gain = _rise(frequencies, low) - (_rise(frequencies, high) if high < rate / 2 else 0)
    return np.fft.irfft(np.fft.rfft(padded) * gain, len(padded))[pad : pad + len(samples)]


def _rise(frequencies: np.ndarray, edge: float) -> np.ndarray:
    """0 below an edge and 1 above it, with half a cosine between."""
    if edge <= 0:
        return np.ones_like(frequencies)
    place = np.clip((frequencies - edge) / (_SLOPE * edge) + 0.5, 0, 1)
    return 0.5 - 0.5 * np.cos(np.pi * place)
