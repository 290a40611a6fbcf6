# SPDX-License-Identifier: Apache-2.0
"""What a frozen embedding tells: small networks are trained on it, one is chosen on validation rows, and tested once.

The function that trains and chooses is given training and validation rows and nothing else; test rows are cut out of
the data only after it has returned.

Source: JukeMIR's protocol (Castellon et al., ISMIR 2021): Adam, ReLU, a linear layer or one hidden layer, dropout on
the embedding too, a grid of 216 settings, early stopping by the validation metric every 8 steps, patience 256.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from hf_mathrock.evaluation.probe_grid import ProbeGrid, probe_grid
from hf_mathrock.evaluation.probe_kinds import (
    KINDS,
    PRIMARY,
    ProbeKind,
    Songs,
    best_strategies,
    chances_of,
    checked_labels,
    is_known,
    loss_of,
    metrics_of,
    strategies_of,
)
from hf_mathrock.evaluation.probe_training import Scaler, TrainedProbe, train_probes
from hf_mathrock.metrics.key import NUM_KEYS

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class ProbeRows:
    """Rows of one split whose label is known.

    Attributes:
        embeddings: `(num_rows, size)` float32.
        labels: As `checked_labels` gives them.
        songs: Which rows belong to one song.
    """

    embeddings: np.ndarray
    labels: np.ndarray
    songs: Songs


@dataclass(frozen=True)
class ProbeData:
    """Embeddings with labels and a split.

    Attributes:
        embeddings: `(num_rows, size)`, finite.
        labels: `(num_rows,)` classes, or keys from 0 to 23 (tonic, and 12 more for minor) or by name, -100 where
            unknown; numbers `(num_rows, num_targets)`, NaN where unknown; or multi-hot `(num_rows, num_labels)`.
        split: "train", "validation" or "test" of each row; rows of another word are not used.
        groups: The song of each row, where rows are clips: a song gets one answer, and all its clips have its label.
            `None`: each row is a song. (Works and artists are no groups: dividing by them is the split's business.)
        label_names: Of the classes, labels or targets; `None`: their positions.
    """

    embeddings: Any
    labels: Any
    split: Any
    groups: Any | None = None
    label_names: Sequence[str] | None = None

    def num_outputs(self, kind: str) -> int:
        """Classes, labels or targets: as many as there are names, or as the labels speak of."""
        if kind == "key":
            return NUM_KEYS
        labels = checked_labels(self.labels, kind, len(self.embeddings))
        if kind != "classification":
            return labels.shape[1]
        num_classes = 1 + int(labels.max(initial=-1))
        if self.label_names is not None and num_classes > len(self.label_names):
            raise ValueError(
                f"a label is {num_classes - 1}; with {len(self.label_names)} label names the highest is "
                f"{len(self.label_names) - 1}."
            )
        return max(num_classes, len(self.label_names or ()))

    def rows(self, split: str, kind: str) -> ProbeRows:
        """The rows of a split whose label is known.

        Raises:
            ValueError: There are none, arrays do not fit, an embedding of them is not finite, or a group stands in
                another split too.
        """
        splits, embeddings = np.asarray(self.split).astype(str), np.asarray(self.embeddings)
        labels = checked_labels(self.labels, kind, len(embeddings))
        groups = np.arange(len(embeddings)) if self.groups is None else np.asarray(self.groups).astype(str)
        if embeddings.ndim != 2 or splits.shape != (len(embeddings),) or groups.shape != splits.shape:
            raise ValueError(
                f"embeddings have the shape {embeddings.shape}, the split {splits.shape} and groups {groups.shape}; "
                "(num_rows, size) and twice (num_rows,) are needed."
            )
        own = splits == split
        torn = np.isin(groups[own], groups[~own & np.isin(splits, SPLITS)])
        if torn.any():
            raise ValueError(
                f"clips of the group {str(groups[own][torn][0])!r} stand in {split!r} and in another split."
            )
        chosen = np.flatnonzero(own & is_known(labels, kind))
        if not chosen.size:
            raise ValueError(
                f"no row of the split {split!r} has a known label; train, validation and test rows are needed. There "
                f"are {', '.join(f'{name!r}: {count}' for name, count in _counts(splits))} rows."
            )
        values = embeddings[chosen].astype(np.float32)
        if not np.isfinite(values).all():
            row = chosen[np.argwhere(~np.isfinite(values))[0][0]]
            raise ValueError(f"the embedding of row {row} is not finite. Leave tracks out that cannot be embedded.")
        numbers = np.unique(groups[chosen], return_inverse=True)[1]
        return ProbeRows(values, labels[chosen], Songs.of_rows(numbers, labels[chosen]))


def _counts(splits: np.ndarray) -> list[tuple[str, int]]:
    names, counts = np.unique(splits, return_counts=True)
    return [(str(name), int(count)) for name, count in zip(names, counts, strict=True)]


@dataclass(frozen=True)
class SelectedProbe:
    """The probe that was best on the validation rows.

    Attributes:
        kind: What it answers.
        probe: Its weights and settings.
        strategy: How it joins the clips of a song; `None` where songs are single rows.
        scaler: Of the training rows.
        target_scaler: Of the training targets of a regression.
    """

    kind: str
    probe: TrainedProbe
    strategy: str | None
    scaler: Scaler
    target_scaler: Scaler | None

    def outputs(self, embeddings: np.ndarray) -> np.ndarray:
        """Logits, or the numbers of a regression, `(num_rows, num_outputs)`."""
        values = np.asarray(embeddings, dtype=np.float32)
        values = self.scaler(values) if self.probe.settings.standardize else values
        for layer, (weights, biases) in enumerate(self.probe.layers):
            values = (np.maximum(values, 0) if layer else values) @ weights + biases
        if self.target_scaler is not None:
            values = values * self.target_scaler.deviation + self.target_scaler.mean
        return values

    def evaluate(self, rows: ProbeRows, label_names: Sequence[str] | None = None) -> dict[str, float]:
        """Its metrics on rows, by song, see `ProbeResult`."""
        outputs = rows.songs.joined(self.outputs(rows.embeddings), self.kind, self.strategy or "mean")
        return metrics_of(outputs, rows.songs.labels, self.kind, label_names)


@dataclass(frozen=True)
class ProbeResult:
    """What came out of one probe.

    Attributes:
        metrics: Of the test songs. Classification: `accuracy`, `macro_f1`. Key: `weighted_score` (only rising fifths
            count, as JukeMIR and Myna have it), `mirex_score` (falling ones too), `accuracy`. Regression: `r2`, and
            `r2_<name>` of several targets. Multi-label: `roc_auc`, `map`, `prior`.
        primary: Which of them the probe was chosen by.
        validation_score: That metric of the validation songs.
        chances: What the metrics of the test songs are without listening, see `chances_of`.
        settings: Those chosen.
        strategy: How the clips of a song were joined; `None` where there was nothing to join.
        step: Steps that the chosen probe was trained for.
        num_songs: Songs of each split.
        seed: Of the training.
    """

    metrics: dict[str, float]
    primary: str
    validation_score: float
    chances: dict[str, float]
    settings: dict[str, Any]
    strategy: str | None
    step: int
    num_songs: dict[str, int]
    seed: int

    @property
    def score(self) -> float:
        """The primary metric of the test songs."""
        return self.metrics[self.primary]

    @property
    def chance(self) -> float:
        """What it is without listening."""
        return self.chances[self.primary]


def run_probe(
    data: ProbeData,
    kind: ProbeKind,
    grid: str | ProbeGrid = "jukemir",
    seed: int = 0,
    *,
    device: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ProbeResult:
    """Train the probes of a grid, choose one, test it.

    Args:
        data: Embeddings of all splits.
        kind: "classification", "key", "regression" or "multi_label".
        grid: "jukemir", "fast" or one of your own.
        seed: Of weights, order and dropout.
        device: Where to train; `None`: on the GPU if there is one.
        progress: Called with (probes done, probes).

    Raises:
        ValueError: The kind, the grid or the data are not as described; see `ProbeData`.
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` is {kind!r}; allowed are {', '.join(map(repr, KINDS))}.")
    train, validation = data.rows("train", kind), data.rows("validation", kind)
    chosen = select_probe(
        train, validation, kind, data.num_outputs(kind), probe_grid(grid), seed, device=device, progress=progress
    )
    test = data.rows("test", kind)
    return ProbeResult(
        metrics=chosen.evaluate(test, data.label_names),
        primary=PRIMARY[kind],
        validation_score=chosen.probe.score,
        chances=chances_of(test.songs.labels, kind, data.label_names),
        settings=chosen.probe.settings.as_dict(),
        strategy=chosen.strategy,
        step=chosen.probe.step,
        num_songs={name: len(rows.songs.starts) for name, rows in zip(SPLITS, (train, validation, test), strict=True)},
        seed=seed,
    )


def select_probe(
    train: ProbeRows,
    validation: ProbeRows,
    kind: str,
    num_outputs: int,
    grid: ProbeGrid,
    seed: int = 0,
    *,
    device: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SelectedProbe:
    """Train the probes of a grid on training rows and choose the best on validation rows; it knows no others.

    Args:
        train: What is trained on; scalers are fitted to it alone.
        validation: What decides when a probe stops, how clips are joined, and which probe is chosen.
        kind: One of `KINDS`.
        num_outputs: Of a probe.
        grid: The probes.
        seed: Of weights, order and dropout.
        device: See `run_probe`.
        progress: See `run_probe`.

    Raises:
        ValueError: Nothing can be measured on the validation rows.
    """
    target_scaler = Scaler.fit(train.labels) if kind == "regression" else None
    songs, targets = validation.songs, train.labels
    if target_scaler is not None:
        targets, songs = target_scaler(targets), replace(songs, labels=target_scaler(songs.labels))
    _check_measurable(songs.labels, kind)
    probes = train_probes(
        train.embeddings,
        targets,
        validation.embeddings,
        num_outputs,
        grid,
        loss_of(kind),
        lambda outputs: best_strategies(outputs, songs, kind),
        seed=seed,
        device=torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")),
        progress=progress,
    )
    places = {settings: place for place, settings in enumerate(grid.settings)}
    best: TrainedProbe | None = None
    for probe in probes:  # all but the best are let go: a grid of wide embeddings is gigabytes
        if best is None or (probe.score, -places[probe.settings]) > (best.score, -places[best.settings]):
            best = probe
    assert best is not None
    # Songs of one clip in validation may be of several in the test: then the mean of what was trained on.
    strategy = None if songs.one_row_each else strategies_of(kind)[best.strategy]
    return SelectedProbe(kind, best, strategy, Scaler.fit(train.embeddings), target_scaler)


def _check_measurable(labels: np.ndarray, kind: str) -> None:
    if kind == "regression" and not (np.ptp(labels, axis=0) > 0).any():
        raise ValueError("all validation songs have the same targets; nothing can be chosen by them.")
    if kind == "multi_label" and not ((labels == 1).any(axis=0) & (labels == 0).any(axis=0)).any():
        raise ValueError(
            "no label is held by some validation songs and not by others; nothing can be chosen by them. Are there "
            "enough of them?"
        )


@dataclass(frozen=True)
class SeedSummary:
    """Several runs of a probe.

    Attributes:
        mean: Of each metric.
        deviation: Standard deviation of each metric between seeds (n - 1); `None` of a single seed.
        results: Of each seed.
    """

    mean: dict[str, float]
    deviation: dict[str, float | None]
    results: list[ProbeResult]


def run_probe_over_seeds(
    data: ProbeData,
    kind: ProbeKind,
    grid: str | ProbeGrid = "jukemir",
    seeds: Sequence[int] = (0, 1, 2),
    **options: Any,
) -> SeedSummary:
    """`run_probe` with each seed; only the training differs, the split stays.

    Raises:
        ValueError: As `run_probe`, or there is no seed.
    """
    if not seeds:
        raise ValueError("`seeds` is empty; give at least one.")
    results = [run_probe(data, kind, grid, seed, **options) for seed in seeds]
    values = {metric: np.array([result.metrics[metric] for result in results]) for metric in results[0].metrics}
    return SeedSummary(
        mean={metric: float(of.mean()) for metric, of in values.items()},
        deviation={metric: float(of.std(ddof=1)) if len(of) > 1 else None for metric, of in values.items()},
        results=results,
    )
