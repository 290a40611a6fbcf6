# SPDX-License-Identifier: Apache-2.0
"""The contract of the MathRock models."""

import copy

import numpy as np
import pytest
import torch
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, Wav2Vec2FeatureExtractor, WavLMModel

from hf_mathrock import MathRockConfig, MathRockFeatureExtractor, MathRockForAudioClassification, MathRockModel
from hf_mathrock.models.modeling_wavlm_sdpa import SdpaWavLMModel
from hf_mathrock.models.pooling import masked_mean, mean_over_windows


def tones(seconds, seed=0, rate=48_000):
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    audio = sum(np.sin(2 * np.pi * f * time + random.uniform(0, 6)) for f in random.uniform(80, 6000, size=6))
    return (0.05 * audio + 0.01 * random.standard_normal(len(time))).astype(np.float32)


def test_fused_attention_equals_the_stock_model(tiny_model):
    fused = tiny_model.mathrock.wavlm
    stock = WavLMModel(fused.config).eval()
    stock.load_state_dict(fused.state_dict())
    audio = torch.from_numpy(tones(3, rate=16_000))[None].repeat(2, 1)
    with torch.no_grad():
        expected = stock(audio, output_hidden_states=True)
        given = fused(audio, output_hidden_states=True)
    torch.testing.assert_close(given.last_hidden_state, expected.last_hidden_state, atol=1e-5, rtol=0)
    assert len(given.hidden_states) == len(expected.hidden_states)
    for ours, theirs in zip(given.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_fused_attention_has_the_stock_gradients(tiny_model):
    config = tiny_model.config.wavlm_config
    stock, fused = WavLMModel(config).eval(), SdpaWavLMModel(config).eval()
    fused.load_state_dict(stock.state_dict())
    audio = torch.from_numpy(tones(1, rate=16_000))[None]
    stock(audio).last_hidden_state.square().sum().backward()
    fused(audio).last_hidden_state.square().sum().backward()
    for (name, theirs), ours in zip(stock.named_parameters(), fused.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-3, rtol=1e-3, msg=name)


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("num_samples", [400, 5_431, 31_999])
def test_padding_does_not_change_wavlm(norm, num_samples, tiny_model):
    settings = tiny_model.config.wavlm_config.to_dict() | {"feat_extract_norm": norm}
    settings |= {"conv_bias": norm == "layer", "do_stable_layer_norm": norm == "layer"}
    model = SdpaWavLMModel(type(tiny_model.config.wavlm_config)(**settings)).eval()
    audio = torch.from_numpy(tones(2, rate=16_000))[:num_samples]
    padded, mask = torch.zeros(2, 32_000), torch.zeros(2, 32_000, dtype=torch.long)
    padded[0, :num_samples], mask[0, :num_samples] = audio, 1
    padded[1], mask[1] = torch.from_numpy(tones(2, seed=1, rate=16_000)), 1
    with torch.no_grad():
        alone = model(audio[None]).last_hidden_state[0]
        batched = model(padded, attention_mask=mask)
    assert int(batched.frame_mask[0].sum()) == len(alone)
    torch.testing.assert_close(batched.last_hidden_state[0, : len(alone)], alone, atol=2e-5, rtol=0)


def test_a_clip_alone_equals_the_clip_in_a_batch(tiny_model):
    extractor = MathRockFeatureExtractor()
    clips = [tones(10), tones(3.3, seed=1), tones(0.02, seed=2), tones(7, seed=3)]
    with torch.no_grad():
        together = tiny_model(**extractor(clips))
        for row, clip in enumerate(clips):
            alone = tiny_model(**extractor(clip))
            for task, logits in together.task_logits.items():
                torch.testing.assert_close(logits[row], alone.task_logits[task][0], atol=1e-5, rtol=0)


def test_windows_of_a_long_clip_are_averaged(tiny_model):
    extractor = MathRockFeatureExtractor()
    long, short = tones(23), tones(4, seed=1)
    inputs = extractor([long, short])
    assert inputs["windows_per_clip"].tolist() == [4, 1]
    with torch.no_grad():
        output = tiny_model(**inputs)
        windows = tiny_model(**{key: value for key, value in inputs.items() if key != "windows_per_clip"})
    assert output.logits.shape == (2, 28)
    torch.testing.assert_close(output.embeddings[0], windows.embeddings[:4].mean(0), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="5 windows, the batch holds 4"):
        mean_over_windows(torch.zeros(4, 2), torch.tensor([4, 1]))


def test_masked_mean_counts_valid_frames_only():
    frames = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert masked_mean(frames, torch.tensor([[True, True, False]])).item() == 2.0
    assert masked_mean(frames, torch.zeros(1, 3, dtype=torch.bool)).item() == 0.0


def test_every_parameter_has_a_gradient(tiny_model):
    model = MathRockForAudioClassification(tiny_model.config).train()
    labels = {"emotion": torch.ones(2, 28)} | {name: torch.ones(2) for name in ("vibe", "intensity", "tempo")}
    torch.manual_seed(0)
    # LayerDrop may skip a layer of a single step.
    for layer_step in range(4):
        inputs = MathRockFeatureExtractor()([tones(10, seed=layer_step), tones(10, seed=9)])
        model(**inputs, labels=labels).loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_the_base_model_loads_from_a_classifier(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    base, info = MathRockModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    inputs = MathRockFeatureExtractor()(tones(2))
    with torch.no_grad():
        torch.testing.assert_close(base(**inputs).embeddings, tiny_model(**inputs).embeddings)


def test_any_taxonomy_is_a_config(tiny_settings):
    tasks = [
        {"name": "meter", "type": "single_label", "labels": ["4/4", "7/8"]},
        {"name": "genre", "type": "multi_label", "labels": ["emo"], "head_hidden": 8, "head_dropout": 0.1},
    ]
    model = MathRockForAudioClassification(MathRockConfig(**tiny_settings, tasks=tasks)).eval()
    output = model(**MathRockFeatureExtractor()(tones(1)), labels=torch.tensor([1]))
    assert {name: tuple(logits.shape) for name, logits in output.task_logits.items()} == {
        "meter": (1, 2),
        "genre": (1, 1),
    }
    assert output.task_losses["meter"] > 0 and output.task_losses["genre"] == 0
    assert model.config.id2label == {0: "4/4", 1: "7/8"}
    assert model.config.problem_type == "single_label_classification"


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"name": "x", "type": "multilabel", "labels": ["a"]}, "allowed: 'multi_label'"),
        ({"name": "segments", "type": "multi_label", "labels": ["a"]}, "cannot name a task"),
        ({"name": "x", "type": "multi_label", "labels": ["a", "a"]}, "more than once"),
        ({"name": "x", "type": "single_label", "labels": ["a"]}, "too few labels"),
        ({"name": "x", "type": "multi_label", "labels": ["a"], "head_hiden": 3}, "head_hiden"),
        ({"name": "x", "labels": ["a"]}, "lacks"),
    ],
)
def test_a_wrong_task_is_refused(task, message):
    with pytest.raises(ValueError, match=message):
        MathRockConfig(tasks=[task])


def test_other_tasks_on_a_checkpoint_survive_saving_and_loading(tiny_model, tmp_path):
    import copy

    model = copy.deepcopy(tiny_model)
    model.config.thresholds, model.config.temperatures = {"emotion": [0.3] * 28}, {"tempo": 2.0, "vibe": 3.0}
    model.save_pretrained(tmp_path / "old")
    tasks = [
        {"name": "meter", "type": "single_label", "labels": ["4/4", "7/8"]},
        {"name": "tempo", "type": "single_label", "labels": ["slow", "moderate", "fast"]},
    ]
    changed = MathRockForAudioClassification.from_pretrained(tmp_path / "old", tasks=tasks, num_labels=7)
    assert changed.config.id2label == {0: "4/4", 1: "7/8"} and changed.config.num_labels == 2
    assert changed.config.thresholds == {} and changed.config.temperatures == {"tempo": 2.0}
    assert torch.equal(changed.heads["tempo"][1].weight, tiny_model.heads["tempo"][1].weight)
    changed.save_pretrained(tmp_path / "new")
    again = MathRockForAudioClassification.from_pretrained(tmp_path / "new")
    assert again.config.task_names == ["meter", "tempo"] and again.config.id2label == {0: "4/4", 1: "7/8"}


def test_a_clip_shorter_than_the_first_frame_is_heard(tiny_settings):
    wide = {
        "conv_dim": [8] * 4,
        "conv_kernel": [20, 8, 8, 4],
        "conv_stride": [10, 4, 4, 4],
        "num_feat_extract_layers": 4,
    }
    settings = tiny_settings | {"wavlm_config": tiny_settings["wavlm_config"] | wide}
    model = MathRockForAudioClassification(MathRockConfig(**settings)).eval()
    with torch.no_grad():
        output = model(**MathRockFeatureExtractor()([tones(0.03), tones(10)]))
    assert output.logits.isfinite().all() and output.wavlm_embeddings[0].abs().sum() > 0


def test_wrong_thresholds_are_refused():
    with pytest.raises(ValueError, match="needs 28 numbers"):
        MathRockConfig(thresholds={"emotion": [0.5]})
    with pytest.raises(ValueError, match="highest score wins"):
        MathRockConfig(thresholds={"vibe": [0.5] * 4})
    with pytest.raises(ValueError, match="must be positive"):
        MathRockConfig(temperatures={"tempo": 0})


def test_fp16_autocast_and_bfloat16_weights_stay_finite(tiny_model):
    inputs = MathRockFeatureExtractor()(tones(10))
    model = MathRockForAudioClassification(tiny_model.config).eval().to(torch.bfloat16)
    model.load_state_dict(tiny_model.state_dict())
    with torch.no_grad():
        low = model(**{k: v.bfloat16() if v.is_floating_point() else v for k, v in inputs.items()})
        full = tiny_model(**inputs)
    torch.testing.assert_close(low.logits.float(), full.logits, atol=0.05, rtol=0.05)


def test_gradient_checkpointing_gives_the_same_gradients(tiny_model):
    inputs = MathRockFeatureExtractor()(tones(1))
    gradients = []
    config = copy.deepcopy(tiny_model.config)
    config.wavlm_config.layerdrop, config.wavlm_config.apply_spec_augment = 0.0, False
    for checkpointing in (False, True):
        model = MathRockForAudioClassification(config)
        model.load_state_dict(tiny_model.state_dict())
        if checkpointing:
            model.gradient_checkpointing_enable()
        # Training mode switches checkpointing on; dropout off makes both runs comparable.
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        for layer in model.mathrock.wavlm.encoder.layers:
            layer.attention.dropout = 0.0
        model(**inputs).logits.sum().backward()
        gradients.append(model.mathrock.wavlm.encoder.layers[0].attention.q_proj.weight.grad)
    torch.testing.assert_close(*gradients)


class TestExtractor:
    def test_the_waveform_is_the_public_extractors(self):
        audio = tones(10, rate=16_000)
        theirs = Wav2Vec2FeatureExtractor(do_normalize=True)(audio, sampling_rate=16_000, return_tensors="np")
        ours = MathRockFeatureExtractor(do_normalize=True)(audio, sampling_rate=16_000)
        np.testing.assert_allclose(ours["input_values"], theirs["input_values"], atol=2e-5)

    @pytest.mark.parametrize("seconds", [10.0, 6.1, 3.2, 0.7])
    def test_the_spectrogram_is_the_public_extractors(self, seconds):
        audio = tones(seconds)
        theirs = ClapFeatureExtractor(truncation="rand_trunc")(audio, sampling_rate=48_000, return_tensors="np")
        ours = MathRockFeatureExtractor()(audio, sampling_rate=48_000)
        np.testing.assert_allclose(ours["input_features"], theirs["input_features"], atol=2e-5)

    def test_long_audio_is_cut_on_the_grid_and_never_at_random(self):
        extractor = MathRockFeatureExtractor()
        audio = tones(22)
        first, second = extractor(audio), extractor(audio)
        for key in first:
            assert torch.equal(first[key], second[key])
        np.testing.assert_array_equal(
            first["input_features"][1], extractor(audio[240_000:720_000])["input_features"][0]
        )

    def test_stereo_and_other_rates_are_welcome(self):
        mono = tones(4, rate=44_100)
        extractor = MathRockFeatureExtractor()
        expected = extractor(mono, sampling_rate=44_100)
        both = np.stack([mono, mono])
        for stereo in (both, both.T, torch.from_numpy(both)):
            given = extractor(stereo, sampling_rate=44_100)
            torch.testing.assert_close(given["input_values"], expected["input_values"], atol=1e-6, rtol=0)

    def test_a_window_longer_than_the_models_is_refused(self):
        with pytest.raises(ValueError, match="up to 10 s"):
            MathRockFeatureExtractor()(tones(1), window_seconds=30)
        with pytest.raises(ValueError, match="at most the window"):
            MathRockFeatureExtractor()(tones(1), window_seconds=2, hop_seconds=3)

    def test_it_survives_saving(self, tmp_path):
        MathRockFeatureExtractor(window_seconds=8.0, do_normalize=True).save_pretrained(tmp_path)
        loaded = MathRockFeatureExtractor.from_pretrained(tmp_path)
        assert (loaded.window_seconds, loaded.do_normalize, loaded.sampling_rate) == (8.0, True, 48_000)


def test_a_model_starts_from_two_backbones(tiny_model, tmp_path):
    torch.manual_seed(0)
    clap_config = ClapConfig(
        audio_config=tiny_model.config.clap_audio_config.to_dict(),
        text_config={"hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1, "vocab_size": 12},
    )
    whole_clap = ClapModel(clap_config)
    whole_clap.save_pretrained(tmp_path / "clap")
    tiny_model.mathrock.wavlm.save_pretrained(tmp_path / "wavlm")
    model = MathRockForAudioClassification.from_backbones(tmp_path / "wavlm", tmp_path / "clap", projection_size=8)
    streams = (
        (model.mathrock.wavlm, tiny_model.mathrock.wavlm),
        (model.mathrock.clap_audio, whole_clap.audio_model),
    )
    for ours, theirs in streams:
        taken = ours.state_dict()
        assert all(torch.equal(taken[name], tensor) for name, tensor in theirs.state_dict().items())
    assert model.config.backbones["wavlm"].endswith("wavlm") and model.config.projection_size == 8
    with pytest.raises(ValueError, match="is a 'wavlm' checkpoint; expected one of type 'clap'"):
        MathRockForAudioClassification.from_backbones(tmp_path / "wavlm", tmp_path / "wavlm")
