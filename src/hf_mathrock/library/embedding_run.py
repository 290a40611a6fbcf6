# SPDX-License-Identifier: Apache-2.0
"""Embeddings of a library on disk: Parquet that says in which space they lie, whole at every moment.

A run is a folder of Parquet files, or one Parquet file. While it grows, its songs go to parts, each of which is there
whole or not at all; of a run that is one file the parts lie in a hidden folder beside it until they are put together.
Of a song that stands there more than once the last row counts.

Columns: `file` (as a POSIX path relative to the folder that the run lies in), `duration` in seconds, `sampling_rate`,
`mode` (see the pipeline), `quality` flags, `embedding`, `error` (null where all is well), `artist`, `album`, `title`,
`stamp` (what tells that a file has changed). The schema's metadata has under `hf_mathrock` a JSON object of `space`
(see `MusicEmbeddingPipeline.space`), `checkpoint` (where the model was found), `format` and `version`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from hf_mathrock.library.embedding_space import check_same_space
from hf_mathrock.library.tagging import Record
from hf_mathrock.version import __version__

if TYPE_CHECKING:
    import pyarrow

FORMAT = 1
_KEY = b"hf_mathrock"
_ROWS_OF_A_PART = 256
_SECONDS_OF_A_PART = 60.0


class EmbeddingRun:
    """Writes embeddings to a run, and knows what it already holds.

    Args:
        path: A folder, or a file `*.parquet`; made if absent.
        space: Of the embeddings that will be written.
        checkpoint: Where the model is, `{"name": ...}` or `{"folder": ...}`.

    Raises:
        ValueError: There are embeddings of another space already, or what is there is no run.

    Example:
        >>> with EmbeddingRun("run", space) as run:  # doctest: +SKIP
        ...     run.write({"file": "a.mp3", "duration": 2.0, "embedding": [0.1, 0.2]})
    """

    def __init__(self, path: str | os.PathLike[str], space: Mapping[str, Any], checkpoint: Mapping[str, str]) -> None:
        self.path = Path(path)
        self.is_file = is_single_file(self.path)
        self.folder = folder_of(self.path)
        self._parts = _parts_folder(self.path) if self.is_file else self.path
        if "folder" in checkpoint:
            checkpoint = {"folder": stored_path(checkpoint["folder"], self.folder)}
        said = {"format": FORMAT, "version": __version__, "space": dict(space), "checkpoint": dict(checkpoint)}
        self._metadata = {_KEY: json.dumps(said, sort_keys=True).encode()}
        self._rows: list[Record] = []
        self._written = time.monotonic()
        self._stamps: dict[str, str] = {}
        self._next = 0
        for part, table, known in stored_tables(self.path, ["file", "stamp", "error"]):
            check_same_space(known["space"], space, f"{part}", "this run")
            for row in table.to_pylist():
                self._stamps.pop(row["file"], None)
                if row["error"] is None:
                    self._stamps[row["file"]] = row["stamp"]
        if self._parts.is_dir():
            numbers = [_number(part) for part in self._parts.glob("part-*.parquet")]
            self._next = max(numbers, default=-1) + 1

    def __enter__(self) -> EmbeddingRun:
        self._parts.mkdir(parents=True, exist_ok=True)
        return self

    def holds(self, file: str | os.PathLike[str]) -> bool:
        """Whether the run holds a song as its file is now; one that failed is not held, and one that changed neither.

        Args:
            file: As a path from the working folder.
        """
        stamp = self._stamps.get(stored_path(file, self.folder))
        return stamp is not None and stamp == stamp_of(file)

    def write(self, record: Record) -> None:
        """Takes a record; it is on disk at the latest when the run is left.

        Args:
            record: `file` as a path from the working folder, and the other columns, `None` or absent where unknown.

        Raises:
            OSError: The disk takes no more.
        """
        self._rows.append({**record, "file": stored_path(record["file"], self.folder)})
        if len(self._rows) >= _ROWS_OF_A_PART or time.monotonic() - self._written > _SECONDS_OF_A_PART:
            self.flush()

    def flush(self) -> None:
        """Brings what has been taken to disk."""
        import pyarrow

        if self._rows:
            schema = _schema().with_metadata(self._metadata)
            table = pyarrow.Table.from_pylist(self._rows, schema=schema)
            # A name of its own, so that two processes cannot overwrite each other's.
            _write(table, self._parts / f"part-{self._next:05d}-{secrets.token_hex(3)}.parquet")
            self._next += 1
            self._rows = []
        self._written = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # After Ctrl-C too: what was finished is kept.
        self.flush()
        if self.is_file:
            self._put_together()

    def _put_together(self) -> None:
        import pyarrow

        tables = [table for _, table, _ in stored_tables(self.path)]
        if tables:
            whole = pyarrow.concat_tables(tables)
            last = {file: row for row, file in enumerate(whole.column("file").to_pylist())}
            _write(whole.take(sorted(last.values())).replace_schema_metadata(self._metadata), self.path)
        for part in self._parts.glob("part-*.parquet"):
            part.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another process may be at work there
            self._parts.rmdir()


def stored_tables(
    path: str | os.PathLike[str], columns: list[str] | None = None
) -> Iterator[tuple[Path, pyarrow.Table, dict[str, Any]]]:
    """The Parquet files of a run, in the order they were written, each with its rows and what its metadata says.

    Args:
        path: Of the run.
        columns: Which columns; `None`: all.

    Raises:
        ValueError: A file is damaged, or is none of a run.
    """
    path = Path(path)
    files = [path] if path.is_file() else []
    parts = _parts_folder(path) if is_single_file(path) else path
    if parts.is_dir():
        files += sorted((part for part in parts.glob("*.parquet") if not part.name.startswith(".")), key=_number)
    for file in files:
        yield file, *_read(file, columns)


def _read(file: Path, columns: list[str] | None) -> tuple[pyarrow.Table, dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as opened:
            names, metadata = opened.schema_arrow.names, opened.schema_arrow.metadata or {}
            said = _metadata_of(metadata.get(_KEY))
            if said is None or not {"file", "embedding", "error"} <= set(names):
                raise ValueError(f"{file} is Parquet, but not written by `hf-mathrock embed`; give what that wrote")
            if said.get("format", 0) > FORMAT:
                raise ValueError(f"{file} was written by hf-mathrock {said.get('version')}, a newer one: update this")
            return opened.read(columns=columns), said
    except (pyarrow.ArrowException, OSError, EOFError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's word, not pyarrow's
            raise
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"{file} cannot be read as Parquet ({first}): it is damaged, or something else; remove it, and "
            "`hf-mathrock embed` will embed its songs again"
        ) from error


def _metadata_of(written: bytes | None) -> dict[str, Any] | None:
    try:
        said = json.loads(written or b"null")
    except ValueError:
        return None
    return said if isinstance(said, dict) and isinstance(said.get("space"), dict) else None


def _write(table: pyarrow.Table, path: Path) -> None:
    """Writes a file that is there whole or not at all."""
    from pyarrow import parquet

    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        with open(temporary, "wb") as file:
            parquet.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _schema() -> pyarrow.Schema:
    import pyarrow

    text = pyarrow.string()
    return pyarrow.schema(
        [
            ("file", text),
            ("duration", pyarrow.float64()),
            ("sampling_rate", pyarrow.int32()),
            ("mode", text),
            ("quality", pyarrow.list_(text)),
            ("embedding", pyarrow.list_(pyarrow.float32())),
            ("error", text),
            ("artist", text),
            ("album", text),
            ("title", text),
            ("stamp", text),
        ]
    )


def _number(part: Path) -> int:
    number = part.name.removeprefix("part-")[:5]
    return int(number) if number.isdecimal() else -1


def is_single_file(path: Path) -> bool:
    """Whether a run is one Parquet file rather than a folder of them."""
    return path.suffix.lower() == ".parquet" and not path.is_dir()


def folder_of(path: Path) -> str:
    """The folder that a run's paths are relative to, without symbolic links: the run itself, or where its file lies."""
    return os.path.realpath(path.parent if is_single_file(path) else path)


def _parts_folder(path: Path) -> Path:
    return path.with_name(f".{path.name}.parts")


def stored_path(file: str | os.PathLike[str], folder: str) -> str:
    """A path from the working folder as a run writes it."""
    absolute = os.path.abspath(file)
    try:
        return Path(os.path.relpath(absolute, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return Path(absolute).as_posix()


def real_path(stored: str, folder: str) -> str:
    """The absolute path of what a run writes."""
    return os.path.normpath(os.path.join(folder, stored))


def stamp_of(file: str | os.PathLike[str]) -> str | None:
    """What changes when a file does: its size and time; `None`: it is not there."""
    try:
        state = os.stat(file)
    except (OSError, ValueError):
        return None
    return f"{state.st_size} {state.st_mtime_ns}"
