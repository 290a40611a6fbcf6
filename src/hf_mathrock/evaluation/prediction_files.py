# SPDX-License-Identifier: Apache-2.0
"""Predictions on disk, as Parquet: everything that a figure can be recomputed from, without this package.

`predictions.parquet` has a row per song: `song`, `group`, `content_id`, `seconds`, `num_windows`, `quality`, `bpm`, and
per task `<task>_scores` (after temperature and aggregation), `<task>_labels` (a class index, or a multi-hot list; -100:
unknown) and `<task>_active`. `windows.parquet` has a row per sounding window: `song`, `content_id`, `start`, `end`, and
per task `<task>_logits` (before the temperature) and `<task>_scores` (after it). The order of scores is that of the
task's labels, which stand in the metadata of the file's schema under `tasks`, as JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_mathrock.evaluation.predictions import Predictions, active

SONGS, WINDOWS = "predictions.parquet", "windows.parquet"


def write_predictions(
    predictions: Predictions,
    folder: str | os.PathLike[str],
    *,
    temperatures: Mapping[str, float] | None = None,
    thresholds: Mapping[str, Any] | None = None,
    aggregation: str = "mean",
) -> tuple[Path, Path]:
    """Writes both files, each whole or not at all.

    Args:
        predictions: What to write.
        folder: Made if missing.
        temperatures: The model's.
        thresholds: The model's.
        aggregation: From windows to songs.

    Returns:
        The paths of the two files.

    Raises:
        ImportError: pyarrow is absent.
        OSError: The folder cannot be written.
    """
    songs = predictions.song_scores(temperatures, aggregation, thresholds)
    holds = active(predictions.tasks, songs, thresholds)
    windows = predictions.window_scores(temperatures)
    by_song: dict[str, Any] = {
        "song": predictions.songs,
        "group": predictions.groups,
        "content_id": predictions.content_ids,
        "seconds": predictions.seconds,
        "num_windows": np.bincount(predictions.window_songs, minlength=len(predictions)),
        "quality": predictions.quality,
        "bpm": [None if np.isnan(value) else float(value) for value in predictions.bpm],
    }
    by_window: dict[str, Any] = {
        "song": [predictions.songs[song] for song in predictions.window_songs],
        "content_id": [predictions.content_ids[song] for song in predictions.window_songs],
        "start": predictions.window_starts,
        "end": predictions.window_ends,
    }
    for task in predictions.tasks:
        name = task["name"]
        by_song |= {f"{name}_scores": songs[name], f"{name}_labels": predictions.labels[name]}
        by_song |= {f"{name}_active": holds[name]}
        by_window |= {f"{name}_logits": predictions.logits[name], f"{name}_scores": windows[name]}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write(by_song, predictions.tasks, folder / SONGS)
    _write(by_window, predictions.tasks, folder / WINDOWS)
    return folder / SONGS, folder / WINDOWS


def _write(columns: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]], path: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError('Writing predictions needs pyarrow: pip install "hf-mathrock[train]"') from error
    types = {"quality": pa.list_(pa.string()), "bpm": pa.float64()}
    arrays = {
        name: pa.array(list(values) if np.ndim(values) == 2 else values, type=types.get(name))
        for name, values in columns.items()
    }
    described = [{key: task[key] for key in ("name", "type", "labels")} for task in tasks]
    table = pa.table(arrays).replace_schema_metadata({"tasks": json.dumps(described)})
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        pyarrow.parquet.write_table(table, temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
