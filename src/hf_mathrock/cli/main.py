# SPDX-License-Identifier: Apache-2.0
"""Entry point of `hf-mathrock`.

Only the standard library is imported before a command runs, so that help and usage errors come at once.
"""

from __future__ import annotations

import argparse
import difflib
import io
import os
import sys
import traceback
from collections.abc import Sequence

from hf_mathrock.cli import (
    calibrate,
    convert,
    embed,
    evaluate,
    explain,
    info,
    playlist,
    probe,
    push,
    synthesize,
    tag,
    train,
)
from hf_mathrock.cli.terminal import UsageError, say
from hf_mathrock.library.tagging import describe
from hf_mathrock.training.disk import disk_errno

COMMANDS = {
    "tag": tag,
    "explain": explain,
    "embed": embed,
    "playlist": playlist,
    "train": train,
    "evaluate": evaluate,
    "probe": probe,
    "calibrate": calibrate,
    "push": push,
    "synthesize": synthesize,
    "convert": convert,
    "info": info,
}
DISK_FULL = 3  # or read-only, or the quota is used up
INTERRUPTED, BROKEN_PIPE = 130, 141  # 128 + SIGINT, 128 + SIGPIPE, as the shell counts


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `hf-mathrock` and returns its exit code.

    Args:
        arguments: Command line without the program's name; `None` takes that of the process.

    Returns:
        0 if all went well, 1 if any file or the command failed, 2 for a usage error, 3 when the disk takes no more
        (what was finished is intact), 130 after Ctrl-C, 141 when whoever read the output has stopped.

    Raises:
        SystemExit: By argparse, after `--help` and `--version` (0) and for malformed arguments (2).
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file name that the terminal cannot show must not end the run.
            stream.reconfigure(errors="backslashreplace")
    args = _parse(list(sys.argv[1:] if arguments is None else arguments))
    try:
        exit_code = args.run(args)
        sys.stdout.flush()
        return exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes stdout once more on its way out; that must not fail either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        if args.debug:
            traceback.print_exc()
        if isinstance(error, ImportError) and not (error.name or "").startswith("hf_mathrock"):
            say(f"error: {_with_remedy(error)}")
            return 1
        say(f"error: {describe(error)}")
        if disk_errno(error) is not None:
            return DISK_FULL
        if not isinstance(error, (ValueError, OSError)) and not args.debug:
            say("this looks like a defect; --debug shows where it happened")
        return 2 if isinstance(error, UsageError) else 1


def _with_remedy(error: ImportError) -> str:
    message, remedy = " ".join(str(error).split()), 'pip install "hf-mathrock[train]"'
    return message if "pip install" in message else f"{message}; all that training needs comes with {remedy}"


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="hf-mathrock",
        description="Hears what music feels like: emotion, vibe, intensity and tempo of songs, clip by clip.",
        epilog="hf-mathrock COMMAND --help tells more. First try: hf-mathrock tag song.mp3",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_PrintVersion, nargs=0, help="print the version and exit")
    parser.add_argument("--debug", action="store_true", help="show where an error happened")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(
            name,
            help=command.SUMMARY,
            description=(command.__doc__ or "").splitlines()[0],
            allow_abbrev=False,
        )
        command.add_arguments(subparser)
        subparser.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show where an error happened"
        )
        subparser.set_defaults(run=command.run, parser=subparser)

    word = next((argument for argument in arguments if not argument.startswith("-")), None)
    if word is not None and word not in COMMANDS:
        parser.error(f"there is no command {word!r}{_nearest(word, COMMANDS)}; there is {', '.join(COMMANDS)}")
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        options = [option for action in args.parser._actions for option in action.option_strings]
        args.parser.error(f"unknown argument {unknown[0]}{_nearest(unknown[0].split('=')[0], options)}")
    return args


def _nearest(word: str, known: Sequence[str] | dict) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f", did you mean {near[0]}?" if near else ""


class _PrintVersion(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser, namespace, values, option_string=None):
        from hf_mathrock import __version__

        print(f"hf-mathrock {__version__}")
        parser.exit()
