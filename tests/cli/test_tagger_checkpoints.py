# SPDX-License-Identifier: Apache-2.0
"""Every command that takes a checkpoint takes a tagger's."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import soundfile

from hf_mathrock.cli import info
from tiny_taggers import TAGGERS, save_tiny_tagger

LABELS = ["rock", "drum & bass", "no vocals", *(f"tag {number}" for number in range(47))]


@pytest.fixture(params=list(TAGGERS))
def family(request):
    return request.param


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small tagger of each family with fifty labels; tests that change one take a copy."""
    folder = tmp_path_factory.mktemp("taggers")
    for name in TAGGERS:
        save_tiny_tagger(name, folder / name, id2label=dict(enumerate(LABELS)))
    return folder


@pytest.fixture(scope="module")
def tagged_songs(tmp_path_factory):
    """A folder of short songs with tags, two of an artist."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("tagged") / "songs"
    folder.mkdir()
    lines = []
    for number in range(48):
        pitch = rng.uniform(100, 2000)
        tone = 0.3 * np.sin(2 * np.pi * pitch * np.arange(12_000) / 8000)
        soundfile.write(folder / f"{number}.wav", tone + 0.01 * rng.normal(size=len(tone)), 8000)
        tags = {LABELS[0] if pitch > 1000 else LABELS[2], LABELS[1 if rng.random() < 0.5 else 3]}
        line = {"file_name": f"{number}.wav", "artist": f"artist {number // 2}", "tag": sorted(tags)}
        lines.append(line | {"split": "test" if number % 4 < 2 else "validation"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_tagger_is_evaluated(command, saved, family, tagged_songs, tmp_path):
    code, out, err = command("evaluate", saved / family, tagged_songs, "--resamples", "5", "--out", tmp_path)
    assert code == 0, err
    assert "mean average precision" in out and "ROC AUC" in out and "tag (24 known)" in out
    results = json.loads((tmp_path / "results.json").read_text())
    (entry,) = results["sets"].values()
    assert {"tag_map", "tag_roc_auc", "tag_macro_f1"} <= set(entry["metrics"])
    assert len(entry["left_out"]["tag"]) == 46 and entry["data"]["num_songs"] == 24
    settings = json.loads((saved / family / "preprocessor_config.json").read_text())
    assert entry["protocol"]["window_seconds"] == pytest.approx(settings["window_samples"] / 8000)
    assert entry["protocol"]["hop_seconds"] == entry["protocol"]["window_seconds"]
    assert (tmp_path / "predictions.parquet").is_file() and list((tmp_path / "figures").glob("*.png"))


def test_the_mean_of_logits_is_another_way_to_a_song(command, saved, tagged_songs, tmp_path):
    songs = saved / "music_tagging_transformer", tagged_songs
    figures = []
    for way in ("mean", "mean_logit"):
        code, _, err = command("evaluate", *songs, "--resamples", "0", "--aggregation", way, "--out", tmp_path / way)
        assert code == 0, err
        (entry,) = json.loads((tmp_path / way / "results.json").read_text())["sets"].values()
        figures.append(entry["metrics"])
    assert figures[0]["tag_ece"] is not None and figures[1]["tag_ece"] is not None
    assert figures[0]["tag_brier"] != figures[1]["tag_brier"]


def test_a_tagger_is_calibrated_and_loads_afterwards(command, saved, family, tagged_songs, tmp_path):
    folder = tmp_path / "calibrated"
    code, out, err = command("calibrate", saved / family, tagged_songs, "--out", folder)
    assert code == 0, err
    config = json.loads((folder / "config.json").read_text())
    assert len(config["thresholds"]["tag"]) == 50 and "tag" in out
    assert json.loads((folder / "calibration.json").read_text())["tasks"]["tag"]["temperature"] > 0
    code, out, _ = command("tag", tagged_songs / "0.wav", "--model", folder, "--json")
    assert code == 0
    answer = json.loads(out)
    assert len(answer["tag"]) == 50 and answer["settings"]["thresholds"]["tag"] == config["thresholds"]["tag"]


def test_a_tagger_is_described_from_its_files(command, saved, family, monkeypatch):
    monkeypatch.setattr(info, "OPTIONAL_PACKAGES", ())
    code, out, _ = command("info", saved / family)
    text = " ".join(out.split())
    assert code == 0 and f"type {family}" in text and "tag multi label: rock, drum & bass" in text
    assert "pipeline music-tagging" in text and "8,000 Hz" in text and "window seconds 1" in text


def test_a_tagger_is_built_for_publishing_with_its_figures(command, saved, tagged_songs, tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(saved / "musicnn", folder)
    assert command("evaluate", folder, tagged_songs, "--resamples", "0", "--out", folder)[0] == 0
    code, out, err = command(
        *("push", folder, "--repo", "ada/mine", "--dry-run", tmp_path / "out", "--licence", "isc"),
        *("--example", tagged_songs / "0.wav"),
    )
    assert code == 0, err
    text = (tmp_path / "out" / "README.md").read_text()
    assert "tag: ROC-AUC" in text and "24 songs" in text and 'pipeline("music-tagging"' in text
    assert "pipeline_music_tagging.py" in out
