# SPDX-License-Identifier: Apache-2.0
"""A playlist's hull seen in two dimensions: where its songs, chosen songs and the library fall on one plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .picking import Pick
from .songs import SongLibrary
from .vectors import unit_rows

if TYPE_CHECKING:
    from .hull import PlaylistHull


def plane_of(hull: PlaylistHull, library: SongLibrary | None = None, picks: Sequence[Pick] = ()) -> dict[str, Any]:
    """The plane in which the playlist's songs, and those that were chosen, differ most.

    In `cone` mode songs are seen as unit vectors, as the mode has them.

    Args:
        hull: The playlist.
        library: Where `picks` were chosen from; its other songs are shown too.
        picks: What `fill`, `beyond` or `interpolate` gave.

    Returns:
        What `report.hull.draw_hull` takes: `songs` and `picks`, each `{"name", "x", "y"}` (picks also `"within"`),
        `library`, a list of `[x, y]`, `share`, how much of the spread of songs and picks the plane shows, in [0, 1],
        and `mode`.

    Raises:
        ValueError: There are picks but no library to find them in.
    """
    if picks and library is None:
        raise ValueError("picks are rows of a library; give the library they were chosen from")
    own = _seen(hull, hull.points)
    others = _seen(hull, hull.place(library.embeddings)) if library is not None else np.empty((0, own.shape[1]))
    chosen = others[[pick.index for pick in picks]] if picks else others[:0]
    shown = np.vstack([own, chosen])
    centre = shown.mean(axis=0)
    _, spreads, axes = np.linalg.svd(shown - centre, full_matrices=False)
    plane = np.zeros((2, own.shape[1]))
    plane[: len(axes[:2])] = axes[:2]
    # The sign of an axis is free; the one that has its largest entry positive is the same on every machine.
    plane *= np.where(np.take_along_axis(plane, np.abs(plane).argmax(axis=1)[:, None], axis=1) < 0, -1.0, 1.0)
    total = float(np.sum(spreads**2))

    def entries(names: Sequence[str], vectors: np.ndarray) -> list[dict[str, Any]]:
        places = (vectors - centre) @ plane.T
        return [{"name": name, "x": float(x), "y": float(y)} for name, (x, y) in zip(names, places, strict=True)]

    seen = entries([pick.name for pick in picks], chosen)
    taken = set(hull.names) | {pick.name for pick in picks}
    rest = np.array([name not in taken for name in library.names], bool) if library is not None else np.zeros(0, bool)
    return {
        "songs": entries(hull.names, own),
        "picks": [entry | {"within": pick.within} for entry, pick in zip(seen, picks, strict=True)],
        "library": ((others[rest] - centre) @ plane.T).tolist(),
        "share": float(np.sum(spreads[:2] ** 2)) / total if total else 1.0,
        "mode": hull.mode,
    }


def _seen(hull: PlaylistHull, places: np.ndarray) -> np.ndarray:
    return unit_rows(places, 0.0)[0] if hull.mode == "cone" else places
