# SPDX-License-Identifier: Apache-2.0
"""Linear filters and gain control that the instruments, the room and the master share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import signal
from scipy.ndimage import minimum_filter1d, uniform_filter1d

_LEVEL_FLOOR = 1e-6


def decibels(gain_db: float) -> float:
    """Linear gain of a level in dB."""
    return 10.0 ** (gain_db / 20.0)


def minimum_phase_fir(
    frequencies_hz: Sequence[float], gains_db: Sequence[float], sampling_rate: int, num_taps: int = 512
) -> np.ndarray:
    """Filter with a drawn magnitude response and no pre-echo.

    The response is interpolated over log frequency; the phase follows from folding the cepstrum, which puts all zeros
    inside the unit circle (Oppenheim and Schafer, Discrete-Time Signal Processing, chapter on cepstra).

    Args:
        frequencies_hz: Rising corner frequencies, at least two.
        gains_db: Gain at each of them; constant beyond the ends.
        sampling_rate: Samples per second.
        num_taps: Length of the filter in samples.

    Returns:
        float32 impulse response, (num_taps,).
    """
    num_bins = 4 * num_taps
    grid = np.log2(np.maximum(np.fft.rfftfreq(num_bins, 1.0 / sampling_rate), 1.0))
    log_magnitude = np.interp(grid, np.log2(frequencies_hz), gains_db) * (math.log(10.0) / 20.0)
    cepstrum = np.fft.irfft(log_magnitude)
    fold = np.zeros(num_bins)
    fold[0] = fold[num_bins // 2] = 1.0
    fold[1 : num_bins // 2] = 2.0
    response = np.fft.irfft(np.exp(np.fft.rfft(cepstrum * fold)))[:num_taps]
    response[num_taps // 2 :] *= np.hanning(num_taps)[num_taps // 2 :]
    return response.astype(np.float32)


def apply_fir(audio: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Convolve along the last axis and keep the length of `audio`."""
    if audio.ndim > response.ndim:
        response = response[np.newaxis]
    return signal.oaconvolve(audio, response, axes=-1)[..., : audio.shape[-1]].astype(np.float32, copy=False)


def high_pass(audio: np.ndarray, cutoff_hz: float, sampling_rate: int, order: int = 1) -> np.ndarray:
    """Butterworth high-pass along the last axis."""
    sections = signal.butter(order, min(cutoff_hz, 0.45 * sampling_rate), "high", fs=sampling_rate, output="sos")
    return signal.sosfilt(sections.astype(np.float32), audio).astype(np.float32, copy=False)


def low_pass(audio: np.ndarray, cutoff_hz: float, sampling_rate: int, order: int = 1) -> np.ndarray:
    """Butterworth low-pass along the last axis; a cutoff at or above 0.45 of the rate leaves the audio as it is."""
    if cutoff_hz >= 0.45 * sampling_rate:
        return audio
    sections = signal.butter(order, cutoff_hz, "low", fs=sampling_rate, output="sos")
    return signal.sosfilt(sections.astype(np.float32), audio).astype(np.float32, copy=False)


def loudness(audio: np.ndarray, sampling_rate: int, window_seconds: float = 0.4) -> float:
    """Root mean square of the 90th-percentile window: how loud the loud parts are, silence left out."""
    size = max(1, int(window_seconds * sampling_rate))
    power = np.square(audio, dtype=np.float32)
    power = power.mean(axis=0) if power.ndim == 2 else power
    starts = np.arange(0, max(1, power.shape[-1] - size // 2), size)
    levels = np.sqrt(np.add.reduceat(power, starts) / size)
    heard = levels[levels > _LEVEL_FLOOR]
    return float(np.percentile(heard, 90)) if heard.size else 0.0


def compress(
    audio: np.ndarray,
    sampling_rate: int,
    threshold_db: float,
    ratio: float,
    attack_seconds: float = 0.005,
    release_seconds: float = 0.12,
) -> np.ndarray:
    """Feed-forward compressor over (samples,) or (channels, samples); channels share one gain.

    The gain is computed every 256 samples, which is finer than any attack used here, and interpolated.
    """
    hop = 256
    num_samples = audio.shape[-1]
    power = np.square(audio)
    power = power.max(axis=0) if power.ndim == 2 else power
    levels_db = 10.0 * np.log10(np.add.reduceat(power, np.arange(0, num_samples, hop)) / hop + 1e-10)
    over_db = np.maximum(levels_db - threshold_db, 0.0) * (1.0 - 1.0 / ratio)
    attack = math.exp(-hop / (attack_seconds * sampling_rate))
    release = math.exp(-hop / (release_seconds * sampling_rate))
    reduction, smoothed = 0.0, np.empty_like(over_db)
    for index, target in enumerate(over_db.tolist()):
        keep = attack if target > reduction else release
        reduction = keep * reduction + (1.0 - keep) * target
        smoothed[index] = reduction
    gain = 10.0 ** (-smoothed / 20.0)
    centres = np.arange(gain.size) * hop + hop // 2
    return audio * np.interp(np.arange(num_samples), centres, gain).astype(np.float32)


def limit(audio: np.ndarray, sampling_rate: int, ceiling: float = 0.985) -> np.ndarray:
    """Look-ahead limiter over (channels, samples): gain falls 2 ms before a peak, and no sample leaves the ceiling."""
    hop = 64
    num_samples = audio.shape[-1]
    peaks = np.maximum.reduceat(np.abs(audio).max(axis=0), np.arange(0, num_samples, hop))
    if peaks.max() <= ceiling:
        return audio
    gain = np.minimum(1.0, ceiling / np.maximum(peaks, _LEVEL_FLOOR))
    reach = max(3, int(0.004 * sampling_rate / hop))
    gain = uniform_filter1d(minimum_filter1d(gain, 2 * reach + 1), reach)
    centres = np.arange(gain.size) * hop + hop // 2
    limited = audio * np.interp(np.arange(num_samples), centres, gain).astype(np.float32)
    return np.clip(limited, -ceiling, ceiling)
