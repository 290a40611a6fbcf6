# SPDX-License-Identifier: Apache-2.0
"""What an encoder tells of generated long pieces, whose labels are known exactly; nothing is downloaded.

Ways to describe a track stand side by side: the encoder's embedding of the whole track, the mean of its embeddings of
chunks, and statistics of the mel spectrogram, which need no encoder. What they know is read off by probes (key, meter,
tempo, mode, and the classes of `form_plans` that need long range) and, without any training, by what lies nearest:
another take of the work, another occurrence of a section.

Each seed divides the works anew, with all takes of a work on one side, and trains its probes anew. Retrieval asks with
the test works of each seed and answers from all; numbers are first brought to mean 0 and deviation 1 over all that can
be found, which needs no labels, lest statistics be compared by the one that has the largest numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_mathrock.data.forms import form_tracks
from hf_mathrock.data.mel_cache import MelCache, MelTrack, write_mel_cache
from hf_mathrock.evaluation.generated_tasks import TASKS, GeneratedTask
from hf_mathrock.evaluation.probes import ProbeData, run_probe
from hf_mathrock.evaluation.section_recall import SectionExcerpts, section_excerpts
from hf_mathrock.evaluation.track_embeddings import embed_tracks, mel_statistics
from hf_mathrock.metrics import retrieval

DATA = "generated pieces"
WHOLE, STATISTICS = "whole track", "mel statistics"
SHARES = {"train": 0.6, "validation": 0.15}  # of the works; the rest is for the test
FEWEST_WORKS = 96  # three designs of up to four classes, eight works each

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, how much is done, of how much)."""


@dataclass(frozen=True)
class GeneratedBenchmark:
    """Which pieces are heard, and how they are asked about.

    Attributes:
        num_works: Works; a third of them each vary form, meter and key.
        takes: Performances of each, at least two.
        seed: Seed of the first work. Keep the encoder's training seeds away from this one and those that follow it.
        seconds: Length of a piece.
        chunk_seconds: Length of the chunks that are averaged.
        excerpt_seconds: Length of the excerpts of sections.
        num_recall_works: Of so many works sections are recalled.
        probe_seeds: Divisions of the works, and probes.
        grid: Of the probes, see `probe_grid`.
    """

    num_works: int = 480
    takes: int = 2
    seed: int = 5_000_000
    seconds: float = 96.0
    chunk_seconds: float = 8.0
    excerpt_seconds: float = 16.0
    num_recall_works: int = 120
    probe_seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    grid: str = "fast"

    @property
    def chunks(self) -> str:
        """What the mean of chunks is called."""
        return f"chunk mean, {self.chunk_seconds:g} s"


def benchmark_cache(
    folder: str | Path,
    extractor: Any,
    benchmark: GeneratedBenchmark | None = None,
    *,
    num_workers: int = 2,
    progress: Progress | None = None,
) -> MelCache:
    """Mel spectrograms of the pieces; they are rendered once and kept, for every encoder that hears the same.

    Args:
        folder: Of the cache; a megabyte for each minute and a half of a piece.
        extractor: The encoder's.
        benchmark: Which pieces; `None`: the defaults.
        num_workers: Processes that render.
        progress: See `Progress`.

    Raises:
        ValueError: The benchmark's numbers are out of range, or the folder holds a cache of other settings.
    """
    benchmark = benchmark or GeneratedBenchmark()
    _check(benchmark)
    tracks = form_tracks(
        benchmark.num_works,
        benchmark.seed,
        takes=benchmark.takes,
        seconds=benchmark.seconds,
        sampling_rate=extractor.sampling_rate,
    )
    return write_mel_cache(folder, tracks, extractor, num_workers=num_workers, progress=_part(progress, "render"))


def run_generated_benchmark(
    model: Any,
    extractor: Any,
    cache: MelCache,
    benchmark: GeneratedBenchmark | None = None,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Describe the pieces by an encoder, and without one, and hold what is told against what is known.

    Args:
        model: An encoder with `pooler_output`, such as `MynaModel`.
        extractor: Its own.
        cache: Of `benchmark_cache`, made with the same benchmark.
        benchmark: `None`: the defaults.
        progress: See `Progress`.

    Returns:
        `protocol`, and `probes`: of each task and way of describing a track `task`, `data`, `metric`, `how`, `mean`,
        `sd` (between seeds, n - 1; `None` of one seed), `num_seeds`, `num_test` (tracks or excerpts of the first
        seed), `higher_is_better`, `chance` (of the best single answer, or of a random order) and `ceiling` (what is
        possible without the order of sections; `None` where that is not known). `report.benchmark_table` makes a table
        of it.

    Raises:
        ValueError: The benchmark's numbers are out of range, or the cache is not of its pieces.
    """
    benchmark = benchmark or GeneratedBenchmark()
    _check(benchmark)
    if len(cache) != benchmark.num_works * benchmark.takes:
        raise ValueError(
            f"the cache has {len(cache)} tracks, the benchmark {benchmark.num_works} works in {benchmark.takes} takes. "
            "Make it with `benchmark_cache` and the same benchmark."
        )
    pieces = [cache[index] for index in range(len(cache))]
    tracks = describe(model, extractor, pieces, benchmark, _part(progress, "embed"))
    recalled = pieces[: benchmark.num_recall_works * benchmark.takes]
    excerpts = section_excerpts(recalled, extractor, benchmark.excerpt_seconds, benchmark.seed)
    sections = describe(model, extractor, excerpts.tracks, benchmark, _part(progress, "embed excerpts"))
    probes = [
        *probe_entries(tracks, pieces, benchmark, progress=_part(progress, "probe")),
        *work_entries(tracks, pieces, benchmark),
        *section_entries(sections, excerpts, pieces, benchmark),
    ]
    return {"protocol": {"source": "hf_mathrock.synthesis", **asdict(benchmark)}, "probes": probes}


def describe(
    model: Any,
    extractor: Any,
    tracks: Sequence[MelTrack],
    benchmark: GeneratedBenchmark,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Every way to describe tracks, each `(num_tracks, size)` float32, by its name in the table."""
    seconds = benchmark.chunk_seconds
    return {
        WHOLE: embed_tracks(model, extractor, tracks, how="whole", progress=progress),
        benchmark.chunks: embed_tracks(
            model, extractor, tracks, how="chunks", chunk_seconds=seconds, progress=progress
        ),
        STATISTICS: mel_statistics(tracks),
    }


def divided(pieces: Sequence[MelTrack], seed: int) -> np.ndarray:
    """The split of each piece: "train", "validation" or "test".

    All takes of a work stand together, and each class of a design has its share in every split.
    """
    groups: dict[tuple[Any, ...], dict[str | None, None]] = {}
    for piece in pieces:
        kind = tuple(piece.facts[name] for name in ("design", "form", "meter_change", "key_change"))
        groups.setdefault(kind, {})[piece.work] = None
    rng = np.random.default_rng([seed, 0xD1F1])
    ends = np.cumsum([SHARES["train"], SHARES["validation"]])
    names = np.array(["train", "validation", "test"])
    split: dict[str | None, str] = {}
    for works in groups.values():
        places = (rng.permutation(len(works)) + 0.5) / len(works)
        split.update(zip(works, names[np.searchsorted(ends, places)].tolist(), strict=True))
    return np.array([split[piece.work] for piece in pieces])


def probe_entries(
    descriptions: Mapping[str, np.ndarray],
    pieces: Sequence[MelTrack],
    benchmark: GeneratedBenchmark,
    tasks: Sequence[GeneratedTask] = TASKS,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """What probes read off descriptions of the pieces, see `run_generated_benchmark`.

    Args:
        descriptions: `(num_pieces, size)` by name.
        pieces: With their work and facts.
        benchmark: For its seeds and grid.
        tasks: What is asked.
        progress: Called with (probes done, probes).
    """
    entries: list[dict[str, Any]] = []
    done = 0
    splits = {seed: divided(pieces, seed) for seed in benchmark.probe_seeds}
    for task in tasks:
        labels = task.labels_of([piece.facts for piece in pieces])
        for how, embeddings in descriptions.items():
            results = []
            for seed in benchmark.probe_seeds:
                names = [str(name) for name in task.classes] if task.kind == "classification" else None
                result = run_probe(
                    ProbeData(embeddings, labels, splits[seed], label_names=names), task.kind, benchmark.grid, seed
                )
                results.append(result)
                done += 1
                if progress is not None:
                    progress(done, len(tasks) * len(descriptions) * len(benchmark.probe_seeds))
            for metric, title in task.metrics.items():
                values = [result.metrics[metric] for result in results]
                chance = float(np.mean([result.chances[metric] for result in results]))
                num_test = results[0].num_songs["test"]
                entries.append(_entry(task.name, title, how, values, num_test, chance, task.ceiling))
    return entries


def work_entries(
    descriptions: Mapping[str, np.ndarray], pieces: Sequence[MelTrack], benchmark: GeneratedBenchmark
) -> list[dict[str, Any]]:
    """Whether another take of the work lies nearest, among all takes of all works."""
    works = np.array([piece.work for piece in pieces])
    relevant = works[:, None] == works
    own = np.eye(len(works), dtype=bool)
    asked = [np.flatnonzero(divided(pieces, seed) == "test") for seed in benchmark.probe_seeds]
    return list(_retrieved("work in another take", descriptions, relevant & ~own, own, asked))


def section_entries(
    descriptions: Mapping[str, np.ndarray],
    excerpts: SectionExcerpts,
    pieces: Sequence[MelTrack],
    benchmark: GeneratedBenchmark,
) -> list[dict[str, Any]]:
    """Whether an excerpt of a section finds the section's other occurrence, in the same recording or another take.

    In the first, candidates are all excerpts of first takes; in the second, queries are those of the others.
    """
    asked = []
    for seed in benchmark.probe_seeds:
        tested = {piece.work for piece, part in zip(pieces, divided(pieces, seed), strict=True) if part == "test"}
        asked.append(np.array([work in tested for work in excerpts.works]))
    first = excerpts.takes == 0
    same = excerpts.same_section()
    own = np.eye(len(first), dtype=bool)
    # Whatever is no first take is no candidate.
    left_out = own | ~first[None, :]
    return [
        *_retrieved("section again", descriptions, same, left_out, [np.flatnonzero(of & first) for of in asked]),
        *_retrieved(
            "section in another take", descriptions, same, left_out, [np.flatnonzero(of & ~first) for of in asked]
        ),
    ]


def _retrieved(
    task: str,
    descriptions: Mapping[str, np.ndarray],
    relevant: np.ndarray,
    left_out: np.ndarray,
    asked: Sequence[np.ndarray],
) -> Iterator[dict[str, Any]]:
    """Entries of a retrieval; `asked` are the queries of each seed."""
    for metric, title in (("map", "mean average precision"), ("top_1", "nearest is right")):
        for how, embeddings in descriptions.items():
            spread = embeddings.std(axis=0)
            scaled = (embeddings - embeddings.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
            similarity = retrieval.cosine_similarity(scaled)
            figures = [
                retrieval.evaluate(similarity[rows], relevant[rows], left_out[rows]) for rows in asked if len(rows)
            ]
            figures = [figure for figure in figures if figure]
            if figures:
                chance = float(np.mean([figure[f"chance_{metric}"] for figure in figures]))
                values = [figure[metric] for figure in figures]
                yield _entry(task, title, how, values, int(figures[0]["num_queries"]), chance, None)


def _entry(
    task: str, metric: str, how: str, values: Sequence[float], num_test: int, chance: float, ceiling: float | None
) -> dict[str, Any]:
    return {
        "task": task,
        "data": DATA,
        "metric": metric,
        "how": how,
        "mean": float(np.mean(values)),
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "num_seeds": len(values),
        "num_test": num_test,
        "higher_is_better": True,
        "chance": chance,
        "ceiling": ceiling,
    }


def _part(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(what, done, total)


def _check(benchmark: GeneratedBenchmark) -> None:
    if benchmark.takes < 2:
        raise ValueError(f"takes is {benchmark.takes}; to find a work in another take there must be at least 2.")
    if benchmark.num_works < FEWEST_WORKS:
        raise ValueError(
            f"num_works is {benchmark.num_works}; at least {FEWEST_WORKS} are needed, or some class of a design has no "
            "work in one of the splits. Figures worth comparing take hundreds."
        )
    if not benchmark.probe_seeds:
        raise ValueError("probe_seeds is empty; give at least one seed.")
    if min(benchmark.excerpt_seconds, benchmark.chunk_seconds) <= 0:
        raise ValueError(
            f"chunk_seconds is {benchmark.chunk_seconds} and excerpt_seconds is {benchmark.excerpt_seconds}; both must "
            "be above 0."
        )
