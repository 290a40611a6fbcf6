# SPDX-License-Identifier: Apache-2.0
"""Rows put together: the source's own columns and ours, split by split, with no audio copied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_mathrock.data.audio_rows import CheckedAudio
from hf_mathrock.data.sources import Part, column_values
from hf_mathrock.models.objectives import UNKNOWN


def with_our_columns(
    part: Part,
    audio_column: str,
    audio: CheckedAudio,
    tasks: Sequence[Mapping[str, Any]],
    labels: Mapping[str, np.ndarray],
    groups: Sequence[str],
    songs: Sequence[str],
) -> Any:
    """The rows of a part with `audio`, `labels`, `group` and `song`.

    A column of the source that has one of these names and says something else is called `source_...`.

    Returns:
        A `datasets.Dataset` with as many rows as the part.
    """
    import pyarrow as pa
    from datasets import Audio, Dataset, concatenate_datasets

    ours = {"group": list(groups), "song": list(songs)}
    rows = part.rows.with_format(None)
    if audio.replaced is not None:
        rows = rows.remove_columns([audio_column]) if audio_column == "audio" else rows
    elif audio_column != "audio":
        rows = _moved(rows, "audio").rename_column(audio_column, "audio")
    for name, values in ours.items():
        if name in rows.column_names and column_values(rows, name) == values:
            rows = rows.remove_columns([name])
    if isinstance(rows.features.get("labels"), dict):
        rows = rows.remove_columns(["labels"])
    for name in ("labels", *ours, *(["audio"] if audio.replaced is not None else [])):
        rows = _moved(rows, name)

    arrays: dict[str, Any] = {}
    if audio.replaced is not None:
        stored = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        arrays["audio"] = pa.array(audio.replaced, stored)
    arrays["labels"] = label_array(tasks, labels)
    arrays.update((name, pa.array(values, pa.string())) for name, values in ours.items())
    added = Dataset(pa.table(arrays))
    whole = concatenate_datasets([rows, added], axis=1) if rows.column_names else added
    return whole.cast_column("audio", Audio(decode=False))


def _moved(rows: Any, name: str) -> Any:
    return rows.rename_column(name, f"source_{name}") if name in rows.column_names else rows


def label_array(tasks: Sequence[Mapping[str, Any]], labels: Mapping[str, np.ndarray]) -> Any:
    """Labels as an Arrow array of structs: per task int64, or a list of float32."""
    import pyarrow as pa

    fields = {}
    for task in tasks:
        values = labels[task["name"]]
        if task["type"] == "single_label":
            fields[task["name"]] = pa.array(values, pa.int64())
        else:
            ends = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
            fields[task["name"]] = pa.ListArray.from_arrays(ends, pa.array(values.reshape(-1), pa.float32()))
    return pa.StructArray.from_arrays(list(fields.values()), list(fields))


def selected(parts: Sequence[Any], rows: np.ndarray) -> Any:
    """Some rows, counted through all parts, as one data set."""
    from datasets import concatenate_datasets

    chosen, start = [], 0
    for part in parts:
        own = rows[(rows >= start) & (rows < start + len(part))] - start
        if len(own):
            chosen.append(part.select(own))
        start += len(part)
    return chosen[0] if len(chosen) == 1 else concatenate_datasets(chosen)


def label_counts(
    tasks: Sequence[Mapping[str, Any]], labels: Mapping[str, np.ndarray], rows: Mapping[str, np.ndarray]
) -> dict[str, dict[str, dict[str, Any]]]:
    """`known`, split → task → songs with a known label; `label_counts`, split → task → label → songs that have it."""
    known: dict[str, dict[str, Any]] = {split: {} for split in rows}
    counts: dict[str, dict[str, Any]] = {split: {} for split in rows}
    for split, index in rows.items():
        for task in tasks:
            name, values = task["name"], labels[task["name"]][index]
            if task["type"] == "single_label":
                known[split][name] = int((values != UNKNOWN).sum())
                numbers = [int((values == position).sum()) for position in range(len(task["labels"]))]
            else:
                known[split][name] = int((values != UNKNOWN).any(axis=1).sum())
                numbers = (values > 0.5).sum(axis=0).tolist()
            counts[split][name] = dict(zip(task["labels"], numbers, strict=True))
    return {"known": known, "label_counts": counts}


def label_sets(
    tasks: Sequence[Mapping[str, Any]], labels: Mapping[str, np.ndarray], rows: np.ndarray
) -> list[list[tuple[str, int]]]:
    """Per row the labels it has, as (task, position)."""
    sets: list[list[tuple[str, int]]] = [[] for _ in rows]
    for task in tasks:
        name, values = task["name"], labels[task["name"]][rows]
        if task["type"] == "single_label":
            pairs = [(row, int(value)) for row, value in enumerate(values) if value != UNKNOWN]
        else:
            pairs = [(int(row), int(label)) for row, label in np.argwhere(values > 0.5)]
        for row, label in pairs:
            sets[row].append((name, label))
    return sets
