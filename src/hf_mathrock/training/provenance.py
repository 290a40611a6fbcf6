# SPDX-License-Identifier: Apache-2.0
"""Which recordings a model has learned from or was chosen by, so that nobody measures it on them unawares."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hf_mathrock.data.content import content_id

TRAINING_SONGS_FILE = "training_songs.json"


def write_training_songs(
    folder: str | Path, train: Any, validation: Any, report: Mapping[str, Any] | None = None
) -> Path | None:
    """Write the content of every recording, as a digest, beside a model's weights.

    Args:
        folder: The model's.
        train: What it learned from: rows with `audio`. Data without a length or without audio are passed over.
        validation: What it was chosen by, likewise; or a dict of such.
        report: What `load_labelled_audio` said of the data, for the model card.

    Returns:
        The file, with `songs`, `selected_on` and `report`; `None` where there is no recording to name.
    """
    return write_song_contents(folder, _content_ids(train), _content_ids(validation), report)


def write_song_contents(
    folder: str | Path,
    train: Iterable[str],
    validation: Iterable[str],
    report: Mapping[str, Any] | None = None,
) -> Path | None:
    """`write_training_songs` for recordings whose `content_id` is known already."""
    songs = {"songs": sorted(set(train)), "selected_on": sorted(set(validation))}
    if not any(songs.values()):
        return None
    path = Path(folder) / TRAINING_SONGS_FILE
    path.write_text(json.dumps({**songs, **({"report": report} if report else {})}, indent=1) + "\n")
    return path


def _content_ids(dataset: Any) -> Iterator[str]:
    if isinstance(dataset, Mapping):
        for part in dataset.values():
            yield from _content_ids(part)
        return
    if dataset is None or not hasattr(dataset, "__len__") or not len(dataset):
        return
    if "audio" not in (getattr(dataset, "column_names", None) or dataset[0]):
        return
    if hasattr(dataset, "select_columns"):
        dataset = dataset.select_columns(["audio"])
    for index in range(len(dataset)):
        try:
            yield content_id(dataset[index]["audio"])
        except (OSError, TypeError):
            continue  # gone by now, or in a form that has no name
