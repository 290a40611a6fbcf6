# SPDX-License-Identifier: Apache-2.0
"""A playlist's hull as a picture: its songs by name, the songs that were chosen, and the library around them."""

from __future__ import annotations

import io
import itertools
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

from .sheet import DOTS_PER_INCH, MUTED, RULE, write
from .sheet import _installed_fonts as installed_fonts
from .timeline import BLUE, RED

MAX_NAMED = 40
_WIDTH, _HEIGHT = 9.5, 7.4
_LONGEST_NAME = 30
_LABEL_SIZE = 9
# Where a label is tried around its point: angle in degrees, from the best to the worst, at growing distances in points.
_ANGLES = (0, 180, 45, 135, 315, 225, 90, 270, 22, 158, 338, 202, 68, 112, 292, 248)
_DISTANCES = (7, 13, 21, 31, 43, 58, 76, 98, 124)


def draw_hull(plane: Mapping[str, Any], path: str | os.PathLike[str], *, title: str = "Playlist") -> None:
    """Draws a playlist's hull on a plane as a PNG.

    The shaded shape is the shadow that the hull throws on the plane: what lies outside of it is outside the hull, and
    what lies within it may still be outside, in a direction that the plane does not show; a filled dot says of a chosen
    song that it lies where it was looked for. No two names overlap, and none covers a song; a line leads from a name
    that found no room beside its song. The first 40 songs are named.

    Args:
        plane: What `playlists.plane.plane_of` gives: `songs` and `picks`, each `{"name", "x", "y"}`, picks with
            `"within"`; `library`, a list of `[x, y]`; `share` in [0, 1].
        path: Where the PNG goes. It is written whole or not at all.
        title: Stands above.

    Raises:
        ValueError: There is no song, or a place is not finite.
    """
    songs, picks = list(plane["songs"]), list(plane.get("picks", ()))
    places = np.array([[entry["x"], entry["y"]] for entry in (*songs, *picks)], dtype=float).reshape(-1, 2)
    library = np.array(plane.get("library", ()), dtype=float).reshape(-1, 2)
    if not songs:
        raise ValueError("a picture of a playlist needs at least one song of it")
    if not (np.isfinite(places).all() and np.isfinite(library).all()):
        raise ValueError("a song's place is NaN or infinite. Was its embedding broken? Leave it out")
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams["font.family"] = installed_fonts()
        # A name in a script that no installed font covers is drawn as boxes; that is no news to the user.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=DOTS_PER_INCH, facecolor="white")
        canvas = FigureCanvasAgg(figure)
        axis = figure.add_axes((0.03, 0.1, 0.94, 0.77))
        _frame(axis, places)
        _draw(axis, places, len(songs), picks, library)
        write(figure, 0.03, 0.955, title, size=15, weight="bold")
        share = f"{100 * plane['share']:.0f} % of what tells these songs apart is seen on this plane"
        write(figure, 0.03, 0.91, f"{_counted(len(songs), len(picks), len(library))} · {share}", color=MUTED, size=10)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=4, frameon=False, fontsize=10)
        names = [entry["name"] for entry in (*songs, *picks)][:MAX_NAMED]
        colours = [BLUE] * len(songs) + [RED] * len(picks)
        place_labels(axis, names, places, colours)
        picture = io.BytesIO()
        canvas.print_png(picture, metadata={"Software": None})
    Path(path).write_bytes(picture.getvalue())


def shadow(points: np.ndarray) -> np.ndarray:
    """Corners of the convex hull of points of a plane, counter-clockwise (Andrew's monotone chain).

    Args:
        points: `(num_points, 2)`.

    Returns:
        `(num_corners, 2)`; of points on one line its two ends, of copies of one point that point.

    Example:
        >>> shadow(np.array([[0, 0], [2, 0], [1, 1], [1, 3], [1, 0]])).tolist()
        [[0.0, 0.0], [2.0, 0.0], [1.0, 3.0]]
    """
    ordered = np.unique(np.asarray(points, dtype=float), axis=0)
    if len(ordered) < 3:
        return ordered

    def half(chain: np.ndarray) -> list[np.ndarray]:
        corners: list[np.ndarray] = []
        for point in chain:
            while len(corners) > 1 and _turn(corners[-2], corners[-1], point) <= 0:
                corners.pop()
            corners.append(point)
        return corners[:-1]

    return np.array(half(ordered) + half(ordered[::-1]))


def place_labels(axis: Axes, names: Sequence[str], places: np.ndarray, colours: Sequence[str]) -> list[Text]:
    """Writes names beside points so that no two overlap and none covers a point, with a line where they are far.

    Args:
        axis: Whose limits are final.
        names: Of the first points.
        places: Of all points, in the axis's units, `(num_points, 2)`.
        colours: Of the names' points.

    Returns:
        The texts; a name for which there is no room at all is left out.
    """
    figure = axis.get_figure(root=True)
    assert figure is not None
    points = axis.transData.transform(places)
    scale = figure.dpi / 72
    area = axis.get_window_extent()
    boxes: list[tuple[float, float, float, float]] = []
    dots = [(x - 4 * scale, y - 4 * scale, x + 4 * scale, y + 4 * scale) for x, y in points]
    texts = []
    for name, (x, y), colour in zip(names, points, colours, strict=False):
        text = write(axis, 0, 0, _shortened(name), size=_LABEL_SIZE, zorder=6, ha="left", va="bottom")
        text.set_path_effects([withStroke(linewidth=2.2, foreground="white", alpha=0.8)])
        extent = text.get_window_extent()
        width, height = extent.width, extent.height
        for distance, angle in itertools.product(_DISTANCES, _ANGLES):
            dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            # The nearest point of the label's box lies at the distance from the song.
            left = x + dx * distance * scale - width * (1 - dx) / 2
            low = y + dy * distance * scale - height * (1 - dy) / 2
            box = (left, low, left + width, low + height)
            if not (area.x0 <= box[0] and box[2] <= area.x1 and area.y0 <= box[1] and box[3] <= area.y1):
                continue
            if any(_overlap(box, other) for other in (*boxes, *dots)):
                continue
            at = axis.transData.inverted().transform((left, low))
            text.set_position((float(at[0]), float(at[1])))
            if distance > _DISTANCES[1]:
                nearest = (min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3]))
                ends = axis.transData.inverted().transform([(x, y), nearest])
                axis.plot(ends[:, 0], ends[:, 1], color=colour, linewidth=0.6, alpha=0.7, zorder=3)
            boxes.append((box[0] - 2 * scale, box[1], box[2] + 2 * scale, box[3]))
            texts.append(text)
            break
        else:
            text.remove()
    return texts


def _draw(
    axis: Axes, places: np.ndarray, num_songs: int, picks: Sequence[Mapping[str, Any]], library: np.ndarray
) -> None:
    songs, chosen = places[:num_songs], places[num_songs:]
    if len(library):
        axis.scatter(library[:, 0], library[:, 1], s=9, color="#cfd4dd", linewidths=0, zorder=1, label="the library")
    corners = shadow(songs)
    if len(corners) > 2:
        axis.fill(*corners.T, color=BLUE, alpha=0.12, linewidth=0, zorder=2)
    if len(corners) > 1:
        outline = np.vstack([corners, corners[:1]])
        axis.plot(*outline.T, color=BLUE, linewidth=1.2, alpha=0.7, zorder=2)
    axis.scatter(
        songs[:, 0],
        songs[:, 1],
        s=34,
        color=BLUE,
        zorder=5,
        linewidths=0,
        label="the playlist and the shadow of its hull",
    )
    within = np.array([bool(pick.get("within", True)) for pick in picks], dtype=bool)
    if within.any():
        axis.scatter(chosen[within, 0], chosen[within, 1], s=34, color=RED, zorder=5, linewidths=0, label="chosen")
    if len(within) and not within.all():
        far = chosen[~within]
        axis.scatter(
            far[:, 0], far[:, 1], s=30, facecolors="white", edgecolors=RED, zorder=5, linewidths=1.4, label="next best"
        )


def _frame(axis: Axes, places: np.ndarray) -> None:
    """Limits around the named songs, alike in both directions, with room for names."""
    low, high = places.min(axis=0), places.max(axis=0)
    spread = max(float((high - low).max()), 1e-6)
    middle = (low + high) / 2
    half = np.maximum((high - low) / 2, 0.2 * spread)
    box = axis.get_window_extent()
    unit = max(half[0] * 1.45 / box.width, half[1] * 1.3 / box.height)
    axis.set_xlim(middle[0] - unit * box.width, middle[0] + unit * box.width)
    axis.set_ylim(middle[1] - unit * box.height, middle[1] + unit * box.height)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_color(RULE)


def _counted(num_songs: int, num_picks: int, num_others: int) -> str:
    parts = [f"{num_songs} song{'s' if num_songs > 1 else ''}"]
    if num_picks:
        parts.append(f"{num_picks} chosen")
    if num_others:
        parts.append(f"a library of {num_songs + num_picks + num_others}")
    return ", ".join(parts)


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1].rstrip() + "…"


def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
