# SPDX-License-Identifier: Apache-2.0
"""The transformer of Myna: patches to tokens, and layers that know how far apart two tokens are."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_myna import MynaConfig
from .myna_attention import ClassColumnBias, DistanceBias, ScoreBias, attend, attend_eagerly, queries_in_block
from .myna_positions import AlibiSlopes, grid_positions, rope_angles, rotated, sincos_2d

# Between the two linear layers a token is four times as wide; without gradients not all need be so at once.
_TOKENS_AT_A_TIME = 512


class EncodedTrack(NamedTuple):
    """What `MynaEncoder` computes; the class token, where there is one, stands first.

    Attributes:
        states: After the final norm, `(batch_size, [1 +] num_tokens, hidden_size)`.
        hidden_states: If asked for, the input of the first and the output of every layer.
        attentions: If asked for, the weights of every layer, `(batch_size, num_heads, [1 +] num_tokens, [1 +]
            num_tokens)`.
    """

    states: torch.Tensor
    hidden_states: tuple[torch.Tensor, ...] | None
    attentions: tuple[torch.Tensor, ...] | None


def patches_of(spectrogram: torch.Tensor, patch_size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut spectrograms into patches that do not overlap; frames at the end that fill none are left out.

    Args:
        spectrogram: `(batch_size, num_frames, num_mel_bins)`.
        patch_size: Bins and frames.

    Returns:
        `(batch_size, num_tokens, bins * frames)`, row by row from the lowest bins, within a patch likewise; and their
        positions `(num_tokens, 2)`.
    """
    bins, frames = patch_size
    num_rows, num_columns = spectrogram.shape[2] // bins, spectrogram.shape[1] // frames
    image = spectrogram[:, : num_columns * frames].transpose(1, 2)
    patches = image.reshape(len(image), num_rows, bins, num_columns, frames).transpose(2, 3)
    return patches.flatten(3).flatten(1, 2), grid_positions(num_rows, num_columns, spectrogram.device)


class PatchEmbedding(nn.Module):
    """A patch to a token: norm, linear, norm; and what is added for its place."""

    def __init__(self, config: MynaConfig, patch_size: tuple[int, int]) -> None:
        super().__init__()
        bins, frames = patch_size
        self.num_rows = config.num_mel_bins // bins
        self.position_embedding = config.position_embedding
        self.patch_norm = nn.LayerNorm(bins * frames, eps=config.layer_norm_eps)
        self.projection = nn.Linear(bins * frames, config.hidden_size)
        self.token_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.rows: nn.Parameter | None = None
        if config.position_embedding == "alibi_1d":
            self.rows = nn.Parameter(torch.empty(self.num_rows, config.hidden_size))
            self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Begin with rows that are alike."""
        if self.rows is not None:
            init.zeros_(self.rows)

    def forward(self, patches: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Tokens, `(batch_size, num_tokens, hidden_size)`.

        Args:
            patches: `(batch_size, num_tokens, bins * frames)`.
            positions: `(batch_size or 1, num_tokens, 2)`.
        """
        tokens = self.token_norm(self.projection(self.patch_norm(patches.to(self.projection.weight.dtype))))
        if self.rows is not None:
            return tokens + self.rows[positions[..., 1]]
        if self.position_embedding == "sincos_2d":
            return tokens + sincos_2d(positions, tokens.shape[-1]).to(tokens.dtype)
        return tokens


class MynaAttention(nn.Module):
    """Multi-head self-attention without biases, whose tokens turn (RoPE) or grow distant (ALiBi)."""

    def __init__(self, config: MynaConfig) -> None:
        super().__init__()
        self.config = config
        self.num_heads = config.num_attention_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.output = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(
        self,
        states: torch.Tensor,
        bias: ScoreBias | None,
        angles: torch.Tensor | None,
        key_mask: torch.Tensor | None,
        output_attentions: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attended states, `(batch_size, num_states, hidden_size)`, and the weights if asked for."""
        attended, weights = self._attended(states, bias, angles, key_mask, output_attentions)
        return self.output(attended.transpose(1, 2).flatten(2)), weights

    def _attended(
        self,
        states: torch.Tensor,
        bias: ScoreBias | None,
        angles: torch.Tensor | None,
        key_mask: torch.Tensor | None,
        output_attentions: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What the heads attend to, `(batch_size, num_heads, num_states, head_size)`; queries and keys go before it."""
        query, key, value = self.qkv(states).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if angles is None:
            return self._attend(query, key, value, bias, output_attentions)
        if self.config.use_cls_token:
            return self._attend_by_turns(query, key, value, angles, key_mask, output_attentions)
        bias = None if key_mask is None else ClassColumnBias(None, key_mask, key.shape[2])
        return self._attend(rotated(query, angles), rotated(key, angles), value, bias, output_attentions)

    def _attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        bias: ScoreBias | None,
        output_attentions: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if output_attentions:
            return attend_eagerly(query, key, value, bias)
        return attend(query, key, value, bias, self.config._attn_implementation or "sdpa"), None

    def _attend_by_turns(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        angles: torch.Tensor,
        key_mask: torch.Tensor | None,
        output_attentions: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Tokens turn, the class token does not.

        It has no place: it is compared with tokens as they were before the turn, in both directions, so that nothing
        depends on where the track begins.
        """
        mask = None if key_mask is None else ClassColumnBias(None, key_mask, key.shape[2])
        of_class, its_weights = self._attend(query[:, :, :1], key, value, mask, output_attentions)
        query = query[:, :, 1:]
        class_scores = (query @ key[:, :, :1].transpose(-1, -2)).squeeze(-1) * query.shape[-1] ** -0.5
        turned = F.pad(rotated(key[:, :, 1:], angles), (0, 0, 1, 0))
        bias = ClassColumnBias(class_scores, key_mask, key.shape[2])
        of_tokens, weights = self._attend(rotated(query, angles), turned, value, bias, output_attentions)
        if weights is not None and its_weights is not None:
            weights = torch.cat([its_weights, weights], dim=2)
        return torch.cat([of_class, of_tokens], dim=2), weights


class MynaLayer(GradientCheckpointingLayer):
    """Attention and two linear layers, each normalised before and added to what came."""

    def __init__(self, config: MynaConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = MynaAttention(config)
        self.output_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.intermediate = nn.Linear(config.hidden_size, config.intermediate_size)
        self.output = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(
        self,
        states: torch.Tensor,
        bias: ScoreBias | None,
        angles: torch.Tensor | None,
        key_mask: torch.Tensor | None,
        output_attentions: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """States of the same shape, and the attention weights if asked for."""
        attended, weights = self.attention(self.attention_norm(states), bias, angles, key_mask, output_attentions)
        if torch.is_grad_enabled():
            states = states + attended
            return states + self._feed_forward(states), weights
        states = attended.add_(states)
        for part in states.split(_TOKENS_AT_A_TIME, dim=1):
            part += self._feed_forward(part)
        return states, weights

    def _feed_forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.output(F.gelu(self.intermediate(self.output_norm(states))))


class MynaEncoder(nn.Module):
    """Tokens of one patch size to states; a hybrid uses it once for each size."""

    def __init__(self, config: MynaConfig) -> None:
        super().__init__()
        self.config = config
        self.class_token = nn.Parameter(torch.empty(config.hidden_size)) if config.use_cls_token else None
        self.slopes: AlibiSlopes | None = None
        if config.position_embedding.startswith("alibi"):
            self.slopes = AlibiSlopes(config.num_attention_heads, config.slopes)
        self.layers = nn.ModuleList(MynaLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the class token."""
        if self.class_token is not None:
            init.normal_(self.class_token, std=0.02)

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> EncodedTrack:
        """Encode tokens of any number and in any order.

        Args:
            tokens: `(batch_size, num_tokens, hidden_size)`.
            positions: `(batch_size or 1, num_tokens, 2)`.
            mask: `(batch_size, num_tokens)`, false where a token is padding; `None`: nowhere.
            output_hidden_states: Also return the states between the layers.
            output_attentions: Also return the attention weights.
        """
        states = tokens
        if self.class_token is not None:
            states = torch.cat([self.class_token.expand(len(tokens), 1, -1), tokens], dim=1)
            mask = None if mask is None else F.pad(mask, (1, 0), value=True)
        bias, angles = self._places(positions, mask, states.dtype, states.requires_grad)
        hidden_states, attentions = [states] if output_hidden_states else [], []
        for layer in self.layers:
            states, weights = layer(states, bias, angles, mask, output_attentions)
            if output_hidden_states:
                hidden_states.append(states)
            attentions.append(weights)
        return EncodedTrack(
            self.norm(states),
            tuple(hidden_states) if output_hidden_states else None,
            tuple(attentions) if output_attentions else None,
        )

    def _places(
        self, positions: torch.Tensor, mask: torch.Tensor | None, dtype: torch.dtype, needs_gradients: bool
    ) -> tuple[ScoreBias | None, torch.Tensor | None]:
        config = self.config
        if self.slopes is not None:
            freq_scale = config.freq_scale if config.position_embedding == "alibi_2d" else 0.0
            slopes = self.slopes(positions.device)
            bias = DistanceBias(positions, slopes, freq_scale, self.class_token is not None, mask, dtype)
            num_states = bias.time.shape[1]
            if queries_in_block(bias.width, num_states, num_states) == num_states:
                bias.keep()
            elif needs_gradients:
                bias.share_blocks()
            return bias, None
        if config.position_embedding == "rope_2d":
            head_size = config.hidden_size // config.num_attention_heads
            return None, rope_angles(positions, head_size, config.rope_base)
        return None if mask is None else ClassColumnBias(None, mask, mask.shape[1]), None
