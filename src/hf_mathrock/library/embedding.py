# SPDX-License-Identifier: Apache-2.0
"""Many songs in, one embedding each out; and what was stored of them, read back."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hf_mathrock.library.embedding_run import EmbeddingRun, folder_of, real_path, stamp_of, stored_tables
from hf_mathrock.library.embedding_space import MixedSpacesError, check_same_space, differences
from hf_mathrock.library.song_facts import song_facts
from hf_mathrock.library.tagging import Record, describe

__all__ = [
    "EmbeddedLibrary",
    "EmbeddingRun",
    "MixedSpacesError",
    "chunk_seconds_of",
    "differences",
    "embed_files",
    "read_embeddings",
]

logger = logging.getLogger(__name__)

FACTS = ("duration", "mode", "quality", "artist", "album", "title")


def embed_files(
    pipe: Any,
    files: Sequence[str | os.PathLike[str]],
    folders: Sequence[str | os.PathLike[str]] = (),
    **options: Any,
) -> Iterator[Record]:
    """Embeds files, several at a time, and lets no file take the others with it.

    Args:
        pipe: A `music-embedding` pipeline.
        files: Audio files.
        folders: Those in which the files were found, for what folders tell of artist and album.
        **options: Passed to every call of `pipe`, such as `chunk_seconds`, `batch_size` and `num_workers`.

    Yields:
        Per file, in order, `file` as it was given, `stamp`, and either `error` in one line or `duration`,
        `sampling_rate`, `mode`, `quality`, `embedding` (`None` of silence), `artist`, `album` and `title`.
    """
    roots = sorted((Path(folder) for folder in folders), key=lambda folder: -len(folder.parts))
    done = 0
    while done < len(files):
        try:
            for result in pipe((os.fspath(file) for file in files[done:]), on_error="record", **options):
                yield _record(files[done], result, roots)
                done += 1
        except Exception:
            # One of those at hand broke the model, or the memory; heard one by one, only that one is lost.
            logger.debug("%s or a file near it failed", files[done], exc_info=True)
            at_hand = 1 + (options.get("batch_size") or 8) * 8
            for file in files[done : done + at_hand]:
                yield _record(file, _alone(pipe, file, options), roots)
                done += 1


def _alone(pipe: Any, file: str | os.PathLike[str], options: dict[str, Any]) -> Record:
    try:
        return pipe(os.fspath(file), **{**options, "num_workers": 0})
    except Exception as error:
        logger.debug("%s failed", file, exc_info=True)
        return {"error": describe(error)}


def _record(file: str | os.PathLike[str], result: Record, roots: Sequence[Path]) -> Record:
    name = os.fspath(file)
    record: Record = {"file": name, "stamp": stamp_of(file)}
    if "error" in result:
        return record | {"error": result["error"]}
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode("utf-8", "backslashreplace")
        return {"file": shown, "stamp": None, "error": f"the name of {shown} is no valid UTF-8; rename the file"}
    root = next((folder for folder in roots if Path(file).is_relative_to(folder)), None)
    heard = {key: result[key] for key in ("duration", "sampling_rate", "mode", "quality", "embedding")}
    return record | heard | song_facts(file, root)


@dataclass(frozen=True, eq=False)
class EmbeddedLibrary:
    """The songs of one or several runs.

    Attributes:
        files: Absolute paths, each once.
        embeddings: `(num_songs, embedding_size)`, float32, all finite.
        space: In which they lie, as `MusicEmbeddingPipeline.space` gives it.
        facts: Of each song `duration` in seconds, `mode`, `quality`, `artist`, `album` and `title`; `None` where
            unknown.
        left_out: Songs without an embedding, and why.
        checkpoint: Where the model was when they were embedded: `{"name": ...}` or `{"folder": absolute path}`.
    """

    files: list[str]
    embeddings: np.ndarray
    space: dict[str, Any]
    facts: list[dict[str, Any]]
    left_out: dict[str, str] = field(default_factory=dict)
    checkpoint: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.files)


def chunk_seconds_of(space: Mapping[str, Any]) -> float | None:
    """The `chunk_seconds` by which a pipeline gives embeddings of a space; `None`: none need be given."""
    # Windows that overlap are those of an extractor, which is asked by giving nothing.
    length = space.get("chunk_seconds")
    return length if space.get("hop_seconds", length) == length else None


def read_embeddings(*paths: str | os.PathLike[str]) -> EmbeddedLibrary:
    """Reads one run, or several of one space.

    Args:
        *paths: What `hf-mathrock embed --out` wrote: folders, or `.parquet` files. Of a song in several of them the
            last counts.

    Raises:
        MixedSpacesError: The runs, or parts of one, are of different spaces; the message says in what they differ.
        ValueError: There is no run at a path, it is damaged, or no song in it has an embedding.

    Warns:
        Embeddings that hold NaN or infinite values, which are left out.
    """
    rows: dict[str, Record] = {}
    known: dict[str, Any] | None = None
    named = ""
    for path in map(Path, paths):
        folder, found = folder_of(path), False
        for part, table, said in stored_tables(path):
            found = True
            if known is None:
                known, named = said, str(part)
                checkpoint = dict(said.get("checkpoint") or {})
                if "folder" in checkpoint:
                    checkpoint["folder"] = real_path(checkpoint["folder"], folder)
            check_same_space(known["space"], said["space"], named, str(part))
            vectors = table.column("embedding").combine_chunks()
            for index, row in enumerate(table.drop_columns(["embedding"]).to_pylist()):
                file = real_path(row["file"], folder)
                rows.pop(file, None)
                rows[file] = {**row, "embedding": _vector(vectors[index])}
        if not found:
            why = "no Parquet file is in it" if path.is_dir() else "it is not there"
            raise ValueError(
                f"there are no embeddings at {path}: {why}; write them by hf-mathrock embed FOLDER --out {path}"
            )
    if known is None:
        raise ValueError("no run was named; give what hf-mathrock embed --out wrote")
    return _library(rows, known["space"], checkpoint)


def _vector(value: Any) -> np.ndarray | None:
    return np.asarray(value.values.to_numpy(zero_copy_only=False), np.float32) if value.is_valid else None


def _library(rows: dict[str, Record], space: dict[str, Any], checkpoint: dict[str, str]) -> EmbeddedLibrary:
    left_out: dict[str, str] = {}
    broken: list[str] = []
    kept: dict[str, Record] = {}
    for file, row in rows.items():
        vector = row["embedding"]
        if row["error"] is not None:
            left_out[file] = row["error"]
        elif vector is None or not len(vector):
            left_out[file] = "silent: there is nothing to compare"
        elif not np.isfinite(vector).all():
            left_out[file] = "its embedding holds NaN or infinite values"
            broken.append(file)
        else:
            kept[file] = row
    if broken:
        warnings.warn(
            f"{len(broken)} embedding(s) hold NaN or infinite values and are left out, that of {broken[0]} for one; "
            "embed them again, in full precision",
            stacklevel=3,
        )
    if not kept:
        why = f": {next(iter(left_out.values()))}" if left_out else ""
        raise ValueError(f"none of the {len(rows)} songs of this run has an embedding{why}; embed a folder with music")
    sizes = sorted({len(row["embedding"]) for row in kept.values()})
    if len(sizes) > 1:
        raise MixedSpacesError(
            f"embeddings have {' and '.join(map(str, sizes))} dimensions in one run, which no single model gives; "
            "embed everything again"
        )
    return EmbeddedLibrary(
        list(kept),
        np.stack([row["embedding"] for row in kept.values()]),
        space,
        [{name: row.get(name) for name in FACTS} for row in kept.values()],
        left_out,
        checkpoint,
    )
