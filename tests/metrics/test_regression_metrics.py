# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import doctest

import numpy as np
import pytest

from hf_mathrock.metrics import regression


def test_the_example_of_the_docstring_runs():
    assert doctest.testmod(regression) == (0, 1)


def test_it_is_scikit_learns():
    from sklearn.metrics import r2_score

    rng = np.random.default_rng(0)
    true = rng.normal(size=(50, 2))
    claimed = true + rng.normal(size=(50, 2))
    found = regression.evaluate(true, claimed, ["arousal", "valence"])
    assert found["r2"] == pytest.approx(r2_score(true, claimed), abs=1e-12)
    assert found["r2_valence"] == pytest.approx(r2_score(true[:, 1], claimed[:, 1]), abs=1e-12)


def test_the_mean_explains_nothing_and_worse_is_below():
    assert regression.evaluate([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]) == {"r2": 0.0}
    assert regression.evaluate([1.0, 2.0, 3.0], [3.0, 2.0, 1.0])["r2"] == -3.0


def test_unknown_and_constant_targets_do_not_count():
    assert regression.evaluate([1.0, np.nan, 3.0], [1.0, 9.0, 3.0]) == {"r2": 1.0}
    found = regression.evaluate([[1.0, 5.0], [2.0, 5.0]], [[1.0, 0.0], [2.0, 0.0]])
    assert found == {"r2": 1.0, "r2_0": 1.0}
    assert regression.evaluate([5.0, 5.0], [1.0, 2.0]) == {}


@pytest.mark.parametrize(
    ("reference", "estimated", "message"),
    [
        ([1.0, 2.0], [1.0], r"shape \(2,\) and estimates of the shape \(1,\)"),
        ([1.0, np.inf], [1.0, 2.0], "row 1 has a reference"),
        ([1.0, 2.0], [1.0, np.nan], "row 1 has an estimate"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_row(reference, estimated, message):
    with pytest.raises(ValueError, match=message):
        regression.evaluate(reference, estimated)
