# SPDX-License-Identifier: Apache-2.0
"""All labels of a source at once: numbers for the model, or one error that names what is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_mathrock.data.labels import encode_label, is_unknown, same_spelling, split_names
from hf_mathrock.data.sources import Part
from hf_mathrock.data.taxonomy import LabelColumns
from hf_mathrock.models.objectives import UNKNOWN

_SHOWN = 5


def encode_parts(
    tasks: Sequence[Mapping[str, Any]], parts: Sequence[Part], columns: LabelColumns, songs: Sequence[Sequence[str]]
) -> dict[str, np.ndarray]:
    """Labels of every row of every part, in order.

    Args:
        tasks: Complete task entries.
        parts: The rows.
        columns: Where the labels stand.
        songs: Per part the printable names of its rows, for messages.

    Returns:
        Task → int64 `(num_rows,)` or float32 `(num_rows, num_labels)`, -100 where unknown.

    Raises:
        ValueError: A label that its task does not have, or not one known label. The first line names the first such
            row, and says how many more there are.
    """
    encoded: dict[str, list[np.ndarray]] = {task["name"]: [] for task in tasks}
    wrong: list[str] = []
    wrong_tasks: Counter[str] = Counter()
    for part, names in zip(parts, songs, strict=True):
        for task in tasks:
            # A corpus says the same few things over and over, and a wrong one costs a search for the closest.
            known: dict[str, np.ndarray | ValueError] = {}
            for row, value in enumerate(columns.values(task, part)):
                key = repr(value)
                if key not in known:
                    try:
                        known[key] = encode_label(task, value)
                    except ValueError as error:
                        known[key] = error
                result = known[key]
                if isinstance(result, ValueError):
                    where = f"row {row + 1} of {part.place} ({names[row]!r}), {columns.place(task)}"
                    wrong.append(f"{where}: {result}")
                    wrong_tasks[task["name"]] += 1
                else:
                    encoded[task["name"]].append(result)
    if wrong:
        more = {0: "", 1: " One more row has a wrong label."}
        lines = [wrong[0] + more.get(len(wrong) - 1, f" {len(wrong) - 1} more rows have a wrong label.")]
        lines += [f"  {line}" for line in wrong[1:_SHOWN]]
        lines += [hint for task in tasks if wrong_tasks[task["name"]] and (hint := _other_list(task, parts, columns))]
        raise ValueError("\n".join(lines))
    labels = {name: np.stack(rows) for name, rows in encoded.items()}
    if not any((rows != UNKNOWN).any() for rows in labels.values()):
        where = ", ".join(sorted({columns.place(task) for task in tasks if task["name"] in columns.columns}))
        raise ValueError(
            f"not one of the {sum(map(len, songs))} rows of {parts[0].place} has a known label: all cells are blank or "
            f"-100{f' ({where})' if where else ''}. Are the labels in another column or file?"
        )
    return labels


def _other_list(task: Mapping[str, Any], parts: Sequence[Part], columns: LabelColumns) -> str:
    """Advice where most names in a column are unknown to the task: the data follow another list than the model."""
    said: dict[str, str] = {}
    for part in parts:
        for value in columns.values(task, part):
            for entry in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(entry, str) and not is_unknown(entry):
                    several = task["type"] == "multi_label"
                    names = split_names(entry, task["labels"]) if several else [entry]
                    said.update((same_spelling(name), name.strip()) for name in names)
    others = [said[name] for name in said if name not in {same_spelling(label) for label in task["labels"]}]
    if 2 * len(others) <= len(said):
        return ""
    listed = ", ".join(map(repr, others[:_SHOWN])) + (", ..." if len(others) > _SHOWN else "")
    return (
        f"{len(others)} of the {len(said)} names in {columns.place(task)} ({listed}) are no labels of this model: the "
        "data's label list differs from the model's. To give the model new heads for it: `hf-mathrock train ... "
        "--new-heads`, or in Python `songs = load_labelled_audio(source)` without tasks and `from_pretrained(..., "
        "tasks=songs.tasks, ignore_mismatched_sizes=True)`. If the column means something else, rename it."
    )
