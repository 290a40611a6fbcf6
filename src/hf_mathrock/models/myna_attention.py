# SPDX-License-Identifier: Apache-2.0
"""Attention over a whole track whose scores depend on distances, without a matrix of all pairs.

What is added to the scores is an object that can tell it for any block of queries (`block`) or any pair (`element`).
The three ways to attend give the same numbers: in blocks of queries by `scaled_dot_product_attention` (any device, no
compiler), by a compiled `flex_attention`, and all at once (eager), which alone can show the weights.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import torch
import torch.nn.functional as F

_logger = logging.getLogger(__name__)

# Most scores of a block, those of all heads and rows of the batch together: 32 MB in single precision.
BLOCK_ELEMENTS = 1 << 23


class ScoreBias(Protocol):
    """What is added to the scores of pairs of tokens; `block` may have 1 in place of the batch and of the heads."""

    def block(self, first: int, last: int) -> torch.Tensor:
        """Of queries `[first, last)` and all keys, `(batch_size or 1, num_heads or 1, last - first, num_keys)`."""
        ...

    def element(self) -> Callable[..., torch.Tensor]:
        """The same as a function of (score, batch, head, query, key), for `flex_attention`."""
        ...


class DistanceBias:
    """ALiBi over a plane: minus slope times (distance in columns plus `freq_scale` times distance in rows).

    The class token, where there is one, is at no distance from anything.

    Args:
        positions: `(batch_size or 1, num_tokens, 2)`, column and row, without the class token.
        slopes: `(num_heads,)`.
        freq_scale: What one row counts for beside one column; 0 leaves time alone.
        has_cls: Whether a class token stands before the tokens.
        key_mask: `(batch_size, [1 +] num_tokens)`, false where a key is padding; `None`: nowhere.
        dtype: Of the scores.
    """

    def __init__(
        self,
        positions: torch.Tensor,
        slopes: torch.Tensor,
        freq_scale: float,
        has_cls: bool,
        key_mask: torch.Tensor | None,
        dtype: torch.dtype,
    ) -> None:
        # Half precision cannot tell far columns apart.
        self.time = positions[..., 0].float()
        self.row = positions[..., 1].float() * freq_scale
        self.here = torch.ones_like(self.time)
        if has_cls:
            self.time, self.row, self.here = (F.pad(values, (1, 0)) for values in (self.time, self.row, self.here))
        self.has_cls = has_cls
        self.freq_scale = freq_scale
        self.slopes = slopes
        self.key_mask = key_mask
        self.dtype = dtype
        self._whole: torch.Tensor | None = None

    def keep(self) -> None:
        """Compute all pairs now, for every layer to use."""
        self._whole = self.block(0, self.time.shape[1])

    def block(self, first: int, last: int) -> torch.Tensor:
        if self._whole is not None:
            return self._whole[:, :, first:last]
        distance = (self.time[:, first:last, None] - self.time[:, None]).abs_()
        if self.freq_scale:
            distance += (self.row[:, first:last, None] - self.row[:, None]).abs_()
        if self.has_cls:
            distance[..., 0] = 0.0
            if first == 0:
                distance[:, 0] = 0.0
        bias = (distance.unsqueeze(1) * -self.slopes.view(1, -1, 1, 1)).to(self.dtype)
        if self.key_mask is not None:
            bias = bias.masked_fill(~self.key_mask[:, None, None], -math.inf)
        return bias

    def element(self) -> Callable[..., torch.Tensor]:
        time, row, here, slopes, mask = self.time, self.row, self.here, self.slopes, self.key_mask
        single = len(time) == 1

        def biased(score: Any, batch: Any, head: Any, query: Any, key: Any) -> Any:
            at = batch * 0 if single else batch
            distance = (time[at, query] - time[at, key]).abs() + (row[at, query] - row[at, key]).abs()
            score = score - slopes[head] * distance * here[at, query] * here[at, key]
            return score if mask is None else torch.where(mask[batch, key], score, -math.inf)

        return biased


class ClassColumnBias:
    """Where tokens turn and the class token does not: the scores that queries give to it, and padding.

    A turned query times a key that has no place would depend on where the track begins. So the class token's key is
    given as zero, and its score, by queries as they were before the turn, is added here.

    Args:
        class_scores: `(batch_size, num_heads, num_queries)`, scaled; `None`: there is no class token.
        key_mask: `(batch_size, num_keys)`, false where a key is padding; `None`: nowhere.
        num_keys: Keys, the class token among them.
    """

    def __init__(self, class_scores: torch.Tensor | None, key_mask: torch.Tensor | None, num_keys: int) -> None:
        self.class_scores = class_scores
        self.key_mask = key_mask
        self.num_keys = num_keys

    def block(self, first: int, last: int) -> torch.Tensor:
        mask = None if self.key_mask is None else self.key_mask[:, None, None]
        if self.class_scores is None:
            assert mask is not None
            return mask.expand(-1, 1, last - first, -1)
        column = self.class_scores[:, :, first:last, None]
        bias = F.pad(column, (0, self.num_keys - 1))
        return bias if mask is None else bias.masked_fill(~mask, -math.inf)

    def element(self) -> Callable[..., torch.Tensor]:
        scores, mask = self.class_scores, self.key_mask

        def biased(score: Any, batch: Any, head: Any, query: Any, key: Any) -> Any:
            if scores is not None:
                score = score + torch.where(key == 0, scores[batch, head, query], 0.0)
            return score if mask is None else torch.where(mask[batch, key], score, -math.inf)

        return biased


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: ScoreBias | None, implementation: str
) -> torch.Tensor:
    """Attend without holding the scores of all pairs.

    Args:
        query: `(batch_size, num_heads, num_queries, head_size)`.
        key: `(batch_size, num_heads, num_keys, head_size)`.
        value: Likewise.
        bias: What is added to the scores; `None`: nothing.
        implementation: "sdpa": in blocks of queries; "flex_attention": compiled, and in blocks where that cannot be;
            "eager": all at once.

    Returns:
        `(batch_size, num_heads, num_queries, head_size)`.
    """
    if implementation == "eager":
        return attend_eagerly(query, key, value, bias)[0]
    # On the CPU it has no gradient.
    wants_gradient = torch.is_grad_enabled() and query.requires_grad
    flexible = implementation == "flex_attention" and not (wants_gradient and query.device.type == "cpu")
    if flexible and (flex := _compiled_flex_attention()) is not None:
        return flex(query, key, value, score_mod=None if bias is None else bias.element())
    if bias is None:
        return F.scaled_dot_product_attention(query, key, value)
    num_queries = query.shape[2]
    size = queries_in_block(len(query), query.shape[1], num_queries, key.shape[2])
    blocks = [
        F.scaled_dot_product_attention(
            query[:, :, first : first + size], key, value, attn_mask=bias.block(first, min(first + size, num_queries))
        )
        for first in range(0, num_queries, size)
    ]
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=2)


def queries_in_block(batch_size: int, num_heads: int, num_queries: int, num_keys: int) -> int:
    """How many queries make a block: equal blocks of at most `BLOCK_ELEMENTS` scores, but for whole multiples of 16."""
    most = max(1, BLOCK_ELEMENTS // (batch_size * num_heads * num_keys))
    if most >= num_queries:
        return num_queries
    return math.ceil(math.ceil(num_queries / math.ceil(num_queries / most)) / 16) * 16


def attend_eagerly(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: ScoreBias | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend with the scores of all pairs in memory; arguments as for `attend`.

    Returns:
        What is attended, and the weights `(batch_size, num_heads, num_queries, num_keys)`.
    """
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if bias is not None:
        added = bias.block(0, query.shape[2])
        scores = scores.masked_fill(~added, -math.inf) if added.dtype == torch.bool else scores + added
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype)
    return weights @ value, weights


@cache
def _compiled_flex_attention() -> Any:
    """`flex_attention`, compiled; `None` where this machine has no compiler for it."""
    from torch.nn.attention.flex_attention import flex_attention

    try:
        compiled: Any = torch.compile(flex_attention, dynamic=True)
        probe = torch.zeros(1, 1, 16, 16)
        compiled(probe, probe, probe)
    except Exception as error:
        _logger.warning(
            "flex_attention cannot be compiled here (%s); attention is computed in blocks, with the same result.",
            str(error).splitlines()[0] if str(error) else type(error).__name__,
        )
        return None
    return compiled
