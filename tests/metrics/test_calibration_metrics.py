# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from hf_mathrock.metrics import calibration
from hf_mathrock.metrics.calibration import brier_score, expected_calibration_error, reliability_curve


def test_the_calibration_error_of_one_label_a_row_by_hand():
    # Two rows sure to 0.9, one right; two to 0.6, both right. 2/4 · |0.5 - 0.9| + 2/4 · |1 - 0.6|.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    labels = np.array([0, 1, 0, 1])
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.4, abs=1e-12)
    # In one bin for all, 0.75 sure and 0.75 right: one error hides the other.
    assert expected_calibration_error(probabilities, labels, num_bins=1) == pytest.approx(0, abs=1e-12)


def test_the_calibration_error_of_several_labels_by_hand():
    # Label 0 is claimed with 0.8 and never holds, label 1 with 0.8 and always does, label 2 is unknown.
    probabilities, labels = np.full((4, 3), 0.8), np.tile([0.0, 1, -100], (4, 1))
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.8 - 0.5, abs=1e-12)
    assert expected_calibration_error(probabilities, labels, per_label=True) == pytest.approx(
        (0.8 + 0.2) / 2, abs=1e-12
    )


def test_the_brier_score_by_hand():
    one = brier_score(np.array([[0.7, 0.2, 0.1], [0.5, 0.5, 0]]), np.array([0, -100]))
    assert one == pytest.approx(0.3**2 + 0.2**2 + 0.1**2, abs=1e-12)
    several = brier_score(np.array([[0.7, 0.2], [0.5, 0.5]]), np.array([[1, 0], [-100, 1]]))
    assert several == pytest.approx((0.3**2 + 0.2**2 + 0.5**2) / 3, abs=1e-12)
    assert brier_score(np.eye(3), np.arange(3)) == 0 and brier_score(np.eye(2), np.array([1, 0])) == 2


def test_probabilities_that_mean_what_they_say_have_a_small_error():
    random = np.random.default_rng(0)
    probabilities = random.random((100_000, 1))
    labels = (random.random(probabilities.shape) < probabilities).astype(float)
    assert expected_calibration_error(probabilities, labels) < 0.01
    assert expected_calibration_error(probabilities**2, labels) > 0.1


def test_the_curve_is_scikit_learns():
    random = np.random.default_rng(1)
    for decimals in (1, 2, 8):
        scores = np.round(random.random((300, 1)), decimals)
        labels = (random.random(scores.shape) < scores**2).astype(float)
        for num_bins in (5, 10, 15):
            frequency, confidence = calibration_curve(labels[:, 0], scores[:, 0], n_bins=num_bins)
            curve = reliability_curve(scores, labels, num_bins)
            assert curve["frequency"] == pytest.approx(frequency, abs=1e-12)
            assert curve["confidence"] == pytest.approx(confidence, abs=1e-12)
            error = np.abs(frequency - confidence) @ curve["count"] / 300
            assert expected_calibration_error(scores, labels, num_bins) == pytest.approx(error, abs=1e-12)


def test_the_curve_counts_every_claim_in_the_bin_it_belongs_to():
    curve = reliability_curve(np.array([[0.0], [0.2], [0.21], [1.0]]), np.array([[0.0], [1], [0], [1]]), 5)
    assert curve == {
        "low": [0, pytest.approx(0.2), pytest.approx(0.8)],
        "high": [pytest.approx(0.2), pytest.approx(0.4), 1],
        "confidence": [0.1, 0.21, 1.0],
        "frequency": [0.5, 0.0, 1.0],
        "count": [2, 1, 1],
    }
    best = reliability_curve(np.array([[0.1, 0.9], [0.3, 0.7]]), np.array([1, -100]), 2)
    assert best["count"] == [1] and best["confidence"] == [0.9] and best["frequency"] == [1.0]


def test_nothing_known_is_no_figure():
    nothing = np.array([-100, -100])
    assert calibration.evaluate(np.full((2, 2), 0.5), nothing) == {}
    assert np.isnan(brier_score(np.full((2, 2), 0.5), nothing))
    assert np.isnan(expected_calibration_error(np.full((2, 2), 0.5), np.full((2, 2), -100)))
    assert np.isnan(expected_calibration_error(np.full((2, 2), 0.5), np.full((2, 2), -100), per_label=True))
    assert reliability_curve(np.full((2, 2), 0.5), nothing)["count"] == []


def test_what_is_no_probability_is_refused():
    with pytest.raises(ValueError, match="row 1 has the probability 2 for label 0.*logits"):
        calibration.evaluate(np.array([[0.5], [2.0]]), np.array([[1.0], [0]]))
    with pytest.raises(ValueError, match="row 0 has the score nan"):
        calibration.evaluate(np.array([[np.nan]]), np.array([[1.0]]))
    with pytest.raises(ValueError, match="`num_bins` is 0"):
        calibration.evaluate(np.array([[0.5]]), np.array([[1.0]]), 0)
    with pytest.raises(ValueError, match="`per_label` is of multi-label"):
        expected_calibration_error(np.array([[0.5, 0.5]]), np.array([1]), per_label=True)


def test_a_rounding_error_beyond_one_is_forgiven():
    assert brier_score(np.array([[1 + 1e-7]]), np.array([[1.0]])) == 0
