# SPDX-License-Identifier: Apache-2.0
"""Pedals, amplifier and cabinet of one guitar or bass.

The whole instrument goes through one valve stage, so the strings of a chord intermodulate as in a real amplifier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .filters import apply_fir, compress, decibels, high_pass, minimum_phase_fir
from .score import Tone


@dataclass(frozen=True, slots=True)
class Amplifier:
    """Settings of one rig. Drives are gains in dB into the valve stage, per tone class; the classes never overlap.

    `clean_level_db` and `crunch_level_db` are the levels of these channels against the distorted one.
    """

    clean_drive_db: float = 0.0
    crunch_drive_db: float = 20.0
    distorted_drive_db: float = 40.0
    bias: float = 0.15
    tight_hz: float = 90.0
    mid_hz: float = 900.0
    mid_db: float = 5.0
    cabinet_low_hz: float = 85.0
    cabinet_high_hz: float = 4800.0
    presence_hz: float = 2800.0
    presence_db: float = 4.0
    scoop_db: float = -3.0
    direct: bool = False
    chorus_depth_seconds: float = 0.0
    chorus_rate_hz: float = 0.8
    squeeze_ratio: float = 2.0
    echo_seconds: float = 0.0
    echo_level: float = 0.0
    clean_level_db: float = -6.0
    crunch_level_db: float = -3.0
    per_note: bool = False


def draw_amplifier(rng: np.random.Generator, low: bool = False, lead: bool = False) -> Amplifier:
    """Draw a guitar rig, or with `low` a bass rig; a `lead` rig has an echo more often.

    `per_note` rigs distort each note by itself, as sampled instruments do.
    """
    wants_echo = rng.random() < (0.6 if lead else 0.12)
    return Amplifier(
        clean_drive_db=float(rng.uniform(-12, 4)),
        crunch_drive_db=float(rng.uniform(17, 32)),
        distorted_drive_db=float(rng.uniform(34, 52)),
        bias=float(rng.uniform(0.0, 0.4)),
        tight_hz=float(rng.uniform(25, 50)) if low else float(rng.uniform(60, 190)),
        mid_hz=float(rng.uniform(500, 2200)),
        mid_db=float(rng.uniform(0, 9)),
        cabinet_low_hz=float(rng.uniform(30, 60)) if low else float(rng.uniform(65, 130)),
        cabinet_high_hz=float(rng.uniform(1800, 5000)) if low else float(rng.uniform(3600, 8500)),
        presence_hz=float(rng.uniform(1800, 4800)),
        presence_db=float(rng.uniform(0, 12)),
        scoop_db=float(rng.uniform(-8, 2)),
        direct=bool(rng.random() < 0.45),
        chorus_depth_seconds=float(rng.uniform(0.0005, 0.003)) if rng.random() < 0.5 and not low else 0.0,
        chorus_rate_hz=float(rng.uniform(0.3, 2.5)),
        squeeze_ratio=float(rng.uniform(1.0, 4.0)),
        echo_seconds=float(rng.uniform(0.18, 0.5)) if wants_echo else 0.0,
        echo_level=float(rng.uniform(0.1, 0.35)) if wants_echo else 0.0,
        clean_level_db=float(rng.uniform(-13, -1)),
        crunch_level_db=float(rng.uniform(-4, 0)),
        per_note=bool(rng.random() < 0.35),
    )


def saturate(audio: np.ndarray, drive: float, bias: float = 0.0) -> np.ndarray:
    """Smooth clipping x / sqrt(1 + x^2) of `drive * audio + bias`, with first-order antiderivative antialiasing.

    With F(x) = sqrt(1 + x^2), the antiderivative, the band-limited output (F(b) - F(a)) / (b - a) of two neighbouring
    samples simplifies to (a + b) / (F(a) + F(b)), which needs no special case when a equals b.

    Source: Parker, Zavalishin and Le Bivic, "Reducing the aliasing of nonlinear waveshaping using continuous-time
    convolution", DAFx 2016; the closed form for this curve is derived above.
    """
    driven = audio * np.float32(drive) + np.float32(bias)
    curve = np.sqrt(1.0 + np.square(driven))
    shaped = np.empty_like(driven)
    shaped[:1] = driven[:1] / curve[:1]
    np.divide(driven[1:] + driven[:-1], curve[1:] + curve[:-1], out=shaped[1:])
    return shaped


def _speaker(amp: Amplifier, tone: Tone, sampling_rate: int) -> np.ndarray:
    """Cabinet response; a clean direct signal skips the cabinet but for a softened top."""
    if amp.direct and tone == "clean":
        corners = [30.0, amp.cabinet_low_hz * 0.8, 400.0, amp.presence_hz, 9000.0, 14000.0]
        gains = [-12.0, 0.0, 0.5 * amp.scoop_db, 0.5 * amp.presence_db, -2.0, -12.0]
    else:
        low, high = amp.cabinet_low_hz, amp.cabinet_high_hz
        corners = [
            20.0,
            0.5 * low,
            low,
            1.5 * low,
            450.0,
            amp.presence_hz * 0.6,
            amp.presence_hz,
            high,
            1.5 * high,
            2.6 * high,
        ]
        gains = [-40.0, -18.0, 1.0, 2.0, amp.scoop_db, 0.0, amp.presence_db, amp.presence_db - 5.0, -22.0, -50.0]
        order = np.argsort(corners)
        corners, gains = np.asarray(corners)[order].tolist(), np.asarray(gains)[order].tolist()
    return minimum_phase_fir(corners, gains, sampling_rate, 512)


def _chorus(audio: np.ndarray, amp: Amplifier, sampling_rate: int) -> np.ndarray:
    positions = np.arange(audio.size, dtype=np.float64)
    sweep = np.sin(2.0 * np.pi * amp.chorus_rate_hz / sampling_rate * positions)
    delay = sampling_rate * (0.012 + amp.chorus_depth_seconds * sweep)
    return (audio + 0.6 * np.interp(positions - delay, positions, audio, left=0.0)).astype(np.float32)


def amplify(audio: np.ndarray, amp: Amplifier, tone: Tone, sampling_rate: int) -> np.ndarray:
    """Play a signal through the rig.

    Args:
        audio: Dry strings, (samples,), RMS of about 0.1 a note.
        amp: The rig.
        tone: Which of its channels.
        sampling_rate: Samples per second.

    Returns:
        float32 samples, (samples,), whose level depends on the drive: scale by loudness afterwards.
    """
    if tone == "clean":
        audio = saturate(audio, 2.0 * decibels(amp.clean_drive_db))
        audio = compress(audio, sampling_rate, -22.0, amp.squeeze_ratio)
    else:
        tone_shape = minimum_phase_fir(
            [20.0, amp.tight_hz, 2.0 * amp.tight_hz, amp.mid_hz, 2.2 * amp.mid_hz, 8000.0],
            [-24.0, -6.0, 0.0, amp.mid_db, 0.0, -6.0],
            sampling_rate,
            256,
        )
        audio = apply_fir(audio, tone_shape)
        if tone == "crunch":
            audio = saturate(audio, decibels(amp.crunch_drive_db), amp.bias)
        else:
            audio = saturate(audio, decibels(0.5 * amp.distorted_drive_db), amp.bias)
            audio = high_pass(audio, amp.tight_hz, sampling_rate)
            audio = saturate(audio, decibels(0.5 * amp.distorted_drive_db), 0.5 * amp.bias)
        audio = high_pass(audio, 30.0, sampling_rate)
    audio = apply_fir(audio, _speaker(amp, tone, sampling_rate))
    if amp.chorus_depth_seconds and tone == "clean":
        audio = _chorus(audio, amp, sampling_rate)
    for repeat in (1, 2, 3):
        delay = int(repeat * amp.echo_seconds * sampling_rate)
        if 0 < delay < audio.size:
            audio = audio.copy() if repeat == 1 else audio
            audio[delay:] += np.float32(amp.echo_level**repeat) * audio[:-delay]
    return audio
