# SPDX-License-Identifier: Apache-2.0
"""What every family of taggers promises, one test for all of them."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification, pipeline

from tiny_taggers import MEL, RATE, TAGGERS, save_tiny_tagger, tagger_class, tiny_config, tiny_extractor, tiny_tagger

THREE = ["rock", "jazz", "folk"]
TASKS = [
    {"name": "genre", "type": "single_label", "labels": THREE},
    {"name": "mood", "type": "multi_label", "labels": ["calm", "angry"]},
]


@pytest.fixture(params=list(TAGGERS))
def family(request):
    return request.param


@pytest.fixture(scope="module")
def taggers():
    """One small tagger per family; tests must not change them."""
    return {family: tiny_tagger(family, num_labels=3) for family in TAGGERS}


@pytest.fixture
def tagger(family, taggers):
    return taggers[family]


def audio(seconds, seed=0):
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    tones = sum(np.sin(2 * np.pi * f * time + random.uniform(0, 6)) for f in random.uniform(80, 3000, size=5))
    return torch.from_numpy((0.1 * tones + 0.02 * random.standard_normal(len(time))).astype(np.float32))


def window(model, rows=2, seed=0):
    """Rows as long as the model was made for."""
    return torch.stack([audio(2, seed + row)[: model.config.input_samples] for row in range(rows)])


def padded(clips, value=0.0):
    length = max(map(len, clips)) + 700
    values, mask = torch.full((len(clips), length), value), torch.zeros(len(clips), length, dtype=torch.long)
    for row, clip in enumerate(clips):
        values[row, : len(clip)], mask[row, : len(clip)] = clip, 1
    return {"input_values": values, "attention_mask": mask}


def any_length(model):
    if not model.config.accepts_any_length:
        pytest.skip("this one hears a fixed length")


# -- Saving and loading -----------------------------------------------------------------------------------------------


def test_a_model_that_was_saved_says_the_same(tagger, family, tmp_path):
    tagger.save_pretrained(tmp_path)
    again, info = AutoModelForAudioClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(again) is tagger_class(family, "ForAudioClassification")
    assert {n: t.dtype for n, t in again.state_dict().items()} == {n: t.dtype for n, t in tagger.state_dict().items()}
    with torch.no_grad():
        expected, given = tagger(window(tagger)), again.eval()(window(tagger))
    assert torch.equal(given.logits, expected.logits)
    assert again.config.to_dict() == AutoConfig.from_pretrained(tmp_path).to_dict()


def test_saved_fields_are_all_of_them(family, tmp_path):
    config = tiny_config(family, thresholds={"tag": [0.25] * 50}, temperatures={"tag": 1.5})
    config.save_pretrained(tmp_path)
    first = (tmp_path / "config.json").read_text()
    AutoConfig.from_pretrained(tmp_path).save_pretrained(tmp_path)
    assert (tmp_path / "config.json").read_text() == first
    assert json.loads(first)["auto_map"].keys() == {
        "AutoConfig",
        "AutoFeatureExtractor",
        "AutoModel",
        "AutoModelForAudioClassification",
    }


def test_the_base_model_loads_from_the_classifier(tagger, family, tmp_path):
    tagger.save_pretrained(tmp_path)
    base, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and type(base) is tagger_class(family, "Model")
    with torch.no_grad():
        torch.testing.assert_close(
            base.eval()(window(tagger)).embeddings, tagger(window(tagger)).embeddings, atol=0, rtol=0
        )


def test_a_saved_pipeline_serves_and_holds_its_code(family, tmp_path):
    pipe = save_tiny_tagger(family, tmp_path)
    there = {path.name for path in tmp_path.glob("*.py")}
    assert {f"modeling_{family}.py", f"configuration_{family}.py", "pipeline_music_tagging.py"} <= there
    assert "feature_extraction_music_tagging.py" in there
    config = json.loads((tmp_path / "config.json").read_text())
    for reference in (*config["auto_map"].values(), *(entry["impl"] for entry in config["custom_pipelines"].values())):
        assert f"{reference.split('.')[0]}.py" in there, reference
    again = pipeline("music-tagging", model=str(tmp_path), device="cpu")
    clip = {"raw": audio(3.3).numpy(), "sampling_rate": RATE}
    assert again(clip)["tags"] == pipe(clip)["tags"]
    assert len(pipeline("mathrock-affect", model=str(tmp_path), device="cpu")(clip)["tag"]) == 50


def test_the_stock_pipeline_says_the_same(family, tmp_path):
    pipe = save_tiny_tagger(family, tmp_path)
    stock = pipeline("audio-classification", model=str(tmp_path), device="cpu")
    clip = {"raw": audio(3.0).numpy(), "sampling_rate": RATE}
    expected = pipe(dict(clip), top_k=3)["tags"]
    given = stock(dict(clip), top_k=3, function_to_apply="sigmoid")
    assert [entry["label"] for entry in given] == [entry["label"] for entry in expected]
    assert [entry["score"] for entry in given] == pytest.approx([entry["score"] for entry in expected], abs=1e-5)


def test_an_extractor_that_was_saved_cuts_the_same(tagger, tmp_path):
    extractor = tiny_extractor(tagger)
    tagger.config.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    again = AutoFeatureExtractor.from_pretrained(tmp_path)
    for key, value in extractor(audio(3.3).numpy()).items():
        assert torch.equal(again(audio(3.3).numpy())[key], value), key


# -- Batches ----------------------------------------------------------------------------------------------------------


def test_a_clip_alone_equals_the_clip_in_a_batch(tagger):
    batch = window(tagger, rows=3)
    with torch.no_grad():
        together = tagger(batch)
        for row in range(3):
            torch.testing.assert_close(tagger(batch[row : row + 1]).logits[0], together.logits[row], atol=1e-5, rtol=0)


def test_padding_changes_nothing(tagger):
    any_length(tagger)
    clips = [audio(1.1), audio(0.8, seed=1), audio(1.1, seed=2)]
    with torch.no_grad():
        alone = torch.cat([tagger(clip[None]).logits for clip in clips])
        for value in (0.0, 1e3):
            together = tagger(**padded(clips, value), output_hidden_states=True)
            torch.testing.assert_close(together.logits, alone, atol=1e-6, rtol=0)
    assert all(len(states) == 3 for states in together.hidden_states)


def test_a_mask_that_hides_the_padding_of_whole_windows_is_no_matter_of_length(tagger):
    clip = window(tagger, rows=1)[0]
    with torch.no_grad():
        alone = tagger(clip[None]).logits
        torch.testing.assert_close(tagger(**padded([clip])).logits, alone, atol=1e-6, rtol=0)


def test_a_wrong_length_or_mask_is_refused(tagger):
    clips = padded([window(tagger, rows=1)[0]])
    clips["attention_mask"][:, 5] = 0
    with pytest.raises(ValueError, match="holes"):
        tagger(**clips)
    with pytest.raises(ValueError, match="all 0"):
        tagger(clips["input_values"], attention_mask=torch.zeros_like(clips["attention_mask"]))
    with pytest.raises(ValueError, match="`input_values`"):
        tagger()
    with pytest.raises(ValueError, match="samples"):
        tagger(torch.zeros(1, 3))
    if not tagger.config.accepts_any_length:
        with pytest.raises(ValueError, match=str(tagger.config.input_samples)):
            tagger(audio(1.7)[None])


def test_longer_audio_than_in_training_is_heard_where_the_model_can(tagger):
    any_length(tagger)
    with torch.no_grad():
        assert tagger(audio(1.3 * tagger.config.window_seconds)[None]).logits.isfinite().all()


def test_windows_of_a_clip_give_the_mean_of_their_probabilities(family):
    tagger = tiny_tagger(family, tasks=TASKS)
    windows = window(tagger, rows=4)
    with torch.no_grad():
        each = tagger(windows)
        clips = tagger(windows, windows_per_clip=torch.tensor([3, 1]))
    torch.testing.assert_close(
        clips.task_logits["mood"].sigmoid()[0], each.task_logits["mood"].sigmoid()[:3].mean(0), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(clips.logits.softmax(-1)[0], each.logits.softmax(-1)[:3].mean(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(clips.task_logits["mood"][1], each.task_logits["mood"][3], atol=1e-5, rtol=0)
    torch.testing.assert_close(clips.embeddings[0], each.embeddings[:3].mean(0), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="counts 5 windows, the batch holds 4"):
        tagger(windows, windows_per_clip=torch.tensor([4, 1]))


def test_the_extractors_windows_are_what_the_model_takes(tagger):
    extractor = tiny_extractor(tagger)
    with torch.no_grad():
        output = tagger(**extractor([audio(3.3).numpy(), audio(0.2).numpy(), audio(1.0).numpy()]))
    assert output.logits.shape == (3, 3) and output.logits.isfinite().all()


# -- Learning ---------------------------------------------------------------------------------------------------------


def test_every_parameter_has_a_gradient(family):
    tagger = tiny_tagger(family, tasks=TASKS).train()
    for module in tagger.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    labels = {"genre": torch.tensor([0, 2, 1, 1]), "mood": torch.tensor([[1.0, 0.0], [0.0, -100.0]] * 2)}
    output = tagger(window(tagger, rows=4), labels=labels)
    output.loss.backward()
    assert set(output.task_losses) == {"genre", "mood"}
    without = [name for name, p in tagger.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []
    assert all(p.grad.isfinite().all() for p in tagger.parameters())


def test_the_loss_is_plain_cross_entropy(tagger):
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    output = tagger(window(tagger), labels=labels)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(output.logits, labels)
    torch.testing.assert_close(output.loss, expected)


def test_a_step_of_training_lowers_the_loss(family):
    tagger = tiny_tagger(family, num_labels=3)
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    optimizer = torch.optim.Adam(tagger.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        loss = tagger(window(tagger, rows=3), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_gradient_checkpointing_gives_the_same_gradients(tagger, family):
    if not tagger.supports_gradient_checkpointing:
        with pytest.raises(ValueError, match="does not support"):
            tiny_tagger(family).gradient_checkpointing_enable()
        return
    gradients = []
    for checkpointing in (False, True):
        model = tiny_tagger(family, num_labels=3)
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.train()  # which switches checkpointing on
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            for name in ("hidden_dropout", "attention_dropout", "dropout"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, 0.0)
        model(window(model)).logits.square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_low_precision_hears_nearly_the_same(tagger, family):
    low = tagger_class(family, "ForAudioClassification")(tagger.config)
    low.load_state_dict(tagger.state_dict())
    low.eval().to(torch.bfloat16)
    clips = window(tagger)
    with torch.no_grad():
        expected = tagger(clips).logits.sigmoid()
        given = low(clips.bfloat16()).logits
        assert given.dtype == torch.bfloat16
        torch.testing.assert_close(given.float().sigmoid(), expected, atol=0.05, rtol=0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(tagger(clips).logits.float().sigmoid(), expected, atol=0.05, rtol=0)


def test_statistics_stay_in_single_precision(tagger, tmp_path):
    tagger.save_pretrained(tmp_path)
    low = AutoModelForAudioClassification.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    weights = low.state_dict()
    assert weights["classifier.weight"].dtype == torch.bfloat16
    assert {tensor.dtype for name, tensor in weights.items() if "running_" in name} == {torch.float32}
    with torch.no_grad():
        expected = tagger(window(tagger)).logits.sigmoid()
        torch.testing.assert_close(low(window(tagger)).logits.float().sigmoid(), expected, atol=0.05, rtol=0)


# -- Labels -----------------------------------------------------------------------------------------------------------


def test_labels_in_transformers_words(family):
    assert tiny_config(family).num_labels == 50
    config = tiny_config(family, num_labels=4)
    assert config.id2label == {index: f"LABEL_{index}" for index in range(4)} and config.task_names == ["tag"]
    assert config.problem_type == "multi_label_classification" and config.num_outputs == 4
    config = tiny_config(family, id2label=dict(enumerate(THREE)), problem_type="single_label_classification")
    assert config.tasks[0]["labels"] == THREE and config.tasks[0]["type"] == "single_label"
    assert config.label2id == {"rock": 0, "jazz": 1, "folk": 2}


def test_several_tasks_share_one_head(family):
    tagger = tiny_tagger(family, tasks=TASKS)
    assert tagger.config.num_outputs == 5 and tagger.config.id2label == dict(enumerate(THREE))
    with torch.no_grad():
        output = tagger(window(tagger))
    assert {name: tuple(logits.shape) for name, logits in output.task_logits.items()} == {
        "genre": (2, 3),
        "mood": (2, 2),
    }
    assert torch.equal(output.logits, output.task_logits["genre"])


def test_other_labels_on_a_checkpoint_keep_the_network(tagger, family, tmp_path):
    tagger.save_pretrained(tmp_path)
    changed, info = AutoModelForAudioClassification.from_pretrained(
        tmp_path, num_labels=7, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert changed.config.num_outputs == 7 and changed(window(changed)).logits.shape == (2, 7)
    assert not info["missing_keys"] and len(info["mismatched_keys"]) == 2
    assert all(parameter.isfinite().all() for parameter in changed.parameters())
    for name, tensor in tagger.base_model.state_dict().items():
        assert torch.equal(changed.base_model.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sampling_rate": 0}, "`sampling_rate` is 0"),
        ({"input_samples": -3}, "`input_samples` is -3"),
        ({"feature": {"num_mel_binz": 3}}, "num_mel_binz"),
        ({"feature": {"kind": "cepstrum"}}, "cepstrum"),
        ({"problem_type": "regression"}, "`problem_type` is 'regression'"),
        ({"tasks": [{"name": "x", "type": "multi", "labels": ["a"]}]}, "allowed: 'multi_label'"),
        ({"thresholds": {"tag": [0.5]}}, "needs 50 numbers"),
        ({"temperatures": {"tag": 0}}, "must be positive"),
    ],
)
def test_a_wrong_field_is_refused_by_name(family, fields, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(family, **fields)


def test_a_plain_tuple_has_the_fields_in_order(tagger):
    with torch.no_grad():
        named = tagger(window(tagger), labels=torch.ones(2, 3))
        plain = tagger(window(tagger), labels=torch.ones(2, 3), return_dict=False)
    assert list(named) == ["loss", "logits", "task_logits", "task_losses", "embeddings"]
    assert torch.equal(plain[1], named.logits) and torch.equal(plain[4], named.embeddings)


def test_weights_hold_no_look_up_tables(tagger):
    learnt = {name for name, _ in tagger.named_parameters()}
    tables = {name for name in tagger.state_dict() if name not in learnt}
    assert all(name.endswith(("running_mean", "running_var", "num_batches_tracked")) for name in tables), tables


# -- What reviews found -----------------------------------------------------------------------------------------------


def test_a_feature_given_in_part_at_load_keeps_the_rest(family, tmp_path):
    tiny_config(family).save_pretrained(tmp_path)
    loaded = tagger_class(family, "Config").from_pretrained(tmp_path, feature={"scale": 5000.0})
    assert loaded.feature["scale"] == 5000.0 and loaded.feature["num_mel_bins"] == 16


def test_bands_above_half_the_rate_are_refused_when_the_config_is_made(family):
    with pytest.raises(ValueError, match=r"max_frequency_hz.*3000 Hz holds nothing above 1500"):
        tiny_config(family, sampling_rate=3000, feature={**MEL, "max_frequency_hz": 4000.0})


def test_a_clip_without_windows_is_refused(tagger):
    with pytest.raises(ValueError, match=r"\[1, 0\]; every clip has at least one window"):
        tagger(window(tagger), windows_per_clip=torch.tensor([1, 0]))


def test_a_finished_config_is_checked_again_when_a_model_is_made(family):
    config = tiny_config(family)
    config.input_sample = 3
    with pytest.raises(ValueError, match="no field 'input_sample'; did you mean 'input_samples'"):
        tagger_class(family, "ForAudioClassification")(config)
    config = tiny_config(family)
    config.input_samples = -1
    with pytest.raises(ValueError, match="`input_samples` is -1; it must be a positive whole number"):
        tagger_class(family, "Model")(config)
    with pytest.raises(ValueError, match="must be a dict"):
        tiny_config(family, feature="mel")
    assert tiny_config(family, id2label=["a", "b"]).label2id == {"a": 0, "b": 1}
