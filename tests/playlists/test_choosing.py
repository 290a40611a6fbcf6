# SPDX-License-Identifier: Apache-2.0
"""Filling a playlist, going beyond it, and leading from one to another."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest

from hf_mathrock.playlists.hull import PlaylistHull
from hf_mathrock.playlists.songs import SongLibrary

NUM = 400


@pytest.fixture(scope="module")
def library():
    rng = np.random.default_rng(0)
    return SongLibrary(
        rng.standard_normal((NUM, 6)) * np.geomspace(4, 0.5, 6),
        [f"song {place:03d}" for place in range(NUM)],
        artists=[None if place % 7 == 0 else f"band {place % 120}" for place in range(NUM)],
        keys=[(int(key), "major") for key in rng.integers(0, 12, NUM)],
        tempos=rng.uniform(70, 180, NUM).tolist(),
    )


def hull_of(library, rows, mode="euclidean", num_dimensions=3):
    return PlaylistHull.fit(
        library.embeddings[rows], [library.names[row] for row in rows], library, mode, num_dimensions
    )


def approximately(shares):
    return [(name, pytest.approx(share)) for name, share in shares]


def artists_of(library, picks):
    return [library.artists[pick.index] for pick in picks if library.artists[pick.index]]


@pytest.mark.parametrize("mode", ["euclidean", "cone"])
def test_filling_takes_songs_from_within(library, mode):
    hull = hull_of(library, range(15), mode)
    picks = hull.fill(library, 12)
    assert len(picks) == 12 and all(pick.within for pick in picks)
    assert not {pick.name for pick in picks} & set(hull.names)
    assert len(set(artists_of(library, picks))) == len(artists_of(library, picks))
    for pick in picks:
        assert pick.name == library.names[pick.index]
        found = hull.distance(library.embeddings[pick.index])
        assert pick.distance == pytest.approx(found.distance, abs=1e-9)
        assert pick.percentile == hull.percentile(library.embeddings[pick.index]) <= 90
        assert pick.gauge == pytest.approx(hull.gauge(library.embeddings[pick.index]))
        assert pick.because == approximately(hull.explain(library.embeddings[pick.index]))


def test_diversity_spreads_the_songs(library):
    hull = hull_of(library, range(20))

    def likeness(picks):
        places = hull.place(library.embeddings[[pick.index for pick in picks]])
        places /= np.linalg.norm(places, axis=1, keepdims=True)
        return (places @ places.T)[np.triu_indices(len(picks), 1)].max()

    alike, different = (hull.fill(library, 8, diversity=share) for share in (0.0, 0.8))
    assert likeness(different) < likeness(alike)


def test_when_nothing_is_left_within_the_nearest_follow(library):
    hull = hull_of(library, range(15), num_dimensions=6)
    picks = hull.fill(library, 300, max_per_artist=None)
    inside = [pick.within for pick in picks]
    assert inside == sorted(inside, reverse=True) and 0 < sum(inside) < 300
    outside = [pick.distance for pick in picks if not pick.within]
    assert outside == sorted(outside)
    assert len({pick.name for pick in picks}) == 300


def test_a_library_that_is_too_small_warns(library):
    small = SongLibrary(library.embeddings[:10], library.names[:10], ["X"] * 10)
    hull = hull_of(library, range(4))
    with pytest.warns(UserWarning, match="1 songs instead of 5.*max_per_artist"):
        assert len(hull.fill(small, 5)) == 1
    with pytest.warns(UserWarning, match="6 songs instead of 20"):
        assert len(hull.fill(small, 20, max_per_artist=None)) == 6
    own = SongLibrary(library.embeddings[:4], library.names[:4])
    for choose in (hull.fill, hull.beyond):
        with pytest.warns(UserWarning, match="0 songs instead of 3"):
            assert choose(own, 3) == []
    with pytest.warns(UserWarning, match="0 songs instead of 3"):
        assert hull.interpolate(hull, 3, own) == []


def test_copies_of_a_song_are_taken_once_and_the_playlists_own_never(library):
    rows = np.concatenate([library.embeddings[:60], library.embeddings[:60]])
    doubled = SongLibrary(rows, [f"a{i}" for i in range(60)] + [f"b{i}" for i in range(60)])
    hull = PlaylistHull.fit(rows[:10], [f"a{i}" for i in range(10)], doubled, "euclidean", 3)
    picks = hull.fill(doubled, 30)
    assert len(picks) == 30 and len({pick.index % 60 for pick in picks}) == 30
    assert min(pick.index % 60 for pick in picks) >= 10


def test_excluded_songs_are_passed_over(library):
    hull = hull_of(library, range(15))
    first = [pick.name for pick in hull.fill(library, 5)]
    assert not set(first) & {pick.name for pick in hull.fill(library, 5, exclude=first)}


def test_one_song_is_filled_with_the_nearest(library):
    hull = hull_of(library, [3])
    with pytest.warns(UserWarning, match="one song says nothing"):
        picks = hull.fill(library, 5, max_per_artist=None)
    away = np.linalg.norm(hull.place(library.embeddings) - hull.points[0], axis=1)
    assert [pick.index for pick in picks] == np.argsort(away)[1:6].tolist()
    assert all(math.isnan(pick.percentile) and not pick.within for pick in picks)
    with pytest.warns(UserWarning, match="no directions to go on in"):
        assert [pick.index for pick in hull.beyond(library, 5, max_per_artist=None)] == [p.index for p in picks]


@pytest.mark.parametrize("mode", ["euclidean", "cone"])
def test_going_beyond_stays_just_outside(library, mode):
    hull = hull_of(library, range(20), mode)
    picks = hull.beyond(library, 10, s=1.5)
    assert len(picks) == 10 and sum(pick.within for pick in picks) >= 8
    for pick in picks:
        assert pick.gauge == pytest.approx(hull.gauge(library.embeddings[pick.index]))
        assert pick.within == (1 <= pick.gauge <= 1.5)
    assert len(set(artists_of(library, picks))) == len(artists_of(library, picks))
    assert picks == hull.beyond(library, 10, s=1.5) != hull.beyond(library, 10, s=1.5, seed=1)


def test_going_beyond_works_for_playlists_without_volume(library):
    hull = hull_of(library, range(3), num_dimensions=6)
    assert not hull.has_volume and hull.outline.has_volume and hull.outline.num_dimensions == 2
    picks = hull.beyond(library, 5, s=1.5)
    assert len(picks) == 5 and all(1 <= pick.gauge <= 1.5 and pick.within for pick in picks)
    flat = PlaylistHull.fit(library.embeddings[:3], library.names[:3])
    assert flat.outline is flat
    assert all(math.isfinite(pick.gauge) for pick in flat.beyond(library, 5))


def test_a_bridge_leads_from_one_playlist_to_the_other(library):
    first = np.argsort(library.embeddings[:, 0])
    start, end = hull_of(library, first[:8]), hull_of(library, first[-8:])
    picks = start.interpolate(end, 5, library)
    assert [pick.step for pick in picks] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])
    along = library.embeddings[[pick.index for pick in picks], 0]
    assert np.corrcoef(along, np.arange(5))[0, 1] > 0.95
    assert len({pick.name for pick in picks}) == 5
    assert not {pick.name for pick in picks} & {*start.names, *end.names}
    assert len(set(artists_of(library, picks))) == len(artists_of(library, picks))
    shares = [sum(share for name, share in pick.because if name in end.names) for pick in picks]
    assert shares == sorted(shares) and shares[0] < 0.5 < shares[-1]


def test_keys_and_tempos_make_a_bridge_smoother(library):
    first = np.argsort(library.embeddings[:, 0])
    start, end = hull_of(library, first[:8]), hull_of(library, first[-8:])

    def roughness(picks, jump):
        return sum(jump(one.index, two.index) for one, two in zip(picks, picks[1:], strict=False))

    plain = start.interpolate(end, 6, library, smoothness=0)
    by_key = start.interpolate(end, 6, library, smoothness=0, key_weight=5)
    by_tempo = start.interpolate(end, 6, library, smoothness=0, tempo_weight=5)
    assert roughness(by_key, library.key_jump) < roughness(plain, library.key_jump)
    assert roughness(by_tempo, library.tempo_jump) < roughness(plain, library.tempo_jump)


def test_a_bridge_between_single_songs_and_in_cone_mode(library):
    for mode in ("cone", "euclidean"):
        start, end = (hull_of(library, [row], mode) for row in (1, 2))
        picks = start.interpolate(end, 4, library)
        assert len({pick.index for pick in picks}) == 4 and not {1, 2} & {pick.index for pick in picks}


def test_a_bridge_over_few_songs_is_shorter_with_a_warning(library):
    few = SongLibrary(library.embeddings[100:103], library.names[100:103])
    start, end = hull_of(library, [1]), hull_of(library, [2])
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        picks = start.interpolate(end, 6, few)
    assert len({pick.index for pick in picks}) == len(picks) == 3
    assert any("3 songs instead of 6" in str(warning.message) for warning in heard)


def test_playlists_of_different_spaces_are_not_bridged(library):
    start = hull_of(library, range(5))
    elsewhere = replace(library, embeddings=library.embeddings + 1)
    for end in (hull_of(library, range(5, 10), num_dimensions=4), hull_of(elsewhere, range(5, 10))):
        with pytest.raises(ValueError, match="different spaces"):
            start.interpolate(end, 3, library)


def test_wishes_that_make_no_sense_are_refused(library):
    hull = hull_of(library, range(5))
    for call, message in [
        (lambda: hull.fill(library, 0), "0 songs were asked for"),
        (lambda: hull.fill(library, 3, diversity=2), "diversity is 2"),
        (lambda: hull.fill(library, 3, max_per_artist=0), "max_per_artist is 0"),
        (lambda: hull.beyond(library, 3, s=1.0), "above 1"),
        (lambda: hull.interpolate(hull, 0, library), "0 songs were asked for"),
        (lambda: hull.interpolate(hull, 3, library, smoothness=-1), "must not be negative"),
        (lambda: hull.fill(SongLibrary(np.eye(3), list("abc")), 1), "3 dimensions where 6 are expected"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
