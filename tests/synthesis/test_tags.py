# SPDX-License-Identifier: Apache-2.0
"""Tags are what the score says, of a piece and of any stretch of it."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from hf_mathrock.synthesis.composer import compose
from hf_mathrock.synthesis.corpus import write_corpus
from hf_mathrock.synthesis.score import Bar, DrumHit, Labels, Note, Piece, Section
from hf_mathrock.synthesis.tags import TAGS, piece_tags, tag_task, tags_between
from hf_mathrock.synthesis.variation import draw_variation, perform


def labels(intensity: str) -> Labels:
    return Labels(["joy"], "technical", intensity, "moderate", 0.0, 0.0)


@pytest.fixture
def piece() -> Piece:
    """Eight seconds by hand: four quiet ones of tapping in 4/4, four loud ones of palm mutes in 7/8."""
    return Piece(
        work_id="by hand", seed=0, bpm=120.0, key=0, mode="dorian", duration=8.0,
        bars=[Bar(0, 2, (4, 4), [0.0]), Bar(2, 4, (4, 4), [2.0])]
        + [Bar(4 + 1.75 * i, min(8, 5.75 + 1.75 * i), (7, 8), [4 + 1.75 * i]) for i in range(3)],
        sections=[Section(0, 4, "verse", labels("low")), Section(4, 8, "chorus", labels("high"))],
        chords=[],
        tracks={
            "guitar_left": [Note(0.5 * i, 0.4, 60 + i, 0.5, "tap", "clean") for i in range(8)],
            "guitar_right": [Note(4 + 0.25 * i, 0.2, 40, 0.8, "palm_mute", "distorted") for i in range(16)],
            "bass": [Note(0, 8, 30, 0.5, "pluck", "clean")],
            "voice": [Note(5.0, 1.0, 60, 0.5, "sung", "clean")],
        },
        drums=[DrumHit(1.0, "hat_closed", 0.5), DrumHit(4.0, "crash", 0.9), DrumHit(6.0, "tom_low", 0.7)],
        labels=labels("medium"),
    )  # fmt: skip


def test_the_tags_of_a_stretch_are_those_of_what_is_played_in_it(piece: Piece) -> None:
    always = {"moderate", "minor"}
    assert set(tags_between(piece, 0, 4)) == always | {"clean guitar", "tapping", "closed hi-hat", "quiet"}
    assert set(tags_between(piece, 4, 8)) == always | {
        *("distorted guitar", "palm mute", "crash cymbal", "toms", "voice", "odd meter", "loud"),
    }
    assert set(piece_tags(piece)) == {*tags_between(piece, 0, 4), *tags_between(piece, 4, 8), "meter change"}
    assert set(tags_between(piece, 6.1, 8)) == always | {"distorted guitar", "palm mute", "odd meter", "loud"}


def test_what_hardly_reaches_into_a_stretch_is_no_tag_of_it(piece: Piece) -> None:
    nearly = tags_between(piece, 4.01 - 4, 4.1)  # a note and a stroke begin a tenth of a second before its end
    assert not {"palm mute", "distorted guitar", "odd meter", "loud", "meter change"} & set(nearly)
    assert "crash cymbal" in nearly and "crash cymbal" not in tags_between(piece, 0, 4.02)
    assert "crash cymbal" not in tags_between(piece, 4.001, 8)  # its stroke came before
    assert "voice" in tags_between(piece, 3, 5.3) and "voice" not in tags_between(piece, 3, 5.2)


def test_chords_and_arpeggios_are_told_by_their_notes(piece: Piece) -> None:
    def with_left(notes: list[Note]) -> set[str]:
        return set(piece_tags(replace(piece, tracks={"guitar_left": notes})))

    ringing = [Note(0.5 * i, 1.0, 60 + i, 0.5, "pluck") for i in range(8)]
    assert "arpeggio" in with_left(ringing)
    assert "arpeggio" not in with_left([replace(note, duration=0.5) for note in ringing])  # one after the other
    struck = [Note(1.0, 1.0, pitch, 0.5, "pluck") for pitch in (40, 47, 52)]
    assert {"power chords"} == with_left(struck) & {"power chords", "arpeggio", "strumming"}
    minor = [replace(note, pitch=note.pitch - (note.pitch == 47)) for note in struck]
    assert not with_left(minor) & {"power chords", "arpeggio"}


def test_modes_count_as_major_or_minor_and_tempi_as_one_of_three(piece: Piece) -> None:
    for mode, name in (("lydian", "major"), ("mixolydian", "major"), ("phrygian", "minor"), ("minor", "minor")):
        assert {"major", "minor"} & set(piece_tags(replace(piece, mode=mode))) == {name}
    for bpm, name in ((94.9, "slow"), (95.0, "moderate"), (140.1, "fast")):
        assert {"slow", "moderate", "fast"} & set(piece_tags(replace(piece, bpm=bpm))) == {name}


def test_nothing_lies_outside_a_piece(piece: Piece) -> None:
    for start, end in ((8.0, 9.0), (3.0, 3.0), (-2.0, 0.0)):
        with pytest.raises(ValueError, match="Nothing of 'by hand' lies between .* it lasts 8 s"):
            tags_between(piece, start, end)
    assert tags_between(piece, -1, 4) == tags_between(piece, 0, 4)


def test_every_tag_can_be_learnt() -> None:
    """Over 500 pieces each holds for more than 4 % and fewer than 96 %."""
    counts: Counter[str] = Counter()
    for seed in range(500):
        tags = piece_tags(compose(seed, seconds=30.0))
        assert tags == [tag for tag in TAGS if tag in tags]
        counts.update(tags)
    assert {tag: counts[tag] for tag in TAGS if not 20 < counts[tag] < 480} == {}
    assert tag_task() == {"name": "tag", "type": "multi_label", "labels": list(TAGS)}


def test_a_written_corpus_names_the_tags_and_loads_as_a_task(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    import json

    from hf_mathrock.data.loading import load_labelled_audio

    settings = {"seed": 40, "seconds": 5.0, "sampling_rate": 8_000, "num_workers": 1}
    folder = write_corpus(tmp_path / "made", 9, **settings)
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text("utf-8").splitlines()]
    for line in lines:
        assert line["tag"] == piece_tags(perform(compose(line["seed"], seconds=5.0), draw_variation(line["seed"])))
    songs = load_labelled_audio(folder, shares={"train": 1.0})
    tasks = {task["name"]: task for task in songs.tasks}
    assert {"emotion", "vibe", "intensity", "tempo", "tag"} <= set(tasks) and tasks["tag"]["type"] == "multi_label"
    assert tasks["tag"]["labels"] == sorted({tag for line in lines for tag in line["tag"]})
    rows = {row["song"]: row["labels"]["tag"] for row in songs["train"]}
    for line in lines:
        named = [label for label, value in zip(tasks["tag"]["labels"], rows[line["file_name"]], strict=True) if value]
        assert named == sorted(line["tag"])

    # One that was written before there were tags gets them when it is extended, and no line is without.
    for score in (folder / "scores").glob("*.json"):
        old = json.loads(score.read_text("utf-8"))
        del old["metadata"]["tag"]
        score.write_text(json.dumps(old), "utf-8")
    write_corpus(folder, 10, **settings)
    again = [json.loads(line) for line in (folder / "metadata.jsonl").read_text("utf-8").splitlines()]
    assert [line["tag"] for line in again[:9]] == [line["tag"] for line in lines] and "tag" in again[9]
