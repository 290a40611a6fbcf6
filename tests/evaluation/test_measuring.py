# SPDX-License-Identifier: Apache-2.0
"""Figures are those of scikit-learn on what is on disk, and say where they come from."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pyarrow.parquet
import pytest
from sklearn import metrics as reference

from hf_mathrock.evaluation.measuring import curves, measure
from hf_mathrock.evaluation.prediction_files import write_predictions
from hf_mathrock.evaluation.predictions import predict

SETTING = {"temperatures": {"mood": 1.7, "tempo": 0.6}, "thresholds": {"mood": [0.3, 0.4, 0.5, 0.2]}}


@pytest.fixture
def stored(predictions, tmp_path):
    """Figures, and the two files beside them."""
    heard = predictions(60, seed=3, temperature=1.4, songs_per_group=2, unknown=0.2)
    measured = measure(heard, **SETTING, num_resamples=0)
    songs, windows = write_predictions(heard, tmp_path, **SETTING)
    return measured, pyarrow.parquet.read_table(songs), pyarrow.parquet.read_table(windows)


def column(table, name):
    return np.array(table.column(name).to_pylist())


def test_figures_of_songs_follow_from_the_predictions_file_alone(stored):
    measured, songs, _ = stored
    tasks = {task["name"]: task for task in json.loads(songs.schema.metadata[b"tasks"])}
    scores, labels, holds = (column(songs, f"mood_{part}") for part in ("scores", "labels", "active"))
    precisions, areas, f1 = [], [], []
    for place, label in enumerate(tasks["mood"]["labels"]):
        known = labels[:, place] != -100
        truth = labels[known, place] == 1
        precisions.append(reference.average_precision_score(truth, scores[known, place]))
        areas.append(reference.roc_auc_score(truth, scores[known, place]))
        f1.append(reference.f1_score(truth, holds[known, place]))
        assert measured["average_precision"]["mood"][label] == pytest.approx(precisions[-1], abs=1e-9)
        assert measured["roc_auc"]["mood"][label] == pytest.approx(areas[-1], abs=1e-9)
        assert measured["support"]["mood"][label] == truth.sum()
        assert measured["chance"]["mood"][label] == pytest.approx(truth.mean())
    everywhere = labels != -100
    figures = measured["metrics"]
    assert figures["mood_map"] == pytest.approx(np.mean(precisions), abs=1e-9)
    assert figures["mood_roc_auc"] == pytest.approx(np.mean(areas), abs=1e-9)
    assert figures["mood_macro_f1"] == pytest.approx(np.mean(f1), abs=1e-9)
    micro = reference.f1_score(labels[everywhere] == 1, holds[everywhere])
    assert figures["mood_micro_f1"] == pytest.approx(micro, abs=1e-9)
    brier = reference.brier_score_loss(labels[everywhere] == 1, scores[everywhere])
    assert figures["mood_brier"] == pytest.approx(brier, abs=1e-9)

    scores, labels = column(songs, "tempo_scores"), column(songs, "tempo_labels")
    known = labels != -100
    heard = scores[known].argmax(axis=1)
    assert figures["tempo_accuracy"] == pytest.approx(reference.accuracy_score(labels[known], heard), abs=1e-9)
    assert figures["tempo_macro_f1"] == pytest.approx(
        reference.f1_score(labels[known], heard, average="macro"), abs=1e-9
    )
    assert measured["confusion"]["tempo"] == reference.confusion_matrix(labels[known], heard).tolist()
    assert figures["mean_score"] == pytest.approx((figures["mood_map"] + figures["tempo_macro_f1"]) / 2)
    assert np.array_equal(column(songs, "tempo_active").argmax(axis=1), scores.argmax(axis=1))


def test_figures_of_windows_follow_from_the_windows_file(stored):
    measured, songs, windows = stored
    label_of = dict(zip(songs.column("song").to_pylist(), songs.column("tempo_labels").to_pylist(), strict=True))
    labels = np.array([label_of[name] for name in windows.column("song").to_pylist()])
    scores, logits = column(windows, "tempo_scores"), column(windows, "tempo_logits")
    known = labels != -100
    accuracy = reference.accuracy_score(labels[known], scores[known].argmax(axis=1))
    assert measured["window_metrics"]["tempo_accuracy"] == pytest.approx(accuracy, abs=1e-9)
    exponentials = np.exp(logits / SETTING["temperatures"]["tempo"])
    assert np.allclose(scores, exponentials / exponentials.sum(axis=1, keepdims=True))
    assert sum(songs.column("num_windows").to_pylist()) == len(windows) > len(songs)


def test_an_unfinished_file_is_never_seen(predictions, tmp_path, monkeypatch):
    write_predictions(predictions(4), tmp_path)
    before = (tmp_path / "predictions.parquet").read_bytes()

    def fail(table, path):
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pyarrow.parquet, "write_table", fail)
    with pytest.raises(OSError, match="No space"):
        write_predictions(predictions(9), tmp_path)
    assert (tmp_path / "predictions.parquet").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.parquet", "windows.parquet"]


def test_every_figure_lies_in_its_interval_and_fewer_songs_give_wider_ones(predictions):
    many, few = (measure(predictions(num, seed=1), num_resamples=200) for num in (240, 40))
    for found in (many, few):
        for name in ("mood_map", "tempo_accuracy", "mean_score", "tempo_ece"):
            low, high = found["intervals"][name]
            assert low <= found["metrics"][name] <= high, name
    for name in ("mood_map", "tempo_accuracy"):
        assert np.ptp(few["intervals"][name]) > 1.5 * np.ptp(many["intervals"][name])
    for label, (low, high) in many["label_intervals"]["mood"].items():
        assert low <= many["average_precision"]["mood"][label] <= high
    assert set(many["label_intervals"]["tempo"]) == {"slow", "moderate", "fast"}


def test_copies_in_a_group_do_not_make_the_intervals_narrower(listener, rows):
    songs = rows(30, seed=5)
    copies = [{**song, "song": f"{song['song']} {copy}"} for song in songs for copy in range(6)]
    alone = measure(predict(listener(), songs), num_resamples=300)["intervals"]["tempo_accuracy"]
    copied = measure(predict(listener(), copies), num_resamples=300)["intervals"]["tempo_accuracy"]
    assert np.ptp(copied) == pytest.approx(np.ptp(alone), rel=0.15)


def test_intervals_of_windows_are_measured_on_request_and_by_song(predictions):
    heard = predictions(40)
    assert "window_intervals" not in measure(heard, num_resamples=50)
    found = measure(heard, num_resamples=100, window_intervals=True)
    low, high = found["window_intervals"]["tempo_accuracy"]
    assert low < found["window_metrics"]["tempo_accuracy"] < high
    # All windows of a song are alike here, so they tell no more than the songs do.
    assert high - low > 0.7 * np.ptp(found["intervals"]["tempo_accuracy"])


def test_a_label_without_positives_is_left_out_by_name_and_without_noise(listener, rows):
    songs = rows(30)
    for song in songs:
        song["labels"]["mood"][3] = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measure(predict(listener(), songs), num_resamples=20)
    assert found["left_out"]["mood"] == ["odd"] and "odd" not in found["average_precision"]["mood"]
    assert found["metrics"]["mood_map"] == pytest.approx(np.mean(list(found["average_precision"]["mood"].values())))


def test_a_task_of_which_nothing_is_known_has_no_figures(listener, rows):
    songs = [{**song, "labels": {**song["labels"], "tempo": -100}} for song in rows(20)]
    heard = predict(listener(), songs)
    found = measure(heard, num_resamples=20)
    assert not any(name.startswith("tempo") for name in found["metrics"]) and "mood_map" in found["metrics"]
    assert list(curves(heard)) == ["mood"]


def test_nothing_to_measure_is_said(listener):
    with pytest.raises(ValueError, match="no song to measure on"):
        measure(predict(listener(), []))


def test_a_vote_claims_no_probability(predictions):
    found = measure(predictions(30), aggregation="vote", num_resamples=0)
    assert "tempo_accuracy" in found["metrics"] and "tempo_ece" not in found["metrics"]
    assert "tempo_ece" in found["window_metrics"]
    assert "reliability" not in curves(predictions(30), aggregation="vote")["tempo"]


def test_mean_logits_claim_probabilities(predictions):
    heard = predictions(30)
    assert "tempo_ece" in measure(heard, aggregation="mean_logit", num_resamples=0)["metrics"]
    calibrated = curves(heard, temperatures={"tempo": 2.0}, aggregation="mean_logit")["tempo"]["reliability"]
    assert set(calibrated) == {"uncalibrated", "calibrated"}


def test_tempo_accuracies_need_labels_that_are_tempi(listener, rows):
    songs = [{**song, "bpm": 121.0 if number % 2 else 60.5} for number, song in enumerate(rows(30))]
    assert "tempo_acc1" not in measure(predict(listener(), songs), num_resamples=0)["metrics"]
    pipe = listener()
    pipe.model.config.tasks[1]["labels"] = ["60", "90 BPM", "120"]
    found = measure(predict(pipe, songs), num_resamples=50)
    heard = predict(pipe, songs).song_scores()["tempo"].argmax(axis=1)
    odd = np.arange(30) % 2 == 1
    assert found["metrics"]["tempo_acc1"] == pytest.approx(np.where(odd, heard == 2, heard == 0).mean())
    assert found["metrics"]["tempo_acc2"] == pytest.approx((heard != 1).mean())
    assert found["intervals"]["tempo_acc2"][0] <= found["metrics"]["tempo_acc2"]


def test_curves_end_where_all_is_claimed_and_show_both_sides_of_a_temperature(predictions):
    heard = predictions(50)
    found = curves(heard, temperatures={"tempo": 2.0})
    assert list(found["mood"]["reliability"]) == ["scores"]
    assert list(found["tempo"]["reliability"]) == ["uncalibrated", "calibrated"]
    assert found["tempo"]["reliability"]["calibrated"]["ece"] == pytest.approx(
        measure(heard, temperatures={"tempo": 2.0}, num_resamples=0)["metrics"]["tempo_ece"]
    )
    for label, curve in found["mood"]["precision_recall"].items():
        assert (np.diff(curve["recall"]) >= 0).all() and curve["recall"][0] == 0 and curve["recall"][-1] == 1
        place = heard.tasks[0]["labels"].index(label)
        assert curve["precision"][-1] == pytest.approx(heard.labels["mood"][:, place].mean())
