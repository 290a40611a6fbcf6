# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest


@pytest.fixture(autouse=True)
def _fake(fake_pipeline):
    return fake_pipeline


def test_a_folder_gives_a_table(command, songs):
    code, out, err = command("tag", songs)
    assert code == 0 and err == ""
    assert out.splitlines()[0].split() == ["clip", "emotion", "tempo"]
    assert "one.wav" in out and "two takes.wav" in out and "joy  0.71" in out and "\x1b" not in out


def test_json_is_one_line_per_file_and_nothing_else(command, songs):
    code, out, err = command("tag", songs, "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["file"] for record in records] == [str(songs / "one.wav"), str(songs / "two takes.wav")]
    assert records[0]["tempo"][0] == {"label": "fast", "score": 0.9, "active": True}
    assert code == 0 and err == "" and "segments" not in records[0]


def test_a_bad_file_is_one_line_and_exit_code_1_and_the_others_are_kept(command, songs, tmp_path):
    code, out, err = command("tag", songs / "absent.mp3", songs, "--out", tmp_path / "out")
    assert code == 1
    assert err.splitlines()[0] == f"error: cannot read '{songs / 'absent.mp3'}': there is no such file"
    assert err.splitlines()[-1] == "1 of 3 failed"
    assert "one.wav" in out and "absent.mp3" not in out
    records = json.loads((tmp_path / "out" / "tags.json").read_text())
    assert [("error" in record, "tempo" in record) for record in records] == [
        (True, False),
        (False, True),
        (False, True),
    ]


def test_a_message_that_does_not_name_the_file_is_given_its_name(command, songs):
    (songs / "x.crash").touch()
    code, _, err = command("tag", songs / "x.crash")
    assert code == 1 and err.splitlines()[0] == f"error: {songs / 'x.crash'}: RuntimeError: the model broke"


def test_a_folder_without_audio_fails_alone(command, songs, tmp_path):
    (tmp_path / "empty").mkdir()
    code, out, err = command("tag", tmp_path / "empty", songs, "--json")
    assert code == 1 and "no audio in this folder" in err
    assert [("error" in json.loads(line)) for line in out.splitlines()] == [True, False, False]


def test_timelines_are_drawn_and_named_in_the_results(command, songs, tmp_path):
    other = tmp_path / "other" / "ONE.wav"
    other.parent.mkdir()
    other.write_bytes((songs / "one.wav").read_bytes())
    out = tmp_path / "out"
    code, _, err = command("tag", songs, other, "--out", out, "--timeline")
    assert code == 0 and err.splitlines() == [f"wrote {out / 'tags.json'} and 3 timeline(s)"]
    records = json.loads((out / "tags.json").read_text())
    # The third would overwrite the first on a file system that ignores case.
    assert [record["timeline"] for record in records] == ["one.png", "two takes.png", "ONE-2.png"]
    assert sorted(path.name for path in out.iterdir()) == ["ONE-2.png", "one.png", "tags.json", "two takes.png"]
    assert all("segments" not in record for record in records)


def test_taggrams_are_drawn_beside_timelines_and_named_in_the_results(command, songs, tmp_path):
    # A clip whose timeline would have the name of another's taggram.
    (songs / "one.taggram.wav").write_bytes((songs / "one.wav").read_bytes())
    out = tmp_path / "out"
    code, _, err = command("tag", songs, "--out", out, "--timeline", "--taggram")
    assert code == 0 and err.splitlines() == [f"wrote {out / 'tags.json'} and 3 timeline(s) and 3 taggram(s)"]
    records = json.loads((out / "tags.json").read_text())
    names = [(record["timeline"], record["taggram"]) for record in records]
    assert len({name for pair in names for name in pair}) == 6
    assert all((out / name).is_file() for pair in names for name in pair)
    assert names[-1] == ("two takes.png", "two takes.taggram.png")
    assert all("segments" not in record for record in records)


def test_a_taggram_has_all_tags_of_every_window_and_the_results_the_best(command, songs, tmp_path, fake_pipeline):
    code, _, _ = command("tag", songs, "--out", tmp_path / "out", "--taggram", "--top-k", "1", "--segments")
    assert code == 0 and fake_pipeline["return_segments"] and "top_k" not in fake_pipeline
    for record in json.loads((tmp_path / "out" / "tags.json").read_text()):
        for part in (record, *record["segments"]):
            assert (len(part["emotion"]), len(part["tempo"])) == (1, 1)
        assert record["settings"]["top_k"] == 1


def test_what_fails_in_one_picture_leaves_the_other(command, songs, tmp_path):
    (tmp_path / "out" / "one.png").mkdir(parents=True)
    code, _, err = command("tag", songs / "one.wav", "--out", tmp_path / "out", "--timeline", "--taggram")
    assert code == 1 and err.splitlines()[0].startswith(f"error: no timeline of {songs / 'one.wav'}")
    assert err.splitlines()[1:] == [f"wrote {tmp_path / 'out' / 'tags.json'} and 1 taggram(s)", "1 of 1 failed"]
    (record,) = json.loads((tmp_path / "out" / "tags.json").read_text())
    assert "timeline" not in record and record["taggram"] == "one.taggram.png"


def test_of_fifty_tags_the_table_shows_the_best_three(command, songs, monkeypatch):
    import hf_mathrock

    tags = [{"label": f"tag {number}", "score": 1 / (number + 1), "active": not number} for number in range(50)]
    result = {"file": "", "duration": 2.0, "sampling_rate": 8000, "quality": [], "tag": tags}
    result["settings"] = {"thresholds": {"tag": 0.5}}
    monkeypatch.setitem(vars(hf_mathrock), "pipeline", lambda *_, **__: lambda file: result | {"file": file})
    code, out, _ = command("tag", songs / "one.wav")
    assert code == 0 and len(out.splitlines()) == 5
    assert [line[-10:] for line in out.splitlines()[2:]] == ["tag 0 1.00", "tag 1 0.50", "tag 2 0.33"]


def test_a_timeline_that_cannot_be_drawn_does_not_lose_the_tags(command, songs, tmp_path):
    (tmp_path / "out" / "one.png").mkdir(parents=True)
    code, _, err = command("tag", songs, "--out", tmp_path / "out", "--timeline")
    assert code == 1 and f"no timeline of {songs / 'one.wav'}" in err
    first, second = json.loads((tmp_path / "out" / "tags.json").read_text())
    assert "timeline" not in first and first["tempo"] and second["timeline"] == "two takes.png"


def test_whatever_fails_in_drawing_is_one_line_and_loses_nothing_else(command, songs, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("no\nfonts")

    monkeypatch.setattr("hf_mathrock.report.timeline.draw_timeline", fail)
    code, _, err = command("tag", songs, "--out", tmp_path / "out", "--timeline")
    assert code == 1 and err.splitlines()[0] == f"error: no timeline of {songs / 'one.wav'}: RuntimeError: no fonts"
    assert all(record["tempo"] for record in json.loads((tmp_path / "out" / "tags.json").read_text()))


def test_segments_are_kept_when_asked_for(command, songs):
    _, out, _ = command("tag", songs, "--json", "--segments")
    assert json.loads(out.splitlines()[0])["segments"][0]["end"] == 2.0


def test_only_options_that_were_given_reach_the_pipeline(command, songs, fake_pipeline):
    command("tag", songs)
    assert fake_pipeline == {"model": None, "return_segments": False}
    command("tag", songs, "--top-k", "2", "--threshold", "0.3", "--window-seconds", "5", "--hop-seconds", "2.5")
    assert fake_pipeline["top_k"] == 2 and fake_pipeline["threshold"] == 0.3
    assert fake_pipeline["window_seconds"] == 5.0 and fake_pipeline["hop_seconds"] == 2.5
    command("tag", songs, "--model", "org/x", "--aggregation", "vote", "--tasks", "emotion", "tempo", "--device", "cpu")
    assert fake_pipeline["model"] == "org/x" and fake_pipeline["aggregation"] == "vote"
    assert fake_pipeline["tasks"] == ["emotion", "tempo"] and fake_pipeline["device"] == "cpu"
    assert "batch_size" not in fake_pipeline


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threshold", "3"], "from 0 to 1"),
        (["--top-k", "0"], "above 0"),
        (["--hop-seconds", "nan"], "above 0"),
        (["--aggregation", "median"], "invalid choice"),
        (["--timeline"], "add --out DIR"),
        (["--taggram"], "--taggram draws pictures and needs a folder"),
        (["--segments"], "add --json or --out DIR"),
        (["--tasks", "tempi"], "did you mean 'tempo'"),
        (["--treshold", "0.5"], "did you mean --threshold?"),
    ],
)
def test_a_wrong_option_is_a_usage_error_before_any_work(command, songs, options, message):
    code, out, err = command("tag", songs, *options)
    assert code == 2 and message in err and out == ""


def test_an_output_folder_that_is_a_file_is_one_line(command, songs):
    code, out, err = command("tag", songs, "--out", songs / "one.wav")
    assert code == 1 and out == "" and len(err.splitlines()) == 1 and "one.wav" in err


def test_ctrl_c_keeps_what_was_finished(command, songs, tmp_path):
    (songs / "x.interrupt").touch()
    out = tmp_path / "out"
    code, _, err = command("tag", songs / "one.wav", songs / "x.interrupt", songs / "two takes.wav", "--out", out)
    assert code == 130 and err == ""
    assert [record["file"] for record in json.loads((out / "tags.json").read_text())] == [str(songs / "one.wav")]


def test_a_model_folder_that_is_not_there_is_said_to_be_missing(command, songs):
    code, _, err = command("tag", songs, "--model", "./nowhere")
    assert code == 2 and "there is no folder './nowhere'" in err
