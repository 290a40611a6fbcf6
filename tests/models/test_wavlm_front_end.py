# SPDX-License-Identifier: Apache-2.0
"""The convolutions of WavLM in pieces equal the convolutions of the whole."""

import pytest
import torch
from transformers.models.wavlm.modeling_wavlm import WavLMFeatureEncoder

from hf_mathrock.models.modeling_wavlm_sdpa import PaddingInvariantFeatureEncoder


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
