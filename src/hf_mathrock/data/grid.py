# SPDX-License-Identifier: Apache-2.0
"""Whole recordings in evaluation: every window of the fixed grid, as the pipeline hears it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from hf_mathrock.data.excerpts import silent_window
from hf_mathrock.data.labels import row_labels
from hf_mathrock.models.audio_input import AudioReadError, AudioSource, AudioWindow, open_audio
from hf_mathrock.models.objectives import UNKNOWN


class GridWindows(Dataset):
    """The windows of every recording of a data set, in order.

    A row is `{"window", "labels"}`, the latter those of the recording. A silent window, or one of a recording that
    breaks off, has no known label, so that it counts nowhere.

    Args:
        dataset: Rows with an `audio` column and labels.
        extractor: The model's, which knows the grid.
        tasks: `MathRockConfig.tasks`.

    Attributes:
        song_ids: Which row of `dataset` each window belongs to, `(num_windows,)`.
        broken: Recordings that cannot be opened, by row, and why; they have no windows.
    """

    def __init__(self, dataset: Any, extractor: Any, tasks: Sequence[Mapping[str, Any]]) -> None:
        self._dataset, self._extractor, self._tasks = dataset, extractor, tasks
        self.broken: dict[int, str] = {}
        counts = []
        for song in range(len(dataset)):
            try:
                with open_audio(dataset[song]["audio"], extractor.sampling_rate) as source:
                    counts.append(self._count(source))
            except AudioReadError as error:
                self.broken[song] = str(error)
                counts.append(0)
        if self.broken:
            first = next(iter(self.broken.values()))
            warnings.warn(
                f"{len(self.broken)} recordings are left out of the evaluation, such as: {first}", stacklevel=2
            )
        self.song_ids = np.repeat(np.arange(len(dataset)), counts)
        self._first_window = np.concatenate([[0], np.cumsum(counts)[:-1]])
        # The recording that is being read: windows are asked for in order, and each file is decoded once.
        self._open: tuple[int, Iterator[AudioWindow]] | None = None
        self._source: AudioSource | None = None
        self._last: AudioWindow | None = None

    def _count(self, source: AudioSource) -> int:
        extractor = self._extractor
        if source.info.claimed_frames is None:
            return sum(1 for _ in extractor.windows(source))
        return extractor.count_windows(source.info.claimed_frames, source.info.sampling_rate)

    def __len__(self) -> int:
        return len(self.song_ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        song = int(self.song_ids[index])
        row = self._dataset[song]
        window = self._window(song, row["audio"], index - int(self._first_window[song]))
        labels = row_labels(self._tasks, row)
        if "silent" in window.quality:
            labels = {name: np.full_like(value, UNKNOWN) for name, value in labels.items()}
        return {"window": window, "labels": labels}

    def _window(self, song: int, audio: Any, wanted: int) -> AudioWindow:
        """One window of a recording; a silent one where it breaks off before."""
        if self._last is None or self._open is None or self._open[0] != song or self._last.index > wanted:
            self._begin(song, audio)
        while self._open is not None and (self._last is None or self._last.index < wanted):
            try:
                self._last = next(self._open[1])
            except (StopIteration, AudioReadError):
                return silent_window(self._extractor)
        assert self._last is not None  # the loop above has read one
        return self._last

    def _begin(self, song: int, audio: Any) -> None:
        if self._source is not None:
            self._source.close()
        self._last, extractor = None, self._extractor
        self._source = open_audio(audio, extractor.sampling_rate)
        self._open = song, extractor.windows(self._source)

    def __getstate__(self) -> dict[str, Any]:
        """For workers: everything but the open file."""
        return self.__dict__ | {"_open": None, "_source": None, "_last": None}


def song_level(
    song_ids: np.ndarray, scores: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Scores and labels of recordings from those of their windows.

    Args:
        song_ids: `(num_windows,)`.
        scores: Per task, probabilities `(num_windows, num_labels)`.
        labels: Per task, those of the recording at each of its windows; windows that are unknown in every task are
            silent and do not count.

    Returns:
        Mean scores `(num_songs, num_labels)` and labels of every recording with a window that counts.
    """
    counts = np.zeros(len(song_ids), dtype=bool)
    for values in labels.values():
        counts |= (values != UNKNOWN).reshape(len(values), -1).any(axis=1)
    songs, first, inverse = np.unique(song_ids[counts], return_index=True, return_inverse=True)
    means = {}
    for name, values in scores.items():
        total = np.zeros((len(songs), values.shape[1]))
        np.add.at(total, inverse, values[counts])
        means[name] = total / np.bincount(inverse, minlength=len(songs))[:, None]
    return means, {name: values[counts][first] for name, values in labels.items()}
