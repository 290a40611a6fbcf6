# SPDX-License-Identifier: Apache-2.0
"""Training, validation and test sets of which no two share an artist, a work or a recording."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hf_mathrock.data.content import content_id
from hf_mathrock.data.labels import is_unknown

SPLITS = ("train", "validation", "test")
DEFAULT_SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
_SPELLINGS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development", "eval", "evaluation"),
    "test": ("test", "testing"),
}
# Columns whose rows belong together where they agree, as `same_column` spells them.
GROUP_COLUMNS = ("artist", "artistid", "work", "workid", "album", "albumid", "group")
# What stands in them where nobody knows: it would tie half a library into one group.
_NOBODY = {"unknown", "unknown artist", "[unknown]", "various", "various artists", "va", "v.a.", "n/a", "none", "-"}
_PASSES = 4


class LeakWarning(UserWarning):
    """Recordings of one artist or work, or the same recording, stand in two given splits."""


def split_name(text: Any) -> str | None:
    """The split that a folder's or a column's word means; `None` if it means none."""
    word = str(text).strip().casefold()
    return next((split for split, spellings in _SPELLINGS.items() if word in spellings), None)


def link_groups(
    columns: Mapping[str, Sequence[Any]], contents: Sequence[str | None], names: Sequence[str]
) -> list[str]:
    """Groups of rows that any column ties together, directly or by way of others.

    Args:
        columns: Column name → one value per row. Equal values tie, regardless of case; blank ones and words for "nobody
            knows" do not.
        contents: Per row what identifies its audio; equal ones tie. `None` ties nothing.
        names: Per row its printable name.

    Returns:
        Per row its group's name: the first value that one of its rows has, such as `artist=toe`, or where it has none
        the name of its first row. No two groups have the same name.

    Example:
        >>> link_groups({"artist": ["toe", "Toe", None, None]}, ["a", "b", "b", "c"], ["1", "2", "3", "4"])
        ['artist=toe', 'artist=toe', 'artist=toe', 'song=4']
    """
    parents = list(range(len(names)))

    def root(row: int) -> int:
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    seen: dict[Hashable, int] = {}
    titles: dict[int, str] = {}
    ties: list[tuple[str, Sequence[Any]]] = [("", contents), *columns.items()]
    for column, cells in ties:
        for row, cell in enumerate(cells):
            for value in cell if isinstance(cell, (list, tuple)) else [cell]:  # a song may have several artists
                key = (column, group_key(value))
                if not key[1]:
                    continue
                first, second = sorted((root(seen.setdefault(key, row)), root(row)))
                parents[second] = first  # the earliest row stays the root
                if column:
                    text = str(value).strip()
                    titles.setdefault(row, text if column.casefold() == "group" else f"{column}={text}")
    members: dict[int, list[int]] = defaultdict(list)
    for row in range(len(names)):
        members[root(row)].append(row)
    groups = [""] * len(names)
    taken: set[str] = set()
    for first, rows in members.items():
        title = next((titles[row] for row in rows if row in titles), f"song={names[first]}")
        if title in taken:  # two rows of the same name that are different recordings
            title = f"{title} (row {first + 1})"
        taken.add(title)
        for row in rows:
            groups[row] = title
    return groups


def group_key(value: Any) -> str:
    """A value of a group column so that equal ones are equal; empty where it tells nothing."""
    if is_unknown(value):
        return ""
    key = " ".join(str(value).casefold().split())
    return "" if key in _NOBODY else key


def checked_shares(shares: Mapping[str, float] | None) -> dict[str, float]:
    """Shares of the songs that each split gets, in the order of `SPLITS`, 0 left out.

    Raises:
        ValueError: They name something else than the splits, are negative or do not sum to 1.
    """
    shares = dict(DEFAULT_SHARES if shares is None else shares)
    if wrong := set(shares) - set(SPLITS):
        raise ValueError(f"`shares` names {sorted(map(str, wrong))}; the splits are {', '.join(SPLITS)}.")
    if min(shares.values(), default=0) < 0 or abs(sum(shares.values()) - 1) > 1e-3:
        raise ValueError(
            f"`shares` is {shares}; give fractions that sum to 1, such as {DEFAULT_SHARES}, or {{'test': 1}} to "
            "measure on everything."
        )
    return {split: shares[split] for split in SPLITS if shares.get(split)}


def assign_splits(
    groups: Sequence[str],
    features: Sequence[Iterable[Hashable]],
    shares: Mapping[str, float],
    seed: int = 0,
) -> list[str]:
    """A split for every row: whole groups, so that songs and labels come out in the wanted shares.

    The groups that hold most of anything, be it songs or the examples of a rare label, choose first; each goes where it
    brings the counts closest to what is wanted (least squares, relative to the wanted count). Then groups
    move as long as that brings the counts closer.

    Args:
        groups: Per row the name of its group.
        features: Per row the labels it has, of any hashable kind.
        shares: Split → fraction of the songs, as `checked_shares` gives them.
        seed: Decides between equals. The order of the rows does not matter.

    Returns:
        Per row a key of `shares`. With fewer groups than splits some get none: `validation` first, then `test`.
    """
    names = sorted(set(groups))
    splits = list(shares)
    if len(names) < len(splits):
        fullest = [split for split in ("train", "test", "validation") if split in splits][: max(1, len(names))]
        splits = [split for split in splits if split in fullest]
    position = {name: index for index, name in enumerate(names)}
    labels = sorted({label for row in features for label in row}, key=repr)
    column = {label: index + 1 for index, label in enumerate(labels)}
    counts = np.zeros((len(names), len(labels) + 1))
    for group, row in zip(groups, features, strict=True):
        counts[position[group], 0] += 1
        for label in row:
            counts[position[group], column[label]] += 1

    totals = counts.sum(axis=0)
    fractions = np.array([shares[split] for split in splits])
    wanted = np.outer(fractions / fractions.sum(), totals)
    # The number of songs counts as much as all labels together.
    weights = np.array([max(1, len(labels)), *[1.0] * len(labels)]) / wanted
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-(counts / totals).max(axis=1)[order], kind="stable")]

    placed = np.full(len(names), -1)
    held = np.zeros_like(wanted)

    def cost(group: int) -> np.ndarray:
        """What adding the group to each split adds to the squared distance."""
        added = counts[group]
        return (added * (2 * (held - wanted) + added) * weights).sum(axis=1)

    for group in order:
        placed[group] = int(cost(group).argmin())
        held[placed[group]] += counts[group]
    for _ in range(_PASSES):
        moved = False
        for group in order:
            before = placed[group]
            held[before] -= counts[group]
            costs = cost(group)
            after = int(costs.argmin())
            if costs[after] < costs[before] - 1e-9:
                placed[group], moved = after, True
            held[placed[group]] += counts[group]
        if not moved:
            break
    for split in range(len(splits)):
        if not (placed == split).any():
            # One small group of the split that has most of them; there are at least as many groups as splits.
            richest = np.bincount(placed, minlength=len(splits)).argmax()
            candidates = [group for group in order if placed[group] == richest]
            placed[min(candidates, key=lambda group: counts[group, 0])] = split
    return [splits[placed[position[group]]] for group in groups]


def find_leaks(groups: Sequence[str], splits: Sequence[str]) -> list[dict[str, Any]]:
    """The groups that stand in more than one split.

    Returns:
        Per such group `{"group", "splits" in their usual order, "num_songs"}`, the largest first.
    """
    places: dict[str, set[str]] = defaultdict(set)
    for group, split in zip(groups, splits, strict=True):
        places[group].add(split)
    sizes = Counter(groups)
    leaks = [
        {"group": group, "splits": [split for split in SPLITS if split in where], "num_songs": sizes[group]}
        for group, where in places.items()
        if len(where) > 1
    ]
    return sorted(leaks, key=lambda leak: (-leak["num_songs"], leak["group"]))


def without_leaks(groups: Sequence[str], splits: Sequence[str]) -> list[bool]:
    """Which rows stay so that no group is in two splits: those of the latest one, so that evaluation stays whole."""
    last: dict[str, int] = {}
    for group, split in zip(groups, splits, strict=True):
        last[group] = max(last.get(group, 0), SPLITS.index(split))
    return [SPLITS.index(split) == last[group] for group, split in zip(groups, splits, strict=True)]


def describe_leaks(leaks: Sequence[Mapping[str, Any]], most: int = 3) -> str:
    """One line on the leaks that `find_leaks` found."""
    first = "; ".join(f"{leak['group']!r} ({', '.join(leak['splits'])})" for leak in leaks[:most])
    more = f"; and {len(leaks) - most} more" if len(leaks) > most else ""
    num_songs = sum(leak["num_songs"] for leak in leaks)
    return (
        f"{num_songs} songs of {len(leaks)} group{'s' * (len(leaks) > 1)} stand in more than one of the given splits: "
        f"{first}{more}. Scores measured on them come out too high"
    )


def content_ids(dataset: Any) -> list[str]:
    """What identifies each song of a split by its audio, in order, as `content_id` gives it.

    Args:
        dataset: A split of `LabelledAudio`, or any rows with an `audio`.
    """
    if hasattr(dataset, "select_columns"):
        dataset = dataset.select_columns(["audio"])
    return [content_id(row["audio"]) for row in dataset]
