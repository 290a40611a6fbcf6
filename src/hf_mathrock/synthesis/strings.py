# SPDX-License-Identifier: Apache-2.0
"""Plucked and bowed-like pitched notes: guitars, bass and lead, as sums of decaying partials.

A plucked string is the list of its partials: stretched by stiffness, combed by where it is picked and where the pickup
sits, the high ones dying first. Saw, pulse, bell (two-operator frequency modulation written out as its sidebands) and
reed timbres are other lists for the same oscillator, so that a model cannot learn one string.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import signal, special

from .filters import decibels
from .partials import pitch_to_hz, sum_partials
from .score import Technique

Family = Literal["string", "saw", "pulse", "bell", "reed"]

_NOTE_RMS = 0.1  # every note's first quarter of a second has this level at full velocity
NUM_LAYERS = 4  # velocities share this many timbres; the gain itself stays continuous


@dataclass(frozen=True, slots=True)
class StringTimbre:
    """How the notes of one instrument sound, before its amplifier.

    `brightness_hz` is the corner above which a full-velocity pluck falls off, `sustain_seconds` the time constant of a
    200 Hz fundamental, `damping` how much faster high partials die, positions are fractions of the string.
    """

    family: Family = "string"
    brightness_hz: float = 3000.0
    slope: float = 0.9
    pick_position: float = 0.17
    pickup_position: float = 0.23
    sustain_seconds: float = 1.2
    damping: float = 0.5
    stiffness: float = 1e-4
    pick_noise: float = 0.12
    attack_seconds: float = 0.0015
    release_seconds: float = 0.04
    body_hz: float = 0.0
    detune_cents: float = 2.0
    modulator: float = 2.0
    mute_seconds: float = 0.07


def draw_string(rng: np.random.Generator, low: bool = False) -> StringTimbre:
    """Draw a guitar, or with `low` a bass."""
    families: list[Family] = ["string", "saw", "pulse", "bell", "reed"]
    weights = [0.72, 0.08, 0.05, 0.1, 0.05] if not low else [0.68, 0.12, 0.1, 0.06, 0.04]
    family = families[int(rng.choice(len(families), p=weights))]
    return StringTimbre(
        family=family,
        brightness_hz=float(np.exp(rng.uniform(np.log(500), np.log(2500))))
        if low
        else float(np.exp(rng.uniform(np.log(1200), np.log(11000)))),
        slope=float(rng.uniform(0.6, 1.2)),
        pick_position=float(rng.uniform(0.06, 0.3)),
        pickup_position=float(rng.uniform(0.05, 0.32)),
        sustain_seconds=float(np.exp(rng.uniform(np.log(0.5), np.log(5.0)))),
        damping=float(rng.uniform(0.1, 1.2)),
        stiffness=float(np.exp(rng.uniform(np.log(1e-5), np.log(4e-4)))),
        pick_noise=float(rng.uniform(0.02, 0.3)),
        attack_seconds=float(rng.uniform(0.0008, 0.003)),
        release_seconds=float(np.exp(rng.uniform(np.log(0.02), np.log(0.2)))),
        body_hz=float(rng.uniform(90, 230)) if rng.random() < 0.35 else 0.0,
        detune_cents=float(rng.uniform(0.3, 3.0)),
        modulator=float(rng.choice([1.0, 2.0, 3.0, 3.5])),
        mute_seconds=float(rng.uniform(0.04, 0.11)),
    )


def _partials(
    timbre: StringTimbre, frequency_hz: float, technique: Technique, velocity: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frequencies (Hz), amplitudes and decay rates (1/s) of one note."""
    orders = np.arange(1, max(2, int(9000.0 / frequency_hz)) + 1, dtype=np.float64)
    stiffness = timbre.stiffness if timbre.family == "string" else 0.0
    frequencies = frequency_hz * orders * np.sqrt((1.0 + stiffness * orders**2) / (1.0 + stiffness))
    sustain = timbre.sustain_seconds * (200.0 / frequency_hz) ** 0.35
    if timbre.family == "string":
        pick = 0.42 if technique == "tap" else timbre.pick_position
        amplitudes = (
            np.sin(np.pi * orders * pick) * np.sin(np.pi * orders * timbre.pickup_position) / orders**timbre.slope
        )
    elif timbre.family == "saw":
        amplitudes = 1.0 / orders
        sustain *= 1.5
    elif timbre.family == "pulse":
        amplitudes = np.sin(np.pi * orders * (0.2 + timbre.pick_position)) / orders
        sustain *= 1.5
    elif timbre.family == "reed":
        amplitudes = np.exp(-0.5 * ((frequencies - 1100.0) / 900.0) ** 2) + 0.5 / orders
        sustain *= 4.0
    else:
        # Two-operator FM: sidebands of a carrier at +-n times the modulator, with Bessel amplitudes.
        sidebands = np.arange(-8, 9)
        index = 0.6 + 1.8 * velocity
        ratios = 1.0 + sidebands * timbre.modulator
        amplitudes = (
            special.jv(np.abs(sidebands), index) * np.sign(ratios) * np.where(sidebands < 0, (-1.0) ** sidebands, 1)
        )
        frequencies = frequency_hz * np.abs(ratios)
        orders = 1.0 + np.abs(sidebands)
    corner = timbre.brightness_hz * (0.35 + velocity)
    rates = (1.0 + timbre.damping * (0.25 * (orders - 1.0) + frequencies / 2500.0)) / sustain
    if technique == "palm_mute":
        corner = min(corner, 1100.0) * 0.8
        rates = rates + (1.0 + frequencies / 900.0) / timbre.mute_seconds
    elif technique == "tap":
        corner *= 0.7
    elif technique == "harmonic":
        amplitudes = amplitudes * np.where(orders <= 3, 1.0, 0.1) / orders
        amplitudes[0] = np.abs(amplitudes).max() * 2.0
        rates = rates * 0.7
    # A gentle corner rather than an exponential one keeps the highest partials that a pick excites.
    amplitudes = amplitudes / (1.0 + (frequencies / corner) ** 2)
    if timbre.body_hz:
        amplitudes = amplitudes * (
            1.0 + 1.6 * np.exp(-0.5 * (np.log2(np.maximum(frequencies, 1.0) / timbre.body_hz) / 0.3) ** 2)
        )
    return frequencies, amplitudes, rates


def pluck(
    timbre: StringTimbre,
    pitch: float,
    technique: Technique,
    velocity: float,
    seconds: float,
    sampling_rate: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Synthesise one note that rings for `seconds`, undamped, at full gain.

    Args:
        timbre: The instrument.
        pitch: MIDI pitch, with fractions for tuning.
        technique: How the note is played.
        velocity: Strength in (0, 1]; changes the timbre only.
        seconds: Length of the result.
        sampling_rate: Samples per second.
        rng: Draws the pick noise and the small detuning of the second polarisation.

    Returns:
        float32 samples, (seconds * sampling_rate,), whose first quarter of a second has an RMS of 0.1.
    """
    num_samples = int(seconds * sampling_rate)
    frequencies, amplitudes, rates = _partials(timbre, pitch_to_hz(pitch), technique, velocity)
    # The string swings in two planes, tuned slightly apart: notes beat slowly. The lowest partials carry the effect.
    beating = frequencies[:6] * 2.0 ** (timbre.detune_cents * rng.uniform(0.5, 1.0) / 1200.0)
    audio = sum_partials(
        np.concatenate([frequencies, beating]),
        np.concatenate([amplitudes, 0.35 * amplitudes[:6]]),
        np.concatenate([rates, 0.7 * rates[:6]]),
        num_samples,
        sampling_rate,
    )
    attack_seconds = timbre.attack_seconds * {"tap": 3.0, "harmonic": 2.0}.get(technique, 1.0)
    if timbre.family == "reed":
        attack_seconds += 0.02
    ramp = max(2, int(attack_seconds * sampling_rate))
    audio[:ramp] *= np.linspace(0.0, 1.0, ramp, dtype=np.float32)[: audio.size]
    audio *= _NOTE_RMS / max(float(np.sqrt(np.mean(np.square(audio[: sampling_rate // 4])))), 1e-9)
    noise_level = timbre.pick_noise * {"tap": 0.25, "harmonic": 0.5, "palm_mute": 1.3}.get(technique, 1.0)
    burst = min(num_samples, int(0.03 * sampling_rate))
    noise = rng.standard_normal(burst).astype(np.float32) * np.exp(
        -np.arange(burst, dtype=np.float32) / (0.004 * sampling_rate)
    )
    cutoff = min(1200.0 if technique in ("palm_mute", "tap") else 3800.0, 0.4 * sampling_rate)
    corners = signal.butter(1, [cutoff / 4, cutoff], "band", fs=sampling_rate)
    audio[:burst] += (noise_level * (0.4 + velocity) * signal.lfilter(*corners, noise)).astype(np.float32)
    # A muted note loses its energy at once: bring its peak near that of an open one, or the amplifier drowns in it.
    # A harmonic is one steady sine nearly, and would stand out as loud as a whole chord.
    if technique in ("palm_mute", "harmonic"):
        audio *= decibels(-3.0)
    return audio
