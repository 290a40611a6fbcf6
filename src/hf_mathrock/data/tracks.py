# SPDX-License-Identifier: Apache-2.0
"""Tracks: whole pieces of music with a name, and what is known of whom they are by; no audio is decoded."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_mathrock.data.content import content_id
from hf_mathrock.data.corpora import corpus_rows
from hf_mathrock.library.scan import scan
from hf_mathrock.library.song_facts import song_facts


@dataclass(frozen=True)
class Track:
    """A whole piece of music.

    Attributes:
        id: Its name, unique among those that are used together.
        audio: Whatever `open_audio` reads; for `write_mel_cache` also a callable that gives a waveform.
        work: What is played: several recordings may be of one work.
        artist: Who plays.
        album: Where it appeared.
        facts: Whatever else is known, as JSON can write it.
    """

    id: str
    audio: Any
    work: str | None = None
    artist: str | None = None
    album: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def audio_stamp(audio: Any) -> str:
    """What changes when a track's audio changes, told without decoding it: of a file its size and time."""
    if callable(audio):
        return hashlib.blake2b(pickle.dumps(audio), digest_size=16).hexdigest()
    if isinstance(audio, (str, os.PathLike)):
        try:
            state = os.stat(audio)
        except (OSError, ValueError):
            return "missing"
        return f"{state.st_size} {state.st_mtime_ns}"
    try:
        return content_id(audio)
    except (OSError, TypeError):
        return "unreadable"


def tracks_in_folder(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Track]:
    """The audio files of folders, to the bottom, in natural order.

    Artist, album and title are what `song_facts` finds. Where that is nothing, artist and album are the folders that a
    file lies in, as `.../artist/album/song.flac`; of `folder/song.flac` the folder is the album. What lies in one such
    album folder has the same `folder` in its facts.

    Args:
        paths: A folder or a file, or several.

    Returns:
        Tracks, whose `id` is the path: below the folder, if just one was named.

    Raises:
        ValueError: There is no audio; the message says so of each folder.
    """
    named = [Path(paths)] if isinstance(paths, (str, os.PathLike)) else [Path(path) for path in paths]
    found = scan(named)
    if not found.files:
        reasons = "; ".join(f"{str(path)!r}: {error}" for path, error in found.errors.items())
        raise ValueError(f"There are no tracks ({reasons or 'nothing was named'}). Check the spelling and the folder.")
    roots = [path for path in named if path.is_dir()]
    tracks = []
    for file in found.files:
        root = next((root for root in roots if file.is_relative_to(root)), None)
        folders = () if root is None else file.relative_to(root).parts[:-1]
        known = song_facts(file, root)
        facts: dict[str, Any] = {"title": known["title"]}
        if len(folders) > 1:
            facts["folder"] = "/".join(folders)
        tracks.append(
            Track(
                id=(file.relative_to(root) if root is not None and len(named) == 1 else file).as_posix(),
                audio=file,
                artist=known["artist"] or (folders[-2] if len(folders) > 1 else None),
                album=known["album"] or (folders[-1] if folders else None),
                facts=facts,
            )
        )
    return tracks


def tracks_of_corpus(corpus: str, folder: str | os.PathLike[str]) -> list[Track]:
    """The recordings of a corpus that `corpus_rows` reads, with all else it says of them in `facts`, as the `split`.

    Args:
        corpus: Its name, with options, as for `corpus_rows`.
        folder: A local copy.

    Raises:
        ValueError: See `corpus_rows`.
    """
    own = ("audio", "song", "work", "artist", "album")
    return [
        Track(
            id=str(row["song"]),
            audio=row["audio"],
            **{name: None if row.get(name) is None else str(row[name]) for name in own[2:]},
            facts={name: value for name, value in row.items() if name not in own},
        )
        for row in corpus_rows(corpus, folder).rows
    ]


def tracks_of_mtg_jamendo(folder: str | os.PathLike[str], split: int = 0) -> list[Track]:
    """The 54,380 full tracks with one of the 50 most frequent tags; artists are apart in the published splits.

    Args:
        folder: See `mtg_jamendo_rows`; the audio of the data set's `raw_30s` are whole tracks.
        split: 0 to 4; what it says of a track is in `facts["split"]`.
    """
    return tracks_of_corpus(f"mtg-jamendo:subset=top50tags,split={split}", folder)
