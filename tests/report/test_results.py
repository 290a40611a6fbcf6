# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from hf_mathrock.report.results import format_duration, format_time, printable, task_names, task_types


def test_settings_tell_the_task_types(make_result):
    result = make_result()
    # The scores say otherwise, and the settings are believed.
    result["settings"]["thresholds"] = {"vibe": 0.5}
    assert task_types(result) == {"emotion": "single_label", "vibe": "multi_label", "tempo": "single_label"}


def test_scores_tell_the_task_types_where_settings_are_missing(make_result):
    assert task_types(make_result(settings=False)) == {
        "emotion": "multi_label",
        "vibe": "single_label",
        "tempo": "single_label",
    }


def test_silence_without_settings_takes_the_first_task_for_the_multi_label_one(make_result):
    types = task_types(make_result(duration=10, silent=[(0, 10)], settings=False))
    assert types == {"emotion": "multi_label", "vibe": "single_label", "tempo": "single_label"}


def test_only_tasks_are_tasks(make_result):
    result = {**make_result(), "embedding": [0.0], "timeline": "song.png"}
    assert task_names(result) == ["emotion", "vibe", "tempo"]


def test_times_carry_over_into_minutes_and_hours():
    assert [format_time(seconds) for seconds in (0, 59.4, 59.6, 3599.7)] == ["0:00", "0:59", "1:00", "1:00:00"]
    assert [format_duration(seconds) for seconds in (0.1, 9.94, 9.96)] == ["0.1 s", "9.9 s", "0:10"]


def test_control_characters_and_broken_bytes_are_not_printed():
    assert printable("a\x1b[2J\udcffé\n") == "a\ufffd[2J\ufffdé\ufffd"
