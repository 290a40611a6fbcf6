# SPDX-License-Identifier: Apache-2.0
"""What a table says of its rows beside labels: their names, their splits, and which of them belong together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hf_mathrock.data.sources import SPLIT_COLUMNS, Part, column_values, find_column, require_column, same_column
from hf_mathrock.data.splitting import GROUP_COLUMNS, split_name
from hf_mathrock.models.audio_opening import printable_name


def song_names(part: Part, audio_column: str) -> list[str]:
    """A printable name per row: a column `song` that has one for each, the file's name, or the row's number."""
    if "song" in part.rows.column_names:
        songs = column_values(part.rows, "song")
        if all(isinstance(song, str) and song for song in songs) and len(set(songs)) == len(songs):
            return [printable_name(song) for song in songs]
    return [
        part.prefix + (printable_name(path) if path else f"row {row + 1}")
        for row, path in enumerate(_paths(part, audio_column))
    ]


def _paths(part: Part, audio_column: str) -> list[str | None]:
    """The paths of a column of audio, without reading stored bytes."""
    import pyarrow.compute

    paths: list[str | None] = []
    for batch in part.rows.select_columns([audio_column]).with_format("arrow").iter(1000):
        values = batch.column(audio_column)
        if hasattr(values.type, "fields"):  # a struct: of samples, where it has no path
            known = "path" in [field.name for field in values.type.fields]
            paths += pyarrow.compute.struct_field(values, "path").to_pylist() if known else [None] * len(values)
        else:
            paths += [str(value) if isinstance(value, (str, int)) else None for value in values.to_pylist()]
    # Of a path that leads anywhere the last part says enough.
    return [os.path.basename(path) if path and os.path.isabs(path) else path for path in paths]


def given_splits(parts: Sequence[Part], audio_columns: Sequence[str]) -> list[list[str]] | None:
    """Per part the split of every row, or `None` where none is given; one that is all training data is none.

    Raises:
        ValueError: Something else than a split stands in the column `split`.
    """
    given = []
    for part, column in zip(parts, audio_columns, strict=True):
        splits = [part.split] * len(part.rows) if part.split else _split_column(part) or _first_folders(part, column)
        if splits is None:
            return None
        given.append(splits)
    return None if {split for splits in given for split in splits} == {"train"} else given


def _split_column(part: Part) -> list[str] | None:
    for wanted in SPLIT_COLUMNS:
        column = find_column(part.rows.column_names, wanted)
        if column is None:
            continue
        said = column_values(part.rows, column)
        splits = [split_name(value) for value in said]
        if all(splits):
            return [split for split in splits if split]
        if column.casefold() == SPLIT_COLUMNS[0] and any(value is not None for value in said):
            row = splits.index(None)
            raise ValueError(
                f"row {row + 1} of {part.place} has the split {said[row]!r}; allowed are train, validation (valid, "
                "val, dev, eval) and test, in every row or in none. If the column means something else, rename it."
            )
    return None


def _first_folders(part: Part, audio_column: str) -> list[str] | None:
    """The splits that paths such as `test/song.wav` of a table in the root of a folder tell."""
    if part.folder is None or part.roots is None:
        return None
    paths = [Path(path or "").parts for path in _paths(part, audio_column)]
    splits = [split_name(path[0]) if len(path) > 1 else None for path in paths]
    return [split for split in splits if split] if all(splits) else None


def group_columns(parts: Sequence[Part], group_by: str | Sequence[str] | None) -> list[str]:
    """The columns whose equal values tie rows together.

    Raises:
        ValueError: One that the caller named is not there.
    """
    names = list(dict.fromkeys(name for part in parts for name in part.rows.column_names))
    if group_by is None:
        found = [name for wanted in GROUP_COLUMNS for name in names if same_column(name) == wanted]
        # Album titles recur among artists ("Live"), and an artist's albums belong together anyway.
        if any(same_column(name).startswith("artist") for name in found):
            found = [name for name in found if not same_column(name).startswith("album")]
        return found
    wanted_columns = [group_by] if isinstance(group_by, str) else group_by
    return [require_column(names, wanted, parts[0].place, "group_by") for wanted in wanted_columns]
