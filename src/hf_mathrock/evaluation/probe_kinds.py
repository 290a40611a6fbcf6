# SPDX-License-Identifier: Apache-2.0
"""What a probe is asked: its loss, how its answers for the clips of a song become one, and how these are scored.

The strategies for a song of several clips are JukeMIR's for keys; which is taken is decided on the validation songs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F

from hf_mathrock.metrics import key, multi_label, regression, single_label
from hf_mathrock.metrics.validation import UNKNOWN

ProbeKind = Literal["classification", "key", "regression", "multi_label"]
KINDS: tuple[str, ...] = get_args(ProbeKind)
PRIMARY = {"classification": "accuracy", "key": "weighted_score", "regression": "r2", "multi_label": "roc_auc"}
"""The metric of each kind that probes stop by and are chosen by."""
STRATEGIES = ("vote", "max", "mean_logit", "mean_prob")


def strategies_of(kind: str) -> tuple[str, ...]:
    """How the clips of a song may be joined; of numbers there is nothing but their mean."""
    return ("mean",) if kind == "regression" else STRATEGIES


@dataclass(frozen=True)
class Songs:
    """Which rows are clips of which song.

    Attributes:
        order: Rows by song, `(num_rows,)`.
        starts: Where each song begins in them, `(num_songs,)`.
        labels: Of each song.
    """

    order: np.ndarray
    starts: np.ndarray
    labels: np.ndarray

    @classmethod
    def of_rows(cls, songs: np.ndarray, labels: np.ndarray) -> Songs:
        """From the song of each row, as numbers, and its label.

        Raises:
            ValueError: Two clips of a song have different labels.
        """
        order = np.argsort(songs, kind="stable")
        _, starts = np.unique(songs[order], return_index=True)
        of_songs = labels[order[starts]]
        repeated = np.repeat(of_songs, np.diff([*starts, len(order)]), axis=0)
        if not np.array_equal(repeated, labels[order], equal_nan=labels.dtype.kind == "f"):
            raise ValueError(
                "rows of one group have different labels; a group is a song of several clips, with one label. Were "
                "works or artists given as groups?"
            )
        return cls(order, starts, of_songs)

    @property
    def one_row_each(self) -> bool:
        """Whether there is nothing to join."""
        return len(self.starts) == len(self.order)

    def joined(self, outputs: np.ndarray, kind: str, strategy: str) -> np.ndarray:
        """Outputs of clips `(..., num_rows, num_outputs)` to those of songs `(..., num_songs, num_outputs)`."""
        outputs = outputs[..., self.order, :]
        if self.one_row_each:
            return outputs
        if strategy == "max":
            return np.maximum.reduceat(outputs, self.starts, axis=-2)
        if strategy == "mean_prob":
            outputs = _probabilities(outputs, kind)
        elif strategy == "vote" and kind == "multi_label":
            outputs = (outputs > 0).astype(np.float32)
        elif strategy == "vote":
            outputs = np.eye(outputs.shape[-1], dtype=np.float32)[outputs.argmax(axis=-1)]
        num_clips = np.diff([*self.starts, len(self.order)])
        return np.add.reduceat(outputs, self.starts, axis=-2) / num_clips[:, None]


def _probabilities(outputs: np.ndarray, kind: str) -> np.ndarray:
    given = torch.from_numpy(np.ascontiguousarray(outputs))
    return (given.sigmoid() if kind == "multi_label" else given.softmax(dim=-1)).numpy()


def best_strategies(outputs: np.ndarray, songs: Songs, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """The primary metric of several probes at once, each with its best strategy.

    Args:
        outputs: `(num_probes, num_rows, num_outputs)`.
        songs: Of the rows.
        kind: One of `KINDS`.

    Returns:
        Scores `(num_probes,)`, NaN for outputs that are not finite, and positions in `strategies_of(kind)`.
    """
    names = strategies_of(kind)[:1] if songs.one_row_each else strategies_of(kind)
    finite = np.isfinite(outputs).all(axis=(1, 2))
    outputs = np.where(finite[:, None, None], outputs, 0)
    scores = np.stack([_primary(songs.joined(outputs, kind, name), songs.labels, kind) for name in names])
    scores[:, ~finite] = np.nan
    best = scores.argmax(axis=0)  # the first of equal ones
    return scores[best, np.arange(len(finite))], best


def _primary(outputs: np.ndarray, labels: np.ndarray, kind: str) -> np.ndarray:
    """`PRIMARY[kind]` of each probe from outputs of songs, `(num_probes,)`; what `metrics_of` gives, all at once."""
    if kind == "classification":
        return (outputs.argmax(axis=-1) == labels).mean(axis=-1)
    if kind == "key":
        return key.score_table()[labels, outputs.argmax(axis=-1)].mean(axis=-1)
    if kind == "regression":
        residual = ((labels - outputs.astype(np.float64)) ** 2).sum(axis=1)
        spread = ((labels - labels.mean(axis=0)) ** 2).sum(axis=0)
        return (1 - residual[:, spread > 0] / spread[spread > 0]).mean(axis=-1)
    return _macro_roc_auc(outputs, labels)


def _macro_roc_auc(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """By ranks: the share of pairs of a positive and a negative song that come in this order, ties half."""
    from scipy.stats import rankdata

    values = []
    for label in range(labels.shape[1]):
        known = labels[:, label] != UNKNOWN
        positive = labels[known, label] == 1
        num_positive, num_negative = positive.sum(), (~positive).sum()
        if num_positive and num_negative:
            ranks = rankdata(outputs[:, known, label], axis=1)[:, positive].sum(axis=1)
            values.append((ranks - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative))
    return np.mean(values, axis=0)


def metrics_of(outputs: np.ndarray, labels: np.ndarray, kind: str, names: Sequence[str] | None) -> dict[str, float]:
    """All metrics of one probe from its outputs of songs `(num_songs, num_outputs)`."""
    if kind == "key":
        return key.evaluate(labels, outputs.argmax(axis=1))
    if kind == "regression":
        return regression.evaluate(labels, outputs, names)
    if kind == "multi_label":
        return multi_label.evaluate(outputs, labels, names)
    found = single_label.evaluate(outputs, labels)
    return {metric: found[metric] for metric in ("accuracy", "macro_f1")}


def chances_of(labels: np.ndarray, kind: str, names: Sequence[str] | None = None) -> dict[str, float]:
    """What each metric reaches without listening: the best single answer, or a random order; a probe has to beat it.

    Of a classification's macro-F1, to which no such answer is best, there is none.
    """
    if kind == "classification":
        return {"accuracy": float(np.bincount(labels).max() / len(labels))}
    if kind == "key":
        score, mirex = (key.score_table(descending)[labels].mean(axis=0).max() for descending in (False, True))
        share = np.bincount(labels).max() / len(labels)
        return {"weighted_score": float(score), "mirex_score": float(mirex), "accuracy": float(share)}
    if kind == "regression":
        return dict.fromkeys(regression.evaluate(labels, labels, names), 0.0)
    known, positive = (labels != UNKNOWN).sum(axis=0), (labels == 1).sum(axis=0)
    return {"roc_auc": 0.5, "map": float((positive[positive > 0] / known[positive > 0]).mean())}


def loss_of(kind: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The loss of a kind, for many probes at once: the sum of their means, so that each has its own gradient."""
    return {"regression": _squares, "multi_label": _known_entries}.get(kind, _cross_entropies)


def _cross_entropies(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    num_probes, num_rows, num_outputs = outputs.shape
    every = targets.repeat(num_probes)
    return F.cross_entropy(outputs.reshape(-1, num_outputs), every, reduction="sum") / num_rows


def _squares(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs - targets).square().mean(dim=(1, 2)).sum()


def _known_entries(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    known = (targets != UNKNOWN).to(outputs.dtype)
    entries = F.binary_cross_entropy_with_logits(outputs, (targets * known).expand_as(outputs), reduction="none")
    return (entries * known).sum() / known.sum().clamp(min=1)


def checked_labels(labels: Any, kind: str, num_rows: int) -> np.ndarray:
    """Labels as the kind wants them: int64 `(num_rows,)`, or float32 `(num_rows, num_outputs)`.

    Raises:
        ValueError: Another shape, or values that the kind does not know.
    """
    given = np.asarray(labels)
    if kind in ("classification", "key"):
        if kind == "key" and given.dtype.kind in "UO" and all(isinstance(label, str) for label in given):
            given = np.array([key.key_number(label) for label in given])
        whole = given.dtype.kind in "iuf" and given.shape == (num_rows,) and np.array_equal(given, np.floor(given))
        if not whole or ((given < 0) & (given != UNKNOWN)).any() or (kind == "key" and (given >= key.NUM_KEYS).any()):
            most = "0 to 23 (tonic, and 12 more for minor)" if kind == "key" else "from 0 on"
            raise ValueError(
                f"labels of the kind {kind!r} are whole numbers {most}, one for each of the {num_rows} rows, or "
                f"{UNKNOWN} where unknown; an array of {given.dtype} and shape {given.shape} came."
            )
        return given.astype(np.int64)
    given = given.astype(np.float32)
    if kind == "regression" and given.ndim == 1:
        given = given[:, None]
    if given.ndim != 2 or len(given) != num_rows or not given.shape[1]:
        raise ValueError(
            f"labels of the kind {kind!r} have the shape {given.shape}; ({num_rows}, num_outputs) is needed."
        )
    if kind == "multi_label" and not np.isin(given, (0, 1, UNKNOWN)).all():
        raise ValueError(f"labels of the kind 'multi_label' are 1, 0 or {UNKNOWN} (unknown).")
    return given


def is_known(labels: np.ndarray, kind: str) -> np.ndarray:
    """Which rows have a label at all, `(num_rows,)` booleans."""
    if kind == "regression":
        return np.isfinite(labels).all(axis=1)
    return (labels != UNKNOWN).any(axis=1) if kind == "multi_label" else labels != UNKNOWN
