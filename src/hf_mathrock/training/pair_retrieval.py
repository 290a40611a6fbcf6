# SPDX-License-Identifier: Apache-2.0
"""How well crops find the other crop of their track among those of all tracks."""

from __future__ import annotations

import torch

from hf_mathrock.models.contrastive import other_tracks, similarities

__all__ = ["pair_retrieval"]

_BLOCK = 1024  # rows compared at a time, so that no square of the data set is held


def pair_retrieval(
    first: torch.Tensor,
    other: torch.Tensor,
    temperature: float,
    track_ids: torch.Tensor | None = None,
    symmetric: bool = True,
) -> dict[str, float]:
    """The contrastive loss and the retrieval accuracy of a whole data set.

    Unlike means over batches they do not depend on the batch size; a larger set is a harder one.

    Args:
        first: Projections of first crops, `(num_rows, size)`.
        other: Of second crops of the same tracks.
        temperature: Of the loss.
        track_ids: `(num_rows,)`; rows of one track do not compete. `None`: all differ.
        symmetric: Both directions, averaged; otherwise second crops are sought by first ones.

    Returns:
        `loss` (in nats); `retrieval_top1`, how often the other crop is nearer than any of another track (ties lose);
        `retrieval_chance`, that of guessing; and `num_rows`.
    """
    losses, found, chance = [], [], []
    for query, key in ((first, other), (other, first))[: 1 + symmetric]:
        for start in range(0, len(query), _BLOCK):
            rows = torch.arange(start, min(start + _BLOCK, len(query)))
            cosines = similarities(query[rows], key)
            right = cosines.gather(1, rows[:, None])
            competing = torch.ones_like(cosines, dtype=torch.bool)
            if track_ids is not None:
                competing = other_tracks(track_ids[rows], track_ids)
            competing[torch.arange(len(rows)), rows] = False
            wrong = cosines.masked_fill(~competing, -torch.inf)
            logits = torch.cat([right, wrong], dim=1) / temperature
            losses.append(torch.logsumexp(logits, dim=1) - logits[:, 0])
            found.append((right > wrong.amax(dim=1, keepdim=True)).squeeze(1))
            chance.append(1.0 / (1 + competing.sum(dim=1)))
    return {
        "loss": torch.cat(losses).mean().item(),
        "retrieval_top1": torch.cat(found).float().mean().item(),
        "retrieval_chance": torch.cat(chance).mean().item(),
        "num_rows": float(len(first)),
    }
