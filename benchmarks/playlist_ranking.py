# SPDX-License-Identifier: Apache-2.0
"""Ways to rank a library by how well its songs would continue a playlist, and how good a ranking is.

Every way gets the library's whitening and a number of axes (`None`: the embeddings as they are), and gives a score per
song of the library, higher for better.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_mathrock.playlists.hull import PlaylistHull
from hf_mathrock.playlists.whitening import Whitening

_TIE_BREAK = 1e-6  # songs at a right angle to a cone, or within a hull, are told apart by their mean cosine
_FIRST = 20


@dataclass(frozen=True)
class Setting:
    """What is chosen for a way on validation playlists: axes and, for some, shrinkage."""

    num_dimensions: int | None
    shrinkage: float | None = None

    def __str__(self) -> str:
        axes = "raw" if self.num_dimensions is None else f"{self.num_dimensions} axes"
        return axes if self.shrinkage is None else f"{axes}, shrinkage {self.shrinkage:g}"


@dataclass(frozen=True)
class Way:
    """A way to rank, with the settings it may choose from."""

    title: str
    is_hull: bool
    score: Callable[[np.ndarray, np.ndarray, Whitening, Setting], np.ndarray]
    settings: tuple[Setting, ...]


def mean_cosine(playlist: np.ndarray, library: np.ndarray, whitening: Whitening, setting: Setting) -> np.ndarray:
    """Cosine with the mean of the playlist's unit vectors."""
    return _units(_placed(library, whitening, setting)) @ _unit_mean(_placed(playlist, whitening, setting))


def max_cosine(playlist: np.ndarray, library: np.ndarray, whitening: Whitening, setting: Setting) -> np.ndarray:
    """Cosine with the playlist's most similar song."""
    placed = (_units(_placed(songs, whitening, setting)) for songs in (library, playlist))
    songs, own = placed
    return (songs @ own.T).max(axis=1)


def mahalanobis(playlist: np.ndarray, library: np.ndarray, whitening: Whitening, setting: Setting) -> np.ndarray:
    """Distance from the playlist's mean by its own covariance, shrunk to the library's, which whitening makes I."""
    own, songs = _placed(playlist, whitening, setting), _placed(library, whitening, setting)
    away, centred = songs - own.mean(axis=0), own - own.mean(axis=0)
    share = setting.shrinkage or 0.0
    covariance = (1 - share) * centred.T @ centred / len(own) + share * np.eye(own.shape[1])
    return -np.einsum("ij,ij->i", away @ np.linalg.inv(covariance), away)


def cone(playlist: np.ndarray, library: np.ndarray, whitening: Whitening, setting: Setting) -> np.ndarray:
    """Sine of the angle to the cone."""
    return _by_distance("cone", playlist, library, whitening, setting)


def euclidean(playlist: np.ndarray, library: np.ndarray, whitening: Whitening, setting: Setting) -> np.ndarray:
    """Distance from the convex hull."""
    return _by_distance("euclidean", playlist, library, whitening, setting)


def gauge(playlist: np.ndarray, library: np.ndarray, whitening: Whitening, setting: Setting) -> np.ndarray:
    """The soft gauge."""
    hull = PlaylistHull.fit(playlist, library=whitening, mode="euclidean", num_dimensions=setting.num_dimensions)
    return -hull.gauge(library, penalty=1.0)


def _by_distance(
    mode: Any, playlist: np.ndarray, library: np.ndarray, whitening: Whitening, setting: Setting
) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hull = PlaylistHull.fit(playlist, library=whitening, mode=mode, num_dimensions=setting.num_dimensions)
    return -hull.distance(library).distance + _TIE_BREAK * mean_cosine(playlist, library, whitening, setting)


_AXES: tuple[int, ...] = (4, 8, 12, 16, 24, 32, 64)
_EACH = tuple(Setting(axes) for axes in _AXES)
WAYS: dict[str, Way] = {
    "mean_cosine": Way("mean cosine", False, mean_cosine, (Setting(None), *_EACH)),
    "max_cosine": Way("max cosine", False, max_cosine, (Setting(None), *_EACH)),
    "mahalanobis": Way(
        "Mahalanobis, shrunk",
        False,
        mahalanobis,
        tuple(Setting(axes, share) for axes in _AXES for share in (0.02, 0.05, 0.1, 0.3, 0.6)),
    ),
    "cone": Way("hull: cone", True, cone, _EACH),
    "euclidean": Way("hull: convex", True, euclidean, _EACH),
    "gauge": Way("hull: soft gauge", True, gauge, (Setting(8), Setting(16))),
}


@dataclass(frozen=True)
class Playlist:
    """Songs that are given, songs that should be found, and whose playlist it is (for the bootstrap).

    Attributes:
        kind: "album", "mixed" or "theme".
        given: Positions in the library.
        wanted: Positions in the library.
        group: Playlists of one group resemble each other.
    """

    kind: str
    given: np.ndarray
    wanted: np.ndarray
    group: str


METRICS = ("r_precision", f"recall_at_{_FIRST}", "reciprocal_rank")


def judge(scores: np.ndarray, playlist: Playlist) -> list[float]:
    """The `METRICS` of one ranking, of which the given songs are no part.

    R-precision: the share of wanted songs among as many first ones as there are wanted. Recall: the share of wanted
    songs that are among the first 20. Reciprocal rank: of the first wanted song.
    """
    others = np.setdiff1d(np.arange(len(scores)), playlist.given)
    ranking = others[np.argsort(-scores[others], kind="stable")]
    hits = np.isin(ranking, playlist.wanted)
    total = len(playlist.wanted)
    return [float(hits[:total].mean()), float(hits[:_FIRST].sum() / total), float(1.0 / (1 + hits.argmax()))]


def rank_all(
    way: Way, setting: Setting, embeddings: np.ndarray, whitening: Whitening, playlists: Sequence[Playlist]
) -> np.ndarray:
    """The metrics of every playlist, `(num_playlists, 3)`."""
    return np.array(
        [
            judge(way.score(embeddings[playlist.given], embeddings, whitening, setting), playlist)
            for playlist in playlists
        ]
    )


def _placed(songs: np.ndarray, whitening: Whitening, setting: Setting) -> np.ndarray:
    return songs if setting.num_dimensions is None else whitening.transform(songs, setting.num_dimensions)


def _units(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _unit_mean(rows: np.ndarray) -> np.ndarray:
    mean = _units(rows).mean(axis=0)
    return mean / max(float(np.linalg.norm(mean)), 1e-12)
