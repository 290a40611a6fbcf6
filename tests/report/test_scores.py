# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io

import pytest
from rich.console import Console

from hf_mathrock.report.scores import print_calibration, print_evaluation

TASKS = [
    {"name": "mood", "type": "multi_label", "labels": ["calm", "angry"]},
    {"name": "tempo", "type": "single_label", "labels": ["slow", "fast"]},
    {"name": "key", "type": "single_label", "labels": ["a", "b"]},
]
ENTRY = {
    "title": "songs, split test",
    "data": {"num_songs": 40, "num_groups": 12, "seconds": 5400.0, "known": {"mood": 40, "tempo": 31, "key": 0}},
    "metrics": {
        "mood_map": 0.41239, "mood_prior": 0.1, "tempo_accuracy": 0.9, "tempo_micro_f1": 0.9, "tempo_ece": 0.0512,
        "mean_score": 0.6,
    },
    "intervals": {"mood_map": [0.301, 0.55], "tempo_accuracy": [0.8, 0.99]},
    "window_metrics": {"mood_map": 0.35, "tempo_accuracy": 0.85},
    "left_out": {"mood": ["angry"], "tempo": [], "key": ["a", "b"]},
}  # fmt: skip


@pytest.fixture
def printed():
    def run(function, *args):
        console = Console(file=io.StringIO(), width=100, highlight=False)
        function(*args, console)
        return [line.rstrip() for line in console.file.getvalue().splitlines()]

    return run


def line(lines, start):
    (found,) = [line for line in lines if line.strip().startswith(start)]
    return found.split()


def test_every_figure_stands_beside_its_interval_and_that_of_windows(printed):
    lines = printed(print_evaluation, TASKS, "my-model", ENTRY)
    assert lines[0] == "my-model: songs, split test" and lines[1] == "40 songs, 12 groups, 1:30:00"
    assert line(lines, "mean average precision")[3:] == ["0.412", "0.301", "to", "0.550", "0.350"]
    assert line(lines, "accuracy")[1:] == ["0.900", "0.800", "to", "0.990", "0.850"]
    assert line(lines, "calibration error")[3:] == ["0.051", "-"]
    assert "tempo (31 known)" in "\n".join(lines) and not any("micro" in entry for entry in lines)


def test_a_task_without_labels_and_labels_without_songs_are_said(printed):
    text = "\n".join(printed(print_evaluation, TASKS, "m", ENTRY))
    assert "key (0 known)\n  no label is known" in text
    assert "no song has angry: left out of the means of mood" in text and "of key" not in text


def test_songs_that_were_trained_on_are_said(printed):
    entry = {**ENTRY, "data": {**ENTRY["data"], "trained_on": 7}}
    assert "7 of the songs were trained on" in printed(print_evaluation, TASKS, "m", entry)[1]


def test_intervals_of_windows_are_shown_where_there_are_any(printed):
    entry = {**ENTRY, "window_intervals": {"tempo_accuracy": [0.7, 0.95]}}
    assert line(printed(print_evaluation, TASKS, "m", entry), "accuracy")[-4:] == ["0.850", "0.700", "to", "0.950"]


def test_names_are_not_taken_for_markup(printed):
    tasks = [{"name": "mood", "type": "multi_label", "labels": ["[red]x"]}]
    entry = {**ENTRY, "title": "[bold]songs", "left_out": {"mood": ["[red]x"]}}
    text = "\n".join(printed(print_evaluation, tasks, "m", entry))
    assert "[bold]songs" in text and "[red]x" in text


def test_a_calibration_shows_what_it_changes(printed):
    tasks = {
        "mood": {"temperature": 1.5, "ece_before": 0.2, "ece_after": 0.05, "brier_before": 0.3, "brier_after": 0.25,
                 "macro_f1_before": 0.4, "macro_f1_after": 0.55},
        "tempo": {"temperature": 1.0, "ece_before": None, "ece_after": None, "brier_before": 0.5, "brier_after": 0.5},
    }  # fmt: skip
    lines = printed(print_calibration, tasks)
    mood = ["1.5", "0.200", "→", "0.050", "0.300", "→", "0.250", "0.400", "→", "0.550"]
    assert line(lines, "mood")[1:] == mood
    assert line(lines, "tempo")[1:] == ["1", "-", "→", "-", "0.500", "→", "0.500"]
