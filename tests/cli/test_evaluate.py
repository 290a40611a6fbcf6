# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow.parquet
import pytest
from sklearn import metrics as reference

from hf_mathrock.data.content import content_id


@pytest.fixture(scope="module")
def folder(labelled_songs):
    """30 songs: 10 of each given split."""
    return labelled_songs(30, splits=lambda number: ("train", "validation", "test")[number // 10])


@pytest.fixture
def model(saved_model, tmp_path):
    return shutil.copytree(saved_model, tmp_path / "model")


def contents(files):
    return [content_id(file) for file in files]


def test_the_test_split_is_measured_and_all_is_written(command, saved_model, folder, tmp_path):
    out = tmp_path / "out"
    code, printed, err = command("evaluate", saved_model, folder, "--out", out, "--resamples", "50")
    assert code == 0 and "songs, split test" in printed and "mean average precision" in printed and " to " in printed
    assert sorted(path.name for path in out.iterdir()) == [
        "figures", "predictions.parquet", "results.json", "windows.parquet",
    ]  # fmt: skip
    assert "no split" not in err and "wrote" in err
    results = json.loads((out / "results.json").read_text())
    entry = results["sets"]["songs_test"]
    assert results["checkpoint"] == "tiny" and results["num_parameters"] > 10_000
    assert (
        entry["data"]["num_songs"] == 10 and entry["data"]["num_groups"] == 5 and entry["data"]["split_made"] == "given"
    )
    assert entry["data"]["trained_on"] is None and entry["protocol"]["num_resamples"] == 50
    assert {path.name for path in (out / "figures").iterdir()} == {
        "precision-recall-emotion.png", "reliability-emotion.png", "labels-emotion.png",
        "precision-recall-tempo.png", "reliability-tempo.png", "labels-tempo.png", "confusion-tempo.png",
    }  # fmt: skip
    assert str(folder.parent) not in (out / "results.json").read_text()  # results are passed on

    songs = pyarrow.parquet.read_table(out / "predictions.parquet")
    labels, scores = (np.array(songs.column(f"tempo_{part}").to_pylist()) for part in ("labels", "scores"))
    accuracy = reference.accuracy_score(labels, scores.argmax(axis=1))
    assert entry["metrics"]["tempo_accuracy"] == pytest.approx(accuracy, abs=1e-6)
    labels, scores = (np.array(songs.column(f"emotion_{part}").to_pylist()) for part in ("labels", "scores"))
    some = labels.any(axis=0)
    precision = reference.average_precision_score(labels[:, some], scores[:, some], average="macro")
    assert entry["metrics"]["emotion_map"] == pytest.approx(precision, abs=1e-6)


def test_another_split_joins_the_sets_that_are_there(command, saved_model, folder, tmp_path):
    for split in ("validation", "all"):
        code, *_ = command("evaluate", saved_model, folder, "--split", split, "--out", tmp_path, "--resamples", "0")
        assert code == 0
    sets = json.loads((tmp_path / "results.json").read_text())["sets"]
    assert {name: entry["data"]["num_songs"] for name, entry in sets.items()} == {
        "songs_validation": 10,
        "songs_all": 30,
    }
    assert sets["songs_all"]["intervals"] == {}


def test_without_a_folder_nothing_is_written(command, saved_model, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed, err = command("evaluate", saved_model, folder, "--resamples", "0")
    assert code == 0 and "tempo (10 known)" in printed and "nothing was written; --out DIR" in err
    assert list(tmp_path.iterdir()) == []


def test_intervals_of_windows_come_with_their_level(command, saved_model, folder):
    _, printed, _ = command("evaluate", saved_model, folder, "--resamples", "20", "--level", "window")
    assert printed.splitlines()[2].split() == ["songs", "95", "%", "windows", "95", "%"]


def test_data_without_a_split_are_measured_as_the_model_knows_them(command, model, labelled_songs):
    songs = labelled_songs(20, seed=1)
    _, printed, err = command("evaluate", model, songs, "--resamples", "0")
    assert "of the one made by group, test is measured (more: --split all)" in err and "split test" in printed
    (model / "training_songs.json").write_text(json.dumps({"songs": ["0" * 32]}))
    _, printed, err = command("evaluate", model, songs, "--resamples", "0")
    assert "the model was trained on none of them: all are measured" in err and "20 songs" in printed


def test_songs_that_were_trained_on_are_counted(command, model, folder, tmp_path):
    seen = contents([folder / f"{number}.wav" for number in (3, 20, 21, 22)])
    (model / "training_songs.json").write_text(json.dumps({"songs": seen}))
    code, printed, err = command("evaluate", model, folder, "--out", tmp_path / "out", "--resamples", "0")
    assert code == 0 and "3 of the songs were trained on" in printed and "trained on 3 of these 10 songs" in err
    assert json.loads((tmp_path / "out" / "results.json").read_text())["sets"]["songs_test"]["data"]["trained_on"] == 3


def test_songs_of_the_calibration_are_left_out(command, model, folder):
    fitted = contents([folder / f"{number}.wav" for number in range(15, 24)])
    (model / "calibration.json").write_text(json.dumps({"fitted_on": {"songs": fitted}}))
    code, printed, err = command("evaluate", model, folder, "--resamples", "0")
    assert code == 0 and "6 songs" in printed and "4 songs left out: the model was calibrated on them" in err
    fitted += contents([folder / f"{number}.wav" for number in range(24, 30)])
    (model / "calibration.json").write_text(json.dumps({"fitted_on": {"songs": fitted}}))
    code, printed, err = command("evaluate", model, folder, "--resamples", "0")
    assert code == 1 and printed == "" and "calibrated on all 10 songs" in err


def test_broken_files_are_listed_and_cost_nothing_else(command, saved_model, labelled_songs, tmp_path):
    songs = labelled_songs(20, seed=2, splits=lambda number: "test")
    whole = (songs / "7.wav").read_bytes()
    (songs / "7.wav").write_bytes(b"\0" * len(whole))
    code, _, err = command("evaluate", saved_model, songs, "--out", tmp_path / "out", "--resamples", "0")
    assert code == 0
    described = json.loads((tmp_path / "out" / "results.json").read_text())["sets"]["songs_test"]["data"]
    assert described["num_songs"] == 19 and described["num_broken"] == 1
    (broken,) = described["broken"]
    assert broken["song"] == "7.wav" and str(songs.parent) not in broken["error"]
    assert "1 song left out as unreadable" in err and "7.wav" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "tset"], "there is train, validation, test, and all"),
        (["--resamples", "-1"], "from 0 on"),
        (["--level", "album"], "invalid choice"),
        (["--max-broken", "2"], "from 0 to 1"),
        (["--device", "nowhere"], "--device nowhere cannot be used here"),
        (["--splitt", "test"], "did you mean --split?"),
    ],
)
def test_a_wrong_option_is_a_usage_error(command, saved_model, folder, options, message):
    code, out, err = command("evaluate", saved_model, folder, *options)
    assert code == 2 and message.lower() in err.lower() and out == ""


def test_a_model_or_data_that_are_not_there_are_one_line(command, saved_model, folder, tmp_path):
    code, _, err = command("evaluate", "./nowhere", folder)
    assert (
        code == 2
        and err == "error: there is no folder './nowhere'; give a checkpoint folder or a Hub name (org/name)\n"
    )
    code, _, err = command("evaluate", saved_model, tmp_path / "nowhere")
    assert code == 1 and "nowhere" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_calibration_that_cannot_be_read_is_no_silent_permission(command, model, folder, content):
    (model / "calibration.json").write_text(content)
    code, _, err = command("evaluate", model, folder)
    assert code == 2 and "calibration.json beside the weights" in err


def test_where_nothing_can_be_written_is_said_before_anything_is_heard(command, saved_model, folder, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = command("evaluate", saved_model, folder, "--out", tmp_path / "file")
    assert code == 2 and err == f"error: --out: {tmp_path / 'file'} is a file; give a folder\n"


def test_a_model_that_is_nowhere_is_named(command, folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, _, err = command("evaluate", "no-such-model", folder)
    assert code == 2 and "'no-such-model'" in err and err.count("\n") == 1
