# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil

import pytest

from hf_mathrock import pipeline
from hf_mathrock.data.content import content_id


@pytest.fixture(scope="module")
def folder(labelled_songs):
    """80 songs without a split."""
    return labelled_songs(80, seed=3)


@pytest.fixture
def model(saved_model, tmp_path):
    copy = shutil.copytree(saved_model, tmp_path / "model")
    (copy / "results.json").write_text("{}")
    return copy


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def test_a_calibrated_copy_is_used_by_the_pipeline_and_the_model_stays(command, model, folder, tmp_path):
    before, out = contents(model), tmp_path / "out"
    code, printed, err = command("calibrate", model, folder, "--out", out)
    assert code == 0 and contents(model) == before
    assert printed.splitlines()[0].split()[:3] == ["task", "temperature", "ECE"] and "→" in printed
    assert "fitted on 40 songs, reported on 40 others" in err and "in place" not in err
    record, config = (json.loads((out / name).read_text()) for name in ("calibration.json", "config.json"))
    assert set(record["tasks"]) == {"emotion", "tempo"} and record["rule"] == "f1"
    assert "vibe: left as it was (temperature 1): 0 songs with known labels" in err
    # Most songs are slow, which the model doubts: it becomes surer, and is right to.
    tempo = record["tasks"]["tempo"]
    assert config["temperatures"]["tempo"] == tempo["temperature"] != 1
    assert tempo["nll_after"] < tempo["nll_before"]
    assert config["thresholds"]["emotion"] == list(record["tasks"]["emotion"]["thresholds"].values())
    assert not (out / "results.json").exists()

    pipe = pipeline("mathrock-affect", model=str(out), device="cpu")
    result = pipe(str(folder / "0.wav"))
    limits = record["tasks"]["emotion"]["thresholds"]
    assert all(entry["active"] == (entry["score"] >= limits[entry["label"]]) for entry in result["emotion"])
    assert result["model"]["fingerprint"] == record["fingerprint"]
    old = pipeline("mathrock-affect", model=str(model), device="cpu")(str(folder / "0.wav"))
    assert [entry["score"] for entry in old["tempo"]] != [entry["score"] for entry in result["tempo"]]

    # And the songs it was fitted on are no test of it.
    code, printed, err = command("evaluate", out, folder, "--split", "all", "--resamples", "0")
    assert code == 0 and "40 songs" in printed and "40 songs left out: the model was calibrated on them" in err


def test_in_place_it_is_said_and_the_weights_stay(command, model, folder):
    before = contents(model)
    code, _, err = command("calibrate", model, folder)
    assert code == 0 and err.splitlines()[0].startswith(f"{model} is calibrated in place")
    after = contents(model)
    assert {name for name in after if after[name] != before.get(name)} == {"config.json", "calibration.json"}
    assert f"{model / 'results.json'} was measured before this" in err


def test_a_wanted_precision_and_a_share_are_taken(command, model, folder, tmp_path):
    options = ["--rule", "precision=0.6", "--report-share", "0.25", "--out", tmp_path / "out"]
    code, _, err = command("calibrate", model, folder, *options)
    record = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert code == 0 and record["rule"] == "precision:0.6"
    assert record["fitted_on"]["num_songs"] == 60 and record["reported_on"]["num_songs"] == 20


def test_given_splits_are_kept(command, model, labelled_songs, tmp_path):
    songs = labelled_songs(60, seed=4, splits=lambda number: "validation" if number < 40 else "test")
    code, _, err = command("calibrate", model, songs, "--out", tmp_path / "out")
    record = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert code == 0 and "fitted on 40 songs, reported on 20 others (validation and test split)" in err
    assert set(record["fitted_on"]["songs"]) == {content_id(songs / f"{number}.wav") for number in range(40)}


def test_too_few_songs_change_nothing(command, model, labelled_songs):
    before = contents(model)
    code, out, err = command("calibrate", model, labelled_songs(20, seed=5))
    assert code == 1 and out == "" and "Nothing can be calibrated" in err and "at least 20 are needed" in err
    assert contents(model) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rule", "f2"], "'f2' is no rule"),
        (["--rule", "precision=2"], "'precision=2' is no rule"),
        (["--report-share", "1"], "between 0 and 1"),
        (["--out", "{songs}"], "not empty"),
    ],
)
def test_a_wrong_option_is_a_usage_error_before_any_work(command, model, folder, options, message):
    before = contents(model)
    code, out, err = command("calibrate", model, folder, *(option.format(songs=folder) for option in options))
    assert code == 2 and message in err and out == "" and contents(model) == before


def test_a_checkpoint_of_the_package_is_not_changed_in_place(command, folder):
    code, _, err = command("calibrate", "mathrock-tiny", folder)
    assert code == 2 and "mathrock-tiny is not yours to change" in err and "--out DIR" in err
    code, _, err = command("calibrate", "org/name", folder)
    assert code == 2 and "org/name is not yours to change" in err
