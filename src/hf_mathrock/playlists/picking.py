# SPDX-License-Identifier: Apache-2.0
"""What every way of choosing songs shares: candidates, the limit on artists, and what is said of a chosen song."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree

from .explaining import Shares
from .gauge import gauges
from .songs import SongLibrary

if TYPE_CHECKING:
    from .hull import PlaylistHull

_SAME = 1e-6
NAMED_AT_MOST = 5
SOFT_PENALTY = 1.0


@dataclass(frozen=True)
class Pick:
    """A song of the library that was chosen.

    Attributes:
        index: Its row in the library.
        name: Its name there.
        distance: From the playlist, or from the mixture of two at this step of a bridge.
        percentile: Of the playlist's own songs that are nearer to the others; NaN for one song, and in a bridge.
        gauge: By how much the playlist's hull must be scaled to reach it, on as many leading axes as its songs can fill
            (`PlaylistHull.outline`); NaN in a bridge.
        within: Whether it lies where it was looked for; if not, it is the next best.
        because: The playlist's songs that it is like, and their shares.
        step: How far along a bridge it stands, in (0, 1).
    """

    index: int
    name: str
    distance: float
    percentile: float
    gauge: float
    within: bool
    because: Shares
    step: float | None = None


class ArtistLimit:
    """Counts the artists of chosen songs; unknown ones are not limited."""

    def __init__(self, library: SongLibrary, max_per_artist: int | None) -> None:
        self._artists = library.artists
        self._limit = max_per_artist
        self._counts: Counter[str] = Counter()

    def admits(self, row: int) -> bool:
        """Whether one more song may be of this one's artist; if so, it is counted."""
        artist = self._artists[row] if self._artists is not None else None
        if artist is None or self._limit is None:
            return True
        self._counts[artist] += 1
        return self._counts[artist] <= self._limit

    def admits_after(self, row: int, others: Sequence[int]) -> bool:
        """Whether a song may join these."""
        artist = self._artists[row] if self._artists is not None else None
        if self._artists is None or artist is None or self._limit is None:
            return True
        return sum(self._artists[other] == artist for other in others) < self._limit


def candidates(hull: PlaylistHull, library: SongLibrary, exclude: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the songs of a library that are none of a playlist's, and where they lie.

    Raises:
        ValueError: The library's embeddings are of another size.
    """
    places = hull.place(library.embeddings)
    passed = set(hull.names) | set(exclude)
    named = np.array([name in passed for name in library.names])
    same = same_distance(places)
    copies = KDTree(hull.points).query(places)[0] <= same
    rows = np.flatnonzero(~(named | copies))
    return rows, places[rows]


def same_distance(places: np.ndarray) -> float:
    """Nearer than this, a millionth of the library's spread, two songs are copies of one file."""
    return _SAME * float(np.sqrt(np.sum(np.var(places, axis=0))))


def reached(outline: PlaylistHull, places: np.ndarray) -> np.ndarray:
    """The gauge of places on the axes of an outline, and the soft one if it has no volume: `(num_places,)`, finite."""
    penalty = None if outline.has_volume else SOFT_PENALTY
    return gauges(outline.points, outline.centre, places[:, : outline.num_dimensions], penalty)


def check_wish(k: int, max_per_artist: int | None) -> None:
    """Refuses a wish for no song, or for none of any artist, with a `ValueError`."""
    if k < 1:
        raise ValueError(f"{k} songs were asked for; at least 1 is needed")
    if max_per_artist is not None and max_per_artist < 1:
        raise ValueError(f"max_per_artist is {max_per_artist}; it must be at least 1, or None for no limit")


def delivered(picks: list[Pick], k: int, max_per_artist: int | None) -> list[Pick]:
    """The picks, with a warning where there are fewer than wanted."""
    if len(picks) < k:
        limit = "" if max_per_artist is None else f" (at most {max_per_artist} of an artist: max_per_artist)"
        warnings.warn(
            f"{len(picks)} songs instead of {k}: the library has no others that are not the playlist's own{limit}",
            stacklevel=4,
        )
    return picks
