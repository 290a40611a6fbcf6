# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from hf_mathrock.cli import info

RESULTS = {
    "sets": {
        "unseen_seeds": {
            "title": "pieces",
            "metrics": {"tempo_macro_f1": 0.93456, "tempo_brier": 0.1},
            "intervals": {"tempo_macro_f1": [0.9, 0.96]},
        }
    }
}


@pytest.fixture(autouse=True)
def _no_imports(monkeypatch):
    # Importing torchaudio costs seconds and is no business of these tests.
    monkeypatch.setattr(info, "OPTIONAL_PACKAGES", ())


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "my-model"
    folder.mkdir()
    task = {"name": "meter", "type": "single_label", "labels": ["4/4", "7/8"]}
    (folder / "config.json").write_text(json.dumps({"model_type": "mathrock", "tasks": [task]}))
    weights = {
        "a": np.zeros((3, 4)),
        "b": np.zeros(5),
        "index": np.zeros(7, dtype=int),
        "norm.running_mean": np.zeros(9),
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "results.json").write_text(json.dumps(RESULTS))
    return folder


def test_a_checkpoint_is_described_from_its_files(command, checkpoint):
    code, out, _ = command("info", checkpoint)
    facts = {" ".join(line.split()) for line in out.splitlines()}
    assert code == 0
    assert "name my-model" in facts and "type mathrock" in facts
    assert "meter single label: 4/4, 7/8" in facts
    assert "measured on unseen seeds pieces" in facts
    assert "tempo macro f1 0.935 (0.900 to 0.960)" in facts and not any("brier" in fact for fact in facts)
    assert any(fact.startswith("weights 17 parameters, 0.0 MB") for fact in facts)


def test_what_is_no_checkpoint_is_a_usage_error_after_the_environment(command, tmp_path):
    code, out, err = command("info", tmp_path)
    assert code == 2 and "config.json" in err and "transformers" in out


def test_a_config_that_is_no_json_is_one_line(command, checkpoint):
    (checkpoint / "config.json").write_text("{")
    code, _, err = command("info", checkpoint)
    assert code == 2 and "config.json" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:40], lambda b: b[:-8], lambda b: b"version https://git-lfs"]
)
def test_damaged_weights_are_one_line(command, checkpoint, damage):
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    code, _, err = command("info", checkpoint)
    assert code == 2 and len(err.splitlines()) == 1
    assert str(weights) in err and "damaged" in err and "git lfs pull" in err
