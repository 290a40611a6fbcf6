# SPDX-License-Identifier: Apache-2.0
"""GiantSteps: keys of two-minute excerpts of electronic dance music; the 604 of GiantSteps-Key are the test songs, and
those of GiantSteps-MTG-Key that have one sure key are for training and validation.

Source: Knees et al., "Two Data Sets for Tempo Estimation and Key Detection in Electronic Dance Music Annotated from
User Corrections", ISMIR 2015; Faraldo, "Tonality Estimation in Electronic Dance Music", UPF 2017. Annotations are
published on GitHub (`GiantSteps/giantsteps-key-dataset`, `GiantSteps/giantsteps-mtg-key-dataset`); audio is Beatport's.

The division is JukeMIR's (Castellon et al., ISMIR 2021): of GiantSteps-MTG the songs of confidence 2 with a single key
(Korzeniowski and Widmer, 2018), by a hash of the artist's name; whoever has played with an artist of the validation
set, directly or over one other, belongs to it too. Where all audio is there it comes to 923 / 236 / 604. mirdata's
`giantsteps_key` is another, later edition of the test songs.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .corpora import CorpusRows, keep_present
from .mirdata_corpora import KEYS, parse_key

PUBLISHED = {"train": 923, "validation": 236, "test": 604}
_TRAIN_SHARE, _VALIDATION_SHARE = 100, 16  # before collaborators move over
_SURE = "2"
_SUFFIXES = (".mp3", ".wav", ".flac", ".ogg")
_LAYOUT = (
    "The folder should hold `giantsteps-key-dataset/` and `giantsteps-mtg-key-dataset/` as published on GitHub "
    "(`annotations/`), each with the audio in `audio/<id>.LOFI.mp3`."
)


def giantsteps_rows(folder: Path) -> CorpusRows:
    """Rows of both corpora in one split.

    Args:
        folder: Holds both, under their names, which may go on (`-master`, a commit).

    Returns:
        Rows with `key`, `split`, `artist` (a list; of the test songs it is not known) and `song_id`.

    Raises:
        ValueError: One of them, its annotations or all audio is missing, or a file is not as published.
    """
    test_home, home = (_home(folder, name) for name in ("giantsteps-key-dataset", "giantsteps-mtg-key-dataset"))
    artists = {
        row["ID"]: _names(row["ARTIST"]) for row in _table(home / "annotations" / "beatport_metadata.txt", "ARTIST")
    }
    of_validation = _validation_artists(artists.values())
    rows = []
    for row in _table(home / "annotations" / "annotations.txt", "MANUAL KEY", "C"):
        key = parse_key(row["MANUAL KEY"])
        if row["C"] != _SURE or "/" in row["MANUAL KEY"] or key is None:
            continue
        if row["ID"] not in artists:
            raise ValueError(f"beatport_metadata.txt has no song {row['ID']}, which annotations.txt has. {_LAYOUT}")
        split = "validation" if of_validation & set(artists[row["ID"]]) else "train"
        rows.append(_row(folder, home, row["ID"], key, split, artists[row["ID"]]))
    keys = sorted((test_home / "annotations" / "key").glob("*.key"))
    if not keys:
        raise ValueError(f"{test_home / 'annotations' / 'key'} holds no key files. {_LAYOUT}")
    for path in keys:
        key = parse_key(path.read_text("utf-8"))
        rows.append(_row(folder, test_home, path.name.partition(".")[0], key, "test", None))
    kept, notes = keep_present(rows, folder, _LAYOUT)
    tasks = [{"name": "key", "type": "single_label", "labels": list(KEYS)}]
    return CorpusRows(kept, tasks, "GiantSteps, trained on GiantSteps-MTG (JukeMIR's split)", notes)


def _home(folder: Path, name: str) -> Path:
    found = sorted(path for path in folder.glob(f"{name}*") if (path / "annotations").is_dir())
    if not found:
        raise ValueError(f"there is no `{name}/annotations/` in {folder}. {_LAYOUT}")
    return found[0]


def _table(path: Path, *columns: str) -> list[dict[str, str]]:
    if not path.is_file():
        raise ValueError(f"{path} is missing. {_LAYOUT}")
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [
            {name: (cell or "").strip() for name, cell in row.items() if name}
            for row in csv.DictReader(stream, delimiter="\t")
        ]
    if absent := [name for name in ("ID", *columns) if rows and name not in rows[0]]:
        raise ValueError(f"{path} has no column {', '.join(map(repr, absent))}; take the file as published.")
    return rows


def _names(artists: str) -> list[str]:
    return [name.strip() for name in artists.split(",")]


def _validation_artists(songs: Iterable[list[str]]) -> set[str]:
    """Artists whose songs are for validation; who is on one song with them is one, and once more."""
    songs = list(songs)
    found = {name for names in songs for name in names if _place(name) >= _TRAIN_SHARE}
    for _ in range(2):
        for names in songs:
            if found & set(names):
                found |= set(names)
    return found


def _place(artist: str) -> int:
    digest = hashlib.sha1(artist.lower().encode("utf-8"), usedforsecurity=False).hexdigest()
    return int(digest, 16) % (_TRAIN_SHARE + _VALIDATION_SHARE)


def _row(folder: Path, home: Path, song: str, key: str | None, split: str, artists: list[str] | None) -> dict[str, Any]:
    candidates = [home / "audio" / f"{song}.LOFI{suffix}" for suffix in _SUFFIXES]
    audio = next((path for path in candidates if path.is_file()), candidates[0])
    name = audio.relative_to(folder).as_posix()
    return {"audio": str(audio), "song": name, "song_id": song, "key": key, "split": split, "artist": artists}
