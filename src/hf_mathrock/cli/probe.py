# SPDX-License-Identifier: Apache-2.0
"""Say what an encoder's embeddings know: small networks are trained on them, chosen, and tested once."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hf_mathrock.cli.embed import load_embedder
from hf_mathrock.cli.terminal import (
    ProgressBar,
    UsageError,
    positive_float,
    positive_int,
    probability,
    say,
    show_own_warnings,
    whole_number,
)

SUMMARY = "measure what an encoder's embeddings know, on a benchmark"
GENERATED = "generated"
TASKS = ("gtzan", "giantsteps", "emomusic", "magnatagatune", "jamendo", GENERATED)
WAYS = ("whole", "chunks", "clips", "statistics")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `hf-mathrock probe`."""
    parser.add_argument("model", metavar="MODEL", help="folder or Hub name of a checkpoint, or one inside")
    parser.add_argument("--task", choices=TASKS, required=True, help="the benchmark; generated needs no data")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="local copy of the benchmark's recordings")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="results.json goes into this folder")
    parser.add_argument(
        "--how",
        type=_ways,
        metavar="WAYS",
        help=f"how tracks are described, of {','.join(WAYS)} (default: all that the model can)",
    )
    parser.add_argument("--chunk-seconds", type=positive_float, metavar="S", help="length of a chunk")
    parser.add_argument(
        "--grid",
        choices=("jukemir", "fast"),
        help="jukemir: its 216 probes, which published figures are from; fast: 4 of them (default: jukemir, and fast "
        "for generated)",
    )
    parser.add_argument("--seeds", type=positive_int, metavar="N", help="repetitions (default: 3, of generated 5)")
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="folder for spectrograms, kept (default: spectrograms in --out)"
    )
    parser.add_argument("--works", type=positive_int, metavar="N", help="of generated: works (default: 480)")
    parser.add_argument("--num-workers", type=whole_number, default=2, metavar="N", help="processes that read (2)")
    parser.add_argument(
        "--max-broken", type=probability, default=0.05, metavar="X", help="share of recordings that may be unreadable"
    )
    parser.add_argument("--device", help="where the model runs and probes are trained, e.g. cpu, cuda:0")
    parser.add_argument("--revision", help="branch, tag or commit of a checkpoint on the Hub")


def run(args: argparse.Namespace) -> int:
    """Measures, prints the table and writes results.json."""
    _check(args)
    pipe = load_embedder(args.model, vars(args), debug=args.debug)
    show_own_warnings()
    from hf_mathrock.evaluation.results import add_probes, identity
    from hf_mathrock.report.benchmark_table import probe_table

    with ProgressBar("listening", total=None) as bar:
        measure = _generated if args.task == GENERATED else _benchmark
        probes, remarks = measure(args, pipe, bar.advance)
    print(probe_table(probes))
    for line in remarks:
        say(line)
    add_probes(args.out / "results.json", identity(pipe), probes)
    say(f"wrote {args.out / 'results.json'}")
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.out.exists() and not args.out.is_dir():
        raise UsageError(f"--out: {args.out} is a file; give a folder")
    if args.task == GENERATED:
        for option in ("data", "how"):
            if getattr(args, option) is not None:
                raise UsageError(f"--{option} has no meaning with --task generated; leave it out")
    elif args.data is None:
        raise UsageError(f"--data is missing: the folder of a local copy of {args.task}; nothing is downloaded")
    elif args.works is not None:
        raise UsageError("--works is for --task generated only")


def _benchmark(
    args: argparse.Namespace, pipe: Any, progress: Callable[[str, int, int], None]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Figures on a benchmark, and what to say of them."""
    from hf_mathrock.evaluation.probe_tasks import probe_task
    from hf_mathrock.evaluation.probing import measure_task, ways_for

    task = probe_task(args.task, args.data)
    try:
        ways = ways_for(task, pipe.feature_extractor, args.how)
    except ValueError as error:
        raise UsageError(f"--how: {error}") from error
    figures = measure_task(
        task,
        pipe.model,
        pipe.feature_extractor,
        args.cache or args.out / "spectrograms",
        ways=ways,
        chunk_seconds=args.chunk_seconds,
        grid=args.grid or "jukemir",
        seeds=range(args.seeds or 3),
        num_workers=args.num_workers,
        max_broken=args.max_broken,
        device=args.device,
        progress=progress,
    )
    remarks = [f"note: {note}" for note in figures.notes]
    if figures.published:
        remarks.append("published by others, of the same split and metric:")
        remarks += [
            f"  {task.benchmark.metrics[figure.metric]} {figure.value:.3f}: {figure.system} ({figure.source})"
            for figure in figures.published
        ]
    return figures.probes, remarks


def _generated(
    args: argparse.Namespace, pipe: Any, progress: Callable[[str, int, int], None]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Figures on generated pieces."""
    from hf_mathrock.evaluation.generated_benchmark import GeneratedBenchmark, benchmark_cache, run_generated_benchmark

    if not pipe.hears_whole_tracks:
        raise UsageError(f"--task generated is for encoders of whole tracks, which {args.model} is not")
    given = {"num_works": args.works, "chunk_seconds": args.chunk_seconds, "grid": args.grid}
    given["probe_seeds"] = None if args.seeds is None else tuple(range(args.seeds))
    benchmark = GeneratedBenchmark(**{name: value for name, value in given.items() if value is not None})
    folder = args.cache or args.out / "spectrograms"
    cache = benchmark_cache(folder, pipe.feature_extractor, benchmark, num_workers=args.num_workers, progress=progress)
    results = run_generated_benchmark(pipe.model, pipe.feature_extractor, cache, benchmark, progress=progress)
    return results["probes"], []


def _ways(text: str) -> Sequence[str]:
    """Reads names with commas between them."""
    ways = [way.strip() for way in text.split(",") if way.strip()]
    if not ways or (unknown := [way for way in ways if way not in WAYS]):
        wrong = repr(unknown[0]) if ways else "nothing"
        raise argparse.ArgumentTypeError(f"{wrong} is no way to describe a track; there is {','.join(WAYS)}")
    return ways
