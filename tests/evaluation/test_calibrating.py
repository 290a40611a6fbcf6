# SPDX-License-Identifier: Apache-2.0
"""Which songs a calibration is fitted and reported on, and what it leaves in the model's folder."""

from __future__ import annotations

import json

import pytest

from hf_mathrock import MathRockConfig
from hf_mathrock.data.content import content_id, songs_digest
from hf_mathrock.evaluation.calibrating import calibrate_labelled, write_calibrated
from hf_mathrock.evaluation.labelled import Provenance


def ids(songs):
    return {content_id(song["audio"]) for song in songs}


@pytest.mark.parametrize("split", ["given", "given, validation taken from train by group"])
def test_given_splits_are_fitted_and_reported_on(split, listener, rows, labelled):
    data = labelled({"train": rows(9), "validation": rows(40, 1), "test": rows(30, 2)}, split=split)
    record = calibrate_labelled(listener(), data).record
    assert set(record["fitted_on"]["songs"]) == ids(data["validation"]) and record["fitted_on"]["num_songs"] == 40
    assert record["reported_on"] == {"num_songs": 30, "songs_digest": songs_digest(ids(data["test"]))}
    assert record["division"] == "validation and test split" and record["data"]["split"] == "validation"
    assert json.dumps(record, allow_nan=False)


def test_songs_of_a_group_that_is_reported_on_are_not_fitted_on(listener, rows, labelled):
    validation, test = rows(40, 1), rows(30, 2)
    validation[0]["group"] = test[0]["group"]  # the same artist
    validation[1] = {**validation[1], "audio": test[1]["audio"]}  # the same recording
    found = calibrate_labelled(listener(), labelled({"validation": validation, "test": test}))
    assert set(found.record["fitted_on"]["songs"]) == ids(validation[2:])
    assert found.remarks[0] == "2 validation songs left out: the test split has others of their groups"
    with pytest.raises(ValueError, match="All 30 validation songs share a group"):
        calibrate_labelled(listener(), labelled({"validation": test, "test": test}))


def test_songs_without_a_split_of_their_own_are_divided_by_group(listener, rows, labelled):
    songs = rows(90, songs_per_group=3)
    data = labelled({"train": songs[:60], "validation": songs[60:75], "test": songs[75:]}, split="by group")
    seen = []
    found = calibrate_labelled(listener(), data, report_share=0.4, progress=lambda *done: seen.append(done))
    fitted = set(found.record["fitted_on"]["songs"])
    assert len(fitted) == 54 and found.record["reported_on"]["num_songs"] == 36
    groups = {song["group"] for song in songs if content_id(song["audio"]) in fitted}
    assert all((song["group"] in groups) == (content_id(song["audio"]) in fitted) for song in songs)
    assert seen[-1] == (90, 90)
    other = calibrate_labelled(listener(), data, report_share=0.4, seed=1).record["fitted_on"]["songs_digest"]
    assert other != found.record["fitted_on"]["songs_digest"]


def test_a_split_by_group_that_was_trained_on_is_kept(listener, rows, labelled):
    data = labelled({"train": rows(9), "validation": rows(40, 1), "test": rows(30, 2)}, split="by group")
    found = calibrate_labelled(listener(), data, provenance=Provenance(frozenset(ids(data["train"]))))
    assert set(found.record["fitted_on"]["songs"]) == ids(data["validation"])


def test_songs_that_were_trained_on_are_left_out(listener, rows, labelled):
    songs = rows(100)
    trained_on = frozenset(ids(songs[:20]))
    found = calibrate_labelled(listener(), labelled({"test": songs}), provenance=Provenance(trained_on))
    assert not set(found.record["fitted_on"]["songs"]) & trained_on
    assert found.record["fitted_on"]["num_songs"] + found.record["reported_on"]["num_songs"] == 80
    assert "20 songs left out: the model was trained on them" in found.remarks[0]


def test_the_training_split_is_not_touched_where_there_is_another(listener, rows, labelled):
    data = labelled({"train": rows(60), "test": rows(60, 2)})
    assert set(calibrate_labelled(listener(), data).record["fitted_on"]["songs"]) < ids(data["test"])


def test_nothing_to_calibrate_is_an_error_that_says_why(listener, rows, labelled):
    with pytest.raises(ValueError, match="Nothing can be calibrated .* mood: left as it was .*10 songs.*40 at least"):
        calibrate_labelled(listener(), labelled({"test": rows(20)}))


def test_what_an_earlier_calibration_gave_stays_with_its_songs(listener, rows, labelled):
    first = calibrate_labelled(listener(), labelled({"test": rows(80, temperature=2.0)}))
    songs = [{**song, "labels": {**song["labels"], "mood": [-100.0] * 4}} for song in rows(80, 3)]
    pipe = listener(temperatures=first.calibration.temperatures, thresholds=first.calibration.thresholds)
    second = calibrate_labelled(pipe, labelled({"test": songs}), earlier=first.record)
    assert second.record["tasks"]["mood"] == first.record["tasks"]["mood"]
    assert second.calibration.temperatures["mood"] == first.calibration.temperatures["mood"]
    assert second.calibration.thresholds == first.calibration.thresholds
    assert set(first.record["fitted_on"]["songs"]) < set(second.record["fitted_on"]["songs"])
    of_other_weights = calibrate_labelled(
        pipe, labelled({"test": songs}), earlier={**first.record, "fingerprint": "another"}
    )
    assert "mood" not in of_other_weights.record["tasks"] and of_other_weights.record["fitted_on"]["num_songs"] == 40


@pytest.fixture
def checkpoint(tmp_path, listener):
    folder = tmp_path / "model"
    listener().model.config.save_pretrained(folder)
    for name in ("README.md", "results.json", "training_songs.json"):
        (folder / name).write_text("{}")
    return folder


@pytest.fixture
def found(listener, rows, labelled):
    return calibrate_labelled(listener(), labelled({"test": rows(90, temperature=2.0)}))


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_copy_leaves_the_model_as_it_was_and_takes_no_old_figures_along(checkpoint, found, listener, tmp_path):
    before = contents(checkpoint)
    out = write_calibrated(found, listener(), str(checkpoint), tmp_path / "out")
    assert contents(checkpoint) == before
    assert set(contents(out)) == set(before) - {"results.json"} | {"calibration.json"}
    config = MathRockConfig.from_pretrained(out)
    assert config.temperatures == found.calibration.temperatures and config.thresholds == found.calibration.thresholds
    changed = {"temperatures", "thresholds"}
    old, new = json.loads(before["config.json"]), json.loads((out / "config.json").read_text())
    assert {key: old[key] for key in old if key not in changed} == {key: new[key] for key in new if key not in changed}
    assert json.loads((out / "calibration.json").read_text()) == found.record


@pytest.mark.parametrize("same", [False, True])
def test_in_place_only_the_config_is_changed(checkpoint, found, listener, same):
    before = contents(checkpoint)
    write_calibrated(found, listener(), str(checkpoint), checkpoint if same else None)
    after = contents(checkpoint)
    assert {name for name in after if after[name] != before.get(name)} == {"config.json", "calibration.json"}
    assert MathRockConfig.from_pretrained(checkpoint).temperatures == found.calibration.temperatures


def test_what_is_there_is_not_overwritten(checkpoint, found, listener, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(ValueError, match="not empty"):
        write_calibrated(found, listener(), str(checkpoint), tmp_path / "out")
    with pytest.raises(ValueError, match="no folder that could be changed"):
        write_calibrated(found, listener(), "org/name", None)


def test_a_calibration_that_the_config_refuses_changes_nothing(checkpoint, found, listener):
    found.calibration.thresholds["mood"] = [0.5, 0.5, 0.5, 1.5]
    before = contents(checkpoint)
    with pytest.raises(ValueError, match="thresholds"):
        write_calibrated(found, listener(), str(checkpoint), None)
    assert contents(checkpoint) == before


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf")])
def test_a_config_takes_positive_temperatures_alone(temperature):
    with pytest.raises(ValueError, match=r"temperatures\['tempo'\].*positive"):
        MathRockConfig(temperatures={"tempo": temperature})


@pytest.mark.parametrize(
    "thresholds", [[0.5] * 27, [0.5] * 27 + [1.1], [0.5] * 27 + [-0.1], [0.5] * 27 + [float("nan")]]
)
def test_a_config_takes_one_threshold_a_label_from_0_to_1(thresholds):
    with pytest.raises(ValueError, match=r"thresholds\['emotion'\]"):
        MathRockConfig(thresholds={"emotion": thresholds})


def test_a_copy_that_cannot_be_finished_leaves_nothing(tmp_path, monkeypatch):
    from hf_mathrock.evaluation import calibrating

    source = tmp_path / "model"
    source.mkdir()
    (source / "config.json").write_text("{}")
    (source / "model.safetensors").write_bytes(b"weights")
    copy = calibrating.shutil.copyfile

    def full(origin, target):
        if target.name == "model.safetensors":
            raise OSError(28, "No space left on device")
        return copy(origin, target)

    monkeypatch.setattr(calibrating.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        write_calibrated(None, None, str(source), tmp_path / "copy")
    assert not (tmp_path / "copy").exists() and (source / "model.safetensors").read_bytes() == b"weights"
