# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import hf_mathrock
from hf_mathrock.cli.main import main


@pytest.fixture
def command(capsys):
    """Runs a command line in this process; returns its exit code, stdout and stderr."""

    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        return code, output.out, output.err

    return run


@pytest.fixture
def fake_pipeline(monkeypatch):
    """Puts a pipeline in place that knows its answer; the fixture's value is the options it was made with."""
    made_with = {}

    def ranked(*scores):
        return [{"label": label, "score": score, "active": score >= 0.5} for label, score in scores]

    def pipe(file):
        if not Path(file).is_file():
            raise ValueError(f"cannot read {file!r}: there is no such file")
        if Path(file).suffix == ".crash":
            raise RuntimeError("the model broke")
        if Path(file).suffix == ".interrupt":
            raise KeyboardInterrupt
        tags = {"emotion": ranked(("joy", 0.71), ("love", 0.2)), "tempo": ranked(("fast", 0.9), ("slow", 0.1))}
        result = {"file": file, "duration": 2.0, "sampling_rate": 8000, "quality": [], **tags}
        result["settings"] = {"thresholds": {"emotion": 0.5}}
        if made_with.get("return_segments"):
            result["segments"] = [{"start": 0.0, "end": 2.0, "quality": [], **tags}]
        return result

    def make(task, model=None, **options):
        assert task == "mathrock-affect"
        if options.get("tasks") == ["tempi"]:
            raise ValueError("there is no task 'tempi', did you mean 'tempo'?")
        made_with.update(options, model=model)
        return pipe

    # Set without a look at what was there, since a look would import transformers.
    monkeypatch.setitem(vars(hf_mathrock), "pipeline", make)
    return made_with


@pytest.fixture
def songs(tmp_path):
    """A folder with two short songs, one of whose names has a space."""
    folder = tmp_path / "my songs"
    folder.mkdir()
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 8000)
    for name in ("one.wav", "two takes.wav"):
        soundfile.write(folder / name, tone, 8000)
    return folder


@pytest.fixture(scope="session")
def labelled_songs(tmp_path_factory):
    """Writes a folder of short songs with labels, two of an artist: most of the first tempo, half of them joyful."""

    def write(num_songs=60, seed=0, splits=None, name="songs"):
        rng = np.random.default_rng(seed)
        folder = tmp_path_factory.mktemp("labelled") / name
        folder.mkdir()
        lines = []
        for number in range(num_songs):
            tone = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 2000) * np.arange(8000) / 8000)
            soundfile.write(folder / f"{number}.wav", tone + 0.01 * rng.normal(size=8000), 8000)
            line = {"file_name": f"{number}.wav", "artist": f"artist {seed}-{number // 2}"}
            line["tempo"] = "slow" if rng.random() < 0.7 else "fast"
            line["emotion"] = "joy" if rng.random() < 0.5 else "grief"
            lines.append(line | ({"split": splits(number)} if splits else {}))
        (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return folder

    return write


@pytest.fixture(scope="session")
def saved_model(tiny_model, tmp_path_factory):
    """A tiny checkpoint with random weights; tests that change it take a copy."""
    from hf_mathrock import MathRockFeatureExtractor

    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model.save_pretrained(folder)
    MathRockFeatureExtractor().save_pretrained(folder)
    return folder
