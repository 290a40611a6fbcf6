# SPDX-License-Identifier: Apache-2.0
"""The files of a mel cache: Arrow IPC, a row a track, there whole or not at all."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from hf_mathrock.data.mel_computing import ComputedTrack
from hf_mathrock.data.tracks import Track

# A file is closed at this size, or when its first track is this old: no more work than that is lost by a kill.
SHARD_BYTES, SHARD_SECONDS = 64 * 2**20, 60.0
TEXT_COLUMNS = ("id", "work", "artist", "album", "facts", "stamp", "content")


class ShardWriter:
    """Collects tracks and writes them out, some at a time; on the way out the rest, even after an error."""

    def __init__(self, folder: Path) -> None:
        paths = shard_paths(folder)
        self._folder, self._next = folder, 1 + int(paths[-1].stem.split("-")[1]) if paths else 0
        self._rows: list[tuple[Track, str, ComputedTrack]] = []
        self._num_bytes, self._begun = 0, 0.0

    def add(self, track: Track, stamp: str, computed: ComputedTrack) -> None:
        """Take up a track."""
        if not self._rows:
            self._num_bytes, self._begun = 0, time.monotonic()
        self._rows.append((track, stamp, computed))
        self._num_bytes += computed.decibels.nbytes
        if self._num_bytes >= SHARD_BYTES or time.monotonic() - self._begun >= SHARD_SECONDS:
            self._write()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def _write(self) -> None:
        if not self._rows:
            return
        import pyarrow as pa

        tracks, stamps, computed = zip(*self._rows, strict=True)
        texts = {
            "id": [track.id for track in tracks],
            **{name: [getattr(track, name) for track in tracks] for name in ("work", "artist", "album")},
            "facts": [facts_text(track) for track in tracks],
            "stamp": stamps,
            "content": [of.content for of in computed],
        }
        decibels = np.concatenate([of.decibels for of in computed])
        frames = pa.FixedSizeListArray.from_arrays(pa.array(decibels.reshape(-1)), decibels.shape[1])
        ends = np.cumsum([len(of.decibels) for of in computed])
        batch = pa.record_batch(
            {
                **{name: pa.array(values, pa.string()) for name, values in texts.items()},
                "reference": pa.array([of.reference for of in computed], pa.float32()),
                "silent": pa.array([of.silent for of in computed]),
                "decibels": pa.ListArray.from_arrays(pa.array([0, *ends], pa.int32()), frames),
            }
        )
        path = self._folder / f"shard-{self._next:05d}.arrow"
        draft = path.with_suffix(".tmp")
        try:
            with open(draft, "wb") as file:
                with pa.ipc.new_file(file, batch.schema) as writer:
                    writer.write_batch(batch)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        self._next, self._rows = self._next + 1, []


def shard_paths(folder: Path) -> list[Path]:
    """A cache's files, the oldest first."""
    return sorted(folder.glob("shard-*.arrow"), key=lambda path: int(path.stem.split("-")[1]))


def open_shard(path: Path, num_mel_bins: int) -> tuple[dict[str, list[Any]], np.ndarray]:
    """All but the decibels of a file's tracks, and a map of these, float16 `(frames of all tracks, num_mel_bins)`.

    Raises:
        ValueError: It is damaged.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ImportError('A mel cache needs pyarrow: pip install "hf-mathrock[train]"') from error
    try:
        with pa.memory_map(str(path)) as file:  # the map outlives the file's being closed
            batch = pa.ipc.open_file(file).get_batch(0)
        batch.validate()
        tracks = batch.column("decibels")
        decibels = tracks.values.flatten().to_numpy().reshape(-1, num_mel_bins)
        rows = {name: batch.column(name).to_pylist() for name in (*TEXT_COLUMNS, "reference", "silent")}
        rows["num_frames"] = np.diff(tracks.offsets.to_numpy()).tolist()
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({' '.join(str(error).split())[:200]}); write the cache again, and what was in it is "
            "computed anew."
        ) from error
    return rows, decibels


def facts_text(track: Track) -> str:
    """A track's facts as JSON."""
    return json.dumps(track.facts, default=lambda value: value.tolist())  # numpy's numbers and arrays
