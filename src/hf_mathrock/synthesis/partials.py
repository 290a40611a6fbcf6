# SPDX-License-Identifier: Apache-2.0
"""Sums of decaying partials, the one oscillator behind strings, drum heads and cymbals.

A decaying partial is a geometric series: sample n is z**n for one complex number z. With n = rows * i + j it is
(z**rows)**i * z**j, so a sum of partials over a grid of (i, j) is a product of two small matrices. The exponentials are
then needed for about 2 * sqrt(num_samples) points in place of num_samples, and the rest is one matrix multiplication.
"""

from __future__ import annotations

import math

import numpy as np

_AUDIBLE = 1e-4  # partials below -80 dB of the strongest are left out


def sum_partials(
    frequencies_hz: np.ndarray,
    amplitudes: np.ndarray,
    decay_rates: np.ndarray,
    num_samples: int,
    sampling_rate: int,
    phases: np.ndarray | None = None,
) -> np.ndarray:
    """Add up sinusoids that each decay exponentially, each at its own rate.

    Args:
        frequencies_hz: Frequencies, (num_partials,). Those above 0.45 * `sampling_rate` are left out.
        amplitudes: Linear amplitudes at the first sample, (num_partials,); negative ones invert the partial.
        decay_rates: Decay per second, (num_partials,): amplitude falls as exp(-rate * t).
        num_samples: Length of the result.
        sampling_rate: Samples per second.
        phases: Phases in radians of cosines, (num_partials,). `None` gives sines, which start at zero.

    Returns:
        float32 samples, (num_samples,).
    """
    heard = (frequencies_hz < 0.45 * sampling_rate) & (np.abs(amplitudes) > _AUDIBLE * np.abs(amplitudes).max())
    if num_samples <= 0 or not heard.any():
        return np.zeros(max(num_samples, 0), np.float32)
    start_phases = np.full(heard.sum(), -0.5 * math.pi) if phases is None else phases[heard]
    step = (-decay_rates[heard] + 2j * math.pi * frequencies_hz[heard]) / sampling_rate
    columns = max(32, math.isqrt(num_samples))
    rows = -(-num_samples // columns)
    coarse = amplitudes[heard] * np.exp(1j * start_phases + step * (columns * np.arange(rows)[:, None]))
    fine = np.exp(step * np.arange(columns)[:, None])
    left = np.concatenate([coarse.real, -coarse.imag], axis=1).astype(np.float32)
    right = np.concatenate([fine.real, fine.imag], axis=1).astype(np.float32)
    return (left @ right.T).reshape(-1)[:num_samples]


def pitch_to_hz(pitch: float) -> float:
    """Frequency of a MIDI pitch number (69 is 440 Hz; fractions are cents / 100)."""
    return 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)
