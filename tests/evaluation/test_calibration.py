# SPDX-License-Identifier: Apache-2.0
"""Simulated songs whose labels are drawn with known probabilities, so that the right temperature is known."""

from __future__ import annotations

import numpy as np
import pytest

from hf_mathrock.evaluation.calibration import (
    calibrate,
    fit_temperature,
    negative_log_likelihood,
    parsed_rule,
)
from hf_mathrock.evaluation.predictions import predict
from hf_mathrock.metrics.classification import multi_label_metrics
from hf_mathrock.models.scoring import task_scores


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_found_again(predictions, temperature):
    heard = predictions(1500, seed=1, temperature=temperature)
    for task in heard.tasks:
        assert fit_temperature(heard, task)[0] == pytest.approx(temperature, rel=0.1), task["name"]


def test_unknown_labels_do_not_move_the_temperature(predictions):
    heard = predictions(2000, seed=2, temperature=2.0, unknown=0.5)
    for task in heard.tasks:
        assert fit_temperature(heard, task)[0] == pytest.approx(2.0, rel=0.1)


def test_errors_fall_on_songs_that_were_not_fitted_on(predictions):
    fit, report = predictions(400, seed=3, temperature=3.0), predictions(400, seed=4, temperature=3.0)
    found = calibrate(fit, report)
    assert set(found.tasks) == {"mood", "tempo"} and found.remarks == []
    for entry in found.tasks.values():
        assert entry["ece_after"] < 0.6 * entry["ece_before"] and entry["brier_after"] < entry["brier_before"]
        assert entry["nll_after"] < entry["nll_before"]
    after = report.song_scores(found.temperatures)
    f1 = multi_label_metrics(after["mood"], report.labels["mood"], None, found.thresholds["mood"])["macro_f1"]
    assert found.tasks["mood"]["macro_f1_after"] == pytest.approx(f1)
    assert list(found.tasks["mood"]["thresholds"].values()) == found.thresholds["mood"]


def test_the_likelihood_is_that_of_whole_songs(listener):
    # Two windows that contradict each other: the song's score is their mean, whatever their logits.
    windows = b'[{"mood": [3, 3, 3, 3], "tempo": [0, 0, 0]}, {"mood": [-3, -3, -3, -3], "tempo": [9, 0, 0]}]'
    row = {"audio": {"path": "a", "bytes": windows}, "labels": {"mood": [1, 0, -100, -100], "tempo": 0}}
    heard = predict(listener(), [row])
    mood, tempo = heard.tasks
    assert negative_log_likelihood(heard, mood, 1.0) == pytest.approx(np.log(2))
    sure = task_scores(tempo, np.array([9.0, 0, 0]), 2.0)[0]
    assert negative_log_likelihood(heard, tempo, 2.0) == pytest.approx(-np.log((1 / 3 + sure) / 2))


def test_a_model_that_is_right_already_is_left_alone_or_hardly_moved(predictions):
    found = calibrate(predictions(1000, seed=5), predictions(200, seed=6))
    assert all(0.9 < value < 1.1 for value in found.temperatures.values())


def test_songs_that_do_not_determine_a_temperature_leave_it_at_one(listener, rows):
    """All right, and no more than that: the likelihood rises with the sharpness without end."""
    songs = rows(60)
    for song in songs:
        heard = predict(listener(), [song])
        song["labels"]["tempo"] = int(heard.song_scores()["tempo"][0].argmax())
    found = calibrate(predict(listener(), songs), predict(listener(), rows(60, seed=9)))
    assert "tempo" not in found.temperatures and found.tasks["tempo"]["temperature"] == 1
    (remark,) = [line for line in found.remarks if line.startswith("tempo: temperature left at 1")]
    assert "do not determine it" in remark


def test_what_comes_out_worse_on_the_other_songs_is_said(predictions):
    found = calibrate(predictions(200, seed=7, temperature=3.0), predictions(200, seed=8, temperature=0.5))
    assert found.tasks["tempo"]["ece_after"] > found.tasks["tempo"]["ece_before"]
    assert any(line.startswith("tempo: ece is worse on the other songs") for line in found.remarks)


def test_too_few_songs_keep_what_the_model_has(predictions):
    present = {"temperatures": {"mood": 1.5}, "thresholds": {"mood": [0.1, 0.2, 0.3, 0.4]}}
    found = calibrate(predictions(19), predictions(50, seed=1), **present)
    assert found.temperatures == {"mood": 1.5} and found.thresholds == {"mood": [0.1, 0.2, 0.3, 0.4]}
    assert found.tasks == {} and len(found.remarks) == 2
    assert "19 songs with known labels" in found.remarks[0] and "temperature 1.5" in found.remarks[0]


def test_known_songs_count_and_not_songs(listener, rows):
    songs = [{**song, "labels": {**song["labels"], "tempo": -100}} if number < 30 else song
             for number, song in enumerate(rows(45))]  # fmt: skip
    found = calibrate(predict(listener(), songs), predict(listener(), rows(30, seed=1)))
    assert set(found.tasks) == {"mood"} and "tempo: left as it was (temperature 1): 15 songs" in " ".join(found.remarks)


def test_one_class_alone_calibrates_nothing(listener, rows):
    songs = rows(40)
    for song in songs:
        song["labels"] = {"mood": [0.0] * 4, "tempo": 2}
    found = calibrate(predict(listener(), songs), predict(listener(), rows(30, seed=1)))
    assert found.tasks == {} and all("have the same label" in line for line in found.remarks)
    assert found.temperatures == {} and found.thresholds == {}


def test_a_present_temperature_is_what_before_means(predictions):
    fit, report = predictions(300, seed=10, temperature=2.0), predictions(300, seed=11, temperature=2.0)
    first = calibrate(fit, report)
    again = calibrate(fit, report, temperatures=first.temperatures, thresholds=first.thresholds)
    assert again.temperatures == first.temperatures and again.thresholds == first.thresholds
    assert again.tasks["tempo"]["ece_before"] == first.tasks["tempo"]["ece_after"]


def test_a_wanted_precision_is_reached_on_the_songs_fitted_on(predictions):
    fit = predictions(400, seed=12)
    found = calibrate(fit, predictions(100, seed=13), rule="precision=0.7")
    scores, labels = fit.song_scores(found.temperatures)["mood"], fit.labels["mood"]
    for place, threshold in enumerate(found.thresholds["mood"]):
        claimed = scores[:, place] >= threshold
        assert claimed.any() and labels[claimed, place].mean() >= 0.7 - 1e-9


def test_rare_labels_are_named(listener, rows):
    songs = rows(60)
    for number, song in enumerate(songs):
        song["labels"]["mood"][3] = float(number < 2)
    found = calibrate(predict(listener(), songs), predict(listener(), rows(60, seed=1)))
    assert any(line.startswith("mood: fewer than 5 positive examples of odd") for line in found.remarks)


def test_a_song_on_both_sides_is_refused(predictions):
    heard = predictions(40)
    with pytest.raises(ValueError, match="10 recordings are both fitted and reported on"):
        calibrate(heard.select(range(30)), heard.select(range(20, 40)))


@pytest.mark.parametrize("rule", ["f2", "precision", "precision=1.5", "precision=0", "precision=x", "f1:0.5", ""])
def test_a_rule_that_is_none_is_refused(rule):
    with pytest.raises(ValueError, match="is no rule"):
        parsed_rule(rule)
