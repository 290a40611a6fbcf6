# SPDX-License-Identifier: Apache-2.0
"""What every player of the band is told about a section before writing its part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .harmony import MODES
from .rhythm import FASTEST_SIXTEENTHS_BPM, Grid, Motif
from .score import Instrument

RANGES: dict[Instrument, tuple[int, int]] = {
    "guitar_left": (36, 88),
    "guitar_right": (36, 88),
    "bass": (26, 55),
    "lead_guitar": (52, 91),
    "voice": (48, 77),
}


CONTOURS = ((0, 2, 4, 3, 1, 4, 6, 2), (0, 4, 2, 6, 4, 1, 2, 4), (0, 0, 4, 2, 3, 0, 6, 4), (0, 1, 2, 4, 2, 6, 4, 1))
TURNS = ((0, 0, 0, 1), (0, 0, 2, 1), (0, 0, -1, 0), (0, 0, 0, 3, 0, 0, 2, 1))


@dataclass(frozen=True, slots=True)
class Harmony:
    """One chord as a guitarist holds it: `shape` are MIDI pitches, low to high."""

    start: float
    end: float
    root: int
    quality: str
    degree: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Plan of one section, shared by all players so that their parts lock.

    `key` is the tonic's pitch class, `level` the dynamic level in [0, 1]. `bars` and `chords` tile the section;
    `progression` are the scale degrees that the chords go round. `motif`, with its `variation` in the last bar of a
    phrase, is the rhythm that all accents follow. Along a bar's accents a single-line riff climbs by the scale steps
    of `contour`, and a riff of power chords leaves the chord's root by those of `turns`.
    """

    rng: np.random.Generator
    bpm: float
    key: int
    mode: str
    vibe: str
    level: float
    bars: tuple[Grid, ...]
    progression: tuple[int, ...]
    chords: tuple[Harmony, ...]
    motif: Motif
    variation: Motif
    contour: tuple[int, ...]
    turns: tuple[int, ...]

    @property
    def unit(self) -> int:
        """Shortest subdivision in sixteenths: 1, or 2 where sixteenths would be too fast to play."""
        return 1 if self.bpm <= FASTEST_SIXTEENTHS_BPM else 2

    @property
    def end(self) -> float:
        """Seconds at which the section ends."""
        return self.bars[-1].end

    @property
    def scale(self) -> tuple[int, ...]:
        """Pitch classes of the key, from the tonic up."""
        return tuple((self.key + interval) % 12 for interval in MODES[self.mode])

    def chord_at(self, time: float) -> Harmony:
        """The chord that sounds at a time (seconds)."""
        return next((c for c in self.chords if time < c.end - 1e-6), self.chords[-1])

    def accents(self, index: int) -> list[int]:
        """Motif onsets (sixteenths) of bar `index`; phrases are four bars, the last one varied."""
        last = index % 4 == 3 or index == len(self.bars) - 1
        return (self.variation if last else self.motif).onsets(self.bars[index].grouping)

    def velocity(self, accent: float) -> float:
        """Velocity in (0, 1] of a stroke: the dynamic level times its accent."""
        return float(min(1.0, max(0.05, (0.3 + 0.6 * self.level) * accent)))
