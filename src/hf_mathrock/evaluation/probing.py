# SPDX-License-Identifier: Apache-2.0
"""A model on a benchmark: every way to describe a track, a probe for each, figures side by side."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_mathrock.data.mel_cache import write_mel_cache
from hf_mathrock.evaluation.probe_grid import ProbeGrid
from hf_mathrock.evaluation.probe_tasks import ProbeTask, PublishedFigure, count_difference
from hf_mathrock.evaluation.probe_training import Scaler
from hf_mathrock.evaluation.probes import ProbeData, SeedSummary, run_probe_over_seeds
from hf_mathrock.evaluation.track_embeddings import (
    CHUNK_SECONDS,
    embed_clips,
    embed_tracks,
    hears_whole_tracks,
    mel_statistics,
)
from hf_mathrock.metrics import retrieval
from hf_mathrock.models.audio_input import AudioReadError

WAYS = ("whole", "chunks", "clips", "statistics")
_QUERIES = 256  # asked at once
Progress = Callable[[str, int, int], None]
"""Called with (what is being done, how much is done, of how much)."""


@dataclass(frozen=True)
class TaskFigures:
    """What came out of a model on a benchmark.

    Attributes:
        probes: Figures as `results.json` has them, one for each metric and way to describe a track.
        notes: What somebody who reads them should know.
        published: Figures of other systems that these may stand beside; none where anything was done otherwise.
    """

    probes: list[dict[str, Any]]
    notes: list[str]
    published: tuple[PublishedFigure, ...]


@dataclass(frozen=True)
class _Described:
    """A way to describe tracks: rows `(num_rows, size)`, and the number of the track of each."""

    title: str
    rows: np.ndarray
    tracks: np.ndarray


def ways_for(task: ProbeTask, extractor: Any, wanted: Sequence[str] | None = None) -> tuple[str, ...]:
    """The ways of describing tracks that a model and a benchmark allow.

    Args:
        task: The benchmark.
        extractor: The model's.
        wanted: Of `WAYS`; `None`: all that are possible.

    Raises:
        ValueError: A way is unknown or impossible here.
    """
    possible = ["chunks"]
    if hears_whole_tracks(extractor):
        possible = ["whole", "chunks", *(["clips"] if task.benchmark.clip_seconds else []), "statistics"]
    if wanted is None:
        return tuple(possible)
    for way in wanted:
        if way not in WAYS:
            raise ValueError(f"{way!r} is no way to describe a track; there is {', '.join(WAYS)}.")
        if way not in possible:
            why = "the clips of this benchmark are its recordings"
            if not hears_whole_tracks(extractor):
                why = f"this model hears windows of the audio (of {extractor.window_seconds:g} s), not whole tracks"
            raise ValueError(f"{way!r} is not possible: {why}. Possible is {', '.join(possible)}.")
    if not wanted or len(set(wanted)) < len(wanted):
        raise ValueError(f"the ways to describe a track are {list(wanted)}; name at least one, and each once.")
    return tuple(wanted)


def measure_task(
    task: ProbeTask,
    model: Any,
    extractor: Any,
    cache_folder: str | Path,
    *,
    ways: Sequence[str] | None = None,
    chunk_seconds: float | None = None,
    grid: str | ProbeGrid = "jukemir",
    seeds: Sequence[int] = (0, 1, 2),
    num_workers: int = 2,
    max_broken: float = 0.05,
    device: str | None = None,
    progress: Progress | None = None,
) -> TaskFigures:
    """Describe the tracks of a benchmark in every way, and train, choose and test a probe on each.

    Args:
        task: The benchmark with its data.
        model: The encoder, see `embed_tracks`.
        extractor: Its own.
        cache_folder: Where spectrograms are kept for the next model that hears the same; made if need be. Not used for
            models that hear windows.
        ways: Of `WAYS`: "whole", the track at once; "chunks", the mean over chunks; "clips", where the benchmark's
            protocol cuts songs into clips that are answered for one by one; "statistics", the baseline. `None`: all
            that are possible.
        chunk_seconds: See `embed_tracks`.
        grid: See `run_probe`.
        seeds: See `run_probe_over_seeds`.
        num_workers: Processes that compute spectrograms.
        max_broken: Share of the tracks that may be unreadable.
        device: Where probes are trained, see `run_probe`.
        progress: See `Progress`.

    Raises:
        ValueError: An option is out of range, too many tracks are broken, or a split has no track left.
        ImportError: pyarrow is not installed.
    """
    ways = ways_for(task, extractor, ways)
    if hears_whole_tracks(extractor):
        cache = write_mel_cache(
            cache_folder,
            task.tracks,
            extractor,
            num_workers=num_workers,
            max_broken=max_broken,
            progress=_part(progress, "spectrograms"),
        )
        place = {track.id: number for number, track in enumerate(task.tracks)}
        heard = np.array([place[name] for name in cache.ids])
        described = [_describe(way, task, model, extractor, cache, chunk_seconds, progress) for way in ways]
    else:
        rows, heard = _windows(task, model, extractor, chunk_seconds, max_broken, progress)
        title = chunks_title(chunk_seconds or extractor.window_seconds)
        described = [_Described(title, rows, np.arange(len(rows)))]
    labels, split = task.labels[heard], task.split[heard]
    probes: list[dict[str, Any]] = []
    for of in described:
        clips = len(of.tracks) > len(heard)
        data = ProbeData(
            of.rows, labels[of.tracks], split[of.tracks], of.tracks if clips else None, label_names=task.label_names
        )
        summary = run_probe_over_seeds(
            data,
            task.benchmark.kind,
            grid,
            seeds,
            device=device,
            progress=_across(progress, f"probes: {of.title}", len(seeds)),
        )
        probes += _entries(task, of.title, summary, grid)
        if task.benchmark.nearest and not clips:
            probes += nearest_entries(task, of.title, of.rows, heard)
    missing = count_difference(split, task.benchmark.songs)
    # Where the protocol cuts songs into clips, one answer for the whole song is another question.
    same_question = task.benchmark.clip_seconds is None or "clips" in ways
    comparable = grid == "jukemir" and task.complete and not missing and same_question
    return TaskFigures(
        probes, list(dict.fromkeys([*task.notes, *missing])), task.benchmark.published if comparable else ()
    )


def chunks_title(seconds: float) -> str:
    """What the mean over chunks is called in a table."""
    return f"chunk mean, {seconds:g} s"


def _describe(
    way: str,
    task: ProbeTask,
    model: Any,
    extractor: Any,
    cache: Any,
    chunk_seconds: float | None,
    progress: Progress | None,
) -> _Described:
    each = np.arange(len(cache))
    if way == "statistics":
        return _Described("mel statistics", mel_statistics(cache, progress=_part(progress, "mel statistics")), each)
    if way == "clips":
        seconds = task.benchmark.clip_seconds
        title = f"clips of {seconds:g} s"
        rows, tracks = embed_clips(
            model, extractor, cache, clip_seconds=seconds, progress=_part(progress, f"embeddings: {title}")
        )
        return _Described(title, rows, tracks)
    title = "whole track" if way == "whole" else chunks_title(chunk_seconds or CHUNK_SECONDS)
    rows = embed_tracks(
        model,
        extractor,
        cache,
        how="whole" if way == "whole" else "chunks",
        chunk_seconds=chunk_seconds,
        progress=_part(progress, f"embeddings: {title}"),
    )
    return _Described(title, rows, each)


def _windows(
    task: ProbeTask,
    model: Any,
    extractor: Any,
    chunk_seconds: float | None,
    max_broken: float,
    progress: Progress | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings by a model that hears windows, and the number of each track that could be read."""
    rows, heard, broken = [], [], []
    for number, track in enumerate(task.tracks):
        try:
            rows.append(embed_tracks(model, extractor, [track], how="chunks", chunk_seconds=chunk_seconds))
            heard.append(number)
        except AudioReadError as error:
            broken.append(" ".join(str(error).split()))
        if progress is not None:
            progress("embeddings", number + 1, len(task.tracks))
    if broken:
        told = f"{len(broken)} of {len(task.tracks)} tracks cannot be read ({broken[0]})"
        if len(broken) > max_broken * len(task.tracks) or not rows:
            raise ValueError(f"{told}, more than `max_broken` ({max_broken:g}) allows. Is the folder right?")
        warnings.warn(f"{told} and are left out.", stacklevel=3)
    return np.concatenate(rows), np.array(heard)


def _entries(task: ProbeTask, how: str, summary: SeedSummary, grid: str | ProbeGrid) -> list[dict[str, Any]]:
    results = summary.results
    entries = []
    for metric, title in task.benchmark.metrics.items():
        chances = [result.chances[metric] for result in results if metric in result.chances]
        entry: dict[str, Any] = {
            "task": task.benchmark.question,
            "data": task.benchmark.title,
            "metric": title,
            "how": how,
            "mean": summary.mean[metric],
            "sd": summary.deviation[metric],
            "num_seeds": len(results),
            "num_test": results[0].num_songs["test"],
            "higher_is_better": True,
            "chance": chances[0] if chances else None,
            "grid": grid if isinstance(grid, str) else "own",
        }
        if metric == results[0].primary:
            entry["chosen"] = [
                {
                    "seed": result.seed,
                    "validation": result.validation_score,
                    "test": result.metrics[metric],
                    "step": result.step,
                    "strategy": result.strategy,
                    **result.settings,
                }
                for result in results
            ]
        entries.append(entry)
    return entries


def nearest_entries(task: ProbeTask, how: str, rows: np.ndarray, heard: np.ndarray) -> list[dict[str, Any]]:
    """Whether test tracks of one album, and of one artist on other albums, lie nearest to each other.

    Args:
        task: The benchmark; tracks without an artist or an album are not asked for.
        how: The way that tracks are described.
        rows: Their descriptions, `(num_tracks, size)`; similarity is the cosine once each number of them has the mean 0
            and deviation 1 that it has over the training tracks.
        heard: Number of the track of each row.

    Returns:
        Figures as `results.json` has them.
    """
    split = task.split[heard]
    tested = heard[split == "test"]
    scaled = Scaler.fit(rows[split == "train"])(rows[split == "test"])
    columns = {
        name: np.array([getattr(task.tracks[number], name) or f"?{number}" for number in tested])
        for name in ("album", "artist")
    }
    entries = []
    for name, of in columns.items():
        found: list[dict[str, float]] = []
        for first in range(0, len(tested), _QUERIES):
            asked = np.arange(first, min(first + _QUERIES, len(tested)))
            left_out = asked[:, None] == np.arange(len(tested))
            if name == "artist":  # an album sounds alike: who is found by it alone is not found
                left_out |= columns["album"][asked, None] == columns["album"]
            similarity = retrieval.cosine_similarity(scaled[asked], scaled)
            found.append(retrieval.evaluate(similarity, of[asked, None] == of, left_out))
        counts = np.array([part.get("num_queries", 0.0) for part in found])
        if counts.any():
            for metric, title in (("map", "mAP"), ("top_1", "nearest")):
                value, chance = (
                    float(sum(part[kind] * part["num_queries"] for part in found if part) / counts.sum())
                    for kind in (metric, f"chance_{metric}")
                )
                entries.append(
                    {
                        "task": f"same {name}",
                        "data": task.benchmark.title,
                        "metric": title,
                        "how": how,
                        "mean": value,
                        "sd": None,
                        "num_seeds": 1,
                        "num_test": int(counts.sum()),
                        "higher_is_better": True,
                        "chance": chance,
                    }
                )
    return entries


def _part(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(what, done, total)


def _across(progress: Progress | None, what: str, num_seeds: int) -> Callable[[int, int], None] | None:
    """Counts the probes of all seeds."""
    if progress is None:
        return None
    seen = 0

    def one_more(done: int, total: int) -> None:
        nonlocal seen
        seen += 1
        progress(what, seen, total * num_seeds)

    return one_more
