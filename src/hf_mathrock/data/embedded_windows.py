# SPDX-License-Identifier: Apache-2.0
"""A data set's recordings as outputs of frozen backbones: what the heads alone are trained and evaluated on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from hf_mathrock.data.content import recording_name
from hf_mathrock.data.embeddings import EmbeddingCache, RecordingEmbeddings
from hf_mathrock.data.labels import row_labels
from hf_mathrock.models.audio_input import AudioReadError
from hf_mathrock.models.objectives import UNKNOWN

MAX_BROKEN = 0.05


class EmbeddedWindows(Dataset):
    """The recordings of a data set as outputs of frozen backbones; the audio is not touched once these are on disk.

    A row is `{"wavlm_embeddings", "clap_audio_embeddings", "labels", "song"}`. In training there is a row for each
    recording: one of its sounding windows at every access, all alike likely, by torch's generator; recordings that are
    silent throughout are left out. In evaluation there is a row for each window of the grid; silent ones have no known
    label, so that they count nowhere, as in `GridWindows`.

    Args:
        dataset: Rows with an `audio` column and labels, of known length.
        cache: Fills what it does not hold yet.
        train: See above.
        max_broken: Share of the recordings that may be unreadable; these are left out with a warning.
        progress: Called with (recordings done, recordings in all).

    Attributes:
        song_ids: Which row of `dataset` each row comes from, `(num_rows,)`.
        encoded_labels: Labels of each row.
        broken: Recordings that cannot be read, by row of `dataset`, and why.

    Raises:
        ValueError: Nothing is left, or too many recordings are broken.
    """

    def __init__(
        self,
        dataset: Any,
        cache: EmbeddingCache,
        *,
        train: bool,
        max_broken: float = MAX_BROKEN,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.train = train
        self._store = cache.store
        self._names: list[str] = []
        labels: list[Mapping[str, np.ndarray]] = []

        def recordings() -> Iterator[Any]:
            rows = _undecoded(dataset)
            for index in range(len(rows)):
                row = rows[index]
                self._names.append(recording_name(row, f"row {index}"))
                labels.append(row_labels(cache.tasks, row))
                yield row["audio"]

        report = None if progress is None else lambda done: progress(done, len(dataset))
        found = cache.fill(recordings(), report)
        self.broken = {index: str(error) for index, error in enumerate(found) if isinstance(error, AudioReadError)}
        self._check_broken(len(found), max_broken)
        self._contents = ["" if isinstance(content, AudioReadError) else content for content in found]
        self._silent = [
            np.ones(0, dtype=bool) if song in self.broken else self.embeddings(song).silent
            for song in range(len(found))
        ]
        counts = [int(not silent.all()) if train else len(silent) for silent in self._silent]
        self.song_ids = np.repeat(np.arange(len(found)), counts)
        if not len(self.song_ids):
            raise ValueError(f"None of the {len(found)} recordings can be read and is not silent: there is no data.")
        self._first_row = np.concatenate([[0], np.cumsum(counts)[:-1]])
        unknown = {name: np.full_like(value, UNKNOWN) for name, value in labels[0].items()}
        self.encoded_labels = [
            unknown if not train and self._silent[song][row - self._first_row[song]] else labels[song]
            for row, song in enumerate(self.song_ids)
        ]

    def embeddings(self, song: int) -> RecordingEmbeddings:
        """All windows of the recording in a row of `dataset`, which must not be broken."""
        content = self._contents[song]
        recording = self._store.load(content)
        if recording is None:
            raise RuntimeError(
                f"{self._store.path(content)} was sound when the run began and is no longer: somebody emptied the "
                "cache, or the disk fails. Run again, and it is computed anew."
            )
        return recording

    def _check_broken(self, num: int, max_broken: float) -> None:
        if not self.broken:
            return
        listed = "; ".join(list(self.broken.values())[:3])
        # One in a handful is not a share.
        if len(self.broken) > max(1, max_broken * num):
            raise ValueError(
                f"{len(self.broken)} of {num} recordings cannot be read, more than `max_broken` ({max_broken:.0%}): "
                f"{listed}"
            )
        warnings.warn(f"{len(self.broken)} of {num} recordings are left out: {listed}", stacklevel=3)

    def __len__(self) -> int:
        return len(self.song_ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        index %= len(self)
        song = int(self.song_ids[index])
        window = self._drawn(song) if self.train else index - int(self._first_row[song])
        recording = self.embeddings(song)
        return {
            "wavlm_embeddings": recording.wavlm[window],
            "clap_audio_embeddings": recording.clap_audio[window],
            "labels": self.encoded_labels[index],
            "song": self._names[song],
        }

    def _drawn(self, song: int) -> int:
        sounding = np.flatnonzero(~self._silent[song])
        return int(sounding[int(torch.randint(len(sounding), ()))])


def _undecoded(dataset: Any) -> Any:
    """A data set whose audio our own reader decodes, and only if it must."""
    feature = (getattr(dataset, "features", None) or {}).get("audio")
    if getattr(feature, "decode", False):
        from datasets import Audio

        return dataset.cast_column("audio", Audio(decode=False))
    return dataset
