# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io

import pytest
from rich.console import Console

from hf_mathrock.report.table import print_table


def table(results, width=80, terminal=False, **options):
    console = Console(
        file=io.StringIO(), width=width, force_terminal=terminal, color_system="standard" if terminal else None
    )
    print_table(results, console, **options)
    return console.file.getvalue()


def test_a_clip_shows_its_best_labels_with_scores_and_its_flags(make_result):
    result = make_result(quality=["clipped"])
    text = table([result])
    lines = text.splitlines()
    assert lines[0].split() == ["clip", "emotion", "vibe", "tempo"]
    assert lines[2].startswith("song.mp3") and lines[3].startswith("0:29") and lines[4].startswith("clipped")
    for place, entry in enumerate(result["emotion"][:3]):
        assert entry["label"] in lines[2 + place] and f"{entry['score']:.2f}" in lines[2 + place]
    assert result["emotion"][3]["label"] not in text
    vibe = result["vibe"][0]
    assert vibe["label"] in lines[2] and f"{vibe['score']:.2f}" in lines[3]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal_and_no_name_is_cut(make_result, width):
    name = "a very long name of a very long song by a band that likes long names.flac"
    affect = {
        "multi": {"emotion": ["disappointment", "embarrassment", "nervousness"]},
        "single": {
            "vibe": ["atmospheric", "melancholic"],
            "intensity": ["medium", "high"],
            "tempo": ["moderate", "fast"],
        },
    }
    text = table([make_result(file=f"/music/{name}", **affect)], width)
    assert max(map(len, text.splitlines())) <= width
    assert set(name.split()) <= set(text.split())
    assert "/music" not in text


def test_output_that_is_no_terminal_has_no_escape_codes(make_result):
    assert "\x1b" not in table([make_result()])
    assert "\x1b[1m" in table([make_result()], terminal=True)


def test_brackets_in_a_name_are_no_markup(make_result):
    assert "[red]song[live].mp3" in table([make_result(file="[red]song[live].mp3")])


def test_files_of_the_same_name_are_told_apart_by_their_paths(make_result):
    text = table([make_result(file="one/01.mp3"), make_result(file="two/01.mp3"), make_result(file="two/02.mp3")])
    assert "one/01.mp3" in text and "two/01.mp3" in text and "two/02.mp3" not in text


def test_silence_has_dashes_for_labels(make_result):
    line = table([make_result(silent=[(0, 99)], quality=["silent"])]).splitlines()[2]
    assert line.split() == ["song.mp3", "-", "-", "-"]


def test_too_many_tasks_for_columns_take_a_line_each(make_result):
    tasks = {f"task{number}": ["some label", "another"] for number in range(9)}
    lines = table([make_result(multi={}, single=tasks)]).splitlines()
    assert [line.split()[0] for line in lines[1:10]] == list(tasks)


def test_failed_files_are_left_to_whoever_reports_them(make_result):
    assert table([{"file": "bad.mp3", "error": "no"}]) == ""
    assert "bad.mp3" not in table([make_result(), {"file": "bad.mp3", "error": "no"}])


def test_as_many_labels_are_shown_as_are_asked_for(make_result):
    result = make_result()
    text = table([result], num_labels=1)
    assert result["emotion"][0]["label"] in text and result["emotion"][1]["label"] not in text
