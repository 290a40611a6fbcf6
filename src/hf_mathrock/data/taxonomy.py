# SPDX-License-Identifier: Apache-2.0
"""Which columns hold labels, and of which tasks: those of a model, or those the data speak of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hf_mathrock.data.labels import DELIMITERS, closest, is_unknown, same_spelling, split_names
from hf_mathrock.data.sources import (
    PATH_COLUMNS,
    SPLIT_COLUMNS,
    Part,
    column_values,
    find_column,
    require_column,
    same_column,
)
from hf_mathrock.data.splitting import GROUP_COLUMNS

# Columns that say something else about a song, however often their values recur.
_OTHER_COLUMNS = {*PATH_COLUMNS, *SPLIT_COLUMNS, *GROUP_COLUMNS} | {
    *("song", "title", "track", "trackid", "name", "id", "url", "license", "licence", "date", "year", "comment"),
    *("source", "md5", "sha256", "encoding", "format", "language", "annotator", "composer", "release", "notes"),
}
MAX_INFERRED_LABELS = 1000


class LabelColumns:
    """Where the labels of some tasks stand in some parts, and their values.

    Args:
        parts: The rows.
        columns: Task → the column that the caller named for it.
    """

    def __init__(self, parts: Sequence[Part], columns: Mapping[str, str] | None = None) -> None:
        self._parts = parts
        self.names = list(dict.fromkeys(name for part in parts for name in part.rows.column_names))
        self.columns: dict[str, str] = {}
        self._numbers_are_names: set[str] = set()
        for task, column in (columns or {}).items():
            self.columns[task] = require_column(self.names, column, parts[0].place, "columns")

    def feature(self, column: str) -> Any:
        """The type of a column, in the first part that has it."""
        return next(part.rows.features[column] for part in self._parts if column in part.rows.column_names)

    def find(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Look up the column of every task that the caller named none for.

        Raises:
            ValueError: There is not one, or the caller named a task that is not there.
        """
        known = [task["name"] for task in tasks]
        if wrong := [task for task in self.columns if task not in known]:
            near = closest(wrong[0], known)
            raise ValueError(
                f"`columns` names the task {wrong[0]!r}{f'; did you mean {near[0]!r}?' if near else '.'} The tasks are "
                f"{', '.join(known)}."
            )
        for task in tasks:
            name = task["name"]
            if name not in self.columns and (column := find_column(self.names, name)) is not None:
                self.columns[name] = column
        if self.columns or self._has_ready_made(tasks) or any(self._one_per_label(task) for task in tasks):
            return
        if (task_and_column := self._label_column(tasks)) is None:
            alike = {name: found[0] for name in known if (found := closest(name, self.names, 1))}
            raise ValueError(
                f"{self._parts[0].place} has no column for any of the tasks {', '.join(known)}; its columns are "
                f"{', '.join(self.names)}. If one of them holds labels, say which: "
                f"columns={alike or {known[0]: 'the column'}}; for a model with "
                "heads for the data's own labels: --new-heads, in Python no `tasks`."
            )
        self.columns.update([task_and_column])

    def _has_ready_made(self, tasks: Sequence[Mapping[str, Any]]) -> bool:
        if "labels" not in self.names or not isinstance(self.feature("labels"), dict):
            return False
        return any(task["name"] in self.feature("labels") for task in tasks)

    def _one_per_label(self, task: Mapping[str, Any]) -> list[str | None]:
        """The columns called like the labels of a multi-label task, if there are at least two."""
        if task["type"] != "multi_label":
            return []
        found = [find_column(self.names, label) for label in task["labels"]]
        return found if sum(column is not None for column in found) > 1 else []

    def _label_column(self, tasks: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
        """A column called `label` and the task it must mean: the only one, or the only one with such labels."""
        column = find_column(self.names, "label") or find_column(self.names, "labels")
        if column is None or isinstance(self.feature(column), dict):
            return None
        names = [name for part in self._parts for name in self._named(part, column)]
        said = {same_spelling(name) for name in names if isinstance(name, str)}
        fitting = [task["name"] for task in tasks if said and said <= set(map(same_spelling, task["labels"]))]
        if len(tasks) == 1:
            fitting = [tasks[0]["name"]]
        return (fitting[0], column) if len(fitting) == 1 else None

    def values(self, task: Mapping[str, Any], part: Part) -> list[Any]:
        """What the rows of a part say for a task, as `encode_label` takes it: `ClassLabel` numbers as names."""
        name = task["name"]
        if name in self.columns:
            values = self._named(part, self.columns[name])
            return [_as_name(value) for value in values] if name in self._numbers_are_names else values
        if self._has_ready_made([task]) and "labels" in part.rows.column_names:
            return [row.get(name) if row else None for row in column_values(part.rows, "labels")]
        if columns := self._one_per_label(task):
            table = [column_values(part.rows, column) if column else [None] * len(part.rows) for column in columns]
            rows = [[None if is_unknown(value) else float(value) for value in row] for row in zip(*table, strict=True)]
            return [None if all(value is None for value in row) else row for row in rows]
        return [None] * len(part.rows)

    def place(self, task: Mapping[str, Any]) -> str:
        """How a message calls where the labels of a task stand."""
        return f"column {self.columns[task['name']]!r}" if task["name"] in self.columns else f"task {task['name']!r}"

    def _named(self, part: Part, column: str) -> list[Any]:
        values = column_values(part.rows, column)
        names = class_names(part.rows.features.get(column))
        if names is None:
            return values

        def name(value: Any) -> Any:
            if isinstance(value, list):
                return [name(entry) for entry in value]
            # -1 is how data sets of the Hub hide the labels of a test set.
            return names[value] if value is not None and 0 <= value < len(names) else None

        return [name(value) for value in values]

    def infer(self) -> list[dict[str, Any]]:
        """Tasks that the columns speak of, complete as in `MathRockConfig.tasks`; `values` then fits them.

        Text is one label per song, with the labels in alphabetical order; lists and delimited text are several. Not
        taken for labels, unless the caller named the column: numbers, paths, identifiers, artists and the like,
        and text that hardly recurs.

        Raises:
            ValueError: No column holds labels.
        """
        from hf_mathrock.models.configuration_mathrock import MathRockConfig

        named = bool(self.columns)
        candidates = self.columns or {
            _task_name(column): column for column in self.names if self._may_hold_labels(column)
        }
        tasks, found = [], {}
        reasons: list[str] = []
        for name, column in candidates.items():
            task = self._inferred(name, column, reasons, named)
            if task is not None:
                tasks.append(task)
                found[name] = column
        if not tasks:
            raise ValueError(
                f"{self._parts[0].place} has no column of labels; its columns are {', '.join(self.names)}"
                f"{' (' + '; '.join(reasons[:5]) + ')' if reasons else ''}. If one of them holds labels, say which: "
                "columns={'vibe': 'the column'}."
            )
        self.columns, self._numbers_are_names = found, set(found)
        return MathRockConfig(tasks=tasks).tasks

    def _may_hold_labels(self, column: str) -> bool:
        from hf_mathrock.models.configuration_tasks import RESERVED_TASK_NAMES

        name = _task_name(column)
        if same_column(column) in _OTHER_COLUMNS or same_column(column).endswith(("path", "url")):
            return False
        return (
            name.isidentifier()
            and name not in RESERVED_TASK_NAMES
            and not re.search(r"(^|[_\W])id$", column.casefold())
        )

    def _inferred(self, name: str, column: str, reasons: list[str], named: bool) -> dict[str, Any] | None:
        feature = self.feature(column)
        several = hasattr(feature, "feature")
        if (names := class_names(feature)) is not None:
            return {"name": name, "type": "multi_label" if several else "single_label", "labels": names}
        values = [value for part in self._parts for value in column_values(part.rows, column) if not is_unknown(value)]
        if not values:
            reasons.append(f"{column!r} is blank")
            return None
        if isinstance(feature, dict):
            reasons.append(
                f"{column!r} is a table of its own; if it holds numbers of labels, pass the `tasks` they are of"
            )
            return None
        allowed = (str, int, bool) if named else (str,)
        entries = [entry for value in values for entry in (value if isinstance(value, list) else [value])]
        if not all(isinstance(entry, allowed) or is_unknown(entry) for entry in entries):
            reasons.append(f"{column!r} holds {type(values[0]).__name__} values")
            return None
        split = _splitter(values)
        mentions = [text for value in values for text in split(value)]
        several = any(isinstance(value, list) or split(value) != [str(value).strip()] for value in values)
        labels = _spellings(mentions)
        if len(labels) < 2:
            reasons.append(f"{column!r} says {labels[0]!r} throughout" if labels else f"{column!r} is blank")
            return None
        if not named and len(labels) > max(0.5 * len(mentions), min(20, 0.8 * len(mentions))):
            reasons.append(f"the values of {column!r} hardly recur ({len(labels)} in {len(mentions)})")
            return None
        if len(labels) > MAX_INFERRED_LABELS:
            reasons.append(f"{column!r} has {len(labels)} different values")
            return None
        return {"name": name, "type": "multi_label" if several else "single_label", "labels": labels}


def class_names(feature: Any) -> list[str] | None:
    """The names of a `ClassLabel` or a list of such; `None` for any other type."""
    feature = getattr(feature, "feature", feature)
    names = getattr(feature, "names", None)
    return list(names) if isinstance(names, list) else None


def _as_name(value: Any) -> Any:
    """A value of a column from which a task was made: a number there is the name of a label, not its position."""
    if isinstance(value, list):
        return [_as_name(entry) for entry in value]
    return str(value) if isinstance(value, (int, bool)) and not is_unknown(value) else value


def _task_name(column: str) -> str:
    name = re.sub(r"\W+", "_", column.strip()).strip("_")
    return "label" if name.casefold() == "labels" else name  # `labels` is the column of all tasks


def _splitter(values: Sequence[Any]) -> Callable[[Any], list[str]]:
    """How to tell the names in a column's values.

    A comma may belong to a name ("rock, alternative"): it separates only if half of what stands between
    commas recurs elsewhere.
    """
    safe = re.compile("|".join(map(re.escape, DELIMITERS[:-1])))
    texts = {value.strip() for value in values if isinstance(value, str) and not value.strip().startswith("[")}
    pieces = {piece.strip() for text in texts for piece in safe.split(text)}
    with_commas = [piece for piece in pieces if "," in piece]
    parts = Counter(part for piece in with_commas for part in {part.strip() for part in piece.split(",")})
    num_recurring = sum(count > 1 or part in pieces for part, count in parts.items())
    whole = [] if 2 * num_recurring >= len(parts) else with_commas

    def split(value: Any) -> list[str]:
        if isinstance(value, list):
            return [str(entry).strip() for entry in value if not is_unknown(entry)]
        return split_names(value, whole) if isinstance(value, str) else [str(value)]

    return split


def _spellings(mentions: Sequence[str]) -> list[str]:
    """Each label once, as it is spelt most often, in alphabetical order (numbers by size)."""
    counts: dict[str, Counter[str]] = {}
    for mention in mentions:
        counts.setdefault(same_spelling(mention), Counter())[mention] += 1
    chosen = [sorted(spelt, key=lambda text: (-spelt[text], text))[0] for spelt in counts.values()]  # noqa: B023
    return sorted(chosen, key=lambda text: (not text.isdecimal(), int(text) if text.isdecimal() else 0, text))
