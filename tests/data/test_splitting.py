# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from hf_mathrock.data.splitting import (
    SPLITS,
    assign_splits,
    checked_shares,
    content_ids,
    find_leaks,
    link_groups,
    split_name,
    without_leaks,
)

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


def random_table(seed):
    """Random group columns with gaps, a few equal recordings, and random labels of random frequency."""
    random = np.random.default_rng(seed)
    num = int(random.integers(5, 200))

    def column(num_values):
        return [None if random.random() < 0.2 else f"v{random.integers(num_values)}" for _ in range(num)]

    columns = {"artist": column(int(random.integers(3, num))), "work": column(num * 4)}
    contents = [f"c{random.integers(num * 10)}" for _ in range(num)]
    labels = [
        [("t", int(label)) for label in np.flatnonzero(random.random(6) < 1 / np.arange(1, 7))] for _ in range(num)
    ]
    return columns, contents, [f"song {row}" for row in range(num)], labels


@pytest.mark.parametrize("seed", range(50))
def test_no_group_column_and_no_recording_is_ever_in_two_splits(seed):
    columns, contents, names, labels = random_table(seed)
    groups = link_groups(columns, contents, names)
    splits = assign_splits(groups, labels, SHARES, seed)
    for values in [*columns.values(), contents, groups]:
        places = {}
        for value, split in zip(values, splits, strict=True):
            if value is not None:
                assert places.setdefault(value, split) == split
    assert len(set(splits)) == min(3, len(set(groups)))
    assert find_leaks(groups, splits) == []
    assert splits == assign_splits(groups, labels, SHARES, seed)


def test_a_split_does_not_depend_on_the_order_of_the_rows():
    columns, contents, names, labels = random_table(3)
    groups = link_groups(columns, contents, names)
    splits = dict(zip(groups, assign_splits(groups, labels, SHARES), strict=True))
    order = np.random.default_rng(0).permutation(len(groups))
    shuffled = assign_splits([groups[row] for row in order], [labels[row] for row in order], SHARES)
    assert all(splits[groups[row]] == split for row, split in zip(order, shuffled, strict=True))


def test_groups_are_what_any_column_ties_even_by_way_of_others():
    columns = {"artist": ["toe", "TOE ", "tricot", None, "lite", ""], "work": [1, 2, 3, 3, None, None]}
    groups = link_groups(columns, ["a", "b", "c", "d", "d", None], [str(row) for row in range(6)])
    assert groups == ["artist=toe", "artist=toe", *["artist=tricot"] * 3, "song=5"]


@pytest.mark.parametrize("nobody", [None, "", "Various Artists", "unknown", float("nan")])
def test_words_for_nobody_tie_nothing(nobody):
    assert len(set(link_groups({"artist": [nobody] * 3}, [None] * 3, ["a", "b", "c"]))) == 3


def test_a_song_of_two_artists_ties_them():
    groups = link_groups({"artist": [["a", "b"], "b", ["c"]]}, [None] * 3, ["1", "2", "3"])
    assert groups[0] == groups[1] != groups[2]


def test_two_recordings_of_one_name_are_two_groups():
    groups = link_groups({}, ["x", "y"], ["intro.wav", "intro.wav"])
    assert groups == ["song=intro.wav", "song=intro.wav (row 2)"]


def test_songs_and_labels_come_out_in_the_wanted_shares():
    random = np.random.default_rng(0)
    artists = random.integers(120, size=1000)
    groups = [f"artist {number}" for number in artists]
    # What an artist plays depends on the artist: a split that looks at sizes alone would be off.
    taste = random.dirichlet([0.3] * 5, size=120)
    labels = [[("genre", int(random.choice(5, p=taste[artist])))] for artist in artists]
    splits = np.array(assign_splits(groups, labels, SHARES))
    genres = np.array([row[0][1] for row in labels])
    for split, share in SHARES.items():
        assert (splits == split).mean() == pytest.approx(share, abs=0.01)
        for genre in range(5):
            assert (splits[genres == genre] == split).mean() == pytest.approx(share, abs=0.03)


def test_a_seed_decides_which_groups_go_where():
    groups = [f"g{number}" for number in range(40)]
    first, second = (assign_splits(groups, [[]] * 40, SHARES, seed) for seed in (0, 1))
    assert first != second and sorted(first) == sorted(second)


@pytest.mark.parametrize(("num_groups", "expected"), [(1, {"train"}), (2, {"train", "test"}), (3, set(SPLITS))])
def test_few_groups_fill_training_and_test_first(num_groups, expected):
    groups = [f"g{number}" for number in range(num_groups)] * 10
    assert set(assign_splits(groups, [[]] * len(groups), SHARES)) == expected


def test_one_large_group_is_trained_on():
    groups = ["large"] * 50 + ["a", "b", "c", "d"]
    splits = assign_splits(groups, [[]] * 54, SHARES)
    assert set(splits[:50]) == {"train"} and {"validation", "test"} <= set(splits[50:])


def test_leaks_are_listed_and_leave_the_side_that_is_trained_on():
    groups = ["a", "a", "b", "c", "c", "c", "d"]
    splits = ["train", "test", "train", "train", "validation", "validation", "test"]
    assert find_leaks(groups, splits) == [
        {"group": "c", "splits": ["train", "validation"], "num_songs": 3},
        {"group": "a", "splits": ["train", "test"], "num_songs": 2},
    ]
    assert without_leaks(groups, splits) == [False, True, True, False, True, True, True]


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"train": 0.8, "tests": 0.2}, r"`shares` names \['tests'\]; the splits are train, validation, test"),
        ({"train": 0.8, "test": 0.1}, "give fractions that sum to 1"),
        ({"train": 1.2, "test": -0.2}, "give fractions that sum to 1"),
    ],
)
def test_shares_that_are_none_are_refused(shares, message):
    with pytest.raises(ValueError, match=message):
        checked_shares(shares)


def test_a_share_of_nothing_is_no_split():
    assert checked_shares({"test": 1, "train": 0}) == {"test": 1}
    assert set(assign_splits(["a", "b"], [[], []], {"test": 1})) == {"test"}


@pytest.mark.parametrize(
    ("word", "split"),
    [("Train", "train"), ("valid", "validation"), ("dev", "validation"), ("eval", "validation"), (" test ", "test")]
    + [("fold1", None), (None, None), (1, None)],
)
def test_splits_are_known_by_their_usual_names(word, split):
    assert split_name(word) == split


def test_songs_are_told_apart_by_content(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"one")
    (tmp_path / "b.wav").write_bytes(b"one")
    rows = [{"audio": {"path": str(tmp_path / name), "bytes": None}} for name in ("a.wav", "b.wav")]
    first, second, third = content_ids([*rows, {"audio": {"path": None, "bytes": b"two"}}])
    assert first == second != third
