# SPDX-License-Identifier: Apache-2.0
"""Choosing songs of a library within a playlist's hull, or just beyond it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree

from .explaining import shares_of
from .gauge import gauges
from .picking import NAMED_AT_MOST, ArtistLimit, Pick, candidates, check_wish, delivered, reached, same_distance
from .songs import SongLibrary
from .vectors import unit_rows

if TYPE_CHECKING:
    from .hull import PlaylistHull

_DIRICHLET = 0.3  # below 1 mixtures favour few songs, so that they lie near the corners
_DIRECTIONS_PER_SONG = 20
_SNAPPED = 8  # library songs that are tried around each target


def fill(
    hull: PlaylistHull,
    library: SongLibrary,
    k: int,
    diversity: float = 0.3,
    max_per_artist: int | None = 1,
    exclude: Sequence[str] = (),
) -> list[Pick]:
    """Songs that lie among the playlist's, and are not all alike.

    Candidates are the songs that are near: not farther from the playlist than 90 % of its own songs are from the
    others. Then, one after the other, the song is taken that maximises

        (1 - diversity) * fit - diversity * (largest cosine similarity to a song that was taken),

    where `fit` falls from 1 for a mixture of the songs to 0 at twice the limit of what is near. If too few songs are
    near, the nearest others follow (`within` is False).

    Args:
        hull: The playlist.
        library: What to choose from. The playlist's own songs, by name or as exact copies, are passed over.
        k: How many songs.
        diversity: 0 takes the best fitting, 1 the most different ones.
        max_per_artist: Of those that are chosen; `None` for no limit. Songs of unknown artists are not limited.
        exclude: Names of songs to pass over.

    Returns:
        At most `k` picks, in the order they were taken.

    Raises:
        ValueError: An option is out of range, or the library's embeddings are of another size.

    Warns:
        Fewer songs than wanted, or the playlist is one song, so that nothing says what is near.
    """
    check_wish(k, max_per_artist)
    if not 0 <= diversity <= 1:
        raise ValueError(f"diversity is {diversity}; it must be a share from 0 to 1")
    rows, places = candidates(hull, library, exclude)
    if not len(rows):
        return delivered([], k, max_per_artist)
    found = hull._nearest(places)
    distances = np.sqrt(found.squared)
    inside = distances <= hull.near_limit
    if not len(hull.own_distances):
        warnings.warn(
            "a playlist of one song says nothing about what is near to it; the nearest songs are taken", stacklevel=3
        )
        inside[:] = False
    # Copies of one song keep no distance: then the nearest few songs say how far is far.
    few = float(np.quantile(distances, min(1.0, 4 * k / len(distances)))) or 1.0
    scale = 2 * hull.near_limit if hull.near_limit > 1e-6 else few
    units, _ = unit_rows(places, 0.0)
    likeness = units @ unit_rows(hull.points, 0.0)[0].mean(axis=0)
    # Songs that fit equally well, inside the hull for instance, are told apart by how like the playlist they are.
    merit = np.maximum(1.0 - distances / scale, 0.0) + 1e-3 * likeness
    by_distance = np.lexsort((-merit, distances))
    artists = ArtistLimit(library, max_per_artist)
    picked: list[int] = []
    similar = np.full(len(rows), -1.0)
    free, same = np.ones(len(rows), bool), same_distance(places)
    while len(picked) < k and free.any():
        open_ = free & inside
        if open_.any():
            gain = np.where(open_, (1 - diversity) * merit - diversity * similar, -np.inf)
            place = int(gain.argmax())
        else:
            place = int(by_distance[free[by_distance]][0])
        free[place] = False
        if not artists.admits(int(rows[place])):
            continue
        picked.append(place)
        similar = np.maximum(similar, units @ units[place])
        free &= np.linalg.norm(places - places[place], axis=1) > same  # another file of the same recording
    chosen = np.array(picked, dtype=int)
    percentiles = hull.percentile_of(distances[chosen])
    scales = reached(hull.outline, places[chosen])
    picks = [
        Pick(
            int(rows[place]),
            library.names[rows[place]],
            float(distances[place]),
            float(percentile),
            float(gauge),
            bool(inside[place]),
            shares_of(hull.names, found.weights[place], NAMED_AT_MOST),
        )
        for place, percentile, gauge in zip(chosen, percentiles, scales, strict=True)
    ]
    return delivered(picks, k, max_per_artist)


def beyond(
    hull: PlaylistHull,
    library: SongLibrary,
    k: int,
    s: float = 1.3,
    max_per_artist: int | None = 1,
    exclude: Sequence[str] = (),
    seed: int = 0,
) -> list[Pick]:
    """Songs just outside the playlist, in all its directions.

    On the leading axes, on which the playlist's songs fill a hull (`PlaylistHull.outline`), random mixtures of few
    songs are pushed from its centre to the boundary and on, by up to `s`. For each, of the library's songs around this
    target that have a gauge between 1 and `s` that one is taken which is nearest to the playlist on all axes. If too
    few songs are found, those whose gauges are nearest to that range follow (`within` is False).

    Args:
        hull: The playlist.
        library: What to choose from, as for `fill`.
        k: How many songs.
        s: How far beyond, above 1.
        max_per_artist: As for `fill`.
        exclude: As for `fill`.
        seed: Of the mixtures.

    Returns:
        At most `k` picks, in the order they were found.

    Raises:
        ValueError: An option is out of range, or the library's embeddings are of another size.

    Warns:
        Fewer songs than wanted, or the playlist is a single point, of which `fill` gives the nearest songs.
    """
    check_wish(k, max_per_artist)
    if not (math.isfinite(s) and s > 1):
        raise ValueError(f"s is {s}; to go beyond a playlist it must be above 1, such as 1.3")
    if hull.radius <= same_distance(hull.place(library.embeddings)):
        warnings.warn(
            "the playlist is one song (or copies of one), which has no directions to go on in; the nearest songs are "
            "taken",
            stacklevel=3,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picks = fill(hull, library, k, 0.0, max_per_artist, exclude)
        return delivered(picks, k, max_per_artist)
    rows, places = candidates(hull, library, exclude)
    if not len(rows):
        return delivered([], k, max_per_artist)
    outline = hull.outline
    seen = places[:, : outline.num_dimensions]
    rng, tree = np.random.default_rng(seed), KDTree(seen)
    artists, same = ArtistLimit(library, max_per_artist), same_distance(places)
    scales: dict[int, float] = {}
    away: dict[int, float] = {}
    picked: list[int] = []

    def take(place: int) -> bool:
        here = places[place]
        if place in picked or any(np.linalg.norm(here - places[other]) <= same for other in picked):
            return False
        if not artists.admits(int(rows[place])):
            return False
        picked.append(place)
        return True

    for _ in range(_DIRECTIONS_PER_SONG * k):
        if len(picked) >= k:
            break
        mixture = outline.points.T @ rng.dirichlet(np.full(len(hull), _DIRICHLET))
        inner = float(gauges(outline.points, outline.centre, mixture[None])[0])
        if not 1e-9 < inner < math.inf:
            continue
        target = outline.centre + (mixture - outline.centre) / inner * rng.uniform(1.0, s)
        around = np.atleast_1d(tree.query(target, min(_SNAPPED, len(rows)))[1]).tolist()
        new = [place for place in around if place not in scales]
        if new:
            scales.update(zip(new, reached(outline, places[new]).tolist(), strict=True))
            away.update(zip(new, hull._nearest(places[new]).squared.tolist(), strict=True))
        around.sort(key=lambda place: away[place])
        next((place for place in around if 1.0 <= scales[place] <= s and take(place)), None)
    for place in sorted(scales, key=lambda place: max(1.0 - scales[place], scales[place] - s)):
        if len(picked) < k:
            take(place)
    found = hull._nearest(places[picked])
    distances = np.sqrt(found.squared)
    picks = [
        Pick(
            int(rows[place]),
            library.names[rows[place]],
            float(distance),
            float(percentile),
            scales[place],
            1.0 <= scales[place] <= s,
            shares_of(hull.names, weights, NAMED_AT_MOST),
        )
        for place, distance, percentile, weights in zip(
            picked, distances, hull.percentile_of(distances), found.weights, strict=True
        )
    ]
    return delivered(picks, k, max_per_artist)
