# SPDX-License-Identifier: Apache-2.0
"""InfoNCE: of two views of every track, each must find its other half among the whole batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F

__all__ = ["info_nce", "other_tracks", "similarities"]


def info_nce(
    projections: torch.Tensor,
    other: torch.Tensor,
    temperature: float | torch.Tensor,
    symmetric: bool = True,
    track_ids: torch.Tensor | None = None,
    other_track_ids: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean cross-entropy of finding row i of `other` by row i of `projections`, among all rows.

    Rows need not be normalised. A row of the same track is no negative: a track that is twice in the batch would be
    pushed away from itself. Without negatives, as in a batch of one, the loss is 0 and so is its gradient.

    Args:
        projections: First views, of shape (batch, size).
        other: Second views of the same tracks, in the same order and of the same shape.
        temperature: Divides the cosines; above 0.
        symmetric: Mean of both directions; otherwise only the search for second views by first ones.
        track_ids: Which track each row is of, integers of shape (batch,); `None`: every row is another track.
        other_track_ids: The same of `other`; `None`: `track_ids`.

    Returns:
        The loss, a scalar of float32 (float64 for float64 projections) under autocast too.

    Raises:
        ValueError: The shapes do not fit, or the temperature is not above 0.

    Source: van den Oord et al., "Representation learning with contrastive predictive coding" (2018); both directions:
        Zhang et al., "Contrastive learning of medical visual representations from paired images and text" (2020).
    """
    _check_shapes(projections, other, track_ids, other_track_ids)
    if not isinstance(temperature, torch.Tensor) and not temperature > 0:
        raise ValueError(f"`temperature` is {temperature}; it divides cosines and must be above 0, such as 0.1.")
    with torch.autocast(projections.device.type, enabled=False):
        logits = similarities(projections, other) / temperature
        if track_ids is not None or other_track_ids is not None:
            ids = other_track_ids if track_ids is None else track_ids
            assert ids is not None
            allowed = other_tracks(ids, ids if other_track_ids is None else other_track_ids)
            allowed.fill_diagonal_(True)  # what is sought
            logits = logits.masked_fill(~allowed, -torch.inf)
        target = torch.arange(len(logits), device=logits.device)
        loss = F.cross_entropy(logits, target)
        if symmetric:
            loss = (loss + F.cross_entropy(logits.T, target)) / 2
    return loss


def similarities(projections: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Cosines of all rows with all rows, (n, size) and (m, size) -> (n, m), in at least float32."""
    return _unit_rows(projections) @ _unit_rows(other).T


def other_tracks(track_ids: torch.Tensor, other_track_ids: torch.Tensor) -> torch.Tensor:
    """Which pairs are of two different tracks, (n,) and (m,) -> bool (n, m)."""
    return track_ids[:, None] != other_track_ids[None, :].to(track_ids.device)


def _unit_rows(rows: torch.Tensor) -> torch.Tensor:
    return F.normalize(rows if rows.dtype == torch.float64 else rows.float(), dim=-1)


def _check_shapes(
    projections: torch.Tensor,
    other: torch.Tensor,
    track_ids: torch.Tensor | None,
    other_track_ids: torch.Tensor | None,
) -> None:
    if projections.ndim != 2 or projections.shape != other.shape or not len(projections):
        raise ValueError(
            f"The views have shapes {tuple(projections.shape)} and {tuple(other.shape)}; allowed: (batch, size) twice, "
            "with at least one row, where rows i are two views of one track."
        )
    for name, ids in (("track_ids", track_ids), ("other_track_ids", other_track_ids)):
        if ids is not None and ids.shape != projections.shape[:1]:
            raise ValueError(f"`{name}` has shape {tuple(ids.shape)}; allowed: ({len(projections)},), one per row.")
