# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.metrics import f1_score

from hf_mathrock.metrics.classification import best_threshold, best_thresholds


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


def column(*values):
    return np.array(values, dtype=float)[:, None]


def test_the_best_f1_of_a_label_by_hand():
    # Claims from 0.9 down hit 1, 1, 0, 1, 0: F1 2/4, 4/5, 4/6, 6/7, 6/8. The best claims four.
    scores, labels = column(0.9, 0.8, 0.6, 0.3, 0.1), column(1, 1, 0, 1, 0)
    assert best_thresholds(scores, labels, min_positives=1) == pytest.approx([0.2])
    # Without the third positive it is the first two: F1 1.
    assert best_thresholds(scores, column(1, 1, 0, 0, 0), min_positives=1) == pytest.approx([0.7])


def test_of_equally_good_thresholds_the_lowest_is_taken():
    # F1 2/3, 2/4, 2/5, 4/6: one claim is as good as all four.
    scores, labels = column(0.9, 0.8, 0.6, 0.3), column(1, 0, 0, 1)
    assert best_thresholds(scores, labels, min_positives=1) == pytest.approx([0.15])


def test_the_lowest_threshold_of_a_precision_by_hand():
    # Precision from the top: 1, 1, 2/3, 3/4, 3/5.
    scores, labels = column(0.9, 0.8, 0.6, 0.3, 0.1), column(1, 1, 0, 1, 0)
    for wanted, threshold in ((1.0, 0.7), (0.76, 0.7), (0.75, 0.2), (2 / 3, 0.2), (0.6, 0.05), (0.01, 0.05)):
        given = best_thresholds(scores, labels, rule=("precision", wanted), min_positives=1)
        assert given == pytest.approx([threshold]), wanted


def test_a_label_that_always_holds_is_always_claimed():
    given = best_thresholds(column(0.4, 0.2, 0.3), column(1, 1, 1), min_positives=1)
    assert given == pytest.approx([0.1])


def test_equal_scores_are_claimed_together():
    # The two of 0.6 cannot be told apart: precision 1, then 2/3.
    scores, labels = column(0.9, 0.6, 0.6, 0.1), column(1, 1, 0, 0)
    assert best_thresholds(scores, labels, rule=("precision", 0.9), min_positives=1) == pytest.approx([0.75])
    assert best_thresholds(np.full((4, 1), 0.3), labels, min_positives=1) == pytest.approx([0.15])


def test_neighbouring_floats_are_still_told_apart():
    low = 0.5
    high = np.nextafter(low, 1)
    (threshold,) = best_thresholds(column(high, low), column(1, 0), min_positives=1)
    assert low < threshold <= high


def test_unknown_entries_have_no_say_in_a_threshold():
    scores, labels = column(0.9, 0.8, 0.6, 0.3, 0.1, 0.95, 0.2), column(1, 1, 0, 1, 0, -100, -100)
    assert best_thresholds(scores, labels, min_positives=1) == pytest.approx([0.2])


def test_no_other_threshold_has_a_better_f1_or_a_lower_one_the_precision():
    random = np.random.default_rng(2)
    for _ in range(30):
        labels = (random.random((40, 1)) < 0.4).astype(float)
        labels[:5] = 1
        scores = np.round(np.clip(0.3 * labels + 0.7 * random.random((40, 1)), 0, 1), 2)
        (threshold,) = best_thresholds(scores, labels)
        candidates = np.append(np.unique(scores), 1.01)
        f1 = [f1_score(labels, scores >= candidate, zero_division=0) for candidate in candidates]
        assert f1_score(labels, scores >= threshold) == pytest.approx(max(f1), abs=1e-12)
        (threshold,) = best_thresholds(scores, labels, rule=("precision", 0.7))
        claimed = labels[scores >= threshold]
        assert claimed.mean() >= 0.7
        assert all(labels[scores >= lower].mean() < 0.7 for lower in candidates[candidates < threshold])


def test_a_rare_label_takes_the_threshold_of_the_whole_task_and_is_named():
    random = np.random.default_rng(3)
    labels = (random.random((80, 3)) < [0.4, 0.5, 0]).astype(float)
    labels[:4, 2] = 1
    scores = np.clip(0.3 * labels + 0.7 * random.random((80, 3)), 0, 1)
    with pytest.warns(UserWarning, match="fewer than 5 positive examples of grief: the threshold of the whole task"):
        given = best_thresholds(scores, labels, label_names=["anger", "joy", "grief"])
    assert given[2] == best_threshold(scores, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own = best_thresholds(scores, labels, min_positives=4)
    assert own[:2] == pytest.approx(given[:2]) and own[2] != given[2]
    with pytest.warns(UserWarning, match="grief"):
        (*_, pooled) = best_thresholds(scores, labels, rule=("precision", 0.8), label_names=["anger", "joy", "grief"])
    assert pooled == best_thresholds(scores.reshape(-1, 1), labels.reshape(-1, 1), rule=("precision", 0.8))[0]
    assert labels[scores >= pooled].mean() >= 0.8


def test_a_precision_out_of_reach_silences_the_label_by_name():
    scores, labels = np.array([[0.9, 0.9], [0.8, 0.1]]), np.array([[0.0, 1], [1, 0]])
    with pytest.warns(UserWarning, match="no threshold of joy reaches the precision 0.8"):
        given = best_thresholds(scores, labels, rule=("precision", 0.8), min_positives=1, label_names=["joy", "grief"])
    assert given == pytest.approx([1.0, 0.5])


def test_nothing_known_gives_thresholds_nonetheless():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert (best_thresholds(np.full((3, 2), 0.7), np.full((3, 2), -100.0)) == 0.5).all()
        assert (best_thresholds(np.full((3, 2), 0.7), np.full((3, 2), -100.0), rule=("precision", 0.5)) == 1).all()


@pytest.mark.parametrize("rule", ["F1", "precision", ("precision", 0), ("precision", 80), ("recall", 0.5), None])
def test_a_rule_that_is_none_is_refused(rule):
    with pytest.raises(ValueError, match='must be "f1", or'):
        best_thresholds(np.zeros((1, 1)), np.zeros((1, 1)), rule=rule)
