# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import soundfile

from hf_mathrock.library.song_facts import one_line, song_facts


@pytest.mark.parametrize(
    ("path", "artist", "album", "title"),
    [
        ("music/Maps/First/03 Blue.mp3", "Maps", "First", "Blue"),
        ("music/Maps/First/1-03. Blue.mp3", "Maps", "First", "Blue"),
        ("music/Maps - Blue.mp3", "Maps", None, "Blue"),
        ("music/04 Maps - Blue.mp3", "Maps", None, "Blue"),
        ("music/Maps/First/Guest - Blue.mp3", "Guest", "First", "Blue"),
        # One folder may be an artist, an album, a genre or a year; three may be anything.
        ("music/2019/Blue.mp3", None, None, "Blue"),
        ("music/rock/Maps/First/Blue.mp3", None, None, "Blue"),
        ("elsewhere/Maps/First/Blue.mp3", None, None, "Blue"),
        ("music/99.mp3", None, None, "99"),
        ("music/1979.mp3", None, None, "1979"),
    ],
)
def test_paths_tell_what_they_can(path, artist, album, title):
    assert song_facts(path, "music") == {"artist": artist, "album": album, "title": title}


@pytest.mark.parametrize(("suffix", "kind"), [(".mp3", "MP3"), (".flac", "FLAC"), (".ogg", "OGG"), (".wav", "WAV")])
def test_tags_go_before_names(tmp_path, suffix, kind):
    path = tmp_path / f"Other - Name{suffix}"
    with soundfile.SoundFile(path, "w", 8000, 1, format=kind) as file:
        file.artist, file.title = "Björk", "Jóga & Friends"
        file.write(np.zeros(4000))
    assert song_facts(path) == {"artist": "Björk", "album": None, "title": "Jóga & Friends"}


def test_a_file_that_is_no_audio_is_known_by_its_name(tmp_path):
    (tmp_path / "Maps - Blue.m4a").write_text("nothing")
    assert song_facts(tmp_path / "Maps - Blue.m4a")["artist"] == "Maps"


def test_what_becomes_one_line():
    assert one_line("a\n#EXTM3U\x00\tb ") == "a #EXTM3U b"
    assert one_line("caf\udce9") == "caf?"
