# SPDX-License-Identifier: Apache-2.0
"""What the composer writes and the renderer plays: a piece of music with every label known exactly.

All times are seconds from the start of the piece, pitches are MIDI numbers, velocities lie in (0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Technique = Literal["pluck", "tap", "palm_mute", "strum", "tremolo", "slide", "harmonic", "sung"]
Tone = Literal["clean", "crunch", "distorted"]
DrumKind = Literal[
    "kick", "snare", "ghost", "rim", "hat_closed", "hat_open", "ride", "crash", "tom_high", "tom_mid", "tom_low"
]
Instrument = Literal["guitar_left", "guitar_right", "bass", "lead_guitar", "voice"]


@dataclass(slots=True)
class Note:
    """One pitched note."""

    start: float
    duration: float
    pitch: int
    velocity: float
    technique: Technique = "pluck"
    tone: Tone = "clean"


@dataclass(slots=True)
class DrumHit:
    """One stroke on the kit."""

    start: float
    kind: DrumKind
    velocity: float


@dataclass(slots=True)
class Chord:
    """A chord span; `root` is a pitch class 0-11 (C = 0), `quality` e.g. "maj7", "add9", "sus2", "min"."""

    start: float
    end: float
    root: int
    quality: str


@dataclass(slots=True)
class Bar:
    """One bar: its meter (7, 8) and the times of its beats, the first of which is the downbeat."""

    start: float
    end: float
    meter: tuple[int, int]
    beats: list[float]


@dataclass(slots=True)
class Labels:
    """Labels of a stretch of music and the two numbers behind the emotions.

    `valence` and `arousal` lie in [-1, 1]; `emotions` holds one to four of the 28 words.
    """

    emotions: list[str]
    vibe: str
    intensity: str
    tempo: str
    valence: float
    arousal: float


@dataclass(slots=True)
class Section:
    """A part of the form ("intro", "verse", "chorus", "bridge", "breakdown", "outro") with labels of its own."""

    start: float
    end: float
    name: str
    labels: Labels


@dataclass(slots=True)
class Piece:
    """A whole composed piece. `tracks` maps an instrument to its notes in time order."""

    work_id: str
    seed: int
    bpm: float
    key: int
    mode: str
    duration: float
    bars: list[Bar]
    sections: list[Section]
    chords: list[Chord]
    tracks: dict[Instrument, list[Note]]
    drums: list[DrumHit]
    labels: Labels
    rules: dict[str, str] = field(default_factory=dict)
