# SPDX-License-Identifier: Apache-2.0
"""Library-level centring and PCA-whitening: what all songs share is taken away, and every axis is made to count alike.

An axis is a principal component of the whole library, and its unit one standard deviation of the library along it. That
belongs to the library, not to a playlist: a playlist of a few songs could not tell the axes on which its songs agree
from those on which no song differs.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .vectors import as_queries, as_vectors

MAX_DIMENSIONS = 64
DEFAULT_DIMENSIONS = 16
# Of fewer songs an axis would tell single songs, not music: whitened by as many axes, all songs are at right angles.
_SONGS_PER_AXIS = 4
_FEWEST_AXES = 2
# Axes whose standard deviation is below this share of the widest are rounding errors of float32 embeddings.
_SMALLEST_SPREAD = 1e-5


@dataclass(frozen=True, eq=False)
class Whitening:
    """An affine map from embeddings to whitened principal components, widest axis first.

    Attributes:
        mean: Of the library, `(embedding_size,)`.
        axes: Orthonormal rows, `(num_dimensions, embedding_size)`.
        spreads: Standard deviation of the library along each axis, falling, `(num_dimensions,)`.
    """

    mean: np.ndarray
    axes: np.ndarray
    spreads: np.ndarray

    @classmethod
    def fit(cls, embeddings: ArrayLike, max_dimensions: int = MAX_DIMENSIONS) -> Whitening:
        """Measure a library.

        Args:
            embeddings: Of all its songs, `(num_songs, embedding_size)`.
            max_dimensions: How many axes to keep at most: one for every four songs, but two where there are as many.
                Fewer are kept of a library whose songs span fewer; a library of one song, or of copies of one, spans
                none.

        Raises:
            ValueError: The library is empty, holds NaN or infinite values, or `max_dimensions` is below 1.
        """
        if max_dimensions < 1:
            raise ValueError(f"max_dimensions is {max_dimensions}; at least 1 is needed")
        rows = as_vectors(embeddings, "library")
        mean = rows.mean(axis=0)
        # Values of the order of 1e300 would overflow when squared; the scale is put back below.
        scale = float(np.abs(rows - mean).max())
        _, lengths, axes = np.linalg.svd((rows - mean) / (scale or 1.0), full_matrices=False)
        spreads = lengths * scale / np.sqrt(len(rows))
        # A difference that float64 cannot tell from the size of the values themselves is no difference.
        smallest = max(_SMALLEST_SPREAD * spreads.max(), 1e-12 * float(np.abs(mean).max()))
        most = min(max_dimensions, max(_FEWEST_AXES, len(rows) // _SONGS_PER_AXIS))
        kept = np.flatnonzero(spreads > smallest)[:most]
        # An axis has no sign of its own; the one with a positive largest entry makes results repeat on any machine.
        signs = np.sign(axes[kept, np.abs(axes[kept]).argmax(axis=1)]) if len(kept) else np.empty(0)
        return cls(mean, axes[kept] * signs[:, None], spreads[kept])

    @property
    def embedding_size(self) -> int:
        """Size of the embeddings that it takes."""
        return len(self.mean)

    @property
    def num_dimensions(self) -> int:
        """How many axes it has."""
        return len(self.spreads)

    def transform(self, embeddings: ArrayLike, num_dimensions: int | None = None) -> np.ndarray:
        """Whitened components of embeddings.

        Args:
            embeddings: `(num_songs, embedding_size)`.
            num_dimensions: How many, the widest axes first; `None` takes all.

        Returns:
            `(num_songs, num_dimensions)`, in standard deviations of the library.
        """
        rows, _ = as_queries(embeddings, self.embedding_size)
        kept = slice(num_dimensions)
        return (rows - self.mean) @ self.axes[kept].T / self.spreads[kept]

    def checked_dimensions(self, wanted: int | None) -> int:
        """How many axes a playlist shall live on, where so many are wanted; `None` is 16, or all of fewer.

        Raises:
            ValueError: Less than one is wanted, or there is none.

        Warns:
            More are wanted than there are.
        """
        if self.num_dimensions == 0:
            raise ValueError(
                "the library's songs are all alike (or there is one only), so nothing tells one song from another. "
                "Were they embedded from silence?"
            )
        if wanted is None:
            return min(DEFAULT_DIMENSIONS, self.num_dimensions)
        if wanted < 1:
            raise ValueError(f"num_dimensions is {wanted}; at least 1 is needed")
        if wanted > self.num_dimensions:
            warnings.warn(
                f"num_dimensions is {wanted}, but the library spans {self.num_dimensions} axes, which are taken; more "
                "songs have more",
                stacklevel=3,
            )
        return min(wanted, self.num_dimensions)

    def state(self) -> dict[str, list[Any]]:
        """Its arrays as lists, to be stored as JSON beside the library's index."""
        return {name: getattr(self, name).tolist() for name in ("mean", "axes", "spreads")}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Whitening:
        """The whitening that `state` described.

        Raises:
            ValueError: The arrays do not fit one another.
        """
        mean, axes, spreads = (np.asarray(state[name], dtype=np.float64) for name in ("mean", "axes", "spreads"))
        axes = axes.reshape(len(spreads), len(mean)) if axes.size == len(spreads) * len(mean) else axes
        if mean.ndim != 1 or spreads.ndim != 1 or axes.shape != (len(spreads), len(mean)):
            raise ValueError(
                f"a whitening of {spreads.shape} spreads and a mean of {mean.shape} needs axes of one row each, not "
                f"{axes.shape}. Was the index written by another version? Fit it anew."
            )
        return cls(mean, axes, spreads)
