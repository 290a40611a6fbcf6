# SPDX-License-Identifier: Apache-2.0
"""The convolutions of WavLM in pieces equal the convolutions of the whole."""

import pytest
import torch
from transformers import WavLMConfig
from transformers.models.wavlm.modeling_wavlm import WavLMFeatureEncoder, WavLMPositionalConvEmbedding

from hf_mathrock.models.modeling_wavlm_sdpa import PaddingInvariantFeatureEncoder, SpectralPositionalConvEmbedding


@pytest.fixture
def encoder(tiny_model):
    torch.manual_seed(0)
    stock = WavLMFeatureEncoder(tiny_model.config.wavlm_config).eval()
    norm = stock.conv_layers[0].layer_norm
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    return stock


def waveform(num_samples):
    # An offset far above the signal: the normalisation must take it away without losing the signal.
    return 1.0 + 0.1 * torch.randn(2, num_samples)


@pytest.mark.parametrize("num_samples", [400, 719, 720, 9_999, 32_000])
@pytest.mark.parametrize("piece_size", [1, 3_000, 2**22])
def test_pieces_of_any_size_equal_the_stock_front_end(num_samples, piece_size, encoder, monkeypatch):
    audio = waveform(num_samples)
    monkeypatch.setattr(PaddingInvariantFeatureEncoder, "_max_piece_size", piece_size)
    with torch.no_grad():
        expected = encoder(audio)
        encoder.__class__ = PaddingInvariantFeatureEncoder
        given = encoder(audio)
    torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-5)


def test_pieces_of_a_padded_row_equal_the_path_of_training(encoder):
    encoder.__class__ = PaddingInvariantFeatureEncoder
    audio, num_samples = waveform(8_000), torch.tensor([8_000, 3_333])
    audio[1, 3_333:] = 0
    num_frames = (3_333 - 400) // 320 + 1
    expected = encoder(audio, num_samples)
    assert expected.requires_grad
    with torch.no_grad():
        given = encoder(audio, num_samples)
    torch.testing.assert_close(given[0], expected[0].detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(given[1, :, :num_frames], expected[1, :, :num_frames].detach(), atol=1e-5, rtol=1e-5)


def test_a_constant_row_stays_finite(encoder):
    encoder.__class__ = PaddingInvariantFeatureEncoder
    with torch.no_grad():
        assert encoder(torch.full((1, 4_000), 0.5)).isfinite().all()


@pytest.mark.parametrize("kernel_size", [32, 33, 128])
@pytest.mark.parametrize("num_frames", [1, 31, 499])
def test_the_positional_convolution_by_spectra_equals_the_stock_one(kernel_size, num_frames, monkeypatch):
    torch.manual_seed(0)
    config = WavLMConfig(hidden_size=24, num_conv_pos_embeddings=kernel_size, num_conv_pos_embedding_groups=4)
    layer = WavLMPositionalConvEmbedding(config)
    states = torch.randn(3, num_frames, 24)
    with torch.no_grad():
        expected = layer(states)
        layer.__class__ = SpectralPositionalConvEmbedding
        monkeypatch.setattr(layer.conv, "forward", lambda _: pytest.fail("took the stock path"))
        torch.testing.assert_close(layer(states), expected, atol=2e-6, rtol=0)


def test_the_kept_spectrum_follows_the_weights():
    config = WavLMConfig(hidden_size=8, num_conv_pos_embeddings=32, num_conv_pos_embedding_groups=2)
    layer = WavLMPositionalConvEmbedding(config)
    layer.__class__ = SpectralPositionalConvEmbedding
    states = torch.randn(1, 50, 8)
    with torch.no_grad():
        layer(states)
        for parameter in layer.conv.parameters():
            parameter.mul_(1.5)
    expected = layer(states)  # with gradients: the stock path
    with torch.no_grad():
        torch.testing.assert_close(layer(states), expected.detach(), atol=2e-6, rtol=0)
    layer.load_state_dict({name: 0.5 * tensor for name, tensor in layer.state_dict().items()})
    expected = layer(states)
    with torch.no_grad():
        torch.testing.assert_close(layer(states), expected.detach(), atol=2e-6, rtol=0)
