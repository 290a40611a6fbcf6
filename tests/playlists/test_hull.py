# SPDX-License-Identifier: Apache-2.0
"""`PlaylistHull` and its library: what it says, and what it does with odd playlists."""

import json
import math
import warnings

import numpy as np
import pytest

from hf_mathrock.playlists.explaining import describe
from hf_mathrock.playlists.hull import PlaylistHull
from hf_mathrock.playlists.songs import SongLibrary
from hf_mathrock.playlists.whitening import Whitening

SIZE = 12


def songs(num=300, size=SIZE, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((num, size)) * np.geomspace(5, 0.2, size) + rng.standard_normal(size) * 10


@pytest.fixture(scope="module")
def library():
    return SongLibrary(songs(), [f"{place:03d}" for place in range(300)])


@pytest.mark.parametrize("mode", ["cone", "euclidean"])
@pytest.mark.parametrize("num", [1, 2, 7, 40])
def test_a_playlist_contains_its_songs(library, mode, num):
    hull = PlaylistHull.fit(library.embeddings[:num], library.names[:num], library, mode)
    assert hull.num_dimensions == SIZE
    found = hull.distance(library.embeddings[:num])
    assert found.distance == pytest.approx(0, abs=1e-6) and not found.outside.any()
    assert hull.contains(library.embeddings[:num]).all()
    assert hull.near(library.embeddings[:num]).all()


def test_midpoints_are_inside_and_far_songs_outside(library):
    own = library.embeddings[:20]
    for mode in ("cone", "euclidean"):
        hull = PlaylistHull.fit(own, None, library, mode)
        assert hull.contains((own[:10] + own[10:]) / 2, tol=1e-5).all()
    far = own.mean(axis=0) + 50 * (own[0] - own.mean(axis=0))
    assert hull.distance(far).outside and not hull.contains(far) and hull.percentile(far) == 100


def test_one_query_gives_numbers_and_many_give_rows(library):
    hull = PlaylistHull.fit(library.embeddings[:9], None, library)
    one, many = hull.distance(library.embeddings[50]), hull.distance(library.embeddings[50:53])
    assert isinstance(one.distance, float) and isinstance(one.outside, bool) and one.weights.shape == (9,)
    assert many.distance.shape == (3,) and many.weights.shape == (3, 9)
    assert many.nearest.shape == (3, hull.num_dimensions)
    assert one.distance == pytest.approx(many.distance[0])
    for ask in (hull.angle, hull.gauge, hull.percentile, hull.near, hull.contains):
        assert ask(library.embeddings[50]) == pytest.approx(ask(library.embeddings[50:53])[0])
    alone, among = hull.explain(library.embeddings[50]), hull.explain(library.embeddings[50:53])[0]
    assert [name for name, _ in alone] == [name for name, _ in among]
    assert hull.distance(library.embeddings[:0]).distance.shape == (0,)


def test_the_angle_is_the_arc_sine_of_the_cones_distance(library):
    hull = PlaylistHull.fit(library.embeddings[:6], None, library, "cone", 5)
    distances, angles = hull.distance(library.embeddings).distance, hull.angle(library.embeddings)
    assert np.sin(angles) == pytest.approx(np.minimum(distances, 1), abs=1e-9)
    assert angles.min() >= 0 and angles.max() <= math.pi / 2 and np.ptp(angles) > 0.5
    lone = PlaylistHull.fit([[1.0, 0.0]])
    assert [math.degrees(lone.angle(q)) for q in ([1, 1], [-1, 0.1], [0, 3])] == pytest.approx([45, 90, 90])


def test_a_cone_does_not_care_how_far_a_song_is_from_the_centre():
    hull = PlaylistHull.fit([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], ["A", "B"])
    assert hull.distance([30.0, 20.0, 5.0]).distance == pytest.approx(hull.distance([3.0, 2.0, 0.5]).distance)
    assert hull.explain([0.6, 0.4, 0.0]) == [("A", pytest.approx(0.6)), ("B", pytest.approx(0.4))]
    assert describe(hull.explain([0.6, 0.4, 0.0])) == "60 % A + 40 % B"
    assert describe(hull.explain([-1.0, -1.0, 0.0])) == "like none of them"


def test_the_explanation_is_the_mixture(library):
    own = library.embeddings[:4]
    for mode in ("euclidean", "cone"):
        hull = PlaylistHull.fit(own, ["A", "B", "C", "D"], library, mode, 8)
        found = hull.explain(0.7 * own[1] + 0.3 * own[3])
        assert [name for name, _ in found] == ["B", "D"]
        assert sum(share for _, share in found) == pytest.approx(1)
    assert hull.fit(own, ["A", "B", "C", "D"], library, "euclidean", 8).explain(0.7 * own[1] + 0.3 * own[3]) == [
        ("B", pytest.approx(0.7, abs=1e-3)),
        ("D", pytest.approx(0.3, abs=1e-3)),
    ]


def test_the_gauge_of_a_hull_does_not_depend_on_an_affine_change_of_the_embeddings(library):
    rng = np.random.default_rng(1)
    change, shift = rng.standard_normal((SIZE, SIZE)), rng.standard_normal(SIZE) * 5
    own, queries = library.embeddings[:60], library.embeddings[100:110]
    before = PlaylistHull.fit(own).gauge(queries)
    after = PlaylistHull.fit(own @ change + shift).gauge(queries @ change + shift)
    assert after == pytest.approx(before, rel=1e-5) and np.isfinite(before).all()


def test_what_an_expanded_hull_holds_has_a_gauge_of_at_most_its_factor(library):
    own = library.embeddings[:25]
    hull = PlaylistHull.fit(own, None, library, "euclidean", 3)
    larger = hull.expand(1.4)
    gauge = hull.gauge(library.embeddings)
    assert larger.contains(library.embeddings, tol=1e-9).tolist() == (gauge <= 1.4).tolist()
    assert ((gauge > 1) & (gauge <= 1.4)).any()
    assert larger.gauge(library.embeddings) == pytest.approx(gauge / 1.4)
    for factor in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match="positive number"):
            hull.expand(factor)


def test_the_percentile_is_held_against_the_playlists_own_songs():
    corners = [[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 4.0], [2.0, 2.0]]
    hull = PlaylistHull.fit(corners, mode="euclidean")
    assert hull.own_distances == pytest.approx([0, 8**0.5, 8**0.5, 8**0.5, 8**0.5])
    assert hull.percentile([[2.0, 3.0], [4.5, 2.0], [8.0, 2.0]]) == pytest.approx([0, 20, 100])
    assert hull.near([[2.0, 3.0], [6.0, 2.0], [8.0, 2.0]]).tolist() == [True, True, False]


def test_a_song_at_a_right_angle_to_the_others_calls_nothing_at_a_right_angle_near():
    hull = PlaylistHull.fit([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.0, 0.0, 1.0]])
    assert hull.own_distances[-1] == pytest.approx(1)
    assert hull.near([[1.0, 0.0, 0.2], [0.0, -1.0, 0.0], [-1.0, 0.0, -1.0]]).tolist() == [True, False, False]


def test_a_song_alone_has_distances_but_no_percentile(library):
    for mode in ("cone", "euclidean"):
        hull = PlaylistHull.fit(library.embeddings[:1], ["A"], library, mode)
        assert hull.radius == 0
        with pytest.warns(UserWarning, match="playlist of one song"):
            assert math.isnan(hull.percentile(library.embeddings[5]))
        assert not hull.near(library.embeddings[hull.distance(library.embeddings).distance.argmax()])
    assert hull.explain(library.embeddings[5]) == [("A", 1.0)]
    assert hull.gauge(library.embeddings[0]) == 0 and hull.gauge(library.embeddings[5]) == math.inf


def test_duplicates_change_nothing_but_their_own_distances(library):
    own, queries = library.embeddings[:6], library.embeddings[50:70]
    for mode in ("cone", "euclidean"):
        once = PlaylistHull.fit(own, None, library, mode, 3)
        twice = PlaylistHull.fit(np.repeat(own, 3, axis=0), None, library, mode, 3)
        assert twice.distance(queries).distance == pytest.approx(once.distance(queries).distance, abs=1e-7)
        assert twice.own_distances == pytest.approx(0, abs=1e-6)
    copies = PlaylistHull.fit(np.repeat(own[:1], 5, axis=0), ["A"] * 5, library, "euclidean", 3)
    assert copies.explain(queries[0]) == [("A", pytest.approx(1.0))]
    assert copies.radius == pytest.approx(0, abs=1e-9) and np.isinf(copies.gauge(queries)).all()


def test_fewer_songs_than_axes_have_no_volume_but_distances(library):
    hull = PlaylistHull.fit(library.embeddings[:3], None, library, "euclidean", 8)
    assert not hull.has_volume and np.isinf(hull.gauge(library.embeddings[50:60])).all()
    assert np.isfinite(hull.gauge(library.embeddings[50:60], penalty=1.0)).all()
    assert hull.distance(library.embeddings[50:60]).outside.all()
    assert PlaylistHull.fit(library.embeddings[:30], None, library, "euclidean", 3).has_volume


def test_more_axes_than_the_library_has_are_cut_with_a_warning():
    few = songs(5)
    with pytest.warns(UserWarning, match="num_dimensions is 9, but the library spans 2"):
        hull = PlaylistHull.fit(few[:3], None, few, num_dimensions=9)
    assert hull.num_dimensions == 2 and hull.contains(few[:3]).all()


def test_unit_length_and_convex_mode_warn(library):
    units = library.embeddings / np.linalg.norm(library.embeddings, axis=1, keepdims=True)
    with pytest.warns(UserWarning, match="same length"):
        hull = PlaylistHull.fit(units[:20], mode="euclidean")
    assert hull.distance(units[20:]).outside.all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PlaylistHull.fit(units[:20], mode="cone")
        PlaylistHull.fit(units[:20], None, units, "euclidean", 3)  # on few axes they are on no sphere


def test_zero_vectors_have_no_direction():
    embeddings = np.array([[1.0, 0.0], [0.0, 0.0], [0.5, 0.5]])
    with pytest.warns(UserWarning, match="library's centre or are zero vectors.*B"):
        hull = PlaylistHull.fit(embeddings, ["A", "B", "C"])
    silent = hull.distance([0.0, 0.0])
    assert silent.distance == 1 and not silent.outside and not hull.contains([0.0, 0.0])
    assert math.degrees(hull.angle([0.0, 0.0])) == 90 and hull.explain([0.0, 0.0]) == []
    assert hull.distance([1.0, 0.2]).distance == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="none of the songs has a direction"):
        PlaylistHull.fit(embeddings[1:2])
    assert PlaylistHull.fit(embeddings[1:2], mode="euclidean").distance([3.0, 4.0]).distance == pytest.approx(5)


def test_a_long_playlist_is_sketched():
    rng = np.random.default_rng(0)
    own = rng.standard_normal((2000, 3))
    hull = PlaylistHull.fit(own, mode="euclidean", max_songs=64)
    assert 4 <= len(hull) <= 64 and len(hull.names) == len(hull)
    assert hull.near(own).mean() > 0.85
    assert hull.percentile(10 * own[0]) == 100
    assert len(hull.own_distances) == 2000


@pytest.mark.parametrize(
    ("embeddings", "options", "message"),
    [
        (np.empty((0, 3)), {}, "There is no song"),
        ([1.0, 2.0, 3.0], {}, r"shape \(num_songs, embedding_size\)"),
        ([[1.0, math.nan, 0], [0, 0, 1]], {"names": ["A", "B"]}, "NaN or infinite values in the embeddings of A"),
        ([[1.0, math.inf, 0]], {}, "row 0"),
        (np.eye(3), {"names": ["A"]}, "1 names for 3 songs"),
        (np.eye(3), {"mode": "convex"}, "mode is 'convex'; it must be one of cone, euclidean"),
        (np.eye(3), {"num_dimensions": 2}, "there is no library"),
        (np.eye(3), {"max_songs": 0}, "max_songs is 0"),
        (np.eye(3), {"library": np.eye(4)}, "3 dimensions where 4 are expected"),
        (np.eye(4), {"library": np.eye(4), "num_dimensions": 0}, "num_dimensions is 0"),
        (np.eye(3), {"library": np.ones((5, 3))}, "all alike"),
        (np.eye(3), {"library": np.empty((0, 3))}, "library: expected"),
    ],
)
def test_what_makes_no_hull_is_refused_by_name(embeddings, options, message):
    with pytest.raises(ValueError, match=message):
        PlaylistHull.fit(embeddings, **options)


def test_queries_of_another_size_or_with_nan_are_refused():
    hull = PlaylistHull.fit(np.eye(3))
    with pytest.raises(ValueError, match="queries: embeddings have 4 dimensions where 3 are expected"):
        hull.distance(np.ones((2, 4)))
    with pytest.raises(ValueError, match="NaN or infinite"):
        hull.distance([math.nan, 0, 1])


def test_whitening_makes_every_axis_of_the_library_count_alike():
    rows = songs()
    whitening = Whitening.fit(rows)
    placed = whitening.transform(rows)
    assert placed.mean(axis=0) == pytest.approx(0, abs=1e-9)
    assert np.cov(placed.T, bias=True) == pytest.approx(np.eye(SIZE), abs=1e-9)
    assert (np.diff(whitening.spreads) < 0).all()
    assert whitening.transform(rows, 3) == pytest.approx(placed[:, :3])
    again = Whitening.from_state(json.loads(json.dumps(whitening.state())))
    assert again.transform(rows) == pytest.approx(placed, abs=1e-12)
    with pytest.raises(ValueError, match="needs axes of one row each"):
        Whitening.from_state(whitening.state() | {"spreads": [1.0]})


def test_whitening_of_large_constant_and_single_rows():
    huge = songs() * 1e200
    assert Whitening.fit(huge).transform(huge).std(axis=0) == pytest.approx(1)
    for alike in (np.full((5, 3), 1234.567), np.ones((1, 3))):
        whitening = Whitening.fit(alike)
        assert whitening.num_dimensions == 0
        assert Whitening.from_state(whitening.state()).num_dimensions == 0
    flat = np.column_stack([songs(50, 2), np.zeros(50), np.ones(50)]).astype(np.float32)
    assert Whitening.fit(flat).num_dimensions == 2
    with pytest.raises(ValueError, match="max_dimensions is 0"):
        Whitening.fit(flat, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embeddings": np.empty((0, 2)), "names": []}, "There is no song"),
        ({"names": ["A"]}, "1 names for 2 embeddings"),
        ({"names": ["A", "A"]}, "'A' for one"),
        ({"artists": ["X"]}, "1 artists for 2"),
        ({"keys": [(12, "major"), None]}, "pitch class 0-11"),
        ({"keys": [(1, "blues"), None]}, "one of lydian"),
        ({"tempos": [0.0, None]}, "quarters a minute"),
        ({"embeddings": [[0.0, math.nan], [0.0, 0.0]]}, "embeddings of A"),
    ],
)
def test_a_library_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SongLibrary(**({"embeddings": np.eye(2), "names": ["A", "B"]} | options))


def test_jumps_between_keys_and_tempos():
    library = SongLibrary(
        np.eye(5),
        list("abcde"),
        keys=[(0, "major"), (9, "minor"), (6, "major"), (7, "major"), None],
        tempos=[100.0, 200.0, 100 * 2**0.5, 110.0, None],
    )
    assert [library.key_jump(0, other) for other in range(5)] == pytest.approx([0, 0, 1, 1 / 6, 0])
    assert [library.tempo_jump(0, other) for other in range(5)] == pytest.approx(
        [0, 0, 1, 2 * math.log2(1.1), 0], abs=1e-9
    )
    assert library.rows(["c", "a"]).tolist() == [2, 0]
    with pytest.raises(ValueError, match="'z' for one"):
        library.rows(["a", "z"])


def test_in_a_folder_of_nine_songs_some_are_still_like_others():
    songs = np.random.default_rng(3).normal(size=(9, 64)) + np.repeat(np.eye(3, 64) * 8, 3, axis=0)
    hull = PlaylistHull.fit(songs[[0]], ["first"], songs)
    assert hull.num_dimensions == 2
    assert set(np.argsort(hull.distance(songs).distance)[:3]) == {0, 1, 2}
    assert max(hull.angle(songs[i]) for i in (1, 2)) < min(hull.angle(songs[i]) for i in range(3, 9))
