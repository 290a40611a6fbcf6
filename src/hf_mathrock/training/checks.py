# SPDX-License-Identifier: Apache-2.0
"""Training labels that nothing can be learnt from are found before the first step."""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from hf_mathrock.data.labels import noted_label_tasks
from hf_mathrock.models.objectives import UNKNOWN


def check_dataset(tasks: Sequence[Mapping[str, Any]], dataset: Any, argument: str) -> None:
    """Refuse what is no data set of one split, and one whose labels are numbers of other lists than the model's.

    Args:
        tasks: `MathRockConfig.tasks`.
        dataset: As it was passed.
        argument: The name it was passed by.

    Raises:
        ValueError: It is a path, all splits together, or rows that `load_labelled_audio` encoded for other tasks.
    """
    if isinstance(dataset, (str, PathLike)):
        raise ValueError(f"`{argument}` is a path; pass a split of what load_labelled_audio(path, ...) gives.")
    if isinstance(dataset, Mapping):
        raise ValueError(
            f"`{argument}` holds all splits ({', '.join(map(str, dataset))}); pass one, such as "
            f"songs[{next(iter(dataset), 'train')!r}]."
        )
    given = noted_label_tasks(dataset)
    if not given:
        return
    known = {task["name"]: task for task in given}
    for task in tasks:
        other = known.get(task["name"])
        if other is not None and (other["type"], list(other["labels"])) == (task["type"], list(task["labels"])):
            continue
        raise ValueError(
            f"The labels of `{argument}` are numbers for other tasks than the model's: {_difference(task, other)}. "
            "Load them with load_labelled_audio(source, model.config.tasks), or give the model heads for them by "
            "from_pretrained(..., tasks=songs.tasks, ignore_mismatched_sizes=True)."
        )


def _difference(task: Mapping[str, Any], other: Mapping[str, Any] | None, most: int = 5) -> str:
    """In words, how the data's task of this name differs from the model's."""
    name = task["name"]
    if other is None:
        return f"the data have no task {name!r}"
    if other["type"] != task["type"]:
        return f"{name!r} is {other['type']} in the data and {task['type']} in the model"

    def only(one: Mapping[str, Any], two: Mapping[str, Any]) -> str:
        labels = [label for label in one["labels"] if label not in two["labels"]]
        return ", ".join(labels[:most]) + ", ..." * (len(labels) > most) if labels else "none"

    if set(task["labels"]) == set(other["labels"]):
        return f"the labels of {name!r} stand in another order"
    return f"of {name!r}, labels of the data only: {only(other, task)}; of the model only: {only(task, other)}"


@dataclass(frozen=True)
class TaskCounts:
    """Known labels of one task in a training set.

    Attributes:
        known: Rows with any known label.
        positives: Per label, rows that have it.
        negatives: Per label, rows known not to have it.
    """

    known: int
    positives: dict[str, int]
    negatives: dict[str, int]

    @property
    def can_be_learnt(self) -> bool:
        """Whether some label has both kinds of rows."""
        return any(self.positives[label] and self.negatives[label] for label in self.positives)


def check_training_labels(
    tasks: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> dict[str, TaskCounts]:
    """Count a training set's labels, and refuse one that teaches nothing.

    A task of which only a part can be learnt gives a warning: all rows of a single-label task of one class; labels of a
    multi-label task without any positive row.

    Args:
        tasks: `MathRockConfig.tasks`.
        rows: Encoded labels of every row, as `row_labels` gives them.

    Returns:
        The counts of each task.

    Raises:
        ValueError: There are no rows, no row has a known label, no task has rows of more than one class, or a label is
            outside its task's range.
    """
    if not len(rows):
        raise ValueError("The training set is empty; training needs at least two rows that differ in a label.")
    counts = {task["name"]: _count(task, rows) for task in tasks}
    names = ", ".join(counts)
    known = {name: count for name, count in counts.items() if count.known}
    if not known:
        raise ValueError(
            f"None of the {len(rows)} training rows has a known label of any task ({names}). Label columns bear the "
            "tasks' names: were they renamed or removed, or is this the unlabelled split?"
        )
    constant = [name for name, count in known.items() if not count.can_be_learnt]
    if len(constant) == len(known):
        raise ValueError(
            f"Nothing can be learnt from the {len(rows)} training rows: {_sameness(counts, constant)}. Add rows of "
            "other classes; a split made from a sorted list may have lost them."
        )
    types = {task["name"]: task["type"] for task in tasks}
    for name in constant:
        if types[name] == "single_label":
            warnings.warn(f"The head {name!r} can learn nothing: {_sameness(counts, [name])}.", stacklevel=2)
    without = {
        name: [label for label, num in count.positives.items() if not num]
        for name, count in known.items()
        if types[name] == "multi_label"
    }
    if listed := [f"{name}: {', '.join(labels)}" for name, labels in without.items() if labels]:
        warnings.warn(
            f"Labels without a positive row in the training set will hardly ever be heard ({'; '.join(listed)}).",
            stacklevel=2,
        )
    return counts


def _sameness(counts: Mapping[str, TaskCounts], names: Sequence[str]) -> str:
    """What all rows of some tasks have in common, in words."""
    parts = []
    for name in names:
        labels = [label for label, num in counts[name].positives.items() if num] or ["none of its labels"]
        parts.append(f"all {counts[name].known} rows with a known {name!r} have {' and '.join(labels)}")
    return "; ".join(parts)


def _count(task: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> TaskCounts:
    labels = task["labels"]
    given = np.stack([np.asarray(row[task["name"]]) for row in rows])
    allowed = np.arange(len(labels)) if task["type"] == "single_label" else np.array([0, 1])
    wrong = ~np.isin(given, [*allowed, UNKNOWN])
    if wrong.any():
        place = tuple(np.argwhere(wrong)[0])
        span = f"0 to {allowed[-1]}" if task["type"] == "single_label" else "0 and 1"
        raise ValueError(
            f"Row {place[0]} of the training set has {given[place].item()!r} as an encoded label of {task['name']!r}; "
            f"allowed are {span}, or {UNKNOWN} where it is unknown. Were the labels encoded for "
            "another model?"
        )
    if task["type"] == "single_label":
        occurrences = np.bincount(given[given != UNKNOWN].astype(np.int64), minlength=len(labels))
        positives, negatives = occurrences, occurrences.sum() - occurrences
        known = int(occurrences.sum())
    else:
        positives, negatives = (given == 1).sum(axis=0), (given == 0).sum(axis=0)
        known = int((given != UNKNOWN).any(axis=1).sum())
    return TaskCounts(
        known=known,
        positives=dict(zip(labels, positives.tolist(), strict=True)),
        negatives=dict(zip(labels, negatives.tolist(), strict=True)),
    )


def check_task_weights(tasks: Sequence[Mapping[str, Any]], weights: Mapping[str, float] | str | None) -> None:
    """Refuse fixed weights of tasks that the model lacks, and weights that are no factors.

    Args:
        tasks: `MathRockConfig.tasks`.
        weights: The training arguments' `task_weights`: a dictionary, "learned" or `None`.

    Raises:
        ValueError: A name is not a task's, or a weight is negative or not finite.
    """
    if not isinstance(weights, Mapping):
        return
    names = [task["name"] for task in tasks]
    for name, weight in weights.items():
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the model's tasks are {', '.join(names)}."
            raise ValueError(f"`task_weights` has a weight for {name!r}; {hint}")
        if not (isinstance(weight, (int, float)) and math.isfinite(weight) and weight >= 0):
            raise ValueError(f"`task_weights` gives {name!r} the weight {weight!r}; a factor of at least 0 is wanted.")
