# SPDX-License-Identifier: Apache-2.0
"""MagnaTagATune: 25,863 clips of 29 seconds with the tags that players of a game agreed on.

Source: Law et al., "Evaluation of Algorithms Using Games: The Case of Music Tagging", ISMIR 2009. Licence: the audio is
Magnatune's, CC BY-NC-SA. Labels are the 50 most frequent tags, by falling count, as musicnn and the models compared by
Won et al. (2020) put them (`models/tag_vocabularies.py`); synonyms ("female vocal", "female voice") stay apart, as they
do in every published figure.

The published split goes by folder: 0 to b train, c validation, d to f test. The clips of a song lie in one folder, the
albums of an artist do not, so artists leak. Two versions are in use, and their figures do not compare:

    untagged="drop"    clips without any of the 50 tags are left out: 15,244 / 1,529 / 4,332 (Won et al. 2020;
                       15,247 with the unreadable)
    untagged="keep"    they stay, as negatives for every tag: 18,706 / 1,825 / 5,329 (musicnn)
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any, Literal, get_args

from hf_mathrock.models.tag_vocabularies import MAGNATAGATUNE_TAGS

from .corpora import CorpusRows, inside, keep_present

Untagged = Literal["drop", "keep"]

# Clips per split. Of the training clips with a tag 15,247 are published with the unreadable, and 15,244 (Lee et al.
# 2017) without.
PUBLISHED: dict[Untagged, dict[str, int]] = {
    "drop": {"train": 15_244, "validation": 1_529, "test": 4_332},
    "keep": {"train": 18_706, "validation": 1_825, "test": 5_329},
}
# Published with 0 bytes or unreadable, and left out of every published split.
UNREADABLE: dict[int, str] = {
    35644: "6/norine_braun-now_and_zen-08-gently-117-146.mp3",
    55753: "8/jacob_heringman-josquin_des_prez_lute_settings-19-gintzler__pater_noster-204-233.mp3",
    57881: "9/american_baroque-dances_and_suites_of_rameau_and_couperin-25-le_petit_rien_xiveme_ordre_couperin"
    "-88-117.mp3",
}
_NAME = re.compile(r"(?P<artist>[^-]+)-(?P<album>.+)-(?P<track>\d+)-(?P<title>.*)-(?P<start>\d+)-(?P<end>\d+)\.mp3")
_LAYOUT = (
    "The folder should hold `annotations_final.csv` and the folders `0/` to `f/` of the unpacked mp3.zip (in it, or in "
    "`mp3/` or `audio/`)."
)


def magnatagatune_rows(folder: Path, untagged: Untagged = "drop", audio: str | Path | None = None) -> CorpusRows:
    """Rows of the 50-tag task in the published split.

    Args:
        folder: Holds `annotations_final.csv` as published (tab-separated) and the audio.
        untagged: What becomes of clips without any of the 50 tags, see above.
        audio: Folder of `0/` to `f/` if it lies elsewhere.

    Returns:
        Rows with `tag`, `split`, `artist`, `album`, `work` (one song, of which there are several clips) and `clip_id`.

    Raises:
        ValueError: The annotations or all audio is missing, or the file is not as published.
    """
    if untagged not in get_args(Untagged):
        raise ValueError(f"`untagged` is {untagged!r}; allowed are {', '.join(get_args(Untagged))}.")
    rows = _read(folder / "annotations_final.csv")
    if untagged == "drop":
        rows = [row for row in rows if row["tag"]]
    root = Path(audio) if audio is not None else _audio_folder(folder)
    for row in rows:
        row["audio"] = str(inside(root, row["song"], "annotations_final.csv"))
    notes = _count_notes(rows, untagged)
    kept, missing_notes = keep_present(rows, folder, _LAYOUT)
    tasks = [{"name": "tag", "type": "multi_label", "labels": list(MAGNATAGATUNE_TAGS)}]
    without = "without" if untagged == "drop" else "with"
    return CorpusRows(kept, tasks, f"magnatagatune, 50 tags, {without} untagged clips", notes + missing_notes)


def _count_notes(rows: list[dict[str, Any]], untagged: Untagged) -> list[str]:
    """What to say where the annotations are not those that figures are published on."""
    notes = []
    for split, published in PUBLISHED[untagged].items():
        count = sum(row["split"] == split for row in rows)
        if not published <= count <= published + (len(UNREADABLE) if split == "train" else 0):
            notes.append(
                f"annotations_final.csv has {count:,} clips for {split} (untagged={untagged!r}), published are "
                f"{published:,}; figures are not comparable with published ones"
            )
    return notes


def _audio_folder(folder: Path) -> Path:
    for root in (folder / "mp3", folder / "audio", folder):
        if any((root / name).is_dir() for name in "0123456789abcdef"):
            return root
    return folder


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise ValueError(f"{path} is missing. {_LAYOUT}")
    rows = []
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream, delimiter="\t")
        header = next(reader, [])
        absent = [name for name in ("clip_id", *MAGNATAGATUNE_TAGS, "mp3_path") if name not in header]
        if absent:
            raise ValueError(
                f"{path} has no column {', '.join(map(repr, absent[:5]))}; take the file as published (tab-separated)."
            )
        columns = {tag: header.index(tag) for tag in MAGNATAGATUNE_TAGS}
        clip_column, path_column = header.index("clip_id"), header.index("mp3_path")
        for line in reader:
            if len(line) != len(header):
                raise ValueError(f"{path}, line {reader.line_num} has {len(line)} columns, the header {len(header)}.")
            clip, song = line[clip_column], line[path_column]
            if clip.isdecimal() and UNREADABLE.get(int(clip)) == song:
                continue
            tags = [tag for tag, column in columns.items() if line[column] == "1"]
            rows.append({"audio": "", "song": song, "tag": tags, "clip_id": clip, **_described(path, song)})
    return rows


def _described(path: Path, song: str) -> dict[str, str | None]:
    """Split and groups, which only the file's name tells."""
    folder, _, name = song.partition("/")
    if len(folder) != 1 or folder not in "0123456789abcdef":
        raise ValueError(f"{path} names the clip {song!r}; clips lie in folders 0 to f.")
    split = "train" if folder < "c" else "validation" if folder == "c" else "test"
    match = _NAME.fullmatch(name)
    if match is None:
        return {"split": split, "artist": None, "album": None, "work": name}
    artist, album = match["artist"], match["album"]
    return {
        "split": split,
        "artist": artist,
        "album": f"{artist}-{album}",
        "work": f"{artist}-{album}-{match['track']}-{match['title']}",
    }
