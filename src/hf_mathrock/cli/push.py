# SPDX-License-Identifier: Apache-2.0
"""Publish a model on the Hub with its code, card, figures and an example; --dry-run builds the folder only."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from hf_mathrock.cli.terminal import UsageError, say

SUMMARY = "publish a model on the Hub, or build the folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `hf-mathrock push`."""
    unset = argparse.SUPPRESS
    parser.add_argument("model", metavar="MODEL", help="folder of a checkpoint or of a run, or name of one inside")
    parser.add_argument("--repo", required=True, metavar="OWNER/NAME", help="where it goes on the Hub")
    parser.add_argument(
        "--dry-run",
        type=Path,
        default=unset,
        metavar="OUT",
        help="build the folder here and send nothing; needs no network",
    )
    parser.add_argument("--private", action="store_true", help="for your eyes only")
    parser.add_argument("--revision", "--branch", default="main", metavar="BRANCH", help="branch (default: main)")
    parser.add_argument(
        "--create-pr", action="store_true", help="open a pull request, where you may not write to the repository"
    )
    parser.add_argument("--message", default="Publish with hf-mathrock", help="message of the commit")
    parser.add_argument(
        "--licence", "--license", default=unset, metavar="ID", help="of the weights, e.g. apache-2.0 or cc-by-4.0"
    )
    parser.add_argument(
        "--licence-link",
        "--license-link",
        default=unset,
        metavar="URL",
        help="where a licence unknown to the Hub is",
    )
    parser.add_argument(
        "--card",
        type=Path,
        default=unset,
        metavar="FILE.yaml",
        help="what only you know: summary, training_data, labels, limits, authors, citation, datasets",
    )
    parser.add_argument(
        "--results", type=Path, default=unset, metavar="FILE.json", help="figures (default: results.json of MODEL)"
    )
    parser.add_argument(
        "--example", type=Path, default=unset, metavar="CLIP", help="clip of at most 1 MB (default: a generated one)"
    )


def run(args: argparse.Namespace) -> int:
    """Builds the folder, and sends it unless this is a dry run."""
    import tempfile

    from hf_mathrock.cli.terminal import quieten_libraries

    quieten_libraries(args.debug)
    from hf_mathrock.publishing import check_login, push

    out = getattr(args, "dry_run", None)
    if out is not None:
        built = _assemble(args, out)
        _tell(built)
        print(f"{out}: {len(built.files)} files, {sum(built.files.values()) / 1e6:.1f} MB; nothing was sent")
        return 0
    check_login()
    if not sys.stderr.isatty():
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        built = _assemble(args, Path(folder) / "repository")
        _tell(built)
        pushed = push(
            built.folder,
            args.repo,
            private=args.private,
            revision=args.revision,
            message=args.message,
            create_pr=args.create_pr,
        )
    for name in pushed.removed:
        say(f"removed {name}, which was of an earlier push")
    print(f"{args.repo}: {pushed.num_files} files, {sum(built.files.values()) / 1e6:.1f} MB -> {pushed.url}")
    print(f'  pipeline("{built.task}", model="{args.repo}", revision="{pushed.commit}", trust_remote_code=True)')
    return 0


def _assemble(args: argparse.Namespace, out: Path) -> Any:
    from hf_mathrock.model_card.facts import read_facts
    from hf_mathrock.publishing import assemble

    facts = read_facts(args.card) if hasattr(args, "card") else {}
    facts |= {name: getattr(args, name) for name in ("licence", "licence_link") if hasattr(args, name)}
    try:
        return assemble(
            args.model,
            out,
            repo=args.repo,
            facts=facts,
            results=getattr(args, "results", None),
            example=getattr(args, "example", None),
        )
    except FileNotFoundError as error:
        raise UsageError(str(error)) from error


def _tell(built: Any) -> None:
    width = max(map(len, built.files))
    for name, size in built.files.items():
        print(f"  {name:{width}}  {size:>12,}")
    for note in built.notes:
        say(f"note: {note}")
