# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from matplotlib.image import imread

import hf_mathrock
from hf_mathrock.cli.main import main


@pytest.fixture(scope="module")
def checkpoint(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model.save_pretrained(folder)
    hf_mathrock.MathRockFeatureExtractor(window_seconds=2.0, hop_seconds=2.0).save_pretrained(folder)
    return folder


@pytest.fixture
def song(tmp_path):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "a $song.wav", 0.1 * rng.standard_normal(3 * 16_000), 16_000)
    return tmp_path / "a $song.wav"


@pytest.fixture
def command(capsys):
    """Runs `hf-mathrock explain` in this process; returns its exit code, stdout and stderr."""

    def run(*arguments):
        try:
            code = main(["explain", *map(str, arguments)])
        except SystemExit as stop:
            code = stop.code
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        return code, output.out, output.err

    return run


def test_a_song_gives_a_picture_a_file_and_a_line_per_tag(command, song, checkpoint, tmp_path):
    out = tmp_path / "out"
    code, printed, err = command(
        song, "--model", checkpoint, "--tags", "tempo/fast", "joy", "--bands", "3", "--width", "0.5", "--out", out
    )
    assert code == 0 and err.splitlines() == [f"wrote {out / 'explanation.json'} and explanation.png"]
    assert [line.split()[0] for line in printed.splitlines()] == ["fast", "joy"] and "most at" in printed
    record = json.loads((out / "explanation.json").read_text())
    assert record["labels"] == ["fast", "joy"] and record["tasks"] == ["tempo", "emotion"]
    assert record["file"] == str(song) and record["duration"] == 3.0 and record["method"] == "occlusion"
    assert len(record["bands"]["values"]) == 2 and record["end"] - record["start"] <= 2.0
    assert imread(out / "explanation.png").shape[1] == 1840


def test_the_whole_song_is_explained_when_asked_for(command, song, checkpoint, tmp_path):
    options = ("--whole", "--top-k", "2", "--width", "1", "--step", "1", "--baseline", "noise")
    code, _, _ = command(song, "--model", checkpoint, *options, "--out", tmp_path / "out")
    record = json.loads((tmp_path / "out" / "explanation.json").read_text())
    assert code == 0 and (record["start"], record["end"]) == (0.0, 3.0)
    assert [time["start"] for time in record["times"]] == [0.0, 1.0, 2.0] and len(record["labels"]) == 2
    assert record["settings"] == {
        "whole": True, "start": None, "batch_size": 8, "width": 1.0, "step": 1.0, "baseline": "noise",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--tags", "jooy"], 1, "did you mean 'joy'"),
        (["--method", "contribution"], 1, "--method occlusion"),
        (["--tags", "joy", "--top-k", "2"], 2, "give one of the two"),
        (["--start", "0", "--whole"], 2, "not allowed with"),
        (["--start", "-1"], 2, "from 0 on"),
        (["--baseline", "zeros"], 2, "invalid choice"),
        (["--width", "1.9"], 1, "too short"),
        (["--wdth", "1"], 2, "did you mean --width"),
        (["--model", "./nowhere"], 2, "there is no folder"),
    ],
)
def test_a_wrong_option_is_one_line_and_nothing_is_written(command, song, checkpoint, tmp_path, options, code, message):
    model = [] if "--model" in options else ["--model", checkpoint]
    found, out, err = command(song, *model, *options, "--out", tmp_path / "out")
    assert found == code and message in err and out == "" and not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_read_is_named(command, checkpoint, tmp_path):
    code, _, err = command(tmp_path / "no.mp3", "--model", checkpoint, "--out", tmp_path / "out")
    assert code == 1 and "no.mp3" in err


def test_silence_is_said(command, checkpoint, tmp_path):
    soundfile.write(tmp_path / "quiet.wav", np.zeros(48_000), 16_000)
    code, _, err = command(tmp_path / "quiet.wav", "--model", checkpoint, "--out", tmp_path / "out")
    assert code == 1 and "the recording is silent" in err


def test_a_folder_for_the_results_is_required(command, song):
    code, _, err = command(song)
    assert code == 2 and "--out" in err
