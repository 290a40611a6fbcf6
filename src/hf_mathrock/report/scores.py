# SPDX-License-Identifier: Apache-2.0
"""Figures of an evaluation as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .results import format_duration, printable

# Metrics by their names in `results.json`, in reading order.
TITLES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "map": "mean average precision",
    "prior": "  chance",
    "roc_auc": "ROC AUC",
    "acc1": "tempo accuracy 1",
    "acc2": "tempo accuracy 2",
    "ece": "calibration error (ECE)",
    "brier": "Brier score",
}
MAX_NAMED = 8


def print_evaluation(
    tasks: Sequence[Mapping[str, Any]], title: str, entry: Mapping[str, Any], console: Console
) -> None:
    """Prints one set of `results.json`: every figure of songs with its 95 % interval, that of windows beside it.

    Args:
        tasks: Their `name` and `type`.
        title: Of the table, beside the set's own.
        entry: The set.
        console: Where to print.
    """
    data = entry["data"]
    facts = [f"{data['num_songs']} songs", f"{data['num_groups']} groups", format_duration(data["seconds"])]
    if data.get("trained_on"):
        facts.append(f"{data['trained_on']} of the songs were trained on")
    console.print(Text(printable(f"{title}: {entry['title']}"), style="bold"), soft_wrap=True)
    console.print(Text(", ".join(facts), style="dim"), soft_wrap=True)
    of_windows = entry.get("window_intervals")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("")
    table.add_column("songs", justify="right")
    table.add_column("95 %", justify="right", no_wrap=True)
    table.add_column("windows", justify="right")
    if of_windows is not None:
        table.add_column("95 %", justify="right", no_wrap=True)
    for task in tasks:
        rows = _rows(task, entry)
        known = data.get("known", {}).get(task["name"], 0)
        table.add_row(Text(printable(f"{task['name']} ({known} known)"), style="bold"))
        if not rows:
            table.add_row("  no label is known")
        for name, heading in rows:
            table.add_row(f"  {heading}", *_cells(name, entry, of_windows))
        table.add_section()
    if "mean_score" in entry["metrics"]:
        table.add_row(Text("mean score", style="bold"), *_cells("mean_score", entry, of_windows))
    console.print(table)
    for name, labels in entry.get("left_out", {}).items():
        if labels and data.get("known", {}).get(name):
            more = f" and {len(labels) - MAX_NAMED} more" if len(labels) > MAX_NAMED else ""
            listed = ", ".join(labels[:MAX_NAMED])
            console.print(Text(printable(f"no song has {listed}{more}: left out of the means of {name}")))


def print_calibration(tasks: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    """Prints what a calibration changes, by task.

    Args:
        tasks: The `tasks` of `calibration.json`.
        console: Where to print.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("task")
    for heading in ("temperature", "ECE", "Brier", "macro F1"):
        table.add_column(heading, justify="right")
    for name, entry in tasks.items():
        changes = [_change(entry, metric) for metric in ("ece", "brier", "macro_f1")]
        table.add_row(Text(printable(name)), f"{entry['temperature']:.3g}", *changes)
    console.print(table)


def _rows(task: Mapping[str, Any], entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    names = [(f"{task['name']}_{metric}", metric) for metric in TITLES]
    # With one label a song the micro F1 is the accuracy.
    skipped = {"micro_f1"} if task["type"] == "single_label" else set()
    return [(name, TITLES[metric]) for name, metric in names if name in entry["metrics"] and metric not in skipped]


def _cells(name: str, entry: Mapping[str, Any], of_windows: Mapping[str, Any] | None) -> list[str]:
    cells = [_number(entry["metrics"].get(name)), _interval(entry.get("intervals", {}).get(name))]
    cells.append(_number(entry.get("window_metrics", {}).get(name)))
    return cells if of_windows is None else [*cells, _interval(of_windows.get(name))]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"


def _change(entry: Mapping[str, Any], metric: str) -> str:
    if f"{metric}_before" not in entry:
        return ""
    return f"{_number(entry[f'{metric}_before'])} → {_number(entry[f'{metric}_after'])}"
