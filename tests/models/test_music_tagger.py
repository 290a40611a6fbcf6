# SPDX-License-Identifier: Apache-2.0
"""Music taggers as chains of stages: the published sizes, their configuration, and what happens when it is edited."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hf_mathrock.models import configuration_music_tagger as configuration
from hf_mathrock.models.configuration_music_tagger import MusicTaggerConfig
from hf_mathrock.models.configuration_musicnn import MusicnnConfig
from hf_mathrock.models.modeling_music_tagger import MusicTaggerForAudioClassification, MusicTaggerModel
from hf_mathrock.models.tagger_presets import PRESETS
from hf_mathrock.models.tagger_stages import BLOCKS, trace_stages

# With 50 labels. The class token of "cnnsa", 256 numbers, is learnt here and was not upstream (10,521,652).
PARAMETERS = {
    "fcn": 447_732,
    "short_chunk": 3_687_348,
    "short_chunk_res": 12_104_244,
    "harmonic": 3_631_551,
    "sample": 1_869_874,
    "sample_se": 6_951_858,
    "crnn": 394_100,
    "cnnsa": 10_521_652 + 256,
}
# Bands and frames from the feature to the last stage; of a waveform its steps.
SIZES: dict[str, list[Any]] = {
    "fcn": [(96, 1813), (48, 453), (24, 113), (12, 28), (4, 5), (1, 1)],
    "short_chunk": [(128, 231), (64, 115), (32, 57), (16, 28), (8, 14), (4, 7), (2, 3), (1, 1)],
    "short_chunk_res": [(128, 231), (64, 116), (32, 58), (16, 29), (8, 15), (4, 8), (2, 4), (1, 2)],
    "harmonic": [(128, 313), (64, 156), (32, 78), (16, 39), (8, 19), (4, 9), (2, 3), (1, 1)],
    "sample": [(3**power,) for power in (10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0)],
    "sample_se": [(3**power,) for power in (10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0)],
    "crnn": [(96, 1813), (48, 906), (16, 302), (4, 75), (1, 18)],
    "cnnsa": [(128, 938), (64, 469), (32, 235), *((bands, 118) for bands in (16, 8, 4, 2, 1))],
}
FIXED = ["fcn", "sample", "sample_se"]
FREE = sorted(set(PRESETS) - set(FIXED))


def tiny_config(architecture: str, **changes: Any) -> MusicTaggerConfig:
    """The architecture with a few channels, and short where its pools allow it."""
    stages = copy.deepcopy(PRESETS[architecture]["stages"])
    last = 8 if architecture == "cnnsa" else 4
    for stage in stages:
        stage["channels"] = last
        if stage["block"] == "tcn":
            stage.update(channels=[2, 3], strides=[2, 2], dilations=[1, 1])
    if architecture.endswith("hybrid"):
        changes.setdefault("backend", {"conv_channels": 4, "linear_channels": 8})
        changes.setdefault("input_samples", 48_000)
    if architecture == "cnnsa":
        changes.setdefault("backend", {"num_heads": 2, "intermediate_size": 12})
    if PRESETS[architecture]["head"]["hidden"]:
        changes.setdefault("head", {"hidden": 6})
    if architecture in ("crnn", "cnnsa"):
        changes.setdefault("input_samples", 80_000 if architecture == "crnn" else 48_000)
    return MusicTaggerConfig(architecture=architecture, **{"stages": stages, "num_labels": 5, **changes})


def tiny_model(architecture: str, **changes: Any) -> MusicTaggerForAudioClassification:
    torch.manual_seed(0)
    model = MusicTaggerForAudioClassification(tiny_config(architecture, **changes))
    with torch.no_grad():
        for module in model.modules():
            # Statistics and scales that a test can tell from those of a new model.
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
                module.weight.uniform_(0.5, 1.5)
    return model.eval()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def on_meta(config: MusicTaggerConfig) -> MusicTaggerForAudioClassification:
    with torch.device("meta"):
        return MusicTaggerForAudioClassification(config)


# The published architectures.


@pytest.mark.parametrize("architecture", PARAMETERS)
def test_parameters_are_as_many_as_published(architecture: str) -> None:
    model = on_meta(MusicTaggerConfig(architecture=architecture))
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[architecture]


@pytest.mark.parametrize("architecture", SIZES)
def test_sizes_on_the_way_are_those_of_the_layer_tables(architecture: str) -> None:
    config = MusicTaggerConfig(architecture=architecture)
    model = on_meta(config).music_tagger.eval()
    channels = 6 if architecture == "harmonic" else 1
    shapes = trace_stages(model.stages, config.stages, (channels, *SIZES[architecture][0]))
    assert [shape[1:] for shape in shapes] == SIZES[architecture]
    assert [shape[0] for shape in shapes[1:]] == [stage["channels"] for stage in config.stages]


def test_fcn_hears_128_bands_too() -> None:
    assert (
        on_meta(MusicTaggerConfig(architecture="fcn", feature={"num_mel_bins": 128})).music_tagger.embedding_size == 64
    )


def test_a_stage_is_convolution_norm_relu_pool_in_this_order() -> None:
    block = BLOCKS["conv2d"](2, channels=3, pool=[2, 4]).train()
    states = noise(2, 2, 8, 12)
    expected = nn.functional.conv2d(states, block.conv.weight, block.conv.bias, padding=1)
    expected = (expected - expected.mean((0, 2, 3), keepdim=True)) / (
        expected.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    expected = nn.functional.max_pool2d(expected.relu(), (2, 4))
    torch.testing.assert_close(block(states), expected, atol=1e-5, rtol=0)


def test_shortcuts_are_convolutions_of_the_same_size_only_where_something_changes() -> None:
    assert BLOCKS["residual2d"](4, channels=4, pool=2).shortcut_conv is None
    for options in ({"channels": 5}, {"channels": 4, "stride": 2}, {"channels": 4, "stride": [2, 1]}):
        assert BLOCKS["residual2d"](4, **options).shortcut_conv.kernel_size == (3, 3)
    assert BLOCKS["residual_se1d"](4, channels=4, pool=3).shortcut_conv is None
    assert BLOCKS["residual_se1d"](4, channels=4, stride=3).shortcut_conv.kernel_size == (3,)


def test_the_gate_of_a_squeeze_and_excitation_stage_closes_its_main_path() -> None:
    block = BLOCKS["residual_se1d"](4, channels=4).eval()
    states = noise(2, 4, 9)
    with torch.no_grad():
        assert not torch.equal(block(states), states.relu())
        block.excite.bias.fill_(-200.0)
        torch.testing.assert_close(block(states), states.relu())


def test_the_recurrent_network_gives_its_last_step() -> None:
    model = tiny_model("crnn").music_tagger
    with torch.no_grad():
        tokens = model.tokens(noise(2, 80_000), None)
        assert tokens.shape[1] == 3
        steps, _ = model.gru(tokens)
        torch.testing.assert_close(model(noise(2, 80_000)).embeddings, steps[:, -1])


def test_what_is_left_of_time_is_reduced_to_its_maximum() -> None:
    model = tiny_model("short_chunk_res").music_tagger
    with torch.no_grad():
        output = model(noise(2, 59_049), output_hidden_states=True)
    assert output.hidden_states[-1].shape == (2, 4, 1, 2)
    torch.testing.assert_close(output.embeddings, output.hidden_states[-1].amax(dim=(2, 3)))


def test_bands_are_flattened_channel_by_channel() -> None:
    model = tiny_model("short_chunk", stages=[{"block": "conv2d", "channels": 3, "pool": [32, 4]}],
                       collapse={"kind": "flatten_linear", "size": 7}).music_tagger  # fmt: skip
    with torch.no_grad():
        output = model(noise(2, 59_049), output_hidden_states=True)
    (states,) = output.hidden_states
    flat = torch.cat([states[:, channel] for channel in range(3)], dim=1)
    torch.testing.assert_close(output.embeddings, model.flatten(flat.transpose(1, 2)).amax(dim=1))


# Every architecture.


@pytest.mark.parametrize("architecture", PRESETS)
def test_every_parameter_has_a_gradient(architecture: str) -> None:
    model = tiny_model(architecture).train()
    model(noise(3, model.config.input_samples), labels=torch.ones(3, 5)).loss.backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


@pytest.mark.parametrize("architecture", PRESETS)
def test_a_clip_alone_equals_the_clip_in_a_batch(architecture: str) -> None:
    model = tiny_model(architecture)
    audio = noise(3, model.config.input_samples)
    with torch.no_grad():
        torch.testing.assert_close(model(audio).logits[1:2], model(audio[1:2]).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", FREE)
def test_clips_of_any_length_share_a_batch_without_hearing_the_padding(architecture: str) -> None:
    model = tiny_model(architecture)
    longest, shortest = 2 * model.config.input_samples, model.config.min_samples
    lengths = [longest, shortest, (longest + shortest) // 2]
    audio = noise(3, longest)
    mask = torch.stack([(torch.arange(longest) < length).long() for length in lengths])
    with torch.no_grad():
        together = model(audio, attention_mask=mask).logits
        for row, length in enumerate(lengths):
            alone = model(audio[row : row + 1, :length]).logits
            torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", FREE)
def test_the_shortest_clip_is_what_the_config_says(architecture: str) -> None:
    model = tiny_model(architecture)
    assert model.config.accepts_any_length and model.config.max_samples > model.config.input_samples
    shortest = model.config.min_samples
    with torch.no_grad():
        assert torch.isfinite(model(noise(1, shortest)).logits).all()
        with pytest.raises(ValueError, match=f"{shortest - 1} samples came.*at least {shortest} .*repeats it"):
            model(noise(1, shortest - 1))


@pytest.mark.parametrize("architecture", FIXED)
def test_an_architecture_of_one_length_refuses_every_other(architecture: str) -> None:
    model = tiny_model(architecture)
    config = model.config
    assert not config.accepts_any_length and config.max_samples is None
    assert config.min_samples == config.input_samples
    for length in (config.input_samples - 1, config.input_samples + 1):
        with pytest.raises(ValueError, match=f"{length} samples came.*exactly {config.input_samples}.*extractor"):
            model(noise(1, length))


@pytest.mark.parametrize("architecture", FIXED)
def test_pooling_over_time_frees_it_from_its_length(architecture: str) -> None:
    model = tiny_model(architecture, backend={"kind": "max"})
    with torch.no_grad():
        assert model(noise(1, model.config.input_samples + 40_000)).logits.shape == (1, 5)


def test_steps_in_time_are_as_far_apart_as_strides_and_pools_say() -> None:
    expected = {"cnnsa": 8 * 256, "crnn": 96 * 256, "short_chunk": 128 * 256, "sample": 3**10, "conv1d_hybrid": 45}
    for architecture, samples in expected.items():
        assert MusicTaggerConfig(architecture=architecture).samples_per_token == samples


@pytest.mark.parametrize("architecture", ["fcn", "short_chunk", "cnnsa", "logmel_hybrid"])
def test_a_spectrogram_may_come_instead_of_the_waveform(architecture: str) -> None:
    model = tiny_model(architecture)
    audio = noise(2, model.config.input_samples)
    with torch.no_grad():
        features = model.music_tagger.features(audio)[:, 0].transpose(1, 2)
        torch.testing.assert_close(model(input_features=features).logits, model(audio).logits)
    with pytest.raises(ValueError, match=r"expected \(batch_size, num_frames, "):
        model(input_features=features[..., :40])


@pytest.mark.parametrize("architecture", ["sample", "harmonic"])
def test_a_spectrogram_is_refused_where_the_model_hears_something_else(architecture: str) -> None:
    with pytest.raises(ValueError, match="pass `input_values`"):
        tiny_model(architecture)(input_features=noise(1, 231, 128))


@pytest.mark.parametrize("architecture", PRESETS)
def test_states_come_from_every_stage(architecture: str) -> None:
    model = tiny_model(architecture)
    with torch.no_grad():
        output = model(noise(2, model.config.input_samples), output_hidden_states=True, output_attentions=True)
    if architecture == "cnnsa":
        # 48,000 samples: 188 frames, 24 tokens, and the class token.
        assert [tuple(states.shape) for states in output.hidden_states] == [(2, 25, 8)] * 3
        assert [tuple(weights.shape) for weights in output.attentions] == [(2, 2, 25, 25)] * 2
        torch.testing.assert_close(output.attentions[0].sum(dim=-1), torch.ones(2, 2, 25))
    else:
        assert output.attentions is None
        assert len(output.hidden_states) >= len(model.config.stages)
    assert output.embeddings.shape == (2, model.music_tagger.embedding_size)


def test_attention_weights_change_nothing() -> None:
    model = tiny_model("cnnsa")
    with torch.no_grad():
        fused, explicit = model(noise(2, 30_000)).logits, model(noise(2, 30_000), output_attentions=True).logits
    torch.testing.assert_close(fused, explicit, atol=1e-5, rtol=0)


def test_contributions_of_tokens_equal_explicit_pinning(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("cnnsa")
    audio = noise(2, 20_000)
    given = model.tag_contributions(input_values=audio)
    attention = model.music_tagger.encoder.layers[-1].attention
    for token in range(given.probabilities.shape[-1]):

        def pinned(states: torch.Tensor, output_attentions: bool, token: int = token) -> Any:
            value = attention.qkv(states).chunk(3, dim=-1)[2][:, token + 1 : token + 2]
            return attention.output(value.expand_as(states)), None

        monkeypatch.setattr(attention, "forward", pinned)
        with torch.no_grad():
            expected = model(audio).logits.sigmoid()
        torch.testing.assert_close(given.probabilities[..., token], expected, atol=1e-5, rtol=0)
    assert given.token_seconds[1].tolist() == pytest.approx([0.128, 0.256])


@pytest.mark.parametrize("architecture", ["harmonic", "sample_se", "crnn", "cnnsa", "tcn_hybrid"])
def test_gradient_checkpointing_changes_neither_gradients_nor_statistics(architecture: str) -> None:
    backend = {"cnnsa": {"num_heads": 2, "attention_dropout": 0.0, "hidden_dropout": 0.0}}.get(architecture)
    options: dict[str, Any] = {} if backend is None else {"backend": backend}
    plain, checkpointed = tiny_model(architecture, **options), tiny_model(architecture, **options)
    checkpointed.activation_checkpointing_enable()
    calls: list[Any] = []
    for model in (plain, checkpointed):
        model.music_tagger.stages[0].register_forward_pre_hook(lambda module, _: calls.append(module))
        model.train()
        torch.manual_seed(1)
        model(noise(2, model.config.input_samples), labels=torch.ones(2, 5)).loss.backward()
    assert len(calls) == 1 + 2  # the second model computes its stages again on the way back
    for (name, expected), given in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(given.grad, expected.grad, atol=1e-5, rtol=1e-4, msg=name)
    for (name, expected), given in zip(plain.named_buffers(), checkpointed.buffers(), strict=True):
        torch.testing.assert_close(given, expected, atol=1e-6, rtol=1e-5, msg=name)


# Weights: where they start, and what becomes of them.


def starts_as_torch_does(module: nn.Module) -> bool:
    """Uniform up to one over the root of the inputs, as torch's own layers: near it, and never beyond."""
    bound = (module.weight[0].numel()) ** -0.5
    largest = float(module.weight.detach().abs().max())
    return 0.9 * bound < largest <= bound and float(module.bias.detach().abs().max()) > 0


def test_weights_start_as_torch_draws_them() -> None:
    for architecture in ("short_chunk", "sample_se"):
        model = MusicTaggerForAudioClassification(tiny_config(architecture))
        layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)]
        layers = [layer for layer in layers if layer.weight.numel() > 40]
        assert len(layers) > 3 and all(map(starts_as_torch_does, layers))
    gru = MusicTaggerModel(tiny_config("crnn")).gru
    largest = max(float(weight.detach().abs().max()) for weight in gru.parameters())
    assert 0.9 * 32**-0.5 < largest <= 32**-0.5


def test_missing_weights_start_as_torch_draws_them_and_loaded_ones_stay(tmp_path: Any) -> None:
    model = tiny_model("harmonic")
    with torch.no_grad():
        model.music_tagger.features.q.fill_(1.25)
    model.music_tagger.save_pretrained(tmp_path)
    loaded, report = MusicTaggerForAudioClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert {name.split(".")[0] for name in report["missing_keys"]} == {"hidden", "classifier"}
    assert starts_as_torch_does(loaded.hidden.linear) and starts_as_torch_does(loaded.classifier)
    assert loaded.hidden.batch_norm.running_var.eq(1).all()
    for name, expected in model.music_tagger.state_dict().items():
        assert torch.equal(loaded.music_tagger.state_dict()[name], expected), name
    without = dict(model.state_dict())
    del without["music_tagger.features.q"]
    model.save_pretrained(tmp_path / "without", state_dict=without)
    fresh = MusicTaggerForAudioClassification.from_pretrained(tmp_path / "without")
    assert fresh.music_tagger.features.q.item() == 1.0


@pytest.mark.parametrize("architecture", PRESETS)
def test_a_saved_model_is_the_same_model(architecture: str, tmp_path: Any) -> None:
    model = tiny_model(architecture)
    model.save_pretrained(tmp_path)
    loaded = MusicTaggerForAudioClassification.from_pretrained(tmp_path)
    assert loaded.config.to_dict() == {**model.config.to_dict(), **{
        name: loaded.config.to_dict()[name] for name in ("_name_or_path", "architectures", "dtype")
        if name in loaded.config.to_dict()
    }}  # fmt: skip
    audio = noise(2, model.config.input_samples)
    with torch.no_grad():
        assert torch.equal(loaded(audio).logits, model(audio).logits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("architecture", ["harmonic", "crnn", "cnnsa", "sincnet_hybrid"])
def test_in_half_precision_statistics_stay_in_single(architecture: str, dtype: torch.dtype, tmp_path: Any) -> None:
    model = tiny_model(architecture)
    model.save_pretrained(tmp_path)
    half = MusicTaggerForAudioClassification.from_pretrained(tmp_path, dtype=dtype)
    kept = {name for name, value in half.state_dict().items() if value.dtype == torch.float32}
    assert kept >= {name for name in half.state_dict() if "stages" in name and "running" in name}
    assert half.classifier.weight.dtype == dtype
    audio = noise(2, model.config.input_samples)
    with torch.no_grad():
        torch.testing.assert_close(half(audio).logits.float(), model(audio).logits, atol=0.1, rtol=0.1)
        torch.testing.assert_close(half.to(dtype)(audio).logits.float(), model(audio).logits, atol=0.2, rtol=0.2)


# The configuration.


@pytest.mark.parametrize("architecture", PRESETS)
def test_every_resolved_field_is_saved(architecture: str, tmp_path: Any) -> None:
    config = MusicTaggerConfig(architecture=architecture)
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["architecture"] == architecture
    for name in configuration._RESOLVED:
        assert saved[name] == getattr(config, name) and saved[name] is not None
    for stage in saved["stages"]:
        assert len(stage) > 3
    assert MusicTaggerConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


def test_loading_never_asks_what_a_name_stands_for(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("short_chunk")
    model.save_pretrained(tmp_path)
    other = copy.deepcopy(PRESETS["crnn"])
    monkeypatch.setitem(PRESETS, "short_chunk", {**other, "batch_norm_eps": 0.5})
    audio = noise(1, 59_049)
    with torch.no_grad():
        expected = model(audio).logits
        loaded = MusicTaggerForAudioClassification.from_pretrained(tmp_path)
        assert torch.equal(loaded(audio).logits, expected)
        monkeypatch.delitem(PRESETS, "short_chunk")
        loaded = MusicTaggerForAudioClassification.from_pretrained(tmp_path, head={"dropout": 0.1})
        assert torch.equal(loaded(audio).logits, expected)
    assert loaded.dropout.p == 0.1 and loaded.config.head["hidden"] == 6


def test_dicts_given_in_part_are_merged_and_lists_replace() -> None:
    config = MusicTaggerConfig(architecture="short_chunk", feature={"num_mel_bins": 96}, head={"dropout": 0.2})
    default = MusicTaggerConfig(architecture="short_chunk")
    assert config.feature == {**default.feature, "num_mel_bins": 96}
    assert config.head == {**default.head, "dropout": 0.2}
    assert config.stages == default.stages
    stages = [{"block": "conv2d", "channels": 8, "pool": [96, 2]}]
    assert len(MusicTaggerConfig(architecture="short_chunk", stages=stages).stages) == 1
    assert PRESETS["short_chunk"]["feature"]["num_mel_bins"] == 128


def test_of_another_kind_nothing_is_kept() -> None:
    config = MusicTaggerConfig(architecture="crnn", backend={"kind": "mean"}, feature={"kind": "harmonic"})
    assert config.backend == {"kind": "mean"}
    assert "num_mel_bins" not in config.feature


def test_dicts_given_while_loading_are_merged_over_the_saved_ones(tmp_path: Any) -> None:
    MusicTaggerConfig(architecture="crnn", backend={"hidden_size": 16}).save_pretrained(tmp_path)
    loaded = MusicTaggerConfig.from_pretrained(tmp_path, backend={"num_layers": 3}, num_labels=7)
    assert loaded.backend["hidden_size"] == 16 and loaded.backend["num_layers"] == 3
    assert loaded.num_outputs == 7
    with pytest.raises(ValueError, match="made as 'crnn'.*make a new one"):
        MusicTaggerConfig.from_pretrained(tmp_path, architecture="fcn")


def test_configs_share_nothing() -> None:
    first, second = MusicTaggerConfig(architecture="fcn"), MusicTaggerConfig(architecture="fcn")
    first.stages[0]["channels"] = 1
    first.stages[0]["pool"][0] = 9
    first.feature["num_mel_bins"] = 1
    assert second.stages[0]["channels"] == 64 and second.stages[0]["pool"] == [2, 4]
    assert second.feature["num_mel_bins"] == 96 and PRESETS["fcn"]["stages"][0]["pool"] == [2, 4]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"architecture": "shortchunk"}, "did you mean 'short_chunk'"),
        ({"feature": {"num_mels": 96}}, "did you mean 'num_mel_bins'|Unknown key of `feature`"),
        ({"head": {"hiden": 1}}, "did you mean 'hidden'"),
        ({"head": {"activation": "rellu"}}, "did you mean 'relu'"),
        ({"head": {"dropout": 1.0}}, "dropout"),
        ({"backend": {"kind": "grus"}}, "did you mean 'gru'"),
        ({"backend": {"kind": "gru", "hiden_size": 3}}, "did you mean 'hidden_size'"),
        ({"collapse": {"kind": "squeze"}}, "did you mean 'squeeze'"),
        ({"collapse": "squeeze"}, "`collapse` is 'squeeze'; it must be a dict"),
        ({"stages": [{"block": "conv2", "channels": 3}]}, r"block in `stages\[0\]`.*did you mean 'conv2d'"),
        ({"stages": [{"block": "conv2d", "chanels": 3}]}, r"'conv2d' in `stages\[0\]`.*did you mean 'channels'"),
        ({"stages": [{"block": "conv2d"}]}, r"`stages\[0\]`, a 'conv2d', lacks 'channels'"),
        ({"stages": [{"channels": 3}]}, r"`stages\[0\]`"),
        ({"stages": "conv2d"}, "list of dicts"),
        ({"sampling_rat": 8000}, "no field 'sampling_rat'; did you mean 'sampling_rate'"),
        ({"stage": []}, "did you mean 'stages'"),
        ({"input_samples": 0}, "input_samples"),
        ({"sampling_rate": 8000.5}, "sampling_rate"),
        ({"batch_norm_eps": 0}, "batch_norm_eps"),
    ],
)
def test_a_wrong_word_is_refused_with_the_nearest(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MusicTaggerConfig(**wrong)


def test_a_stage_follows_the_config_and_cannot_contradict_it() -> None:
    config = tiny_config("sincnet_hybrid", sampling_rate=16_000)
    assert MusicTaggerModel(config).stages[0].sampling_rate == 16_000
    with pytest.raises(ValueError, match=r"`stages\[0\]\['sampling_rate'\]` is 8000, but the config's .* is 22050"):
        MusicTaggerConfig(architecture="sincnet_hybrid", stages=[{"block": "sinc", "sampling_rate": 8000}])
    eps = {
        module.eps for module in tiny_model("conv1d_hybrid", batch_norm_eps=1e-3).modules() if hasattr(module, "eps")
    }
    assert eps == {1e-3}


# An architecture, edited.


def test_an_edited_architecture_works_and_survives_saving(tmp_path: Any) -> None:
    config = MusicTaggerConfig(architecture="short_chunk", num_labels=3)
    config.stages = config.stages[:3]
    config.stages[0]["channels"] = 4
    config.stages[1] = {"block": "residual2d", "channels": 6, "pool": [4, 2]}
    config.stages[2].update(channels=8, pool=[16, 2])
    config.head["hidden"] = 5
    model = MusicTaggerForAudioClassification(config).eval()
    model.save_pretrained(tmp_path)
    audio = noise(2, 59_049)
    with torch.no_grad():
        assert torch.equal(
            MusicTaggerForAudioClassification.from_pretrained(tmp_path)(audio).logits, model(audio).logits
        )
    assert model.music_tagger.stages[0].conv.out_channels == 4 and model.hidden.linear.out_features == 5


@pytest.mark.parametrize(
    ("front", "back"),
    [("sample", "cnnsa"), ("harmonic", "crnn"), ("tcn_hybrid", "crnn"), ("short_chunk", "logmel_hybrid")],
)
def test_any_front_end_goes_with_any_back_end(front: str, back: str) -> None:
    stages = copy.deepcopy(PRESETS[front]["stages"])[:4]
    for stage in stages:
        stage["channels"] = 8
        if stage["block"] == "tcn":
            stage.update(channels=[4, 8], strides=[2, 2], dilations=[1, 1])
    model = MusicTaggerForAudioClassification(
        MusicTaggerConfig(
            architecture=front, stages=stages, backend=PRESETS[back]["backend"], collapse={"kind": "mean"},
            input_samples=160_000, num_labels=2,
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        assert model(noise(1, 160_000)).logits.shape == (1, 2)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda config: config.stages[1].update(pool=99),
            r"`stages\[1\]` of 7, 'conv2d' with channels=128, .*pool=99, .*128 channels x 64 bands x 115 frames",
        ),
        (lambda config: config.stages.append({"block": "conv2d", "channels": 8, "pool": 2}), r"`stages\[7\]` of 8"),
        (
            lambda config: config.stages.insert(1, {"block": "conv1d", "channels": 8}),
            r"`stages\[1\]` of 8, 'conv1d'.*sequences only",
        ),
        (lambda config: config.stages.insert(0, {"block": "sinc"}), r"`stages\[0\]` of 8, 'sinc'"),
        (lambda config: config.stages[2].update(channels=0), r"`stages\[2\]\['channels'\]` is 0; .*positive whole"),
        (lambda config: config.stages[2].update(channels="64"), r"`stages\[2\]\['channels'\]` is '64'; .*positive"),
        (lambda config: config.stages[3].update(pool=[2, 2, 2]), r"`stages\[3\]\['pool'\]` is \[2, 2, 2\]; .*bands"),
        (lambda config: setattr(config, "stage", []), "no field 'stage'; did you mean 'stages'"),
        (lambda config: setattr(config, "architecture", "fcn"), "was made as 'short_chunk'.*starts from"),
        (lambda config: setattr(config, "stages", None), "`stages` is None; it must be a list"),
        (lambda config: setattr(config, "input_samples", "3s"), "`input_samples` is '3s'; .*positive whole number"),
        (lambda config: setattr(config, "sampling_rate", 0), "`sampling_rate` is 0; .*positive whole number"),
        (lambda config: setattr(config, "batch_norm_eps", -1), "`batch_norm_eps` is -1; .*positive number"),
        (lambda config: config.collapse.update(kind="flatten_linear", size=0), r"`collapse\['size'\]` is 0"),
        (lambda config: setattr(config, "backend", {"kind": "gru", "dropout": 2}), r"`backend\['dropout'\]` is 2"),
        (
            lambda config: setattr(config, "backend", {"kind": "gru", "bidirectional": "yes"}),
            r"`backend\['bidirectional'\]` is 'yes'; it must be true or false",
        ),
        (
            lambda config: setattr(config, "backend", {"kind": "encoder", "num_layers": "2"}),
            r"`backend\['num_layers'\]` is '2'; it must be a positive whole number",
        ),
        (
            lambda config: setattr(config, "backend", {"kind": "encoder", "attention_dropout": 1.5}),
            r"`backend\['attention_dropout'\]` is 1.5; it must be a number in \[0, 1\)",
        ),
        (lambda config: config.stages[0].update(chanels=64), r"did you mean 'channels'"),
        (lambda config: config.stages.pop(), r"2 bands x 3 frames come out.*'squeeze'"),
        (lambda config: config.stages.clear(), "`stages` is empty"),
        (lambda config: config.feature.update(num_mel_bins=40), r"`stages\[5\]`"),
        (lambda config: config.backend.update(kind="gruu"), "did you mean 'gru'"),
        (lambda config: setattr(config, "input_samples", 20_000), r"`stages\[6\]`.*`input_samples`"),
        (
            lambda config: setattr(config, "backend", {"kind": "temporal"}),
            "1 frames come out.*need 21 steps in time|512 channels x 1 bands x 1 frames come out.*steps in time",
        ),
        (
            lambda config: setattr(config, "backend", {"kind": "encoder", "num_heads": 7}),
            "512 wide and has 7 heads",
        ),
    ],
)
def test_an_edit_that_does_not_fit_is_told_with_its_place_and_size(edit: Any, message: str) -> None:
    config = MusicTaggerConfig(architecture="short_chunk")
    with pytest.raises(ValueError, match=message):
        edit(config)
        on_meta(config)


def test_no_stage_but_one_step_in_time_goes_without_pooling() -> None:
    with pytest.raises(ValueError, match="1 bands x 2 frames come out.*'none'"):
        on_meta(MusicTaggerConfig(architecture="short_chunk_res", backend={"kind": "none"}))


def test_several_tasks_share_the_head() -> None:
    tasks = [
        {"name": "tag", "type": "multi_label", "labels": ["guitar", "slow"]},
        {"name": "mood", "type": "single_label", "labels": ["low", "medium", "high"]},
    ]
    model = tiny_model("short_chunk", tasks=tasks, num_labels=None)
    output = model(noise(2, 59_049), labels={"tag": torch.ones(2, 2), "mood": torch.tensor([0, 2])})
    assert model.classifier.out_features == 5
    assert {name: logits.shape for name, logits in output.task_logits.items()} == {"tag": (2, 2), "mood": (2, 3)}
    assert torch.isfinite(output.loss)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"num_mel_bins": 96}, r"'num_mel_bins' is no field.*feature=\{'num_mel_bins': ...\}"),
        ({"num_heads": 4}, r"'num_heads' is no field.*backend=\{'num_heads': ...\}"),
        ({"labels": ["a", "b"]}, "'labels' is no field; name labels by `id2label`"),
        ({"architecture": "musicnn"}, r"'musicnn' is no chain.*MusicnnConfig\(\).*model.model_type=musicnn"),
        ({"feature": {"hop_length": 1024}}, "`feature\\['hop_length'\\]` is 1024.*unheard"),
    ],
)
def test_what_a_newcomer_may_try_is_answered_with_where_it_belongs(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MusicTaggerConfig(**fields)


def test_what_nobody_knows_is_said_to_have_no_effect() -> None:
    with pytest.warns(UserWarning, match="no field 'front_end'; it is kept, and has no effect"):
        MusicTaggerConfig(front_end="mel")


def test_another_family_is_named_and_not_misread(tmp_path: Path) -> None:
    MusicTaggerConfig(architecture="fcn").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a 'music_tagger', and MusicnnConfig reads 'musicnn': load it with Auto"):
        MusicnnConfig.from_pretrained(tmp_path)
