# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import warnings

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.image import imread

from hf_mathrock.playlists.hull import PlaylistHull
from hf_mathrock.playlists.plane import plane_of
from hf_mathrock.playlists.songs import SongLibrary
from hf_mathrock.report.hull import draw_hull, shadow

NAMES = [
    f"{word} {place}" for place, word in enumerate(("Never Meant", "Snow", "A very long name of a song indeed") * 30)
]


@pytest.fixture
def labels(monkeypatch):
    """Boxes and words of what the last picture named, in pixels."""
    import hf_mathrock.report.hull as module

    seen = []
    place = module.place_labels

    def remember(axis, names, places, colours):
        texts = place(axis, names, places, colours)
        points = axis.transData.transform(places)
        seen[:] = [[(text.get_text(), text.get_window_extent()) for text in texts], points, axis.get_window_extent()]
        return texts

    monkeypatch.setattr(module, "place_labels", remember)
    return seen


def plane(num_songs, num_picks=0, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    places = rng.standard_normal((num_songs + num_picks, 2)) * spread
    entries = [{"name": n, "x": float(x), "y": float(y)} for n, (x, y) in zip(NAMES, places, strict=False)]
    picks = [entry | {"within": bool(place % 2)} for place, entry in enumerate(entries[num_songs:])]
    library = rng.standard_normal((100, 2)).tolist()
    return {"songs": entries[:num_songs], "picks": picks, "library": library, "share": 0.7}


@pytest.mark.parametrize(("num_songs", "num_picks"), [(1, 0), (2, 1), (12, 8), (30, 10)])
def test_names_neither_overlap_nor_cover_songs(tmp_path, labels, num_songs, num_picks):
    draw_hull(plane(num_songs, num_picks), tmp_path / "hull.png")
    named, points, area = labels
    assert len(named) >= 0.9 * (num_songs + num_picks)
    for place, (_, box) in enumerate(named):
        assert area.x0 <= box.x0 and box.x1 <= area.x1 and area.y0 <= box.y0 and box.y1 <= area.y1
        assert not any(box.overlaps(other) for _, other in named[place + 1 :])
        assert not any(box.contains(x, y) for x, y in points)
    assert imread(tmp_path / "hull.png").shape[:2] == (1184, 1520)


def test_songs_on_one_spot_are_still_named_apart(tmp_path, labels):
    draw_hull(plane(8, spread=0.0), tmp_path / "hull.png")
    assert len(labels[0]) == 8
    assert {text for text, _ in labels[0]} == {*NAMES[:2], *NAMES[3:5], *NAMES[6:8], "A very long name of a song in…"}


def test_of_many_songs_the_first_forty_are_named(tmp_path, labels):
    draw_hull(plane(80), tmp_path / "hull.png")
    assert 25 <= len(labels[0]) <= 40


def test_names_in_any_script_begin_no_formula_and_warn_of_nothing(tmp_path, labels):
    picture = plane(3)
    for entry, name in zip(picture["songs"], ("$x^", "東京\t\ud800", "_hidden"), strict=True):
        entry["name"] = name
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_hull(picture, tmp_path / "hull.png", title="$$ _")
    assert labels[0][0][0] == "$x^" and "\ufffd" in labels[0][1][0]


def test_the_users_settings_of_matplotlib_are_left_alone(tmp_path):
    with mpl.rc_context({"font.size": 33.0}):
        before = dict(mpl.rcParams)
        draw_hull(plane(5), tmp_path / "hull.png")
        assert dict(mpl.rcParams) == before
        first = (tmp_path / "hull.png").read_bytes()
    draw_hull(plane(5), tmp_path / "hull.png")
    assert (tmp_path / "hull.png").read_bytes() == first


def test_the_shadow_is_the_smallest_convex_shape_around_the_points():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((200, 2))
    corners = shadow(points)
    assert {tuple(corner) for corner in corners} <= {tuple(point) for point in points}
    edges = np.roll(corners, -1, axis=0) - corners
    for point in points:
        to_point = point - corners
        assert (edges[:, 0] * to_point[:, 1] - edges[:, 1] * to_point[:, 0] >= -1e-9).all()
    assert shadow(np.array([[0, 0], [1, 1], [2, 2]])).tolist() == [[0, 0], [2, 2]]
    assert shadow(np.ones((4, 2))).tolist() == [[1, 1]]


@pytest.mark.parametrize("broken", [{"songs": []}, {"songs": [{"name": "A", "x": float("nan"), "y": 0.0}]}])
def test_what_cannot_be_drawn_is_refused_and_no_file_is_left(tmp_path, broken):
    with pytest.raises(ValueError, match="at least one song|NaN or infinite"):
        draw_hull(plane(3) | broken, tmp_path / "hull.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["cone", "euclidean"])
def test_the_plane_shows_where_songs_and_picks_are(tmp_path, mode):
    rng = np.random.default_rng(0)
    library = SongLibrary(rng.standard_normal((60, 5)) + 3, NAMES[:60])
    hull = PlaylistHull.fit(library.embeddings[:10], library.names[:10], library, mode, 4)
    picks = hull.fill(library, 6)
    seen = plane_of(hull, library, picks)
    assert [entry["name"] for entry in seen["songs"]] == library.names[:10]
    assert [entry["name"] for entry in seen["picks"]] == [pick.name for pick in picks]
    assert len(seen["library"]) == 44 and 0.4 < seen["share"] < 1
    places = hull.points if mode == "euclidean" else hull.directions
    drawn = np.array([[entry["x"], entry["y"]] for entry in seen["songs"]])
    true, flat = (np.linalg.norm(rows[:, None] - rows[None], axis=2) for rows in (places, drawn))
    assert (flat <= true + 1e-9).all() and np.corrcoef(true.ravel(), flat.ravel())[0, 1] > 0.7
    draw_hull(seen, tmp_path / "hull.png")
    with pytest.raises(ValueError, match="give the library"):
        plane_of(hull, None, picks)


def test_one_song_has_a_plane():
    seen = plane_of(PlaylistHull.fit([[1.0, 2.0, 3.0]], ["A"]))
    assert seen["songs"] == [{"name": "A", "x": 0.0, "y": 0.0}] and seen["share"] == 1.0
