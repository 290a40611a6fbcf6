# SPDX-License-Identifier: Apache-2.0
"""How to read a result: which of its keys are tasks, how each is scored, how a time is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Result = Mapping[str, Any]
TaskType = Literal["multi_label", "single_label"]

# Every other key of a result is the name of a task.
RESERVED_KEYS = frozenset(
    {"file", "error", "duration", "sampling_rate", "quality", "segments", "embedding", "model", "settings"}
    | {"timeline", "taggram"}
)


def task_names(result: Result) -> list[str]:
    """Returns the tasks of a result in the order in which the model states them."""
    return [key for key in result if key not in RESERVED_KEYS]


def task_types(result: Result) -> dict[str, TaskType]:
    """Tells which tasks are multi-label.

    The settings of a result list thresholds for its multi-label tasks and for no others. A result without settings is
    judged by its scores: those of a single-label task are a softmax, so a list sums to one at most and has one active
    label.

    Args:
        result: A result with or without `segments`.

    Returns:
        One type per task. Without settings, a task without a single score (silence) counts as single-label unless it is
        the first.
    """
    thresholds = result.get("settings", {}).get("thresholds")
    if thresholds is not None:
        return {task: "multi_label" if task in thresholds else "single_label" for task in task_names(result)}
    types: dict[str, TaskType] = {}
    for position, task in enumerate(task_names(result)):
        listings = [part[task] for part in (result, *result.get("segments", ())) if part.get(task)]
        exclusive = all(
            sum(entry["score"] for entry in listing) <= 1.01 and sum(bool(entry["active"]) for entry in listing) <= 1
            for listing in listings
        )
        types[task] = "single_label" if exclusive and (listings or position) else "multi_label"
    return types


def format_time(seconds: float) -> str:
    """Writes a time as `m:ss`, or `h:mm:ss` from one hour on, rounded to the nearest second.

    Example:
        >>> format_time(29.3), format_time(3600)
        ('0:29', '1:00:00')
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def format_duration(seconds: float) -> str:
    """Writes the length of a clip: like a time, but a short clip to the tenth of a second.

    Example:
        >>> format_duration(9.14), format_duration(29.3)
        ('9.1 s', '0:29')
    """
    return f"{seconds:.1f} s" if seconds < 9.95 else format_time(seconds)


def printable(text: str) -> str:
    """Replaces what a terminal or a font cannot show: control characters and bytes of a name that are not UTF-8.

    Example:
        >>> printable("a\\tb")
        'a\ufffdb'
    """
    return "".join("\N{REPLACEMENT CHARACTER}" if not c.isprintable() else c for c in text)
