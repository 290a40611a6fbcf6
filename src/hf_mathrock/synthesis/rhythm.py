# SPDX-License-Identifier: Apache-2.0
"""Meters, the sixteenth grid, rhythmic motifs and the drum part.

BPM always counts quarter notes, in every meter. A bar of x/8 is a sum of groups of two and three eighths
(7/8 = 2+2+3) and its beats are the starts of those groups, so a group of three is one beat of a quarter and a half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .chance import pick
from .score import DrumHit, DrumKind

Meter = tuple[int, int]
Grouping = tuple[int, ...]
Cell = tuple[int, ...]

# Above this tempo a player leaves sixteenths to a tremolo and counts in eighths.
FASTEST_SIXTEENTHS_BPM = 150.0

GROUPINGS: dict[Meter, tuple[Grouping, ...]] = {
    (4, 4): ((2, 2, 2, 2),),
    (3, 4): ((2, 2, 2),),
    (5, 4): ((2, 2, 2, 2, 2),),
    (6, 8): ((3, 3),),
    (7, 8): ((2, 2, 3), (3, 2, 2), (2, 3, 2)),
    (9, 8): ((2, 2, 2, 3), (3, 2, 2, 2), (2, 2, 3, 2)),
    (11, 8): ((2, 2, 2, 2, 3), (2, 2, 3, 2, 2), (3, 2, 2, 2, 2)),
    (13, 8): ((2, 2, 2, 2, 2, 3), (2, 2, 3, 2, 2, 2), (3, 2, 2, 2, 2, 2)),
}

STEADY: dict[tuple[Meter, ...], float] = {
    ((4, 4),): 12,
    ((3, 4),): 3,
    ((5, 4),): 2,
    ((6, 8),): 2,
    ((7, 8),): 2,
    ((9, 8),): 1,
}
ODD: dict[tuple[Meter, ...], float] = {
    ((5, 4),): 3,
    ((7, 8),): 4,
    ((9, 8),): 2,
    ((11, 8),): 2,
    ((13, 8),): 2,
    ((4, 4),): 2,
}
CHANGING: dict[tuple[Meter, ...], float] = {
    ((4, 4), (7, 8)): 2,
    ((4, 4), (4, 4), (4, 4), (3, 4)): 2,
    ((7, 8), (7, 8), (7, 8), (9, 8)): 2,
    ((5, 4), (4, 4)): 1,
    ((3, 4), (4, 4)): 1,
    ((5, 4), (7, 8)): 1,
    ((9, 8), (7, 8)): 1,
    ((11, 8), (4, 4)): 1,
}

# Onsets in sixteenths inside a group of two eighths (4 steps) and of three eighths (6 steps), from calm to busy.
CELLS: dict[int, dict[str, tuple[Cell, ...]]] = {
    2: {
        "calm": ((0,), (0, 2)),
        "eighths": ((0, 2), (0,), (2,)),
        "sixteenths": ((0, 2, 3), (0, 3), (0, 1, 3), (0, 1, 2), (2, 3), (1, 3)),
    },
    3: {
        "calm": ((0,), (0, 4)),
        "eighths": ((0, 2, 4), (0, 4), (0, 2)),
        "sixteenths": ((0, 3), (0, 2, 4, 5), (0, 3, 4), (0, 1, 4)),
    },
}


@dataclass(frozen=True, slots=True)
class Grid:
    """One bar on sixteenths: `step` seconds each, `grouping` in eighths."""

    start: float
    meter: Meter
    grouping: Grouping
    step: float

    @property
    def num_steps(self) -> int:
        """Sixteenths in the bar."""
        return 2 * sum(self.grouping)

    @property
    def end(self) -> float:
        """Seconds at which the next bar starts."""
        return self.start + self.num_steps * self.step

    @property
    def group_steps(self) -> list[int]:
        """First sixteenth of every group."""
        return [2 * sum(self.grouping[:i]) for i in range(len(self.grouping))]

    def time(self, step: float) -> float:
        """Seconds of a sixteenth of this bar."""
        return self.start + step * self.step


@dataclass(frozen=True, slots=True)
class Motif:
    """A rhythm that can be laid over any grouping: two cells that alternate on groups of two, one for threes."""

    pairs: tuple[Cell, Cell]
    triple: Cell

    def onsets(self, grouping: Grouping) -> list[int]:
        """Onsets in sixteenths from the downbeat, which is always one of them."""
        onsets, at, pairs = {0}, 0, 0
        for group in grouping:
            cell = self.triple if group == 3 else self.pairs[pairs % 2]
            pairs += group == 2
            onsets.update(at + offset for offset in cell)
            at += 2 * group
        return sorted(onsets)


def draw_motif(rng: np.random.Generator, bpm: float, activity: float, syncopation: float) -> Motif:
    """Draw a motif.

    Args:
        rng: Source of randomness.
        bpm: Quarters a minute; above `FASTEST_SIXTEENTHS_BPM` no sixteenths are used.
        activity: Chance in [0, 1] that a cell moves in eighths rather than quarters.
        syncopation: Chance in [0, 1] that such a cell is made of sixteenths.
    """

    def cell(size: int) -> Cell:
        if rng.random() >= activity:
            return pick(rng, CELLS[size]["calm"])
        sixteenths = bpm <= FASTEST_SIXTEENTHS_BPM and rng.random() < syncopation
        return pick(rng, CELLS[size]["sixteenths" if sixteenths else "eighths"])

    return Motif((cell(2), cell(2)), cell(3))


def vary_motif(rng: np.random.Generator, motif: Motif, bpm: float, activity: float, syncopation: float) -> Motif:
    """Keep the first cell, by which the motif is known, and draw the second anew."""
    return Motif((motif.pairs[0], draw_motif(rng, bpm, activity, syncopation).pairs[1]), motif.triple)


def draw_meters(rng: np.random.Generator, vibe: str, bpm: float) -> list[tuple[Meter, Grouping]]:
    """The cycle of meters of one section, each with its grouping."""
    odd, changing = (0.5, 0.4) if vibe == "technical" else (0.1, 0.12)
    draw = rng.random()
    table = CHANGING if draw < changing else ODD if draw < changing + odd else STEADY
    cycle = pick(rng, table)
    # 6/8 beats in dotted quarters: at a quarter of 110 it is felt at 73, in another tempo class than its label.
    # It is left to slow pieces, where both readings are slow.
    if cycle == ((6, 8),) and bpm >= 95:
        cycle = ((3, 4),)
    chosen = {meter: pick(rng, GROUPINGS[meter]) for meter in dict.fromkeys(cycle)}
    return [(meter, chosen[meter]) for meter in cycle]


def play_drums(
    rng: np.random.Generator,
    bars: Sequence[Grid],
    motif: Motif,
    variation: Motif,
    vibe: str,
    level: float,
    bpm: float,
) -> list[DrumHit]:
    """The drum part of one section.

    Kick and snare alternate on the groups, which in 4/4 is the backbeat on 2 and 4; the kick also follows the motif
    that guitars and bass play. Cymbals state the eighths with an accent on every group, so the quarter is heard at
    every level. Every fourth bar ends in a fill.

    Args:
        rng: Source of randomness.
        bars: The section's bars.
        motif: Rhythm shared with the other instruments.
        variation: Its variation, for the last bar of each phrase.
        vibe: Character of the section.
        level: Dynamic level in [0, 1].
        bpm: Quarters a minute.
    """
    hits: list[DrumHit] = []
    unit = 1 if bpm <= FASTEST_SIXTEENTHS_BPM else 2
    loudness = 0.3 + 0.6 * level
    backbeat: DrumKind = "rim" if level < 0.33 else "snare"
    cymbal = _cymbal(rng, vibe, level)
    ghosts = {"technical": 0.4, "aggressive": 0.2, "melancholic": 0.15, "atmospheric": 0.05}[vibe] * (unit == 1)
    kicks = {"technical": 0.8, "aggressive": 0.8, "melancholic": 0.6, "atmospheric": 0.5}[vibe] * (0.2 + 0.8 * level)
    # Decided once for the section: a groove is a pattern that comes back.
    kick_pattern = {onset for onset in range(64) if rng.random() < kicks}
    ghost_pattern = {onset for onset in range(64) if rng.random() < ghosts}

    for index, bar in enumerate(bars):
        last = index % 4 == 3 or index == len(bars) - 1
        groups = bar.group_steps
        snares = set(groups[1::2])
        onsets = (variation if last else motif).onsets(bar.grouping)
        fill_from = bar.num_steps
        if last and level > 0.15 and len(groups) > 1:
            length = 2 if vibe == "technical" or level > 0.7 else 1
            fill_from = groups[-min(length, len(groups) - 1)]
        kicked = set(groups[::2]) | {onset for onset in onsets if onset in kick_pattern and onset not in snares}
        if vibe == "aggressive" and level > 0.66:
            kicked |= {step for step in range(0, bar.num_steps, 2) if step not in snares}
        for step in sorted(kicked):
            if step < fill_from or step in groups:
                accent = 1.0 if step in groups else 0.8
                hits.append(DrumHit(bar.time(step), "kick", loudness * accent))
        for step in sorted(snares):
            hits.append(DrumHit(bar.time(step), backbeat, loudness))
        for step in range(0, bar.num_steps, 2):
            if step < fill_from or step in groups:
                accent = 1.0 if step in groups else 0.62
                hits.append(DrumHit(bar.time(step), cymbal, loudness * accent * 0.85))
        for step in range(1, fill_from, 2):
            if step in ghost_pattern and not {step, step - 1} & snares:
                hits.append(DrumHit(bar.time(step), "ghost", 0.12 + 0.25 * level))
        if level > 0.25 and (index == 0 or (level > 0.66 and index % (2 if vibe == "atmospheric" else 4) == 0)):
            hits.append(DrumHit(bar.time(0), "crash", loudness))
        if fill_from < bar.num_steps:
            hits.extend(_fill(rng, bar, fill_from, unit, level))
    hits.sort(key=lambda hit: hit.start)
    return hits


def _cymbal(rng: np.random.Generator, vibe: str, level: float) -> DrumKind:
    if vibe == "atmospheric":
        return "ride" if level < 0.66 else pick(rng, {"ride": 1.0, "hat_open": 1.0})
    if level > 0.66:
        return pick(rng, {"hat_open": 3.0, "ride": 2.0} if vibe != "technical" else {"ride": 3.0, "hat_open": 2.0})
    return pick(rng, {"hat_closed": 4.0, "ride": 1.0})


def _fill(rng: np.random.Generator, bar: Grid, first: int, unit: int, level: float) -> list[DrumHit]:
    """Strokes round the kit, from the snare down the toms, growing towards the next downbeat."""
    kinds: tuple[DrumKind, ...] = pick(
        rng, (("snare", "tom_high", "tom_mid", "tom_low"), ("tom_high", "tom_low"), ("snare", "snare", "tom_low"))
    )
    steps = [step for step in range(first, bar.num_steps, unit) if step % 2 == 0 or rng.random() < 0.35 + 0.5 * level]
    span = bar.num_steps - first
    return [
        DrumHit(
            bar.time(step),
            kinds[(step - first) * len(kinds) // span],
            (0.3 + 0.55 * level) * (0.75 + 0.25 * (step - first) / span),
        )
        for step in steps
    ]
