# SPDX-License-Identifier: Apache-2.0
"""What counts as a set of embeddings, and what is refused before any geometry starts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

_NAMED_AT_MOST = 5


def as_vectors(values: ArrayLike, what: str, names: Sequence[str] | None = None, size: int | None = None) -> np.ndarray:
    """Embeddings as finite float64 rows.

    Args:
        values: `(num_songs, embedding_size)`.
        what: Of what they are the embeddings; begins the messages.
        names: Of the songs, for the messages; default their row numbers.
        size: The embedding size that is expected; `None` takes any.

    Returns:
        `(num_songs, embedding_size)`, a new array.

    Raises:
        ValueError: There is no row, the shape or the size is another, or a value is NaN or infinite.
    """
    rows = np.array(values, dtype=np.float64)
    if rows.ndim != 2 or 0 in rows.shape:
        empty = " There is no song: was everything filtered out?" if rows.size == 0 else ""
        raise ValueError(
            f"{what}: expected embeddings of shape (num_songs, embedding_size) with at least one of each, got "
            f"{rows.shape}.{empty}"
        )
    if size is not None and rows.shape[1] != size:
        raise ValueError(
            f"{what}: embeddings have {rows.shape[1]} dimensions where {size} are expected. Were they made by another "
            "model or with other settings? Embed everything with one checkpoint."
        )
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(broken):
        shown = ", ".join(str(names[row]) if names is not None else f"row {row}" for row in broken[:_NAMED_AT_MOST])
        more = f" and {len(broken) - _NAMED_AT_MOST} more" if len(broken) > _NAMED_AT_MOST else ""
        raise ValueError(
            f"{what}: NaN or infinite values in the embeddings of {shown}{more}. Leave these songs out, or embed them "
            "again (a broken file, or a model that overflowed in half precision?)."
        )
    return rows


def as_queries(values: ArrayLike, size: int) -> tuple[np.ndarray, bool]:
    """One query `(size,)` or many `(num_queries, size)` as rows, and whether it was one."""
    rows = np.asarray(values, dtype=np.float64)
    single = rows.ndim == 1
    if rows.shape == (0, size):
        return rows, False
    return as_vectors(rows[None] if single else rows, "queries", size=size), single


def unit_rows(rows: np.ndarray, shortest: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows scaled to unit length, and which of them have a direction, being longer than `shortest`; others are zero."""
    lengths = np.linalg.norm(rows, axis=1)
    directed = lengths > shortest
    return np.divide(rows, lengths[:, None], out=np.zeros_like(rows), where=directed[:, None]), directed
