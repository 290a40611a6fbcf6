# SPDX-License-Identifier: Apache-2.0
"""Labels as people write them, to the numbers a model learns from."""

from __future__ import annotations

import ast
import difflib
import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from hf_mathrock.models.objectives import UNKNOWN

# What separates names in one text, from the most to the least certain: a comma may also be part of a name.
DELIMITERS = ("\t", ";", "|", ",")


class LabelError(ValueError):
    """A label that the task does not have.

    Attributes:
        task: Name of the task.
        value: The name or number that came.
    """

    def __init__(self, message: str, task: str, value: Any) -> None:
        super().__init__(message)
        self.task = task
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:  # from a worker process, too
        return type(self), (str(self), self.task, self.value)


@lru_cache(maxsize=2**16)
def same_spelling(name: str) -> str:
    """What remains of a name when case, spaces at its ends, and how its words are joined do not count.

    >>> same_spelling(" Math-Rock ") == same_spelling("math_rock")
    True
    """
    return " ".join(re.split(r"[\s_-]+", name.casefold().strip(" \t\r\n_-")))


def closest(name: str, known: Sequence[str], most: int = 3) -> list[str]:
    """The names among `known` that `name` may be a slip for, the closest first."""
    spellings: dict[str, str] = {}
    for candidate in known:
        spellings.setdefault(same_spelling(candidate), candidate)
    return [spellings[near] for near in difflib.get_close_matches(same_spelling(name), list(spellings), n=most)]


def is_unknown(value: Any) -> bool:
    """Whether a value is what people write where they have no label: nothing, blank text, NaN, or -100."""
    if isinstance(value, str):
        # What `str` makes of a NaN; no file's author chose it. "none" and "NA" may be labels.
        return value.strip() in ("", "nan", "NaN", str(UNKNOWN))
    if isinstance(value, (int, float, np.number)) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return math.isnan(value) or value == UNKNOWN
    return value is None


def _position(labels: Sequence[str], name: str) -> int | None:
    """Where a name stands among the labels, or one that is the same but for its spelling; `None`: nowhere."""
    if name in labels:
        return labels.index(name)
    spelling = same_spelling(name)
    alike = [index for index, label in enumerate(labels) if same_spelling(label) == spelling]
    return alike[0] if len(alike) == 1 else None


_NUMBER = re.compile(r"\s*-?[0-9]{1,9}(\.[0-9]*)?\s*")


def _number(text: str, labels: Sequence[str]) -> int | float | None:
    """The number a text says, or `None` for a name, such as every number where the labels themselves are numbers."""
    if not _NUMBER.fullmatch(text) or any(map(_NUMBER.fullmatch, labels)):
        return None
    number = float(text)
    return int(number) if "." not in text else number


def _index(task: Mapping[str, Any], value: Any) -> int:
    """Position of one label, given by name or number."""
    labels, name = task["labels"], task["name"]
    if isinstance(value, str):
        position = _position(labels, value)
        if position is not None:
            return position
        number = _number(value, labels)  # from a table of text
        if number is None:
            near = closest(value, labels)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"the labels are {', '.join(labels)}."
            raise LabelError(f"{value!r} is no label of the task {name!r}; {hint}", name, value)
        value = number
    try:
        index = int(value)
        whole = index == value
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole:
        raise LabelError(f"{value!r} is no label of the task {name!r}: give a name or a whole number.", name, value)
    if not 0 <= index < len(labels):
        raise LabelError(f"{index} is no label of the task {name!r}, which has {len(labels)} (from 0).", name, value)
    return index


def _written_list(text: str) -> list[Any] | None:
    """The list that text spells out, as JSON or as Python does; `None` for any other text."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            return list(read(text))
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def split_names(text: str, labels: Sequence[str] = ()) -> list[str]:
    """The names in one text: a written-out list, or names between tabs, `;`, `|` or `,`.

    Args:
        text: As it stands in the table.
        labels: Known names. Text that is one of them is not split, nor is such a part of it.

    Returns:
        Names without blanks around them; empty parts are left out.

    Example:
        >>> split_names("calm; rock, alternative", labels=["calm", "rock, alternative"])
        ['calm', 'rock, alternative']
    """
    text = text.strip()
    if _position(labels, text) is not None:
        return [text]
    if (written := _written_list(text)) is not None:
        return [str(name) for name in written]
    for delimiter in DELIMITERS:
        if delimiter in text:
            return [name for part in text.split(delimiter) for name in split_names(part, labels)]
    return [text] if text else []


def _unknown(task: Mapping[str, Any]) -> np.ndarray:
    if task["type"] == "single_label":
        return np.array(UNKNOWN, dtype=np.int64)
    return np.full(len(task["labels"]), UNKNOWN, dtype=np.float32)


def encode_label(task: Mapping[str, Any], value: Any) -> np.ndarray:
    """One row's label of one task as the objective wants it.

    Args:
        task: An entry of `MathRockConfig.tasks`.
        value: A label's name or number; for a multi-label task also a list of these, or a multi-hot list or array of
            the task's length, in which -100 or `None` is an unknown entry. Case, blanks and the joints of words
            (`math_rock`) count only between labels that differ in nothing else. Text may hold several names, see
            `split_names`, and numbers. `None`, NaN, blank text and -100: unknown. An empty list: known to have none of
            the labels.

    Returns:
        Single label: a 0-d int64 array. Multi-label: float32 `(num_labels,)`. Unknown: -100 everywhere.

    Raises:
        LabelError: A name or number that the task does not have; the message gives the closest ones.
        ValueError: A row of numbers that can be read in two ways.
    """
    labels, size = task["labels"], len(task["labels"])
    if is_unknown(value) and value not in labels:
        return _unknown(task)
    if isinstance(value, str):
        if task["type"] == "single_label":
            return np.array(_index(task, value), dtype=np.int64)
        written = _written_list(value.strip()) if _position(labels, value) is None else None
        names = split_names(value, labels) if written is None else written
        numbers = [_number(name, labels) if isinstance(name, str) else None for name in names]
        value = [name if number is None else number for name, number in zip(names, numbers, strict=True)]
    several = hasattr(value, "__len__") and getattr(value, "ndim", 1) == 1 and not isinstance(value, Mapping)
    value = list(value) if several else [value]
    if task["type"] == "single_label":
        if len(value) > 1:
            raise LabelError(
                f"{value} are {len(value)} labels, and the task {task['name']!r} has one per song.", task["name"], value
            )
        known = [entry for entry in value if not is_unknown(entry)]
        return np.array(_index(task, known[0]) if known else UNKNOWN, dtype=np.int64)
    if len(value) != size or any(isinstance(entry, str) for entry in value):
        known = [entry for entry in value if not is_unknown(entry)]
        if value and not known:
            return _unknown(task)
        value = known
    else:
        value = [UNKNOWN if entry is None else entry for entry in value]
    if len(value) == size and not any(isinstance(entry, str) for entry in value):
        # As many whole numbers as labels: a multi-hot row repeats itself or has gaps, label numbers do not.
        whole = all(isinstance(entry, (int, np.integer)) and not isinstance(entry, bool) for entry in value)
        if not whole or len(set(value)) < size or UNKNOWN in value:
            return _multi_hot(task, value)
        if set(value) <= {0, 1}:
            raise ValueError(
                f"{list(value)} can be read in two ways for the {size} labels of {task['name']!r}: as a multi-hot row "
                "or as label numbers. Give names, or a row of booleans or floats."
            )
    encoded = np.zeros(size, dtype=np.float32)
    encoded[[_index(task, entry) for entry in value]] = 1
    return encoded


def _multi_hot(task: Mapping[str, Any], value: Sequence[Any]) -> np.ndarray:
    row = np.asarray(value, dtype=np.float32)
    row[np.isnan(row)] = UNKNOWN
    if wrong := [entry for entry in row.tolist() if not (0 <= entry <= 1 or entry == UNKNOWN)]:
        raise LabelError(
            f"{wrong[0]:g} stands in a row of {len(row)} numbers for the task {task['name']!r}, one per label: allowed "
            f"are 0, 1 and what lies between, and {UNKNOWN} where unknown.",
            task["name"],
            wrong[0],
        )
    return row


def encode_labels(tasks: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Every task's label of one row; tasks without a column are unknown."""
    return {task["name"]: encode_label(task, row.get(task["name"])) for task in tasks}


def row_labels(tasks: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Every task's label of a row of a data set, in the types that `encode_label` gives.

    Those ready-made under `labels`, whatever the data set stored them as, or else those of its label columns.
    """
    if "labels" not in row:
        return encode_labels(tasks, row)
    types = {task["name"]: np.float32 if task["type"] == "multi_label" else np.int64 for task in tasks}
    return {name: np.asarray(row["labels"][name], dtype=dtype) for name, dtype in types.items()}


def balanced_class_weights(
    tasks: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Weights that give every class of a single-label task the same total, `n / (num_classes_seen * n_class)`.

    Args:
        tasks: `MathRockConfig.tasks`.
        rows: Encoded labels, as `encode_labels` gives them.

    Returns:
        Per single-label task with known labels, float32 `(num_labels,)`; 0 for a class that never occurs.
    """
    weights = {}
    for task in tasks:
        if task["type"] != "single_label":
            continue
        known = np.array([int(row[task["name"]]) for row in rows if row[task["name"]] != UNKNOWN], dtype=np.int64)
        if known.size:
            counts = np.bincount(known, minlength=len(task["labels"]))
            seen = counts > 0
            weight = np.zeros(len(counts), dtype=np.float32)
            weight[seen] = known.size / (seen.sum() * counts[seen])
            weights[task["name"]] = weight
    return weights


# In the description of a data set, which selecting, mapping, shuffling and saving keep.
_ENCODED_FOR = "`labels` are numbers for these tasks of hf-mathrock: "


def note_label_tasks(dataset: Any, tasks: Sequence[Mapping[str, Any]]) -> None:
    """Write into a data set of `datasets` which tasks the numbers of its `labels` are for."""
    if tasks and getattr(dataset, "info", None) is not None:
        dataset.info.description = _ENCODED_FOR + json.dumps(list(tasks))


def noted_label_tasks(dataset: Any) -> list[dict[str, Any]] | None:
    """The tasks that `note_label_tasks` wrote; `None` where it did not."""
    description = getattr(getattr(dataset, "info", None), "description", None) or ""
    return json.loads(description.removeprefix(_ENCODED_FOR)) if description.startswith(_ENCODED_FOR) else None
