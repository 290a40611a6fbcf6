# SPDX-License-Identifier: Apache-2.0
"""Does a whole track tell more than the mean of its chunks, and do positions matter? Answered on generated music.

    python benchmarks/whole_track.py                         trains and measures whatever is missing, then tables
    python benchmarks/whole_track.py --only alibi_2d-0       that one
    python benchmarks/whole_track.py --write-only            the tables from benchmarks/whole_track.json

Encoders that differ in one thing, `position_embedding`, are trained by recipes/myna-tiny.yaml, each with one thread,
and heard by the benchmark of `hf-mathrock probe --task generated`. Beside them stand an encoder that was not trained
and statistics of the mel spectrogram. Runs, spectrograms and unfinished results lie in a folder (--work).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "myna-tiny.yaml"
RESULTS = ROOT / "benchmarks" / "whole_track.json"
LOG, README = ROOT / "EXPERIMENTS.md", ROOT / "README.md"
WORK = Path.home() / ".cache" / "hf-mathrock" / "whole-track"
MAIN, UNTRAINED, STATISTICS = "alibi_2d", "untrained", "mel statistics"
NAMES = {
    "alibi_2d": "2-D ALiBi",
    "alibi_1d": "1-D ALiBi",
    "rope_2d": "axial RoPE",
    "sincos_2d": "2-D sin-cos",
    "none": "none",
}
# Position embedding and seed of the training.
RUNS = ("alibi_2d-0", "none-0", "sincos_2d-0", "alibi_2d-1", "none-1", "sincos_2d-1", "alibi_1d-0")
BENCHMARK: dict[str, Any] = {"num_works": 360, "num_recall_works": 60, "probe_seeds": (0, 1, 2)}


def trained(name: str, work: Path) -> Path:
    """The folder of a run, which is trained if it is not there; "untrained" is saved as it is drawn."""
    from hf_mathrock.training.pretraining import run_pretraining

    folder = work / "runs" / name
    if (folder / "model.safetensors").exists() and not (folder / "trainer").exists():
        return folder
    if name == UNTRAINED:
        return _drawn(folder)
    position, seed = name.rsplit("-", 1)
    changes = {"seed": int(seed), "model.position_embedding": position, "data.cache": str(work / "tracks")}
    run_pretraining(RECIPE, folder, changes, resume=(folder / "trainer").exists(), device="cpu")
    return folder


def _drawn(folder: Path) -> Path:
    import torch

    from hf_mathrock.models.configuration_myna import MynaConfig
    from hf_mathrock.models.feature_extraction_myna import MynaFeatureExtractor
    from hf_mathrock.models.modeling_myna import MynaForPreTraining

    torch.manual_seed(0)
    model = MynaForPreTraining(MynaConfig(**MynaConfig.size("tiny"), position_embedding=MAIN))
    model.save_pretrained(folder)
    MynaFeatureExtractor.for_config(model.config).save_pretrained(folder)
    return folder


def measured(name: str, work: Path) -> list[dict[str, Any]]:
    """Figures of a run, or of the statistics, on the generated benchmark; computed once."""
    path = work / "results" / f"{name}.json"
    if path.exists():
        return json.loads(path.read_text())
    from hf_mathrock.evaluation import generated_benchmark as generated
    from hf_mathrock.evaluation.section_recall import section_excerpts
    from hf_mathrock.evaluation.track_embeddings import embed_tracks, mel_statistics
    from hf_mathrock.models.feature_extraction_myna import MynaFeatureExtractor
    from hf_mathrock.models.modeling_myna import MynaModel

    benchmark = generated.GeneratedBenchmark(**BENCHMARK)
    folder = None if name == STATISTICS else trained(name, work)
    extractor = MynaFeatureExtractor() if folder is None else MynaFeatureExtractor.from_pretrained(folder)
    cache = generated.benchmark_cache(work / "benchmark", extractor, benchmark)
    pieces = [cache[index] for index in range(len(cache))]
    recalled = pieces[: benchmark.num_recall_works * benchmark.takes]
    excerpts = section_excerpts(recalled, extractor, benchmark.excerpt_seconds, benchmark.seed)

    def described(tracks: Sequence[Any]) -> dict[str, np.ndarray]:
        if folder is None:
            return {STATISTICS: mel_statistics(tracks)}
        model = MynaModel.from_pretrained(folder).eval()
        return {
            generated.WHOLE: embed_tracks(model, extractor, tracks, how="whole"),
            benchmark.chunks: embed_tracks(
                model, extractor, tracks, how="chunks", chunk_seconds=benchmark.chunk_seconds
            ),
        }

    tracks = described(pieces)
    entries = [
        *generated.probe_entries(tracks, pieces, benchmark),
        *generated.work_entries(tracks, pieces, benchmark),
        *generated.section_entries(described(excerpts.tracks), excerpts, pieces, benchmark),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries, indent=1) + "\n")
    return entries


def over_trainings(entries: Sequence[Sequence[Mapping[str, Any]]], how: str, column: str) -> list[dict[str, Any]]:
    """Figures of one way to describe tracks, over the trainings of one encoder.

    The spread is that over all seeds: the variance within the trainings and that between them. Of one training it is
    that of the probes alone.

    Args:
        entries: Of each training, what `measured` gives.
        how: The way.
        column: What it is called in the table.
    """
    merged = []
    for same in zip(*([entry for entry in run if entry["how"] == how] for run in entries), strict=True):
        means = [entry["mean"] for entry in same]
        variance = np.mean([(entry["sd"] or 0.0) ** 2 for entry in same])
        if len(means) > 1:
            variance += np.var(means, ddof=1)
        seeds = sum(entry["num_seeds"] for entry in same)
        merged.append(
            {**same[0], "how": column, "mean": float(np.mean(means)), "sd": math.sqrt(variance), "num_seeds": seeds}
        )
    return merged


def tables(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[str, str]]:
    """Headings and tables in Markdown: one encoder in several ways, then all encoders by whole tracks and by chunks."""
    from hf_mathrock.report.benchmark_table import probe_table

    by_position: dict[str, list[Any]] = {}
    for name in results:
        if name not in (UNTRAINED, STATISTICS):
            by_position.setdefault(name.rsplit("-", 1)[0], []).append(results[name])
    whole, chunks = list(dict.fromkeys(entry["how"] for entry in results[f"{MAIN}-0"]))
    ways = [
        *over_trainings(by_position[MAIN], whole, whole),
        *over_trainings(by_position[MAIN], chunks, chunks),
        *over_trainings([results[UNTRAINED]], whole, "whole track, not trained"),
        *results[STATISTICS],
    ]
    written = [(f"{NAMES[MAIN]}, {len(by_position[MAIN])} training(s):", probe_table(ways))]
    for how, said in ((whole, "whole tracks"), (chunks, "means of chunks")):
        columns = {
            position: f"{NAMES[position]} ({len(by_position[position])})"
            for position in NAMES
            if position in by_position
        }
        merged = [entry for p, column in columns.items() for entry in over_trainings(by_position[p], how, column)]
        written.append((f"Positions (and trainings), {said}:", probe_table(merged)))
    return written


def write_tables(results: Mapping[str, Any]) -> None:
    """Fill the slot of the lab notes with all tables, and that of the README with the first."""
    written = ["\n\n".join(part.strip() for part in table) for table in tables(results)]
    for path, content in ((LOG, "\n\n".join(written)), (README, written[0])):
        text = path.read_text()
        slot = re.compile(r"(<!-- whole-track:start -->\n).*?(<!-- whole-track:end -->)", re.DOTALL)
        if len(slot.findall(text)) != 1:
            raise SystemExit(f"{path.name} must have one slot named whole-track")
        path.write_text(slot.sub(lambda found, content=content: f"{found[1]}\n{content}\n\n{found[2]}", text))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=WORK, help="folder for runs, spectrograms and results")
    parser.add_argument("--only", choices=(*RUNS, UNTRAINED, STATISTICS), help="this one, and no table")
    parser.add_argument("--write-only", action="store_true", help="the tables from the last results")
    args = parser.parse_args()
    if args.write_only:
        write_tables(json.loads(RESULTS.read_text()))
        return
    import torch

    torch.set_num_threads(1)
    if args.only:
        measured(args.only, args.work)
        return
    results = {name: measured(name, args.work) for name in (*RUNS, UNTRAINED, STATISTICS)}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    write_tables(results)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
