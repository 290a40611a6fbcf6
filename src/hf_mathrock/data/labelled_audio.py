# SPDX-License-Identifier: Apache-2.0
"""What `load_labelled_audio` gives: data sets that know their tasks and how they came about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datasets import DatasetDict, IterableDatasetDict

from hf_mathrock.data.labels import note_label_tasks


class _Described(dict):
    """Splits with the tasks that their labels are of, and a report on where they come from."""

    def __init__(
        self,
        splits: Mapping[str, Any] = (),  # type: ignore[assignment]  # as a dict takes it
        tasks: list[dict[str, Any]] | None = None,
        report: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(splits)
        self.tasks = tasks or []
        self.report = report or {}
        for rows in self.values():
            note_label_tasks(rows, self.tasks)

    def __missing__(self, split: Any) -> Any:
        raise KeyError(f"there is no split {split!r} in these data; there is {', '.join(self)}")


class LabelledAudio(_Described, DatasetDict):
    """Splits of labelled songs: "train", "validation", "test", those that there are.

    A row has `audio` (`{"path", "bytes"}`, for `open_audio`), `labels` (task → class index, or a multi-hot list, -100
    where unknown), `group` (rows of one group are in one split), `song` (a printable name), and the source's columns.

    Args:
        splits: Split → `datasets.Dataset`.
        tasks: Complete, as `MathRockConfig.tasks`.
        report: Plain JSON: where the rows come from, how many there are, what is known, what leaks and what is broken.
    """

    def __repr__(self) -> str:
        return _summary(self.report) if self.report else super().__repr__()


class IterableLabelledAudio(_Described, IterableDatasetDict):
    """As `LabelledAudio`, of rows that come one by one: labels are encoded and files opened as they do.

    So the report has no counts, a wrong label is an error when its row comes, and broken files are left out unlisted.
    """

    def __repr__(self) -> str:
        tasks = ", ".join(task["name"] for task in self.tasks)
        return f"IterableLabelledAudio: {', '.join(self)} ({self.report.get('split', 'given')}); tasks: {tasks}"


def _summary(report: Mapping[str, Any]) -> str:
    """A table of the splits, and a line for everything that somebody should know before training."""
    splits = list(report["num_songs"])
    tasks = list(next(iter(report["known"].values()), {}))
    total, num_groups = sum(report["num_songs"].values()), sum(report["num_groups"].values())
    by = f" by {', '.join(report['group_by'])}" if report["group_by"] else ""
    lines = [f"LabelledAudio: {total} songs in {num_groups} groups{by}; split: {report['split']}"]
    table = [["", "songs", "groups", "minutes", *tasks]]
    for split in splits:
        minutes = f"{report['seconds'][split] / 60:.1f}"
        known = [str(report["known"][split][task]) for task in tasks]
        table.append([split, str(report["num_songs"][split]), str(report["num_groups"][split]), minutes, *known])
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  " + "  ".join([row[0].ljust(widths[0]), *cells]).rstrip())
    if tasks:
        lines.append("  (below a task: songs with a known label)")
    if report["broken"]:
        lines.append(f"  {len(report['broken'])} broken recordings left out: report['broken']")
    if report.get("dropped"):
        lines.append(
            f"  {sum(leak['num_songs'] for leak in report['dropped'])} leaking songs dropped: report['dropped']"
        )
    if report["leaks"]:
        num_songs = sum(leak["num_songs"] for leak in report["leaks"])
        lines.append(f"  LEAK: {num_songs} songs of {len(report['leaks'])} groups in several splits: report['leaks']")
    return "\n".join(lines)
