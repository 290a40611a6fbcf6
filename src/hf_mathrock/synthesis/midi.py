# SPDX-License-Identifier: Apache-2.0
"""Write a piece as a standard MIDI file, so that any General MIDI synthesiser can play it."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import mido

from .harmony import MODES
from .score import DrumHit, DrumKind, Instrument, Note, Piece

TICKS_PER_QUARTER = 960
DRUM_CHANNEL = 9
CHANNELS: dict[Instrument, int] = {"guitar_left": 0, "guitar_right": 1, "bass": 2, "lead_guitar": 3, "voice": 4}

# General MIDI programs, counted from 0.
GUITAR_PROGRAMS = {"clean": 27, "crunch": 29, "distorted": 30}
MUTED_GUITAR, HARMONICS, FINGERED_BASS, PICKED_BASS, VOICE = 28, 31, 33, 34, 53
DRUM_KEYS: dict[DrumKind, int] = {
    "kick": 36, "snare": 38, "ghost": 38, "rim": 37, "hat_closed": 42, "hat_open": 46, "ride": 51, "crash": 49,
    "tom_high": 50, "tom_mid": 47, "tom_low": 43,
}  # fmt: skip
DRUM_STROKE_SECONDS = 0.06
KEY_NAMES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
MINOR_KEY_NAMES = ("Cm", "C#m", "Dm", "Ebm", "Em", "Fm", "F#m", "Gm", "G#m", "Am", "Bbm", "Bm")

_Timed = tuple[int, int, mido.Message | mido.MetaMessage]


def write_midi(piece: Piece, path: str | PathLike[str]) -> None:
    """Write a format 1 file: a conductor track, then a track for each instrument and the drums.

    The conductor holds the tempo (quarters, rounded to a microsecond each), every change of meter, the key signature
    (of the parent scale for the modes that are neither major nor minor) and a marker with the labels of every section.
    Programs follow the tone of the guitars. A note ends at the latest where the same pitch starts again.

    Args:
        piece: What `compose` returns.
        path: File to write; an existing one is replaced.
    """
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_QUARTER)
    file.tracks.append(_track("conductor", _conductor(piece)))
    for instrument, notes in piece.tracks.items():
        file.tracks.append(_track(instrument, _notes(piece, instrument, notes)))
    file.tracks.append(_track("drums", _drums(piece, piece.drums)))
    file.save(path)


def _ticks(piece: Piece, seconds: float) -> int:
    return round(seconds * piece.bpm / 60 * TICKS_PER_QUARTER)


def _velocity(velocity: float) -> int:
    return min(127, max(1, round(127 * velocity)))


def _conductor(piece: Piece) -> list[_Timed]:
    if piece.mode == "minor":
        key = MINOR_KEY_NAMES[piece.key]
    else:
        # The parent major scale is the one whose notes, counted from its own tonic, are this mode's.
        scale = {(piece.key + interval) % 12 for interval in MODES[piece.mode]}
        key = next(KEY_NAMES[t] for t in range(12) if {(t + interval) % 12 for interval in MODES["major"]} == scale)
    events: list[_Timed] = [
        (0, 0, mido.MetaMessage("set_tempo", tempo=round(60e6 / piece.bpm))),
        (0, 0, mido.MetaMessage("key_signature", key=key)),
    ]
    meter = None
    for bar in piece.bars:
        if bar.meter != meter:
            meter = bar.meter
            message = mido.MetaMessage("time_signature", numerator=meter[0], denominator=meter[1])
            events.append((_ticks(piece, bar.start), 0, message))
    for section in piece.sections:
        labels = section.labels
        text = f"{section.name}: {labels.vibe}, {labels.intensity}, {labels.tempo}, {' '.join(labels.emotions)}"
        events.append((_ticks(piece, section.start), 1, mido.MetaMessage("marker", text=text)))
    return events


def _program(instrument: Instrument, note: Note) -> int:
    if instrument == "voice":
        return VOICE
    if instrument == "bass":
        return PICKED_BASS if note.tone == "distorted" else FINGERED_BASS
    if note.technique == "harmonic":
        return HARMONICS
    if note.technique == "palm_mute" and note.tone == "clean":
        return MUTED_GUITAR
    return GUITAR_PROGRAMS[note.tone]


def _notes(piece: Piece, instrument: Instrument, notes: Sequence[Note]) -> list[_Timed]:
    channel = CHANNELS[instrument]
    events: list[_Timed] = []
    program = None
    next_start: dict[int, int] = {}
    ends: list[int] = []
    for note in reversed(notes):
        start = _ticks(piece, note.start)
        end = max(start + 1, _ticks(piece, note.start + note.duration))
        ends.append(min(end, next_start.get(note.pitch, end)))
        next_start[note.pitch] = start
    for note, end in zip(notes, reversed(ends), strict=True):
        start = _ticks(piece, note.start)
        if _program(instrument, note) != program:
            program = _program(instrument, note)
            events.append((start, 1, mido.Message("program_change", channel=channel, program=program)))
        strike = mido.Message("note_on", channel=channel, note=note.pitch, velocity=_velocity(note.velocity))
        events.append((start, 2, strike))
        events.append((end, 0, mido.Message("note_off", channel=channel, note=note.pitch)))
    return events


def _drums(piece: Piece, hits: Sequence[DrumHit]) -> list[_Timed]:
    events: list[_Timed] = []
    for hit in hits:
        start, end = _ticks(piece, hit.start), _ticks(piece, hit.start + DRUM_STROKE_SECONDS)
        key = DRUM_KEYS[hit.kind]
        strike = mido.Message("note_on", channel=DRUM_CHANNEL, note=key, velocity=_velocity(hit.velocity))
        events.append((start, 2, strike))
        events.append((end, 0, mido.Message("note_off", channel=DRUM_CHANNEL, note=key)))
    return events


def _track(name: str, events: list[_Timed]) -> mido.MidiTrack:
    """Order events by tick (offs before programs before ons) and turn ticks into the deltas a track stores."""
    track = mido.MidiTrack([mido.MetaMessage("track_name", name=name, time=0)])
    now = 0
    # The sort is stable, so a program change stays before the note it is for.
    for tick, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=tick - now))
        now = tick
    return track
