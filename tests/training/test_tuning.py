# SPDX-License-Identifier: Apache-2.0
"""Heads alone over cached embeddings, and adapters inside the backbones."""

import copy
import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hf_mathrock import MathRockFeatureExtractor, MathRockForAudioClassification, MathRockTrainer
from hf_mathrock.data import embeddings
from hf_mathrock.data.embedded_windows import EmbeddedWindows
from hf_mathrock.training.arguments import MathRockTrainingArguments
from hf_mathrock.training.tuning import (
    add_adapters,
    is_adapted,
    keep_frozen_in_evaluation,
    merged_model,
    prepare_for_tuning,
)

EXTRACTOR = MathRockFeatureExtractor(window_seconds=2.0, hop_seconds=1.0)
RATE = 16_000


def rows(num=6, seconds=3.5, seed=0):
    """Tones whose pitch gives the tempo class and whose tremor the vibe."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    made = []
    for index in range(num):
        tempo, vibe = index % 3, index % 4
        audio = np.sin(2 * np.pi * (200 * 4**tempo) * time) * (1 + 0.8 * np.sin(2 * np.pi * 3 * vibe * time)) / 4
        audio += 0.01 * random.standard_normal(len(time))
        labels = {"tempo": ("slow", "moderate", "fast")[tempo], "vibe": vibe, "emotion": ["joy"] if index % 2 else []}
        made.append({"audio": {"array": audio.astype(np.float32), "sampling_rate": RATE}, **labels})
    return made


def arguments(folder, **settings):
    defaults = {"max_steps": 2, "per_device_train_batch_size": 2, "save_strategy": "no", "disable_tqdm": True}
    settings = {**defaults, "embedding_cache_dir": str(folder / "embeddings"), **settings}
    return MathRockTrainingArguments(str(folder / "run"), use_cpu=True, **settings)


def trainer(model, folder, train=None, evaluate=None, **settings):
    return MathRockTrainer(
        model=copy.deepcopy(model),
        args=arguments(folder, **settings),
        train_dataset=rows() if train is None else train,
        eval_dataset=rows(4, seed=1) if evaluate is None else evaluate,
        processing_class=EXTRACTOR,
    )


def inputs(num=3, seconds=2.0):
    return dict(EXTRACTOR([row["audio"] for row in rows(num, seconds)]))


def logits_of(model, batch):
    with torch.no_grad():
        return model(**batch).task_logits


def shaken(adapted, scale=0.3):
    """Adapters begin as zero; give each a value that is heard."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_B." in name:
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return adapted


# Heads over frozen backbones.


def test_heads_alone_change_and_the_backbones_are_asked_once(tiny_model, tmp_path, monkeypatch):
    made = trainer(tiny_model, tmp_path, tuning="heads", max_steps=6, learning_rate=1e-2)
    made.train()
    before, after = tiny_model.state_dict(), made.model.state_dict()
    for name, values in before.items():
        frozen = name.startswith(("mathrock.wavlm.", "mathrock.clap_audio."))
        if frozen:
            assert torch.equal(values, after[name]), name
    learnt = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert {"wavlm_projection", "clap_audio_projection", "fusion", "emotion", "vibe", "tempo"} <= learnt
    assert isinstance(made.train_dataset, EmbeddedWindows)
    made.evaluate()

    # Another run, of other heads: no audio is decoded, no backbone runs.
    def no(*_args, **_kwargs):
        raise AssertionError("a backbone or a decoder was used")

    monkeypatch.setattr(embeddings, "open_audio", no)
    again = trainer(tiny_model, tmp_path, tuning="heads")
    for name in ("wavlm", "clap_audio"):
        monkeypatch.setattr(getattr(again.model.mathrock, name), "forward", no)
    again.train()
    assert np.isfinite(again.evaluate()["eval_loss"])


def test_heads_learn_a_batch_by_heart(tiny_model, tmp_path):
    data = rows(4)
    made = trainer(
        tiny_model,
        tmp_path,
        data,
        data,
        tuning="heads",
        max_steps=60,
        learning_rate=1e-2,
        per_device_train_batch_size=4,
    )
    made.train()
    assert made.evaluate()["eval_tempo_accuracy"] == 1.0


def test_evaluation_over_embeddings_equals_evaluation_over_audio(tiny_model, tmp_path):
    songs = rows(4, seed=1)
    songs[1]["audio"]["array"][:] = 0  # silence has no say
    measured = [trainer(tiny_model, tmp_path, evaluate=songs, tuning=tuning).evaluate() for tuning in ("heads", "full")]
    for name, value in measured[1].items():
        if "runtime" not in name and "per_second" not in name and "preparation" not in name:
            assert measured[0][name] == pytest.approx(value, abs=1e-6), name


def test_classes_are_counted_without_reading_audio(tiny_model, tmp_path):
    made = trainer(tiny_model, tmp_path, rows(4), tuning="heads")
    assert made.class_weights["tempo"].tolist() == pytest.approx([2 / 3, 4 / 3, 4 / 3])
    assert not (tmp_path / "embeddings").exists()
    made.train()
    assert len(made.train_dataset.encoded_labels) == 4


@pytest.mark.parametrize("tuning", ["heads", "lora"])
def test_a_resumed_run_ends_where_an_uninterrupted_one_ends(tiny_model, tmp_path, tuning):
    """Three steps an epoch; the run stops after the second."""
    data = rows(6)
    settings = {"tuning": tuning, "max_steps": 5, "save_strategy": "steps", "save_steps": 2}
    whole = trainer(tiny_model, tmp_path / "whole", data, **settings)
    whole.train()
    resumed = trainer(tiny_model, tmp_path / "resumed", data, **settings)
    torch.rand(5)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "run" / "checkpoint-2"))
    ours, theirs = resumed.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[name], values) for name, values in theirs.items())
    start = prepare_for_tuning(copy.deepcopy(tiny_model), arguments(tmp_path, **settings)).state_dict()
    assert any(not torch.equal(start[name], values) for name, values in theirs.items())


@pytest.mark.parametrize("tuning", ["heads", "lora"])
def test_early_stopping_keeps_the_best(tiny_model, tmp_path, tuning):
    data = rows(4, seconds=2.0)
    made = trainer(
        tiny_model,
        tmp_path,
        data,
        data,
        tuning=tuning,
        max_steps=-1,
        num_train_epochs=6,
        early_stopping_patience=1,
        learning_rate=0.0,  # nothing gets better
        backbone_learning_rate=0.0,
    )
    made.train()
    assert made.state.epoch == 2
    kept = load_best(made)
    for name, values in kept.items():
        torch.testing.assert_close(dict(merged_model(made.model).named_parameters())[name], values)


def load_best(made):
    """Parameters of the best checkpoint that both forms have: the first head's."""
    folder = made.state.best_model_checkpoint
    if is_adapted(made.model):
        saved = load_file(os.path.join(folder, "adapter_model.safetensors"))
        return {name.removeprefix("base_model.model."): values for name, values in saved.items() if "heads" in name}
    saved = load_file(os.path.join(folder, "model.safetensors"))
    return {name: values for name, values in saved.items() if name.startswith("heads")}


def test_augmentation_cannot_be_heard_by_heads_alone(tiny_model, tmp_path):
    args = arguments(tmp_path, tuning="heads", augment="light")
    with pytest.raises(ValueError, match="`augment` is 'light' with tuning='heads'"):
        prepare_for_tuning(copy.deepcopy(tiny_model), args)


def test_rows_of_inputs_go_through_backbones_in_evaluation_mode(tiny_model, tmp_path):
    ready = [
        {**{key: values[0] for key, values in EXTRACTOR(row["audio"]).items() if key != "windows_per_clip"}, **row}
        for row in rows(4, seconds=2.0)
    ]
    for row in ready:
        del row["audio"]
    made = trainer(tiny_model, tmp_path, ready, ready, tuning="heads", learning_rate=0.0, weight_decay=0.0)
    made.train()
    statistics = made.model.mathrock.clap_audio.audio_encoder.batch_norm.running_mean
    assert torch.equal(statistics, tiny_model.mathrock.clap_audio.audio_encoder.batch_norm.running_mean)
    assert not (tmp_path / "embeddings").exists()


def test_what_is_frozen_is_in_evaluation_mode():
    model = torch.nn.Sequential(
        torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(), torch.nn.BatchNorm1d(2)),
        torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2), torch.nn.Dropout()),
    ).train()
    model[0].requires_grad_(False)
    model[1][1].requires_grad_(False)
    keep_frozen_in_evaluation(model)
    assert not any(module.training for module in model[0].modules())
    assert [module.training for module in model[1]] == [True, False, True]


# Adapters.


def test_every_adapter_is_heard_and_gets_a_gradient(tiny_model):
    adapted = shaken(add_adapters(copy.deepcopy(tiny_model), rank=2, alpha=4)).eval()
    batch = inputs(1)
    output = adapted(**batch)
    sum(values.square().sum() for values in output.task_logits.values()).backward()
    names = [name for name, _ in adapted.named_parameters() if ".lora_" in name]
    assert len(names) == 2 * 4 * 4  # queries, keys, values and outputs of two WavLM layers and two CLAP blocks
    before = {name: values.clone() for name, values in output.task_logits.items()}
    for name, parameter in adapted.named_parameters():
        if ".lora_" not in name:
            continue
        if ".k_proj." not in name and ".self.key." not in name:  # a softmax hardly hears its keys in so small a model
            assert parameter.grad.abs().max() > 1e-9, name
        assert parameter.grad.abs().max() > 0, name
        if ".lora_B." in name:
            kept = parameter.detach().clone()
            with torch.no_grad():
                parameter.add_(3.0)
            assert any((logits_of(adapted, batch)[task] - before[task]).abs().max() > 0 for task in before), name
            with torch.no_grad():
                parameter.copy_(kept)


def test_adapters_begin_without_effect_and_only_they_and_the_new_parts_learn(tiny_model):
    adapted = add_adapters(copy.deepcopy(tiny_model), seed=5).eval()
    batch = inputs()
    for name, values in logits_of(tiny_model, batch).items():
        assert torch.equal(logits_of(adapted, batch)[name], values)
    trainable = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    fresh = {name for name in trainable if ".lora_" not in name}
    expected = [
        name
        for name, _ in tiny_model.named_parameters()
        if not name.startswith(("mathrock.wavlm.", "mathrock.clap_audio."))
    ]
    assert len(fresh) == len(expected)
    assert not any("gru_rel_pos" in name for name in trainable)


def test_the_first_weights_of_adapters_follow_from_the_seed(tiny_model, tmp_path):
    state = torch.random.get_rng_state()
    one, other, third = (
        prepare_for_tuning(copy.deepcopy(tiny_model), arguments(tmp_path, tuning="lora", seed=seed)).state_dict()
        for seed in (1, 1, 2)
    )
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(not torch.equal(one[name], third[name]) for name in one)


def test_a_merged_model_says_the_same_where_neither_peft_nor_this_package_is(tiny_model, tmp_path):
    adapted = shaken(add_adapters(copy.deepcopy(tiny_model))).eval()
    with torch.no_grad():
        adapted.get_base_model().heads["tempo"].modules_to_save["default"][1].bias.add_(1.0)
    batch = inputs()
    expected = logits_of(adapted, batch)
    merged = merged_model(adapted)
    assert type(merged) is MathRockForAudioClassification and is_adapted(adapted)
    assert sorted(merged.state_dict()) == sorted(tiny_model.state_dict())
    for name, values in expected.items():
        torch.testing.assert_close(logits_of(merged, batch)[name], values, atol=1e-5, rtol=0)
        torch.testing.assert_close(logits_of(adapted, batch)[name], values, atol=0, rtol=0)  # that was a copy
    assert max((logits_of(tiny_model, batch)[name] - values).abs().max() for name, values in expected.items()) > 1e-2

    merged.save_pretrained(tmp_path / "saved")
    torch.save(batch, tmp_path / "batch.pt")
    code = """
import sys, json
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "hf_mathrock":
            raise ImportError(name + " is not here")
sys.meta_path.insert(0, Block())
sys.modules["peft"] = None
import torch
from transformers import AutoModelForAudioClassification
model = AutoModelForAudioClassification.from_pretrained("saved", trust_remote_code=True).eval()
with torch.no_grad():
    print(json.dumps(model(**torch.load("batch.pt")).task_logits["tempo"].tolist()))
"""
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    cold = torch.tensor(json.loads(done.stdout.splitlines()[-1]))
    torch.testing.assert_close(cold, expected["tempo"], atol=1e-5, rtol=0)


def test_a_saved_model_is_plain_and_a_checkpoint_holds_the_adapters(tiny_model, tmp_path):
    made = trainer(
        tiny_model,
        tmp_path,
        rows(4, seconds=2.0),
        tuning="lora",
        save_strategy="steps",
        save_steps=2,
        learning_rate=1e-2,
    )
    made.train()
    checkpoint = tmp_path / "run" / "checkpoint-2"
    assert (checkpoint / "adapter_model.safetensors").exists() and not (checkpoint / "model.safetensors").exists()
    assert json.loads((checkpoint / "adapter_config.json").read_text())["base_model_name_or_path"] is None
    made.save_model(str(tmp_path / "saved"))
    assert is_adapted(made.model)
    assert not list((tmp_path / "saved").glob("adapter*"))
    batch = inputs()
    loaded = MathRockForAudioClassification.from_pretrained(tmp_path / "saved").eval()
    MathRockFeatureExtractor.from_pretrained(tmp_path / "saved")
    for name, values in logits_of(made.model.eval(), batch).items():
        torch.testing.assert_close(logits_of(loaded, batch)[name], values, atol=1e-5, rtol=0)
        assert (logits_of(tiny_model, batch)[name] - values).abs().max() > 1e-3


def test_frozen_statistics_do_not_follow_the_batches(tiny_model, tmp_path):
    made = trainer(tiny_model, tmp_path, rows(4, seconds=2.0), tuning="lora")
    made.train()
    before, after = tiny_model.state_dict(), merged_model(made.model).state_dict()
    for name in before:
        if "batch_norm" in name or "conv" in name:
            assert torch.equal(before[name], after[name]), name


def test_adapters_learn_at_the_rate_of_the_heads(tiny_model, tmp_path):
    made = trainer(tiny_model, tmp_path, tuning="lora", learning_rate=1e-3, backbone_learning_rate=1e-5)
    groups = made.create_optimizer().param_groups
    assert {group["lr"] for group in groups} == {1e-3}
    trainable = [parameter for parameter in made.model.parameters() if parameter.requires_grad]
    assert sum(len(group["params"]) for group in groups) == len(trainable)


def test_checkpointed_activations_give_the_same_gradients(tiny_model):
    gradients = []
    for checkpointing in (False, True):
        adapted = shaken(add_adapters(copy.deepcopy(tiny_model)))
        base = adapted.get_base_model()
        base.config.wavlm_config.layerdrop, base.config.wavlm_config.apply_spec_augment = 0.0, False
        for module in adapted.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        for layer in base.mathrock.wavlm.encoder.layers:
            layer.attention.dropout = 0.0
        adapted.train()
        keep_frozen_in_evaluation(adapted)
        if checkpointing:
            adapted.activation_checkpointing_enable()
        sum(values.square().sum() for values in adapted(**inputs(2)).task_logits.values()).backward()
        gradients.append({name: p.grad for name, p in adapted.named_parameters() if p.requires_grad})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


@pytest.mark.parametrize("settings", [{"activation_checkpointing": True}, {"bf16": True}], ids=lambda s: next(iter(s)))
def test_adapters_learn_under_checkpointing_and_in_low_precision(tiny_model, tmp_path, settings):
    made = trainer(tiny_model, tmp_path, rows(4, seconds=2.0), tuning="lora", learning_rate=1e-2, **settings)
    before = copy.deepcopy(made.model.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        made.train()
    after = made.model.state_dict()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert {name for name in before if ".lora_B." in name} <= set(changed)
    assert all(torch.isfinite(after[name]).all() for name in changed)
    assert np.isfinite(made.evaluate()["eval_loss"])


def test_what_cannot_be_tuned_is_said(tiny_model, tmp_path):
    with pytest.raises(ValueError, match="no gradient"):
        prepare_for_tuning(
            copy.deepcopy(tiny_model),
            arguments(
                tmp_path,
                tuning="lora",
                activation_checkpointing=True,
                activation_checkpointing_kwargs={"use_reentrant": True},
            ),
        )
    with pytest.raises(ValueError, match="`lora_rank` is 0"):
        add_adapters(copy.deepcopy(tiny_model), rank=0)


def test_without_peft_the_extra_is_named(tiny_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r'pip install "hf-mathrock\[train\]"'):
        add_adapters(copy.deepcopy(tiny_model))
