# SPDX-License-Identifier: Apache-2.0
"""Labelled audio that comes row by row: nothing is counted, everything is checked as it passes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

from datasets import Audio, IterableDataset, IterableDatasetDict

from hf_mathrock.data.audio_rows import find_audio_column, stored_audio
from hf_mathrock.data.content import content_id
from hf_mathrock.data.labelled_audio import IterableLabelledAudio
from hf_mathrock.data.labels import encode_label
from hf_mathrock.data.sources import find_column, require_column, same_column
from hf_mathrock.data.splitting import GROUP_COLUMNS, group_key, split_name
from hf_mathrock.data.taxonomy import class_names
from hf_mathrock.models.audio_input import AudioReadError, open_audio
from hf_mathrock.models.audio_opening import printable_name


def stream_labelled_audio(
    source: IterableDataset | IterableDatasetDict,
    tasks: Sequence[Mapping[str, Any]] | None,
    *,
    columns: Mapping[str, str] | None,
    audio_column: str | None,
    group_by: str | Sequence[str] | None,
    shares: Mapping[str, float],
    seed: int,
) -> IterableLabelledAudio:
    """`load_labelled_audio` for a stream; its arguments are described there.

    A given split is taken as it is. Else a row goes where the hash of its group falls: of the first group column that
    has a value, or of the audio itself. Rows whose audio does not open are left out.

    Raises:
        ValueError: No tasks are given and the columns' types name no labels; a column is missing. While reading: a
            label that its task does not have.
    """
    from hf_mathrock.models.configuration_mathrock import MathRockConfig

    given = isinstance(source, IterableDatasetDict)
    streams = dict(source) if isinstance(source, IterableDatasetDict) else {"": source}
    if given and (wrong := [key for key in streams if split_name(key) is None]):
        raise ValueError(f"{wrong[0]!r} names no split; allowed are train, validation and test.")
    first = next(iter(streams.values()))
    names = list(first.column_names or next(iter(first), {}))
    if not names:
        raise ValueError("the stream is empty: it has no rows.")
    audio = find_audio_column(names, first.features, "the stream", audio_column)
    named = dict(columns or {})
    if tasks is None:
        tasks = _typed_tasks(first, named)
    complete = MathRockConfig(tasks=[dict(task) for task in tasks]).tasks
    places = {
        name: require_column(names, named[name], "the stream", "columns") if name in named else find_column(names, name)
        for name in (task["name"] for task in complete)
    }
    if not any(places.values()) and not isinstance((first.features or {}).get("labels"), dict):
        raise ValueError(
            f"the stream has no column for any of the tasks {', '.join(places)}; its columns are {', '.join(names)}. "
            "If one of them holds labels, say which: columns={'vibe': 'the column'}."
        )
    wanted = [group_by] if isinstance(group_by, str) else group_by
    if wanted is None:
        grouping = [name for known in GROUP_COLUMNS for name in names if same_column(name) == known]
    else:
        grouping = [require_column(names, name, "the stream", "group_by") for name in wanted]
    row = partial(
        _row, tasks=complete, places=places, audio=audio, grouping=grouping, class_names=_class_names(first, places)
    )

    splits = {}
    for key, stream in streams.items():
        if isinstance((stream.features or {}).get(audio), Audio):
            stream = stream.cast_column(audio, Audio(decode=False))
        prepared = stream.map(row, with_indices=True).filter(_opens)
        if given:
            splits[str(split_name(key))] = prepared
            continue
        ends = list(accumulate(shares.values()))
        ends[-1] = 1.0
        for name, start, stop in zip(shares, [0.0, *ends], ends, strict=False):
            splits[name] = prepared.filter(partial(_falls_between, start=start, stop=stop, seed=seed))
    report = {
        "source": f"{type(source).__name__} (streamed)",
        "corpus": None,
        "split": "given" if given else "by group",
        "group_by": grouping,
    }
    return IterableLabelledAudio(splits, complete, report)


def _typed_tasks(stream: IterableDataset, columns: Mapping[str, str]) -> list[dict[str, Any]]:
    """Tasks of the columns whose type names their classes: a stream cannot be searched for labels beforehand."""
    features = dict(stream.features or {})
    candidates = columns or {("label" if name == "labels" else name): name for name in features}
    tasks = []
    for task, wanted in candidates.items():
        feature = features[require_column(list(features), wanted, "the stream", "columns")]
        if (labels := class_names(feature)) is not None:
            kind = "multi_label" if hasattr(feature, "feature") else "single_label"
            tasks.append({"name": task, "type": kind, "labels": labels})
    if not tasks:
        raise ValueError(
            "a stream cannot be searched for its labels beforehand, and no column of it is a ClassLabel; pass `tasks`, "
            "or load the data whole."
        )
    return tasks


def _class_names(stream: IterableDataset, places: Mapping[str, str | None]) -> dict[str, list[str]]:
    """Task → names of a `ClassLabel` column, whose numbers count in its own order and not in the task's."""
    features = stream.features or {}
    return {task: names for task, column in places.items() if column and (names := class_names(features.get(column)))}


def _named(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, (list, tuple)):
        return [_named(entry, names) for entry in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None


def _row(
    row: Mapping[str, Any],
    index: int,
    *,
    tasks: Sequence[Mapping[str, Any]],
    places: Mapping[str, str | None],
    audio: str,
    grouping: Sequence[str],
    class_names: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """The columns of `LabelledAudio`; `audio` is `None` where there is none that could be opened."""
    try:
        stored: dict[str, Any] | None = stored_audio(row[audio])
        with open_audio(stored):
            pass
    except (AudioReadError, OSError):
        stored = None
    song = printable_name(stored["path"]) if stored and stored["path"] else f"row {index + 1}"
    ready = row.get("labels")
    labels = {}
    for task in tasks:
        name, column = task["name"], places[task["name"]]
        value = row[column] if column else ready.get(name) if isinstance(ready, Mapping) else None
        if name in class_names:
            value = _named(value, class_names[name])
        try:
            labels[name] = encode_label(task, value).tolist()
        except ValueError as error:
            raise ValueError(f"row {index + 1} of the stream ({song!r}), column {column!r}: {error}") from None
    keys = ((column, group_key(row[column])) for column in grouping)
    group = next((f"{column}={key}" for column, key in keys if key), None)
    if group is None:
        group = f"audio={content_id(stored)}" if stored else ""
    return {"audio": stored, "labels": labels, "group": group, "song": song}


def _opens(row: Mapping[str, Any]) -> bool:
    return row["audio"] is not None


def _falls_between(row: Mapping[str, Any], start: float, stop: float, seed: int) -> bool:
    """Whether the hash of a row's group, spread evenly over 0 to 1, lies in the half-open span."""
    digest = hashlib.blake2b(f"{seed}:{row['group']}".encode(), digest_size=8).digest()
    return start <= int.from_bytes(digest, "big") / 2**64 < stop
