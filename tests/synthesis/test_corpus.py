# SPDX-License-Identifier: Apache-2.0
"""The corpus on disk: what is in it, what `datasets` reads, what a second run does."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile

from hf_mathrock.synthesis.composer import compose
from hf_mathrock.synthesis.corpus import write_corpus
from hf_mathrock.synthesis.renderer import render
from hf_mathrock.synthesis.variation import draw_variation, perform

SETTINGS = {"seed": 40, "seconds": 8.0, "sampling_rate": 16_000}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "made", 3, num_workers=1, **SETTINGS)


def lines_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text("utf-8").splitlines()]


def test_the_labels_on_disk_are_those_of_the_composed_pieces(corpus: Path) -> None:
    lines = lines_of(corpus)
    assert [line["seed"] for line in lines] == [40, 41, 42]
    for line in lines:
        piece = perform(compose(line["seed"], seconds=8.0), draw_variation(line["seed"]))
        assert line["emotion"] == piece.labels.emotions
        assert (line["vibe"], line["intensity"], line["tempo"]) == (
            piece.labels.vibe,
            piece.labels.intensity,
            piece.labels.tempo,
        )
        assert line["bpm"] == piece.bpm
        assert {rule["label"]: rule["rule"] for rule in line["rules"]} == piece.rules
        assert [section["emotion"] for section in line["sections"]] == [part.labels.emotions for part in piece.sections]
        score = json.loads((corpus / line["score_path"]).read_text("utf-8"))
        assert score["beats"] == pytest.approx([beat for bar in piece.bars for beat in bar.beats], abs=1e-6)
        assert score["downbeats"] == pytest.approx([bar.start for bar in piece.bars], abs=1e-6)
        assert len(score["chords"]) == len(piece.chords)
        for instrument, notes in piece.tracks.items():
            assert [row[2] for row in score["tracks"][instrument]] == [note.pitch for note in notes]
        assert [row[1] for row in score["drums"]] == [hit.kind for hit in piece.drums]


def test_the_audio_on_disk_is_the_rendered_piece(corpus: Path) -> None:
    line = lines_of(corpus)[1]
    audio, rate = soundfile.read(corpus / line["file_name"], always_2d=True)
    assert rate == 16_000
    assert line["duration"] == pytest.approx(len(audio) / rate)
    wanted = render(compose(41, seconds=8.0), sampling_rate=16_000)
    assert np.abs(audio.T - wanted).max() < 2.0 / 32768


def test_the_midi_on_disk_lasts_as_long_as_the_audio(corpus: Path) -> None:
    for line in lines_of(corpus):
        assert mido.MidiFile(corpus / line["midi_path"]).length == pytest.approx(line["duration"], abs=1.5)


def test_a_second_run_skips_what_is_finished_and_mends_what_is_missing(corpus: Path) -> None:
    kept, lost = (corpus / line["file_name"] for line in lines_of(corpus)[:2])
    before, stamp = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    seen: list[tuple[int, int]] = []
    write_corpus(corpus, 3, num_workers=1, progress=lambda done, total: seen.append((done, total)), **SETTINGS)
    assert seen == [(2, 3), (3, 3)]
    assert lost.read_bytes() == before
    assert kept.stat().st_mtime_ns == stamp
    assert not list(corpus.rglob(".*"))


def test_two_workers_write_the_same_bytes_as_one(corpus: Path, tmp_path: Path) -> None:
    other = write_corpus(tmp_path / "parallel", 2, num_workers=2, **SETTINGS)
    assert lines_of(other) == lines_of(corpus)[:2]
    for line in lines_of(other):
        assert (other / line["file_name"]).read_bytes() == (corpus / line["file_name"]).read_bytes()


def test_a_folder_with_other_settings_is_left_alone(corpus: Path) -> None:
    with pytest.raises(ValueError, match="holds a corpus made with"):
        write_corpus(corpus, 3, **{**SETTINGS, "seed": 41})


@pytest.mark.parametrize("wrong", [{"num": 0}, {"num": 1, "seed": -1}, {"num": 1, "audio_format": "aac"}])
def test_wrong_arguments_are_named(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(reversed(wrong))):
        write_corpus(tmp_path / "none", **wrong)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("audio_format", ["wav", "ogg", "mp3"])
def test_other_audio_formats_can_be_read_back(tmp_path: Path, audio_format: str) -> None:
    if audio_format == "mp3" and "MP3" not in soundfile.available_formats():
        pytest.skip("this libsndfile has no MP3 encoder (needs 1.1)")
    folder = write_corpus(tmp_path, 1, num_workers=1, audio_format=audio_format, **SETTINGS)  # type: ignore[arg-type]
    line = lines_of(folder)[0]
    audio, rate = soundfile.read(folder / line["file_name"])
    assert len(audio) / rate == pytest.approx(line["duration"], abs=0.1)
    assert np.abs(audio).max() > 0.01


def test_datasets_reads_the_folder_offline(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    if importlib.util.find_spec("torchcodec") is None:
        # `datasets` imports an encoder before it looks at a path that needs none: stand in for the import alone.
        encoders = types.ModuleType("torchcodec.encoders")
        encoders.AudioEncoder = None  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "torchcodec", types.ModuleType("torchcodec"))
        monkeypatch.setitem(sys.modules, "torchcodec.encoders", encoders)
    loaded = datasets.load_dataset("audiofolder", data_dir=str(corpus), split="train", cache_dir=str(tmp_path))
    loaded = loaded.cast_column("audio", datasets.Audio(decode=False))
    assert loaded["seed"][:] == [40, 41, 42]
    assert loaded["emotion"][:] == [line["emotion"] for line in lines_of(corpus)]
    assert Path(loaded[0]["audio"]["path"]) == corpus / lines_of(corpus)[0]["file_name"]
    assert loaded[2]["sections"] == lines_of(corpus)[2]["sections"]
