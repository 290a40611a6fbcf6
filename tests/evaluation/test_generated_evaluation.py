# SPDX-License-Identifier: Apache-2.0
"""Figures on generated music are those of the pieces' labels."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from hf_mathrock import MathRockConfig
from hf_mathrock.evaluation.generated import Protocol, evaluate_generated, rendered_pieces
from hf_mathrock.models.audio_input import AudioReport, AudioWindow
from hf_mathrock.models.pipeline_mathrock_affect import Recording


class Oracle:
    """A pipeline that knows the answers, but takes every fast piece for a slow one."""

    def __init__(self, protocol, **settings):
        self.model = SimpleNamespace(config=MathRockConfig(**settings))
        self.feature_extractor = SimpleNamespace(checked_grid=lambda window, hop: (window or 10.0, hop or 5.0))
        self._pieces = [piece for piece, _ in rendered_pieces(protocol)]
        self.heard = 0

    def listen(self, inputs, **_):
        for audio, piece in zip(inputs, self._pieces, strict=True):
            self.heard += 1
            assert audio["array"].shape[0] == 2 and np.isfinite(audio["array"]).all()
            yield Recording(
                report=AudioReport(None, piece.duration, audio["sampling_rate"], 2, 1, []),
                windows=[AudioWindow(0, 0.0, piece.duration, {})],
                logits=[{task["name"]: self._logits(task, piece.labels) for task in self.model.config.tasks}],
            )

    def _logits(self, task, labels):
        tempo = "slow" if labels.tempo == "fast" else labels.tempo
        right = {"emotion": labels.emotions, "vibe": [labels.vibe], "intensity": [labels.intensity], "tempo": [tempo]}
        return np.array([9.0 if label in right[task["name"]] else -9.0 for label in task["labels"]], np.float32)


@pytest.fixture(scope="module")
def heard():
    protocol = Protocol(num=8, seed=123_000, seconds=6.0)
    oracle = Oracle(protocol, temperatures={"tempo": 2.0})
    result = evaluate_generated(oracle, protocol, title="eight pieces", num_resamples=50)
    assert oracle.heard == 8
    return result


def test_a_perfect_listener_scores_one_and_its_one_fault_shows(heard):
    metrics = heard["metrics"]
    assert metrics["emotion_map"] == metrics["vibe_macro_f1"] == metrics["intensity_accuracy"] == 1.0
    confusion = np.array(heard["confusion"]["tempo"])
    assert confusion.sum() == 8 and confusion[2, 0] > 0
    assert confusion[2, 2] == confusion[0, 1] == 0
    assert metrics["tempo_accuracy"] == pytest.approx(1 - confusion[2, 0] / 8, abs=1e-6)
    assert set(heard["average_precision"]["emotion"].values()) == {1.0}
    assert heard["intervals"]["vibe_accuracy"] == [1.0, 1.0]
    assert heard["intervals"]["tempo_accuracy"][0] < 1 and metrics["tempo_ece"] > 0 and metrics["vibe_ece"] < 0.01


def test_a_generated_set_says_how_it_was_made(heard):
    assert heard["title"] == "eight pieces" and json.dumps(heard, allow_nan=False)
    protocol = heard["protocol"]
    assert protocol["num"] == 8 and protocol["seed"] == 123_000 and protocol["renderer"] == "own"
    assert protocol["window_seconds"] == 10.0 and protocol["temperatures"] == {"tempo": 2.0}
    assert heard["data"]["num_songs"] == 8 and heard["data"]["known"]["tempo"] == 8
    assert heard["data"]["source"] == "hf_mathrock.synthesis" and len(heard["data"]["songs_digest"]) == 32
    assert 0 <= heard["tempo_accuracy_off_border"] <= 1
