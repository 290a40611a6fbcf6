# SPDX-License-Identifier: Apache-2.0
"""Modes, chords, progressions, and chord voicings that a hand can hold in an open tuning.

Pitch classes are 0-11 with C = 0; pitches are MIDI numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from .chance import pick

MODES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
}

QUALITIES: dict[str, tuple[int, ...]] = {
    "power": (0, 7),
    "maj": (0, 4, 7),
    "min": (0, 3, 7),
    "add9": (0, 2, 4, 7),
    "minadd9": (0, 2, 3, 7),
    "maj7": (0, 4, 7, 11),
    "min7": (0, 3, 7, 10),
    "sus2": (0, 2, 7),
    "sus4": (0, 5, 7),
}

# Degrees count from 0 (the tonic). Degrees whose triad is diminished are left out.
PROGRESSIONS: dict[str, tuple[tuple[int, ...], ...]] = {
    "major": ((0, 4, 5, 3), (3, 0, 4, 5), (0, 3, 5, 4), (5, 3, 0, 4), (0, 2, 3, 4), (3, 4, 0, 0)),
    "lydian": ((0, 1, 0, 1), (0, 4, 1, 5), (0, 1, 5, 4), (1, 0, 5, 0)),
    "mixolydian": ((0, 6, 3, 0), (0, 4, 6, 3), (0, 3, 6, 0), (6, 3, 0, 0)),
    "dorian": ((0, 3, 0, 6), (0, 6, 3, 0), (0, 2, 3, 0), (0, 1, 2, 3)),
    "minor": ((0, 5, 2, 6), (0, 3, 5, 4), (0, 6, 5, 6), (5, 6, 0, 0), (0, 2, 5, 3)),
    "phrygian": ((0, 1, 0, 1), (0, 1, 2, 1), (0, 6, 1, 0), (5, 1, 0, 0)),
}

# Colours a vibe adds to a diatonic triad; those whose notes leave the scale are skipped.
COLOURS: dict[str, dict[str, float]] = {
    "aggressive": {"power": 6, "min": 2, "maj": 1, "sus2": 1, "sus4": 1},
    "atmospheric": {"add9": 5, "maj7": 3, "sus2": 3, "minadd9": 3, "min7": 1},
    "melancholic": {"min7": 3, "maj7": 3, "minadd9": 2, "add9": 2, "min": 2, "maj": 1},
    "technical": {"maj7": 3, "min7": 3, "add9": 3, "sus4": 2, "sus2": 1},
}

TUNINGS: dict[str, tuple[int, ...]] = {
    "FACGCE": (41, 45, 48, 55, 60, 64),
    "DADGAD": (38, 45, 50, 55, 57, 62),
    "standard": (40, 45, 50, 55, 59, 64),
}


def scale_pitch(key: int, mode: str, degree: int, octave: int) -> int:
    """MIDI pitch of a scale degree; degrees below 0 and above 6 reach into other octaves.

    >>> scale_pitch(0, "major", 7, 4)
    72
    """
    shift, index = divmod(degree, 7)
    return 12 * (octave + 1 + shift) + key + MODES[mode][index]


def colour_chord(rng: np.random.Generator, key: int, mode: str, degree: int, vibe: str) -> tuple[int, str]:
    """Root pitch class and quality of a scale degree in the colours of a vibe, all notes inside the scale."""
    scale = {(key + interval) % 12 for interval in MODES[mode]}
    root = (key + MODES[mode][degree % 7]) % 12
    fitting = {
        quality: weight
        for quality, weight in COLOURS[vibe].items()
        if all((root + interval) % 12 in scale for interval in QUALITIES[quality])
    }
    return root, pick(rng, fitting or {"power": 1.0})


@lru_cache(maxsize=4096)
def voicings(tuning: tuple[int, ...], root: int, quality: str) -> tuple[tuple[int, ...], ...]:
    """Every way to hold a chord with a four-fret hand and open strings, one per hand position, low to high.

    A string takes the lowest chord tone within reach; strings below the first root are muted, and a shape counts
    only when it sounds every chord tone.
    """
    tones = {(root + interval) % 12 for interval in QUALITIES[quality]}
    shapes: dict[tuple[int, ...], None] = {}
    for position in range(0, 10):
        reach = [0, *range(max(position, 1), position + 4)]
        shape: list[int] = []
        for string in tuning:
            # Frets of the hand before the open string, so that the hand position shapes the chord.
            pitch = next((string + f for f in [*reach[1:], 0] if (string + f) % 12 in tones), None)
            if pitch is None or (not shape and pitch % 12 != root) or pitch in shape:
                continue
            shape.append(pitch)
        if len(shape) >= 3 and {p % 12 for p in shape} == tones:
            shapes[tuple(sorted(shape))] = None
    return tuple(shapes)


def lead_voices(tuning: tuple[int, ...], chords: Sequence[tuple[int, str]], centre: float) -> list[tuple[int, ...]]:
    """Voice a progression so that the hand and the top note move as little as possible.

    Args:
        tuning: Open strings, low to high.
        chords: Root pitch class and quality of each chord.
        centre: Pitch near which the first chord's mean should lie.
    """
    led: list[tuple[int, ...]] = []
    for root, quality in chords:
        options = voicings(tuning, root, quality) or (power_chord(root) + (power_chord(root)[0] + 12,),)
        if led:
            before = led[-1]
            led.append(min(options, key=lambda shape: _movement(before, shape) + 0.3 * abs(_mean(shape) - centre)))
        else:
            led.append(min(options, key=lambda shape: abs(_mean(shape) - centre)))
    return led


def power_chord(root: int, lowest: int = 38) -> tuple[int, int]:
    """Root and fifth with the root in the octave that starts at `lowest`."""
    low = lowest + (root - lowest) % 12
    return low, low + 7


def into_range(pitch: int, low: int, high: int) -> int:
    """Move a pitch by octaves into `[low, high]`, which must span an octave or more."""
    while pitch < low:
        pitch += 12
    while pitch > high:
        pitch -= 12
    return pitch


def _mean(shape: Sequence[int]) -> float:
    return sum(shape) / len(shape)


def _movement(before: Sequence[int], after: Sequence[int]) -> float:
    return sum(min(abs(a - b) for b in before) for a in after) / len(after) + abs(after[-1] - before[-1])
