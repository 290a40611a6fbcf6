# SPDX-License-Identifier: Apache-2.0
"""Every figure is scikit-learn's to 1e-9, on random rows and on those where formulas break, and with rows repeated."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    f1_score,
    roc_auc_score,
)

from hf_mathrock.metrics import calibration, multi_label, single_label, weighted

pytestmark = pytest.mark.filterwarnings("ignore")
NAN = float("nan")


def some_rows(seed):
    """Scores, multi-hot labels and classes of a shape, a number of ties and a degeneracy that the seed chooses."""
    random = np.random.default_rng(seed)
    num_rows, num_labels = random.integers(1, 40), random.integers(1, 6)
    scores = random.random((num_rows, num_labels))
    scores = [scores, np.round(scores, 1), np.full_like(scores, 0.3), np.round(scores)][seed % 4]
    labels = (random.random(scores.shape) < random.random(num_labels)).astype(float)
    classes = random.integers(num_labels, size=num_rows)
    if seed % 3 == 1:
        labels[:, 0], classes[:] = 0, 0
    if seed % 5 == 2:
        labels[:, -1], classes[:] = 1, num_labels - 1
    if seed % 7 == 3:
        labels[random.random(labels.shape) < 0.4] = -100
        classes[random.random(num_rows) < 0.4] = -100
    return scores, labels, classes, random


def per_label(metric, scores, labels, need, weights):
    """A metric of scikit-learn for every label with what it needs among its known rows, NaN for the others."""
    values = []
    for column in range(scores.shape[1]):
        known = (labels[:, column] != -100) & (weights > 0)
        seen = set(labels[known, column])
        weight = weights[known]
        defined = need <= seen
        values.append(metric(labels[known, column], scores[known, column], sample_weight=weight) if defined else NAN)
    return np.array(values)


def expected_multi_label(scores, labels, thresholds, weights):
    claimed = (scores >= thresholds).astype(float)
    priors = per_label(lambda y, _, sample_weight: np.average(y, weights=sample_weight), scores, labels, {1}, weights)
    each = {
        "map": per_label(average_precision_score, scores, labels, {1}, weights),
        "prior": priors,
        "roc_auc": per_label(roc_auc_score, scores, labels, {0, 1}, weights),
        "macro_f1": per_label(f1_score, claimed, labels, {1}, weights),
    }
    expected = {name: np.nanmean(values) for name, values in each.items()}
    known = (labels != -100) & (weights > 0)[:, None]
    repeated = np.broadcast_to(weights[:, None], labels.shape)[known]
    expected["micro_f1"] = (
        f1_score(labels[known], claimed[known], sample_weight=repeated) if (labels[known] == 1).any() else NAN
    )
    return each, expected


def expected_single_label(scores, classes, weights):
    known = (classes != -100) & (weights > 0)
    if not known.any():
        return {"accuracy": NAN, "macro_f1": NAN, "micro_f1": NAN}
    true, predicted, weight = classes[known], scores[known].argmax(axis=1), weights[known]
    options = {"labels": np.unique(true), "zero_division": 0, "sample_weight": weight}
    accuracy = accuracy_score(true, predicted, sample_weight=weight)
    return {
        "accuracy": accuracy,
        "macro_f1": f1_score(true, predicted, average="macro", **options),
        "micro_f1": f1_score(true, predicted, average="micro", sample_weight=weight),
    }


def defined(metrics):
    return {name: value for name, value in metrics.items() if not np.isnan(value)}


@pytest.mark.parametrize("seed", range(105))
def test_every_figure_is_scikit_learns(seed):
    scores, labels, classes, random = some_rows(seed)
    once = np.ones(len(scores))
    thresholds = random.choice([0.1, 0.3, 0.5, 0.8], size=scores.shape[1])
    each, expected = expected_multi_label(scores, labels, thresholds, once)
    given = multi_label.evaluate(scores, labels, thresholds=thresholds)
    assert given == pytest.approx(defined(expected), abs=1e-9)
    assert multi_label.average_precision(scores, labels) == pytest.approx(each["map"], abs=1e-9, nan_ok=True)
    assert multi_label.roc_auc(scores, labels) == pytest.approx(each["roc_auc"], abs=1e-9, nan_ok=True)
    assert multi_label.f1(scores, labels, thresholds) == pytest.approx(each["macro_f1"], abs=1e-9, nan_ok=True)
    given = single_label.evaluate(scores, classes)
    assert given == pytest.approx(defined(expected_single_label(scores, classes, once)), abs=1e-9)


@pytest.mark.parametrize("seed", range(105))
def test_every_figure_with_repeated_rows_is_scikit_learns_with_weights(seed):
    scores, labels, classes, random = some_rows(seed)
    thresholds = random.choice([0.1, 0.3, 0.5, 0.8], size=scores.shape[1])
    weights = random.multinomial(len(scores), np.full(len(scores), 1 / len(scores)), size=4).astype(float)
    given = weighted.multi_label_metrics(scores, labels, weights, thresholds)
    one_a_row = weighted.single_label_metrics(scores, classes, weights)
    for number, weight in enumerate(weights):
        _, expected = expected_multi_label(scores, labels, thresholds, weight)
        assert {name: values[number] for name, values in given.items()} == pytest.approx(
            expected, abs=1e-9, nan_ok=True
        )
        expected = expected_single_label(scores, classes, weight)
        found = {name: values[number] for name, values in one_a_row.items()}
        assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("seed", range(0, 105, 3))
def test_the_brier_score_is_scikit_learns_with_and_without_weights(seed):
    scores, labels, classes, random = some_rows(seed)
    weights = np.vstack([np.ones(len(scores)), random.integers(4, size=(3, len(scores)))])
    known, columns = classes != -100, scores.shape[1]
    probabilities = (scores + 0.01) / (scores + 0.01).sum(axis=1, keepdims=True)
    given = weighted.calibration_metrics(probabilities, classes, weights)["brier"]
    entries = labels != -100
    of_entries = weighted.calibration_metrics(scores, labels, weights)["brier"]
    for number, weight in enumerate(weights):
        if columns > 1 and weight[known].any():
            expected = brier_score_loss(
                classes[known],
                probabilities[known],
                sample_weight=weight[known],
                labels=range(columns),
                scale_by_half=False if columns == 2 else "auto",
            )
            assert given[number] == pytest.approx(expected, abs=1e-9)
        repeated = np.broadcast_to(weight[:, None], labels.shape)[entries]
        if repeated.any():
            expected = brier_score_loss(labels[entries], scores[entries], sample_weight=repeated, pos_label=1)
            assert of_entries[number] == pytest.approx(expected, abs=1e-9)
    if known.any():
        assert calibration.brier_score(probabilities, classes) == pytest.approx(given[0], abs=1e-12)
    if entries.any():
        assert calibration.brier_score(scores, labels) == pytest.approx(of_entries[0], abs=1e-12)


def test_rows_that_weigh_nothing_are_as_good_as_absent():
    scores, labels, classes, _ = some_rows(24)
    kept = np.arange(len(scores)) % 2 == 0
    probabilities = scores / 2
    for function, truth in (
        (weighted.multi_label_metrics, labels),
        (weighted.single_label_metrics, classes),
        (weighted.calibration_metrics, labels),
        (weighted.calibration_metrics, classes),
    ):
        whole = function(probabilities, truth, kept[None].astype(float))
        half = function(probabilities[kept], truth[kept], np.ones((1, kept.sum())))
        assert {name: value[0] for name, value in whole.items()} == pytest.approx(
            {name: value[0] for name, value in half.items()}, abs=1e-12, nan_ok=True
        )


def test_weights_warn_of_nothing():
    scores, labels = np.array([[0.2, 0.4], [0.3, 0.3]]), np.array([[0.0, 1], [-100, 1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        given = weighted.multi_label_metrics(scores, labels, np.array([[0.0, 0], [1, 1]]), 0.5)
    assert np.isnan(given["roc_auc"]).all() and given["map"][1] == 1 and np.isnan(given["map"][0])
