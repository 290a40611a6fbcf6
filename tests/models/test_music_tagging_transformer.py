# SPDX-License-Identifier: Apache-2.0
"""The contract of the Music Tagging Transformer, and what tokens contribute to tags."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from hf_mathrock import (
    MusicTaggerConfig,
    MusicTaggerForAudioClassification,
    MusicTaggingTransformerConfig,
    MusicTaggingTransformerForAudioClassification,
    MusicTaggingTransformerModel,
)

TINY = {
    "sampling_rate": 8000,
    "input_samples": 8000,
    "feature": {"n_fft": 128, "hop_length": 64, "num_mel_bins": 16},
    "conv_channels": 6,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_positions": 31,
    "num_labels": 5,
}


def noise(num_clips, num_samples, seed=0):
    return 0.1 * torch.randn(num_clips, num_samples, generator=torch.Generator().manual_seed(seed))


def as_if_trained(model):
    """Weights, norms and statistics that no initialisation gives, so that nothing is 0 or 1 by chance."""
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=random) * parameter.std(correction=0).add(0.1))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1, generator=random)
                module.running_var.uniform_(0.5, 2.0, generator=random)
    for module in model.modules():
        if hasattr(module, "feature_batch_norm"):
            module.feature_batch_norm.running_mean.fill_(-20.0)
            module.feature_batch_norm.running_var.fill_(150.0)
    return model.eval()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return as_if_trained(MusicTaggingTransformerForAudioClassification(MusicTaggingTransformerConfig(**TINY)))


@pytest.fixture
def self_attention_tagger():
    """CNNSA, narrow: its encoder is post-norm, and its head has a pooler."""
    torch.manual_seed(0)
    config = MusicTaggerConfig(
        architecture="cnnsa",
        sampling_rate=8000,
        input_samples=8000,
        num_labels=5,
        feature={"n_fft": 128, "hop_length": 64, "num_mel_bins": 16, "max_frequency_hz": 4000.0},
        stages=[{"block": "residual2d", "channels": 16, "stride": 2}] * 2
        + [{"block": "residual2d", "channels": 16, "stride": [2, 1]}] * 2,
        backend={"num_heads": 4, "intermediate_size": 24},
        head={"hidden": 16},
    )
    return as_if_trained(MusicTaggerForAudioClassification(config))


@pytest.mark.parametrize("hidden_size, count", [(256, 4_567_732), (64, 1_108_852)])
def test_parameters_are_as_many_as_published(hidden_size, count):
    with torch.device("meta"):
        built = MusicTaggingTransformerForAudioClassification(MusicTaggingTransformerConfig(hidden_size=hidden_size))
    assert sum(parameter.numel() for parameter in built.parameters()) == count


@pytest.mark.parametrize("seconds, num_tokens", [(5, 54), (10, 107), (15, 161), (30, 323)])
def test_tokens_are_as_many_as_published(seconds, num_tokens):
    config = MusicTaggingTransformerConfig(conv_channels=1, hidden_size=8)
    with torch.no_grad():
        tokens = MusicTaggingTransformerModel(config).eval().tokens(torch.zeros(1, seconds * 22_050), None)
    assert tokens.shape == (1, num_tokens, 8)


def test_the_forward_pass_is_the_papers(model):
    """Written once more from the paper's code, as one function of the weights."""
    weights, audio = model.state_dict(), noise(2, 8000)
    base = model.music_tagging_transformer

    def get(*names, prefix="music_tagging_transformer."):
        return [weights[prefix + name] for name in names]

    def convolved(x, conv, norm):
        x = F.conv2d(x, *get(f"{conv}.weight", f"{conv}.bias"), padding=1)
        return F.batch_norm(x, *get(*(f"{norm}.{n}" for n in ("running_mean", "running_var", "weight", "bias"))))

    norm = "feature_batch_norm"
    with torch.no_grad():
        x = base.features(audio)
        x = F.batch_norm(x, *get(*(f"{norm}.{n}" for n in ("running_mean", "running_var", "weight", "bias"))))
        for i, pool in enumerate([(2, 2), (2, 2), (2, 1)]):
            y = F.relu(convolved(x, f"stages.{i}.conv1", f"stages.{i}.batch_norm1"))
            y = convolved(y, f"stages.{i}.conv2", f"stages.{i}.batch_norm2")
            if i == 0:
                x = convolved(x, "stages.0.shortcut_conv", "stages.0.shortcut_batch_norm")
            x = F.max_pool2d(F.relu(x + y), pool)
        rows, channels, bins, frames = x.shape
        x = x.permute(0, 3, 1, 2).reshape(rows, frames, channels * bins)
        x = F.linear(x, *get("projection.weight", "projection.bias"))
        (cls, positions) = get("encoder.class_token", "encoder.positions")
        x = torch.cat([cls.repeat(rows, 1, 1), x], dim=1) + positions[: frames + 1]
        for i in range(2):
            layer = f"encoder.layers.{i}"
            y = F.layer_norm(x, (16,), *get(f"{layer}.attention_norm.weight", f"{layer}.attention_norm.bias"))
            query, key, value = (
                part.reshape(rows, frames + 1, 4, 4).transpose(1, 2)
                for part in F.linear(y, *get(f"{layer}.attention.qkv.weight")).chunk(3, dim=-1)
            )
            y = ((query @ key.transpose(2, 3)) / 2.0).softmax(-1) @ value
            y = y.transpose(1, 2).reshape(rows, frames + 1, 16)
            x = x + F.linear(y, *get(f"{layer}.attention.output.weight", f"{layer}.attention.output.bias"))
            y = F.layer_norm(x, (16,), *get(f"{layer}.output_norm.weight", f"{layer}.output_norm.bias"))
            y = F.gelu(F.linear(y, *get(f"{layer}.intermediate.weight", f"{layer}.intermediate.bias")))
            x = x + F.linear(y, *get(f"{layer}.output.weight", f"{layer}.output.bias"))
        x = F.layer_norm(x[:, 0], (16,), *get("norm.weight", "norm.bias", prefix=""))
        expected = F.linear(x, *get("classifier.weight", "classifier.bias", prefix=""))
        torch.testing.assert_close(model(audio).logits, expected, atol=1e-5, rtol=0)
        assert expected.std() > 0.1


class PinnedAttention(nn.Module):
    """Attention whose weights are all on one token, for every head and query; else as the one it stands for."""

    def __init__(self, attention, token):
        super().__init__()
        self.attention, self.token = attention, token

    def forward(self, states, output_attentions):
        rows, num_tokens, size = states.shape
        heads = self.attention.num_heads
        value = self.attention.qkv(states).chunk(3, dim=-1)[2].reshape(rows, num_tokens, heads, -1).transpose(1, 2)
        weights = torch.zeros(rows, heads, num_tokens, num_tokens)
        weights[..., self.token] = 1.0
        return self.attention.output((weights @ value).transpose(1, 2).reshape(rows, num_tokens, size)), weights


def explicit_contributions(model, **inputs):
    """One forward pass per token, the class token first: `(batch_size, num_outputs, 1 + num_tokens)`."""
    last = model.base_model.encoder.layers[-1]
    original, rows = last.attention, []
    with torch.no_grad():
        num_tokens = model(**inputs, output_attentions=True).attentions[-1].shape[-1]
        for token in range(num_tokens):
            last.attention = PinnedAttention(original, token)
            rows.append(torch.cat(list(model(**inputs).task_logits.values()), dim=-1).sigmoid())
    last.attention = original
    return torch.stack(rows, dim=-1)


@pytest.mark.parametrize("tagger", ["model", "self_attention_tagger"])
def test_contributions_equal_explicit_pinning(tagger, request):
    tagger = request.getfixturevalue(tagger)
    audio = noise(2, 7000)
    expected = explicit_contributions(tagger, input_values=audio)
    found = tagger.tag_contributions(audio, output_attention_map=True)
    torch.testing.assert_close(found.probabilities, expected[..., 1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.class_token_probabilities, expected[..., 0], atol=1e-5, rtol=0)
    assert expected.std(dim=-1).min() > 1e-3  # tokens differ, so that the comparison says something
    with torch.no_grad():
        output = tagger(audio, output_attentions=True)
    torch.testing.assert_close(found.undisturbed_probabilities, output.logits.sigmoid(), atol=1e-5, rtol=0)
    attention_map = output.attentions[-1].sum(1)[:, 0, 1:]
    torch.testing.assert_close(found.attention_map, attention_map, atol=1e-5, rtol=0)
    assert tagger.tag_contributions(audio).attention_map is None


def test_tokens_stand_where_their_frames_do(model, self_attention_tagger):
    for tagger in (model, self_attention_tagger):
        samples = tagger.config.samples_per_token
        assert samples == 4 * 64
        seconds = tagger.tag_contributions(noise(1, 7000)).token_seconds
        torch.testing.assert_close(seconds[:, 0], torch.arange(len(seconds)) * samples / 8000)
        torch.testing.assert_close(seconds[:-1, 1], seconds[1:, 0])
        assert 0.8 < seconds[-1, 1] <= 7000 / 8000
    published = MusicTaggingTransformerConfig()
    assert published.samples_per_token / published.sampling_rate == pytest.approx(0.0929, abs=5e-5)
    published = MusicTaggerConfig(architecture="cnnsa")
    assert published.samples_per_token / published.sampling_rate == pytest.approx(0.128)


@pytest.mark.parametrize("tagger", ["model", "self_attention_tagger"])
def test_contributions_of_a_padded_clip_are_those_of_the_clip(tagger, request):
    tagger = request.getfixturevalue(tagger)
    lengths = [5000, 8000, 5000, 6100]
    audio, mask = noise(4, 8000), torch.zeros(4, 8000, dtype=torch.long)
    for row, length in enumerate(lengths):
        audio[row, length:], mask[row, :length] = 1e3, 1
    found = tagger.tag_contributions(audio, attention_mask=mask, output_attention_map=True)
    assert len(found.token_seconds) == found.probabilities.shape[-1]
    for row, length in enumerate(lengths):
        alone = tagger.tag_contributions(audio[row : row + 1, :length], output_attention_map=True)
        num_tokens = alone.probabilities.shape[-1]
        assert found.token_mask[row].tolist() == [index < num_tokens for index in range(found.token_mask.shape[1])]
        for name in ("probabilities", "attention_map"):
            torch.testing.assert_close(found[name][row, ..., :num_tokens], alone[name][0], atol=1e-5, rtol=0)
            assert not found[name][row, ..., num_tokens:].any()
        for name in ("undisturbed_probabilities", "class_token_probabilities"):
            torch.testing.assert_close(found[name][row], alone[name][0], atol=1e-5, rtol=0)


def test_contributions_of_a_task_with_one_label_are_a_distribution():
    tasks = [
        {"name": "tag", "type": "multi_label", "labels": ["guitar", "slow"]},
        {"name": "tempo", "type": "single_label", "labels": ["low", "middle", "high"]},
    ]
    config = MusicTaggingTransformerConfig(**{**TINY, "num_labels": None}, tasks=tasks)
    tagger = as_if_trained(MusicTaggingTransformerForAudioClassification(config))
    found = tagger.tag_contributions(noise(2, 8000)).probabilities
    assert found.shape[1] == 5
    torch.testing.assert_close(found[:, 2:].sum(1), torch.ones(2, found.shape[-1]))
    assert (found[:, :2].sum(1) - 1).abs().max() > 1e-3


def test_contributions_from_a_spectrogram_are_those_from_its_audio(model):
    audio = noise(1, 8000)
    spectrogram = model.music_tagging_transformer.features(audio)[:, 0].transpose(1, 2)
    expected, found = model.tag_contributions(audio), model.tag_contributions(input_features=spectrogram)
    torch.testing.assert_close(found.probabilities, expected.probabilities, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.token_seconds, expected.token_seconds)


def test_contributions_are_refused_where_they_mean_nothing(model):
    convolutional = MusicTaggerForAudioClassification(MusicTaggerConfig(architecture="sample", num_labels=2)).eval()
    with pytest.raises(ValueError, match="no transformer encoder.*occlusion"):
        convolutional.tag_contributions(noise(1, 59_049))
    with pytest.raises(ValueError, match="training mode"):
        model.train().tag_contributions(noise(1, 8000))


def test_every_parameter_learns():
    # 8000 samples are 126 frames and 31 tokens: every position is reached.
    tagger = MusicTaggingTransformerForAudioClassification(MusicTaggingTransformerConfig(**TINY)).train()
    labels = torch.tensor([[1.0, 0, 0, 1, 0], [0.0, 1, 0, 0, 1]])
    tagger(noise(2, 8000), labels=labels).loss.backward()
    for name, parameter in tagger.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert (tagger.music_tagging_transformer.encoder.positions.grad.abs().sum(1) > 0).all()


def test_gradient_checkpointing_changes_neither_gradients_nor_statistics():
    audio, labels, results, calls = noise(2, 8000), torch.ones(2, 5), [], []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        tagger = MusicTaggingTransformerForAudioClassification(MusicTaggingTransformerConfig(**TINY)).train()
        if checkpointing:
            tagger.activation_checkpointing_enable()
        base = tagger.music_tagging_transformer
        for part in (base.stages[1].conv1, base.encoder.layers[1].intermediate):
            part.register_forward_hook(lambda *_: calls.append(None))
        torch.manual_seed(1)
        tagger(audio, labels=labels).loss.backward()
        results.append([parameter.grad for parameter in tagger.parameters()] + list(tagger.buffers()))
    assert len(calls) == 2 + 4  # the second model computes both again on the way back
    for given, expected in zip(*results, strict=True):
        torch.testing.assert_close(given, expected)


def test_a_clip_alone_equals_the_clip_in_a_padded_batch(model):
    lengths = [8000, 1003, 6400]
    audio, mask = noise(3, 8000), torch.zeros(3, 8000, dtype=torch.long)
    for row, length in enumerate(lengths):
        audio[row, length:], mask[row, :length] = float("nan"), 1
    with torch.no_grad():
        together = model(audio, attention_mask=mask, output_hidden_states=True, output_attentions=True)
        for row, length in enumerate(lengths):
            alone = model(audio[row : row + 1, :length], output_hidden_states=True, output_attentions=True)
            torch.testing.assert_close(together.logits[row], alone.logits[0], atol=1e-5, rtol=0)
            size = alone.hidden_states[-1].shape[1]
            assert alone.attentions[0].shape == (1, 4, size, size) and len(alone.hidden_states) == 3
            torch.testing.assert_close(together.hidden_states[-1][row, :size], alone.hidden_states[-1][0])
            torch.testing.assert_close(together.attentions[1][row, :, :size, :size], alone.attentions[1][0])
            assert not together.attentions[1][row, :, size:].any()
    assert torch.isfinite(together.logits).all()


def test_the_spectrogram_may_be_computed_outside(model):
    audio = noise(2, 5000)
    spectrogram = model.music_tagging_transformer.features(audio)[:, 0].transpose(1, 2)
    with torch.no_grad():
        given = model(input_features=spectrogram).logits
        torch.testing.assert_close(given, model(audio).logits, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"\(2, 16, 79\).*16\)"):
        model(input_features=spectrogram.transpose(1, 2))


def test_lengths_reach_from_one_token_to_all_positions(model):
    config = model.config
    assert config.accepts_any_length
    with torch.no_grad():
        for num_samples, num_tokens in ((config.min_samples, 1), (config.max_samples, 31)):
            attentions = model(noise(1, num_samples), output_attentions=True).attentions
            assert attentions[0].shape[-1] == 1 + num_tokens
            assert torch.isfinite(model(noise(1, num_samples)).logits).all()
    with pytest.raises(ValueError, match=r"32 tokens, and this model has positions for 31.*windows.*max_positions"):
        model(noise(1, config.max_samples + 1))
    with pytest.raises(ValueError, match=f"needs at least {config.min_samples} samples"):
        model(noise(1, config.min_samples - 1))
    with pytest.raises(ValueError, match="32 tokens"):
        model(input_features=torch.zeros(1, 128, 16))
    with pytest.raises(ValueError, match="needs at least .* or 4 frames"):
        model(input_features=torch.zeros(1, 3, 16))
    with pytest.raises(ValueError, match="mono"):
        model(torch.zeros(1, 1, 8000))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_silence_and_full_scale_have_finite_logits(value, model):
    with torch.no_grad():
        assert torch.isfinite(model(torch.full((1, 8000), value)).logits).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_comes_close(dtype, model, tmp_path):
    model.save_pretrained(tmp_path)
    audio = noise(2, 8000)
    loaded = MusicTaggingTransformerForAudioClassification.from_pretrained(tmp_path, dtype=dtype)
    base = loaded.music_tagging_transformer
    assert base.projection.weight.dtype == dtype
    assert base.stages[0].batch_norm1.running_var.dtype == base.feature_batch_norm.weight.dtype == torch.float32
    assert base.stages[0].batch_norm1.num_batches_tracked.dtype == torch.int64
    with torch.no_grad():
        expected = model(audio).logits.sigmoid()
        for tagger in (loaded, MusicTaggingTransformerForAudioClassification.from_pretrained(tmp_path).to(dtype)):
            given = tagger(audio)
            assert given.logits.dtype == dtype
            torch.testing.assert_close(given.logits.float().sigmoid(), expected, atol=0.03, rtol=0)
            assert torch.isfinite(tagger.tag_contributions(audio).probabilities).all()


def test_saving_and_loading_changes_nothing(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded, info = MusicTaggingTransformerForAudioClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    base, info = MusicTaggingTransformerModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert loaded.config.to_dict() | {"_name_or_path": ""} == model.config.to_dict()
    audio = noise(2, 8000)
    with torch.no_grad():
        expected = model(audio)
        torch.testing.assert_close(loaded(audio).logits, expected.logits, atol=1e-6, rtol=0)
        torch.testing.assert_close(base(audio).embeddings, expected.embeddings, atol=1e-6, rtol=0)


def test_what_a_checkpoint_lacks_is_drawn_and_the_rest_is_left_alone(model, tmp_path):
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    prefix = "music_tagging_transformer."
    lost = [prefix + "encoder.class_token", prefix + "encoder.positions", prefix + "stages.1.conv2.bias"]
    kept = {name: weight for name, weight in load_file(path).items() if name not in lost}
    save_file(kept, path, metadata={"format": "pt"})
    loaded, info = MusicTaggingTransformerForAudioClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert set(info["missing_keys"]) == set(lost)
    state = loaded.state_dict()
    positions, class_token = state[prefix + "encoder.positions"], state[prefix + "encoder.class_token"]
    assert positions.std() == pytest.approx(1.0, abs=0.15) and positions.mean() == pytest.approx(0.0, abs=0.15)
    assert class_token.std() == pytest.approx(1.0, abs=0.6)
    for name, weight in kept.items():
        assert torch.equal(state[name], weight), name


def test_a_fresh_model_starts_as_torch_and_the_paper_draw_it():
    torch.manual_seed(0)
    base = MusicTaggingTransformerModel(MusicTaggingTransformerConfig(conv_channels=8, num_hidden_layers=1))
    weights = base.state_dict()
    assert weights["encoder.class_token"].std() == pytest.approx(1.0, abs=0.15)
    assert weights["encoder.positions"].shape == (513, 256)
    assert weights["encoder.positions"].std() == pytest.approx(1.0, abs=0.02)
    assert weights["projection.weight"].abs().max() == pytest.approx(base.projection.in_features**-0.5, rel=0.01)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_an_attention_implementation_may_be_named(attention, model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = MusicTaggingTransformerForAudioClassification.from_pretrained(tmp_path, attn_implementation=attention)
    with torch.no_grad():
        torch.testing.assert_close(loaded(noise(1, 8000)).logits, model(noise(1, 8000)).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"hidden_size": 100}, "`hidden_size` is 100 and `num_attention_heads` 8"),
        ({"num_hidden_layers": 0}, "`num_hidden_layers` is 0"),
        ({"conv_channels": -1}, "`conv_channels` is -1"),
        ({"conv_pools": []}, r"`conv_pools` is \[\]"),
        ({"conv_pools": [2, 2]}, "`conv_pools` holds 2"),
        ({"conv_pools": [[16, 1], [16, 1]]}, "takes 256 bins together.*has 128"),
        ({"hidden_dropout": 1.0}, "`hidden_dropout` is 1.0"),
        ({"input_samples": 2_000_000}, "`input_samples` is 2000000; 1536 to 1050111"),
        ({"input_samples": 100}, "`input_samples` is 100"),
        ({"max_positions": 50}, "50 tokens"),
        ({"feature": {"kind": "raw"}}, "'raw'"),
        ({"feature": {"num_mels": 96}}, "'num_mels'"),
        ({"feature": {"max_frequency_hz": 16_000.0}}, "16000.0 Hz; audio at 22050"),
        ({"sampling_rate": 0}, "`sampling_rate` is 0"),
        ({"hiden_size": 64}, "no field 'hiden_size'; did you mean 'hidden_size'"),
    ],
)
def test_a_wrong_config_is_refused_by_name(fields, message):
    with pytest.raises(ValueError, match=message):
        MusicTaggingTransformerConfig(**fields)


def test_a_loaded_config_keeps_of_its_feature_what_is_not_changed(tmp_path):
    MusicTaggingTransformerConfig(**TINY).save_pretrained(tmp_path)
    config = MusicTaggingTransformerConfig.from_pretrained(tmp_path, feature={"num_mel_bins": 24}, num_labels=3)
    assert (config.feature["num_mel_bins"], config.feature["hop_length"], config.num_outputs) == (24, 64, 3)
    assert config.feature["max_frequency_hz"] == 4000.0 and config.intermediate_size == 64


def test_a_finished_config_may_be_edited_and_is_checked_again():
    config = MusicTaggingTransformerConfig(**TINY)
    config.conv_channels, config.feature["num_mel_bins"], config.conv_pools[2] = 3, 24, [4, 1]
    built = MusicTaggingTransformerForAudioClassification(config)
    assert built.music_tagging_transformer.projection.in_features == 3 * (24 // 16)
    assert built(noise(2, 8000)).logits.shape == (2, 5)
    config.conv_pools[0] = [8, 2]
    with pytest.raises(ValueError, match="takes 64 bins together"):
        MusicTaggingTransformerForAudioClassification(config)


@pytest.mark.parametrize(
    "fields",
    [
        {"conv_pools": [[2, 2], [4, 1]], "max_positions": 63},
        {"conv_pools": [[2, 2], [2, 2], [2, 1], [2, 2]], "conv_channels": 4},
        {"feature": {"num_mel_bins": 20, "hop_length": 100, "compression": "ln"}},
        {"feature_batch_norm": False},
        {"num_hidden_layers": 1, "intermediate_size": 8, "hidden_size": 12},
        {"max_positions": 200, "sampling_rate": 16_000},
    ],
)
def test_an_edited_config_builds_a_model_that_learns(fields, tmp_path):
    config = MusicTaggingTransformerConfig(**{**TINY, **fields})
    config.save_pretrained(tmp_path)
    assert MusicTaggingTransformerConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()
    tagger = MusicTaggingTransformerForAudioClassification(config)
    output = tagger(noise(2, config.input_samples), labels=torch.ones(2, 5))
    assert output.logits.shape == (2, 5)
    output.loss.backward()
    seconds = tagger.eval().tag_contributions(noise(1, config.input_samples)).token_seconds
    torch.testing.assert_close(seconds[0, 1].item(), config.samples_per_token / config.sampling_rate)
