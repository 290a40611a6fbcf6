# SPDX-License-Identifier: Apache-2.0
"""Playlists as players read them: M3U8 and XSPF."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes, urlsplit

from hf_mathrock.library.song_facts import one_line

SUFFIXES = (".m3u8", ".xspf")
READABLE = (*SUFFIXES, ".m3u")
_NAMESPACE = "http://xspf.org/ns/0/"
# Characters that XML 1.0 has no way to write; of others beyond ASCII ElementTree takes care.
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Paths that a line of UTF-8 cannot hold, or a player would trim.
_NO_LINE = re.compile("[\\x00-\\x1f\\x7f\\x85\\u2028\\u2029\\ud800-\\udfff]|^ | $")
# Relative paths that begin like a comment or a URI.
_LIKE_NO_PATH = re.compile("#|[A-Za-z][A-Za-z0-9+.-]+:")
_SAFE_IN_URIS = "/-._~!$&'()*+,;=@"


@dataclass(frozen=True)
class PlaylistEntry:
    """A song of a playlist.

    Attributes:
        file: Its path, from the working folder or absolute.
        title: What it is called; `None`: as its file.
        artist: Who plays.
        album: Where it appeared.
        duration: Seconds.
        note: Why it is there; only XSPF has a place for it.
    """

    file: str | os.PathLike[str]
    title: str | None = None
    artist: str | None = None
    album: str | None = None
    duration: float | None = None
    note: str | None = None

    @property
    def label(self) -> str:
        """`Artist - Title`, or what is known of it."""
        title = one_line(self.title or Path(self.file).stem)
        return f"{one_line(self.artist)} - {title}" if self.artist else title


def write_playlist(
    path: str | os.PathLike[str], entries: Iterable[PlaylistEntry], *, name: str | None = None, relative: bool = False
) -> None:
    """Writes a playlist that is there whole or not at all.

    Args:
        path: `*.m3u8` or `*.xspf`; the suffix says which.
        entries: Its songs, in order.
        name: What the playlist is called; default as its file.
        relative: Name songs relative to the playlist, so that both can move together; else absolute.

    Raises:
        ValueError: The suffix is another.
        OSError: It cannot be written.

    Source: the M3U that players share (`#EXTM3U`, and per song `#EXTINF:seconds,label` and its path; UTF-8, `#` begins
    a comment) and XSPF version 1 of Xiph (https://xspf.org/spec): locations are URIs, durations milliseconds.
    """
    path = Path(path)
    kind = checked_suffix(path)
    songs = list(entries)
    title = one_line(name or path.stem)
    content = (_m3u8 if kind == ".m3u8" else _xspf)(songs, title, os.path.realpath(path.parent), relative)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def checked_suffix(path: str | os.PathLike[str]) -> str:
    """The suffix of a playlist that can be written.

    Raises:
        ValueError: It is another.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{Path(path).name!r} does not say what kind of playlist it is; call it *.m3u8 or *.xspf")
    return suffix


def _m3u8(songs: list[PlaylistEntry], title: str, folder: str, relative: bool) -> bytes:
    lines = ["#EXTM3U", f"#PLAYLIST:{title}"]
    for song in songs:
        seconds = -1 if song.duration is None else round(song.duration)
        place = _place(song, folder, relative)
        if _NO_LINE.search(place):
            place = _uri(_place(song, folder, False))
        elif _LIKE_NO_PATH.match(place):
            place = f".{os.sep}{place}"
        lines += [f"#EXTINF:{seconds},{song.label}", place]
    return ("\n".join(lines) + "\n").encode()


def _xspf(songs: list[PlaylistEntry], title: str, folder: str, relative: bool) -> bytes:
    root = ElementTree.Element("playlist", {"version": "1", "xmlns": _NAMESPACE})
    _add(root, "title", title)
    _add(root, "creator", "hf-mathrock")
    tracks = ElementTree.SubElement(root, "trackList")
    for song in songs:
        track = ElementTree.SubElement(tracks, "track")
        _add(track, "location", _uri(_place(song, folder, relative)))
        _add(track, "title", song.title or Path(song.file).stem)
        _add(track, "creator", song.artist)
        _add(track, "annotation", song.note)
        _add(track, "album", song.album)
        if song.duration is not None:
            _add(track, "duration", str(round(1000 * song.duration)))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def _add(parent: ElementTree.Element, name: str, text: str | None) -> None:
    if text:
        ElementTree.SubElement(parent, name).text = _NOT_IN_XML.sub("\ufffd", one_line(text))


def _place(song: PlaylistEntry, folder: str, relative: bool) -> str:
    absolute = os.path.abspath(song.file)
    if relative:
        try:
            return os.path.relpath(absolute, folder)
        except ValueError:  # another drive of Windows
            pass
    return absolute


def _uri(place: str) -> str:
    """A path as a URI, by its bytes; a relative one as a reference to the playlist's own."""
    if os.path.isabs(place):
        drive, rest = os.path.splitdrive(place)
        shown = quote(os.fsencode(rest.replace(os.sep, "/")), safe=_SAFE_IN_URIS)
        return f"file:///{quote(drive, safe=':')}{shown}" if drive else f"file://{shown}"
    # A colon in the first part would make a scheme of it; it is quoted everywhere.
    return quote(os.fsencode(place.replace(os.sep, "/")), safe=_SAFE_IN_URIS)


def read_playlist(path: str | os.PathLike[str]) -> list[str]:
    """The files that a playlist names, in order.

    Args:
        path: `*.m3u8`, `*.m3u` or `*.xspf`.

    Returns:
        Absolute paths; addresses on the network are passed over.

    Raises:
        ValueError: It is no such playlist.
        OSError: It cannot be read.
    """
    path = Path(path)
    content = path.read_bytes()
    if path.suffix.lower() == ".xspf":
        try:
            root = ElementTree.fromstring(content)
        except ElementTree.ParseError as error:
            raise ValueError(f"{path} is no XSPF playlist, for it is no XML: {error}") from error
        tracks = root.iter(f"{{{_NAMESPACE}}}track")
        found = [(track.findtext(f"{{{_NAMESPACE}}}location") or "").strip() for track in tracks]
        places = [(place, True) for place in found if place]
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("latin-1")  # M3U of old players
        lines = [line.rstrip("\r") for line in text.split("\n")]
        places = [(line, line.lower().startswith("file:")) for line in lines if line.strip() and line[0] != "#"]
    files = [_file_of(place, path.parent, is_uri) for place, is_uri in places]
    return [file for file in files if file is not None]


def _file_of(place: str, folder: Path, is_uri: bool) -> str | None:
    parts = urlsplit(place) if is_uri or "://" in place else None
    if parts is not None:
        if parts.scheme not in ("", "file"):
            return None
        place = os.fsdecode(unquote_to_bytes(parts.path))
        if os.name == "nt" and re.match(r"/[A-Za-z]:", place):
            place = place[1:]
    return os.path.normpath(os.path.join(os.path.abspath(folder), place))
