# SPDX-License-Identifier: Apache-2.0
"""Train a model as a recipe says, and print the figures it reached."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from hf_mathrock.cli.terminal import ProgressBar, UsageError, quieten_libraries, show_own_warnings

SUMMARY = "train a model from a recipe"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `hf-mathrock train`."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE.yaml", help="names the model, the data and the protocol")
    parser.add_argument(
        "--out",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="DIR",
        help="folder for the model (default: runs/ and the recipe's name)",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change values of the recipe, e.g. training.num_train_epochs=2",
    )

    unset = argparse.SUPPRESS
    parser.add_argument(
        "--data",
        default=unset,
        metavar="SOURCE",
        help="your recordings, labelled or for pretraining just a folder: data.source",
    )
    parser.add_argument(
        "--new-heads", action="store_true", help="give the model heads for the labels of the data, whatever it had"
    )
    parser.add_argument("--resume", action="store_true", help="go on with an unfinished run")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default=unset, help="where to train (default: what there is)"
    )


def run(args: argparse.Namespace) -> int:
    """Trains, and prints the metrics as JSON."""
    overrides = dict(map(_assignment, args.overrides))
    if hasattr(args, "data"):
        overrides["data.source"] = args.data
    if args.new_heads:
        overrides["model.new_heads"] = True
    quieten_libraries(args.debug)
    show_own_warnings()
    from hf_mathrock.training.recipe import run_recipe

    # The trainer has a bar of its own, so this one is on the screen only while windows or spectrograms are made.
    with ProgressBar("reading music", total=None) as bar:
        metrics = run_recipe(
            args.recipe,
            output_dir=getattr(args, "out", None),
            overrides=overrides,
            resume=args.resume,
            device=getattr(args, "device", None),
            progress=bar.show_while_busy,
        )
    if os.environ.get("RANK", "0") == "0":  # under torchrun one process speaks for all
        print(json.dumps(metrics, indent=2, default=float))
    return 0


def _assignment(text: str) -> tuple[str, Any]:
    import yaml

    from hf_mathrock.training.yaml_values import read_yaml

    key, sign, value = text.partition("=")
    if not (key and sign):
        raise UsageError(f"--set {text!r} is no KEY=VALUE")
    try:
        return key, read_yaml(value)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {key}: {value!r} is no YAML value") from error
