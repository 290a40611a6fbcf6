# SPDX-License-Identifier: Apache-2.0
"""A corpus of a `.pyjama` file and the HDF5 file that belongs to it, as rows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .corpora import CorpusRows, inside, keep_present
from .hdf5_audio import Hdf5Audio, unpack_recordings
from .pyjama import PyjamaCollection, read_pyjama
from .splitting import SPLITS, split_name

CACHE_DIR = Path.home() / ".cache" / "hf-mathrock" / "hdf5"
# Free text of these names is a label as well; its labels are those that occur, in alphabetical order.
LABEL_NAMES = ("emotion", "genre", "instrument", "mood", "style", "tag", "tags", "theme", "vibe")
_COLUMNS = {
    "performer": "artist",
    "work-id": "work",
    "work_id": "work",
    "tempo": "bpm",
}
_OURS = {"audio", "song", "labels", "group"}


def pyjama_rows(
    folder: Path, hdf5: str | os.PathLike[str] | None = None, cache_dir: str | os.PathLike[str] | None = None
) -> CorpusRows:
    """Rows of a `.pyjama` file and the HDF5 file, or the audio files, that its `filepath` names.

    Global texts with a dictionary become tasks with the dictionary's labels in its order, global free texts named as in
    `LABEL_NAMES` tasks with the labels that occur; single-label if no entry has two. Other global facts become columns,
    `performer` as `artist`, `work-id` as `work`, `tempo` as `bpm`. Markers, segments and breakpoints stay in what
    `read_pyjama` gives.

    Args:
        folder: The `.pyjama` file, or a folder with one.
        hdf5: The HDF5 file; `None` takes the one of the pyjama file's name or the only one beside it, or else the
            audio files under the folder.
        cache_dir: Where recordings of the HDF5 file are unpacked to WAV files, once; `None` takes `CACHE_DIR`.

    Raises:
        ValueError: The files are not there, or one is not as it should be; see `read_pyjama` and `Hdf5Audio.recording`.
    """
    file = _only(folder, (".pyjama",)) if folder.is_dir() else folder
    if file is None:
        raise ValueError(
            f"there is no .pyjama file in {folder}; it must lie beside the .hdf5 file that it describes. Give the file "
            "itself if it is called otherwise."
        )
    collection = read_pyjama(file)
    if collection.definitions.get("filepath") is None or not collection.entries:
        raise ValueError(f"{file} has no entry with a `filepath`, so no audio belongs to it; is it the right file?")
    tasks, rows = _rows(file, collection)
    container = Path(hdf5) if hdf5 is not None else _hdf5_beside(file)
    if container is None:
        for row in rows:
            row["audio"] = str(inside(file.parent, row["song"], str(file)))
        kept, notes = keep_present(
            rows, file.parent, "It needs the .hdf5 file that belongs to it, or the audio files by their `filepath`."
        )
        return CorpusRows(kept, tasks, f"pyjama {file.name}", notes)
    with Hdf5Audio(container) as source:
        paths, errors = unpack_recordings(
            source, container, [row["song"] for row in rows], Path(cache_dir) if cache_dir is not None else CACHE_DIR
        )
    for row in rows:
        row["audio"] = str(paths.get(row["song"], ""))
    broken = [{"song": song, "error": error} for song, error in errors.items()]
    if not paths:
        raise ValueError(
            f"none of the {len(rows)} recordings that {file} names can be read from {container} (the first: "
            f"{broken[0]['error']}). Do the two belong together?"
        )
    notes = [f"{len(broken)} of {len(rows)} recordings are not usable ({broken[0]['error']})"] if broken else []
    return CorpusRows(
        [row for row in rows if row["audio"]], tasks, f"pyjama {file.name} + {container.name}", notes, broken
    )


def _rows(file: Path, collection: PyjamaCollection) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Tasks, and rows without audio."""
    names = [
        name
        for name, definition in collection.definitions.items()
        if definition.extent == "global" and definition.constraint != "filepath" and name != "filepath"
    ]
    several = {name for name in names if any(len(entry[name]) > 1 for entry in collection.entries)}
    tasks = []
    for name in names:
        labels = _labels(name, collection)
        if labels:
            kind = "multi_label" if name in several else "single_label"
            tasks.append({"name": name, "type": kind, "labels": labels})
    task_names = {task["name"] for task in tasks}
    rows = []
    for number, entry in enumerate(collection.entries):
        if len(entry["filepath"]) != 1 or not isinstance(entry["filepath"][0].value, str):
            raise ValueError(
                f"{file}: entry {number} has {len(entry['filepath'])} facts `filepath`; it needs one, a text."
            )
        row: dict[str, Any] = {"audio": "", "song": entry["filepath"][0].value}
        for name in names:
            values = [atom.value for atom in entry[name]]
            # No fact means that nobody said, not that nothing holds.
            value = None if not values else values if name in several else values[0]
            column = name if name in task_names else _COLUMNS.get(name, name)
            if column == "bpm" and collection.definitions[name].content != "numeric":
                column = name
            if column in _OURS:
                column = f"pyjama_{column}"
            if column == "split" and value is not None:
                given, value = value, split_name(value)
                if value is None:
                    raise ValueError(
                        f"{file}: entry {number} has the split {given!r}; allowed are {', '.join(SPLITS)}."
                    )
            if row.get(column) is None:
                row[column] = value
        rows.append(row)
    return tasks, rows


def _labels(name: str, collection: PyjamaCollection) -> list[str]:
    definition = collection.definitions[name]
    if definition.content != "text":
        return []
    if definition.constraint == "value_in_dictionary":
        return list(definition.dictionary)
    if name.lower() not in LABEL_NAMES:
        return []
    values = {atom.value for entry in collection.entries for atom in entry[name] if isinstance(atom.value, str)}
    return sorted(values)


def _hdf5_beside(file: Path) -> Path | None:
    for suffix in (".hdf5", ".h5"):
        if file.with_suffix(suffix).is_file():
            return file.with_suffix(suffix)
    return _only(file.parent, (".hdf5", ".h5"))


def _only(folder: Path, suffixes: tuple[str, ...]) -> Path | None:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes and path.is_file())
    if len(found) > 1:
        raise ValueError(
            f"{folder} holds several files of one kind: {', '.join(path.name for path in found)}. Give the .pyjama "
            "file in place of the folder, and the .hdf5 file by `hdf5`."
        )
    return found[0] if found else None
