# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, confusion_matrix, f1_score, roc_auc_score

from hf_mathrock.metrics.classification import (
    confusion,
    evaluate_tasks,
    multi_label_metrics,
    per_label_metrics,
    single_label_metrics,
)

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
    assert given == pytest.approx({"accuracy": 3 / 4, "macro_f1": 7 / 9, "micro_f1": 3 / 4}, abs=1e-12)


def test_one_label_a_row_is_scikit_learns(random):
    scores, labels = random.standard_normal((200, 3)), random.integers(3, size=200)
    predicted = scores.argmax(axis=1)
    assert single_label_metrics(scores, labels) == pytest.approx(
        {
            "accuracy": accuracy_score(labels, predicted),
            "macro_f1": f1_score(labels, predicted, average="macro"),
            "micro_f1": f1_score(labels, predicted, average="micro"),
        },
        abs=1e-12,
    )


def test_a_class_that_never_occurs_does_not_pull_the_mean_down():
    scores = np.eye(3)[[0, 0, 1, 1]]
    assert single_label_metrics(scores, np.array([0, 0, 1, 1])) == dict.fromkeys(
        ("accuracy", "macro_f1", "micro_f1"), 1.0
    )
    # One row is taken for the absent class: it misses its own, and the absent class has no F1 of its own.
    given = single_label_metrics(np.eye(3)[[0, 0, 1, 2]], np.array([0, 0, 1, 1]))
    assert given == pytest.approx({"accuracy": 3 / 4, "macro_f1": (1 + 2 / 3) / 2, "micro_f1": 3 / 4}, abs=1e-12)


def test_several_labels_by_hand():
    scores = np.array([[0.9], [0.8], [0.7], [0.1]])
    # Positives at ranks 1 and 3: precision 1 and 2/3; of four pairs of a positive and a negative three are in order.
    given = multi_label_metrics(scores, np.array([[1.0], [0], [1], [0]]))
    assert given == pytest.approx({"map": (1 + 2 / 3) / 2, "prior": 1 / 2, "roc_auc": 3 / 4}, abs=1e-12)


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
        given = multi_label_metrics(scores, labels, ["joy", "grief"], thresholds=0.5)
    assert given["map"] == given["roc_auc"] == given["macro_f1"] == 1.0 and given["prior"] == 0.5
    # The claims of grief, wrong both times, count among all entries: 2 · 1 hit / (3 claims + 1 positive).
    assert given["micro_f1"] == 2 * 1 / (3 + 1)


def test_a_label_that_all_rows_have_is_left_out_of_the_roc_auc_only():
    scores, labels = np.array([[0.9, 0.5], [0.1, 0.6]]), np.array([[1.0, 1], [0, 1]])
    with pytest.warns(UserWarning, match="no negative example of grief: left out of the mean ROC-AUC"):
        given = multi_label_metrics(scores, labels, ["joy", "grief"])
    assert given == {"map": 1.0, "prior": 0.75, "roc_auc": 1.0}
    with pytest.warns(UserWarning, match="no negative"):
        assert "roc_auc" not in multi_label_metrics(scores[:, 1:], labels[:, 1:])


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
    assert set(given) == {
        *("emotion_map", "emotion_prior", "emotion_roc_auc"),
        *("tempo_accuracy", "tempo_macro_f1", "tempo_micro_f1", "mean_score"),
    }
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
            "tempo_micro_f1": 1.0,
            "mean_score": 1.0,
        }
        assert evaluate_tasks(TASKS, scores, labels | {"tempo": np.full(4, -100)}) == {}


def test_f1_and_calibration_are_measured_where_thresholds_and_probabilities_are_given(random):
    labels = {"emotion": (random.random((50, 3)) < 0.5).astype(np.float32), "tempo": random.integers(3, size=50)}
    scores = {"emotion": random.random((50, 3)), "tempo": random.dirichlet(np.ones(3), size=50)}
    given = evaluate_tasks(TASKS, scores, labels, probabilities=True)
    new = {"emotion_macro_f1", "emotion_micro_f1", "emotion_ece", "emotion_brier", "tempo_ece", "tempo_brier"}
    plain = evaluate_tasks(TASKS, scores, labels)
    assert set(given) == set(plain) | new
    assert {name: given[name] for name in plain} == plain
    expected = f1_score(labels["emotion"], scores["emotion"] >= 0.5, average="macro")
    assert given["emotion_macro_f1"] == pytest.approx(expected, abs=1e-12)
    limits = [0.2, 0.5, 0.7]
    expected = f1_score(labels["emotion"], scores["emotion"] >= limits, average="micro")
    given = evaluate_tasks(TASKS, scores, labels, thresholds={"emotion": limits})
    assert given["emotion_micro_f1"] == pytest.approx(expected, abs=1e-12) and "emotion_ece" not in given


def test_a_score_on_the_threshold_is_a_claim():
    scores, labels = {"emotion": np.full((2, 3), 0.5)}, {"emotion": np.array([[1.0] * 3, [0.0] * 3])}
    # Both rows are claimed, one rightly.
    assert evaluate_tasks(TASKS[:1], scores, labels, {"emotion": 0.5})["emotion_macro_f1"] == pytest.approx(2 / 3)


def test_each_label_has_its_figures_by_name(random):
    scores, labels = random.random((40, 3)), (random.random((40, 3)) < 0.5).astype(float)
    labels[:, 1], labels[5:, 2], labels[:5, 2] = 0, -100, 1
    given = per_label_metrics(TASKS[0], scores, labels, [0.5, 0.5, 0.5])
    assert given["left_out"] == ["joy"]
    assert given["support"] == {"anger": int(labels[:, 0].sum()), "joy": 0, "grief": 5}
    assert set(given["average_precision"]) == set(given["f1"]) == {"anger", "grief"}
    assert set(given["roc_auc"]) == {"anger"}  # nothing is known not to be grief
    assert given["average_precision"]["anger"] == average_precision_score(labels[:, 0], scores[:, 0])
    assert given["average_precision"]["grief"] == 1.0
    assert given["f1"]["anger"] == pytest.approx(f1_score(labels[:, 0], scores[:, 0] >= 0.5), abs=1e-12)
    assert per_label_metrics(TASKS[0], scores, labels)["f1"] == {}


def test_each_class_is_held_against_the_rest(random):
    scores, labels = random.random((60, 3)), random.integers(2, size=60)
    labels[:10] = -100
    given = per_label_metrics(TASKS[1], scores, labels)
    assert given["left_out"] == ["fast"] and given["support"]["fast"] == 0
    rest, predicted = labels[10:], scores[10:].argmax(axis=1)
    for position, name in enumerate(("slow", "moderate")):
        expected = rest == position
        assert given["average_precision"][name] == average_precision_score(expected, scores[10:, position])
        assert given["roc_auc"][name] == roc_auc_score(expected, scores[10:, position])
        assert given["f1"][name] == pytest.approx(f1_score(expected, predicted == position), abs=1e-12)
        assert given["support"][name] == expected.sum()


def test_the_confusion_is_scikit_learns_with_the_truth_in_rows(random):
    scores, labels = random.random((60, 3)), random.integers(3, size=60)
    labels[::7] = -100
    known = labels != -100
    expected = confusion_matrix(labels[known], scores[known].argmax(axis=1), labels=range(3))
    assert confusion(TASKS[1], scores, labels) == expected.tolist()
    assert confusion(TASKS[1], np.eye(3)[[1, 1]], np.array([0, -100])) == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match="'emotion' is multi_label"):
        confusion(TASKS[0], scores, labels)


GOOD = {"emotion": np.full((4, 3), 0.4), "tempo": np.full((4, 3), 0.3)}
TRUE = {"emotion": np.eye(4, 3), "tempo": np.array([0, 1, 2, 0])}


def changed(array, place, value):
    array = np.array(array, dtype=np.float64)
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ({"emotion": changed(GOOD["emotion"], (2, 1), np.nan)}, {}, "'emotion': row 2 has the score nan for label 1"),
        ({"tempo": changed(GOOD["tempo"], (3, 0), np.inf)}, {}, "'tempo': row 3 has the score inf"),
        ({"emotion": np.zeros(4)}, {}, r"the shape \(4,\)"),
        ({"emotion": np.zeros((4, 2))}, {"emotion": np.zeros((4, 2))}, "3 label names for 2 columns"),
        ({"tempo": np.zeros((4, 2))}, {}, "3 label names for 2 columns"),
        ({}, {"emotion": changed(TRUE["emotion"], (1, 2), np.nan)}, "row 1 has nan for label 2"),
        ({}, {"emotion": changed(TRUE["emotion"], (3, 0), -1)}, "row 3 has -1.0 for label 0"),
        ({}, {"emotion": TRUE["tempo"]}, "class indices instead"),
        ({}, {"tempo": np.array([0, 3, 1, 1])}, "row 1 has the label 3; with 3 labels"),
        ({}, {"tempo": np.array([0, 1, -1, 1])}, "row 2 has the label -1"),
        ({}, {"tempo": np.array([0, 1, 1, 0.5])}, "row 3 has the label 0.5"),
        ({}, {"tempo": np.array([np.nan, 1, 1, 0])}, "row 0 has the label nan"),
        ({}, {"tempo": np.array([0, 1, 1])}, r"the shape \(3,\)"),
        ({"emotion": GOOD["emotion"] * 3}, {}, "row 0 has the probability 1.2 for label 0.*logits"),
        ({"tempo": GOOD["tempo"] - 1}, {}, "row 0 has the probability -0.7"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_task_and_row(scores, labels, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with pytest.raises(ValueError, match=message):
            evaluate_tasks(TASKS, GOOD | scores, TRUE | labels, probabilities=True)


@pytest.mark.parametrize("thresholds", [[0.5, 0.5], np.nan, [0.1, 0.2, np.inf], [[0.1, 0.2, 0.3]]])
def test_thresholds_for_other_labels_are_refused(thresholds):
    with pytest.raises(ValueError, match="each of the 3 labels"):
        multi_label_metrics(GOOD["emotion"][:3], np.eye(3), thresholds=thresholds)
