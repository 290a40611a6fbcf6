# SPDX-License-Identifier: Apache-2.0
"""Labels as people write them, to the numbers a model learns from."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_mathrock.models.objectives import UNKNOWN


def _is_unknown(value: Any) -> bool:
    if isinstance(value, str):
        return not value
    return value is None or (isinstance(value, (float, np.floating)) and math.isnan(value))


def _index(task: Mapping[str, Any], value: Any) -> int:
    """Position of one label, given by name or number."""
    labels = task["labels"]
    if isinstance(value, str):
        if value in labels:
            return labels.index(value)
        near = difflib.get_close_matches(value, labels, n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"the labels are {', '.join(labels)}."
        raise ValueError(f"{value!r} is no label of the task {task['name']!r}; {hint}")
    index = int(value)
    if index != value:
        raise ValueError(f"{value!r} is no label of the task {task['name']!r}: give a name or a whole number.")
    if not 0 <= index < len(labels):
        raise ValueError(f"{index} is no label of the task {task['name']!r}, which has {len(labels)} (from 0).")
    return index


def encode_label(task: Mapping[str, Any], value: Any) -> np.ndarray:
    """One row's label of one task as the objective wants it.

    Args:
        task: An entry of `MathRockConfig.tasks`.
        value: A label's name or number; for a multi-label task also a list of these, or a multi-hot list or array of
            the task's length. Several names in one string are separated by `;`.
            `None`, NaN and the empty string: unknown. An empty list: known to have
            none of the labels.

    Returns:
        Single label: a 0-d int64 array. Multi-label: float32 `(num_labels,)`. Unknown: -100 everywhere.

    Raises:
        ValueError: A name or number that the task does not have; the message gives the closest ones.
    """
    if task["type"] == "single_label":
        return np.array(UNKNOWN if _is_unknown(value) else _index(task, value), dtype=np.int64)
    size = len(task["labels"])
    if _is_unknown(value):
        return np.full(size, UNKNOWN, dtype=np.float32)
    if isinstance(value, str):
        value = [name.strip() for name in value.split(";")]
    elif isinstance(value, (int, np.integer)):
        value = [value]
    if len(value) == size and not any(isinstance(entry, str) for entry in value):
        # As many whole numbers as labels: a multi-hot row repeats itself, label numbers do not.
        whole = all(isinstance(entry, (int, np.integer)) and not isinstance(entry, bool) for entry in value)
        if not whole or len(set(value)) < size:
            return np.asarray(value, dtype=np.float32)
        if set(value) <= {0, 1}:
            raise ValueError(
                f"{list(value)} can be read in two ways for the {size} labels of {task['name']!r}: as a multi-hot row "
                "or as label numbers. Give names, or a row of booleans or floats."
            )
    encoded = np.zeros(size, dtype=np.float32)
    encoded[[_index(task, entry) for entry in value]] = 1
    return encoded


def encode_labels(tasks: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Every task's label of one row; tasks without a column are unknown."""
    return {task["name"]: encode_label(task, row.get(task["name"])) for task in tasks}


def row_labels(tasks: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> Mapping[str, np.ndarray]:
    """Labels of a row of a data set: those ready-made under `labels`, or those of its label columns."""
    return row["labels"] if "labels" in row else encode_labels(tasks, row)


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
