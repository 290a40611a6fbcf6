# SPDX-License-Identifier: Apache-2.0
"""Songs to fit on and other songs to report on: never of one group, never the same recording twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def families(groups: Sequence[str], content_ids: Sequence[str]) -> np.ndarray:
    """Numbers songs so that two of equal number share a group or a recording, directly or over others.

    Args:
        groups: Group of each song.
        content_ids: Content id of each song.

    Returns:
        `(num_songs,)`, numbered from 0 in the order of first appearance.
    """
    parents: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        parents.setdefault(node, node)
        while parents[node] != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    for group, content in zip(groups, content_ids, strict=True):
        parents[root(("content", content))] = root(("group", group))
    numbers: dict[tuple[str, str], int] = {}
    return np.array([numbers.setdefault(root(("group", group)), len(numbers)) for group in groups], dtype=np.int64)


def halves(
    groups: Sequence[str], content_ids: Sequence[str], report_share: float = 0.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Divides songs in two by family.

    Args:
        groups: Group of each song.
        content_ids: Content id of each song.
        report_share: Wished share of songs to report on, between 0 and 1.
        seed: Of the order in which families are dealt.

    Returns:
        Songs to fit on and songs to report on, as rising indices.

    Raises:
        ValueError: There are fewer than two families.
    """
    if not 0 < report_share < 1:
        raise ValueError(f"`report_share` is {report_share}; it must lie between 0 and 1.")
    family = families(groups, content_ids)
    sizes = np.bincount(family)
    if len(sizes) < 2:
        raise ValueError(
            f"The {len(groups)} songs are all of one group, so none are left to report on; give songs of other artists "
            "or works, or say by another column what belongs together."
        )
    order = np.random.default_rng(seed).permutation(len(sizes))
    # The cut that comes nearest to the wished share; at least one family on either side.
    behind = np.cumsum(sizes[order])[:-1]
    cut = 1 + int(np.abs(behind - report_share * len(groups)).argmin())
    reported = np.isin(family, order[:cut])
    return np.flatnonzero(~reported), np.flatnonzero(reported)


def kept_apart(groups: Sequence[str], content_ids: Sequence[str], reported: np.ndarray) -> np.ndarray:
    """Which songs may be fitted on when others are to be reported on.

    Args:
        groups: Group of each song.
        content_ids: Content id of each song.
        reported: bool `(num_songs,)`.

    Returns:
        bool `(num_songs,)`: those that share neither group nor recording with a reported one.
    """
    family = families(groups, content_ids)
    return ~np.isin(family, family[reported])
