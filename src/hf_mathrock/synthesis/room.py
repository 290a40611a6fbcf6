# SPDX-License-Identifier: Apache-2.0
"""The room: a generated stereo impulse response and the convolution with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft, signal


@dataclass(frozen=True, slots=True)
class Room:
    """Decay to -60 dB in seconds at mid frequencies, level of the reverberation against the dry mix, and its colour."""

    seconds: float = 0.8
    level: float = 0.15
    delay_seconds: float = 0.012
    bright_hz: float = 5000.0
    width: float = 1.0


def draw_room(rng: np.random.Generator) -> Room:
    """Draw a room; one take in six is dry."""
    dry = rng.random() < 1 / 6
    return Room(
        seconds=float(np.exp(rng.uniform(np.log(0.2), np.log(2.8)))),
        level=0.0 if dry else float(np.exp(rng.uniform(np.log(0.04), np.log(0.4)))),
        delay_seconds=float(rng.uniform(0.0, 0.04)),
        bright_hz=float(np.exp(rng.uniform(np.log(2000), np.log(9000)))),
        width=float(rng.uniform(0.2, 1.0)),
    )


def impulse_response(room: Room, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Noise whose highs die first, behind a few early reflections: float32, (2, samples), unit energy a channel."""
    size = int((room.seconds + room.delay_seconds + 0.01) * sampling_rate)
    times = np.arange(size) / sampling_rate
    noise = rng.standard_normal((2, size))
    noise[1] = (1.0 - room.width) * noise[0] + room.width * noise[1]
    corner = min(room.bright_hz, 0.4 * sampling_rate)
    dark = signal.sosfilt(signal.butter(1, corner / 4, fs=sampling_rate, output="sos"), noise)
    bright = signal.sosfilt(signal.butter(2, corner, fs=sampling_rate, output="sos"), noise)
    tail = bright * 10.0 ** (-6.0 * times / room.seconds) + 1.5 * dark * 10.0 ** (-3.0 * times / room.seconds)
    onset = int(room.delay_seconds * sampling_rate)
    response = np.zeros((2, size))
    response[:, onset:] = tail[:, : size - onset]
    for reflection in rng.uniform(0.004, 0.05, 6):
        place = int(reflection * sampling_rate)
        if place < size:
            response[:, place] += rng.uniform(-3.0, 3.0, 2) * np.exp(-reflection / 0.03)
    # A room carries little below 150 Hz: without this the bass turns to mud.
    response = signal.sosfilt(signal.butter(1, 150.0, "high", fs=sampling_rate, output="sos"), response)
    response /= np.sqrt(np.square(response).sum(axis=1, keepdims=True))
    return response.astype(np.float32)


def reverberate(send: np.ndarray, room: Room, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Sound of the room for a mono send.

    Args:
        send: What the room hears, (samples,).
        room: The room.
        sampling_rate: Samples per second.
        rng: Draws the impulse response.

    Returns:
        float32 samples, (2, samples), scaled by the room's level; the tail beyond the end is cut.
    """
    response = impulse_response(room, sampling_rate, rng)
    size = fft.next_fast_len(send.size + response.shape[1] - 1, real=True)
    product = fft.rfft(send, size)[np.newaxis] * fft.rfft(response, size, axis=-1)
    return np.float32(room.level) * fft.irfft(product, size, axis=-1)[:, : send.size]
