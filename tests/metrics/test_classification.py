# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, f1_score

from hf_mathrock.metrics.classification import best_threshold, evaluate_tasks, multi_label_metrics, single_label_metrics

TASKS = [
    {"name": "emotion", "type": "multi_label", "labels": ["anger", "joy", "grief"]},
    {"name": "tempo", "type": "single_label", "labels": ["slow", "moderate", "fast"]},
]


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_one_label_a_row_by_hand():
    scores = np.array([[3.0, 1, 0], [0, 2, 1], [1, 0, 2], [2, 1, 0]])  # says 0 1 2 0
    # Class 0: precision 1/2, recall 1; class 1: 1, 1/2; class 2: 1, 1. F1: 2/3, 2/3, 1.
    given = single_label_metrics(scores, np.array([0, 1, 2, 1]))
    assert given == pytest.approx({"accuracy": 3 / 4, "macro_f1": 7 / 9}, abs=1e-12)


def test_one_label_a_row_is_scikit_learns(random):
    scores, labels = random.standard_normal((200, 3)), random.integers(3, size=200)
    predicted = scores.argmax(axis=1)
    assert single_label_metrics(scores, labels) == pytest.approx(
        {"accuracy": accuracy_score(labels, predicted), "macro_f1": f1_score(labels, predicted, average="macro")},
        abs=1e-12,
    )


def test_a_class_that_never_occurs_does_not_pull_the_mean_down():
    scores = np.eye(3)[[0, 0, 1, 1]]
    assert single_label_metrics(scores, np.array([0, 0, 1, 1])) == {"accuracy": 1.0, "macro_f1": 1.0}
    # One row is taken for the absent class: it misses its own, and the absent class has no F1 of its own.
    given = single_label_metrics(np.eye(3)[[0, 0, 1, 2]], np.array([0, 0, 1, 1]))
    assert given == pytest.approx({"accuracy": 3 / 4, "macro_f1": (1 + 2 / 3) / 2}, abs=1e-12)


def test_several_labels_by_hand():
    scores = np.array([[0.9], [0.8], [0.7], [0.1]])
    # Positives at ranks 1 and 3: precision 1 and 2/3.
    given = multi_label_metrics(scores, np.array([[1.0], [0], [1], [0]]))
    assert given == pytest.approx({"map": (1 + 2 / 3) / 2, "prior": 1 / 2}, abs=1e-12)


def test_several_labels_are_scikit_learns(random):
    scores, labels = random.standard_normal((100, 5)), (random.random((100, 5)) < 0.3).astype(np.float32)
    given = multi_label_metrics(scores, labels)
    assert given["map"] == pytest.approx(average_precision_score(labels, scores, average="macro"), abs=1e-12)
    assert given["prior"] == pytest.approx(labels.mean(), abs=1e-6)


def test_perfect_scores_reach_one_and_random_ones_the_prior(random):
    labels = (random.random((5_000, 4)) < [0.1, 0.2, 0.3, 0.4]).astype(np.float32)
    assert multi_label_metrics(labels, labels)["map"] == 1.0
    given = multi_label_metrics(random.random(labels.shape), labels)
    assert given["map"] == pytest.approx(given["prior"], abs=0.02)


def test_a_label_without_positives_is_left_out_by_name():
    scores, labels = np.array([[0.9, 0.5], [0.1, 0.6]]), np.array([[1.0, 0], [0, 0]])
    with pytest.warns(UserWarning, match="no positive example of grief"):
        assert multi_label_metrics(scores, labels, ["joy", "grief"]) == {"map": 1.0, "prior": 0.5}


def test_unknown_rows_and_entries_do_not_count(random):
    scores, labels = random.standard_normal((60, 3)), random.integers(3, size=60)
    hidden = np.where(random.random(60) < 0.4, -100, labels)
    known = hidden != -100
    assert single_label_metrics(scores, hidden) == single_label_metrics(scores[known], labels[known])

    several = (random.random((60, 3)) < 0.5).astype(np.float32)
    several[:30, 1] = -100
    each = [average_precision_score(several[rows, c], scores[rows, c]) for c, rows in
            ((0, slice(None)), (1, slice(30, None)), (2, slice(None)))]  # fmt: skip
    assert multi_label_metrics(scores, several)["map"] == pytest.approx(np.mean(each), abs=1e-12)


def test_nothing_known_gives_nothing():
    assert single_label_metrics(np.zeros((2, 3)), np.array([-100, -100])) == {}
    with pytest.warns(UserWarning, match="0, 1, 2"):
        assert multi_label_metrics(np.zeros((2, 3)), np.full((2, 3), -100.0)) == {}


def test_every_task_is_named_and_the_headline_is_the_mean(random):
    scores = {"emotion": random.standard_normal((50, 3)), "tempo": random.standard_normal((50, 3))}
    labels = {"emotion": (random.random((50, 3)) < 0.5).astype(np.float32), "tempo": random.integers(3, size=50)}
    given = evaluate_tasks(TASKS, scores, labels)
    assert set(given) == {"emotion_map", "emotion_prior", "tempo_accuracy", "tempo_macro_f1", "mean_score"}
    assert given["emotion_map"] == multi_label_metrics(scores["emotion"], labels["emotion"])["map"]
    assert given["mean_score"] == pytest.approx((given["emotion_map"] + given["tempo_macro_f1"]) / 2)


def test_the_headline_is_the_mean_of_the_tasks_that_are_known(random):
    scores = {"emotion": np.zeros((4, 3)), "tempo": np.eye(3)[[0, 1, 2, 0]]}
    labels = {"emotion": np.full((4, 3), -100.0), "tempo": np.array([0, 1, 2, 0])}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert evaluate_tasks(TASKS, scores, labels) == {
            "tempo_accuracy": 1.0,
            "tempo_macro_f1": 1.0,
            "mean_score": 1.0,
        }
        assert evaluate_tasks(TASKS, scores, labels | {"tempo": np.full(4, -100)}) == {}


def test_the_best_threshold_is_the_one_scikit_learn_would_choose():
    random = np.random.default_rng(5)
    labels = (random.random((60, 4)) < 0.3).astype(float)
    probabilities = np.clip(0.25 * labels + 0.5 * random.random((60, 4)), 0, 1)
    candidates = np.arange(5, 96) / 100
    scores = [
        f1_score(labels, probabilities >= threshold, average="micro", zero_division=0) for threshold in candidates
    ]
    assert best_threshold(probabilities, labels) == candidates[int(np.argmax(scores))]
    labels[0], labels[1:, 0] = -100, -100
    assert 0.05 <= best_threshold(probabilities, labels) <= 0.95
    assert best_threshold(probabilities, np.zeros_like(labels)) == 0.5
