# SPDX-License-Identifier: Apache-2.0
"""Measure a model on labelled songs: figures of whole songs with intervals, as a table, as JSON and as pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hf_mathrock.cli.checkpoint import load_pipeline, read_beside
from hf_mathrock.cli.terminal import (
    ProgressBar,
    UsageError,
    positive_float,
    positive_int,
    probability,
    results_console,
    say,
    whole_number,
)

SUMMARY = "measure a model on labelled songs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `hf-mathrock evaluate`."""
    unset: dict[str, Any] = {"default": argparse.SUPPRESS}  # the model's own value is used
    add_data_arguments(parser)
    parser.add_argument(
        "--split", metavar="NAME", help="train, validation, test or all (default: test if there is one)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write results.json, the predictions and figures into this folder"
    )
    parser.add_argument(
        "--resamples", type=whole_number, default=1000, metavar="N", help="of the bootstrap; 0: no intervals"
    )
    parser.add_argument(
        "--level", choices=("song", "window"), default="song", help="window: intervals of windows, too (default: song)"
    )
    how = parser.add_argument_group("how to listen")
    how.add_argument("--window-seconds", type=positive_float, metavar="S", help="length of a window", **unset)
    how.add_argument("--hop-seconds", type=positive_float, metavar="S", help="distance of two windows", **unset)
    how.add_argument(
        "--aggregation",
        choices=("mean", "max", "vote", "mean_logit"),
        default="mean",
        help="from windows to the song",
    )


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments that say what is heard by which model."""
    parser.add_argument("model", metavar="MODEL", help="folder or Hub name of a checkpoint, or mathrock-tiny")
    parser.add_argument("data", metavar="DATA", help="labelled songs: a folder, a table of files, a saved data set")
    parser.add_argument("--corpus", metavar="NAME", help="DATA is a local copy of this corpus")
    parser.add_argument("--group-by", nargs="+", metavar="COLUMN", help="what must not be on two sides of a split")
    parser.add_argument("--seed", type=whole_number, default=0, metavar="N", help="of every drawing (default: 0)")
    parser.add_argument(
        "--max-broken", type=probability, default=0.05, metavar="X", help="share of songs that may be unreadable"
    )
    parser.add_argument("--batch-size", type=positive_int, default=8, metavar="N", help="windows in a forward pass")
    parser.add_argument("--device", default=argparse.SUPPRESS, help="where the model runs, e.g. cpu, cuda:0, mps")


def run(args: argparse.Namespace) -> int:
    """Measures, prints the table and writes what was asked for."""
    if args.out is not None and args.out.exists() and not args.out.is_dir():
        raise UsageError(f"--out: {args.out} is a file; give a folder")  # now, and not after an hour of listening
    pipe = open_model(args)
    data = open_data(args, pipe)
    from hf_mathrock.evaluation.labelled import evaluate_labelled
    from hf_mathrock.report.scores import print_evaluation

    provenance = read_provenance(args.model)
    splits, remark = _splits(args.split, data, provenance)
    with ProgressBar("listening", total=None) as bar:
        evaluation = evaluate_labelled(
            pipe,
            data,
            splits,
            provenance=provenance,
            batch_size=args.batch_size,
            window_seconds=getattr(args, "window_seconds", None),
            hop_seconds=getattr(args, "hop_seconds", None),
            aggregation=args.aggregation,
            num_resamples=args.resamples,
            seed=args.seed,
            window_intervals=args.level == "window",
            max_broken=args.max_broken,
            progress=bar.advance_to,
        )
    for line in [*remark, *evaluation.remarks]:
        say(line)
    tasks = pipe.model.config.tasks
    print_evaluation(tasks, pipe.model_card["name"], evaluation.entry, results_console())
    if args.out is None:
        say("nothing was written; --out DIR keeps the figures, the predictions and pictures")
    else:
        _write(args, pipe, evaluation)
    return 0


def open_model(args: argparse.Namespace) -> Any:
    """The pipeline of the model that the command line names."""
    return load_pipeline(args.model, {"device": args.device} if "device" in args else {}, debug=args.debug)


def open_data(args: argparse.Namespace, pipe: Any) -> Any:
    """The labelled songs that the command line names, with labels for the model's tasks."""
    from hf_mathrock.data.loading import load_labelled_audio

    return load_labelled_audio(
        args.data,
        tasks=pipe.model.config.tasks,
        corpus=args.corpus,
        group_by=args.group_by,
        seed=args.seed,
        max_broken=args.max_broken,
    )


def read_provenance(model: str) -> Any:
    """Which songs the files beside a checkpoint's weights say it has seen."""
    from hf_mathrock.evaluation.labelled import Provenance

    names = ("training_songs.json", "calibration.json", "recipe.json")
    return Provenance.of_files(*(read_beside(model, name) for name in names))


def _splits(wanted: str | None, data: Any, provenance: Any) -> tuple[list[str], list[str]]:
    """The splits to measure on, and a line that says why where that is not plain."""
    from hf_mathrock.evaluation.labelled import chosen_splits, split_is_given, trained_on_any

    try:
        splits = chosen_splits(data, wanted)
    except ValueError as error:
        raise UsageError(f"--split: {error}") from error
    if wanted is not None or split_is_given(data.report):
        return splits, []
    if provenance.trained_on is not None and not trained_on_any(data, provenance.trained_on):
        return list(data), ["these data have no split, and the model was trained on none of them: all are measured"]
    measured = ", ".join(splits)
    return splits, [f"these data have no split; of the one made by group, {measured} is measured (more: --split all)"]


def _write(args: argparse.Namespace, pipe: Any, evaluation: Any) -> None:
    from hf_mathrock.evaluation.measuring import curves
    from hf_mathrock.evaluation.prediction_files import write_predictions
    from hf_mathrock.evaluation.results import add_sets, identity
    from hf_mathrock.report.figures import draw_evaluation

    config = pipe.model.config
    songs, windows = write_predictions(
        evaluation.predictions,
        args.out,
        temperatures=config.temperatures,
        thresholds=config.thresholds,
        aggregation=args.aggregation,
    )
    found = curves(evaluation.predictions, temperatures=config.temperatures, aggregation=args.aggregation)
    pictures = draw_evaluation(config.tasks, evaluation.entry, found, args.out / "figures")
    # Last: whoever finds results.json finds what it was computed from beside it.
    add_sets(args.out / "results.json", identity(pipe), {evaluation.name: evaluation.entry})
    say(
        f"wrote {args.out / 'results.json'} (set {evaluation.name!r}), {songs.name}, {windows.name} "
        f"and {len(pictures)} figures"
    )
