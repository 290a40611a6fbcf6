# SPDX-License-Identifier: Apache-2.0
"""The reference's checkpoint, converted, computes what the reference's own wiring computed."""

import pickle

import numpy as np
import pytest
import torch

from hf_mathrock.conversion.mathrock import convert_checkpoint, read_state_dict


def convert(reference, out, checkpoint="model.pth"):
    return convert_checkpoint(
        reference / checkpoint, out, reference / "wavlm_config.json", reference / "clap_audio_config.json"
    )


@pytest.mark.parametrize("checkpoint", ["model.pth", "model_old_weight_norm.pth"])
def test_every_stage_equals_the_reference(checkpoint, mathrock_reference, tmp_path):
    from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

    report = convert(mathrock_reference, tmp_path / "out", checkpoint)
    assert bool(report.notes) == (checkpoint == "model_old_weight_norm.pth")
    model = AutoModelForAudioClassification.from_pretrained(tmp_path / "out")
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "out")
    golden = np.load(mathrock_reference / "golden.npz")

    inputs = extractor(golden["waveform_48k"], sampling_rate=48_000)
    with torch.no_grad():
        output = model(**inputs)
    stages = {
        "waveform_16k": inputs["input_values"][0],
        "input_features": inputs["input_features"],
        "wavlm_mean": output.wavlm_embeddings,
        "clap_pooler": output.clap_audio_embeddings,
        "fused": output.embeddings,
        **{f"{task}_logits": output.task_logits[task] for task in model.config.task_names},
    }
    for stage, value in stages.items():
        np.testing.assert_allclose(value.numpy(), golden[stage], atol=1e-4, err_msg=stage)


def test_a_bare_state_dict_gives_the_same_model(mathrock_reference, tmp_path):
    convert(mathrock_reference, tmp_path / "wrapped")
    torch.save(read_state_dict(mathrock_reference / "model.pth"), tmp_path / "bare.pth")
    convert_checkpoint(
        tmp_path / "bare.pth",
        tmp_path / "bare",
        mathrock_reference / "wavlm_config.json",
        mathrock_reference / "clap_audio_config.json",
    )
    wrapped, bare = (tmp_path / name / "model.safetensors" for name in ("wrapped", "bare"))
    assert wrapped.read_bytes() == bare.read_bytes()


def test_missing_and_unexpected_keys_are_refused_by_name(mathrock_reference, tmp_path):
    state = read_state_dict(mathrock_reference / "model.pth")
    state["extra.weight"] = state.pop("fusion.0.weight")
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"1 missing: fusion\.0\.weight; 1 unexpected: extra\.weight"):
        convert_checkpoint(
            tmp_path / "model.pth",
            tmp_path / "out",
            mathrock_reference / "wavlm_config.json",
            mathrock_reference / "clap_audio_config.json",
        )
    assert not (tmp_path / "out").exists()


def test_backbones_of_another_size_point_to_the_config_options(mathrock_reference, tmp_path):
    with pytest.raises(ValueError, match="--wavlm-config"):
        convert_checkpoint(mathrock_reference / "model.pth", tmp_path / "out")


class Hostile:
    def __reduce__(self):
        import os

        return os.system, ("touch hostile_code_ran",)


def test_a_hostile_pickle_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pth").write_bytes(pickle.dumps({"model_state_dict": Hostile()}))
    torch.save({"model_state_dict": {"wavlm.x": Hostile()}}, tmp_path / "zip.pth")
    for name, named in (("model.pth", ""), ("zip.pth", "system")):
        with pytest.raises(ValueError, match=f"{name} is refused.*{named}"):
            convert_checkpoint(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "hostile_code_ran").exists()


def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(tmp_path):
    torch.save({"wavlm.big": torch.zeros(1).expand(2**20)}, tmp_path / "model.pth")
    with pytest.raises(ValueError, match="claims shape"):
        read_state_dict(tmp_path / "model.pth")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken zip"])
def test_what_is_no_checkpoint_is_said_to_be_none(content, tmp_path):
    (tmp_path / "model.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.pth"):
        read_state_dict(tmp_path / "model.pth")
