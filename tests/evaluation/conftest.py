# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from hf_mathrock import MathRockConfig
from hf_mathrock.evaluation.predictions import predict
from hf_mathrock.models.audio_input import AudioReadError, AudioReport, AudioWindow
from hf_mathrock.models.pipeline_mathrock_affect import Recording
from hf_mathrock.models.scoring import task_scores

TASKS = [
    {"name": "mood", "type": "multi_label", "labels": ["calm", "angry", "sad", "odd"]},
    {"name": "tempo", "type": "single_label", "labels": ["slow", "moderate", "fast"]},
]


class Listener:
    """A pipeline that reads its logits from the recording: `bytes` of JSON, a list of windows (`null`: silent)."""

    def __init__(self, **settings):
        self.model = SimpleNamespace(config=MathRockConfig(tasks=TASKS, **settings), parameters=lambda: iter(()))
        self.feature_extractor = SimpleNamespace(checked_grid=lambda window, hop: (window or 10.0, hop or 5.0))
        self.model_card = {"name": "listener", "fingerprint": "0123456789abcdef"}
        self.heard = []

    def listen(self, inputs, batch_size=8, window_seconds=None, hop_seconds=None):
        # Two ahead, as a pipeline that gathers batches is.
        waiting = []
        for audio in inputs:
            waiting.append(self._recording(audio))
            if len(waiting) > 2:
                yield waiting.pop(0)
        yield from waiting

    def _recording(self, audio):
        self.heard.append(audio)
        try:
            windows = json.loads(audio["bytes"])
        except ValueError:
            path = f"/home/somebody/{audio['path']}"
            return Recording(error=AudioReadError(f"cannot read {path!r}: it is damaged", file=path))
        seconds = 5.0 * len(windows) + 5
        return Recording(
            report=AudioReport(audio["path"], seconds, 44_100, 2, len(windows), []),
            windows=[AudioWindow(index, 5.0 * index, 5.0 * index + 10, {}) for index in range(len(windows))],
            logits=[
                None if window is None else {name: np.array(values, np.float32) for name, values in window.items()}
                for window in windows
            ],
        )


def make_rows(num_songs, seed=0, temperature=1.0, songs_per_group=1, unknown=0.0, name="song"):
    """Songs whose labels are drawn with the probability that their logits claim once divided by the temperature."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(num_songs):
        labels, logits = {}, {}
        for task in TASKS:
            # Not correlated between labels, and the same in all windows: then songs are as calibrated as windows are.
            calibrated = rng.normal(size=len(task["labels"])) * 1.5 - (1.0 if task["type"] == "multi_label" else 0)
            logits[task["name"]] = (calibrated * temperature).tolist()
            sure = task_scores(task, calibrated)
            if task["type"] == "multi_label":
                drawn = (rng.random(len(sure)) < sure).astype(float)
                labels[task["name"]] = np.where(rng.random(len(sure)) < unknown, -100.0, drawn).tolist()
            else:
                labels[task["name"]] = -100 if rng.random() < unknown else int(rng.choice(len(sure), p=sure))
        file = f"{name}-{seed}-{number}.wav"
        rows.append(
            {
                "audio": {"path": file, "bytes": json.dumps([logits] * int(rng.integers(1, 4))).encode()},
                "labels": labels,
                "song": file,
                "group": f"artist {seed}-{number // songs_per_group}",
            }
        )
    return rows


class LabelledSongs(dict):
    """Splits with a report, as `load_labelled_audio` gives them."""

    def __init__(self, splits, split="given", **report):
        super().__init__(splits)
        self.report = {"source": "songs", "split": split, "leaks": [], "broken": [], **report}


@pytest.fixture
def listener():
    return Listener


@pytest.fixture
def rows():
    return make_rows


@pytest.fixture
def labelled():
    return LabelledSongs


@pytest.fixture
def predictions():
    """Predictions on songs that were made up; the arguments are those of `make_rows`."""
    return lambda *args, **settings: predict(Listener(), make_rows(*args, **settings))
