# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import math

import pytest

from hf_mathrock.library.tagging import RecordWriter, tag_files, to_json


def pipe(file, **options):
    if file.startswith("bad"):
        raise ValueError(f"cannot read {file!r}:\nit is text")
    if file.startswith("crash"):
        raise RuntimeError("out of memory")
    return {"file": None, "duration": 3.0, **options}


def test_one_record_per_file_and_a_bad_one_takes_none_with_it():
    records = list(tag_files(pipe, ["a.mp3", "bad.mp3", "crash.mp3", "b.mp3"], top_k=2))
    assert records == [
        {"file": "a.mp3", "duration": 3.0, "top_k": 2},
        {"file": "bad.mp3", "error": "cannot read 'bad.mp3': it is text"},
        {"file": "crash.mp3", "error": "RuntimeError: out of memory"},
        {"file": "b.mp3", "duration": 3.0, "top_k": 2},
    ]


def test_files_are_asked_for_as_the_tagging_goes_on():
    asked = []
    tagged = tag_files(pipe, (asked.append(name) or name for name in ("a", "b", "c")))
    next(tagged)
    assert asked == ["a"]


def test_ctrl_c_is_no_bad_file():
    def interrupted(file):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(tag_files(interrupted, ["a.mp3"]))


RECORDS = [
    {"file": "a.mp3", "tempo": [{"label": "fast", "score": 0.5}], "quality": []},
    {"file": "Björk \udcff.mp3", "error": "é"},
]


@pytest.mark.parametrize("records", [[], RECORDS[:1], RECORDS])
def test_what_is_written_is_what_is_read(tmp_path, records):
    for name in ("tags.json", "tags.jsonl"):
        with RecordWriter(tmp_path / "new" / name) as writer:
            for record in records:
                writer.write(record)
    text = (tmp_path / "new" / "tags.json").read_text(encoding="utf-8")
    assert json.loads(text) == records
    lines = (tmp_path / "new" / "tags.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == records
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"tags.json", "tags.jsonl"}


def test_a_label_and_its_score_stand_on_one_line():
    assert '\n      {"label": "fast", "score": 0.5}\n' in to_json(RECORDS[0], indent="  ")


def test_readable_names_stay_readable():
    assert to_json({"file": "Björk.mp3"}) == '{"file": "Björk.mp3"}'


def test_nobody_sees_a_file_before_it_is_complete(tmp_path):
    (tmp_path / "tags.json").write_text("old")
    with RecordWriter(tmp_path / "tags.json") as writer:
        writer.write(RECORDS[0])
        assert (tmp_path / "tags.json").read_text() == "old"
    assert json.loads((tmp_path / "tags.json").read_text()) == RECORDS[:1]


def test_an_interrupted_run_keeps_what_was_finished(tmp_path):
    with pytest.raises(KeyboardInterrupt), RecordWriter(tmp_path / "tags.json") as writer:
        writer.write(RECORDS[0])
        raise KeyboardInterrupt
    assert json.loads((tmp_path / "tags.json").read_text()) == RECORDS[:1]


def test_a_run_that_fails_before_its_first_record_leaves_the_earlier_file(tmp_path):
    (tmp_path / "tags.json").write_text("old")
    with pytest.raises(KeyboardInterrupt), RecordWriter(tmp_path / "tags.json"):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["tags.json"]
    assert (tmp_path / "tags.json").read_text() == "old"


def test_what_json_has_no_word_for_is_refused_and_the_file_stays_valid(tmp_path):
    with RecordWriter(tmp_path / "tags.json") as writer:
        writer.write(RECORDS[0])
        for value in (math.nan, math.inf):
            with pytest.raises(ValueError, match="JSON"):
                writer.write({"score": value, "list": [{"score": value}]})
    assert json.loads((tmp_path / "tags.json").read_text()) == RECORDS[:1]
