# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import doctest

import numpy as np
import pytest

from hf_mathrock.metrics import tempo


def test_the_example_of_the_docstring_runs():
    assert doctest.testmod(tempo) == (0, 1)


def test_an_estimate_within_four_per_cent_holds():
    assert tempo.accuracy_1([100] * 6, [96, 104, 95.99, 104.01, 100, 50]) == 3 / 6


@pytest.mark.parametrize("bpm", [50, 60, 70.3, 92.7, 110, 128, 175, 211.11])
def test_an_estimate_on_the_limit_holds_whatever_its_binary_fraction(bpm):
    assert tempo.evaluate([bpm, bpm], [bpm * 1.04, bpm * 0.96]) == {"acc1": 1.0, "acc2": 1.0}


@pytest.mark.parametrize(("factor", "holds"), [(2, 1), (3, 1), (1 / 2, 1), (1 / 3, 1), (4, 0), (2 / 3, 0), (3 / 2, 0)])
def test_a_multiple_holds_for_accuracy_2_only(factor, holds):
    assert tempo.evaluate([120], [120 * factor]) == {"acc1": 0.0, "acc2": holds}
    # Four per cent of the multiple, not of the tempo.
    assert tempo.evaluate([120], [120 * factor * 1.039]) == {"acc1": 0.0, "acc2": holds}
    assert tempo.evaluate([120], [120 * factor * 1.045]) == {"acc1": 0.0, "acc2": 0.0}


def test_no_tempo_found_is_a_miss_and_an_unknown_one_does_not_count():
    assert tempo.evaluate([120, -100, 90], [0, 55, 90]) == {"acc1": 0.5, "acc2": 0.5}
    assert tempo.evaluate([-100, -100], [0, 55]) == {}
    assert np.isnan(tempo.accuracy_1([-100], [55]))


def test_a_wider_tolerance_takes_more():
    assert tempo.evaluate([100, 100], [107, 190], tolerance=0.08) == {"acc1": 0.5, "acc2": 1.0}


@pytest.mark.parametrize(
    ("reference", "estimated", "message"),
    [
        ([120, 2.0], [120, 120], "row 1 has the reference 2.0.*beats per second"),
        ([120, np.nan], [120, 120], "row 1 has the reference nan.*empty cell"),
        ([0], [120], "row 0 has the reference 0.0"),
        ([120], [np.nan], "row 0 has the estimate nan.*0 where no tempo"),
        ([120], [-1], "row 0 has the estimate -1"),
        ([120, 90], [120], r"shape \(2,\) and estimates of the shape \(1,\)"),
    ],
)
def test_tempi_that_cannot_be_are_refused_by_row(reference, estimated, message):
    with pytest.raises(ValueError, match=message):
        tempo.evaluate(reference, estimated)


@pytest.mark.parametrize("tolerance", [4, 0, -0.04])
def test_a_tolerance_in_per_cent_is_refused(tolerance):
    with pytest.raises(ValueError, match="per cent"):
        tempo.evaluate([120], [120], tolerance)
