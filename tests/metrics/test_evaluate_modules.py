# SPDX-License-Identifier: Apache-2.0
"""The modules of the `evaluate` library, loaded from the package as a user does, offline."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest
from setuptools import find_namespace_packages
from sklearn.metrics import average_precision_score, brier_score_loss, confusion_matrix, f1_score, roc_auc_score

from hf_mathrock.metrics import MODULES, module_path
from hf_mathrock.metrics.calibration import expected_calibration_error

NAMES = ["anger", "joy", "grief"]


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Where `evaluate` copies modules to and imports them from; a process can have one such folder at a time."""
    folder = tmp_path_factory.mktemp("modules")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in sys.modules if name.split(".")[0] == "evaluate_modules"]:
            patch.delitem(sys.modules, name)
        patch.syspath_prepend(folder)
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", folder)
        yield folder
        for name in [name for name in sys.modules if name.split(".")[0] == "evaluate_modules"]:
            del sys.modules[name]


@pytest.fixture
def load(copies, tmp_path, monkeypatch):
    """`evaluate.load` without a network and with its cache in a folder of the test's own."""

    def refuse(*args, **kwargs):
        raise AssertionError("a module reaches for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return lambda name: evaluate.load(str(module_path(name)), cache_dir=str(tmp_path / "metrics"))


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_several_labels_are_scikit_learns(load, random):
    scores, labels = random.random((50, 3)), (random.random((50, 3)) < 0.4).astype(float)
    given = load("mathrock_multi_label").compute(
        predictions=scores, references=labels, label_names=NAMES, thresholds=[0.3, 0.5, 0.7]
    )
    claimed = scores >= [0.3, 0.5, 0.7]
    assert given["map"] == pytest.approx(average_precision_score(labels, scores), abs=1e-9)
    assert given["roc_auc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert given["macro_f1"] == pytest.approx(f1_score(labels, claimed, average="macro"), abs=1e-9)
    assert given["micro_f1"] == pytest.approx(f1_score(labels, claimed, average="micro"), abs=1e-9)
    assert given["average_precision_per_label"]["joy"] == pytest.approx(
        average_precision_score(labels[:, 1], scores[:, 1]), abs=1e-9
    )
    assert given["support"] == dict(zip(NAMES, labels.sum(axis=0), strict=True)) and given["left_out"] == []


def test_batches_with_unknown_entries_are_the_whole(load, random):
    scores, labels = random.random((50, 3)), (random.random((50, 3)) < 0.4).astype(float)
    labels[10:30, 1], labels[:, 2] = -100, 0
    module = load("mathrock_multi_label")
    for start in range(0, 50, 20):
        module.add_batch(predictions=scores[start : start + 20], references=labels[start : start + 20])
    with pytest.warns(UserWarning, match="no positive example of 2"):
        given = module.compute()
    rest = np.r_[0:10, 30:50]
    each = [
        average_precision_score(labels[:, 0], scores[:, 0]),
        average_precision_score(labels[rest, 1], scores[rest, 1]),
    ]
    assert given["map"] == pytest.approx(np.mean(each), abs=1e-9)
    assert given["left_out"] == ["2"] and "macro_f1" not in given and given["f1_per_label"] == {}


def test_one_label_a_row_is_scikit_learns(load, random):
    scores, labels = random.random((60, 3)), random.integers(3, size=60)
    labels[:9] = -100
    module = load("mathrock_single_label")
    module.add_batch(predictions=scores[:25], references=labels[:25])
    module.add_batch(predictions=scores[25:], references=labels[25:])
    given = module.compute(label_names=NAMES)
    true, predicted = labels[9:], scores[9:].argmax(axis=1)
    assert given["accuracy"] == given["micro_f1"] == pytest.approx((true == predicted).mean(), abs=1e-9)
    assert given["macro_f1"] == pytest.approx(f1_score(true, predicted, average="macro"), abs=1e-9)
    assert list(given["f1_per_label"].values()) == pytest.approx(f1_score(true, predicted, average=None), abs=1e-9)
    assert given["confusion"] == confusion_matrix(true, predicted).tolist()


def test_calibration_takes_classes_and_multi_hot_rows(load, random):
    probabilities, classes = random.dirichlet(np.ones(3), size=40), random.integers(3, size=40)
    given = load("mathrock_calibration").compute(predictions=probabilities, references=classes)
    assert given["ece"] == pytest.approx(expected_calibration_error(probabilities, classes), abs=1e-9)
    assert given["brier"] == pytest.approx(brier_score_loss(classes, probabilities), abs=1e-9)
    assert sum(given["reliability"]["count"]) == 40

    labels = (random.random((40, 3)) < 0.4).astype(float)
    labels[:5] = -100
    module = load("mathrock_calibration")
    module.add_batch(predictions=probabilities[:20], references=labels[:20])
    module.add_batch(predictions=probabilities[20:], references=labels[20:])
    given = module.compute(num_bins=4)
    assert given["ece"] == pytest.approx(expected_calibration_error(probabilities, labels, 4), abs=1e-9)
    expected = brier_score_loss(labels[5:].ravel(), probabilities[5:].ravel())
    assert given["brier"] == pytest.approx(expected, abs=1e-9)
    assert sum(given["reliability"]["count"]) == 35 * 3


def test_tempi_are_held_against_references(load):
    given = load("mathrock_tempo").compute(predictions=[60.0, 93, 100, 0], references=[120.0, 90, -100, 80])
    assert given == pytest.approx({"acc1": 1 / 3, "acc2": 2 / 3}, abs=1e-9)
    module = load("mathrock_tempo")
    module.add_batch(predictions=[60.0, 93], references=[120.0, 90])
    module.add(prediction=107.0, reference=100.0)
    assert module.compute(tolerance=0.08) == pytest.approx({"acc1": 2 / 3, "acc2": 1}, abs=1e-9)


def test_a_module_names_the_row_that_it_refuses(load):
    with pytest.raises(ValueError, match="row 1 has the score nan"):
        load("mathrock_multi_label").compute(predictions=[[0.5], [np.nan]], references=[[1.0], [0.0]])


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_takes_and_is_packed_into_the_wheel(load, name):
    module = load(name)
    assert module.name == name  # `evaluate` makes it from the class's
    assert "predictions" in module.inputs_description and "Returns" in module.inputs_description
    source = Path(__file__).parents[2] / "src"
    assert f"hf_mathrock.metrics.modules.{name}" in find_namespace_packages(str(source), include=["hf_mathrock.*"])


def test_a_module_that_is_none_is_refused_with_the_closest():
    with pytest.raises(ValueError, match="did you mean 'mathrock_tempo'"):
        module_path("tempo")
