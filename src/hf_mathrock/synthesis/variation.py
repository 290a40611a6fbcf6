# SPDX-License-Identifier: Apache-2.0
"""Everything about a recording that must not change its labels, drawn at random."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from .amplifier import Amplifier, draw_amplifier
from .damage import Damage, draw_damage
from .mastering import Master, draw_master
from .percussion import Kit, draw_kit
from .players import Rig, Touch
from .room import Room, draw_room
from .score import Instrument, Piece
from .strings import StringTimbre, draw_string
from .voice import Singer, draw_singer

_BALANCE_DB = {"guitar_left": 0.0, "guitar_right": 0.0, "bass": -3.0, "lead_guitar": -1.0, "voice": -1.0, "drums": -2.0}
_SPREAD_DB = {"guitar_left": 4.0, "guitar_right": 4.0, "bass": 5.0, "lead_guitar": 4.0, "voice": 4.0, "drums": 4.0}


def _plain_bass() -> Rig:
    strings = StringTimbre(brightness_hz=1100.0, sustain_seconds=1.6, pick_noise=0.05, release_seconds=0.06)
    return Rig(strings, Amplifier(clean_drive_db=-3.0, tight_hz=35.0, cabinet_low_hz=45.0, cabinet_high_hz=3200.0))


@dataclass(frozen=True, slots=True)
class Variation:
    """One way of recording a piece. The defaults are a plain one: in tune, in time, no noise, no codec.

    `drift_seconds` is the amplitude of a slow sway of the tempo with period `drift_period_seconds`: it moves every
    event alike, and `perform` gives the times that are heard. `balance_db` and `pans` (-1 left to 1 right) are by stem.
    """

    touch: Touch = Touch()
    drift_seconds: float = 0.0
    drift_period_seconds: float = 20.0
    guitar_left: Rig = Rig(StringTimbre(), Amplifier())
    guitar_right: Rig = Rig(StringTimbre(pick_position=0.12), Amplifier(presence_hz=3200.0))
    lead_guitar: Rig = Rig(StringTimbre(sustain_seconds=2.0), Amplifier())
    bass: Rig = field(default_factory=_plain_bass)
    kit: Kit = Kit()
    singer: Singer = Singer()
    room: Room = Room()
    master: Master = Master()
    damage: Damage = Damage()
    balance_db: dict[str, float] = field(default_factory=lambda: dict(_BALANCE_DB))
    pans: dict[str, float] = field(
        default_factory=lambda: {
            "guitar_left": -0.7,
            "guitar_right": 0.7,
            "bass": 0.0,
            "lead_guitar": 0.2,
            "voice": 0.0,
        }
    )

    def rig(self, instrument: Instrument) -> Rig:
        """The rig of a stringed instrument."""
        rigs = {
            "guitar_left": self.guitar_left,
            "guitar_right": self.guitar_right,
            "lead_guitar": self.lead_guitar,
            "bass": self.bass,
        }
        return rigs[instrument]


def draw_variation(seed: int) -> Variation:
    """Draw a recording: players, instruments, room, desk and damage all follow from `seed`.

    Tuning lies within +-35 cents, the local tempo within 1 % of the written one, guitars and drums always within a few
    dB of their plain balance, so that nothing a label rests on is lost; bass, lead and voice may sink further.
    """
    rng = np.random.default_rng([seed, 0x7A7E])
    left = Rig(draw_string(rng), draw_amplifier(rng))
    right = Rig(draw_string(rng), draw_amplifier(rng))
    if rng.random() < 0.6:  # two takes on near-equal instruments, the usual case in a band
        strings = replace(left.strings, pick_position=right.strings.pick_position, pick_noise=right.strings.pick_noise)
        amplifier = replace(left.amplifier, presence_hz=right.amplifier.presence_hz, mid_hz=right.amplifier.mid_hz)
        right = Rig(strings, amplifier)
    balance = {
        stem: level + _SPREAD_DB[stem] * float(np.clip(rng.normal(0, 0.5), -1, 1))
        for stem, level in _BALANCE_DB.items()
    }
    for stem in ("bass", "lead_guitar", "voice"):
        if rng.random() < 0.06:
            balance[stem] -= 14.0
    hard = float(rng.uniform(0.25, 1.0))
    pans = {
        "guitar_left": -hard,
        "guitar_right": hard * float(rng.uniform(0.7, 1.0)),
        "bass": float(rng.uniform(-0.1, 0.1)),
        "lead_guitar": float(rng.uniform(-0.5, 0.5)),
        "voice": float(rng.uniform(-0.15, 0.15)),
    }
    if rng.random() < 0.5:
        pans = {stem: -pan for stem, pan in pans.items()}
    period = float(rng.uniform(12, 40))
    return Variation(
        touch=Touch(
            tuning_cents=float(rng.uniform(-35, 35)),
            string_cents=float(rng.uniform(0, 4)),
            jitter_seconds=float(rng.uniform(0, 0.006)),
            velocity_jitter=float(rng.uniform(0, 0.15)),
            strum_seconds=float(rng.uniform(0.001, 0.008)),
        ),
        drift_seconds=float(rng.uniform(-0.01, 0.01)) * period / (2 * math.pi),
        drift_period_seconds=period,
        guitar_left=left,
        guitar_right=right,
        lead_guitar=Rig(draw_string(rng), draw_amplifier(rng, lead=True)),
        bass=Rig(draw_string(rng, low=True), draw_amplifier(rng, low=True)),
        kit=draw_kit(rng),
        singer=draw_singer(rng),
        room=draw_room(rng),
        master=draw_master(rng),
        damage=draw_damage(rng),
        balance_db=balance,
        pans=pans,
    )


def perform(piece: Piece, variation: Variation) -> Piece:
    """The piece with every time moved by the variation's tempo drift: what a stopwatch beside the speaker would read.

    Render and labels both start from this, so labels hold to within the zero-mean jitter of single strokes. The sway
    d(t) = a sin(2 pi t / P) is zero at the start, and its slope, the local change of tempo, is at most 2 pi a / P.
    """
    if not variation.drift_seconds:
        return piece
    turn = 2.0 * math.pi / variation.drift_period_seconds

    def heard(time: float) -> float:
        return time + variation.drift_seconds * math.sin(turn * time)

    end = heard(piece.duration)
    return replace(
        piece,
        duration=end,
        bars=[
            replace(bar, start=heard(bar.start), end=heard(bar.end), beats=[heard(beat) for beat in bar.beats])
            for bar in piece.bars
        ],
        sections=[replace(part, start=heard(part.start), end=heard(part.end)) for part in piece.sections],
        chords=[replace(chord, start=heard(chord.start), end=heard(chord.end)) for chord in piece.chords],
        tracks={
            instrument: [
                replace(note, start=heard(note.start), duration=heard(note.start + note.duration) - heard(note.start))
                for note in notes
            ]
            for instrument, notes in piece.tracks.items()
        },
        drums=[replace(hit, start=heard(hit.start)) for hit in piece.drums],
    )
