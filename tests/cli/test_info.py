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


def test_an_encoder_is_described_by_its_embedding_its_lengths_and_its_probes(command, tmp_path):
    from hf_mathrock import MynaConfig

    config = {**MynaConfig(hidden_size=24, num_attention_heads=3).to_dict(), "architectures": ["MynaForPreTraining"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "preprocessor_config.json").write_text("{}")
    probe = {"task": "key", "data": "generated pieces", "metric": "weighted score"}
    probes = [
        {**probe, "how": "whole track", "mean": 0.61234, "sd": 0.021},
        {**probe, "how": "mel statistics", "mean": 0.4, "sd": None},
    ]
    (tmp_path / "results.json").write_text(json.dumps({"probes": probes}))
    code, out, _ = command("info", tmp_path)
    text = " ".join(out.split())
    assert code == 0 and "embedding 24 numbers, the class token's state after the last layer" in text
    assert "network A Myna encoder: 12 layers of attention with 3 heads" in text and "2-D ALiBi" in text
    assert "8,192 patches, 8.74 minutes, are heard at once" in text and "pipeline music-embedding" in text
    assert "probed on generated pieces" in text
    assert "key, weighted score whole track 0.612 (sd 0.021); mel statistics 0.400" in text
    assert "LABEL_" not in text and "window seconds" not in text


def test_an_encoder_of_another_package_is_one_line(command, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "myna", "patch_size": 16, "dim": 384}))
    code, _, err = command("info", tmp_path)
    assert code == 2 and len(err.splitlines()) == 1 and "not saved by hf-mathrock" in err
