# SPDX-License-Identifier: Apache-2.0
"""Convert a checkpoint of another project into a folder that `from_pretrained` loads."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "convert a checkpoint of another project"

# Options of each format, as arguments of its function.
_OPTIONS = {
    "mathrock": ("wavlm_config", "clap_config"),
    "musicnn": ("tags",),
    "myna": ("patch_sizes", "positions", "front_end", "keep_head"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `hf-mathrock convert`."""
    unset = argparse.SUPPRESS
    parser.add_argument("format", choices=tuple(_OPTIONS), help="project that the checkpoint comes from")
    parser.add_argument(
        "source",
        type=Path,
        metavar="CHECKPOINT",
        help="mathrock: its model.pth; musicnn: the folder of a TensorFlow checkpoint such as MTT_musicnn, a Keras .h5 "
        "or a .safetensors with the same names and shapes; myna: the .safetensors, .bin or .pt of myna-base, "
        "-vertical, -hybrid or -85m, or the folder it lies in",
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
    parser.add_argument(
        "--patch-sizes",
        type=_patch_size,
        nargs="+",
        default=unset,
        metavar="BINSxFRAMES",
        help="myna: of the patches, 16x16 or 128x2; both for a hybrid (default: known of hybrids, else from "
        "config.json or the name of CHECKPOINT)",
    )
    parser.add_argument(
        "--positions",
        choices=("sincos_2d", "none", "alibi_1d", "alibi_2d"),
        default=unset,
        help="myna: how tokens know where they are (default: sincos_2d; of checkpoints with a class token: none)",
    )
    parser.add_argument(
        "--front-end",
        choices=("myna", "rpe-44k", "default"),
        default=unset,
        help="myna: what it was trained on (default: myna; of checkpoints with a class token: rpe-44k)",
    )
    parser.add_argument(
        "--keep-head",
        action="store_true",
        default=unset,
        help="myna: keep its linear_head, to train on from",
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
    elif args.format == "musicnn":
        from hf_mathrock.conversion.musicnn import convert_musicnn as convert  # type: ignore[assignment]
    else:
        from hf_mathrock.conversion.myna import convert_myna as convert  # type: ignore[assignment]

    report = convert(args.source, args.out, **given)
    print(f"{report.source}: {report.num_tensors} tensors, {report.num_parameters:,} parameters -> {report.out}")
    for note in report.notes:
        print(f"  {note}")
    return 0


def _patch_size(text: str) -> tuple[int, int]:
    """Bins and frames of a "16x16"."""
    bins, _, frames = text.partition("x")
    if not (bins.isdecimal() and frames.isdecimal() and int(bins) and int(frames)):
        raise argparse.ArgumentTypeError(f"{text!r} is no patch size; write bins and frames, such as 16x16")
    return int(bins), int(frames)
