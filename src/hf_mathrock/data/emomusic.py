# SPDX-License-Identifier: Apache-2.0
"""EmoMusic: arousal and valence of 744 excerpts of 45 seconds, from 1 to 9, each the mean of at least ten listeners.

Source: Soleymani et al., "1000 Songs for Emotional Analysis of Music", CrowdMM 2013; the audio is the Free Music
Archive's. The labels are numbers, which no tagger of this package is trained on; they are for probes.

The division is JukeMIR's (Castellon et al., ISMIR 2021): the evaluation set of MediaEval 2013 is the test set, and of
the rest a hash of the artist's name says what is for validation: 504 / 115 / 125.
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

from .corpora import CorpusRows, keep_present

PUBLISHED = {"train": 504, "validation": 115, "test": 125}
TARGETS = ("arousal", "valence")
_SUFFIXES = (".mp3", ".wav", ".flac", ".ogg")
_LAYOUT = (
    "The folder should hold `songs_info.csv` and `static_annotations.csv` (in it or in `annotations/`) and "
    "`clips_45seconds/<song id>.mp3`."
)


def emomusic_rows(folder: Path) -> CorpusRows:
    """Rows with both targets in the published split.

    Args:
        folder: Holds the two tables and the clips.

    Returns:
        Rows with `arousal` and `valence` (1 to 9), `split`, `artist` and `song_id`; it has no tasks.

    Raises:
        ValueError: A table or all audio is missing, or a table is not as published.
    """
    ratings = {
        int(row["song_id"]): row for row in _table(folder, "static_annotations.csv", "mean_arousal", "mean_valence")
    }
    rows: list[dict[str, Any]] = []
    for song in _table(folder, "songs_info.csv", "Artist", "Mediaeval 2013 set"):
        number = int(song["song_id"])
        if number not in ratings:
            raise ValueError(f"static_annotations.csv has no song {number}, which songs_info.csv has. {_LAYOUT}")
        candidates = [folder / "clips_45seconds" / f"{number}{suffix}" for suffix in _SUFFIXES]
        audio = next((path for path in candidates if path.is_file()), candidates[0])
        rows.append(
            {
                "audio": str(audio),
                "song": audio.relative_to(folder).as_posix(),
                "song_id": str(number),
                "artist": song["Artist"],
                "split": "test" if song["Mediaeval 2013 set"] == "evaluation" else _split_of(song["Artist"]),
                **{target: float(ratings[number][f"mean_{target}"]) for target in TARGETS},
            }
        )
    kept, notes = keep_present(rows, folder, _LAYOUT)
    return CorpusRows(kept, [], "EmoMusic (JukeMIR's split)", notes)


def _split_of(artist: str) -> str:
    """Two of ten artists are for validation."""
    letters = "".join(sign for sign in artist.lower() if sign.isascii() and (sign.isalpha() or sign.isspace()))
    digest = hashlib.sha1(" ".join(letters.split()).encode("utf-8"), usedforsecurity=False).hexdigest()
    return "train" if int(digest, 16) % 10 < 8 else "validation"


def _table(folder: Path, name: str, *columns: str) -> list[dict[str, str]]:
    path = next((home / name for home in (folder, folder / "annotations") if (home / name).is_file()), None)
    if path is None:
        raise ValueError(f"{name} is not in {folder}. {_LAYOUT}")
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [
            {column.strip(): (cell or "").strip() for column, cell in row.items() if column is not None}
            for row in csv.DictReader(stream)
        ]
    if absent := [column for column in ("song_id", *columns) if rows and column not in rows[0]]:
        raise ValueError(f"{path} has no column {', '.join(map(repr, absent))}; take the file as published.")
    if not rows:
        raise ValueError(f"{path} is empty. {_LAYOUT}")
    return rows
