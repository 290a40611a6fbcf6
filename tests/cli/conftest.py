# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

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
