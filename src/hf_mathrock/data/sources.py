# SPDX-License-Identifier: Apache-2.0
"""Folders, tables and data sets as rows, with what is said about their splits; no audio is opened."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_mathrock.data.labels import closest
from hf_mathrock.data.splitting import split_name

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
# Files that a folder without a table is searched for.
AUDIO_FILES = {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".wma"}
PATH_COLUMNS = ("audio", "filename", "path", "file", "filepath", "audiopath", "audiofile", "audiofilename")
# Columns that may say the split; those after the first only if all they hold are names of splits.
SPLIT_COLUMNS = ("split", "subset", "partition")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_WHOLE, _FRACTION = re.compile(r"-?(0|[1-9][0-9]{0,17})"), re.compile(r"-?[0-9]+\.?[0-9]*([eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class Part:
    """Rows of one table or split.

    Attributes:
        rows: A `datasets.Dataset`.
        split: Which split they were given as, or `None`.
        place: How a message calls the table: "metadata.csv", "split 'train'".
        folder: Where relative paths begin; `None`: the working folder.
        roots: Folders outside of which no file is read; `None`: a table that the user named may point anywhere.
        prefix: What the names of its songs begin with.
    """

    rows: Any
    split: str | None
    place: str
    folder: Path | None = None
    roots: tuple[Path, ...] | None = None
    prefix: str = ""


@dataclass(frozen=True)
class Source:
    """What `read_source` found: parts, and what a corpus knows of itself."""

    name: str
    parts: list[Part]
    tasks: list[dict[str, Any]] | None = None
    broken: list[dict[str, str]] = field(default_factory=list)


def same_column(name: str) -> str:
    """A column's name without case and punctuation: `work-id` and `Work_ID` are one."""
    return re.sub(r"[\W_]+", "", name.casefold())


def find_column(names: Sequence[str], wanted: str) -> str | None:
    """The column called `wanted`, exactly or but for case and punctuation if just one is."""
    if wanted in names:
        return wanted
    alike = [name for name in names if same_column(name) == same_column(wanted)]
    return alike[0] if len(alike) == 1 else None


def require_column(names: Sequence[str], wanted: str, place: str, argument: str) -> str:
    """`find_column` for a column that the caller named.

    Raises:
        ValueError: It is not there; the message gives the closest names.
    """
    column = find_column(names, wanted)
    if column is not None:
        return column
    near = closest(wanted, names)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
    raise ValueError(
        f"`{argument}` names {wanted!r}, which is no column of {place}{hint} Its columns are {', '.join(names)}."
    )


def column_values(rows: Any, column: str) -> list[Any]:
    """A column of a `datasets.Dataset` as plain Python, without decoding anything; `None`s if it is not there."""
    if column not in rows.column_names:
        return [None] * len(rows)
    return rows.select_columns([column]).with_format("arrow")[:].column(column).to_pylist()


def read_source(source: Any, corpus: str | None = None, text_columns: Collection[str] = ()) -> Source:
    """Rows of anything `load_labelled_audio` takes, but for what is streamed.

    Args:
        source: Folder, table, saved or Hub data set, `Dataset`, `DatasetDict`.
        corpus: Name of a corpus whose folder `source` is.
        text_columns: Columns of CSV files that stay text even if all they hold are numbers.

    Raises:
        FileNotFoundError: It is neither here nor on the Hub.
        ValueError: It is here and cannot be understood.
    """
    from datasets import Dataset, DatasetDict

    if corpus is not None or (_is_path(source) and Path(source).suffix.lower() in (".pyjama", ".hdf5", ".h5")):
        return _corpus(corpus or "pyjama", Path(source))
    if isinstance(source, DatasetDict):
        return Source(f"{type(source).__name__} in memory", _splits(source, roots=None))
    if isinstance(source, Dataset):
        return Source("Dataset in memory", [Part(source, None, "the data set")])
    if not _is_path(source):
        raise TypeError(
            f"`source` is a {type(source).__name__}; give a folder, a CSV, JSONL or Parquet file, the name of a data "
            "set on the Hub, or a Dataset, DatasetDict or IterableDataset."
        )
    path = Path(source).expanduser()
    if path.is_dir():
        return Source(str(source), _folder(path, text_columns))
    if path.is_file():
        rows = read_table(path, text_columns)
        return Source(str(source), [Part(rows, None, path.name, path.parent)])
    return Source(str(source), _hub(str(source)))


def _is_path(source: Any) -> bool:
    return isinstance(source, (str, os.PathLike))


def _corpus(corpus: str, path: Path) -> Source:
    from hf_mathrock.data.corpora import corpus_rows

    options = {}
    if path.suffix.lower() in (".hdf5", ".h5"):
        beside = path.with_suffix(".pyjama")
        options, path = {"hdf5": path}, beside if beside.is_file() else path.parent
    found = corpus_rows(corpus, path, **options)
    rows = _rows(found.rows)
    return Source(found.source, [Part(rows, None, found.source)], found.tasks, list(found.broken))


def _hub(name: str) -> list[Part]:
    import datasets
    import huggingface_hub

    if name.startswith((".", "/", "~")) or not _HUB_NAME.fullmatch(name) or Path(name).suffix.lower() in TABLES:
        raise FileNotFoundError(
            f"there is no folder or file {name!r}, and it cannot be the name of a data set on the Hub; check the "
            f"spelling and the working folder ({Path.cwd()})."
        )
    try:
        loaded = datasets.load_dataset(name)
    except (OSError, ValueError) as error:  # what the Hub client raises are these
        reason = " ".join(str(error).split())[:300]
        raise FileNotFoundError(
            f"{name!r} is no folder or file here, and the Hub does not give a data set of that name ({reason}). Check "
            "the spelling, the working folder and the network."
        ) from error
    # The author of a data set must not make this machine read files of its own.
    config = datasets.config
    roots = [config.HF_DATASETS_CACHE, config.DOWNLOADED_DATASETS_PATH, huggingface_hub.constants.HF_HUB_CACHE]
    return _splits(loaded, tuple(Path(root).absolute() for root in roots))


def _splits(loaded: Any, roots: tuple[Path, ...] | None) -> list[Part]:
    """The parts of a `DatasetDict`."""
    if not isinstance(loaded, Mapping):
        return [Part(loaded, None, "the data set", None, roots)]
    if len(loaded) == 1 and split_name(next(iter(loaded))) is None:
        return [Part(rows, None, f"split {key!r}", None, roots) for key, rows in loaded.items()]
    if unknown := [key for key in loaded if split_name(key) is None]:
        raise ValueError(
            f"the data set has the splits {', '.join(map(repr, loaded))}, of which {', '.join(map(repr, unknown))} is "
            "neither training, validation nor test data. Give a DatasetDict with the splits to use under these names."
        )
    prefixed = len(loaded) > 1
    return [
        Part(rows, split_name(key), f"split {key!r}", None, roots, f"{key} " if prefixed else "")
        for key, rows in loaded.items()
    ]


# --- folders ---------------------------------------------------------------------------------------------------------


def _folder(folder: Path, text_columns: Collection[str]) -> list[Part]:
    import datasets

    roots = (folder.absolute(),)
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return _splits(datasets.load_from_disk(str(folder)), roots)
    if table := _metadata(folder):
        rows = read_table(table, text_columns)
        return [Part(rows, None, table.name, folder, roots)]
    named = {table: split_name(table.stem) for table in _tables(folder)}
    if named and all(named.values()):  # train.csv, test.csv
        return [
            Part(read_table(table, text_columns), split, table.name, folder, roots) for table, split in named.items()
        ]
    if len(named) == 1 and not _is_parquet(next(iter(named))):
        (table,) = named
        return [Part(read_table(table, text_columns), None, table.name, folder, roots)]
    given = sorted(sub for sub in folder.iterdir() if sub.is_dir() and split_name(sub.name))
    parts = []
    for sub in given:
        if table := _metadata(sub):
            rows, place = read_table(table, text_columns), f"{sub.name}/{table.name}"
        else:
            rows, place = _class_folders(sub), sub.name
        if rows is not None:
            parts.append(Part(rows, split_name(sub.name), place, sub, roots, f"{sub.name}/"))
    if parts:
        return parts
    if any(_is_parquet(file) for sub in (folder, folder / "data") if sub.is_dir() for file in sub.iterdir()):
        return _splits(datasets.load_dataset(str(folder)), roots)  # a local copy of a repository of the Hub
    if (rows := _class_folders(folder)) is not None:
        return [Part(rows, None, folder.name, folder, roots)]
    if len(named) > 1:
        raise ValueError(
            f"{folder} has several tables ({', '.join(table.name for table in named)}) and none is called "
            "metadata.csv; name the one to read in place of the folder."
        )
    found = sorted(entry.name for entry in folder.iterdir())
    raise ValueError(
        f"{folder} has no metadata.csv, .jsonl or .parquet, no saved data set and no audio in sub-folders; it "
        + (f"holds {', '.join(found[:8])}{', ...' * (len(found) > 8)}." if found else "is empty.")
    )


def _is_parquet(file: Path) -> bool:
    return file.suffix.lower() == ".parquet"


def _tables(folder: Path) -> list[Path]:
    return sorted(
        file for file in folder.iterdir() if file.is_file() and file.suffix.lower() in TABLES and file.name[0] != "."
    )


def _metadata(folder: Path) -> Path | None:
    found = [file for file in _tables(folder) if file.stem.lower() == "metadata"]
    if len(found) > 1:
        raise ValueError(
            f"{folder} has {' and '.join(file.name for file in found)}; leave one, or name the one to read in place of "
            "the folder."
        )
    return found[0] if found else None


def _class_folders(folder: Path) -> Any:
    """Rows of the audio below a folder, `label` being the sub-folder's name; `None` where there is none."""
    rows = []
    for parent, folders, names in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if Path(name).suffix.lower() in AUDIO_FILES and not name.startswith("."):
                relative = Path(parent, name).relative_to(folder)
                label = relative.parts[0] if len(relative.parts) > 1 else None
                rows.append({"file_name": str(relative), "label": label})
    return _rows(rows) if rows else None


# --- tables ----------------------------------------------------------------------------------------------------------


def read_table(file: Path, text_columns: Collection[str] = ()) -> Any:
    """A CSV (comma, semicolon or tab), JSONL or Parquet file as a `datasets.Dataset`.

    Blank cells of a CSV are unknown and nothing else is: "NA" and "none" stay what they are. A column of numbers
    becomes numbers, unless it is one of `text_columns` or an entry begins with a needless 0, as identifiers do.

    Raises:
        ValueError: It is no such file; the message names the row.
    """
    from datasets import Dataset

    suffix = file.suffix.lower()
    if suffix == ".parquet":
        import pyarrow.parquet

        try:
            return Dataset(pyarrow.parquet.read_table(file, memory_map=True))
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{file} cannot be read as Parquet: {' '.join(str(error).split())[:200]}") from None
    if suffix not in TABLES:
        raise ValueError(f"{file} is no table with a column of paths; allowed are {', '.join(TABLES)} files.")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 (byte {error.start}); save it again with that encoding.") from None
    rows = list(_json_lines(file, text) if suffix == ".jsonl" else _csv_rows(file, text))
    if suffix != ".jsonl":
        kept = {same_column(name) for name in text_columns}
        for name in rows[0] if rows else ():
            if same_column(name) not in kept:
                _numbers(rows, name)
    return _rows(rows)


def _csv_rows(file: Path, text: str) -> Iterator[dict[str, Any]]:
    head = text.split("\n", 1)[0]
    delimiter = "\t" if file.suffix.lower() == ".tsv" else max(",;\t", key=head.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header: list[str] | None = None
    number = 0
    try:
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [name.strip() for name in cells]
                if doubled := sorted({name for name in header if header.count(name) > 1}):
                    raise ValueError(f"{file} has more than one column called {doubled[0]!r}.")
                continue
            number += 1
            if len(cells) > len(header):
                raise ValueError(
                    f"row {number} of {file} has {len(cells)} cells, and the first line names {len(header)} columns; a "
                    f"cell that contains {delimiter!r} must stand in quotes."
                )
            cells += [""] * (len(header) - len(cells))
            yield {name: cell if cell.strip() else None for name, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise ValueError(f"row {number + 1} of {file} cannot be read: {error}.") from None


def _json_lines(file: Path, text: str) -> Iterator[dict[str, Any]]:
    number = 0
    for line in text.split("\n"):
        if not line.strip():
            continue
        number += 1
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"row {number} of {file} is no JSON ({error}); every line must be one object.") from None
        if not isinstance(row, dict):
            raise ValueError(f"row {number} of {file} is a JSON {type(row).__name__}; every line must be one object.")
        yield row


def _numbers(rows: list[dict[str, Any]], name: str) -> None:
    """Make a column numbers if it holds nothing else."""
    cells = [row[name].strip() for row in rows if row[name] is not None]
    for pattern, convert in ((_WHOLE, int), (_FRACTION, float)):
        if all(pattern.fullmatch(cell) for cell in cells):
            if convert is float and any(re.match(r"-?0[0-9]", cell) for cell in cells):
                return
            for row in rows:
                row[name] = None if row[name] is None else convert(row[name])
            return


def _rows(rows: list[dict[str, Any]]) -> Any:
    """A `datasets.Dataset` of rows whose keys and types may differ."""
    import pyarrow as pa
    from datasets import Dataset

    columns: dict[str, Any] = {}
    for name in dict.fromkeys(key for row in rows for key in row):
        values = [
            os.fspath(value) if isinstance(value, os.PathLike) else value for value in (row.get(name) for row in rows)
        ]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, TypeError, OverflowError):
            # Now a name, now a list: as text, which `encode_label` reads as well.
            columns[name] = pa.array(
                [
                    value if value is None or isinstance(value, str) else json.dumps(value, default=str)
                    for value in values
                ]
            )
    return Dataset(pa.table(columns))
