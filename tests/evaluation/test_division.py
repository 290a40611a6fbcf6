# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from hf_mathrock.evaluation.division import families, halves, kept_apart


def test_groups_and_copies_tie_songs_together_over_others():
    #  a and c share a group, c and d a recording, d and e a group; b stands alone.
    groups, contents = ["x", "y", "x", "z", "z"], ["1", "2", "3", "3", "5"]
    assert families(groups, contents).tolist() == [0, 1, 0, 0, 0]


@pytest.mark.parametrize("seed", range(8))
def test_halves_never_share_a_group_or_a_recording_and_lose_no_song(seed):
    random = np.random.default_rng(seed)
    groups = [f"artist {number}" for number in random.integers(0, 25, 100)]
    contents = [f"song {number}" for number in random.integers(0, 600, 100)]
    fit, report = halves(groups, contents, 0.5, seed)
    for names in (groups, contents):
        assert not {names[song] for song in fit} & {names[song] for song in report}
    assert sorted([*fit, *report]) == list(range(100)) and len(fit) and len(report)


def test_halves_come_near_the_share_and_follow_the_seed():
    groups, contents = [str(number) for number in range(100)], [f"c{number}" for number in range(100)]
    assert len(halves(groups, contents, 0.3)[1]) == 30
    assert halves(groups, contents, seed=1)[1].tolist() == halves(groups, contents, seed=1)[1].tolist()
    assert halves(groups, contents, seed=1)[1].tolist() != halves(groups, contents, seed=2)[1].tolist()
    assert len(halves(["a", "b"], ["1", "2"], 0.01)[1]) == 1  # never none


def test_one_group_cannot_be_divided():
    with pytest.raises(ValueError, match="all of one group"):
        halves(["a", "a"], ["1", "2"])
    with pytest.raises(ValueError, match="between 0 and 1"):
        halves(["a", "b"], ["1", "2"], 1.0)


def test_songs_to_fit_on_are_kept_apart_from_the_reported_ones():
    groups, contents = ["x", "y", "z", "x", "w"], ["1", "2", "3", "4", "3"]
    assert kept_apart(groups, contents, np.array([False, False, False, True, True])).tolist() == [
        False, True, False, False, False,
    ]  # fmt: skip
