# SPDX-License-Identifier: Apache-2.0
"""Playlists are continued by what was hidden of them, and the table says so only where it is sure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hf_mathrock.playlists.whitening import Whitening
from hf_mathrock.synthesis.albums import draw_albums

ROOT = Path(__file__).parents[2]
KINDS = ("mixed", "theme")
NAMES = ("mean_cosine", "max_cosine", "mahalanobis", "cone", "euclidean", "gauge")


@pytest.fixture(autouse=True)
def benchmark_modules(monkeypatch):
    """As `python benchmarks/playlists.py` finds them."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def songs():
    return [song for album in draw_albums(5, 6, songs_per_album=10, seconds=4.0) for song in album.songs]


def test_a_ranking_is_judged_without_the_given_songs():
    from playlist_ranking import Playlist, judge

    playlist = Playlist("album", given=np.array([0, 1]), wanted=np.array([2, 5]), group="X")
    scores = np.array([9.0, 8.0, 5.0, 7.0, 1.0, 2.0])
    r_precision, recall, reciprocal = judge(scores, playlist)
    assert (r_precision, recall, reciprocal) == (0.5, 1.0, 0.5)
    assert judge(-scores, playlist) == [0.5, 1.0, 0.5]
    best = np.array([0.0, 0, 1, 0, 0, 1])
    assert judge(best, playlist) == [1.0, 1.0, 1.0]


def test_playlists_hide_songs_of_what_they_are_made_of(songs):
    import playlists

    found = playlists.draw_playlists(songs)
    assert {playlist.kind for playlist in found} >= {"album", "mixed"}
    for playlist in found:
        given, wanted = ([songs[i] for i in rows] for rows in (playlist.given, playlist.wanted))
        assert not set(playlist.given) & set(playlist.wanted)
        albums = [{(song.artist, song.album) for song in part} for part in (given, wanted)]
        if playlist.kind != "theme":
            assert albums[0] == albums[1] and len(albums[0]) == (1 if playlist.kind == "album" else 2)
            assert len({artist for artist, _ in albums[0]}) == len(albums[0])
            assert len(given) + len(wanted) == 10 * len(albums[0])
        else:
            assert len({song.vibe for song in (*given, *wanted)}) == 1
    assert [p.given.tolist() for p in found] == [p.given.tolist() for p in playlists.draw_playlists(songs)]


@pytest.mark.parametrize("name", NAMES)
def test_every_way_finds_a_cluster(name):
    from playlist_ranking import METRICS, WAYS, Playlist, Setting, rank_all

    assert tuple(WAYS) == NAMES
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((6, 8)) * 6
    embeddings = np.repeat(centres, 10, axis=0) + rng.standard_normal((60, 8))
    found = Playlist("album", given=np.arange(5), wanted=np.arange(5, 10), group="X")
    setting = Setting(4, 0.6 if name == "mahalanobis" else None)
    values = rank_all(WAYS[name], setting, embeddings, Whitening.fit(embeddings), [found])
    assert values.shape == (1, len(METRICS)) and values[0, 0] >= 0.6 and values[0, 2] == 1


def test_a_hull_that_does_not_surely_win_is_labelled_experimental(songs, monkeypatch, tmp_path):
    from playlist_ranking import WAYS

    import playlists

    rng = np.random.default_rng(0)
    monkeypatch.setattr(playlists, "BANDS", {"validation": 5, "test": 6})
    monkeypatch.setattr(playlists, "SECONDS", 4.0)
    monkeypatch.setattr(playlists, "embed", lambda songs, *_: rng.standard_normal((len(songs), 6)))
    monkeypatch.setattr(playlists, "WAYS", {name: WAYS[name] for name in ("mean_cosine", "cone")})
    result = json.loads(json.dumps(playlists.measure(None, "whole", tmp_path)))
    text = playlists.render({"noise": result})
    assert "experimental" in text and "wins" not in text
    chance, (value, interval) = result["chance"]["album"], result["ways"]["cone"]["kinds"]["album"]["r_precision"]
    assert interval[0] <= value <= interval[1] and abs(value - chance) < 0.06
    result["comparison"]["album"]["wins"] = True
    assert "**The hull wins.**" in playlists.render({"noise": result})


def test_a_hull_wins_only_where_it_surely_beats_every_other_way():
    from playlist_ranking import WAYS, Playlist

    import playlists

    found = [Playlist("album", np.arange(2), np.arange(2, 4), str(number % 10)) for number in range(40)]
    rng = np.random.default_rng(0)
    ways = {name: {"validation": 0.5 + 0.1 * (name == "cone")} for name in WAYS}
    values = {name: np.tile(rng.uniform(0.2, 0.3, (40, 1)), 3) for name in WAYS}
    values["cone"] = values["mean_cosine"] + 0.3

    def compared():
        playlists_of_all = [*found, *(Playlist(kind, p.given, p.wanted, p.group) for kind in KINDS for p in found)]
        stacked = {name: np.tile(rows, (3, 1)) for name, rows in values.items()}
        return playlists.compare(stacked, ways, playlists_of_all)["album"]

    assert compared()["hull"] == "cone" and compared()["wins"]
    values["max_cosine"] = values["cone"] + rng.normal(0, 0.05, (40, 1))
    assert not compared()["wins"]
