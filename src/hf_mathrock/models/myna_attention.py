# SPDX-License-Identifier: Apache-2.0
"""Attention over a whole track whose scores depend on distances, without a matrix of all pairs.

What is added to the scores is an object that can tell it for any block of queries (`block`) or any pair (`element`).
The three ways to attend give the same numbers: in blocks of queries by `scaled_dot_product_attention` (any device, no
compiler), by a compiled `flex_attention`, and all at once (eager), which alone can show the weights.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import torch
import torch.nn.functional as F

_logger = logging.getLogger(__name__)

# Most numbers of a block of what is added to scores: 16 MB in single precision.
BLOCK_ELEMENTS = 1 << 22
# With fewer queries the kernels of the CPU work on smaller tiles.
_FEWEST_QUERIES = 192


class ScoreBias(Protocol):
    """What is added to the scores of pairs of tokens.

    Attributes:
        width: Numbers that a block holds for each pair: rows of the batch times heads, as far as they differ.
    """

    width: int

    def block(self, first: int, last: int) -> torch.Tensor:
        """Of queries `[first, last)` and all keys, `(batch_size or 1, num_heads or 1, last - first, num_keys)`.

        Without gradients it may hold only until the next call.
        """
        ...

    def element(self) -> Callable[..., torch.Tensor]:
        """The same as a function of (score, batch, head, query, key), for `flex_attention`."""
        ...

    def row(self, index: int) -> ScoreBias:
        """That of one row of the batch."""
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
        self.rows = positions[..., 1].float() * freq_scale
        self.here = torch.ones_like(self.time)
        if has_cls:
            self.time, self.rows, self.here = (F.pad(values, (1, 0)) for values in (self.time, self.rows, self.here))
        self.has_cls = has_cls
        self.freq_scale = freq_scale
        self.slopes = slopes
        self.key_mask = key_mask
        self.dtype = dtype
        self.width = max(len(positions), 1 if key_mask is None else len(key_mask)) * len(slopes)
        self._whole: torch.Tensor | None = None
        self._memory: list[torch.Tensor] = []
        self._blocks: dict[tuple[int, int], torch.Tensor] = {}
        self.shares_blocks = False

    def share_blocks(self) -> None:
        """Give every layer the same blocks where there are gradients, which keep each layer's until the way back.

        Not of learned slopes: a layer that is computed again for the way back has to do all it did before.
        """
        self.shares_blocks = not self.slopes.requires_grad

    def keep(self) -> None:
        """Compute all pairs now, for every layer to use."""
        self._whole = self.block(0, self.time.shape[1])

    def block(self, first: int, last: int) -> torch.Tensor:
        if self._whole is not None:
            return self._whole[:, :, first:last]
        if (first, last) in self._blocks:
            return self._blocks[first, last]
        columns, rows, biases = self._reused(last - first)
        distance = torch.sub(self.time[:, first:last, None], self.time[:, None], out=columns).abs_()
        if self.freq_scale:
            distance += torch.sub(self.rows[:, first:last, None], self.rows[:, None], out=rows).abs_()
        if self.has_cls:
            distance[..., 0] = 0.0
            if first == 0:
                distance[:, 0] = 0.0
        bias = torch.mul(distance.unsqueeze(1), -self.slopes.view(1, -1, 1, 1), out=biases).to(self.dtype)
        if self.key_mask is not None:
            bias = bias.masked_fill(~self.key_mask[:, None, None], -math.inf)
        if self.shares_blocks and torch.is_grad_enabled():
            self._blocks[first, last] = bias
        return bias

    def _reused(self, num_queries: int) -> list[Any]:
        """Memory of the block before, in which nothing is left to be kept; gradients would need it."""
        if torch.is_grad_enabled():
            return [None, None, None]
        num_rows, num_keys = self.time.shape
        if not self._memory or self._memory[0].shape[1] < num_queries:
            shape = (num_rows, num_queries, num_keys)
            self._memory = [self.time.new_empty(shape), self.time.new_empty(shape)]
            self._memory.append(self.time.new_empty(num_rows, len(self.slopes), num_queries, num_keys))
        return [memory[..., :num_queries, :] for memory in self._memory]

    def row(self, index: int) -> DistanceBias:
        one = copy.copy(self)
        one._whole, one._memory, one._blocks = None, [], {}  # of all rows
        one.width = len(self.slopes)
        if len(self.time) > 1:
            one.time, one.rows, one.here = (part[index, None] for part in (self.time, self.rows, self.here))
        one.key_mask = None if self.key_mask is None else self.key_mask[index, None]
        return one

    def element(self) -> Callable[..., torch.Tensor]:
        time, row, here, slopes, mask = self.time, self.rows, self.here, self.slopes, self.key_mask
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
        self.width = 1 if class_scores is None else class_scores.shape[0] * class_scores.shape[1]

    def block(self, first: int, last: int) -> torch.Tensor:
        mask = None if self.key_mask is None else self.key_mask[:, None, None]
        if self.class_scores is None:
            assert mask is not None
            return mask.expand(-1, 1, last - first, -1)
        column = self.class_scores[:, :, first:last, None]
        bias = F.pad(column, (0, self.num_keys - 1))
        return bias if mask is None else bias.masked_fill(~mask, -math.inf)

    def row(self, index: int) -> ClassColumnBias:
        scores = None if self.class_scores is None else self.class_scores[index, None]
        return ClassColumnBias(scores, None if self.key_mask is None else self.key_mask[index, None], self.num_keys)

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
    # A single query has no pairs to save, and torch 2.13 cannot compile it on the CPU.
    flexible = implementation == "flex_attention" and query.shape[2] > 1
    if flexible and (attended := _attend_flexibly(query, key, value, bias)) is not None:
        return attended
    if bias is None:
        return F.scaled_dot_product_attention(query, key, value)
    num_queries = query.shape[2]
    size = queries_in_block(bias.width, num_queries, key.shape[2])
    spans = [(first, min(first + size, num_queries)) for first in range(0, num_queries, size)]
    blocks = (
        F.scaled_dot_product_attention(query[:, :, first:last], key, value, attn_mask=bias.block(first, last))
        for first, last in spans
    )
    if len(spans) == 1 or torch.is_grad_enabled():
        return torch.cat(list(blocks), dim=2)
    # Each block to its place at once: many pieces of different sizes would leave holes in memory.
    # As wide as they will be side by side, so that putting them there is no copy.
    attended = query.new_empty(len(query), num_queries, query.shape[1], value.shape[3]).transpose(1, 2)
    for (first, last), block in zip(spans, blocks, strict=True):
        attended[:, :, first:last] = block
    return attended


def queries_in_block(width: int, num_queries: int, num_keys: int) -> int:
    """How many queries make a block: blocks alike, of about `BLOCK_ELEMENTS` numbers, and whole multiples of 16."""
    most = max(_FEWEST_QUERIES, BLOCK_ELEMENTS // (width * num_keys))
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


def _attend_flexibly(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: ScoreBias | None
) -> torch.Tensor | None:
    """Attend by a compiled `flex_attention`; `None` where that cannot be."""
    on_cpu = query.device.type == "cpu"
    if not _flex_works.get(query.device.type, True) or (on_cpu and torch.is_grad_enabled() and query.requires_grad):
        return None  # on the CPU it has no gradient
    try:
        flex = _compiled_flex_attention()
        if not on_cpu:
            return flex(query, key, value, score_mod=None if bias is None else bias.element())
        # torch 2.13 fails on the CPU where batches of several sizes follow each other.
        rows = []
        for row in range(len(query)):
            element = None if bias is None else bias.row(row).element()
            # Contiguous: with many strides the kernel does not compile either.
            one = (states[row, None].contiguous() for states in (query, key, value))
            rows.append(flex(*one, score_mod=element))
        return torch.cat(rows)
    except Exception as error:
        _flex_works[query.device.type] = False
        _logger.warning(
            "flex_attention does not work here (%s: %s); attention is computed in blocks, with the same result.",
            type(error).__name__,
            (str(error).splitlines() or [""])[0],
        )
        return None


# By kind of device; false once it has failed.
_flex_works: dict[str, bool] = {}


@cache
def _compiled_flex_attention() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True, fullgraph=True)
