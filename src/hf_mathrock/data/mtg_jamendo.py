# SPDX-License-Identifier: Apache-2.0
"""MTG-Jamendo: full tracks with tags of their uploaders, and five published splits by artist.

Source: Bogdanov et al., "The MTG-Jamendo Dataset for Automatic Music Tagging", 2019; MTG/mtg-jamendo-dataset.
Licence: metadata CC BY-NC-SA 4.0; the audio is under each track's own Creative Commons licence, often non-commercial.
Labels are the tags as published, with their prefix (`mood/theme---happy`), in the alphabetical order in which
scikit-learn's LabelBinarizer, and with it every published model, puts them. A track without a tag is taken not to have
it, though nobody asked its uploader.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from .corpora import CorpusRows, inside, keep_present

Subset = Literal["top50tags", "genre", "instrument", "moodtheme"]

# Tags in the published splits, the same in all five.
NUM_TAGS: dict[str, int] = {"top50tags": 50, "genre": 87, "instrument": 40, "moodtheme": 56}
# The three files of a split together, as the repository's README counts the tracks of the subset.
NUM_TRACKS: dict[str, int] = {"top50tags": 54_380}
_CATEGORIES = ("genre---", "instrument---", "mood/theme---")
_COLUMNS = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
_LAYOUT = (
    "The folder should hold the repository's `data/` (with `splits/split-0/` and so on) and the audio as "
    "`audio/00/...mp3` to `audio/99/`, or `audio-low/00/...low.mp3`."
)


def mtg_jamendo_rows(
    folder: Path, subset: Subset = "moodtheme", split: int = 0, audio: str | Path | None = None
) -> CorpusRows:
    """Rows of one subset and one published split.

    Args:
        folder: Holds the dataset repository's `data/` and the audio, `00/` to `99/`, in `audio/`, `audios/`,
            `audio-low/` or itself; files may be the full ones (`.mp3`) or the small ones (`.low.mp3`).
        subset: Which tags, also the name of the one multi-label task: the 50 most frequent, or one category.
        split: 0 to 4. Figures for models are published on 0; artists are apart in each.
        audio: Folder of `00/` to `99/` if it lies elsewhere.

    Raises:
        ValueError: A split file or all audio is missing, or a split file is not in the published format.
    """
    if subset not in get_args(Subset):
        raise ValueError(f"there is no subset {subset!r} of mtg-jamendo; there are {', '.join(get_args(Subset))}.")
    if split not in range(5):
        raise ValueError(f"there is no split {split!r} of mtg-jamendo; there are 0 to 4.")
    rows: list[dict[str, Any]] = []
    for part in ("train", "validation", "test"):
        rows += _read(_split_file(folder, subset, split, part), subset, part)
    labels = sorted({tag for row in rows for tag in row[subset]})
    notes = []
    if len(labels) != NUM_TAGS[subset]:
        notes.append(
            f"the three files of split {split} have {len(labels)} tags of {subset}; published are {NUM_TAGS[subset]}, "
            "so figures are not comparable with published ones"
        )
    if len(rows) != NUM_TRACKS.get(subset, len(rows)):
        notes.append(
            f"the three files of split {split} have {len(rows):,} tracks of {subset}; published are "
            f"{NUM_TRACKS[subset]:,}, so figures are not comparable with published ones"
        )
    _find_audio(rows, [Path(audio)] if audio is not None else _audio_folders(folder))
    kept, missing_notes = keep_present(rows, folder, _LAYOUT)
    tasks = [{"name": subset, "type": "multi_label", "labels": labels}]
    return CorpusRows(kept, tasks, f"mtg-jamendo {subset}, split {split}", notes + missing_notes)


def _split_file(folder: Path, subset: str, split: int, part: str) -> Path:
    relative = Path("splits") / f"split-{split}" / f"autotagging_{subset}-{part}.tsv"
    for root in (folder / "data", folder):
        if (root / relative).is_file():
            return root / relative
    raise ValueError(f"{folder / 'data' / relative} is missing. {_LAYOUT}")


def _audio_folders(folder: Path) -> list[Path]:
    # Beside `data/` too, for those who name that as the folder.
    return [root / name for root in (folder, folder.parent) for name in ("audio", "audios", "audio-low", "")][:7]


def _read(path: Path, subset: str, part: str) -> list[dict[str, Any]]:
    # Tags fill as many columns as there are, so this is no table for a reader of tables.
    lines = path.read_text("utf-8").splitlines()
    if not lines or lines[0].split("\t") != _COLUMNS:
        raise ValueError(
            f"{path} does not begin with the columns {' '.join(_COLUMNS)}, tab-separated; take the file as published."
        )
    rows = []
    for number, line in enumerate(lines[1:], 2):
        fields = line.rstrip("\t").split("\t")
        if len(fields) < len(_COLUMNS) or not fields[3].endswith(".mp3"):
            raise ValueError(f"{path}, line {number} has {len(fields)} columns; a track has 6 or more, the 4th an mp3.")
        track, artist, album, song, duration, *tags = fields
        if bare := [tag for tag in tags if not tag.startswith(_CATEGORIES)]:
            raise ValueError(
                f"{path}, line {number} has the tag {bare[0]!r}; tags begin with {', '.join(_CATEGORIES)}. Take the "
                "file as published: the order of labels goes by these names."
            )
        rows.append(
            {
                "audio": "",
                "song": song,
                subset: tags,
                "split": part,
                "artist": artist,
                "album": album,
                "track": track,
                "duration": float(duration),
            }
        )
    return rows


def _find_audio(rows: list[dict[str, Any]], folders: list[Path]) -> None:
    """Fill `audio` from the one folder and size that has most of the files, so that a set is never a mixture."""
    best: list[Path] = []
    best_count = -1
    for folder in folders:
        for suffix in (".mp3", ".low.mp3"):
            paths = [inside(folder, row["song"].removesuffix(".mp3") + suffix, "the split file") for row in rows]
            # No stat for the other 50,000 where the first folders (00, 01, ...) are not even there.
            count = sum(path.is_file() for path in paths) if any(path.parent.is_dir() for path in paths[:1000]) else 0
            if count > best_count:
                best, best_count = paths, count
    for row, path in zip(rows, best, strict=True):
        row["audio"] = str(path)
