# SPDX-License-Identifier: Apache-2.0
"""Choosing songs of a library on the way from one playlist to another.

At t in (0, 1) the way leads through the Minkowski sum H_t = (1 - t) A + t B of the two hulls: the mixtures of a song
of A and a song of B in these shares. Each step takes one song near H_t; of all ways the cheapest is looked for, where
a step costs

    distance(H_t) / sqrt(num_dimensions)  +  smoothness * (1 - cosine to the song before)
    +  key_weight * key_jump  +  tempo_weight * tempo_jump,

by Viterbi's algorithm over the nearest songs of each step. A song, or an artist, that a way has already used is not
used again: each state keeps its cheapest way and passes that down, so the result may rarely cost more than the
cheapest way without repeats. The distance is in standard deviations of the library along a typical axis.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .explaining import shares_of
from .picking import NAMED_AT_MOST, ArtistLimit, Pick, candidates, check_wish, delivered
from .simplex import nearest_in_hull
from .songs import SongLibrary
from .vectors import unit_rows

if TYPE_CHECKING:
    from .hull import PlaylistHull

_PRESELECTED = 8  # times `top` songs nearest to the mixture of the centres are measured exactly
_TOLERANCE = 1e-8  # of the squared radius: finer than any two songs' distances differ


@dataclass(frozen=True)
class Costs:
    """What a step costs beside its distance; weights are not negative."""

    smoothness: float = 0.5
    key: float = 0.0
    tempo: float = 0.0


def interpolate(
    start: PlaylistHull,
    end: PlaylistHull,
    m: int,
    library: SongLibrary,
    costs: Costs | None = None,
    max_per_artist: int | None = 1,
    exclude: Sequence[str] = (),
    top: int = 32,
) -> list[Pick]:
    """Songs that lead from one playlist to another, in order.

    Args:
        start: Where the way begins.
        end: Where it ends; fitted with the same library and number of dimensions. Both modes may do: the way is
            among points, not directions.
        m: How many songs.
        library: What to choose from, as for `fill`.
        costs: Of a step.
        max_per_artist: As for `fill`, along the way.
        exclude: As for `fill`.
        top: How many songs are considered at each step.

    Returns:
        At most `m` picks with their `step`; `because` names songs of both playlists.

    Raises:
        ValueError: The playlists were not fitted alike, or an option is out of range.

    Warns:
        Fewer songs than wanted.
    """
    costs = costs or Costs()
    check_wish(m, max_per_artist)
    if min(costs.smoothness, costs.key, costs.tempo) < 0 or top < 1:
        raise ValueError(f"weights must not be negative and top at least 1, got {costs} and top={top}")
    _check_alike(start, end)
    rows, _ = candidates(start, library, exclude)
    rows = np.intersect1d(rows, candidates(end, library, exclude)[0])
    if not len(rows):
        return delivered([], m, max_per_artist)
    places = start.place(library.embeddings[rows])
    units, _ = unit_rows(places, 0.0)
    steps = np.arange(1, m + 1) / (m + 1)
    # A used song is a state less for the steps after it, so there must be some to spare.
    shortlists = [_shortlist(start, end, places, float(t), min(len(rows), max(top, m + top // 2))) for t in steps]
    way = _cheapest(shortlists, rows, units, _ends(start, end), library, costs, max_per_artist, start.num_dimensions)
    names = [*start.names, *end.names]
    picks = []
    for t, (place, distance, weights) in zip(steps, way, strict=False):
        mixed = np.concatenate([(1 - t) * weights[: len(start)], t * weights[len(start) :]])
        row, nan = int(rows[place]), float("nan")
        shares = shares_of(names, mixed, NAMED_AT_MOST)
        picks.append(Pick(row, library.names[row], distance, nan, nan, True, shares, float(t)))
    return delivered(picks, m, max_per_artist)


Shortlist = list[tuple[int, float, np.ndarray]]


def _check_alike(start: PlaylistHull, end: PlaylistHull) -> None:
    one, other = start.whitening, end.whitening
    alike = (one is None) == (other is None) and start.num_dimensions == end.num_dimensions
    if alike and one is not None and other is not None and one is not other:
        kept = slice(start.num_dimensions)
        alike = np.array_equal(one.mean, other.mean) and np.array_equal(one.axes[kept], other.axes[kept])
    if not alike:
        raise ValueError(
            f"the playlists live in different spaces ({start.num_dimensions} and {end.num_dimensions} dimensions, or "
            "different libraries). Fit both with the same library= and num_dimensions="
        )


def _shortlist(start: PlaylistHull, end: PlaylistHull, places: np.ndarray, t: float, top: int) -> Shortlist:
    """The songs nearest to the mixture of the hulls: place, distance, weights."""
    middle = (1 - t) * start.centre + t * end.centre
    away = np.linalg.norm(places - middle, axis=1)
    near = np.argsort(away, kind="stable")[: _PRESELECTED * top]
    stacked = np.vstack([(1 - t) * start.points, t * end.points])
    found = nearest_in_hull(stacked, places[near], [len(start), len(end)], _TOLERANCE)
    distances = np.sqrt(found.squared)
    # Of songs inside, those near the middle of the way first.
    best = np.lexsort((away[near], distances.round(9)))[:top]
    return [(int(near[i]), float(distances[i]), found.weights[i]) for i in best]


def _ends(start: PlaylistHull, end: PlaylistHull) -> tuple[np.ndarray, np.ndarray]:
    return unit_rows(start.points, 0.0)[0], unit_rows(end.points, 0.0)[0]


def _cheapest(
    shortlists: Sequence[Shortlist],
    rows: np.ndarray,
    units: np.ndarray,
    ends: tuple[np.ndarray, np.ndarray],
    library: SongLibrary,
    costs: Costs,
    max_per_artist: int | None,
    num_dimensions: int,
) -> Shortlist:
    """The way as far as it could be made without repeats."""
    size = float(np.sqrt(num_dimensions))

    def leap(before: int, after: int) -> float:
        jumps = costs.smoothness * (1.0 - float(units[before] @ units[after]))
        if costs.key:
            jumps += costs.key * library.key_jump(int(rows[before]), int(rows[after]))
        if costs.tempo:
            jumps += costs.tempo * library.tempo_jump(int(rows[before]), int(rows[after]))
        return jumps

    artists = ArtistLimit(library, max_per_artist)

    def may_follow(way: tuple[int, ...], place: int) -> bool:
        return place not in way and artists.admits_after(int(rows[place]), [int(rows[other]) for other in way])

    # The first song follows the playlist's song that is most like it, and the last leads to such a one.
    states: dict[int, tuple[float, tuple[int, ...]]] = {
        place: (distance / size + costs.smoothness * (1.0 - float((ends[0] @ units[place]).max())), (place,))
        for place, distance, _ in shortlists[0]
    }
    for shortlist in shortlists[1:]:
        following: dict[int, tuple[float, tuple[int, ...]]] = {}
        for place, distance, _ in shortlist:
            ways = [(cost + leap(way[-1], place), way) for cost, way in states.values() if may_follow(way, place)]
            if ways:
                cost, way = min(ways)
                following[place] = (cost + distance / size, (*way, place))
        if not following:
            break
        states = following
    finished = [
        (cost + costs.smoothness * (1.0 - float((ends[1] @ units[way[-1]]).max())), way)
        for cost, way in states.values()
    ]
    _, way = min(finished)
    if len(way) < len(shortlists):
        warnings.warn("the way ends early: every song of the next step was used before", stacklevel=5)
    entries = [{place: (place, distance, weights) for place, distance, weights in part} for part in shortlists]
    return [entries[step][place] for step, place in enumerate(way)]
