# SPDX-License-Identifier: Apache-2.0
"""How the commands speak: results on stdout, everything else on stderr, one line per problem."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


class UsageError(ValueError):
    """The command line asks for something that cannot be; ends the command with exit code 2."""


def say(line: str) -> None:
    """Prints a line on stderr."""
    print(line, file=sys.stderr)


def results_console() -> Console:
    """Makes the console that results are printed on."""
    from rich.console import Console

    class ResultsConsole(Console):
        def on_broken_pipe(self) -> None:
            # rich would leave with exit code 1; `main` knows what a reader that has gone means.
            raise BrokenPipeError

    return ResultsConsole(highlight=False)


def quieten_libraries(debug: bool) -> None:
    """Keeps the remarks of transformers and others off the screen, unless the user is looking for a fault.

    Must be called before a model is loaded.
    """
    import logging
    import warnings

    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as transformers_logging

    if debug:
        logging.basicConfig(level=logging.INFO)
        logging.getLogger("hf_mathrock").setLevel(logging.DEBUG)
        return
    warnings.simplefilter("ignore")
    transformers_logging.set_verbosity_error()
    hub_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def show_own_warnings() -> None:
    """Prints what this package warns of, a line each and each once; call it after `quieten_libraries`."""
    import warnings

    shown: set[str] = set()

    def show(message, category, filename, lineno, file=None, line=None):
        text = " ".join(str(message).split())
        if text not in shown:
            shown.add(text)
            say(f"warning: {text}")

    # Not "once": Python forgets what it has shown whenever somebody changes a filter, as every `catch_warnings` does.
    warnings.filterwarnings("always", module=r"hf_mathrock\.")
    warnings.showwarning = show


class ProgressBar:
    """A bar on stderr that stays away when stderr is no terminal; `say` prints above it."""

    def __init__(self, label: str, total: int | None):
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(label, total=total)

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def follow(self, items: Sequence[Path]) -> Iterator[Path]:
        """Yields the items, showing the name of the one at work and how many are behind it."""
        for done, item in enumerate(items):
            self._progress.update(self._task, description=item.name, completed=done)
            yield item

    def show(self, label: str, done: int) -> None:
        """Sets what is at work, and how much is done."""
        self._progress.update(self._task, description=label, completed=done)

    def advance(self, label: str, done: int, total: int) -> None:
        """Sets what is at work, how much of it is done, and of how much."""
        self._progress.update(self._task, description=label, completed=done, total=total)

    def advance_to(self, done: int, total: int | None = None) -> None:
        """Sets how much is done."""
        self._progress.update(self._task, completed=done, total=total)

    def show_while_busy(self, done: int, total: int) -> None:
        """Sets how much is done, and leaves the terminal to others once that is all."""
        self.advance_to(done, total)
        if done < total:
            self._progress.start()
        else:
            self._progress.stop()

    def say(self, line: str) -> None:
        """Prints a line on stderr above the bar."""
        self._progress.console.print(line, markup=False, soft_wrap=True)


# Types of arguments. argparse shows their error messages.


def positive_int(text: str) -> int:
    """Reads a whole number above 0."""
    with contextlib.suppress(ValueError):
        if (value := int(text)) > 0:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")


def whole_number(text: str) -> int:
    """Reads a whole number from 0 on."""
    with contextlib.suppress(ValueError):
        if (value := int(text)) >= 0:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")


def positive_float(text: str) -> float:
    """Reads a finite number above 0."""
    with contextlib.suppress(ValueError):
        if 0 < (value := float(text)) < math.inf:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")


def seconds(text: str) -> float:
    """Reads a finite number from 0 on."""
    with contextlib.suppress(ValueError):
        if 0 <= (value := float(text)) < math.inf:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 on")


def probability(text: str) -> float:
    """Reads a number between 0 and 1."""
    with contextlib.suppress(ValueError):
        if 0 <= (value := float(text)) <= 1:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
