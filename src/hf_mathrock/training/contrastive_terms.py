# SPDX-License-Identifier: Apache-2.0
"""What a batch of views is trained for: telling tracks apart, and terms that shape the space besides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from hf_mathrock.models.contrastive import info_nce, other_tracks, similarities
from hf_mathrock.training.clustering_terms import SphericalKMeans, sliced_width

__all__ = ["ContrastiveObjective", "ConvexCombination", "SogCLR", "hull_weights"]

_NUM_DIRECTIONS = 64


class SogCLR(nn.Module):
    """A contrastive loss whose negatives are weighed as if the batch were the whole data set.

    Of every track it remembers how near others are on average, so that small batches are less biased. Negatives of an
    anchor are all rows of other tracks in both views.

    Its gradient is about the temperature times InfoNCE's (both directions), and its value may be negative.

    Args:
        temperature: Divides the cosines; above 0.
        gamma: Share of the present batch in what is remembered, in (0, 1].

    Attributes:
        log_averages: Logarithm of what is remembered of each track, `(num_tracks,)`; -inf: not met yet. It grows.

    Source: Yuan et al., "Provable stochastic optimization for global contrastive learning: small batch does not harm
    performance" (2022); as for Myna, with the average of both views.
    """

    log_averages: torch.Tensor

    def __init__(self, temperature: float, gamma: float = 0.9) -> None:
        super().__init__()
        self.temperature, self.gamma = temperature, gamma
        self.register_buffer("log_averages", torch.full((0,), -torch.inf, dtype=torch.float64))

    def forward(self, first: torch.Tensor, other: torch.Tensor, track_ids: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar; in training the averages follow.

        Args:
            first: First views of all processes, `(batch, size)`.
            other: Second views of the same tracks.
            track_ids: Number of each track in the data set, from 0, `(batch,)`.

        Raises:
            ValueError: A number is below 0.
        """
        self._make_room(track_ids)
        rows, ids = torch.cat([first, other]), torch.cat([track_ids, track_ids])
        cosines = similarities(rows, rows)
        negative = other_tracks(ids, ids)
        num_negatives = negative.sum(dim=1)
        scores = (cosines.detach() / self.temperature).masked_fill(~negative, -torch.inf)
        nearness = (torch.logsumexp(scores, dim=1) - num_negatives.clamp(min=1).log()).double()
        before = self.log_averages[ids]
        old, new = math.log1p(-self.gamma) if self.gamma < 1 else -math.inf, math.log(self.gamma)
        averages = torch.where(before.isinf(), nearness, torch.logaddexp(before + old, nearness + new))
        # Of a track without negatives nothing is known yet; its scores are all -inf, and so are its weights 0.
        weights = torch.exp(scores - averages.masked_fill(averages.isinf(), 0.0)[:, None].to(scores))
        pushed = (weights * cosines).sum(dim=1) / num_negatives.clamp(min=1)
        half = len(first)
        pulled = torch.cat([cosines.diagonal(half)] * 2)
        if self.training:
            self._remember(ids, averages, num_negatives > 0)
        return ((pushed - pulled) * (num_negatives > 0)).sum() / half

    def _make_room(self, track_ids: torch.Tensor) -> None:
        lowest, highest = (int(value) for value in track_ids.aminmax())
        if lowest < 0:
            raise ValueError(
                f"`track_ids` holds {lowest}; SogCLR remembers tracks by their number in the data set, from 0 on."
            )
        if highest >= len(self.log_averages):
            room = max(highest + 1, 2 * len(self.log_averages)) - len(self.log_averages)
            self.log_averages = F.pad(self.log_averages.to(track_ids.device), (0, room), value=-torch.inf)

    @torch.no_grad()
    def _remember(self, ids: torch.Tensor, averages: torch.Tensor, known: torch.Tensor) -> None:
        """Keep the mean over both views, and over rows of the same track."""
        ids, averages = ids[known], averages[known]
        if not len(ids):
            return
        tracks, places, counts = ids.unique(return_inverse=True, return_counts=True)
        highest = averages.max()
        sums = averages.new_zeros(len(tracks)).index_add(0, places, torch.exp(averages - highest))
        self.log_averages[tracks] = torch.log(sums / counts) + highest


class ConvexCombination(nn.Module):
    """How far one view of a track is from the convex hull, or a learned mixture, of its other views.

    Args:
        num_points: How many other views there are.
        learned: One mixture for all tracks, which is learned; otherwise each track's nearest point of the hull.

    Source: Wu et al., "Transformer autoencoder for K-means efficient clustering" (2024), whose mixture is learned. With
    the nearest point the weights need no gradient: it is that of a squared distance at its minimum.
    """

    def __init__(self, num_points: int, learned: bool = False) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(num_points)) if learned else None

    def forward(self, target: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """The mean squared distance, a scalar.

        Args:
            target: `(batch, size)`.
            points: `(batch, num_points, size)`.
        """
        if self.scores is None:
            weights = hull_weights(points.detach(), target.detach())
        else:
            weights = self.scores.softmax(dim=0).to(points).expand(len(points), -1)
        nearest = (weights.unsqueeze(1) @ points).squeeze(1)
        return (nearest - target).square().sum(dim=1).mean()


@torch.no_grad()
def hull_weights(points: torch.Tensor, targets: torch.Tensor, num_steps: int = 200) -> torch.Tensor:
    """Shares of the points in the point of their convex hull that is nearest to a target.

    Accelerated projected gradients; for the few points of a track's views.

    Args:
        points: `(batch, num_points, size)`.
        targets: `(batch, size)`.
        num_steps: Of the descent.

    Returns:
        `(batch, num_points)`, not negative, of sum 1.
    """
    gram = points @ points.transpose(1, 2)
    aim = (points @ targets.unsqueeze(2)).squeeze(2)
    step = 1.0 / gram.abs().sum(dim=2).amax(dim=1, keepdim=True).clamp(min=1e-12)
    weights = torch.full_like(aim, 1.0 / aim.shape[1])
    ahead, momentum = weights, 1.0
    for _ in range(num_steps):
        slope = (gram @ ahead.unsqueeze(2)).squeeze(2) - aim
        moved = _onto_simplex(ahead - step * slope)
        following = (1.0 + math.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        ahead = moved + (momentum - 1.0) / following * (moved - weights)
        weights, momentum = moved, following
    return weights


def _onto_simplex(rows: torch.Tensor) -> torch.Tensor:
    """The nearest rows that are not negative and sum to 1."""
    ordered = rows.sort(dim=1, descending=True).values
    excess = ordered.cumsum(dim=1) - 1.0
    ranks = torch.arange(1, rows.shape[1] + 1, device=rows.device)
    num_active = (ordered * ranks > excess).sum(dim=1, keepdim=True)
    return (rows - excess.gather(1, num_active - 1) / num_active).clamp(min=0.0)


class ContrastiveObjective(nn.Module):
    """The loss of a batch of views of all processes, and its terms by name.

    Its buffers are what is remembered from batch to batch and belong into a checkpoint; every process holds the same.

    Args:
        temperature: Of the contrastive loss.
        loss: "info_nce" or "sogclr".
        symmetric: Whether second views seek first ones too; "info_nce" only.
        sogclr_gamma: See `SogCLR`.
        kmeans: The term of clusters; `None`: none.
        kmeans_weight: Of that term.
        convex: The term of combinations; `None`: none.
        convex_weight: Of that term.
        width_weight: Of the clusters' sliced width, which is made larger; above 0 only with `kmeans`.
        seed: Of the directions in which width is measured.
    """

    num_batches: torch.Tensor

    def __init__(
        self,
        temperature: float,
        *,
        loss: str = "info_nce",
        symmetric: bool = True,
        sogclr_gamma: float = 0.9,
        kmeans: SphericalKMeans | None = None,
        kmeans_weight: float = 0.0,
        convex: ConvexCombination | None = None,
        convex_weight: float = 0.0,
        width_weight: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.temperature, self.symmetric = temperature, symmetric
        self.sogclr = SogCLR(temperature, sogclr_gamma) if loss == "sogclr" else None
        self.kmeans, self.kmeans_weight = kmeans, kmeans_weight
        self.convex, self.convex_weight = convex, convex_weight
        self.width_weight, self.seed = width_weight, seed
        if width_weight:
            self.register_buffer("num_batches", torch.zeros((), dtype=torch.int64))

    def forward(
        self, views: Sequence[torch.Tensor], track_ids: torch.Tensor, ramp: float = 1.0
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The weighted sum, and every term before its weight.

        Args:
            views: Projections of all processes, each `(batch, size)`: a first and a second crop of every track, and
                possibly both again with other tokens.
            track_ids: `(batch,)`.
            ramp: Factor of all terms but the contrastive one; at 0 they are not computed.
        """
        with torch.autocast(views[0].device.type, enabled=False):
            pairs = list(zip(views[::2], views[1::2], strict=True))
            loss = torch.stack([self._contrast(first, other, track_ids) for first, other in pairs]).mean()
            terms = {"contrastive": loss.detach()}
            if ramp <= 0:
                return loss, terms
            unit = [F.normalize(view.float(), dim=-1) for view in views]
            if self.kmeans is not None:
                rows = torch.cat(unit)
                distance, members = self.kmeans(rows)
                terms["kmeans"] = distance.detach()
                loss = loss + ramp * self.kmeans_weight * distance
                if self.width_weight:
                    width = sliced_width(rows, members, self._directions(rows.shape[1]))
                    terms["width"] = width.detach()
                    loss = loss - ramp * self.width_weight * width
            if self.convex is not None:
                distance = self.convex(unit[0], torch.stack(unit[1:], dim=1))
                terms["convex"] = distance.detach()
                loss = loss + ramp * self.convex_weight * distance
        return loss, terms

    def _contrast(self, first: torch.Tensor, other: torch.Tensor, track_ids: torch.Tensor) -> torch.Tensor:
        if self.sogclr is not None:
            return self.sogclr(first, other, track_ids)
        return info_nce(first, other, self.temperature, symmetric=self.symmetric, track_ids=track_ids)

    def _directions(self, size: int) -> torch.Tensor:
        # Not from the common random numbers: processes draw other patches, but must look along the same directions.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + int(self.num_batches))
        if self.training:
            self.num_batches += 1
        return F.normalize(torch.randn(_NUM_DIRECTIONS, size, generator=generator), dim=1)

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from a `state_dict()`, whose tables may have grown.

        Raises:
            ValueError: It is of an objective with other terms.
        """
        own = self.state_dict()
        if set(state) != set(own):
            raise ValueError(
                f"The checkpoint remembers {_named(state)}, while this run's loss needs {_named(own)}: resume it with "
                "the same `loss` and terms, or begin again from its model."
            )
        for name, tensor in state.items():
            path, _, leaf = name.rpartition(".")
            module = self.get_submodule(path)
            if leaf in module._buffers:
                module._buffers[leaf] = tensor.to(own[name].device)
            else:
                with torch.no_grad():
                    module.get_parameter(leaf).copy_(tensor)


def _named(state: Mapping[str, torch.Tensor]) -> str:
    return ", ".join(sorted(state)) or "nothing"
