# SPDX-License-Identifier: Apache-2.0
"""Results as a table for the terminal, which still fits when the terminal is 80 columns wide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from .results import Result, format_duration, printable, task_names, task_types

_MIN_NAME_WIDTH = 16  # narrower, and file names are folded into illegibility
_COLUMN_GAP = 2

Listing = Sequence[Mapping[str, Any]]


def print_table(results: Iterable[Result], console: Console, *, num_labels: int = 3) -> None:
    """Prints for each clip its name, duration and quality flags, and the leading labels of each task with their scores.

    On a terminal active labels are bold; elsewhere the text is the same, without styles. When there are too many tasks
    for columns, each takes a line.

    Args:
        results: What the pipeline returned; records with an `error` are passed over.
        console: Where to print; its width decides the layout.
        num_labels: Labels shown of a multi-label task. Of a single-label task the winner is shown.
    """
    clips = [result for result in results if "error" not in result]
    if not clips:
        return
    tasks = list(dict.fromkeys(task for clip in clips for task in task_names(clip)))
    many = {task for clip in clips for task, kind in task_types(clip).items() if kind == "multi_label"}
    paths = [clip.get("file") or "untitled" for clip in clips]
    counts = Counter(PurePath(path).name for path in paths)
    # Albums of one folder each have a "01.mp3" each: then only the path tells them apart.
    names = [path if counts[PurePath(path).name] > 1 else PurePath(path).name for path in paths]
    cells: dict[str, list[Text]] = {}
    for task in tasks:
        listings = [clip.get(task, ()) for clip in clips]
        cells[task] = _ranking(listings, num_labels) if task in many else _winners(listings)
    needed = sum(_COLUMN_GAP + max(len(task), *map(_width, cells[task])) for task in tasks)
    if console.width >= _MIN_NAME_WIDTH + needed:
        console.print(_columns(clips, names, cells))
    else:
        console.print(Group(*(_block(clip, name, many, num_labels) for clip, name in zip(clips, names, strict=True))))


def _columns(clips: Sequence[Result], names: Sequence[str], cells: Mapping[str, Sequence[Text]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, _COLUMN_GAP, 0, 0), pad_edge=False, show_edge=False, leading=1)
    table.add_column("clip", overflow="fold")
    for task in cells:
        table.add_column(printable(task), no_wrap=True)
    for row, (clip, name) in enumerate(zip(clips, names, strict=True)):
        table.add_row(Text("\n").join(_title(clip, name)), *(column[row] or "-" for column in cells.values()))
    return table


def _block(clip: Result, name: str, many: set[str], num_labels: int) -> Text:
    lines = [Text("  ").join(_title(clip, name))]
    width = max(map(len, task_names(clip)), default=0)
    for task in task_names(clip):
        entries = clip[task][: num_labels if task in many else 1]
        labels = [_label(entry, f"{printable(entry['label'])} {entry['score']:.2f}") for entry in entries]
        lines.append(Text(f"  {printable(task):<{width}}  ") + (Text(", ").join(labels) if labels else Text("-")))
    return Text("\n").join([*lines, Text()])


def _title(clip: Result, name: str) -> list[Text]:
    flags = ", ".join(flag.replace("_", " ") for flag in clip.get("quality", ()))
    parts = [Text(printable(name), style="bold"), Text(format_duration(clip["duration"]), style="dim")]
    return [*parts, Text(flags, style="yellow")] if flags else parts


def _ranking(listings: Sequence[Listing], count: int) -> list[Text]:
    """Cells of the first labels, one a line with its score beside it."""
    width = max((len(printable(entry["label"])) for listing in listings for entry in listing[:count]), default=0)
    return [
        Text("\n").join(
            _label(entry, f"{printable(entry['label']):<{width}} {entry['score']:.2f}") for entry in listing[:count]
        )
        for listing in listings
    ]


def _winners(listings: Sequence[Listing]) -> list[Text]:
    """Cells of the first label with its score below."""
    return [
        Text("\n").join(_label(entry, f"{printable(entry['label'])}\n{entry['score']:.2f}") for entry in listing[:1])
        for listing in listings
    ]


def _label(entry: Mapping[str, Any], text: str) -> Text:
    return Text(text, style="bold" if entry["active"] else "")


def _width(cell: Text) -> int:
    return max(line.cell_len for line in cell.split("\n", allow_blank=True))
