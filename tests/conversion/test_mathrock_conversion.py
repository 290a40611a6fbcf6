# SPDX-License-Identifier: Apache-2.0
"""The reference's checkpoint, converted, computes what the reference's own wiring computed."""

import json
import pickle

import numpy as np
import pytest
import torch

from hf_mathrock.conversion.mathrock import CheckpointMismatch, convert_checkpoint, read_state_dict


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


def test_a_wholly_wrong_checkpoint_is_said_to_be_one_in_a_few_names(tmp_path):
    torch.save({f"layer.{number}.weight": torch.zeros(2) for number in range(20)}, tmp_path / "model.pth")
    with pytest.raises(CheckpointMismatch, match=r"none of its 20 names.*layer\.7\.weight and 12 more") as caught:
        convert_checkpoint(tmp_path / "model.pth", tmp_path / "out")
    assert len(str(caught.value)) < 1500 and "--wavlm-config" not in str(caught.value)
    assert len(caught.value.unexpected) == 20 and len(caught.value.missing) > 300 and caught.value.misshapen == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "no JSON object"),
        ("{", "is not JSON"),
        ('{"model_type": "hubert"}', "of type 'hubert'.*of type 'wavlm'"),
    ],
)
def test_a_config_of_something_else_is_refused_by_name(content, message, tmp_path):
    torch.save({"wavlm.x": torch.zeros(1)}, tmp_path / "model.pth")
    (tmp_path / "w.json").write_text(content)
    with pytest.raises(ValueError, match=rf"w\.json.*{message}"):
        convert_checkpoint(tmp_path / "model.pth", tmp_path / "out", wavlm_config=tmp_path / "w.json")


def test_claps_config_may_be_whole_or_its_audio_towers_but_of_no_other_model(mathrock_reference, tmp_path):
    tower = json.loads((mathrock_reference / "clap_audio_config.json").read_text())
    config = tmp_path / "clap.json"
    config.write_text(json.dumps({"model_type": "clap", "audio_config": tower}))
    checkpoint, wavlm = mathrock_reference / "model.pth", mathrock_reference / "wavlm_config.json"
    assert convert_checkpoint(checkpoint, tmp_path / "out", wavlm, config).num_tensors > 0
    config.write_text(json.dumps({"model_type": "clap", "audio_config": None}))
    with pytest.raises(ValueError, match=r"clap\.json holds no JSON object"):
        convert_checkpoint(checkpoint, tmp_path / "out", wavlm, config)
    with pytest.raises(ValueError, match=r"wavlm_config\.json is of .*'wavlm'; .*'clap_audio_model' or 'clap'"):
        convert_checkpoint(checkpoint, tmp_path / "out", wavlm, wavlm)


def test_an_out_that_is_a_file_is_refused_before_any_work(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        convert_checkpoint(tmp_path / "absent.pth", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


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


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_of_any_protocol_is_refused(protocol, wrapped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hostile = {"model_state_dict": Hostile()} if wrapped else Hostile()
    (tmp_path / "model.pth").write_bytes(pickle.dumps(hostile, protocol))
    if protocol > 1:  # zip archives are written from protocol 2 on
        torch.save(hostile, tmp_path / "zip.pth", pickle_protocol=protocol)
    for path in tmp_path.glob("*.pth"):
        with pytest.raises(ValueError, match="is refused"):
            read_state_dict(path)
    assert not (tmp_path / "hostile_code_ran").exists()


def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(tmp_path):
    torch.save({"wavlm.big": torch.zeros(1).expand(2**20)}, tmp_path / "model.pth")
    with pytest.raises(ValueError, match="claims shape"):
        read_state_dict(tmp_path / "model.pth")


@pytest.mark.parametrize("content", [b"", b".", b"not a checkpoint", b"PK\x03\x04 broken zip", b"\x1f\x8b\x08\0"])
def test_what_is_no_checkpoint_is_said_to_be_none(content, tmp_path):
    (tmp_path / "model.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.pth is no (readable )?checkpoint"):
        read_state_dict(tmp_path / "model.pth")


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b"<!DOCTYPE html><title>404</title>", "web page"),
    ],
)
def test_what_stands_in_for_a_checkpoint_is_named(content, advice, tmp_path):
    (tmp_path / "model.pth").write_bytes(content)
    with pytest.raises(ValueError, match=rf"model\.pth is no checkpoint.*{advice}"):
        read_state_dict(tmp_path / "model.pth")


@pytest.mark.parametrize("content", [{1: torch.zeros(1)}, {"model_state_dict": {0: torch.zeros(1)}}, [torch.zeros(1)]])
def test_what_has_no_names_is_no_state_dict(content, tmp_path):
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(ValueError, match="holds no state dict"):
        read_state_dict(tmp_path / "model.pth")
