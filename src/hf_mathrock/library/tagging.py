# SPDX-License-Identifier: Apache-2.0
"""Files in, one record per file out, and the records on disk."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

Record = dict[str, Any]

logger = logging.getLogger(__name__)


def tag_files(pipe: Callable[..., Record], files: Iterable[str | os.PathLike[str]], **options: Any) -> Iterator[Record]:
    """Tags files one after another and lets no file take the others with it.

    Args:
        pipe: A `mathrock-affect` pipeline, or anything that is called with a path and returns one result.
        files: Audio files. A generator is read as the tagging goes on.
        **options: Passed to every call of `pipe`.

    Yields:
        Per file, in order, the pipeline's result with `file` as it was given, or `{"file": ..., "error": "one line"}`.

    Example:
        >>> list(tag_files(lambda path: {"duration": 3.0}, ["song.mp3"]))
        [{'file': 'song.mp3', 'duration': 3.0}]
    """
    for file in files:
        name = os.fspath(file)
        try:
            result = pipe(name, **options)
        except Exception as error:
            # A library of ten thousand files meets failures nobody foresaw; the one of this file is told and kept.
            logger.debug("%s failed", name, exc_info=True)
            yield {"file": name, "error": describe(error)}
        else:
            yield {"file": name, **{key: value for key, value in result.items() if key != "file"}}


def describe(error: BaseException) -> str:
    """Puts an exception into one line; the type is named unless the message was written for the user."""
    message = " ".join(str(error).split())
    if isinstance(error, (ValueError, OSError)) and message:
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


class RecordWriter:
    """Writes records to a file that is there whole or not at all.

    Records go to a temporary neighbour as they come, which takes the file's name when the `with` block is left, on an
    exception or Ctrl-C too: what was finished is kept, and the file is valid JSON at every moment.

    Args:
        path: `*.jsonl` gets one record per line, any other name one JSON array with a label per line.

    Raises:
        OSError: The folder cannot be made or written.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.num_records = 0
        self._lines = self.path.suffix == ".jsonl"
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self._file: TextIO

    def __enter__(self) -> RecordWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._temporary, "w", encoding="utf-8", newline="\n")  # noqa: SIM115 - closed by __exit__
        return self

    def write(self, record: Record) -> None:
        """Appends a record.

        Raises:
            ValueError: The record holds a number that JSON has no word for (NaN, infinity); nothing was written.
        """
        text = to_json(record) if self._lines else to_json(record, indent="  ")
        if not self._lines:
            text = (",\n  " if self.num_records else "[\n  ") + text
        self._file.write(text + "\n" * self._lines)
        self.num_records += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            with self._file:
                if not self._lines:
                    self._file.write("\n]\n" if self.num_records else "[]\n")
                self._file.flush()
                os.fsync(self._file.fileno())
            # A run that failed before its first record leaves an earlier file alone.
            if error is None or self.num_records:
                os.replace(self._temporary, self.path)
        finally:
            self._temporary.unlink(missing_ok=True)


def to_json(value: Any, indent: str | None = None) -> str:
    """Serialises plain types as strict JSON.

    Args:
        value: Dictionaries, lists, strings, numbers, booleans and None.
        indent: What stands before the lines inside `value`, or `None` for a single line. Containers of scalars stay on
            one line, so that a label and its score read as one.

    Raises:
        ValueError: NaN or infinity, which JSON does not have.
    """
    children = list(value.values() if isinstance(value, dict) else value) if isinstance(value, (dict, list)) else []
    if indent is None or not any(isinstance(child, (dict, list)) for child in children):
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        # A file name may hold bytes that are not UTF-8: their escapes are valid JSON, their characters are not.
        return text if text.isascii() or _encodable(text) else json.dumps(value, allow_nan=False)
    deeper = indent + "  "
    if isinstance(value, dict):
        parts = [f"{to_json(str(key))}: {to_json(child, deeper)}" for key, child in value.items()]
    else:
        parts = [to_json(child, deeper) for child in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{deeper}" + f",\n{deeper}".join(parts) + f"\n{indent}{closing}"


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
