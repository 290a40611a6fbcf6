# SPDX-License-Identifier: Apache-2.0
"""Convert a checkpoint of another project into a folder that `from_pretrained` loads."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "convert a checkpoint of another project"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `hf-mathrock convert`."""
    unset = argparse.SUPPRESS
    parser.add_argument("format", choices=("mathrock",), help="project that the checkpoint comes from")
    parser.add_argument("source", type=Path, metavar="CHECKPOINT", help="its file, e.g. model.pth")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the result")
    parser.add_argument(
        "--wavlm-config", type=Path, default=unset, metavar="FILE", help="config of its WavLM (default: WavLM-base)"
    )
    parser.add_argument(
        "--clap-config",
        type=Path,
        default=unset,
        metavar="FILE",
        help="config of its CLAP tower (default: HTSAT-unfused)",
    )


def run(args: argparse.Namespace) -> int:
    """Converts, and prints what was converted."""
    from hf_mathrock.cli.terminal import quieten_libraries

    quieten_libraries(args.debug)
    from hf_mathrock.conversion.mathrock import convert_checkpoint

    report = convert_checkpoint(
        args.source,
        args.out,
        wavlm_config=getattr(args, "wavlm_config", None),
        clap_config=getattr(args, "clap_config", None),
    )
    print(f"{report.source}: {report.num_tensors} tensors, {report.num_parameters:,} parameters -> {report.out}")
    for note in report.notes:
        print(f"  {note}")
    return 0
