# SPDX-License-Identifier: Apache-2.0
"""The Million Song Dataset with its Last.fm tags: previews of 30 to 60 seconds, and two splits that do not compare.

    split="conventional"    201,680 / 11,774 / 28,435 songs, 50 tags by falling count. Nearly every figure is published
                            on it. Artists are on both sides. 54 of its previews are unreadable and left out.
    split="cals"            163,504 / 34,730 / 34,913 songs, 50 other tags, cleaned, and artists apart.

Sources: Bertin-Mahieux et al., "The Million Song Dataset", ISMIR 2011. The conventional split: Lee et al., SMC 2017,
jongpillee/music_dataset_split, folder `MSD_split` (also `split/msd` of minzwon/sota-music-tagging-models, whose
`msd_loader.py` lists the unreadable). CALS: Won, Choi and Serra, "Semi-supervised Music Tagging Transformer", ISMIR
2021, folder `data/splits` of minzwon/semi-supervised-music-tagging-transformer; tags from its `src/msd_config.py`.
Licence: the metadata may be used for research; the previews were 7digital's, and nobody may hand them on.

The files of the conventional split are pickles of Python 2. They are read as published, by a reader that knows lists,
dicts and arrays and refuses to run anything, so that nobody has to convert or trust them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from hf_mathrock.models.tag_vocabularies import MSD_TAGS

from .corpora import CorpusRows, inside, keep_present
from .pickled_values import read_npy, read_pickle

Split = Literal["conventional", "cals"]
Files = Literal["track", "7digital"]

CALS_TAGS: tuple[str, ...] = (
    *("rock", "pop", "indie", "alternative", "electronic", "hip-hop", "metal", "jazz", "punk", "folk"),
    *("alternative rock", "indie rock", "dance", "hard rock", "00s", "soul", "hardcore", "80s", "country"),
    *("classic rock", "punk rock", "blues", "chillout", "experimental", "heavy metal", "death metal", "90s", "reggae"),
    *("progressive rock", "ambient", "acoustic", "beautiful", "british", "rnb", "funk", "metalcore", "mellow", "world"),
    *("guitar", "trance", "indie pop", "christian", "house", "spanish", "latin", "psychedelic", "electro", "piano"),
    *("70s", "progressive metal"),
)
# Songs as published, the unreadable of the conventional split among them.
PUBLISHED: dict[str, dict[str, int]] = {
    "conventional": {"train": 201_680, "validation": 11_774, "test": 28_435},
    "cals": {"train": 163_504, "validation": 34_730, "test": 34_913},
}
_UNREADABLE = """
    TRAIISZ128F42684BB TRAONEQ128F42A8AB7 TRADRNH128E0784511 TRBGHEU128F92D778F TRCHYIF128F1464CE7 TRCVDKQ128E0790C86
    TREWVFM128F146816E TREQRIV128F1468B08 TREUVBN128F1468AC9 TRDKNBI128F14682B0 TRFWOAG128F14B12CB TRFIYAF128F14688A6
    TRGYAEZ128F14A473F TRIXPRK128F1468472 TRAQKCW128F9352A52 TRLAWQU128F1468AC8 TRMSPLW128F14A544A TRLNGQT128F1468261
    TROTUWC128F1468AB4 TRNDAXE128F934C50E TRNHIBI128EF35F57D TRMOREL128F1468AC4 TRPNFAG128F146825F TRIXPOY128F14A46C7
    TROCQVE128F1468AC6 TRPCXJI128F14688A8 TRQKRKL128F1468AAE TRPKNDC128F145998B TRRUHEH128F1468AAD TRLUSKX128F14A4E50
    TRMIRQA128F92F11F1 TRSRUXF128F1468784 TRTNQKQ128F931C74D TRTTUYE128F4244068 TRUQZKD128F1468243 TRUINWL128F1468258
    TRVRHOY128F14680BC TRWVEYR128F1458A6F TRVLISA128F1468960 TRYDUYU128F92F6BE0 TRYOLFS128F9308346 TRMVCVS128F1468256
    TRZSPHR128F1468AAC TRXBJBW128F92EBD96 TRYPGJX128F1468479 TRYNNNZ128F1468994 TRVDOVF128F92DC7F3 TRWUHZQ128F1451979
    TRXMAVV128F146825C TRYNMEX128F14A401D TREGWSL128F92C9D42 TRJKZDA12903CFBA43 TRBGJIZ128F92E42BC TRVWNOH128E0788B78
"""
UNREADABLE = frozenset(_UNREADABLE.split())
_TRACK = re.compile(r"TR[A-Z]{5}[0-9A-F]{11}")
_SUFFIXES = (".mp3", ".wav", ".flac", ".ogg", ".clip.mp3")
# The split's place in its own repository, and in those that copied it.
_PLACES = ("", "MSD_split", "split/msd", "splits", "data/splits")
_LAYOUT = {
    "conventional": (
        "The folder should hold `filtered_list_train.cP`, `filtered_list_test.cP` and `msd_id_to_tag_vector.cP` of "
        "jongpillee/music_dataset_split (in it, or in `MSD_split/` or `split/msd/`), and the previews"
    ),
    "cals": (
        "The folder should hold `train_ids.npy`, `train_binaries.npy` and the same for `valid` and `test` of "
        "minzwon/semi-supervised-music-tagging-transformer (in it, or in `splits/` or `data/splits/`), and the previews"
    ),
}
_AUDIO = (
    ", in `audio/` or in it, either by track as `A/B/C/TRABC....mp3` (letters 3 to 5 of the track's name; .wav, .flac "
    "or .ogg will do) or by 7digital's number as `8/9/8947470.clip.mp3`, for which `MSD_id_to_7D_id.pkl` and "
    "`7D_id_to_path.pkl` are needed. Arrays (.npy) that other projects made of the previews are no audio files."
)


def million_song_rows(
    folder: Path, split: Split = "conventional", audio: str | Path | None = None, files: Files | None = None
) -> CorpusRows:
    """Rows of one of the two 50-tag tasks in its published split.

    Args:
        folder: Holds the published files of the split, and the previews.
        split: Which of the two; their tags and songs differ.
        audio: Folder of the previews if it lies elsewhere.
        files: How they are called: by "track" or by number at "7digital". `None`: the form most of them are found in.

    Returns:
        Rows with `tag`, `split` and `track`, and with `artist` and `title` where MSD's own `unique_tracks.txt` lies in
        the folder, too; by it one hears of artists on both sides of the conventional split.

    Raises:
        ValueError: A file of the split or all audio is missing, or a file is not as published.
    """
    if split not in get_args(Split):
        raise ValueError(f"there is no split {split!r} of million-song; there are {', '.join(get_args(Split))}.")
    if files is not None and files not in get_args(Files):
        raise ValueError(f"`files` is {files!r}; allowed are {', '.join(get_args(Files))}.")
    tags = MSD_TAGS if split == "conventional" else CALS_TAGS
    songs, notes, broken = (_conventional if split == "conventional" else _cals)(folder)
    for part, count in PUBLISHED[split].items():
        if len(songs[part]) != count:
            notes.append(
                f"{part} has {len(songs[part]):,} songs, published are {count:,}; figures are not comparable with "
                "published ones"
            )
    rows = [
        {"audio": "", "song": track, "tag": [tags[index] for index in np.flatnonzero(vector)], "split": part}
        for part, members in songs.items()
        for track, vector in members
        if split == "cals" or track not in UNREADABLE
    ]
    _describe(rows, folder)
    _find_audio(rows, folder, None if audio is None else Path(audio), files)
    kept, missing_notes = keep_present(rows, folder, _LAYOUT[split] + _AUDIO)
    tasks = [{"name": "tag", "type": "multi_label", "labels": list(tags)}]
    return CorpusRows(kept, tasks, f"million-song, 50 tags, {split} split", notes + missing_notes, broken)


_Songs = dict[str, list[tuple[str, np.ndarray]]]


def _conventional(folder: Path) -> tuple[_Songs, list[str], list[dict[str, str]]]:
    """Songs of every part with their tag vectors, notes, and songs without a vector."""
    lists = {}
    for name in ("train", "test"):
        path = _needed(folder, f"filtered_list_{name}.cP", "conventional")
        lists[name] = [_track(entry, path) for entry in _list(read_pickle(path), path)]
    path = _needed(folder, "msd_id_to_tag_vector.cP", "conventional")
    vectors = read_pickle(path)
    if not isinstance(vectors, dict):
        raise ValueError(f"{path} holds a {type(vectors).__name__}; a dict of tag vectors is expected.")
    cut = PUBLISHED["conventional"]["train"]
    if len(lists["train"]) <= cut:
        raise ValueError(
            f"filtered_list_train.cP names {len(lists['train']):,} songs; its first {cut:,} are training data and the "
            "rest validation, so more are needed. Take the file as published."
        )
    parts = {"train": lists["train"][:cut], "validation": lists["train"][cut:], "test": lists["test"]}
    notes = _check_tag_list(folder)
    broken = []
    songs: _Songs = {part: [] for part in parts}
    for part, tracks in parts.items():
        for track in tracks:
            vector = vectors.get(track)
            if vector is None:
                broken.append({"song": track, "error": f"{path.name} has no tags of it"})
            else:
                songs[part].append((track, _checked(np.ravel(vector), len(MSD_TAGS), path)))
    return songs, notes, broken


def _cals(folder: Path) -> tuple[_Songs, list[str], list[dict[str, str]]]:
    songs: _Songs = {}
    for part, name in (("train", "train"), ("validation", "valid"), ("test", "test")):
        path = _needed(folder, f"{name}_ids.npy", "cals")
        tracks = [_track(entry, path) for entry in _list(read_npy(path), path)]
        path = _needed(folder, f"{name}_binaries.npy", "cals")
        vectors = np.asarray(read_npy(path))
        if vectors.ndim != 2 or len(vectors) != len(tracks):
            raise ValueError(f"{path} has the shape {vectors.shape}; {len(tracks)} songs by {len(CALS_TAGS)} expected.")
        _checked(vectors, len(CALS_TAGS), path)
        songs[part] = list(zip(tracks, vectors, strict=True))
    return songs, [], []


def _files(folder: Path, name: str) -> Iterator[Path]:
    return (folder / place / name for place in _PLACES if (folder / place / name).is_file())


def _needed(folder: Path, name: str, split: str) -> Path:
    path = next(_files(folder, name), None)
    if path is None:
        raise ValueError(f"{folder / name} is missing. {_LAYOUT[split]}{_AUDIO}")
    return path


def _list(found: Any, path: Path) -> list[Any]:
    if isinstance(found, dict) or not hasattr(found, "__len__") or not len(found):
        raise ValueError(f"{path} holds no list of songs; take the file as published.")
    return list(found)


def _track(entry: Any, path: Path) -> str:
    name = entry.decode("ascii", "replace") if isinstance(entry, bytes) else str(entry)
    if not _TRACK.fullmatch(name):
        raise ValueError(f"{path} names the track {name!r}; they are called like 'TRAAAAW128F429D538'.")
    return name


def _checked(vectors: np.ndarray, count: int, path: Path) -> np.ndarray:
    if vectors.shape[-1] != count or vectors.dtype.kind not in "biuf" or not np.isin(vectors, (0, 1)).all():
        raise ValueError(f"{path} has tags of shape {vectors.shape}, {vectors.dtype}; {count} zeros and ones expected.")
    return vectors


def _check_tag_list(folder: Path) -> list[str]:
    """Vectors say nothing of what their places mean; the list beside them does."""
    for path in _files(folder, "50tagList.txt"):
        listed = path.read_text("utf-8").split("\n")
        if [tag.strip().casefold() for tag in listed if tag.strip()] != [tag.casefold() for tag in MSD_TAGS]:
            raise ValueError(
                f"{path} lists other tags, or in another order, than the published 50; the vectors beside it cannot be "
                "read by the published list. Take all files of the split from one place."
            )
    return []


def _describe(rows: list[dict[str, Any]], folder: Path) -> None:
    """Fill `artist` and `title` where MSD's list of all tracks is there."""
    path = next(_files(folder, "unique_tracks.txt"), None)
    if path is None:
        return
    wanted = {row["song"]: row for row in rows}
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            track, *described = line.rstrip("\n").split("<SEP>")
            if track in wanted and len(described) == 3:
                wanted[track]["artist"], wanted[track]["title"] = described[1:]
    for row in rows:
        row.setdefault("artist", None)
        row.setdefault("title", None)


def _find_audio(rows: list[dict[str, Any]], folder: Path, audio: Path | None, files: Files | None) -> None:
    """Fill `audio` by the one root and naming that most of a sample are found under."""
    namings: list[Callable[[str], str]] = []
    if files != "7digital":
        namings += [functools.partial(_by_track, suffix=suffix) for suffix in _SUFFIXES]
    if files != "track":
        paths = _paths_at_7digital(folder, required=files == "7digital")
        if paths:
            namings.append(lambda track: paths.get(track, f"{track}, which 7digital does not number"))
    roots = [audio] if audio is not None else [folder / name for name in ("audio", "mp3", "wav", "data/audio", "")]
    sample = [row["song"] for row in rows[:: max(1, len(rows) // 1000)]]
    found = [
        (sum((root / naming(track)).is_file() for track in sample), -number, root, naming)
        for number, (root, naming) in enumerate((root, naming) for root in roots for naming in namings)
    ]
    _, _, root, naming = max(found, key=lambda entry: entry[:2])
    for row in rows:
        row["audio"] = str(inside(root, naming(row["song"]), "7D_id_to_path.pkl"))


def _by_track(track: str, suffix: str) -> str:
    return f"{track[2]}/{track[3]}/{track[4]}/{track}{suffix}"


def _paths_at_7digital(folder: Path, required: bool) -> dict[str, str]:
    """Track → path of its preview; empty where the two maps are not there."""
    names = ("MSD_id_to_7D_id.pkl", "7D_id_to_path.pkl")
    if required:
        maps = [read_pickle(_needed(folder, name, "conventional")) for name in names]
    else:
        there = [next(_files(folder, name), None) for name in names]
        maps = [read_pickle(path) for path in there if path is not None]
    if len(maps) < 2:
        return {}
    for name, found in zip(names, maps, strict=True):
        if not isinstance(found, dict):
            raise ValueError(f"{name} holds a {type(found).__name__}; a dict is expected. Take the file as published.")
    numbers, paths = maps
    by_number = {str(number): str(path) for number, path in paths.items()}
    return {track: by_number[str(number)] for track, number in numbers.items() if str(number) in by_number}
