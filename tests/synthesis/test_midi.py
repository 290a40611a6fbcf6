# SPDX-License-Identifier: Apache-2.0
"""A piece written as MIDI and read back by pretty_midi is the same piece."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pretty_midi
import pytest

from hf_mathrock.synthesis.composer import compose
from hf_mathrock.synthesis.midi import VOICE, write_midi


@pytest.fixture(scope="module", params=[1, 5, 12, 31])
def round_trip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    piece = compose(request.param, seconds=30.0)
    path = tmp_path_factory.mktemp("midi") / "piece.mid"
    write_midi(piece, path)
    return piece, pretty_midi.PrettyMIDI(str(path))


def test_every_note_comes_back_at_its_time_and_pitch(round_trip) -> None:
    piece, midi = round_trip
    for name, notes in piece.tracks.items():
        read = sorted(
            (note.start, note.pitch, note.velocity)
            for instrument in midi.instruments
            if instrument.name == name
            for note in instrument.notes
        )
        written = sorted((note.start, note.pitch, round(127 * note.velocity)) for note in notes)
        assert [(pitch, velocity) for _, pitch, velocity in sorted(read, key=lambda n: (round(n[0], 2), n[1]))] == [
            (pitch, velocity) for _, pitch, velocity in sorted(written, key=lambda n: (round(n[0], 2), n[1]))
        ]
        np.testing.assert_allclose([n[0] for n in read], [n[0] for n in written], atol=2e-3)


def test_drums_are_on_the_drum_channel(round_trip) -> None:
    piece, midi = round_trip
    drums = [instrument for instrument in midi.instruments if instrument.is_drum]
    assert sum(len(instrument.notes) for instrument in drums) == len(piece.drums)
    assert {note.pitch for note in drums[0].notes} >= {36, 38} or {note.pitch for note in drums[0].notes} >= {36, 37}


def test_tempo_meters_and_key_come_back(round_trip) -> None:
    piece, midi = round_trip
    times, tempi = midi.get_tempo_changes()
    assert times.tolist() == [0.0]
    assert tempi[0] == pytest.approx(piece.bpm, rel=1e-5)
    changes = [
        (bar.start, *bar.meter) for i, bar in enumerate(piece.bars) if i == 0 or bar.meter != piece.bars[i - 1].meter
    ]
    read = [(change.time, change.numerator, change.denominator) for change in midi.time_signature_changes]
    assert [meter[1:] for meter in read] == [meter[1:] for meter in changes]
    np.testing.assert_allclose([meter[0] for meter in read], [meter[0] for meter in changes], atol=2e-3)
    assert len(midi.key_signature_changes) == 1


def test_downbeats_read_from_the_file_are_the_bars(round_trip) -> None:
    piece, midi = round_trip
    downbeats = midi.get_downbeats()[: len(piece.bars)]
    np.testing.assert_allclose(downbeats, [bar.start for bar in piece.bars][: len(downbeats)], atol=2e-3)


def test_key_signature_names_the_scale(tmp_path: Path) -> None:
    """Pieces in the six modes carry the signature of the scale they are written in."""
    parents = {"major": 0, "lydian": 7, "mixolydian": 5, "dorian": 10, "minor": 3, "phrygian": 8}
    seen = set()
    for seed in range(60):
        piece = compose(seed, seconds=6.0)
        if piece.mode in seen:
            continue
        seen.add(piece.mode)
        write_midi(piece, tmp_path / "piece.mid")
        number = pretty_midi.PrettyMIDI(str(tmp_path / "piece.mid")).key_signature_changes[0].key_number
        # pretty_midi numbers minor keys from 12.
        parent = (number - 12 + 3) % 12 if number >= 12 else number
        assert parent == (piece.key + parents[piece.mode]) % 12
    assert seen == set(parents)


def test_programs_follow_the_tone(tmp_path: Path) -> None:
    quiet = compose(2, vibe="melancholic", intensity="low")
    loud = compose(2, vibe="melancholic", intensity="high")
    programs = []
    for piece in (quiet, loud):
        write_midi(piece, tmp_path / "piece.mid")
        midi = pretty_midi.PrettyMIDI(str(tmp_path / "piece.mid"))
        programs.append({i.program for i in midi.instruments if i.name.startswith("guitar")})
        assert all(i.program == VOICE for i in midi.instruments if i.name == "voice")
    assert 27 in programs[0]
    assert 30 in programs[1]
    assert 30 not in programs[0]
