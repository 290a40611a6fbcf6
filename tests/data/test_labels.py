# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from hf_mathrock.data.labels import (
    UNKNOWN,
    LabelError,
    balanced_class_weights,
    closest,
    encode_label,
    encode_labels,
    split_names,
)

EMOTION = {"name": "emotion", "type": "multi_label", "labels": ["anger", "joy", "grief"]}
TEMPO = {"name": "tempo", "type": "single_label", "labels": ["slow", "moderate", "fast"]}
TASKS = [EMOTION, TEMPO]


@pytest.mark.parametrize("value", ["moderate", 1, np.int64(1)])
def test_one_label_is_given_by_name_or_number(value):
    encoded = encode_label(TEMPO, value)
    assert encoded == 1 and encoded.dtype == np.int64 and encoded.shape == ()


@pytest.mark.parametrize(
    "value",
    [
        ["joy", "anger"],
        ("anger", "joy"),
        [0, 1],
        ["anger", 1],
        np.array([0, 1]),
        [1.0, 1.0, 0.0],
        [True, True, False],
        np.array([1, 1, 0], dtype=np.float32),
        np.array([True, True, False]),
    ],
)
def test_several_labels_are_given_by_names_numbers_or_multi_hot(value):
    encoded = encode_label(EMOTION, value)
    np.testing.assert_array_equal(encoded, [1, 1, 0])
    assert encoded.dtype == np.float32


@pytest.mark.parametrize("value", ["grief", 2, np.int64(2), ["grief"], [2]])
def test_a_multi_label_task_takes_one_class_per_row_too(value):
    np.testing.assert_array_equal(encode_label(EMOTION, value), [0, 0, 1])


@pytest.mark.parametrize(
    "value", [None, float("nan"), "", "  ", "nan", -100, "-100", np.int64(-100), np.float32("nan"), [None]]
)
def test_what_nobody_gave_is_unknown_everywhere(value):
    assert encode_label(TEMPO, value) == UNKNOWN
    np.testing.assert_array_equal(encode_label(EMOTION, value), [UNKNOWN] * 3)


def test_no_label_at_all_is_known():
    np.testing.assert_array_equal(encode_label(EMOTION, []), [0, 0, 0])


def test_a_multi_hot_row_may_hold_unknown_entries():
    np.testing.assert_array_equal(encode_label(EMOTION, [1.0, -100.0, 0.0]), [1, UNKNOWN, 0])


@pytest.mark.parametrize(
    ("task", "value", "message"),
    [
        (TEMPO, "modrate", "'modrate' is no label of the task 'tempo'; did you mean 'moderate'?"),
        (TEMPO, "presto!", "the labels are slow, moderate, fast"),
        (EMOTION, ["joy", "gried"], "'gried' is no label of the task 'emotion'; did you mean 'grief'?"),
        (TEMPO, 3, "3 is no label of the task 'tempo', which has 3"),
        (TEMPO, -1, "-1 is no label"),
        (EMOTION, [0, 7], "7 is no label of the task 'emotion'"),
    ],
)
def test_a_label_the_task_does_not_have_is_refused_with_the_closest_ones(task, value, message):
    with pytest.raises(ValueError) as refused:
        encode_label(task, value)
    assert message in str(refused.value)


@pytest.mark.parametrize("value", [[1, -100, 0], [1, None, 0], "1;-100;0", "[1, null, 0]", [1.0, float("nan"), 0.0]])
def test_an_unknown_entry_of_a_multi_hot_row_may_be_written_in_any_way(value):
    np.testing.assert_array_equal(encode_label(EMOTION, value), [1, UNKNOWN, 0])


@pytest.mark.parametrize(
    "value",
    ["joy;anger", "anger|joy", "joy, anger", "Anger\tJOY", '["joy", "anger"]', "['anger', 'joy']", "0;1", "[0, 1]"],
)
def test_text_may_hold_several_labels(value):
    np.testing.assert_array_equal(encode_label(EMOTION, value), [1, 1, 0])


def test_text_that_is_a_label_is_not_divided():
    labels = ["rock, alternative", "rock", "R&B; soul"]
    task = {"name": "genre", "type": "multi_label", "labels": labels}
    np.testing.assert_array_equal(encode_label(task, "rock, alternative"), [1, 0, 0])
    np.testing.assert_array_equal(encode_label(task, "R&B; Soul"), [0, 0, 1])
    assert split_names("rock, alternative; rock", labels) == ["rock, alternative", "rock"]
    assert split_names("rock, jazz") == ["rock", "jazz"]
    assert split_names(" ; ") == []


@pytest.mark.parametrize("value", ["Math-Rock", " math rock", "MATH_ROCK"])
def test_spelling_counts_only_between_labels_that_differ_in_nothing_else(value):
    task = {"name": "genre", "type": "single_label", "labels": ["emo", "math_rock"]}
    assert encode_label(task, value) == 1
    assert encode_label({**task, "labels": ["Joy", "joy"]}, "joy") == 1
    with pytest.raises(LabelError):
        encode_label({**task, "labels": ["Joy", "joy"]}, "JOY")


def test_numbers_in_text_are_positions_unless_labels_are_numbers():
    assert encode_label(TEMPO, "1") == encode_label(TEMPO, "1.0") == encode_label(TEMPO, 1.0) == 1
    decades = {"name": "decade", "type": "single_label", "labels": ["1", "2", "3"]}
    assert encode_label(decades, "1") == 0
    with pytest.raises(LabelError):
        encode_label(decades, "0")


def test_a_label_called_nan_is_a_label():
    assert encode_label({"name": "bread", "type": "single_label", "labels": ["nan", "pita"]}, "nan") == 0


def test_one_label_in_a_list_is_one_label_and_two_are_too_many():
    assert encode_label(TEMPO, ["fast"]) == 2 and encode_label(TEMPO, []) == UNKNOWN
    with pytest.raises(LabelError, match="are 2 labels, and the task 'tempo' has one per song"):
        encode_label(TEMPO, ["fast", "slow"])


@pytest.mark.parametrize("value", [[2.0, 0.0, 0.0], [1, -1, -1]])
def test_a_multi_hot_row_of_other_numbers_is_refused(value):
    with pytest.raises(LabelError, match="allowed are 0, 1 and what lies between, and -100"):
        encode_label(EMOTION, value)


def test_the_closest_names_do_not_mind_spelling():
    assert closest("My-Colum", ["title", "my column"]) == ["my column"]


def test_a_task_without_a_column_is_unknown():
    encoded = encode_labels(TASKS, {"tempo": "fast", "title": "untitled"})
    assert encoded["tempo"] == 2
    np.testing.assert_array_equal(encoded["emotion"], [UNKNOWN] * 3)


def test_class_weights_are_those_of_scikit_learn():
    tempi = ["slow"] * 5 + ["moderate"] * 2 + ["fast"]
    weights = balanced_class_weights(TASKS, [encode_labels(TASKS, {"tempo": tempo}) for tempo in tempi])
    indices = np.array([TEMPO["labels"].index(tempo) for tempo in tempi])
    assert list(weights) == ["tempo"]
    np.testing.assert_allclose(
        weights["tempo"], compute_class_weight("balanced", classes=np.arange(3), y=indices), rtol=1e-6
    )


def test_classes_weigh_the_same_in_total_whatever_is_unknown_or_never_occurs():
    rows = [encode_labels(TASKS, {"tempo": tempo}) for tempo in ["slow", "slow", "slow", None, "fast"]]
    # 4 known rows of 2 classes: each class has a total of 2.
    np.testing.assert_allclose(balanced_class_weights(TASKS, rows)["tempo"], [2 / 3, 0, 2], rtol=1e-6)


def test_a_task_without_a_known_label_has_no_weights():
    assert balanced_class_weights(TASKS, [encode_labels(TASKS, {"emotion": ["joy"]})]) == {}
