# SPDX-License-Identifier: Apache-2.0
"""Make a model's scores mean what they say, on labelled songs: a temperature per task, a threshold per label."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hf_mathrock.cli.checkpoint import read_beside, resolve
from hf_mathrock.cli.evaluate import add_data_arguments, open_data, open_model, read_provenance
from hf_mathrock.cli.terminal import ProgressBar, UsageError, positive_float, results_console, say

SUMMARY = "fit temperatures and thresholds to labelled songs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `hf-mathrock calibrate`."""
    add_data_arguments(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for a calibrated copy (default: MODEL itself is changed)"
    )
    parser.add_argument(
        "--rule",
        default="f1",
        metavar="RULE",
        help="thresholds of the best F1 (f1, the default), or of a wanted precision (precision=0.8)",
    )
    parser.add_argument(
        "--report-share",
        type=positive_float,
        default=0.5,
        metavar="X",
        help="share of the songs that the figures are of, where DATA have no split (default: 0.5)",
    )


def run(args: argparse.Namespace) -> int:
    """Calibrates, prints what it changes, and writes it into the model's folder."""
    from hf_mathrock.evaluation.calibrating import calibrate_labelled, check_empty, write_calibrated
    from hf_mathrock.evaluation.calibration import parsed_rule
    from hf_mathrock.zoo import EMBEDDED

    source = resolve(args.model)
    _check(args, Path(source), parsed_rule)
    if args.out is None:
        if args.model in EMBEDDED or not Path(source).is_dir():
            raise UsageError(f"{args.model} is not yours to change; give a folder for a calibrated copy: --out DIR")
        say(f"{source} is calibrated in place: its config.json is changed, its weights are not (a copy: --out DIR)")
    elif not _same(args.out, Path(source)):
        try:
            check_empty(args.out)
        except ValueError as error:
            raise UsageError(f"--out: {error}") from error
    pipe = open_model(args)
    data = open_data(args, pipe)
    with ProgressBar("listening", total=None) as bar:
        found = calibrate_labelled(
            pipe,
            data,
            provenance=read_provenance(args.model),
            earlier=read_beside(args.model, "calibration.json"),
            rule=args.rule,
            report_share=args.report_share,
            seed=args.seed,
            batch_size=args.batch_size,
            max_broken=args.max_broken,
            progress=bar.advance_to,
        )
    for line in found.remarks:
        say(line)
    from hf_mathrock.report.scores import print_calibration

    print_calibration(found.record["tasks"], results_console())
    beside = {name: read_beside(args.model, name) for name in ("training_songs.json", "recipe.json")}
    folder = write_calibrated(found, pipe, source, args.out, beside)
    say(f"wrote temperatures and thresholds into {folder / 'config.json'}, and {folder / 'calibration.json'}")
    if (folder / "results.json").is_file():
        say(f"{folder / 'results.json'} was measured before this: run hf-mathrock evaluate anew")
    return 0


def _check(args: argparse.Namespace, source: Path, parsed_rule: Any) -> None:
    try:
        parsed_rule(args.rule)
    except ValueError as error:
        raise UsageError(f"--rule: {error}") from error
    if not args.report_share < 1:
        raise UsageError(f"--report-share is {args.report_share:g}; it must lie between 0 and 1")


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.resolve() == other.resolve()
