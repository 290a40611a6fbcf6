# SPDX-License-Identifier: Apache-2.0
"""Tag songs: what they feel like, as a table, as JSON and as pictures over time."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain, count
from pathlib import Path
from typing import Any

from hf_mathrock.cli.checkpoint import load_pipeline
from hf_mathrock.cli.terminal import (
    ProgressBar,
    UsageError,
    positive_float,
    positive_int,
    probability,
    results_console,
    say,
)
from hf_mathrock.library.tagging import describe
from hf_mathrock.report.results import task_names

SUMMARY = "tag songs with emotion, vibe, intensity and tempo, or a tagger's tags"
# Options that go to the pipeline under their own names.
PIPELINE_OPTIONS = frozenset(
    ["top_k", "threshold", "window_seconds", "hop_seconds", "aggregation", "tasks", "batch_size", "device"]
)

# Pictures that an option draws, and what its files are called after the clip's.
PICTURES = {"timeline": "", "taggram": ".taggram"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `hf-mathrock tag`."""
    unset: dict[str, Any] = {"default": argparse.SUPPRESS}  # the model's own value is used
    parser.add_argument("paths", nargs="+", metavar="PATH", help="audio file, or folder to search for audio")
    parser.add_argument("--model", help="folder or Hub name of a checkpoint (default: the one inside)", **unset)
    output = parser.add_argument_group("output")
    output.add_argument("--out", type=Path, metavar="DIR", help="write tags.json into this folder", **unset)
    output.add_argument("--timeline", action="store_true", help="draw every task of each clip into --out")
    output.add_argument("--taggram", action="store_true", help="draw the leading tags of each clip into --out")
    output.add_argument("--segments", action="store_true", help="keep the scores of every window in the JSON")
    output.add_argument("--json", action="store_true", help="print one line of JSON per file instead of the table")
    output.add_argument("--top-k", type=positive_int, metavar="N", help="keep the N best labels of each task", **unset)
    how = parser.add_argument_group("how to listen")
    how.add_argument("--tasks", nargs="+", metavar="TASK", help="only these tasks, e.g. emotion tempo", **unset)
    how.add_argument("--threshold", type=probability, metavar="X", help="score that makes a label active", **unset)
    how.add_argument("--window-seconds", type=positive_float, metavar="S", help="length of a window", **unset)
    how.add_argument("--hop-seconds", type=positive_float, metavar="S", help="distance of two windows", **unset)
    how.add_argument(
        "--aggregation", choices=("mean", "max", "vote", "mean_logit"), help="from windows to the song", **unset
    )
    how.add_argument("--batch-size", type=positive_int, metavar="N", help="windows in one forward pass", **unset)
    how.add_argument("--device", help="where the model runs, e.g. cpu, cuda:0, mps", **unset)


def run(args: argparse.Namespace) -> int:
    """Tags the files and returns 1 if any of them failed."""
    from hf_mathrock.library.scan import scan
    from hf_mathrock.library.tagging import RecordWriter, tag_files
    from hf_mathrock.report.table import print_table

    folder: Path | None = getattr(args, "out", None)
    pictures = [kind for kind in PICTURES if getattr(args, kind)]
    if folder is None and pictures:
        raise UsageError(f"--{pictures[0]} draws pictures and needs a folder for them: add --out DIR")
    if folder is None and args.segments and not args.json:
        raise UsageError("the table has no room for --segments: add --json or --out DIR")

    found = scan(args.paths)
    listed: list[dict[str, Any]] = []
    taken: set[str] = set()
    drawn: Counter[str] = Counter()
    num_failed = 0
    with ExitStack() as stack:
        writer = stack.enter_context(RecordWriter(folder / "tags.json")) if folder else None
        bar = stack.enter_context(ProgressBar("loading the model", total=len(found.files)))
        refused = ({"file": str(path), "error": error} for path, error in found.errors.items())
        tagged = tag_files(_load(args), bar.follow(found.files)) if found.files else ()
        for record in chain(refused, tagged):
            problem = record.get("error")
            problems = [] if problem is None else [problem]
            if problem is None and folder:
                problems = _draw(pictures, record, folder, taken, getattr(args, "top_k", None))
                drawn.update(kind for kind in pictures if kind in record)
            num_failed += bool(problems)
            for said in problems:
                # Most messages name the file; a line that does not would be of no use among many.
                bar.say(f"error: {said}" if record["file"] in said else f"error: {record['file']}: {said}")
            if pictures and problem is None and "top_k" in args:
                _cut_short(record, args.top_k)
            if not args.segments:
                record.pop("segments", None)
            if writer:
                writer.write(record)
            if args.json:
                print(json.dumps(record, allow_nan=False), flush=True)
            else:
                listed.append({key: value for key, value in record.items() if key != "segments"})
    if listed:
        print_table(listed, results_console(), num_labels=getattr(args, "top_k", 3))
    if folder:
        say(" and ".join([f"wrote {folder / 'tags.json'}", *(f"{number} {kind}(s)" for kind, number in drawn.items())]))
    if num_failed:
        say(f"{num_failed} of {len(found.files) + len(found.errors)} failed")
    return 1 if num_failed else 0


def _load(args: argparse.Namespace) -> Any:
    options = {name: value for name, value in vars(args).items() if name in PIPELINE_OPTIONS}
    drawing = any(getattr(args, kind) for kind in PICTURES)
    options["return_segments"] = args.segments or drawing
    if drawing:
        options.pop("top_k", None)  # a picture shows a label also where it is not among the best
    return load_pipeline(getattr(args, "model", None), options, debug=args.debug)


def _draw(kinds: Sequence[str], record: dict[str, Any], folder: Path, taken: set[str], top_k: int | None) -> list[str]:
    """Draws a clip's pictures, notes their names in the record, and returns what went wrong, if anything did."""
    envelope = None
    problems = []
    for kind in kinds:
        stem = Path(record["file"]).stem + PICTURES[kind]
        # Numbered where names repeat; compared without case, since some file systems ignore it.
        names = chain([f"{stem}.png"], (f"{stem}-{number}.png" for number in count(2)))
        name = next(name for name in names if name.casefold() not in taken)
        taken.add(name.casefold())
        try:
            from hf_mathrock.library.envelope import read_envelope
            from hf_mathrock.report.taggram import MAX_ROWS, draw_taggram
            from hf_mathrock.report.timeline import draw_timeline

            envelope = envelope or read_envelope(record["file"])
            if kind == "taggram":
                draw_taggram(record, envelope, folder / name, max_rows=top_k or MAX_ROWS)
            else:
                draw_timeline(record, envelope, folder / name)
        except Exception as error:  # whatever it is, a picture is no reason to lose tags
            problems.append(f"no {kind} of {record['file']}: {describe(error)}")
        else:
            record[kind] = name
    return problems


def _cut_short(record: dict[str, Any], top_k: int) -> None:
    """What the pipeline does with `top_k`, done to a result that was drawn in full."""
    for part in (record, *record["segments"]):
        for task in task_names(part):
            if isinstance(part[task], list):
                part[task] = part[task][:top_k]
    record["settings"]["top_k"] = top_k
