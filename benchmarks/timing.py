# SPDX-License-Identifier: Apache-2.0
"""Fair timing: competitors take turns, and the time of a run is split between the functions it passes through."""

from __future__ import annotations

import functools
import inspect
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

REST = "the rest"


@dataclass(frozen=True)
class Stage:
    """A function whose time is told apart: `owner.attribute`, a plain function, method or generator."""

    name: str
    owner: Any
    attribute: str


def run_in_stages(function: Callable[[], object], stages: Sequence[Stage]) -> dict[str, float]:
    """Call a function and see where its time goes.

    Each moment counts for the innermost stage at work, and for `REST` outside all of them, so the parts sum to the
    whole. A generator counts while it works on its next item, not while its consumer does.

    Args:
        function: What to time.
        stages: Several may share a name.

    Returns:
        Seconds per stage, in order, `REST` last.
    """
    seconds = dict.fromkeys([*(stage.name for stage in stages), REST], 0.0)
    at_work = [REST]
    since = time.perf_counter()

    def charge() -> None:
        nonlocal since
        now = time.perf_counter()
        seconds[at_work[-1]] += now - since
        since = now

    @contextmanager
    def inside(name: str) -> Iterator[None]:
        charge()
        at_work.append(name)
        try:
            yield
        finally:
            charge()
            at_work.pop()

    def timed(original: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            with inside(name):
                return original(*args, **kwargs)

        @functools.wraps(original)
        def generate(*args: Any, **kwargs: Any) -> Iterator[Any]:
            items, end = original(*args, **kwargs), object()
            while True:
                with inside(name):
                    item = next(items, end)
                if item is end:
                    return
                yield item

        return generate if inspect.isgeneratorfunction(original) else call

    with ExitStack() as patches:
        for stage in stages:
            original = getattr(stage.owner, stage.attribute)
            patches.enter_context(mock.patch.object(stage.owner, stage.attribute, timed(original, stage.name)))
        charge()
        seconds[REST] = 0.0  # that was the patching
        function()
        charge()
    return seconds


def take_turns(
    competitors: Mapping[str, Callable[[], dict[str, float]]], num_rounds: int
) -> dict[str, list[dict[str, float]]]:
    """Run every competitor once to warm up, then once a round.

    The order is reversed every other round, so that a machine that slows down or speeds up favours none.

    Args:
        competitors: Name to a function that returns its own seconds per stage.
        num_rounds: How many measured runs each has.

    Returns:
        Per competitor the seconds per stage of every measured run.
    """
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in competitors}
    for run in competitors.values():
        run()
    for number in range(num_rounds):
        for name in list(competitors)[:: -1 if number % 2 else 1]:
            runs[name].append(competitors[name]())
    return runs


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median, fastest and slowest of several runs."""
    return {"median": statistics.median(seconds), "min": min(seconds), "max": max(seconds)}


def summarise_runs(runs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """`summary` of whole runs, and the median of each of their stages."""
    return {
        **summary([sum(run.values()) for run in runs]),
        "stages": {name: statistics.median(run[name] for run in runs) for name in runs[0]},
    }


def run_python(*arguments: str) -> tuple[float, str]:
    """Run a fresh Python process with these arguments.

    Args:
        *arguments: Those of the interpreter.

    Returns:
        Wall-clock seconds of the whole process, and what it wrote on stdout.

    Raises:
        RuntimeError: It failed; the message ends with what it wrote on stderr.
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}  # there is nothing to fetch, and waiting for a hub is no work
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"python {' '.join(arguments[:2])} … exited with {done.returncode}: {done.stderr[-2000:]}")
    return seconds, done.stdout


def last_json_line(output: str) -> dict[str, Any]:
    """What a child process reports on its last line."""
    return json.loads(output.strip().splitlines()[-1])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are aligned right."""
    rule = [":---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))


def spread(result: Mapping[str, float], digits: int = 2) -> str:
    """`median (min–max)` in seconds."""
    return f"{result['median']:.{digits}f} s ({result['min']:.{digits}f}–{result['max']:.{digits}f})"
