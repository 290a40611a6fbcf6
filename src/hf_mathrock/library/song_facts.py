# SPDX-License-Identifier: Apache-2.0
"""Artist, album and title of a song, from its tags, or else from how its file and folders are called."""

from __future__ import annotations

import os
import re
from pathlib import Path

FACTS = ("artist", "album", "title")
_NUMBER = re.compile(r"^\d{1,3}(?:[.\-_ ]+|-\d+[.\-_ ]+)(?=\D)")
_MAX_LENGTH = 1000  # characters; what is longer is no name


def song_facts(file: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None) -> dict[str, str | None]:
    """What is known of a song without listening to it.

    Tags go first. What they leave open is read off the path: `Artist - Title` of the file's name, and of a file just
    two folders below the searched one `Artist/Album/Title`, with or without the number of the track.

    Args:
        file: Audio file; one that cannot be read has no tags.
        folder: The folder in which it was found; `None`: its own name only is looked at.

    Returns:
        `artist`, `album` and `title`; `None` where nothing tells.

    Example:
        >>> song_facts("music/Maps/Opening Titles/03 Blue.flac", "music")
        {'artist': 'Maps', 'album': 'Opening Titles', 'title': 'Blue'}
    """
    named = _from_path(Path(file), folder)
    tagged = _tags(file)
    return {name: tagged.get(name) or named.get(name) for name in FACTS}


def one_line(text: str) -> str:
    """Text without line breaks, control characters and what no UTF-8 file can hold."""
    printable = "".join(" " if ord(letter) < 32 or ord(letter) == 127 else letter for letter in text)
    return " ".join(printable.encode("utf-8", "replace").decode().split())[:_MAX_LENGTH]


def _tags(file: str | os.PathLike[str]) -> dict[str, str]:
    """The tags that libsndfile reads: of MP3, FLAC, OGG, WAV and AIFF."""
    import soundfile

    try:
        with soundfile.SoundFile(file) as opened:
            written = opened.copy_metadata()
    except (OSError, RuntimeError, TypeError, ValueError):  # other formats; decoding them is not worth the tags
        return {}
    return {name: one_line(written[name]) for name in FACTS if isinstance(written.get(name), str)}


def _from_path(file: Path, folder: str | os.PathLike[str] | None) -> dict[str, str]:
    stem = one_line(_NUMBER.sub("", file.stem))
    artist, dash, title = stem.partition(" - ")
    found = {"artist": artist.strip(), "title": title.strip()} if dash and artist and title else {"title": stem}
    if folder is None:
        return found
    try:
        above = file.relative_to(folder).parts[:-1]
    except ValueError:
        return found
    if len(above) == 2:
        return {"artist": one_line(above[0]), "album": one_line(above[1]), **found}
    return found
