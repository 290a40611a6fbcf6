# SPDX-License-Identifier: Apache-2.0
"""The composer's promises: determinism, consistent time, playable parts, classes that all occur."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from hf_mathrock.synthesis import affect
from hf_mathrock.synthesis.arrangement import RANGES
from hf_mathrock.synthesis.composer import compose
from hf_mathrock.synthesis.harmony import MODES, QUALITIES
from hf_mathrock.synthesis.rhythm import GROUPINGS
from hf_mathrock.synthesis.score import Piece

TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def pieces() -> list[Piece]:
    return [compose(seed, seconds=(12.0, 30.0, 45.0)[seed % 3]) for seed in range(300)]


def onset_envelope(piece: Piece, rate: float) -> np.ndarray:
    """Velocity of kick and snare strokes on a grid of `rate` Hz, `(num_steps,)`."""
    envelope = np.zeros(int(piece.duration * rate) + 1)
    for hit in piece.drums:
        if hit.kind in ("kick", "snare", "rim"):
            envelope[round(hit.start * rate)] += hit.velocity
    return envelope


def test_the_same_seed_gives_the_same_piece_and_another_seed_another() -> None:
    assert compose(7) == compose(7)
    assert compose(7).tracks != compose(8).tracks


def test_bars_tile_the_piece_without_gap_or_overlap(pieces: list[Piece]) -> None:
    for piece in pieces:
        assert piece.bars[0].start == 0.0
        assert piece.bars[-1].end == pytest.approx(piece.duration)
        for bar, following in zip(piece.bars, piece.bars[1:], strict=False):
            assert bar.end == pytest.approx(following.start, abs=TOLERANCE)


def test_a_bar_lasts_what_its_meter_and_the_bpm_say(pieces: list[Piece]) -> None:
    for piece in pieces:
        for bar in piece.bars:
            quarters = bar.meter[0] * 4 / bar.meter[1]
            assert bar.end - bar.start == pytest.approx(quarters * 60 / piece.bpm, abs=TOLERANCE)


def test_beats_start_on_the_downbeat_and_are_groups_of_two_or_three_eighths(pieces: list[Piece]) -> None:
    for piece in pieces:
        eighth = 30 / piece.bpm
        for bar in piece.bars:
            assert bar.beats[0] == pytest.approx(bar.start, abs=TOLERANCE)
            groups = np.diff([*bar.beats, bar.end]) / eighth
            assert tuple(np.round(groups).astype(int)) in GROUPINGS[bar.meter]
            np.testing.assert_allclose(groups, np.round(groups), atol=1e-6)


def test_every_grouping_sums_to_its_meter() -> None:
    for (count, unit), groupings in GROUPINGS.items():
        assert all(sum(grouping) == count * 8 // unit for grouping in groupings)


def test_sections_and_chords_tile_the_piece(pieces: list[Piece]) -> None:
    for piece in pieces:
        for spans in (piece.sections, piece.chords):
            assert spans[0].start == 0.0
            assert spans[-1].end == pytest.approx(piece.duration)
            for span, following in zip(spans, spans[1:], strict=False):
                assert span.end == pytest.approx(following.start, abs=TOLERANCE)
        assert {section.start for section in piece.sections} <= {bar.start for bar in piece.bars}


def test_chords_belong_to_the_key(pieces: list[Piece]) -> None:
    for piece in pieces:
        scale = {(piece.key + interval) % 12 for interval in MODES[piece.mode]}
        for chord in piece.chords:
            assert {(chord.root + interval) % 12 for interval in QUALITIES[chord.quality]} <= scale


def test_notes_stay_inside_instrument_and_piece_and_in_time_order(pieces: list[Piece]) -> None:
    for piece in pieces:
        for instrument, notes in piece.tracks.items():
            low, high = RANGES[instrument]
            assert notes
            assert [note.start for note in notes] == sorted(note.start for note in notes)
            for note in notes:
                assert low <= note.pitch <= high
                assert 0 < note.velocity <= 1
                assert note.start >= 0
                assert note.duration > 0
                assert note.start + note.duration <= piece.duration + TOLERANCE
        assert all(0 <= hit.start < piece.duration and 0 < hit.velocity <= 1 for hit in piece.drums)
        assert [hit.start for hit in piece.drums] == sorted(hit.start for hit in piece.drums)


def test_a_singer_sings_one_note_at_a_time_and_breathes_in_every_two_bars(pieces: list[Piece]) -> None:
    for piece in pieces:
        notes = piece.tracks.get("voice", [])
        for note, following in zip(notes, notes[1:], strict=False):
            assert note.start + note.duration <= following.start + TOLERANCE
        longest = max((note.duration for note in notes), default=0.0)
        assert longest < 2 * max(bar.end - bar.start for bar in piece.bars)


def test_nearly_all_onsets_lie_on_the_sixteenth_grid(pieces: list[Piece]) -> None:
    for piece in pieces:
        onsets = np.array(
            [note.start for notes in piece.tracks.values() for note in notes if note.technique != "tremolo"]
        )
        steps = onsets * piece.bpm / 15
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-4)


def test_fast_pieces_leave_sixteenths_to_the_tremolo() -> None:
    for seed in range(20):
        piece = compose(seed, bpm=190.0)
        drums = np.array([hit.start for hit in piece.drums if hit.kind != "ghost"]) * 190.0 / 30
        np.testing.assert_allclose(drums, np.round(drums), atol=1e-4)


def test_kick_and_snare_repeat_at_the_bar_in_steady_meters(pieces: list[Piece]) -> None:
    checked = 0
    for piece in pieces:
        if {bar.meter for bar in piece.bars} != {(4, 4)}:
            continue
        # Sixteen samples a quarter: a lag of 64 is a bar; half and double tempo would peak at the half bar and beyond.
        envelope = onset_envelope(piece, piece.bpm / 60 * 16)
        envelope -= envelope.mean()
        correlation = np.correlate(envelope, envelope, "full")[len(envelope) - 1 :]
        bar = correlation[64] / correlation[0]
        assert bar > 0.3
        assert bar >= correlation[1:64].max() / correlation[0] - 0.25
        checked += 1
    assert checked > 20


def test_the_backbeat_in_four_four_is_on_two_and_four() -> None:
    snares: Counter[float] = Counter()
    for seed in range(40):
        piece = compose(seed, seconds=12.0)
        for bar in piece.bars:
            # Fills, in the last bar of a phrase, are free.
            if bar.meter == (4, 4):
                snares.update(
                    round((hit.start - bar.start) * piece.bpm / 60, 2)
                    for hit in piece.drums
                    if hit.kind in ("snare", "rim") and bar.start - TOLERANCE <= hit.start < bar.end - TOLERANCE
                )
    assert {beat for beat, _ in snares.most_common(2)} == {1.0, 3.0}
    assert snares[1.0] + snares[3.0] > 0.8 * sum(snares.values())


def test_guitars_bass_and_kick_share_the_motif(pieces: list[Piece]) -> None:
    """Off the beat the kick falls where a guitar or the bass plays too."""
    together = alone = 0
    for piece in pieces[:100]:
        onsets = {
            round(note.start, 4) for name in ("guitar_left", "guitar_right", "bass") for note in piece.tracks[name]
        }
        beats = {round(beat, 4) for bar in piece.bars for beat in bar.beats}
        for hit in piece.drums:
            if hit.kind == "kick" and round(hit.start, 4) not in beats:
                together += round(hit.start, 4) in onsets
                alone += round(hit.start, 4) not in onsets
    assert together > 4 * alone


def test_every_class_meter_mode_and_emotion_occurs() -> None:
    pieces = [compose(seed) for seed in range(600)]
    labels = [piece.labels for piece in pieces]
    assert {label.vibe for label in labels} == set(affect.VIBES)
    assert {label.intensity for label in labels} == set(affect.INTENSITIES)
    assert {label.tempo for label in labels} == set(affect.TEMPOS)
    assert {word for label in labels for word in label.emotions} == set(affect.EMOTIONS)
    assert {piece.mode for piece in pieces} == set(MODES)
    assert {bar.meter for piece in pieces for bar in piece.bars} == set(GROUPINGS)


def test_vibe_intensity_and_tempo_are_drawn_independently() -> None:
    sections = [section.labels for seed in range(600) for section in compose(seed).sections]
    for one, other in (("vibe", "intensity"), ("vibe", "tempo"), ("intensity", "tempo")):
        pairs = Counter((getattr(label, one), getattr(label, other)) for label in sections)
        cells = len({key[0] for key in pairs}) * len({key[1] for key in pairs})
        assert len(pairs) == cells
        assert min(pairs.values()) > 0.4 * len(sections) / cells
        assert max(pairs.values()) < 1.8 * len(sections) / cells


def test_arguments_fix_what_they_name() -> None:
    for seed in range(12):
        piece = compose(seed, seconds=20.0, bpm=140.0, vibe="technical", intensity="high")
        assert piece.bpm == 140.0
        assert {section.labels.vibe for section in piece.sections} == {"technical"}
        assert piece.labels.tempo == "moderate"
        assert piece.duration == pytest.approx(20.0, abs=4.0)


def test_the_planned_intensity_is_the_measured_one_nearly_always() -> None:
    planned = [(name, compose(seed, seconds=12.0, intensity=name)) for name in affect.INTENSITIES for seed in range(60)]
    agreeing = sum(piece.labels.intensity == name for name, piece in planned)
    assert agreeing >= 0.95 * len(planned)


def test_a_short_piece_is_one_section_and_a_half_minute_two_or_three() -> None:
    for seed in range(40):
        assert len(compose(seed, seconds=12.0).sections) == 1
        sections = compose(seed, seconds=30.0).sections
        assert len(sections) in (2, 3)
        assert min(section.end - section.start for section in sections) > 8.0 - TOLERANCE


def test_rules_name_the_label_and_the_numbers_behind_it() -> None:
    piece = compose(3)
    assert set(piece.rules) == {"emotion", "vibe", "intensity", "tempo"}
    assert piece.rules["tempo"].startswith(piece.labels.tempo)
    assert f"{piece.bpm:g}" in piece.rules["tempo"]
    assert all(word in piece.rules["emotion"] for word in piece.labels.emotions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"seed": 0, "seconds": 1.0}, "seconds is 1.0"),
        ({"seed": 0, "seconds": float("nan")}, "seconds is nan"),
        ({"seed": 0, "seconds": float("inf")}, "seconds is inf"),
        ({"seed": 0, "bpm": 20.0}, "bpm is 20.0"),
        ({"seed": 0, "vibe": "happy"}, "'happy'"),
        ({"seed": 0, "intensity": "loud"}, "'loud'"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compose(**arguments)
