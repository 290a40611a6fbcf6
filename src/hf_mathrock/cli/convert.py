# SPDX-License-Identifier: Apache-2.0
"""Convert a checkpoint of another project into a folder that `from_pretrained` loads."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "convert a checkpoint of another project"

# Options of each format, as arguments of its function.
_OPTIONS = {"mathrock": ("wavlm_config", "clap_config"), "musicnn": ("tags",)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `hf-mathrock convert`."""
    unset = argparse.SUPPRESS
    parser.add_argument("format", choices=tuple(_OPTIONS), help="project that the checkpoint comes from")
    parser.add_argument(
        "source",
        type=Path,
        metavar="CHECKPOINT",
        help="mathrock: its model.pth; musicnn: the folder of a TensorFlow checkpoint such as MTT_musicnn, a Keras .h5 "
        "or a .safetensors with the same names and shapes",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the result")
    parser.add_argument(
        "--wavlm-config",
        type=Path,
        default=unset,
        metavar="FILE",
        help="mathrock: config of its WavLM (default: WavLM-base)",
    )
    parser.add_argument(
        "--clap-config",
        type=Path,
        default=unset,
        metavar="FILE",
        help="mathrock: config of its CLAP tower (default: HTSAT-unfused)",
    )
    parser.add_argument(
        "--tags",
        default=unset,
        metavar="MTT|MSD|FILE",
        help="musicnn: what its outputs stand for, a published list or a file with a tag a line (default: known for "
        "published weights, else from the name of CHECKPOINT)",
    )


def run(args: argparse.Namespace) -> int:
    """Converts, and prints what was converted."""
    from hf_mathrock.cli.terminal import UsageError, quieten_libraries

    for other, options in _OPTIONS.items():
        for name in options:
            if other != args.format and hasattr(args, name):
                raise UsageError(f"--{name.replace('_', '-')} is for {other}, not for {args.format}")
    given = {name: getattr(args, name, None) for name in _OPTIONS[args.format]}
    quieten_libraries(args.debug)
    if args.format == "mathrock":
        from hf_mathrock.conversion.mathrock import convert_checkpoint as convert
    else:
        from hf_mathrock.conversion.musicnn import convert_musicnn as convert  # type: ignore[assignment]

    report = convert(args.source, args.out, **given)
    print(f"{report.source}: {report.num_tensors} tensors, {report.num_parameters:,} parameters -> {report.out}")
    for note in report.notes:
        print(f"  {note}")
    return 0
