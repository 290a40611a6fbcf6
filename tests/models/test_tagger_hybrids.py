# SPDX-License-Identifier: Apache-2.0
"""Front ends that hear samples, the back end they share, and the pooling it ends in."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from hf_mathrock import MusicTaggerConfig, MusicTaggerForAudioClassification
from hf_mathrock.models.tagger_pooling import AutoPool, TemporalBackend, per_channel_norm
from hf_mathrock.models.tagger_waveform_stages import (
    HYBRID_PRESETS,
    WAVEFORM_BLOCKS,
    CausalConv,
    FullHeightConv,
    Sinc,
    TemporalConvolutions,
    WaveConv,
)

TUTORIAL_TCN = {"channels": [4, 8, 16, 32], "strides": None}
PATCH = 3200


def pieces(name, **options):
    block = WAVEFORM_BLOCKS[name](1, **options)
    return block, TemporalBackend(block.out_channels, per_channel=False)


def count_without_norms(*modules):
    norms = (nn.GroupNorm, nn.BatchNorm1d)
    return sum(
        parameter.numel()
        for module in modules
        for part in module.modules()
        if not isinstance(part, norms)
        for parameter in part.parameters(recurse=False)
    )


# The tutorial's totals for 10 classes, and what its LayerNorms have: the patch, then each stage's channels x frames,
# and the frames of the back end once more before its linear layers.
@pytest.mark.parametrize(
    ("name", "options", "shape", "total", "layer_norm"),
    [
        ("full_height_conv", {}, (1, 128, 64), 164_755, 2 * (128 * 64 + 80 * 60 + 60 * (18 + 4 + 4))),
        ("wave_conv", {}, (1, PATCH), 124_931, 2 * (PATCH + 80 * 65 + 60 * (20 + 5 + 5))),
        ("tcn", TUTORIAL_TCN, (1, PATCH), 219_963, 2 * (PATCH + 32 * 1066 + 60 * (354 + 116 + 116))),
        ("sinc", {}, (1, PATCH), 313_011, 2 * (PATCH + 80 * 983 + 60 * (326 + 107 + 107))),
    ],
)
def test_without_norms_a_hybrid_has_the_parameters_of_the_tutorial(name, options, shape, total, layer_norm):
    block, backend = pieces(name, **options)
    classifier = nn.Linear(backend.out_channels, 10)
    batch_norm = 3 * 2 * 128
    assert count_without_norms(block, backend, classifier) == total - layer_norm - batch_norm
    with torch.no_grad():
        assert classifier(backend(block(torch.randn(2, *shape)))).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "options", "channels", "frames"),
    [("wave_conv", {}, 80, 65), ("tcn", TUTORIAL_TCN, 32, 1066), ("sinc", {}, 80, 983), ("tcn", {}, 32, 66)],
)
def test_shapes_are_the_tutorials(name, options, channels, frames):
    block = WAVEFORM_BLOCKS[name](1, **options)
    with torch.no_grad():
        assert block(torch.randn(1, 1, PATCH)).shape == (1, channels, frames)


def test_a_spectrogram_loses_its_height():
    assert FullHeightConv(1)(torch.randn(2, 1, 128, 64)).shape == (2, 80, 60)
    with pytest.raises(ValueError, match="128 bands high, its input 96"):
        FullHeightConv(1)(torch.randn(2, 1, 96, 64))


@pytest.mark.parametrize("name", list(WAVEFORM_BLOCKS))
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_any_length_that_is_long_enough_works(name, norm):
    block = WAVEFORM_BLOCKS[name](1, norm=norm).eval()
    backend = TemporalBackend(block.out_channels, norm=norm).eval()
    shape = (1, 1, 128) if name == "full_height_conv" else (1, 1)
    for length in (64, 83) if name == "full_height_conv" else (PATCH, int(1.3 * PATCH)):
        with torch.no_grad():
            assert backend(block(torch.randn(*shape, length))).isfinite().all()


def test_the_group_norm_is_at_first_the_layer_norm_over_channels_and_time():
    values = 3 + 2 * torch.randn(2, 5, 7)
    torch.testing.assert_close(per_channel_norm("group", 5)(values), nn.LayerNorm((5, 7))(values))
    with pytest.raises(ValueError, match="'group', 'batch'"):
        per_channel_norm("layer", 5)


@pytest.mark.parametrize("name", list(WAVEFORM_BLOCKS))
def test_loudness_does_not_reach_the_filters(name):
    block = WAVEFORM_BLOCKS[name](1).eval()
    clip = torch.randn(1, 1, 128, 64) if name == "full_height_conv" else torch.randn(1, 1, PATCH)
    torch.testing.assert_close(block(clip), block(0.1 * clip), atol=1e-2, rtol=1e-2)
    loud = WAVEFORM_BLOCKS[name](1, input_norm=False)
    loud.load_state_dict({key: value for key, value in block.state_dict().items() if "input_norm" not in key})
    assert not torch.allclose(loud.eval().sequence(clip), loud.sequence(0.1 * clip), atol=1e-2)


# -- SincNet ----------------------------------------------------------------------------------------------------------


def test_a_sinc_filter_passes_its_band_only():
    block = Sinc(1, channels=10).requires_grad_(False)
    low, high = (edge[:, 0] for edge in block.band_edges())
    time = torch.arange(8000) / block.sampling_rate
    transition_hz = 4 * block.sampling_rate / block.kernel_size  # of a Hamming window, each side counted in full
    checked = 0
    for index in range(len(low)):
        if high[index] - low[index] < 2 * transition_hz:
            continue
        checked += 1

        def energy(hz, index=index):
            tone = torch.sin(2 * math.pi * hz * time)[None, None]
            return float(block.sequence(tone)[0, index].square().mean())

        inside = energy((low[index] + high[index]) / 2)
        assert energy(max(20.0, float(low[index]) - transition_hz)) < 1e-3 * inside
        if (above := float(high[index]) + transition_hz) < 11_000:
            assert energy(above) < 1e-3 * inside
    assert checked >= 3


def test_sinc_filters_start_on_adjacent_mel_bands():
    low, high = (edge.detach()[:, 0] for edge in Sinc(1).band_edges())
    assert low[0] == pytest.approx(50 + 30, abs=1e-2)
    torch.testing.assert_close(high[:-1], low[1:] + 50, atol=0.1, rtol=0)
    assert high[-1] == pytest.approx(11_025, abs=0.1) and (high <= 11_025).all()
    filters = Sinc(1).filters().detach()
    torch.testing.assert_close(filters[:, 125], torch.ones(80))
    torch.testing.assert_close(filters, filters.flip(1), atol=1e-5, rtol=1e-5)
    assert sum(p.numel() for p in (Sinc(1).p1, Sinc(1).p2)) == 160


def test_an_even_sinc_kernel_is_raised_and_lengths_follow():
    block = Sinc(1, kernel_size=250)
    assert block.kernel_size == 251 and block.filters().shape == (80, 251)
    assert block.sequence(torch.randn(1, 1, 400)).shape == (1, 80, 150)
    with pytest.raises(ValueError, match="2 channels"):
        Sinc(2)


def test_the_unit_of_the_edges_changes_no_filter():
    torch.testing.assert_close(Sinc(1, unit_hz=1.0).filters(), Sinc(1).filters(), atol=1e-5, rtol=1e-4)


def test_sinc_filters_made_in_inference_mode_can_be_trained_later():
    with torch.inference_mode():
        Sinc(1, kernel_size=31)(torch.randn(1, 1, 100))
    block = Sinc(1, kernel_size=31)
    block(torch.randn(1, 1, 100)).square().sum().backward()
    assert block.p1.grad.isfinite().all() and block.p1.grad.any() and block.p2.grad.any()


def test_sinc_keeps_no_buffer():
    assert not list(Sinc(1).buffers())


# -- TCN --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (TUTORIAL_TCN, 31),
        ({}, 2062),
        ({"channels": [4] * 10, "strides": None}, 2047),
        ({"channels": [4] * 3, "strides": [2] * 3}, 22),
    ],
)
def test_a_frame_hears_exactly_its_receptive_field_and_nothing_later(options, field):
    torch.manual_seed(0)
    block = TemporalConvolutions(1, **options).eval()
    assert block.receptive_field == field
    for parameter in block.parameters():  # nothing negative: no ReLU closes, and no tap cancels another
        nn.init.constant_(parameter, 0.5)
    rate = block.rates[-1]
    samples = torch.ones(1, 1, (field // rate + 4) * rate, requires_grad=True)
    states = block.sequence(samples)
    assert states.shape[-1] == samples.shape[-1] // rate
    frame = states.shape[-1] - 2
    states[0, :, frame].sum().backward()
    heard = samples.grad[0, 0].nonzero()[:, 0]
    assert int(heard.max()) == frame * rate
    assert int(heard.max() - heard.min()) + 1 == field


def test_the_taps_of_every_level_stand_twice_as_far_apart():
    block = TemporalConvolutions(1)
    assert [d * r for d, r in zip(block.dilations, block.rates, strict=False)] == [2**level for level in range(10)]
    assert TemporalConvolutions(1, **TUTORIAL_TCN).dilations == [1, 2, 4, 8]
    with pytest.raises(ValueError, match="`strides` is for 2 levels, `channels` for 3"):
        TemporalConvolutions(1, channels=[2, 2, 2], strides=[1, 1])
    with pytest.raises(ValueError, match="`dilations` is for 1 levels, `channels` for 3"):
        TemporalConvolutions(1, channels=[2, 2, 2], strides=None, dilations=[1])


def test_a_causal_convolution_is_torchs_with_weight_norm():
    torch.manual_seed(0)
    ours = CausalConv(6, 5, 3, dilation=2, stride=2)
    torch.testing.assert_close(ours.weight, ours.direction)  # at first
    with torch.no_grad():
        ours.length.mul_(torch.rand(5, 1, 1) + 0.5)
    theirs = weight_norm(nn.Conv1d(6, 5, 3, dilation=2, stride=2))
    parts = {"weight.original0": ours.length, "weight.original1": ours.direction}
    theirs.load_state_dict({f"parametrizations.{key}": part for key, part in parts.items()} | {"bias": ours.bias})
    states = torch.randn(2, 6, 40)
    torch.testing.assert_close(ours(states), theirs(nn.functional.pad(states, (4, 0))))
    assert CausalConv(64, 64, 3, 1, 1).weight.abs().max().item() == pytest.approx(1 / math.sqrt(64 * 3), rel=0.02)


# -- AutoPool ---------------------------------------------------------------------------------------------------------


def test_autopool_goes_from_the_mean_to_the_maximum():
    values = torch.randn(3, 4, 20)
    for alpha, expected in (
        (0.0, values.mean(-1)),
        (1.0, (values.softmax(-1) * values).sum(-1)),
        (1e4, values.amax(-1)),
        (-1e4, values.amin(-1)),
    ):
        torch.testing.assert_close(AutoPool(4, initial_alpha=alpha)(values), expected)


@pytest.mark.parametrize("per_channel", [True, False])
def test_autopool_splits_values_from_weights(per_channel):
    hidden_states = torch.randn(2, 6, 9)
    pool = AutoPool(6, split=True, per_channel=per_channel)
    assert pool.out_channels == 3 and pool.alpha.shape == ((3,) if per_channel else (1,))
    expected = (hidden_states[:, 3:].softmax(-1) * hidden_states[:, :3]).sum(-1)
    torch.testing.assert_close(pool(hidden_states), expected)
    with pytest.raises(ValueError, match="5 is odd"):
        AutoPool(5, split=True)


@pytest.mark.parametrize("split", [True, False])
def test_autopool_does_not_hear_masked_frames(split):
    pool = AutoPool(4, split=split, initial_alpha=2.0)
    clip = torch.randn(1, 4, 10)
    padded = torch.cat([clip, torch.full((1, 4, 5), float("nan"))], dim=-1)
    mask = torch.arange(15)[None] < 10
    torch.testing.assert_close(pool(padded, mask), pool(clip), atol=1e-7, rtol=1e-6)
    assert pool(padded, torch.zeros(1, 15, dtype=torch.bool)).eq(0).all()


def test_a_split_autopool_from_zero_is_stuck_at_first_and_from_one_is_not():
    for alpha, moves in ((0.0, False), (1.0, True)):
        hidden_states = torch.randn(2, 4, 9, requires_grad=True)
        pool = AutoPool(4, split=True, initial_alpha=alpha)
        pool(hidden_states).square().sum().backward()
        assert bool(hidden_states.grad[:, 2:].any()) is moves
        assert pool.alpha.grad.any()


def test_autopool_is_stable_in_half_precision():
    pool = AutoPool(2, initial_alpha=100.0).bfloat16()
    assert pool(1000 * torch.randn(1, 2, 8, dtype=torch.bfloat16)).isfinite().all()


# -- Back end and whole ------------------------------------------------------------------------------------------------


def test_the_back_end_says_when_too_little_is_left():
    backend = TemporalBackend(4).eval()
    assert backend(torch.randn(1, 4, backend.minimum_frames)).shape == (1, 64)
    with pytest.raises(ValueError, match=f"{backend.minimum_frames - 1} frames reach the temporal back end"):
        backend(torch.randn(1, 4, backend.minimum_frames - 1))
    pooled, states = backend.forward_with_states(torch.randn(1, 4, 50))
    assert len(states) == 5 and pooled.shape == (1, 64)


@pytest.mark.parametrize("name", list(WAVEFORM_BLOCKS))
def test_every_parameter_of_the_pieces_learns(name):
    torch.manual_seed(0)
    block, backend = pieces(name)
    shape = (2, 1, 128, 64) if name == "full_height_conv" else (2, 1, PATCH)
    backend.eval()(block.eval()(torch.randn(*shape))).square().sum().backward()
    for module in (block, backend):
        for key, parameter in module.named_parameters():
            assert parameter.grad is not None and parameter.grad.any() and parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("name", list(WAVEFORM_BLOCKS))
def test_the_pieces_can_be_made_without_memory(name):
    with torch.device("meta"):
        block, backend = pieces(name)
        shape = (2, 1, 128, 64) if name == "full_height_conv" else (2, 1, PATCH)
        assert backend(block(torch.empty(*shape))).shape == (2, 64)
    assert pieces(name)[0].state_dict().keys() == block.state_dict().keys()


HYBRIDS = list(HYBRID_PRESETS)


@pytest.fixture(params=HYBRIDS)
def hybrid(request):
    return request.param


def tagger(architecture, **fields):
    fields.setdefault("input_samples", PATCH if architecture != "logmel_hybrid" else 65_535)
    torch.manual_seed(0)
    return MusicTaggerForAudioClassification(
        MusicTaggerConfig(architecture=architecture, num_labels=4, **fields)
    ).eval()


def clips(model, factor=1.0, rows=2):
    return 0.1 * torch.randn(rows, int(factor * model.config.input_samples), generator=torch.Generator().manual_seed(1))


def test_a_hybrid_hears_any_length_and_every_parameter_learns(hybrid):
    model = tagger(hybrid)
    assert model.config.accepts_any_length
    with torch.no_grad():
        assert model(clips(model, 1.3)).logits.isfinite().all()
    labels = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    model(clips(model), labels=labels).loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_padding_does_not_reach_a_hybrid(hybrid):
    model = tagger(hybrid)
    clip = clips(model, rows=1)
    padded = torch.nn.functional.pad(clip, (0, 500), value=1.0)
    mask = (torch.arange(padded.shape[1]) < clip.shape[1]).long()[None]
    with torch.no_grad():
        torch.testing.assert_close(model(padded, attention_mask=mask).logits, model(clip).logits, atol=1e-6, rtol=0)


def test_a_hybrid_is_loaded_as_it_was_saved(hybrid, tmp_path):
    model = tagger(hybrid)
    model.save_pretrained(tmp_path)
    again, info = MusicTaggerForAudioClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        assert torch.equal(again.eval()(clips(model)).logits, model(clips(model)).logits)
    low = MusicTaggerForAudioClassification.from_pretrained(tmp_path, dtype=torch.bfloat16)
    kinds = {name: tensor.dtype for name, tensor in low.state_dict().items() if tensor.is_floating_point()}
    assert kinds["classifier.weight"] == torch.bfloat16
    assert {kind for name, kind in kinds.items() if "batch_norm" in name} == {torch.float32}
    with torch.no_grad():
        expected = model(clips(model)).logits.sigmoid()
        torch.testing.assert_close(low.eval()(clips(model)).logits.float().sigmoid(), expected, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("architecture", "lacking"),
    [("sincnet_hybrid", "p1"), ("sincnet_hybrid", "alpha"), ("tcn_hybrid", "conv1.")],
)
def test_what_a_checkpoint_lacks_starts_as_in_a_new_model(architecture, lacking, tmp_path):
    model = tagger(architecture)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if lacking not in name}
    assert len(kept) < len(weights)
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    again = MusicTaggerForAudioClassification.from_pretrained(tmp_path)
    for name, tensor in again.state_dict().items():
        if lacking not in name or architecture == "sincnet_hybrid":
            assert torch.equal(tensor, model.state_dict()[name]), name
    for module in again.modules():
        if isinstance(module, CausalConv):
            torch.testing.assert_close(module.weight, module.direction)
            assert 0.3 < module.weight.abs().max() * math.sqrt(module.weight[0].numel()) <= 1


def test_a_stage_may_be_the_tutorials():
    model = tagger("tcn_hybrid", stages=[{"block": "tcn", **TUTORIAL_TCN}], backend={"per_channel": False})
    assert model.music_tagger.stages[0].receptive_field == 31
    assert model.music_tagger.temporal.pooling.alpha.shape == (1,)
    assert model.config.stages[0]["dropout"] == 0.2  # saved, so that another default changes no checkpoint


def test_a_spectrogram_of_another_height_says_what_to_change():
    with pytest.raises(ValueError, match="128 bands high, its input 96"):
        tagger("logmel_hybrid", feature={"num_mel_bins": 96})


def test_band_edges_follow_the_configurations_rate():
    model = tagger("sincnet_hybrid", sampling_rate=16_000)
    assert model.music_tagger.stages[0].sampling_rate == 16_000
    assert model.music_tagger.stages[0].band_edges()[1].max() <= 8000


def test_all_architectures_hear_the_same_length():
    assert {preset["input_samples"] for preset in HYBRID_PRESETS.values()} == {65_535}
    feature = HYBRID_PRESETS["logmel_hybrid"]["feature"]
    assert 1 + 65_535 // feature["hop_length"] == 64
    assert WaveConv(1).conv.stride == (15,)
