# SPDX-License-Identifier: Apache-2.0
"""The ways to attend agree at every length, and the default one holds no matrix of all pairs."""

import shutil

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hf_mathrock.models import myna_attention, myna_positions
from tiny_myna import tiny_myna

SCHEMES = ["alibi_2d", "alibi_1d", "rope_2d", "sincos_2d", "none"]
# One patch, just below and above a patch more, the lengths of the specification, and four minutes.
LENGTHS = [16, 17, 31, 32, 96, 111, 256, 1000, 1337, 7500]


@pytest.fixture(scope="module")
def model():
    """A model whose weights are far from their first values; tests must not change it."""
    return stirred()


def stirred(**fields):
    model = tiny_myna(**fields)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def spectrogram(num_frames, batch_size=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch_size, num_frames, 128, generator=generator)


@torch.no_grad()
def heard(model, implementation, *args, **kwargs):
    model.set_attn_implementation(implementation)
    try:
        return model(*args, **kwargs)
    finally:
        model.set_attn_implementation("sdpa")


def assert_equal(output, expected, tolerance=1e-5):
    torch.testing.assert_close(output.pooler_output, expected.pooler_output, atol=tolerance, rtol=0)
    torch.testing.assert_close(output.last_hidden_state, expected.last_hidden_state, atol=tolerance, rtol=0)


@pytest.fixture
def short_blocks(monkeypatch):
    """Blocks of some 48 queries of a single short row, so that a short input already needs many of them."""
    monkeypatch.setattr(myna_attention, "BLOCK_ELEMENTS", 3 * 48 * 513)
    monkeypatch.setattr(myna_attention, "_FEWEST_QUERIES", 1)


# -- The ways agree ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_frames", LENGTHS)
def test_blocks_equal_all_at_once(model, num_frames):
    features = spectrogram(num_frames)
    whole, blocks = (heard(model, name, features) for name in ("eager", "sdpa"))
    assert blocks.mode == whole.mode == "whole"
    assert blocks.last_hidden_state.shape == (1, 1 + num_frames // 16 * 8, 24)
    assert_equal(blocks, whole)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("num_frames", [16, 333, 1024])
def test_blocks_equal_all_at_once_under_every_scheme(scheme, num_frames, short_blocks):
    model = stirred(position_embedding=scheme)
    features = spectrogram(num_frames, batch_size=2)
    assert_equal(heard(model, "sdpa", features), heard(model, "eager", features))


def test_blocks_equal_all_at_once_where_each_row_has_its_own_tokens(short_blocks):
    model = stirred()
    positions = torch.stack(
        [torch.randperm(800, generator=torch.Generator().manual_seed(row))[:257] for row in range(3)]
    )
    positions = torch.stack([positions // 8, positions % 8], dim=-1)
    patches = torch.randn(3, 257, 256, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(3, 257)
    mask[1, 100:], mask[2, 1:] = 0, 0
    for kwargs in ({}, {"attention_mask": mask}):
        whole, blocks = (
            heard(model, name, patches=patches, position_ids=positions, **kwargs) for name in ("eager", "sdpa")
        )
        torch.testing.assert_close(blocks.pooler_output, whole.pooler_output, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooling", ["mean", "cls_mean"])
def test_blocks_equal_all_at_once_however_is_pooled(pooling, short_blocks):
    model = stirred(pooling=pooling, use_cls_token=pooling != "mean")
    features = spectrogram(1000)
    assert_equal(heard(model, "sdpa", features), heard(model, "eager", features))


@pytest.mark.parametrize("scheme", ["alibi_2d", "alibi_1d", "rope_2d"])
def test_gradients_of_blocks_equal_those_of_all_at_once(scheme, short_blocks):
    gradients = {}
    for name in ("eager", "sdpa"):
        model = stirred(position_embedding=scheme, slopes="learned")
        model.set_attn_implementation(name)
        model(spectrogram(320, batch_size=2)).last_hidden_state.square().sum().backward()
        gradients[name] = {key: parameter.grad for key, parameter in model.named_parameters()}
    for key, expected in gradients["eager"].items():
        scale = expected.abs().max().item()
        torch.testing.assert_close(gradients["sdpa"][key], expected, atol=1e-5 * scale + 1e-7, rtol=0, msg=key)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="flex_attention is compiled, and there is no g++ here")
@pytest.mark.parametrize("scheme", ["alibi_2d", "rope_2d"])
def test_flex_attention_equals_all_at_once(scheme, caplog):
    model = stirred(position_embedding=scheme)
    for num_frames in (16, 111, 1000, 7500):
        features = spectrogram(num_frames)
        assert_equal(heard(model, "flex_attention", features), heard(model, "eager", features))
    several = spectrogram(256, batch_size=2)
    assert_equal(heard(model, "flex_attention", several), heard(model, "eager", several))
    assert "does not work here" not in caplog.text


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="flex_attention is compiled, and there is no g++ here")
@pytest.mark.parametrize("slopes", ["halving", "learned"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_blocks_in_training_give_the_gradients_of_all_at_once(short_blocks, slopes, checkpointing):
    model = stirred(slopes=slopes).train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    found = {}
    for implementation in ("sdpa", "eager"):
        model.set_attn_implementation(implementation)
        model.zero_grad()
        model(spectrogram(512, batch_size=2), keep_ratio=1.0).pooler_output.square().sum().backward()
        found[implementation] = [parameter.grad.clone() for parameter in model.parameters()]
    for ours, expected in zip(found["sdpa"], found["eager"], strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


def test_layers_in_training_share_what_is_added_to_their_scores(short_blocks):
    """The way back keeps it, and a copy for each layer would be most of a training's memory."""
    saved = {}

    def note(tensor):
        if tensor.dim() == 4 and tensor.shape[-1] == 257:  # 256 tokens and the class token
            saved.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    model = stirred().train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(spectrogram(512, batch_size=2), keep_ratio=1.0)
    assert len(saved) > 1 and sum(tensor.shape[2] for tensor in saved.values()) == 257


def test_one_row_of_a_bias_is_that_row_of_the_whole():
    positions = torch.randint(0, 40, (3, 20, 2), generator=torch.Generator().manual_seed(0))
    slopes = myna_positions.alibi_slopes(3, "halving")
    mask = torch.ones(3, 21, dtype=torch.bool)
    mask[1, 15:] = False
    bias = myna_attention.DistanceBias(positions, slopes, 1.0, True, mask, torch.float32)
    with torch.no_grad():
        bias.keep()
        for row in range(3):
            assert torch.equal(bias.row(row).block(4, 11), bias.block(4, 11)[row, None])
            assert bias.row(row).width == 3


def test_flex_attention_leaves_out_padding_and_keeps_places():
    model = stirred()
    places = torch.randperm(800, generator=torch.Generator().manual_seed(3))[:120].view(2, 60)
    tokens = {
        "patches": torch.randn(2, 60, 256, generator=torch.Generator().manual_seed(0)),
        "position_ids": torch.stack([places // 8, places % 8], dim=-1),
        "attention_mask": torch.ones(2, 60),
    }
    tokens["attention_mask"][1, 20:] = 0
    flex, whole = (heard(model, name, **tokens) for name in ("flex_attention", "eager"))
    torch.testing.assert_close(flex.pooler_output, whole.pooler_output, atol=1e-5, rtol=0)


def test_without_a_compiler_flex_attention_is_computed_in_blocks(model, monkeypatch, caplog):
    def no_compiler():
        raise RuntimeError("no g++")

    monkeypatch.setattr(myna_attention, "_compiled_flex_attention", no_compiler)
    monkeypatch.setattr(myna_attention, "_flex_works", {})
    features = spectrogram(320)
    for _ in range(2):
        assert_equal(heard(model, "flex_attention", features), heard(model, "sdpa", features), tolerance=0)
    assert caplog.text.count("no g++") == 1


def test_training_with_flex_attention_gives_the_gradients_of_the_default():
    gradients = {}
    for name in ("flex_attention", "sdpa"):
        model = stirred(slopes="learned")
        model.set_attn_implementation(name)
        model(spectrogram(96)).pooler_output.square().sum().backward()
        gradients[name] = [parameter.grad for parameter in model.parameters()]
    for given, expected in zip(*gradients.values(), strict=True):
        torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-4)


def test_an_unknown_way_to_attend_is_refused(model):
    with pytest.raises(ValueError, match="attn_implementation|attention"):
        model.set_attn_implementation("by_magic")


# -- Memory -----------------------------------------------------------------------------------------------------------


class LargestTensor(TorchDispatchMode):
    """Watches how many numbers the largest tensor holds that an operation makes."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        # Views are laid out over what is there already.
        fresh = (leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor) and not leaf._is_view())
        self.numbers = max([self.numbers, *(leaf.untyped_storage().nbytes() // leaf.element_size() for leaf in fresh)])
        return result


def largest_tensor(model, num_frames, implementation="sdpa"):
    with LargestTensor() as largest:
        heard(model, implementation, spectrogram(num_frames))
    return largest.numbers


@pytest.mark.parametrize("scheme", ["alibi_2d", "alibi_1d", "rope_2d"])
def test_no_tensor_holds_all_pairs_of_tokens(scheme):
    """Four minutes: 3745 states and their three heads."""
    model = stirred(position_embedding=scheme)
    assert largest_tensor(model, 7500) <= myna_attention.BLOCK_ELEMENTS < 3745**2


def test_the_watch_on_tensors_sees_a_matrix_of_all_pairs(model):
    assert largest_tensor(model, 2000, "eager") >= 3 * 1001**2


def test_twice_the_length_needs_no_more_than_twice_the_largest_tensor(model, monkeypatch):
    monkeypatch.setattr(myna_attention, "BLOCK_ELEMENTS", 3 * 16 * 1001)
    monkeypatch.setattr(myna_attention, "_FEWEST_QUERIES", 16)
    monkeypatch.setattr(myna_attention, "_FEWEST_QUERIES", 16)
    assert largest_tensor(model, 4000) <= 2.1 * largest_tensor(model, 2000)


# -- Weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_attention_weights_are_shares_of_all_that_is_heard(scheme):
    model = stirred(position_embedding=scheme)
    output = heard(model, "sdpa", spectrogram(96, batch_size=2), output_attentions=True)
    assert [weights.shape for weights in output.attentions] == [(2, 3, 49, 49)] * 2
    for weights in output.attentions:
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 49), atol=1e-5, rtol=0)
    assert_equal(output, heard(model, "sdpa", spectrogram(96, batch_size=2)))


def test_padding_has_no_weight():
    model = stirred()
    positions = torch.tensor([[[0, 0], [1, 0], [2, 3], [9, 7]]])
    patches, mask = spectrogram(4, seed=2).repeat(1, 1, 2), torch.tensor([[1, 0, 1, 0]])
    kept = mask[0].bool()
    masked = heard(model, "sdpa", patches=patches, position_ids=positions, attention_mask=mask, output_attentions=True)
    hidden = ~torch.cat([torch.ones(1, dtype=torch.bool), kept])
    for weights in masked.attentions:
        assert not weights[..., hidden].any()
    alone = heard(model, "sdpa", patches=patches[:, kept], position_ids=positions[:, kept])
    torch.testing.assert_close(masked.pooler_output, alone.pooler_output, atol=1e-6, rtol=0)


# -- Low precision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_half_precision_hears_nearly_the_same_of_a_long_track(scheme):
    exact, low = (stirred(position_embedding=scheme) for _ in range(2))
    low.to(torch.bfloat16)
    features = spectrogram(4800)
    expected = heard(exact, "sdpa", features).pooler_output
    for implementation in ("sdpa", "eager"):
        given = heard(low, implementation, features.bfloat16())
        assert given.pooler_output.dtype == torch.bfloat16
        assert torch.nn.functional.cosine_similarity(given.pooler_output.float(), expected).item() > 0.99
    with torch.autocast("cpu", dtype=torch.bfloat16):
        autocast = heard(exact, "sdpa", features).pooler_output
    assert torch.nn.functional.cosine_similarity(autocast.float(), expected).item() > 0.99


def test_far_columns_are_told_apart_in_half_precision():
    """1000 and 1001 are one number in bfloat16; their distances to their neighbours are not."""
    model = tiny_myna(num_attention_heads=6, slopes="canonical")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    model.to(torch.bfloat16)
    places = torch.tensor([[1000, 0], [1001, 0], [1002, 0], [1003, 0]])
    here, there = (
        heard(
            model,
            "sdpa",
            patches=torch.zeros(1, 4, 256, dtype=torch.bfloat16),
            position_ids=(places - shift)[None],
            output_attentions=True,
        ).attentions[0]
        for shift in (torch.tensor([0, 0]), torch.tensor([1000, 0]))
    )
    torch.testing.assert_close(here, there, atol=0, rtol=0)
    assert bool((here[0, :, 1, 1:].diff(dim=-1)[0] < 0).all())
    assert np.isfinite(here.float().numpy()).all()
