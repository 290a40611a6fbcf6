# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from hf_mathrock.data.tracks import audio_stamp
from hf_mathrock.synthesis import affect
from hf_mathrock.synthesis.albums import draw_albums, facts_of_song, write_albums


@pytest.fixture(scope="module")
def albums():
    return draw_albums(3, 8, songs_per_album=6, seconds=6.0)


def test_the_same_seed_draws_the_same_albums(albums):
    assert draw_albums(3, 8, songs_per_album=6, seconds=6.0) == albums
    assert draw_albums(4, 8, songs_per_album=6, seconds=6.0) != albums


def test_another_recipe_is_other_audio_to_a_cache(albums):
    song = albums[0].songs[0]
    assert audio_stamp(replace(song, recipe=song.recipe + 1)) != audio_stamp(song) == audio_stamp(replace(song))


def test_a_band_is_the_same_whatever_comes_after_it(albums):
    fewer = draw_albums(3, 2, songs_per_album=6, seconds=6.0)
    assert [album.songs[0].seed for album in fewer] == [album.songs[0].seed for album in albums[:4]]


def test_names_tell_bands_albums_and_songs_apart(albums):
    assert len({album.artist for album in albums}) == 8
    assert len({(album.artist, album.title) for album in albums}) == 16
    for album in albums:
        assert len({song.title for song in album.songs}) == 6
        assert [song.number for song in album.songs] == list(range(1, 7))
        assert all((song.artist, song.album) == (album.artist, album.title) for song in album.songs)
        assert album.title[0].isupper()


def test_songs_of_an_album_are_near_in_tempo_key_and_vibe(albums):
    within, between = [], []
    for album in albums:
        tempos = np.log([song.bpm for song in album.songs])
        within.append(np.std(tempos))
        between.append(np.mean(tempos))
    assert np.mean(within) < 0.17 and np.std(between) > 1.2 * np.mean(within)
    for album in albums:
        sharps = [7 * (fact["key"] + RELATIVE[fact["mode"]]) % 12 for fact in map(facts_of_song, album.songs)]
        assert any(all(min((s - home) % 12, (home - s) % 12) <= 1 for s in sharps) for home in range(12)), sharps
    vibes = {album.artist: set() for album in albums}
    for album in albums:
        vibes[album.artist] |= {song.vibe for song in album.songs}
    assert max(map(len, vibes.values())) <= 3 and min(map(len, vibes.values())) < 3
    assert {vibe for found in vibes.values() for vibe in found} == set(affect.VIBES)


RELATIVE = {"major": 0, "lydian": 7, "mixolydian": 5, "dorian": 10, "minor": 3, "phrygian": 8}


def test_a_band_keeps_its_instruments_and_an_album_its_room(albums):
    first, second, stranger = albums[0], albums[1], albums[2]
    one, two = (song.variation() for song in first.songs[:2])
    later, other = second.songs[0].variation(), stranger.songs[0].variation()
    assert one.guitar_left == two.guitar_left == later.guitar_left != other.guitar_left
    assert one.kit == later.kit and one.singer == later.singer
    assert one.room == two.room != later.room
    assert one.damage == two.damage
    assert replace(one.master, level_db=0.0) == replace(two.master, level_db=0.0) != replace(later.master, level_db=0.0)
    assert one.balance_db != two.balance_db


def test_a_song_is_its_own_waveform_also_in_another_process(albums):
    song = replace(albums[0].songs[0], sampling_rate=8000)
    audio = song()
    assert audio.dtype == np.float32 and audio.ndim == 1 and 3 * 8000 < len(audio) < 12 * 8000
    assert np.abs(audio).max() > 0.05
    assert np.array_equal(pickle.loads(pickle.dumps(song))(), audio)
    facts = facts_of_song(song)
    assert facts["duration"] == pytest.approx(len(audio) / 8000, abs=1e-2)
    assert facts["tempo"] == affect.tempo_class(song.bpm) and facts["vibe"] == song.vibe


def test_albums_become_folders_with_tags(tmp_path, albums):
    album = replace(albums[0], songs=tuple(replace(song, sampling_rate=8000) for song in albums[0].songs[:2]))
    paths = write_albums(tmp_path, [album])
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        f"{album.artist}/{album.title}/{number:02d} {song.title}.flac" for number, song in enumerate(album.songs, 1)
    ]
    with soundfile.SoundFile(paths[1]) as written:
        assert (written.title, written.artist, written.album) == (album.songs[1].title, album.artist, album.title)
        assert written.samplerate == 8000 and np.abs(written.read()).max() > 0.05
    before = paths[0].stat().st_mtime_ns
    assert write_albums(tmp_path, [album]) == paths and paths[0].stat().st_mtime_ns == before
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0), "num_bands is 0"),
        ((-1, 2), "seed is -1"),
        ((0, 2, 11), "albums_per_band is 11"),
        ((0, 2, 2, 13), "songs_per_album is 13"),
        ((0, 1, 1, 1, 1.0), "seconds is 1.0"),
    ],
)
def test_albums_that_cannot_be_are_refused(arguments, message):
    names = ("seed", "num_bands", "albums_per_band", "songs_per_album", "seconds")
    with pytest.raises(ValueError, match=message):
        draw_albums(**dict(zip(names, arguments, strict=False)))
