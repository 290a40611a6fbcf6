# SPDX-License-Identifier: Apache-2.0
"""Explain tags: where in a song, and at which frequencies, the model found what speaks for them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hf_mathrock.cli.checkpoint import load_pipeline
from hf_mathrock.cli.terminal import ProgressBar, UsageError, positive_float, positive_int, say, seconds

SUMMARY = "show where in a song the evidence for its tags lies"
# Options that go to `explain` under their own names.
EXPLAIN_OPTIONS = frozenset(
    ["top_k", "task", "method", "start", "whole", "width", "step", "bands", "baseline", "batch_size"]
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `hf-mathrock explain`."""
    unset: dict[str, Any] = {"default": argparse.SUPPRESS}  # the function's own value is used
    parser.add_argument("path", metavar="PATH", help="audio file")
    parser.add_argument("--model", help="folder or Hub name of a checkpoint (default: the one inside)", **unset)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", required=True, help="write explanation.json and explanation.png here"
    )
    what = parser.add_argument_group("what to explain")
    what.add_argument("--tags", nargs="+", metavar="TAG", help="these tags, as TAG or TASK/TAG", **unset)
    what.add_argument("--top-k", type=positive_int, metavar="N", help="else the N most probable ones (5)", **unset)
    what.add_argument("--task", help="the task that these come from (the first with several labels at once)", **unset)
    where = what.add_mutually_exclusive_group()
    where.add_argument(
        "--start", type=seconds, metavar="S", help="the window from here (default: where the tags score best)", **unset
    )
    where.add_argument("--whole", action="store_true", help="all windows of the song", **unset)
    how = parser.add_argument_group("how")
    how.add_argument("--method", choices=("auto", "contribution", "occlusion"), help="default: auto", **unset)
    how.add_argument(
        "--width", type=positive_float, metavar="S", help="length of what is taken away at a time", **unset
    )
    how.add_argument("--step", type=positive_float, metavar="S", help="distance of two such stretches", **unset)
    how.add_argument("--bands", type=positive_int, metavar="N", help="also take away N bands of frequencies", **unset)
    how.add_argument("--baseline", choices=("noise", "silence", "surroundings"), help="what stands in for it", **unset)
    how.add_argument("--batch-size", type=positive_int, metavar="N", help="windows in one forward pass", **unset)
    how.add_argument("--device", help="where the model runs, e.g. cpu, cuda:0, mps", **unset)


def run(args: argparse.Namespace) -> int:
    """Writes the explanation, and says in a line where each tag's evidence is."""
    given = vars(args)
    if "tags" in given and ("top_k" in given or "task" in given):
        raise UsageError("--tags names what to explain; --top-k and --task choose it: give one of the two")
    device = {"device": args.device} if "device" in given else {}
    with ProgressBar("loading the model", total=None) as bar:
        pipe = load_pipeline(given.get("model"), device, debug=args.debug)

        from hf_mathrock.explanation import explain
        from hf_mathrock.library.envelope import read_envelope, read_excerpt_envelope
        from hf_mathrock.library.tagging import to_json
        from hf_mathrock.report.explanation import draw_explanation

        options = {name: value for name, value in given.items() if name in EXPLAIN_OPTIONS}
        explanation = explain(pipe, args.path, given.get("tags"), report_progress=bar.advance_to, **options)
        record = explanation.to_dict()
        if explanation.settings["whole"]:
            envelope = read_envelope(args.path)
        else:
            envelope = read_excerpt_envelope(args.path, explanation.start, explanation.end)
        args.out.mkdir(parents=True, exist_ok=True)
        draw_explanation(record, envelope, args.out / "explanation.png")
        (args.out / "explanation.json").write_text(to_json(record, indent="") + "\n", encoding="utf-8")
    for line in _summary(record):
        print(line)
    say(f"wrote {args.out / 'explanation.json'} and explanation.png")
    return 0


def _summary(record: dict[str, Any]) -> list[str]:
    """A line per tag: its probability and the stretch that speaks most for it."""
    width = max(len(label) for label in record["labels"])
    sign = "+" if record["method"] == "occlusion" else ""  # a change of the probability, or one of its own
    lines = []
    for label, probability, values in zip(record["labels"], record["probabilities"], record["values"], strict=True):
        most = max(range(len(values)), key=values.__getitem__)
        time = record["times"][most]
        value = f"{round(values[most], 2) + 0.0:{sign}.2f}"  # adding zero turns -0.0 into 0.0
        lines.append(f"{label:{width}}  {probability:.2f}  most at {time['start']:.1f}-{time['end']:.1f} s ({value})")
    return lines
