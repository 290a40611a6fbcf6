# SPDX-License-Identifier: Apache-2.0
"""The benchmarks that music encoders are compared on, from a user's own copies of the data.

Splits, metrics and figures are those of JukeMIR (Castellon et al., ISMIR 2021), which later papers follow. Nothing is
fetched.
"""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_mathrock.data.corpora import CorpusRows
from hf_mathrock.data.emomusic import PUBLISHED as EMOMUSIC_SONGS
from hf_mathrock.data.emomusic import TARGETS, emomusic_rows
from hf_mathrock.data.giantsteps import PUBLISHED as GIANTSTEPS_SONGS
from hf_mathrock.data.giantsteps import giantsteps_rows
from hf_mathrock.data.gtzan import PUBLISHED as GTZAN_SONGS
from hf_mathrock.data.gtzan import gtzan_rows
from hf_mathrock.data.magnatagatune import PUBLISHED as MAGNATAGATUNE_CLIPS
from hf_mathrock.data.magnatagatune import magnatagatune_rows
from hf_mathrock.data.mtg_jamendo import mtg_jamendo_rows
from hf_mathrock.data.tracks import Track
from hf_mathrock.evaluation.probe_kinds import ProbeKind
from hf_mathrock.metrics.validation import UNKNOWN

_JUKEMIR = "Castellon et al. 2021"
_MYNA = "Yonay et al. 2025, grid chosen by the test metric"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class PublishedFigure:
    """A figure of another system on the same split, by the same metric.

    Attributes:
        system: What was measured.
        metric: Of `ProbeResult.metrics`.
        value: As ours, in [0, 1].
        source: Who says so, and what was done otherwise.
    """

    system: str
    metric: str
    value: float
    source: str


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: how its data are read and what is measured.

    Attributes:
        title: Of the data, for tables.
        question: What is asked, for tables.
        kind: See `run_probe`.
        read: From a folder to rows with a `split`.
        labels: From the rows to labels as `ProbeData` takes them, and their names.
        songs: How many each split has as published; `None`: the reader of the corpus sees to that.
        metrics: Of a probe's result: their names there and for a table.
        clip_seconds: Length of the clips that the protocol cuts songs into; `None`: recordings are taken as they are.
        nearest: Whether it is also asked, without training, if the other tracks of an album and of an artist lie
            nearest, among the test tracks.
        published: Figures to stand beside ours.
    """

    title: str
    question: str
    kind: ProbeKind
    read: Callable[[Path], CorpusRows]
    labels: Callable[[CorpusRows], tuple[np.ndarray, list[str]]]
    songs: Mapping[str, int] | None
    metrics: Mapping[str, str]
    clip_seconds: float | None = None
    nearest: bool = False
    published: tuple[PublishedFigure, ...] = ()


@dataclass(frozen=True)
class ProbeTask:
    """A benchmark with data.

    Attributes:
        name: A key of `BENCHMARKS`.
        benchmark: What is measured.
        tracks: The recordings.
        labels: Of each track, see `ProbeData`.
        split: Of each track.
        label_names: See `ProbeData`.
        notes: What somebody who measures on this should hear.
        complete: Whether the splits have the songs as published; without, figures are not to be compared.
    """

    name: str
    benchmark: Benchmark
    tracks: list[Track]
    labels: np.ndarray
    split: np.ndarray
    label_names: list[str]
    notes: list[str]
    complete: bool


def _classes_of(column: str) -> Callable[[CorpusRows], tuple[np.ndarray, list[str]]]:
    def labels(corpus: CorpusRows) -> tuple[np.ndarray, list[str]]:
        names = next(list(task["labels"]) for task in corpus.tasks if task["name"] == column)
        values = [UNKNOWN if row.get(column) is None else names.index(row[column]) for row in corpus.rows]
        return np.array(values, dtype=np.int64), names

    return labels


def _tags(corpus: CorpusRows) -> tuple[np.ndarray, list[str]]:
    column, names = corpus.tasks[0]["name"], list(corpus.tasks[0]["labels"])
    place = {name: column for column, name in enumerate(names)}
    hot = np.zeros((len(corpus.rows), len(names)), dtype=np.float32)
    for number, row in enumerate(corpus.rows):
        hot[number, [place[tag] for tag in row[column]]] = 1
    return hot, names


def _emotions(corpus: CorpusRows) -> tuple[np.ndarray, list[str]]:
    return np.array([[row[target] for target in TARGETS] for row in corpus.rows]), list(TARGETS)


def _published(metric: str, *figures: tuple[str, float, str]) -> tuple[PublishedFigure, ...]:
    return tuple(PublishedFigure(system, metric, value, source) for system, value, source in figures)


_TAG_METRICS = {"roc_auc": "ROC-AUC", "map": "mAP"}

BENCHMARKS: dict[str, Benchmark] = {
    "gtzan": Benchmark(
        title="GTZAN, fault-filtered",
        question="genre",
        kind="classification",
        read=gtzan_rows,
        labels=_classes_of("genre"),
        songs=GTZAN_SONGS,
        metrics={"accuracy": "accuracy"},
        published=_published(
            "accuracy",
            ("CLMR", 0.686, _JUKEMIR),
            ("Jukebox, 5B", 0.797, _JUKEMIR),
            ("Myna Hybrid, 22M", 0.779, _MYNA),
        ),
    ),
    "giantsteps": Benchmark(
        title="GiantSteps, trained on GiantSteps-MTG",
        question="key",
        kind="key",
        read=giantsteps_rows,
        labels=_classes_of("key"),
        songs=GIANTSTEPS_SONGS,
        metrics={
            "weighted_score": "weighted score",
            "mirex_score": "weighted score, falling fifths too",
            "accuracy": "accuracy",
        },
        clip_seconds=30.0,
        published=_published(
            "weighted_score",
            ("CLMR", 0.149, _JUKEMIR),
            ("Jukebox, 5B", 0.667, _JUKEMIR),
            ("Myna Hybrid, 22M", 0.680, _MYNA),
        ),
    ),
    "emomusic": Benchmark(
        title="EmoMusic",
        question="emotion",
        kind="regression",
        read=emomusic_rows,
        labels=_emotions,
        songs=EMOMUSIC_SONGS,
        metrics={"r2_arousal": "R² of arousal", "r2_valence": "R² of valence", "r2": "mean R²"},
        published=(
            *_published(
                "r2_arousal",
                ("CLMR", 0.678, _JUKEMIR),
                ("Jukebox, 5B", 0.721, _JUKEMIR),
                ("Myna Hybrid, 22M", 0.708, _MYNA),
            ),
            *_published(
                "r2_valence",
                ("CLMR", 0.458, _JUKEMIR),
                ("Jukebox, 5B", 0.617, _JUKEMIR),
                ("Myna Hybrid, 22M", 0.552, _MYNA),
            ),
        ),
    ),
    "magnatagatune": Benchmark(
        title="MagnaTagATune, 50 tags, with untagged clips",
        question="tags",
        kind="multi_label",
        read=lambda folder: magnatagatune_rows(folder, untagged="keep"),
        labels=_tags,
        songs=MAGNATAGATUNE_CLIPS["keep"],
        metrics=_TAG_METRICS,
    ),
    # Full tracks, where clips of half a minute could not tell what hearing all of a track is good for.
    "jamendo": Benchmark(
        title="MTG-Jamendo, 50 tags, full tracks",
        question="tags",
        kind="multi_label",
        read=lambda folder: mtg_jamendo_rows(folder, subset="top50tags"),
        labels=_tags,
        songs=None,
        metrics=_TAG_METRICS,
        nearest=True,
    ),
}


def probe_task(name: str, folder: str | os.PathLike[str]) -> ProbeTask:
    """A benchmark with the data of a folder.

    Args:
        name: A key of `BENCHMARKS`.
        folder: A local copy, see `gtzan_rows`, `giantsteps_rows`, `emomusic_rows`, `magnatagatune_rows` and
            `mtg_jamendo_rows`.

    Raises:
        ValueError: There is no such benchmark, or the folder does not hold what it needs.
    """
    if name not in BENCHMARKS:
        near = difflib.get_close_matches(name, BENCHMARKS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"there is no benchmark {name!r}; {hint}There is {', '.join(BENCHMARKS)}.")
    benchmark, folder = BENCHMARKS[name], Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{str(folder)!r} is no folder; give that of a local copy of {benchmark.title}.")
    corpus = benchmark.read(folder)
    labels, label_names = benchmark.labels(corpus)
    split = np.array([row["split"] for row in corpus.rows])
    difference = count_difference(split, benchmark.songs)
    return ProbeTask(
        name=name,
        benchmark=benchmark,
        tracks=[
            Track(str(row["song"]), row["audio"], artist=_text(row.get("artist")), album=_text(row.get("album")))
            for row in corpus.rows
        ],
        labels=labels,
        split=split,
        label_names=label_names,
        notes=[*corpus.notes, *difference],
        complete=not difference,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def count_difference(split: Sequence[Any] | np.ndarray, songs: Mapping[str, int] | None) -> list[str]:
    """A note where splits do not have the songs that figures are published on."""
    counts = Counter(map(str, split))
    if songs is None or all(counts[name] == songs[name] for name in SPLITS):
        return []
    have, want = (" / ".join(f"{number[name]:,}" for name in SPLITS) for number in (counts, songs))
    return [f"there are {have} songs for training, validation and test, published are {want}: no figure compares"]
