# SPDX-License-Identifier: Apache-2.0
"""Compose and render music with exact labels, as a folder that `datasets` loads as `audiofolder`."""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_mathrock.cli.terminal import ProgressBar, positive_float, positive_int, say

SUMMARY = "make a corpus of generated music with exact labels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `hf-mathrock synthesize`."""
    parser.add_argument(
        "--num", type=positive_int, default=500, metavar="N", help="how many pieces (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the corpus")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same samples (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=positive_float, default=30.0, metavar="S", help="length of a piece (default: %(default)s)"
    )
    parser.add_argument(
        "--sampling-rate", type=positive_int, default=44_100, metavar="HZ", help="of the files (default: %(default)s)"
    )
    parser.add_argument(
        "--format", choices=("flac", "wav", "ogg", "mp3"), default="flac", help="of the files (default: %(default)s)"
    )
    parser.add_argument("--num-workers", type=positive_int, metavar="N", help="processes at work (default: one a core)")


def run(args: argparse.Namespace) -> int:
    """Writes the corpus."""
    from hf_mathrock.synthesis.corpus import write_corpus

    with ProgressBar("composing and rendering", total=args.num) as bar:
        write_corpus(
            args.out,
            args.num,
            seed=args.seed,
            seconds=args.seconds,
            sampling_rate=args.sampling_rate,
            audio_format=args.format,
            num_workers=args.num_workers,
            progress=bar.advance_to,
        )
    say(f"wrote {args.num} pieces into {args.out}")
    return 0
