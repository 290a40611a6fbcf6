# SPDX-License-Identifier: Apache-2.0
"""`PlaylistHull`: a playlist as the set of all mixtures of its songs.

A song belongs to a playlist not by being like its average, but by lying among its songs: between the loud ones and the
quiet ones, say, though none of them is in the middle. Two modes:

* `cone`: songs are directions from the library's centre, and mixtures are their sums with positive weights. How far a
  song is from the library's centre does not matter. The distance of a song is the sine of its angle to the cone.
* `euclidean`: songs are points, and mixtures are their weighted means: the convex hull.

In high dimension nearly nothing lies inside the hull of some dozens of songs, and of embeddings of unit length nothing
ever does, since every point of a sphere is a corner. Distances, calibrated by the playlist's own songs, tell more than
a yes or no, and want more axes than the few on which songs fill a hull (`outline`). Experimental: for no kind of
generated playlist was it surely better than both the mean and the highest cosine (`benchmarks/playlists.md`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from . import bridging, selection
from .cone import leave_one_out_residuals, nearest_in_cone
from .explaining import shares_of
from .gauge import gauges
from .picking import Pick
from .simplex import NearestPoints, leave_one_out_distances, nearest_in_hull
from .sketch import extreme_points
from .songs import SongLibrary
from .vectors import as_queries, as_vectors, unit_rows
from .whitening import Whitening

Mode = Literal["cone", "euclidean"]
NEAR = 0.9  # of the playlist's own songs lie as near to the others as what is called near
_MAX_DIMENSIONS_WITH_VOLUME = 8
_SHORTEST = 1e-9  # of the longest song's length: nothing that has a direction is shorter


@dataclass(frozen=True, eq=False)
class HullDistance:
    """How far queries are from a playlist: numbers for one query, arrays with a row for each of many.

    Attributes:
        distance: 0 for a mixture of the songs; in `cone` mode the sine of the angle, at most 1 (a right angle or more);
            in `euclidean` mode standard deviations of the library.
        weights: Of the songs in the nearest mixture, not negative; in `euclidean` mode they sum to 1. `(..., n)`.
        gap: What the distance leaves unproved: `distance ** 2 - gap > 0` proves that the query is outside.
        outside: Whether that is so: a plane was found between the query and the songs, with normal `query - nearest`.
        nearest: The nearest mixture, `(..., num_dimensions)`; in `cone` mode that to the query's unit vector.
    """

    distance: Any
    weights: np.ndarray
    gap: Any
    outside: Any
    nearest: np.ndarray


def dimensions_with_volume(num_songs: int) -> int:
    """On how many axes so many songs have a hull that others lie in: one more for each doubling, at most 8.

    >>> [dimensions_with_volume(n) for n in (1, 2, 10, 100, 10_000)]
    [1, 2, 4, 7, 8]
    """
    return min(_MAX_DIMENSIONS_WITH_VOLUME, int(math.log2(num_songs)) + 1)


class PlaylistHull:
    """The hull of a playlist's songs; make one by `fit`.

    Attributes:
        names (list): Of the songs that it is made of.
        points (np.ndarray): Where they are, `(num_songs, num_dimensions)`: whitened, or as given without a library.
        mode (str): "cone" or "euclidean".
        whitening (Whitening | None): Of the library.

    Example:
        >>> triangle = PlaylistHull.fit([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]], ["A", "B", "C"], mode="euclidean")
        >>> round(triangle.distance([2.0, 2.0]).distance, 6), triangle.contains([0.5, 0.5])
        (1.414214, True)
        >>> [(name, round(share, 6)) for name, share in triangle.explain([1.2, 0.0])]
        [('B', 0.6), ('A', 0.4)]
    """

    def __init__(
        self, points: np.ndarray, names: Sequence[str], mode: Mode, whitening: Whitening | None, all_points: np.ndarray
    ) -> None:
        self.points = points
        self.names = list(names)
        self.mode = mode
        self.whitening = whitening
        self._all_points = all_points
        self._shortest = _SHORTEST * float(np.linalg.norm(points, axis=1).max())
        self.directions, self.directed = unit_rows(points, self._shortest)

    @classmethod
    def fit(
        cls,
        embeddings: ArrayLike,
        names: Sequence[str] | None = None,
        library: SongLibrary | Whitening | ArrayLike | None = None,
        mode: Mode = "cone",
        num_dimensions: int | None = None,
        max_songs: int = 512,
    ) -> PlaylistHull:
        """Take the hull of a playlist.

        Args:
            embeddings: Of its songs, `(num_songs, embedding_size)`; one song and duplicates are allowed.
            names: Of its songs; default "song 1" and so on.
            library: What the songs are seen against: a library, its whitening, or its embeddings. `None` leaves the
                embeddings as they are, with all their dimensions.
            mode: "cone" or "euclidean".
            num_dimensions: How many of the library's axes; default 16. No more than the library has.
            max_songs: Of a longer playlist the extreme songs stand for all.

        Raises:
            ValueError: There is no song, an embedding is NaN or infinite, sizes differ, an option is not allowed, the
                library's songs are all alike, or, in `cone` mode, no song has a direction.

        Warns:
            Some songs lie at the library's centre, or all embeddings have unit length in `euclidean` mode, or there are
            fewer axes than were asked for.
        """
        rows = as_vectors(embeddings, "playlist", names)
        names = [f"song {place}" for place in range(1, len(rows) + 1)] if names is None else list(names)
        if len(names) != len(rows):
            raise ValueError(f"playlist: {len(names)} names for {len(rows)} songs; give one each")
        if mode not in get_args(Mode):
            raise ValueError(f"mode is {mode!r}; it must be one of {', '.join(get_args(Mode))}")
        if max_songs < 1:
            raise ValueError(f"max_songs is {max_songs}; at least 1 is needed")
        whitening = _whitening_of(library)
        if whitening is None:
            if num_dimensions is not None:
                raise ValueError(
                    f"num_dimensions is {num_dimensions}, but there is no library whose axes it could choose from: a "
                    "playlist cannot tell on which axes songs differ. Give library=, or leave num_dimensions out"
                )
            points = rows
        else:
            rows = as_vectors(rows, "playlist", names, size=whitening.embedding_size)
            points = whitening.transform(rows, whitening.checked_dimensions(num_dimensions))
        if mode == "euclidean" and len(points) > 1 and _on_a_sphere(points):
            warnings.warn(
                "all songs have the same length, so every one is a corner of their convex hull and nothing else ever "
                'lies inside it; use mode="cone", or give library= and few num_dimensions',
                stacklevel=2,
            )
        hull = cls(points, names, mode, whitening, points)
        if mode == "cone" and not hull.directed.all():
            lost = [name for name, directed in zip(names, hull.directed, strict=True) if not directed]
            if len(lost) == len(names):
                raise ValueError(
                    "none of the songs has a direction: their vectors are zero (silence?), or they lie at the "
                    'library\'s centre. Use mode="euclidean", or other songs'
                )
            warnings.warn(
                f"{len(lost)} songs lie at the library's centre or are zero vectors, and add nothing to a cone: "
                f'{lost[0]} for one. mode="euclidean" counts them',
                stacklevel=2,
            )
        kept = extreme_points(hull.directions if mode == "cone" else points, max_songs)
        if len(kept) < len(points):
            hull = cls(points[kept], [names[place] for place in kept], mode, whitening, points)
        return hull

    def __len__(self) -> int:
        return len(self.points)

    @property
    def num_dimensions(self) -> int:
        """How many axes it lives in."""
        return self.points.shape[1]

    @property
    def embedding_size(self) -> int:
        """Size of the embeddings that it takes."""
        return self.num_dimensions if self.whitening is None else self.whitening.embedding_size

    @property
    def centre(self) -> np.ndarray:
        """Mean of its songs, `(num_dimensions,)`."""
        return self.points.mean(axis=0)

    @cached_property
    def radius(self) -> float:
        """Root mean square distance of its songs from their centre; 0 for one song or copies of one."""
        return float(np.sqrt(np.mean(np.sum((self.points - self.centre) ** 2, axis=1))))

    @cached_property
    def has_volume(self) -> bool:
        """Whether its songs span all axes; if not, points off their plane have an infinite gauge."""
        spreads = np.linalg.svd(self.points - self.centre, compute_uv=False)
        size = float(np.abs(self.points).max())
        return len(spreads) == self.num_dimensions and float(spreads[-1]) > 1e-9 * max(float(spreads[0]), size)

    @cached_property
    def own_distances(self) -> np.ndarray:
        """Distance of each of its songs from the hull of the others, rising; of one song alone, nothing.

        Songs that a sketch left out are held against the sketch.
        """
        vectors = self.directions[self.directed] if self.mode == "cone" else self.points
        if len(vectors) < 2:
            return np.empty(0)
        leave_one_out = leave_one_out_residuals if self.mode == "cone" else leave_one_out_distances
        found = leave_one_out(vectors)
        if len(self._all_points) > len(self.points):
            # Each of the sketch's songs stands in `_all_points` once more, at distance 0.
            others = np.sort(self._nearest(self._all_points).squared)[len(self.points) :]
            found = np.concatenate([found, np.sqrt(others)])
        return np.sort(found)

    @cached_property
    def outline(self) -> PlaylistHull:
        """The hull on as many leading axes as its songs can fill, which may be all; without a library, itself.

        There inside, just outside and far outside mean something also of few songs.
        """
        kept = min(dimensions_with_volume(len(self)), self.num_dimensions)
        if self.whitening is None or kept == self.num_dimensions:
            return self
        points, everything = self.points[:, :kept], self._all_points[:, :kept]
        return PlaylistHull(points, self.names, self.mode, self.whitening, everything)

    def place(self, queries: ArrayLike) -> np.ndarray:
        """Where embeddings lie among its axes: `(num_queries, num_dimensions)`, also for one query."""
        rows, _ = as_queries(queries, self.embedding_size)
        return rows if self.whitening is None else self.whitening.transform(rows, self.num_dimensions)

    def distance(self, queries: ArrayLike) -> HullDistance:
        """Distance from the playlist.

        A query without a direction (at the library's centre, or a zero vector) has in `cone` mode the distance 1 and no
        proof: nothing in it speaks for the playlist.

        Args:
            queries: One embedding `(embedding_size,)` or many `(num_queries, embedding_size)`.

        Raises:
            ValueError: The size is another, or a value is not finite.
        """
        found = self._nearest(self.place(queries))
        distances = np.sqrt(found.squared)
        if np.ndim(queries) == 1:
            return HullDistance(
                float(distances[0]), found.weights[0], float(found.gaps[0]), bool(found.outside[0]), found.points[0]
            )
        return HullDistance(distances, found.weights, found.gaps, found.outside, found.points)

    def angle(self, queries: ArrayLike) -> Any:
        """Angle between queries and the cone of the songs, in radians from 0 to pi / 2, whatever the mode.

        A right angle also stands for more than that, and for a query without a direction.
        """
        units, directed = unit_rows(self.place(queries), self._shortest)
        residuals = np.sqrt(nearest_in_cone(self.directions, units).squared)
        return _as_asked(np.where(directed, np.arcsin(np.minimum(residuals, 1.0)), math.pi / 2), queries)

    def gauge(self, queries: ArrayLike, penalty: float | None = None) -> Any:
        """By how much the convex hull must be scaled about its centre to reach queries, whatever the mode.

        Below 1 inside, 1 on the boundary, above 1 outside; infinite off the plane that the songs span, so with no more
        songs than axes nearly everywhere: ask the `outline` then.

        Args:
            queries: As for `distance`.
            penalty: `None` for the gauge as defined; a number makes it finite everywhere: the price of missing the
                query by the playlist's radius.
        """
        return _as_asked(gauges(self.points, self.centre, self.place(queries), penalty), queries)

    def contains(self, queries: ArrayLike, tol: float = 1e-6) -> Any:
        """Whether queries are mixtures of the songs: nearer than `tol`, of the playlist's size in `euclidean` mode."""
        size = 1.0 if self.mode == "cone" else self.radius or float(np.linalg.norm(self.centre)) or 1.0
        return _as_asked(np.atleast_1d(self.distance(queries).distance) <= tol * size, queries)

    def percentile(self, queries: ArrayLike) -> Any:
        """How many per cent of the playlist's own songs lie nearer to the other songs than queries to the playlist.

        0 is among the songs, 50 as far as a typical one of them, 100 farther than any. NaN, with a warning, for a
        playlist of one song.
        """
        if not len(self.own_distances):
            warnings.warn(
                "a playlist of one song has no distances of its own to hold others against, so there is no percentile; "
                "compare distances, or add a song",
                stacklevel=2,
            )
        return _as_asked(self.percentile_of(np.atleast_1d(self.distance(queries).distance)), queries)

    def percentile_of(self, distances: np.ndarray) -> np.ndarray:
        """As `percentile`, of distances; NaN for a playlist of one song."""
        if not len(self.own_distances):
            return np.full(len(distances), np.nan)
        # Between equal distances, such as the zeros of two mixtures, rounding must not decide.
        nearer = np.searchsorted(self.own_distances, distances - 1e-9 * (1.0 + self.own_distances[-1]))
        return 100.0 * nearer / len(self.own_distances)

    @cached_property
    def near_limit(self) -> float:
        """Up to which distance songs count as near: what 90 % of its own songs keep; 0 for a playlist of one song."""
        limit = float(np.quantile(self.own_distances, NEAR)) if len(self.own_distances) else 0.0
        # A song at a right angle to all others is no reason to take what is at a right angle too.
        return min(limit + 1e-9, 1.0 - 1e-9) if self.mode == "cone" else limit + 1e-9

    def near(self, queries: ArrayLike) -> Any:
        """Whether queries are within `near_limit`: of one song, equal it; in `cone` mode never at a right angle."""
        return _as_asked(np.atleast_1d(self.distance(queries).distance) <= self.near_limit, queries)

    def explain(self, queries: ArrayLike, max_songs: int = 5) -> Any:
        """Of which songs the nearest mixture is made: `[(name, share), ...]`, largest first, at least half a per cent.

        A list of such lists for many queries. Empty for a query at a right angle to all songs.
        """
        shares = [shares_of(self.names, row, max_songs) for row in np.atleast_2d(self.distance(queries).weights)]
        return shares[0] if np.ndim(queries) == 1 else shares

    def expand(self, s: float) -> PlaylistHull:
        """The hull scaled by `s`, a positive number, about its centre: what has a gauge of at most `s` lies inside."""
        if not (math.isfinite(s) and s > 0):
            raise ValueError(f"s is {s}; the factor must be a positive number, 1.1 to 1.5 as a rule")
        centre = self.centre
        points, everything = (centre + s * (rows - centre) for rows in (self.points, self._all_points))
        return PlaylistHull(points, self.names, self.mode, self.whitening, everything)

    def fill(
        self,
        library: SongLibrary,
        k: int,
        *,
        diversity: float = 0.3,
        max_per_artist: int | None = 1,
        exclude: Sequence[str] = (),
    ) -> list[Pick]:
        """`k` songs of the library that lie among the playlist's; see `selection.fill`."""
        return selection.fill(self, library, k, diversity, max_per_artist, exclude)

    def beyond(
        self,
        library: SongLibrary,
        k: int,
        *,
        s: float = 1.3,
        max_per_artist: int | None = 1,
        exclude: Sequence[str] = (),
        seed: int = 0,
    ) -> list[Pick]:
        """`k` songs of the library just outside the playlist, in all its directions; see `selection.beyond`."""
        return selection.beyond(self, library, k, s, max_per_artist, exclude, seed)

    def interpolate(
        self,
        other: PlaylistHull,
        m: int,
        library: SongLibrary,
        *,
        smoothness: float = 0.5,
        key_weight: float = 0.0,
        tempo_weight: float = 0.0,
        max_per_artist: int | None = 1,
        exclude: Sequence[str] = (),
        top: int = 32,
    ) -> list[Pick]:
        """`m` songs of the library that lead from this playlist to another; see `bridging.interpolate`."""
        costs = bridging.Costs(smoothness, key_weight, tempo_weight)
        return bridging.interpolate(self, other, m, library, costs, max_per_artist, exclude, top)

    def _nearest(self, places: np.ndarray) -> NearestPoints:
        if self.mode == "euclidean":
            return nearest_in_hull(self.points, places)
        units, directed = unit_rows(places, self._shortest)
        found = nearest_in_cone(self.directions, units)
        return NearestPoints(
            found.weights, found.points, np.where(directed, found.squared, 1.0), np.where(directed, found.gaps, 1.0)
        )


def _whitening_of(library: SongLibrary | Whitening | ArrayLike | None) -> Whitening | None:
    if library is None or isinstance(library, Whitening):
        return library
    return library.whitening if isinstance(library, SongLibrary) else Whitening.fit(library)


def _on_a_sphere(points: np.ndarray) -> bool:
    lengths = np.linalg.norm(points, axis=1)
    return bool(np.ptp(lengths) <= 1e-4 * lengths.max()) and bool(np.ptp(points, axis=0).any())


def _as_asked(values: np.ndarray, queries: ArrayLike) -> Any:
    return values[0].item() if np.ndim(queries) == 1 else values
