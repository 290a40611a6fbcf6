# SPDX-License-Identifier: Apache-2.0
"""Playlists that players can read, whatever songs are called."""

import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from hf_mathrock.library.playlist_files import PlaylistEntry, read_playlist, write_playlist

XSPF = "{http://xspf.org/ns/0/}"
NAMES = (
    ["plain.mp3", "with space.mp3", "Sigur Rós – Ágætis.mp3", "コード.mp3", "#1 Hit.mp3", "a & b <c> \"d\" 'e'.mp3"]
    + ["100%25.mp3", "a:b.mp3", "what?.mp3", "[live];v=1.mp3", " leading.mp3", "trailing .mp3 ", "new\nline.mp3"]
    + ["emoji 🎸.mp3", "back\\slash.mp3", "　wide.mp3", "file:x.mp3"]
)


@pytest.fixture
def songs(tmp_path):
    folder = tmp_path / "my music"
    folder.mkdir()
    for name in NAMES:
        (folder / name).touch()
    return [str(folder / name) for name in NAMES]


@pytest.mark.parametrize("suffix", [".m3u8", ".xspf"])
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("place", ["list", "lists/list", "my music/list"])
def test_every_name_is_found_again(songs, tmp_path, suffix, relative, place):
    path = tmp_path / f"{place}{suffix}"
    write_playlist(path, [PlaylistEntry(song, duration=61.4) for song in songs], relative=relative)
    assert read_playlist(path) == songs
    assert all(os.path.exists(song) for song in read_playlist(path))


def test_an_m3u8_is_what_players_expect(tmp_path):
    path = tmp_path / "list.m3u8"
    entries = [
        PlaylistEntry(tmp_path / "a.mp3", "Blue", "Maps", "First", 183.5),
        PlaylistEntry(tmp_path / "b.mp3", "Evil\n#EXTINF:0,injected"),
    ]
    write_playlist(path, entries, name="My list", relative=True)
    assert path.read_bytes() == (
        b"#EXTM3U\n#PLAYLIST:My list\n#EXTINF:184,Maps - Blue\na.mp3\n#EXTINF:-1,Evil #EXTINF:0,injected\nb.mp3\n"
    )


def test_a_line_that_cannot_be_a_path_is_a_uri(tmp_path):
    write_playlist(tmp_path / "list.m3u8", [PlaylistEntry(tmp_path / "a\nb.mp3")], relative=True)
    line = (tmp_path / "list.m3u8").read_text().splitlines()[-1]
    assert line == f"file://{tmp_path}/a%0Ab.mp3"


def test_an_xspf_is_what_its_specification_says(tmp_path):
    path = tmp_path / "list.xspf"
    entry = PlaylistEntry(tmp_path / "ä & b.mp3", "Blue \x01 & <b>", "Maps", "First", 183.4567, "60 % A + 40 % B")
    write_playlist(path, [entry, PlaylistEntry(tmp_path / "c.mp3")])
    root = ElementTree.fromstring(path.read_bytes())
    assert root.tag == f"{XSPF}playlist" and root.attrib == {"version": "1"}
    assert [child.tag for child in root] == [f"{XSPF}{name}" for name in ("title", "creator", "trackList")]
    track, bare = root.find(f"{XSPF}trackList")
    told = {child.tag.removeprefix(XSPF): child.text for child in track}
    location = urlsplit(told.pop("location"))
    assert location.scheme == "file" and location.netloc == "" and unquote(location.path) == str(entry.file)
    assert location.path.isascii() and " " not in location.path
    assert told == {
        "title": "Blue & <b>",
        "creator": "Maps",
        "annotation": "60 % A + 40 % B",
        "album": "First",
        "duration": "183457",
    }
    assert [child.tag.removeprefix(XSPF) for child in bare] == ["location", "title"]


def test_names_that_are_no_utf8_are_found_again(tmp_path):
    name = os.fsdecode(b"caf\xe9.mp3")
    for suffix in (".m3u8", ".xspf"):
        path = tmp_path / f"list{suffix}"
        write_playlist(path, [PlaylistEntry(tmp_path / name)])
        path.read_bytes().decode("utf-8")
        assert read_playlist(path) == [str(tmp_path / name)]


def test_another_suffix_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"'list.pls' does not say.*\.m3u8 or \*\.xspf"):
        write_playlist(tmp_path / "list.pls", [])
    assert list(tmp_path.iterdir()) == []


def test_a_playlist_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "list.m3u8"
    write_playlist(path, [PlaylistEntry("a.mp3")])
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_playlist(path, [PlaylistEntry("b.mp3")])
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["list.m3u8"]


def test_playlists_of_others_are_read(tmp_path):
    path = tmp_path / "list.m3u"
    path.write_bytes(
        b"\xef\xbb\xbf#EXTM3U\r\n#EXTINF:1,x\r\nsub/a.mp3\r\n\r\nhttp://example.org/b.mp3\r\n/abs/c.mp3\r\n"
    )
    assert read_playlist(path) == [str(tmp_path / "sub" / "a.mp3"), "/abs/c.mp3"]
    path.write_bytes("Sigur Rós.mp3\n".encode("latin-1"))
    assert read_playlist(path) == [str(tmp_path / "Sigur Rós.mp3")]
    path = tmp_path / "list.xspf"
    path.write_text("no playlist")
    with pytest.raises(ValueError, match="no XSPF playlist"):
        read_playlist(path)


def test_an_empty_playlist_is_a_playlist(tmp_path):
    for suffix in (".m3u8", ".xspf"):
        write_playlist(tmp_path / f"list{suffix}", [])
        assert read_playlist(Path(tmp_path / f"list{suffix}")) == []
