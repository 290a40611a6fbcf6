# SPDX-License-Identifier: Apache-2.0
"""Whether what belongs together lies together: queries against candidates, such as another recording of a work.

No training is involved, so these figures say what an embedding is like as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def cosine_similarity(queries: Any, candidates: Any | None = None) -> np.ndarray:
    """Cosine of every query with every candidate, `(num_queries, num_candidates)` float64 in [-1, 1].

    Args:
        queries: `(num_queries, size)`.
        candidates: `(num_candidates, size)`; `None`: the queries themselves. A zero vector is similar to nothing.

    Raises:
        ValueError: Other shapes, or a value that is not finite.
    """
    both = []
    for name, given in (("queries", queries), ("candidates", queries if candidates is None else candidates)):
        vectors = np.asarray(given, dtype=np.float64)
        if vectors.ndim != 2 or not np.isfinite(vectors).all():
            raise ValueError(
                f"{name} have the shape {vectors.shape}; finite numbers of the shape (num_{name}, size) are needed. "
                "Was a track without sound embedded?"
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        both.append(np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0))
    if both[0].shape[1] != both[1].shape[1]:
        raise ValueError(
            f"queries have {both[0].shape[1]} numbers each and candidates {both[1].shape[1]}. Are they of two models?"
        )
    return both[0] @ both[1].T


def validate(similarity: Any, relevant: Any, excluded: Any | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Similarities as float64, what is relevant and what is no candidate as booleans, all of one shape.

    Raises:
        ValueError: Other shapes, or a similarity that is not finite.
    """
    similarity, relevant = np.asarray(similarity, dtype=np.float64), np.asarray(relevant)
    left_out = np.zeros(similarity.shape, dtype=bool) if excluded is None else np.asarray(excluded)
    if similarity.ndim != 2 or relevant.shape != similarity.shape or left_out.shape != similarity.shape:
        raise ValueError(
            f"similarities have the shape {similarity.shape}, what is relevant {relevant.shape} and what is left out "
            f"{left_out.shape}; all must be (num_queries, num_candidates)."
        )
    if not np.isfinite(similarity).all():
        raise ValueError(f"query {np.argwhere(~np.isfinite(similarity))[0][0]} has a similarity that is not finite.")
    left_out = left_out.astype(bool)
    return similarity, relevant.astype(bool) & ~left_out, left_out


def average_precision(similarity: Any, relevant: Any, excluded: Any | None = None) -> np.ndarray:
    """Average precision of each query, `(num_queries,)` in [0, 1]; NaN for one to which nothing is relevant.

    Of equally similar candidates those that are not relevant come first, so that an embedding which cannot tell two
    tracks apart gains nothing by their order. Arguments as for `evaluate`.
    """
    similarity, relevant, left_out = validate(similarity, relevant, excluded)
    values = np.full(len(similarity), np.nan)
    for query in range(len(similarity)):
        own, hits = similarity[query][~left_out[query]], relevant[query][~left_out[query]]
        if hits.any():
            found = np.flatnonzero(hits[np.lexsort((hits, -own))])
            values[query] = ((1 + np.arange(len(found))) / (1 + found)).mean()
    return values


def top_1(similarity: Any, relevant: Any, excluded: Any | None = None) -> np.ndarray:
    """Whether the nearest candidate is relevant, 1 or 0 for each query; NaN for one to which nothing is.

    It has to be nearer than every candidate that is not. Arguments as for `evaluate`.
    """
    similarity, relevant, left_out = validate(similarity, relevant, excluded)
    best = np.where(relevant, similarity, -np.inf).max(axis=1, initial=-np.inf)
    other = np.where(relevant | left_out, -np.inf, similarity).max(axis=1, initial=-np.inf)
    return np.where(relevant.any(axis=1), best > other, np.nan)


def evaluate(similarity: Any, relevant: Any, excluded: Any | None = None) -> dict[str, float]:
    """Means over the queries to which anything is relevant.

    Args:
        similarity: `(num_queries, num_candidates)`, such as `cosine_similarity`.
        relevant: Likewise, whether a candidate is what the query asks for.
        excluded: Likewise, whether it is no candidate at all, as the query itself. `None`: all are candidates.

    Returns:
        `map` and `top_1` in [0, 1]; `chance_map` and `chance_top_1`, what a random order reaches in the mean; and
        `num_queries`. Empty where nothing is relevant to any query.

    Raises:
        ValueError: As `validate`.

    Example:
        >>> evaluate([[0.9, 0.8, 0.1]], [[False, True, False]])["map"]
        0.5
    """
    similarity, relevant, left_out = validate(similarity, relevant, excluded)
    asked = relevant.any(axis=1)
    if not asked.any():
        return {}
    num_relevant = relevant[asked].sum(axis=1)
    num_candidates = (~left_out[asked]).sum(axis=1)
    # Of a random order: at place k a relevant candidate has, on average, its share of the others before it.
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, similarity.shape[1] + 1))])[num_candidates]
    others = (num_relevant - 1) / np.maximum(num_candidates - 1, 1)
    return {
        "map": float(np.nanmean(average_precision(similarity, relevant, left_out))),
        "top_1": float(np.nanmean(top_1(similarity, relevant, left_out))),
        "chance_map": float(((harmonic + others * (num_candidates - harmonic)) / num_candidates).mean()),
        "chance_top_1": float((num_relevant / num_candidates).mean()),
        "num_queries": float(asked.sum()),
    }
