# SPDX-License-Identifier: Apache-2.0
"""Terms that draw embeddings into clusters, and keep the clusters wide."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["SphericalKMeans", "balanced_assignments", "sliced_width"]

_RESEED_BELOW = 0.1  # of an equal share of the members
_ALIKE = 0.999  # cosine above which a row is no new centroid beside another
_SHARPNESS = 0.05  # temperature of balanced assignments, as SwAV has it


class SphericalKMeans(nn.Module):
    """How far unit vectors are from the nearest of K directions, which follow them.

    Directions are the means of their members, with a memory that fades; no gradient moves them. One that loses its
    members begins again at the row that fits worst. The first batches found the clusters likewise, so that fewer rows
    than clusters will do.

    Args:
        num_clusters: K.
        temperature: Of a soft minimum over the directions; `None`: the nearest one alone counts.
        decay: What is left of the memory after a batch, in [0, 1).
        sinkhorn_iterations: Of balancing: members are assigned so that clusters get equal shares; 0: to the nearest.

    Attributes:
        sums: Fading sums of members, `(num_clusters, size)`; empty before the first batch.
        counts: Fading numbers of members, `(num_clusters,)`; 0: not begun.
    """

    sums: torch.Tensor
    counts: torch.Tensor

    def __init__(
        self,
        num_clusters: int,
        temperature: float | None = None,
        decay: float = 0.99,
        sinkhorn_iterations: int = 0,
    ) -> None:
        super().__init__()
        self.temperature, self.decay, self.sinkhorn_iterations = temperature, decay, sinkhorn_iterations
        self.register_buffer("sums", torch.zeros(num_clusters, 0))
        self.register_buffer("counts", torch.zeros(num_clusters))

    @property
    def centroids(self) -> torch.Tensor:
        """Unit vectors, `(num_clusters, size)`; 0 where a cluster has not begun."""
        return F.normalize(self.sums, dim=-1)

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The term, and which cluster each row belongs to; in training the clusters follow afterwards.

        Args:
            rows: Unit vectors of all processes, `(num_rows, size)`.

        Returns:
            A scalar: the mean of `1 - cosine`, and of its soft version `-t log Σ exp(cosine / t)`; and `(num_rows,)`.
        """
        rows = rows.float()
        if not self.sums.shape[1]:
            self.sums = rows.new_zeros(len(self.counts), rows.shape[1])
            self._begin_anew(rows.detach())
        begun = torch.nonzero(self.counts > 0).flatten()
        cosines = rows @ self.centroids[begun].T
        if self.sinkhorn_iterations:
            shares = balanced_assignments(cosines.detach(), self.sinkhorn_iterations)
            loss = (shares * (1 - cosines)).sum(dim=1).mean()
        else:
            shares = F.one_hot(cosines.argmax(dim=1), len(begun)).to(rows)
            loss = 1 - cosines.amax(dim=1).mean()
        if self.temperature is not None and not self.sinkhorn_iterations:
            loss = -self.temperature * torch.logsumexp(cosines / self.temperature, dim=1).mean()
        members = begun[shares.argmax(dim=1)]
        if self.training:
            self._follow(rows.detach(), shares, begun)
        return loss, members

    @torch.no_grad()
    def _follow(self, rows: torch.Tensor, shares: torch.Tensor, begun: torch.Tensor) -> None:
        self.sums *= self.decay
        self.counts *= self.decay
        # By a product, whose result does not depend on the order of the rows' arrival: processes must not drift apart.
        self.sums[begun] += (1 - self.decay) * shares.T @ rows
        self.counts[begun] += (1 - self.decay) * shares.sum(dim=0)
        self._begin_anew(rows)

    @torch.no_grad()
    def _begin_anew(self, rows: torch.Tensor) -> None:
        """Put clusters without members where rows fit worst, one after the other."""
        share = self.counts.sum() / len(self.counts)
        lost = torch.nonzero(self.counts <= _RESEED_BELOW * share).flatten()
        if not len(lost):
            return
        self.sums[lost], self.counts[lost] = 0.0, 0.0
        best = (rows @ self.centroids.T).masked_fill(self.counts == 0, -1.0).amax(dim=1)
        for cluster in lost[: len(rows)].tolist():
            worst = best.argmin()
            if best[worst] > _ALIKE:
                break
            weight = share if share > 0 else torch.ones_like(share)
            self.sums[cluster], self.counts[cluster] = rows[worst] * weight, weight
            best = torch.maximum(best, rows @ rows[worst])


def balanced_assignments(cosines: torch.Tensor, num_iterations: int = 3) -> torch.Tensor:
    """Soft assignments under which every cluster has about the same number of members.

    Args:
        cosines: `(num_rows, num_clusters)`.
        num_iterations: Of Sinkhorn and Knopp's alternation.

    Returns:
        `(num_rows, num_clusters)`; each row sums to 1.

    Source: Caron et al., "Unsupervised learning of visual features by contrasting cluster assignments" (2020).
    """
    shares = torch.exp((cosines - cosines.max()) / _SHARPNESS)
    for _ in range(num_iterations):
        shares = shares / shares.sum(dim=0, keepdim=True).clamp(min=torch.finfo(shares.dtype).tiny)
        shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=torch.finfo(shares.dtype).tiny)
    return shares


def sliced_width(rows: torch.Tensor, members: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """How wide clusters are: the extent along a direction, averaged over directions and clusters.

    Args:
        rows: `(num_rows, size)`.
        members: Which cluster each row belongs to, `(num_rows,)`.
        directions: Unit vectors, `(num_directions, size)`.

    Returns:
        A scalar; clusters of fewer than two rows have no width and do not count.
    """
    clusters, places, sizes = members.unique(return_inverse=True, return_counts=True)
    extents = rows @ directions.to(rows).T
    index = places[:, None].expand_as(extents)
    # From infinity, not without a start: torch would give a start of 0 a share of the gradient where an extent is 0.
    farthest = extents.new_full((len(clusters), extents.shape[1]), torch.inf)
    highest = (-farthest).scatter_reduce(0, index, extents, "amax")
    lowest = farthest.scatter_reduce(0, index, extents, "amin")
    return (highest - lowest)[sizes > 1].sum() / ((sizes > 1).sum().clamp(min=1) * len(directions))
