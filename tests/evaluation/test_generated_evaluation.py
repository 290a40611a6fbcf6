# SPDX-License-Identifier: Apache-2.0
"""Figures on generated music are those of the pieces' labels."""

import numpy as np
import pytest

from hf_mathrock import MathRockConfig
from hf_mathrock.evaluation.generated import Protocol, evaluate_generated, rendered_pieces


class Oracle:
    """A pipeline that knows the answers, but takes every fast piece for a slow one."""

    def __init__(self, protocol):
        self.model = type("Model", (), {"config": MathRockConfig()})
        self._pieces = [piece for piece, _ in rendered_pieces(protocol)]
        self.heard = 0

    def __call__(self, audio):
        labels = self._pieces[self.heard].labels
        self.heard += 1
        assert audio["array"].shape[0] == 2 and np.isfinite(audio["array"]).all()
        tempo = "slow" if labels.tempo == "fast" else labels.tempo
        right = {"emotion": labels.emotions, "vibe": [labels.vibe], "intensity": [labels.intensity], "tempo": [tempo]}
        return {
            task["name"]: [
                {"label": label, "score": float(label in right[task["name"]]), "active": True}
                for label in task["labels"]
            ]
            for task in self.model.config.tasks
        }


@pytest.mark.filterwarnings("ignore:no positive example")
def test_a_perfect_listener_scores_one_and_its_one_fault_shows():
    protocol = Protocol(num=8, seed=123_000, seconds=6.0)
    oracle = Oracle(protocol)
    result = evaluate_generated(oracle, protocol)
    assert oracle.heard == 8
    metrics = result["metrics"]
    assert metrics["emotion_map"] == metrics["vibe_macro_f1"] == metrics["intensity_accuracy"] == 1.0
    confusion = np.array(result["confusion"]["tempo"])
    assert confusion.sum() == 8 and confusion[2, 0] > 0
    assert confusion[2, 2] == confusion[0, 1] == 0
    assert metrics["tempo_accuracy"] == round(1 - confusion[2, 0] / 8, 4)
    assert set(result["average_precision"]["emotion"].values()) == {1.0}
