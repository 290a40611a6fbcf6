# SPDX-License-Identifier: Apache-2.0
"""The benchmark on generated pieces: what is known is found, what is not known is at chance, no work is torn."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from hf_mathrock.data.forms import form_tracks
from hf_mathrock.data.mel_cache import MelTrack
from hf_mathrock.evaluation import generated_benchmark
from hf_mathrock.evaluation.generated_benchmark import (
    STATISTICS,
    WHOLE,
    GeneratedBenchmark,
    benchmark_cache,
    divided,
    probe_entries,
    run_generated_benchmark,
    section_entries,
    work_entries,
)
from hf_mathrock.evaluation.generated_tasks import TASKS, GeneratedTask
from hf_mathrock.evaluation.probe_grid import ProbeGrid, ProbeSettings
from hf_mathrock.evaluation.section_recall import section_excerpts
from tiny_myna import tiny_myna, tiny_myna_extractor

SMALL = GeneratedBenchmark(
    num_works=96,
    seed=0,
    seconds=32.0,
    num_recall_works=12,
    excerpt_seconds=2.0,
    probe_seeds=(0, 1),
    grid=ProbeGrid((ProbeSettings(True, 0, 64, 1e-2, 0.0, 0.0),), patience=16),
)


@pytest.fixture(scope="module")
def pieces() -> list[MelTrack]:
    """The pieces of the benchmark as noise, 8 frames a second; only facts are needed of most."""
    rng = np.random.default_rng(0)
    tracks = form_tracks(SMALL.num_works, SMALL.seed, takes=SMALL.takes, seconds=SMALL.seconds)
    return [
        MelTrack(track.id, noise := rng.normal(-40, 5, (320, 4)).astype(np.float16), float(noise.max()), track.work,
                 None, None, track.facts)
        for track in tracks
    ]  # fmt: skip


class Extractor:
    frames_per_second = 8.0

    def reference_of(self, decibels: np.ndarray) -> float:
        return float(decibels.max())


def telling(task: GeneratedTask, pieces: list[MelTrack]) -> np.ndarray:
    """An embedding that tells the label of a task and nothing else, `(num_pieces, size)`."""
    labels = np.nan_to_num(task.labels_of([piece.facts for piece in pieces]))
    if task.kind == "regression":
        return labels[:, None].astype(np.float32)
    return np.eye(30, dtype=np.float32)[np.where(labels < 0, 29, labels).astype(int)]


def figures(entries: list[dict], how: str) -> dict[tuple[str, str], dict]:
    return {(entry["task"], entry["metric"]): entry for entry in entries if entry["how"] == how}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_what_an_embedding_tells_is_found_out(task: GeneratedTask, pieces: list[MelTrack]) -> None:
    entries = probe_entries({"told": telling(task, pieces)}, pieces, replace(SMALL, probe_seeds=(0,)), [task])
    assert [entry["metric"] for entry in entries] == list(task.metrics.values())
    for entry in entries:
        assert entry["task"] == task.name
        assert entry["ceiling"] == task.ceiling
        # Of 24 keys and 12 homes not every one is among the few training works.
        assert entry["mean"] > (0.4 if len(task.classes) >= 12 else 0.95)
        assert entry["chance"] < 0.7 * entry["mean"]


def test_noise_stays_at_chance_and_seeds_give_a_spread(pieces: list[MelTrack]) -> None:
    noise = np.random.default_rng(1).normal(size=(len(pieces), 8)).astype(np.float32)
    chosen = [task for task in TASKS if task.name in ("tempo", "form")]
    entries = probe_entries({"noise": noise}, pieces, SMALL, chosen)
    for entry in entries:
        assert abs(entry["mean"] - entry["chance"]) < 0.25
        assert entry["num_seeds"] == 2
        assert entry["sd"] > 0
    assert json.loads(json.dumps(entries)) == entries


def test_no_work_is_torn_and_every_class_is_in_every_split(pieces: list[MelTrack]) -> None:
    divisions = [divided(pieces, seed) for seed in (0, 1)]
    assert (divisions[0] != divisions[1]).any()
    for split in divisions:
        of_work: dict[str, set] = {}
        for piece, part in zip(pieces, split, strict=True):
            of_work.setdefault(piece.work, set()).add(str(part))
        assert {len(parts) for parts in of_work.values()} == {1}
        shares = [float((split == part).mean()) for part in ("train", "validation", "test")]
        assert shares == pytest.approx([0.6, 0.15, 0.25], abs=0.05)
        for design in ("form", "meter_change", "key_change"):
            labels = np.array([str(piece.facts[design]) for piece in pieces])
            for part in ("train", "validation", "test"):
                assert set(labels[split == part]) == set(labels)


def test_another_take_is_found_by_what_the_work_is_and_not_by_noise(pieces: list[MelTrack]) -> None:
    rng = np.random.default_rng(2)
    of_work = {piece.work: rng.normal(size=16) for piece in pieces}
    works = np.stack([of_work[piece.work] for piece in pieces]) + 0.01 * rng.normal(size=(len(pieces), 16))
    # Columns of another size must not drown the others.
    works[:, 0] = 1e4 * rng.normal(size=len(pieces))
    entries = work_entries({"work": works, "noise": rng.normal(size=(len(pieces), 16))}, pieces, SMALL)
    assert figures(entries, "work")["work in another take", "nearest is right"]["mean"] > 0.9
    noise = figures(entries, "noise")["work in another take", "nearest is right"]
    assert noise["mean"] < 0.1
    assert noise["chance"] == pytest.approx(1 / (len(pieces) - 1))


def test_excerpts_lie_within_their_sections_and_begin_elsewhere_each_time(pieces: list[MelTrack]) -> None:
    marked = []
    for piece in pieces[:24]:
        decibels = np.zeros((480, 4), np.float16)
        for number, section in enumerate(piece.facts["sections"]):
            decibels[round(8 * section["start"]) : round(8 * section["end"])] = number + 1
        marked.append(replace(piece, decibels=decibels))
    excerpts = section_excerpts(marked, Extractor(), 2.0)
    assert len(excerpts.tracks) == 4 * len(marked)
    for number, track in enumerate(excerpts.tracks):
        assert len(track.decibels) in (15, 16, 17)
        assert set(np.unique(track.decibels)) == {number % 4 + 1}
        assert track.reference == number % 4 + 1
    long = section_excerpts(marked, Extractor(), 1000.0)
    for number, track in enumerate(long.tracks):
        section = marked[number // 4].facts["sections"][number % 4]
        assert len(track.decibels) == pytest.approx(8 * (section["end"] - section["start"] - 0.5), abs=2)
    with pytest.raises(ValueError, match="name no sections"):
        section_excerpts([replace(pieces[0], facts={})], Extractor(), 2.0)


def test_a_section_is_found_again_by_what_it_is_and_not_by_its_recording_alone(pieces: list[MelTrack]) -> None:
    recalled = pieces[:96]
    excerpts = section_excerpts(recalled, Extractor(), 2.0)
    rng = np.random.default_rng(3)
    same = excerpts.same_section()
    assert (same.sum(axis=1) == 3).all()  # the other occurrence, and both of the other take
    section = {key: rng.normal(size=16) for key in sorted(zip(excerpts.works, excerpts.names, strict=True))}
    knows = np.stack([section[key] for key in zip(excerpts.works, excerpts.names, strict=True)])
    take = {key: rng.normal(size=16) for key in sorted(zip(excerpts.works, excerpts.takes, strict=True))}
    recording = np.stack([take[key] for key in zip(excerpts.works, excerpts.takes, strict=True)])
    recording = recording + 0.01 * rng.normal(size=recording.shape)
    entries = section_entries({"section": knows, "recording": recording}, excerpts, pieces, SMALL)
    for task in ("section again", "section in another take"):
        assert figures(entries, "section")[task, "nearest is right"]["mean"] == 1.0
    assert figures(entries, "recording")["section again", "nearest is right"]["mean"] < 0.7
    assert figures(entries, "recording")["section in another take", "nearest is right"]["mean"] < 0.3


def test_a_whole_run_describes_the_pieces_in_three_ways(
    pieces: list[MelTrack], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def embed(model, extractor, tracks, *, how, chunk_seconds=None, progress=None):
        asked.append((how, chunk_seconds, len(tracks)))
        return np.stack([track.decibels[:40].astype(np.float32).mean(axis=0) for track in tracks])

    monkeypatch.setattr(generated_benchmark, "embed_tracks", embed)
    seen = set()
    results = run_generated_benchmark(
        None, Extractor(), pieces, replace(SMALL, probe_seeds=(0,)), progress=lambda what, done, total: seen.add(what)
    )
    assert asked == [("whole", None, 192), ("chunks", 8.0, 192), ("whole", None, 96), ("chunks", 8.0, 96)]
    assert "probe" in seen
    assert {entry["how"] for entry in results["probes"]} == {WHOLE, "chunk mean, 8 s", STATISTICS}
    assert len(results["probes"]) == 3 * (len(TASKS) + 1 + 6)
    assert all(entry["sd"] is None for entry in results["probes"])
    assert results["protocol"]["num_works"] == 96
    with pytest.raises(ValueError, match="has 10 tracks"):
        run_generated_benchmark(None, Extractor(), pieces[:10], SMALL)


def test_the_cache_holds_the_rendered_pieces_and_a_real_encoder_reads_them(tmp_path, monkeypatch) -> None:
    extractor = tiny_myna_extractor()
    monkeypatch.setattr(generated_benchmark, "FEWEST_WORKS", 3)
    few = replace(SMALL, num_works=3)
    cache = benchmark_cache(tmp_path / "mel", extractor, few, num_workers=0)
    assert len(cache) == 6
    assert cache.works[0] == cache.works[1] != cache.works[2]
    seconds = cache.num_frames / cache.frames_per_second
    ends = [cache[index].facts["sections"][-1]["end"] for index in range(6)]
    np.testing.assert_allclose(seconds, ends, atol=0.1)
    tracks = [cache[index] for index in range(2)]
    described = generated_benchmark.describe(tiny_myna(), extractor, tracks, few)
    assert {name: values.shape[0] for name, values in described.items()} == dict.fromkeys(described, 2)
    assert all(np.isfinite(values).all() for values in described.values())
    assert np.abs(described[WHOLE] - described["chunk mean, 8 s"]).max() > 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"takes": 1}, "takes is 1"),
        ({"num_works": 20}, "at least 96"),
        ({"probe_seeds": ()}, "at least one seed"),
        ({"chunk_seconds": 0.0}, "above 0"),
    ],
)
def test_numbers_out_of_range_are_named(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_generated_benchmark(None, Extractor(), [], replace(SMALL, **changes))
