# SPDX-License-Identifier: Apache-2.0
"""The transformer encoder of the taggers: tokens over time and one more, the class token, which hears them all."""

from __future__ import annotations

from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer


class EncodedTokens(NamedTuple):
    """What `TaggerEncoder` computes; the class token stands first everywhere.

    Attributes:
        states: After the last layer, `(batch_size, 1 + num_tokens, hidden_size)`.
        hidden_states: If asked for, the input of the first and the output of every layer, of the same shape.
        attentions: If asked for, the weights of every layer, `(batch_size, num_heads, 1 + num_tokens, 1 + num_tokens)`,
            queries before keys; before dropout.
    """

    states: torch.Tensor
    hidden_states: tuple[torch.Tensor, ...] | None
    attentions: tuple[torch.Tensor, ...] | None


class PinnedTokens(NamedTuple):
    """What `TaggerEncoder.pinned` computes.

    Attributes:
        states: `(batch_size, 1 + num_tokens, hidden_size)`: at t the class token's state after the last layer, had all
            its heads and queries looked at token t only; 0 is the class token itself.
        undisturbed: Its state as the layer is, `(batch_size, hidden_size)`.
        attention: If asked for, the last layer's weights, as in `EncodedTokens`.
    """

    states: torch.Tensor
    undisturbed: torch.Tensor
    attention: torch.Tensor | None


class TaggerSelfAttention(nn.Module):
    """Multi-head self-attention; queries, keys and values come from one matrix."""

    def __init__(self, hidden_size: int, num_heads: int, qkv_bias: bool, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size, bias=qkv_bias)
        self.output = nn.Linear(hidden_size, hidden_size)

    def forward(self, states: torch.Tensor, output_attentions: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend over all tokens.

        Args:
            states: `(batch_size, num_tokens, hidden_size)`.
            output_attentions: Also return the weights, for which they are computed one by one.

        Returns:
            The attended states, and the weights or `None`.
        """
        query, key, value = self.qkv(states).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        dropout, weights = self.dropout if self.training else 0.0, None
        if output_attentions:
            weights = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
            weights = weights.softmax(dim=-1, dtype=torch.float32).to(value.dtype)
            attended = F.dropout(weights, dropout) @ value
        else:
            attended = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        return self.output(attended.transpose(1, 2).flatten(2)), weights

    def pinned(self, states: torch.Tensor) -> torch.Tensor:
        """What every query attends to when all heads look at one token only, for each token.

        With all the weight on token t the heads' values stand side by side as the value matrix wrote them, so that the
        result is `output(value(states[t]))`.
        """
        hidden_size = self.output.in_features
        bias = None if self.qkv.bias is None else self.qkv.bias[-hidden_size:]
        return self.output(F.linear(states, self.qkv.weight[-hidden_size:], bias))


class TaggerEncoderLayer(GradientCheckpointingLayer):
    """Attention and two linear layers, each with a residual, normalised before (pre) or after it (post)."""

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        intermediate_size: int,
        norm: Literal["pre", "post"],
        qkv_bias: bool,
        attention_dropout: float,
        hidden_dropout: float,
        activation_dropout: float,
        layer_norm_eps: float,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.attention = TaggerSelfAttention(hidden_size, num_heads, qkv_bias, attention_dropout)
        self.attention_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.intermediate = nn.Linear(hidden_size, intermediate_size)
        self.output = nn.Linear(intermediate_size, hidden_size)
        self.output_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.hidden_dropout = nn.Dropout(hidden_dropout)
        self.activation_dropout = nn.Dropout(activation_dropout)

    def forward(self, states: torch.Tensor, output_attentions: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """States of the same shape, `(batch_size, num_tokens, hidden_size)`, and the attention weights or `None`."""
        attended, weights = self.attention(self._attention_input(states), output_attentions)
        return self._after_attention(states, attended), weights

    def pinned(self, states: torch.Tensor) -> torch.Tensor:
        """The first token's output when attention looks at one token only, for each token, in one pass.

        Args:
            states: Input of this layer, `(batch_size, num_tokens, hidden_size)`.

        Returns:
            `(batch_size, num_tokens, hidden_size)`: at t, the class token's output with all attention on token t.
        """
        attended = self.attention.pinned(self._attention_input(states))
        return self._after_attention(states[:, :1].expand_as(states), attended)

    def _attention_input(self, states: torch.Tensor) -> torch.Tensor:
        return self.attention_norm(states) if self.norm == "pre" else states

    def _after_attention(self, states: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        states = states + self.hidden_dropout(attended)
        if self.norm == "pre":
            return states + self._feed_forward(self.output_norm(states))
        states = self.attention_norm(states)
        return self.output_norm(states + self._feed_forward(states))

    def _feed_forward(self, states: torch.Tensor) -> torch.Tensor:
        activated = self.activation_dropout(F.gelu(self.intermediate(states)))
        return self.hidden_dropout(self.output(activated))


class TaggerEncoder(nn.Module):
    """A class token, positions if wanted, and transformer layers.

    Attention is fused (`scaled_dot_product_attention`) unless its weights are asked for. A model's `_init_weights` must
    call `reset_parameters` of this module: the class token and the positions belong to none of torch's.

    Args:
        hidden_size: Width of a token, a multiple of `num_heads`.
        num_layers: At least 1.
        num_heads: Heads of attention, each `hidden_size / num_heads` wide.
        intermediate_size: Width between the two linear layers.
        norm: `"pre"`: each residual branch normalises its input, and nothing the result. `"post"`: as in BERT, each sum
            is normalised.
        qkv_bias: Whether queries, keys and values have a bias.
        attention_dropout: Of the attention weights.
        hidden_dropout: At the end of each residual branch.
        activation_dropout: After the activation.
        token_dropout: Of the tokens before the first layer.
        layer_norm_eps: Of every layer norm.
        num_positions: Learned positions, of as many tokens (and one for the class token); `None`: order is not told.

    Raises:
        ValueError: A size or `norm` is not allowed.
    """

    def __init__(
        self,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        intermediate_size: int,
        norm: Literal["pre", "post"] = "pre",
        qkv_bias: bool = True,
        attention_dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        token_dropout: float = 0.0,
        layer_norm_eps: float = 1e-5,
        num_positions: int | None = None,
    ) -> None:
        super().__init__()
        if norm not in ("pre", "post"):
            raise ValueError(f"The encoder's `norm` is {norm!r}; allowed: 'pre', 'post'.")
        if num_heads < 1 or hidden_size < 1 or hidden_size % num_heads:
            raise ValueError(
                f"The encoder is {hidden_size} wide and has {num_heads} heads: the width must be a multiple of them."
            )
        if num_layers < 1 or intermediate_size < 1:
            raise ValueError(
                f"The encoder has {num_layers} layers with {intermediate_size} units between; both must be at least 1."
            )
        self.class_token = nn.Parameter(torch.empty(hidden_size))
        self.positions = None if num_positions is None else nn.Parameter(torch.empty(1 + num_positions, hidden_size))
        self.token_dropout = nn.Dropout(token_dropout)
        self.layers = nn.ModuleList(
            TaggerEncoderLayer(
                hidden_size,
                num_heads,
                intermediate_size,
                norm=norm,
                qkv_bias=qkv_bias,
                attention_dropout=attention_dropout,
                hidden_dropout=hidden_dropout,
                activation_dropout=activation_dropout,
                layer_norm_eps=layer_norm_eps,
            )
            for _ in range(num_layers)
        )
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the class token and the positions, standard normal; those loaded from a checkpoint are left alone."""
        init.normal_(self.class_token)
        if self.positions is not None:
            init.normal_(self.positions)

    def forward(
        self, tokens: torch.Tensor, output_hidden_states: bool = False, output_attentions: bool = False
    ) -> EncodedTokens:
        """Encode a sequence.

        Args:
            tokens: `(batch_size, num_tokens, hidden_size)`, without the class token, without padding.
            output_hidden_states: Also return the states between the layers.
            output_attentions: Also return the attention weights.

        Returns:
            See `EncodedTokens`.

        Raises:
            ValueError: There are more tokens than positions.
        """
        states = self.embed(tokens)
        hidden_states, attentions = [states], []
        for layer in self.layers:
            states, weights = layer(states, output_attentions)
            if output_hidden_states:
                hidden_states.append(states)
            attentions.append(weights)
        return EncodedTokens(
            states,
            tuple(hidden_states) if output_hidden_states else None,
            tuple(attentions) if output_attentions else None,
        )

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """The input of the first layer, `(batch_size, 1 + num_tokens, hidden_size)`; arguments as for `forward`."""
        states = torch.cat([self.class_token.expand(len(tokens), 1, -1), tokens], dim=1)
        if self.positions is not None:
            if states.shape[1] > len(self.positions):
                raise ValueError(
                    f"{tokens.shape[1]} tokens came, and there are positions for {len(self.positions) - 1}: cut the "
                    "audio into shorter windows, or train a model with more positions."
                )
            states = states + self.positions[: states.shape[1]]
        return self.token_dropout(states)

    def pinned(self, tokens: torch.Tensor, output_attentions: bool = False) -> PinnedTokens:
        """The class token had the last layer listened to one token only, for each token, in one pass.

        Args:
            tokens: As for `forward`.
            output_attentions: Also return the weights of the last layer.

        Returns:
            See `PinnedTokens`.
        """
        states = self.embed(tokens)
        for layer in self.layers[:-1]:
            states, _ = layer(states, False)
        last = cast(TaggerEncoderLayer, self.layers[-1])
        undisturbed, weights = last(states, output_attentions)
        return PinnedTokens(last.pinned(states), undisturbed[:, 0], weights)
