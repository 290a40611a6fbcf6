# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
import warnings

import numpy as np
import pytest

from hf_mathrock.metrics import bootstrap
from hf_mathrock.metrics.bootstrap import (
    average_precision_intervals,
    bootstrap_intervals,
    evaluate_tasks_with_intervals,
    resamples,
)
from hf_mathrock.metrics.classification import evaluate_tasks, per_label_metrics

TASKS = [
    {"name": "emotion", "type": "multi_label", "labels": ["anger", "joy", "grief"]},
    {"name": "tempo", "type": "single_label", "labels": ["slow", "moderate", "fast"]},
]
RIGHT_OR_NOT = [{"name": "vibe", "type": "single_label", "labels": ["calm", "wild"]}]


def made_up(num_songs, seed=0, unknown=0.2):
    random = np.random.default_rng(seed)
    emotion = (random.random((num_songs, 3)) < [0.2, 0.5, 0.7]).astype(np.float32)
    emotion[random.random(emotion.shape) < unknown] = -100
    tempo = np.where(random.random(num_songs) < unknown, -100, random.integers(3, size=num_songs))
    scores = {"emotion": np.round(random.random((num_songs, 3)), 1), "tempo": random.dirichlet(np.ones(3), num_songs)}
    return scores, {"emotion": emotion, "tempo": tempo}, random.integers(num_songs // 3, size=num_songs)


@pytest.mark.filterwarnings("ignore:of 60 resamples")
@pytest.mark.parametrize("by_group", [False, True])
def test_the_fast_way_is_the_plain_way(by_group):
    scores, labels, groups = made_up(30)
    groups = groups if by_group else None
    limits = {"emotion": [0.3, 0.5, 0.6]}

    def plain(songs):
        rows = [{name: values[songs] for name, values in part.items()} for part in (scores, labels)]
        return evaluate_tasks(TASKS, *rows, thresholds=limits, probabilities=True)

    metrics, given = evaluate_tasks_with_intervals(
        TASKS, scores, labels, thresholds=limits, groups=groups, num_resamples=60, seed=3
    )
    expected = bootstrap_intervals(plain, 30, groups=groups, num_resamples=60, seed=3)
    assert metrics == plain(np.arange(30))
    assert set(given) == set(expected) == set(metrics)
    for name, limit in given.items():
        assert limit == pytest.approx(list(expected[name]), abs=1e-9), name

    def of_labels(songs):
        return {
            f"{task['name']}/{label}": value
            for task in TASKS
            for label, value in per_label_metrics(task, scores[task["name"]][songs], labels[task["name"]][songs])[
                "average_precision"
            ].items()
        }

    by_label = average_precision_intervals(TASKS, scores, labels, groups=groups, num_resamples=60, seed=3)
    expected = bootstrap_intervals(of_labels, 30, groups=groups, num_resamples=60, seed=3)
    flat = {f"{task}/{label}": limit for task, found in by_label.items() for label, limit in found.items()}
    assert set(flat) == set(expected) and len(flat) == 6
    for name, limit in flat.items():
        assert limit == pytest.approx(list(expected[name]), abs=1e-9), name


def test_how_many_resamples_are_worked_on_at_once_changes_nothing(monkeypatch):
    scores, labels, groups = made_up(30)
    _, at_once = evaluate_tasks_with_intervals(TASKS, scores, labels, groups=groups, num_resamples=50)
    monkeypatch.setattr(bootstrap, "_ENTRIES_AT_ONCE", 30 * 7)
    _, in_parts = evaluate_tasks_with_intervals(TASKS, scores, labels, groups=groups, num_resamples=50)
    assert set(in_parts) == set(at_once)
    for name, limit in in_parts.items():
        assert limit == pytest.approx(at_once[name], abs=1e-12)


def test_the_seed_decides_and_the_metrics_are_those_without_intervals():
    scores, labels, _ = made_up(40)
    first = evaluate_tasks_with_intervals(TASKS, scores, labels, num_resamples=50, seed=1)
    assert first == evaluate_tasks_with_intervals(TASKS, scores, labels, num_resamples=50, seed=1)
    assert first[1] != evaluate_tasks_with_intervals(TASKS, scores, labels, num_resamples=50, seed=2)[1]
    assert first[0] == evaluate_tasks(TASKS, scores, labels, probabilities=True)
    logits = {name: np.log(values + 0.1) for name, values in scores.items()}
    plain, intervals = evaluate_tasks_with_intervals(TASKS, logits, labels, probabilities=False, num_resamples=20)
    assert set(intervals) == set(plain) and not any(name.endswith(("_ece", "emotion_macro_f1")) for name in plain)


def test_the_interval_of_a_share_is_the_binomial_one():
    hits = np.arange(400) % 4 == 0
    given = bootstrap_intervals(lambda songs: {"share": hits[songs].mean()}, 400)
    half = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    assert given["share"] == pytest.approx((0.25 - half, 0.25 + half), abs=0.006)
    narrow = bootstrap_intervals(lambda songs: {"share": hits[songs].mean()}, 400, level=0.5)["share"]
    half = 0.674 * np.sqrt(0.25 * 0.75 / 400)
    assert narrow == pytest.approx((0.25 - half, 0.25 + half), abs=0.006)


def test_groups_are_drawn_whole():
    groups = ["a", "b", "b", "c", "a", "c", "c"]
    members = {"a": {0, 4}, "b": {1, 2}, "c": {3, 5, 6}}
    sizes = set()
    for songs in resamples(7, num_resamples=50, groups=groups):
        count = np.bincount(songs, minlength=7)
        assert all(len({int(count[song]) for song in whole}) == 1 for whole in members.values())
        assert sum(count[min(whole)] for whole in members.values()) == 3
        sizes.add(len(songs))
    assert len(sizes) > 1


def coverage(num_repetitions, num_songs, songs_per_artist, by_group):
    """How often the interval holds the true accuracy of a model that is right in 70 % of the songs.

    All songs of an artist stand or fall together, the extreme of what artists do.
    """
    covered = 0
    for seed in range(num_repetitions):
        random = np.random.default_rng(seed)
        artists = np.repeat(np.arange(num_songs // songs_per_artist), songs_per_artist)
        right = (random.random(artists.max() + 1) < 0.7)[artists]
        scores, labels = {"vibe": np.eye(2)[right.astype(int)]}, {"vibe": np.ones(num_songs, dtype=int)}
        _, intervals = evaluate_tasks_with_intervals(
            RIGHT_OR_NOT,
            scores,
            labels,
            groups=artists if by_group else None,
            num_resamples=400,
            seed=seed,
            probabilities=False,
        )
        low, high = intervals["vibe_accuracy"]
        covered += low <= 0.7 <= high
    return covered / num_repetitions


def test_nineteen_of_twenty_intervals_hold_the_truth():
    assert 0.90 <= coverage(200, num_songs=120, songs_per_artist=1, by_group=False) <= 0.99


def test_songs_of_one_artist_need_groups_for_their_intervals_to_hold():
    assert 0.88 <= coverage(100, num_songs=240, songs_per_artist=4, by_group=True) <= 1
    assert coverage(100, num_songs=240, songs_per_artist=4, by_group=False) < 0.8


def test_resamples_without_a_positive_are_left_out_and_counted_with_one_warning():
    # One song of ten has the label: some 35 % of the resamples do not draw it.
    scores = {"emotion": np.random.default_rng(0).random((10, 3)), "tempo": np.full((10, 3), 1 / 3)}
    labels = {"emotion": np.tile([0.0, -100, -100], (10, 1)), "tempo": np.full(10, -100)}
    labels["emotion"][3, 0] = 1
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        metrics, intervals = evaluate_tasks_with_intervals(TASKS, scores, labels, num_resamples=300)
    assert len([entry for entry in seen if "no positive example of joy, grief" in str(entry.message)]) == 1
    (counted,) = [entry for entry in seen if "of 300 resamples" in str(entry.message)]
    assert len(seen) == 2
    left_out = intervals.undefined["emotion_map"]
    assert 80 < left_out < 130 and f"emotion_map in {left_out}" in str(counted.message)
    assert set(intervals) == set(metrics) and not any(name.startswith("tempo") for name in metrics)
    assert "emotion_ece" not in intervals.undefined


def test_a_metric_that_most_resamples_lack_has_no_interval():
    with pytest.warns(UserWarning, match="of 100 resamples .*rare in"):
        given = bootstrap_intervals(
            lambda songs: {"always": 1.0} | ({"rare": 1.0} if (songs == 0).sum() > 1 else {"rare": float("nan")}),
            20,
            num_resamples=100,
        )
    assert given == {"always": (1.0, 1.0)} and given.undefined["rare"] > 50


def test_the_metrics_own_warnings_are_not_shown_a_thousand_times():
    def noisy(songs):
        warnings.warn("no positive example", stacklevel=1)
        return {"share": (songs % 2).mean()}

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "share" in bootstrap_intervals(noisy, 10, num_resamples=20)


def test_where_nothing_can_be_drawn_anew_there_are_no_intervals():
    with pytest.warns(UserWarning, match="one song only"):
        assert bootstrap_intervals(lambda songs: {"share": 1.0}, 1) == {}
    scores, labels, _ = made_up(30)
    with pytest.warns(UserWarning, match="all 30 songs are of one group"):
        metrics, intervals = evaluate_tasks_with_intervals(TASKS, scores, labels, groups=["me"] * 30)
    assert intervals == {} and metrics == evaluate_tasks(TASKS, scores, labels, probabilities=True)


def test_nothing_known_has_neither_metrics_nor_intervals():
    scores, labels, _ = made_up(5, unknown=2)
    with pytest.warns(UserWarning, match="no positive example of anger, joy, grief"):
        assert evaluate_tasks_with_intervals(TASKS, scores, labels) == ({}, {})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_songs": 0}, "there are 0 songs"),
        ({"num_resamples": 0}, "0 resamples"),
        ({"groups": ["a", "b"]}, "2 groups for 4 songs"),
        ({"level": 95}, "per cent"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_intervals(lambda songs: {"one": 1.0}, **{"num_songs": 4, "num_resamples": 5, **settings})


def test_tasks_with_different_songs_are_refused():
    scores, labels, _ = made_up(30)
    with pytest.raises(ValueError, match="'emotion': 30, 'tempo': 20"):
        evaluate_tasks_with_intervals(
            TASKS, scores | {"tempo": scores["tempo"][:20]}, labels | {"tempo": labels["tempo"][:20]}
        )


def test_a_thousand_resamples_of_four_hundred_songs_take_seconds():
    random = np.random.default_rng(0)
    task = {"name": "emotion", "type": "multi_label", "labels": [str(number) for number in range(28)]}
    labels = (random.random((400, 28)) < 0.1).astype(np.float32)
    start = time.process_time()
    _, intervals = evaluate_tasks_with_intervals([task], {"emotion": random.random((400, 28))}, {"emotion": labels})
    assert time.process_time() - start < 10
    assert {"emotion_map", "emotion_roc_auc", "emotion_macro_f1", "emotion_ece", "mean_score"} <= set(intervals)
