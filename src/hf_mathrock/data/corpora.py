# SPDX-License-Identifier: Apache-2.0
"""Corpora that have a format of their own: one name, one folder, and rows that every other part reads alike.

Nothing here fetches anything: a corpus is a local copy that somebody made, with the files its publisher names.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class CorpusRows:
    """A labelled corpus before any audio is opened.

    Attributes:
        rows: A dict per recording. `audio`: path of a file. `song`: printable name, unique in the corpus. A column per
            task with labels as `encode_label` takes them, `None` where nobody knows. `split` ("train", "validation",
            "test") where one is published. `artist`, `album`, `work` (recordings of one `work` are cut from one piece)
            and what else is known (`bpm`, `key`, ...) where the corpus says so.
        tasks: `{"name", "type", "labels"}` per task, labels in the published order.
        source: Which corpus, version and selection, for a report.
        notes: What somebody who measures on this should hear: missing files, labels that could not be read. Each is
            also given as a warning.
        broken: `{"song", "error"}` for recordings that are listed but cannot be used; they have no row.
    """

    rows: list[dict[str, Any]]
    tasks: list[dict[str, Any]]
    source: str
    notes: list[str] = field(default_factory=list)
    broken: list[dict[str, str]] = field(default_factory=list)


_MIRDATA = "mirdata_corpora:mirdata_rows"

# Name → the function that reads it, "module:function" of this package; mirdata's names are passed on to the function.
CORPORA: dict[str, str] = {
    "pyjama": "pyjama_corpus:pyjama_rows",
    "mtg-jamendo": "mtg_jamendo:mtg_jamendo_rows",
    "magnatagatune": "magnatagatune:magnatagatune_rows",
    "million-song": "million_song:million_song_rows",
    "giantsteps": "giantsteps:giantsteps_rows",
    "ballroom": _MIRDATA,
    "beatport_key": _MIRDATA,
    "brid": _MIRDATA,
    "cuidado": _MIRDATA,
    "fma_keys": _MIRDATA,
    "giantsteps_key": _MIRDATA,
    "giantsteps_tempo": _MIRDATA,
    "gtzan_genre": _MIRDATA,
    "hainsworth": _MIRDATA,
    "irmas": _MIRDATA,
    "medley_solos_db": _MIRDATA,
    "openmic2018": _MIRDATA,
    "tonality_classicaldb": _MIRDATA,
}


def corpus_rows(name: str, folder: str | os.PathLike[str], **options: Any) -> CorpusRows:
    """Rows, tasks and published split of a local copy of a corpus.

    Args:
        name: A key of `CORPORA`; options may follow it, as in "mtg-jamendo:subset=genre,split=1".
        folder: Where the corpus lies; for "pyjama" also a `.pyjama` file.
        options: What the corpus' own function takes beside the folder, such as `subset` and `split` of "mtg-jamendo",
            `untagged` of "magnatagatune", `split` and `files` of "million-song", `hdf5` and `cache_dir` of "pyjama",
            `version` and `index` of mirdata's.

    Returns:
        The corpus; it has at least one row.

    Raises:
        ValueError: There is no such corpus, option or folder, or the folder does not hold what the corpus needs.
        ImportError: A package is missing; the message says how to get it.
    """
    name, _, text = name.partition(":")
    options = {**_written_options(name, text), **options}
    if name not in CORPORA:
        near = difflib.get_close_matches(str(name), CORPORA, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ValueError(
            f"there is no corpus {name!r}; {hint}Those with a reader are {', '.join(sorted(CORPORA))}. Anything else "
            "needs a metadata.csv with a column `file_name` and a column per task beside the audio."
        )
    module, function = CORPORA[name].split(":")
    read: Callable[..., CorpusRows] = getattr(importlib.import_module(f"{__package__}.{module}"), function)
    given: tuple[Any, ...] = (name, Path(folder)) if CORPORA[name] == _MIRDATA else (Path(folder),)
    _check_options(name, read, len(given), options)
    if not Path(folder).exists():
        raise ValueError(
            f"{os.fspath(folder)!r} does not exist; `folder` is a local copy of {name}, nothing is downloaded. Check "
            "the spelling and the working folder."
        )
    corpus = read(*given, **options)
    for note in corpus.notes:
        warnings.warn(f"{name}: {note}", stacklevel=2)
    return corpus


def keep_present(rows: Sequence[dict[str, Any]], folder: Path, layout: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows whose audio file is there, and a note about the others.

    A local copy may well be a part of a corpus, so a file that is not there is not a broken one.

    Args:
        rows: Rows with `audio` as a path and `song`.
        folder: Where the corpus lies, for the messages.
        layout: How the folder should look, in words.

    Returns:
        Rows kept, and at most one note.

    Raises:
        ValueError: Not one file is there.
    """
    kept = [row for row in rows if os.path.isfile(row["audio"])]
    missing = [row for row in rows if not os.path.isfile(row["audio"])]
    if not kept:
        example = f", {rows[0]['audio']} for one" if rows else ""
        raise ValueError(
            f"none of the {len(rows)} audio files are in {folder}{example}. {layout} Was the audio unpacked, and is "
            "this the right folder?"
        )
    notes = []
    if missing:
        named = ", ".join(row["song"] for row in missing[:3]) + (", ..." if len(missing) > 3 else "")
        notes.append(f"{len(missing)} of {len(rows)} audio files are not in {folder} ({named}); they are left out")
    return kept, notes


def inside(folder: Path, relative: str, told_by: str) -> Path:
    """`folder/relative`, refused where it would lead out of the folder.

    Raises:
        ValueError: The path is absolute or climbs out with `..`.
    """
    if os.path.isabs(relative) or ".." in Path(relative.replace("\\", "/")).parts or "\0" in relative:
        raise ValueError(
            f"{told_by} names {relative!r}, which lies outside {folder}; paths must be relative and stay inside the "
            "corpus. Was the list made for another machine, or tampered with?"
        )
    return folder / relative


def _written_options(name: str, text: str) -> dict[str, Any]:
    """Options in text; whole numbers become numbers."""
    options: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        option, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"{part!r} after {name!r} is no option; write {name}:option=value,option=value.")
        options[option.strip()] = int(value) if value.strip().isdecimal() else value.strip()
    return options


def _check_options(name: str, read: Callable[..., CorpusRows], num_given: int, options: dict[str, Any]) -> None:
    allowed = list(inspect.signature(read).parameters)[num_given:]
    for option in options:
        if option not in allowed:
            near = difflib.get_close_matches(option, allowed, n=1)
            hint = f" did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{name} has no option {option!r};{hint} It takes {', '.join(allowed)}.")
