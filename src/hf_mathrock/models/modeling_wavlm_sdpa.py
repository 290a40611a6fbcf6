# SPDX-License-Identifier: Apache-2.0
"""transformers' WavLM with three differences.

Attention is fused; a padded clip equals the same clip unpadded; and on the CPU the convolutions of the front end work
on pieces that stay in the cache, and the long one that tells positions goes through the spectrum.

Parameters and their names are those of `transformers.WavLMModel`, so its checkpoints load unchanged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.wavlm.configuration_wavlm import WavLMConfig
from transformers.models.wavlm.modeling_wavlm import (
    WavLMAttention,
    WavLMFeatureEncoder,
    WavLMGroupNormConvLayer,
    WavLMModel,
    WavLMPositionalConvEmbedding,
)
from transformers.utils import ModelOutput
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs


@dataclass
class WavLMFrames(ModelOutput):
    """Frames of a waveform, 50 a second.

    Attributes:
        last_hidden_state: `(batch_size, num_frames, hidden_size)`.
        frame_mask: `(batch_size, num_frames)`, true for frames that hold sound; `None`: all do.
        hidden_states: With `output_hidden_states=True`, the input to the first and the output of every layer.
    """

    last_hidden_state: torch.Tensor | None = None
    frame_mask: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


class SdpaWavLMAttention(WavLMAttention):
    """WavLM's self-attention through `scaled_dot_product_attention`.

    The gated relative position bias enters as the additive mask. The stock layer projects to `(2, 4)` numbers per
    head and sums the fours; the sum is linear, so it is folded into the projection's weights. The position bias
    is kept once, `(1, num_heads, num_frames, num_frames)`, not per batch row.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_bias: torch.Tensor | None = None,
        index: int = 0,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """Attend over all valid frames.

        Args:
            hidden_states: `(batch_size, num_frames, hidden_size)`.
            attention_mask: `(batch_size, num_frames)` booleans, true for valid frames; `None`: all are valid.
            position_bias: What the first layer returned; `None` in the first layer.
            index: Number of the layer; unused, part of the caller's signature.

        Returns:
            The attended states, `None` in the place of the attention weights (they are never materialised), and the
            position bias for the next layer.
        """
        batch_size, num_frames, _ = hidden_states.shape
        if position_bias is None:
            position_bias = self.compute_bias(num_frames, num_frames).unsqueeze(0)

        by_head = hidden_states.view(batch_size, num_frames, self.num_heads, self.head_dim).transpose(1, 2)
        weight = self.gru_rel_pos_linear.weight.view(2, 4, self.head_dim).sum(1)
        bias = self.gru_rel_pos_linear.bias.view(2, 4).sum(1)
        gate_a, gate_b = torch.sigmoid(F.linear(by_head, weight, bias)).chunk(2, dim=-1)
        gate = gate_a * (gate_b * self.gru_rel_pos_const - 1.0) + 2.0
        mask = gate * position_bias
        if attention_mask is not None:
            mask = mask.masked_fill(~attention_mask[:, None, None, :], torch.finfo(mask.dtype).min)

        query, key, value = (
            projection(hidden_states).view(batch_size, num_frames, self.num_heads, self.head_dim).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0, scale=self.scaling
        )
        attended = attended.transpose(1, 2).reshape(batch_size, num_frames, self.embed_dim)
        return self.out_proj(attended), None, position_bias


def _masked_group_norm(hidden_states: torch.Tensor, norm: nn.GroupNorm, num_valid: torch.Tensor) -> torch.Tensor:
    """Normalise each channel over its valid frames only; `hidden_states` is `(batch_size, channels, num_frames)`."""
    frames = torch.arange(hidden_states.shape[-1], device=hidden_states.device)
    valid = (frames < num_valid[:, None]).unsqueeze(1)
    count = num_valid[:, None, None].clamp(min=1)
    mean = (hidden_states * valid).sum(-1, keepdim=True) / count
    variance = ((hidden_states - mean).square() * valid).sum(-1, keepdim=True) / count
    normalised = (hidden_states - mean) * torch.rsqrt(variance + norm.eps)
    return normalised * norm.weight[:, None] + norm.bias[:, None]


def _normalised_convolution(
    layer: WavLMGroupNormConvLayer, waveform: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight `(channels, 1, kernel_size)` and bias `(channels,)` that convolve and normalise in one.

    A channel of the convolution is w'x over patches x of the waveform, so its mean is w'm and its variance w'Cw with
    the patches' mean m and covariance C; dividing and shifting by them is another convolution. Its bias would cancel.

    Args:
        layer: Of one group per channel.
        waveform: `(num_samples,)`, without padding.
    """
    convolution, norm = layer.conv, layer.layer_norm
    patches = waveform.double().unfold(-1, convolution.kernel_size[0], convolution.stride[0])
    mean = patches.mean(dim=0)
    centred = patches - mean
    covariance = centred.T @ centred / len(patches)
    weight = convolution.weight[:, 0].double()
    scale = norm.weight * torch.rsqrt(((weight @ covariance) * weight).sum(-1) + norm.eps)
    bias = norm.bias - scale * (weight @ mean)
    return (scale[:, None, None] * weight[:, None]).to(waveform.dtype), bias.to(waveform.dtype)


class PaddingInvariantFeatureEncoder(WavLMFeatureEncoder):
    """WavLM's convolutional front end, told how many samples of each row are sound.

    Its first layer normalises every channel over the whole clip (one group per channel), so zeros at the end would
    change every frame. Later layers look at a few neighbours only and need no care.
    """

    # What the first layer may make of one piece, in numbers: 16 MB.
    _max_piece_size = 2**22

    def forward(self, input_values: torch.Tensor, num_samples: torch.Tensor | None = None) -> torch.Tensor:
        """Features of a waveform.

        Args:
            input_values: `(batch_size, num_samples)`.
            num_samples: `(batch_size,)` valid samples of each row; `None`: no row is padded.

        Returns:
            `(batch_size, channels, num_frames)`.
        """
        first = self.conv_layers[0]
        if not isinstance(first, WavLMGroupNormConvLayer):
            return super().forward(input_values)
        if input_values.device.type == "cpu" and not torch.is_grad_enabled():
            lengths = [input_values.shape[1]] * len(input_values) if num_samples is None else num_samples.tolist()
            return torch.stack(
                [self._in_pieces(row, length) for row, length in zip(input_values, lengths, strict=True)]
            )
        if num_samples is None:
            return super().forward(input_values)
        hidden_states = first.conv(input_values[:, None])
        num_valid = torch.div(num_samples - first.conv.kernel_size[0], first.conv.stride[0], rounding_mode="floor") + 1
        hidden_states = first.activation(_masked_group_norm(hidden_states, first.layer_norm, num_valid))
        for layer in self.conv_layers[1:]:
            hidden_states = layer(hidden_states)
        return hidden_states

    def _in_pieces(self, waveform: torch.Tensor, num_samples: int) -> torch.Tensor:
        """Features `(channels, num_frames)` of one row, whose first `num_samples` are sound, a few seconds at a time.

        The first layer makes 64 MB of 10 s in the base model; writing them to memory and reading them again, step by
        step, took three tenths of the front end's time on one core.
        """
        first, *others = self.conv_layers
        weight, bias = _normalised_convolution(first, waveform[:num_samples])
        stride, field = 1, 1  # samples between frames, and samples a frame sees
        for layer in self.conv_layers:
            field += (layer.conv.kernel_size[0] - 1) * stride
            stride *= layer.conv.stride[0]
        num_frames = max(1, (len(waveform) - field) // stride + 1)
        frames_per_piece = max(1, self._max_piece_size // (first.conv.out_channels * stride // first.conv.stride[0]))
        # Of equal length, lest the last is a few frames and costs the set-up of a whole one.
        frames_per_piece = math.ceil(num_frames / math.ceil(num_frames / frames_per_piece))
        pieces = []
        for start in range(0, num_frames, frames_per_piece):
            end = min(start + frames_per_piece, num_frames)
            piece = waveform[None, None, start * stride : (end - 1) * stride + field]
            piece = first.activation(F.conv1d(piece, weight, bias, first.conv.stride))
            for layer in others:
                piece = layer(piece)
            pieces.append(piece[0])
        return torch.cat(pieces, dim=-1)


def _transform_length(num_samples: int) -> int:
    """Shortest transform of a fast length, 2^n times 1, 3 or 5, that holds `num_samples`."""
    return min(factor << max(0, math.ceil(math.log2(num_samples / factor))) for factor in (1, 3, 5))


class SpectralPositionalConvEmbedding(WavLMPositionalConvEmbedding):
    """WavLM's positional convolution, on the CPU without gradients as a product of spectra.

    Its kernel spans 128 frames in the base model: a 25th of the multiplications remain. The kernel's spectrum is kept
    until its weights change or the mode is switched.
    """

    # Below this length the convolution itself is as fast.
    _min_kernel_size = 32
    _kept: tuple[tuple[int, ...], torch.Tensor] | None = None

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Position embeddings `(batch_size, num_frames, hidden_size)` of states of the same shape."""
        if (
            hidden_states.device.type != "cpu"
            or hidden_states.dtype != torch.float32
            or torch.is_grad_enabled()
            or self.conv.kernel_size[0] < self._min_kernel_size
            or any(parameter.is_inference() for parameter in self.conv.parameters())  # these do not count changes
        ):
            return super().forward(hidden_states)
        num_frames = hidden_states.shape[1]
        length = _transform_length(num_frames + self.conv.kernel_size[0] - 1)
        spectrum = torch.fft.rfft(hidden_states, n=length, dim=1).unflatten(-1, (self.conv.groups, -1))
        product = self._kernel_spectrum(length) @ spectrum.permute(2, 1, 3, 0)
        # (groups, frequencies, channels, batch_size), back to (batch_size, frequencies, all channels)
        full = torch.fft.irfft(product.permute(3, 1, 0, 2).flatten(-2), n=length, dim=1)
        first = self.conv.kernel_size[0] - 1 - self.conv.padding[0]
        return self.activation(full[:, first : first + num_frames] + self.conv.bias)

    def _kernel_spectrum(self, length: int) -> torch.Tensor:
        """`(groups, frequencies, channels out, channels in)`, of the kernel turned round, since a layer correlates."""
        state = (length, *(part for p in self.conv.parameters() for part in (p.data_ptr(), p._version)))
        kept = self._kept  # read once: another thread may exchange it
        if kept is None or kept[0] != state:
            weight = self.conv.weight.unflatten(0, (self.conv.groups, -1)).flip(-1)
            kept = self._kept = state, torch.fft.rfft(weight, n=length).permute(0, 3, 1, 2).contiguous()
        return kept[1]

    def train(self, mode: bool = True) -> SpectralPositionalConvEmbedding:
        """Switch modes; also forgets the spectrum, since changes through `.data` are not counted."""
        self._kept = None
        return super().train(mode)


class SdpaWavLMModel(WavLMModel):
    """`WavLMModel` with fused attention whose result does not depend on padding."""

    def __init__(self, config: WavLMConfig) -> None:
        super().__init__(config)
        # Same parameters under the same names: only the forward pass differs, so the class is exchanged in place.
        self.feature_extractor.__class__ = PaddingInvariantFeatureEncoder
        self.encoder.pos_conv_embed.__class__ = SpectralPositionalConvEmbedding
        for layer in self.encoder.layers:
            layer.attention.__class__ = SdpaWavLMAttention

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self, input_values: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> WavLMFrames:
        """Frames of a waveform.

        Args:
            input_values: `(batch_size, num_samples)` at 16 kHz.
            attention_mask: `(batch_size, num_samples)`, ones then zeros; `None`: no row is padded.
            **kwargs: `output_hidden_states=True` also returns the encoder's states.

        Returns:
            The frames, `num_frames = (num_samples - 400) // 320 + 1` with the default strides.
        """
        num_samples = None
        if attention_mask is not None and not bool(attention_mask.all()):
            num_samples = attention_mask.sum(-1)
        features = self.feature_extractor(input_values, num_samples).transpose(1, 2)
        frame_mask = None
        if num_samples is not None:
            # A clip shorter than the first frame counts as one frame, zeros included.
            num_frames = self._get_feat_extract_output_lengths(num_samples, add_adapter=False).clamp(min=1)
            frame_mask = torch.arange(features.shape[1], device=features.device) < num_frames[:, None]
        hidden_states, _ = self.feature_projection(features)
        hidden_states = self._mask_hidden_states(hidden_states, attention_mask=frame_mask)
        encoded = self.encoder(hidden_states, attention_mask=frame_mask, **kwargs)
        return WavLMFrames(last_hidden_state=encoded.last_hidden_state, frame_mask=frame_mask)
