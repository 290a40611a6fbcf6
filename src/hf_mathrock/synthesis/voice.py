# SPDX-License-Identifier: Apache-2.0
"""A sung line: a glottal source with glide, vibrato and breath through the formants of "ah" and "oh"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import signal

from .filters import loudness
from .partials import pitch_to_hz
from .score import Note

# First four formants (Hz) of an adult male; Peterson and Barney (1952), the fourth is a usual value.
_VOWELS: dict[str, tuple[float, float, float, float]] = {
    "ah": (730.0, 1090.0, 2440.0, 3400.0),
    "oh": (570.0, 840.0, 2410.0, 3300.0),
    "eh": (530.0, 1840.0, 2480.0, 3500.0),
    "oo": (300.0, 870.0, 2240.0, 3300.0),
}
_BANDWIDTHS = (80.0, 90.0, 130.0, 200.0)
_CONTROL_HZ = 400  # rate at which pitch and loudness are drawn before interpolation


@dataclass(frozen=True, slots=True)
class Singer:
    """One voice, or a few in unison. `size` scales the formants: 1.0 a man, 1.17 a woman, 1.3 a child."""

    size: float = 1.0
    vowels: tuple[str, str] = ("ah", "oh")
    vibrato_cents: float = 30.0
    vibrato_hz: float = 5.5
    glide_seconds: float = 0.05
    breath: float = 0.08
    effort: float = 0.5
    attack_seconds: float = 0.05
    num_singers: int = 1


def draw_singer(rng: np.random.Generator) -> Singer:
    """Draw a voice."""
    vowels = rng.permutation(list(_VOWELS))
    return Singer(
        size=float(rng.uniform(0.95, 1.3)),
        vowels=(str(vowels[0]), str(vowels[1])),
        vibrato_cents=float(rng.uniform(0, 60)),
        vibrato_hz=float(rng.uniform(4.5, 6.8)),
        glide_seconds=float(rng.uniform(0.015, 0.09)),
        breath=float(np.exp(rng.uniform(np.log(0.02), np.log(0.4)))),
        effort=float(rng.uniform(0.2, 0.9)),
        attack_seconds=float(rng.uniform(0.02, 0.09)),
        num_singers=2 if rng.random() < 0.25 else 1,
    )


def _formants(audio: np.ndarray, singer: Singer, vowel: str, sampling_rate: int) -> np.ndarray:
    sections = []
    for formant, bandwidth in zip(_VOWELS[vowel], _BANDWIDTHS, strict=True):
        frequency = formant * singer.size
        if frequency > 0.45 * sampling_rate:
            continue
        radius = np.exp(-np.pi * bandwidth / sampling_rate)
        poles = [1.0, -2.0 * radius * np.cos(2 * np.pi * frequency / sampling_rate), radius**2]
        sections.append([sum(poles), 0.0, 0.0, *poles])
    return signal.sosfilt(np.array(sections, dtype=np.float32), audio)


def _phrase(
    notes: list[Note], singer: Singer, tuning_cents: float, sampling_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """Sing notes that begin at the first one's start, (samples,)."""
    origin = notes[0].start
    seconds = max(note.start + note.duration for note in notes) - origin + 0.15
    control = np.arange(int(seconds * _CONTROL_HZ) + 1) / _CONTROL_HZ
    starts = np.array([note.start - origin for note in notes])
    current = np.clip(np.searchsorted(starts, control, "right") - 1, 0, None)
    pitches = np.array([note.pitch for note in notes], dtype=np.float64)[current]
    since = control - starts[current]
    keep = np.exp(-1.0 / (singer.glide_seconds * _CONTROL_HZ))
    pitches, _ = signal.lfilter([1.0 - keep], [1.0, -keep], pitches, zi=[keep * pitches[0]])
    swell = np.clip((since - 0.15) / 0.3, 0.0, 1.0)
    pitches += swell * singer.vibrato_cents / 100.0 * np.sin(2 * np.pi * singer.vibrato_hz * control)
    wander = signal.lfilter([0.02], [1.0, -0.98], rng.standard_normal(control.size))
    pitches += 0.35 * wander + (tuning_cents + rng.normal(0.0, 4.0)) / 100.0
    ends = np.array([note.start + note.duration - origin for note in notes])[current]
    strengths = np.array([note.velocity for note in notes])[current]
    sounding = np.clip(since / singer.attack_seconds, 0.0, 1.0) * np.clip((ends - control) / 0.06 + 1.0, 0.0, 1.0)
    # A consonant closes the voice for a moment before each note but never to silence: lines stay legato.
    loud = strengths * np.minimum(sounding + 0.25 * (control < ends), 1.0)

    num_samples = int(seconds * sampling_rate)
    times = np.arange(num_samples) / sampling_rate
    frequency = pitch_to_hz(0.0) * 2.0 ** (np.interp(times, control, pitches) / 12.0)
    envelope = np.interp(times, control, loud).astype(np.float32)
    phase = np.cumsum(frequency / sampling_rate) % 1.0
    # Derivative of a cubic glottal flow t^2 (T - t): gentle opening, abrupt closure, then the closed phase.
    opening = np.minimum(phase / (0.75 - 0.35 * singer.effort), 1.0)
    source = (2.0 * opening - 3.0 * opening**2).astype(np.float32)
    source[opening >= 1.0] = 0.0
    source += (
        singer.breath
        * rng.standard_normal(num_samples).astype(np.float32)
        * (0.4 + 0.6 * (opening < 1.0)).astype(np.float32)
    )
    source *= envelope
    vowel_mix = np.interp(times, control, signal.lfilter([0.05], [1.0, -0.95], current % 2)).astype(np.float32)
    first, second = (_formants(source, singer, vowel, sampling_rate) for vowel in singer.vowels)
    return ((1.0 - vowel_mix) * first + vowel_mix * second).astype(np.float32)


def sing(
    notes: list[Note],
    singer: Singer,
    num_samples: int,
    sampling_rate: int,
    rng: np.random.Generator,
    tuning_cents: float = 0.0,
) -> np.ndarray:
    """Render a vocal track, phrase by phrase.

    Args:
        notes: Sung notes in time order; overlapping ones hand over to the later.
        singer: The voice.
        num_samples: Length of the piece.
        sampling_rate: Samples per second.
        rng: Draws pitch wander and breath.
        tuning_cents: Offset of every pitch.

    Returns:
        float32 samples, (num_samples,), loud parts near an RMS of 0.1 at full velocity.
    """
    audio = np.zeros(num_samples, np.float32)
    phrases: list[list[Note]] = []
    for note in notes:
        if not phrases or note.start > phrases[-1][-1].start + phrases[-1][-1].duration + 0.4:
            phrases.append([])
        phrases[-1].append(note)
    for phrase in phrases:
        begin = round(phrase[0].start * sampling_rate)
        for _ in range(singer.num_singers):
            sung = _phrase(phrase, singer, tuning_cents, sampling_rate, rng)[: max(0, num_samples - begin)]
            audio[begin : begin + sung.size] += sung
    level = loudness(audio, sampling_rate)
    if level > 0.0:
        audio *= np.float32(0.1 * np.percentile([note.velocity for note in notes], 90) / level)
    return audio
