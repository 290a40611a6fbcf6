# SPDX-License-Identifier: Apache-2.0
"""What a model says of labelled songs, window by window: what every figure is computed from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hf_mathrock.data.content import content_id
from hf_mathrock.data.labels import row_labels
from hf_mathrock.models.objectives import UNKNOWN
from hf_mathrock.models.scoring import active_labels, aggregate_scores, task_scores

Task = Mapping[str, Any]
Progress = Callable[[int, "int | None"], None]


@dataclass(frozen=True)
class Predictions:
    """Songs that were heard, their labels, and the logits of their sounding windows.

    Attributes:
        tasks: Those of the model's config.
        songs: Printable name of each song.
        groups: What must never be on two sides of a split: artist or work.
        content_ids: As `content_id` gives them.
        seconds: Length of each song, `(num_songs,)`.
        quality: Flags of each song, as the pipeline reports them.
        labels: Per task `(num_songs,)` class indices, or multi-hot `(num_songs, num_labels)`; -100 where unknown.
        bpm: Tempo of each song where the data state one, else NaN, `(num_songs,)`.
        window_songs: Which song each window belongs to, `(num_windows,)`, rising; every song has at least one.
        window_starts: Seconds, `(num_windows,)`.
        window_ends: Seconds, `(num_windows,)`.
        logits: Per task float32 `(num_windows, num_labels)`.
        silent: Names of songs without a sounding window; they have no scores and are not among `songs`.
        broken: `{"song", "error"}` of what could not be read.
        excluded: Names of songs that were passed over on request.
    """

    tasks: Sequence[Task]
    songs: list[str]
    groups: list[str]
    content_ids: list[str]
    seconds: np.ndarray
    quality: list[list[str]]
    labels: dict[str, np.ndarray]
    bpm: np.ndarray
    window_songs: np.ndarray
    window_starts: np.ndarray
    window_ends: np.ndarray
    logits: dict[str, np.ndarray]
    silent: list[str] = field(default_factory=list)
    broken: list[dict[str, str]] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.songs)

    def window_scores(
        self, temperatures: Mapping[str, float] | None = None, *, tasks: Sequence[Task] | None = None
    ) -> dict[str, np.ndarray]:
        """Probabilities of every window, per task float64 `(num_windows, num_labels)`.

        Args:
            temperatures: Per task; 1 for those not named.
            tasks: Those wanted; default all.
        """
        return {
            task["name"]: task_scores(task, self.logits[task["name"]], (temperatures or {}).get(task["name"], 1.0))
            for task in (self.tasks if tasks is None else tasks)
        }

    def song_scores(
        self,
        temperatures: Mapping[str, float] | None = None,
        aggregation: str = "mean",
        thresholds: Mapping[str, Any] | None = None,
        *,
        tasks: Sequence[Task] | None = None,
    ) -> dict[str, np.ndarray]:
        """Scores of every song as the pipeline gives them, per task float64 `(num_songs, num_labels)`.

        Args:
            temperatures: Per task; 1 for those not named.
            aggregation: One of `AGGREGATIONS`.
            thresholds: Per multi-label task; 0.5 for those not named.
            tasks: Those wanted; default all.
        """
        limits = all_thresholds(self.tasks, thresholds)
        # Where one song ends and the next begins.
        cuts = np.flatnonzero(np.diff(self.window_songs)) + 1
        scores: dict[str, np.ndarray] = {}
        for task in self.tasks if tasks is None else tasks:
            name = task["name"]
            temperature = (temperatures or {}).get(name, 1.0)
            by_song = [
                aggregate_scores(task, logits, aggregation, temperature=temperature, thresholds=limits.get(name))
                for logits in (np.split(self.logits[name], cuts) if len(self) else ())
            ]
            scores[name] = np.array(by_song, dtype=np.float64).reshape(-1, len(task["labels"]))
        return scores

    def known(self, name: str) -> np.ndarray:
        """For which songs anything is known of a task, `(num_songs,)`."""
        return (self.labels[name] != UNKNOWN).reshape(len(self), -1).any(axis=1)

    def windows_of(self, songs: np.ndarray) -> np.ndarray:
        """Windows of some songs; of a song that is asked for twice, twice."""
        first = np.searchsorted(self.window_songs, np.arange(len(self) + 1))
        return np.concatenate([np.arange(first[song], first[song + 1]) for song in songs] or [np.arange(0)])

    def select(self, songs: Sequence[int] | np.ndarray) -> Predictions:
        """Some of the songs, in the order given."""
        chosen = np.asarray(songs, dtype=np.int64)
        windows = self.windows_of(chosen)
        counts = np.bincount(self.window_songs, minlength=len(self))[chosen]
        return Predictions(
            tasks=self.tasks,
            songs=[self.songs[song] for song in chosen],
            groups=[self.groups[song] for song in chosen],
            content_ids=[self.content_ids[song] for song in chosen],
            seconds=self.seconds[chosen],
            quality=[self.quality[song] for song in chosen],
            labels={name: values[chosen] for name, values in self.labels.items()},
            bpm=self.bpm[chosen],
            window_songs=np.repeat(np.arange(len(chosen)), counts),
            window_starts=self.window_starts[windows],
            window_ends=self.window_ends[windows],
            logits={name: values[windows] for name, values in self.logits.items()},
        )


def all_thresholds(tasks: Sequence[Task], thresholds: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
    """Activity threshold of every label of every multi-label task, `(num_labels,)`; 0.5 where none is given."""
    halves = {task["name"]: [0.5] * len(task["labels"]) for task in tasks if task["type"] == "multi_label"}
    return {name: np.asarray((thresholds or {}).get(name, half), dtype=np.float64) for name, half in halves.items()}


def active(
    tasks: Sequence[Task], scores: Mapping[str, np.ndarray], thresholds: Mapping[str, Any] | None = None
) -> dict[str, np.ndarray]:
    """Which labels hold, per task bool of the scores' shape, as the pipeline's `active` says it."""
    limits = all_thresholds(tasks, thresholds)
    return {task["name"]: active_labels(scores[task["name"]], limits.get(task["name"])) for task in tasks}


def predict(
    pipe: Any,
    rows: Iterable[Mapping[str, Any]],
    *,
    exclude: Collection[str] = (),
    batch_size: int = 8,
    window_seconds: float | None = None,
    hop_seconds: float | None = None,
    progress: Progress | None = None,
) -> Predictions:
    """Lets a pipeline hear labelled songs, each as a user's file would be heard.

    Args:
        pipe: A `mathrock-affect` pipeline.
        rows: `audio` in any form that the pipeline reads, labels as `row_labels` takes them, and `group`, `song` and
            `bpm` where there are any. A row without a group is a group of its own. Read once, in order.
        exclude: Content ids of songs to pass over.
        batch_size: Windows in a forward pass.
        window_seconds: Length of a window; default the model's.
        hop_seconds: Distance of two windows; default the model's.
        progress: Called with (songs done, songs in all or `None`).

    Returns:
        All that could be read. Whatever is wrong with a song's audio leaves out that song alone.
    """
    tasks: Sequence[Task] = pipe.model.config.tasks
    total = len(rows) if isinstance(rows, Sized) else None
    waiting: deque[tuple[str, str, str, Mapping[str, Any]]] = deque()
    excluded: list[str] = []
    gathered = _Gathered(tasks)

    def audio() -> Iterator[Any]:
        for number, row in enumerate(rows):
            name = str(row.get("song") if row.get("song") is not None else number)
            try:
                content = content_id(row["audio"])
            except (OSError, TypeError):
                content = f"row {number}"  # the pipeline says what is wrong with it
            if content in exclude:
                excluded.append(name)
                continue
            group = row.get("group")
            waiting.append((name, f"song {number}" if group is None else str(group), content, row))
            yield row["audio"]

    heard = pipe.listen(audio(), batch_size=batch_size, window_seconds=window_seconds, hop_seconds=hop_seconds)
    for recording in heard:
        gathered.add(recording, *waiting.popleft())
        if progress is not None:
            progress(gathered.num_heard + len(excluded), total)
    return gathered.finished(excluded)


class _Gathered:
    """Songs as they come out of the pipeline."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        self._songs: list[tuple[str, str, str]] = []
        self._seconds: list[float] = []
        self._quality: list[list[str]] = []
        self._bpm: list[float] = []
        self._labels: dict[str, list[np.ndarray]] = {task["name"]: [] for task in tasks}
        self._logits: dict[str, list[np.ndarray]] = {task["name"]: [] for task in tasks}
        self._windows: list[tuple[int, float, float]] = []
        self._silent: list[str] = []
        self._broken: list[dict[str, str]] = []
        self.num_heard = 0

    def add(self, recording: Any, name: str, group: str, content: str, row: Mapping[str, Any]) -> None:
        self.num_heard += 1
        if recording.error is not None:
            self._broken.append(
                {"song": name, "error": _without_path(str(recording.error), recording.error.file, name)}
            )
            return
        sounding = [
            (window, logits)
            for window, logits in zip(recording.windows, recording.logits, strict=True)
            if logits is not None
        ]
        if not sounding:
            self._silent.append(name)
            return
        number = len(self._songs)
        self._songs.append((name, group, content))
        self._seconds.append(recording.report.duration)
        self._quality.append(list(recording.report.quality))
        self._bpm.append(_number(row.get("bpm")))
        labels = row_labels(self._tasks, row)
        for task in self._tasks:
            self._labels[task["name"]].append(labels[task["name"]])
        for window, logits in sounding:
            self._windows.append((number, window.start, window.end))
            for task in self._tasks:
                self._logits[task["name"]].append(np.asarray(logits[task["name"]], dtype=np.float32))

    def finished(self, excluded: list[str]) -> Predictions:
        sizes = {task["name"]: len(task["labels"]) for task in self._tasks}
        shapes = {
            task["name"]: () if task["type"] == "single_label" else (sizes[task["name"]],) for task in self._tasks
        }
        return Predictions(
            tasks=self._tasks,
            songs=[name for name, _, _ in self._songs],
            groups=[group for _, group, _ in self._songs],
            content_ids=[content for _, _, content in self._songs],
            seconds=np.array(self._seconds, dtype=np.float64),
            quality=self._quality,
            # Reshaped, so that nothing has the shape of nothing of the right size.
            labels={name: np.array(values).reshape(-1, *shapes[name]) for name, values in self._labels.items()},
            bpm=np.array(self._bpm, dtype=np.float64),
            window_songs=np.array([number for number, _, _ in self._windows], dtype=np.int64),
            window_starts=np.array([start for _, start, _ in self._windows], dtype=np.float64),
            window_ends=np.array([end for _, _, end in self._windows], dtype=np.float64),
            logits={
                name: np.array(values, dtype=np.float32).reshape(-1, sizes[name])
                for name, values in self._logits.items()
            },
            silent=self._silent,
            broken=self._broken,
            excluded=excluded,
        )


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _without_path(message: str, file: str | None, name: str) -> str:
    """The message with the song's name for its path: results are passed on, and a path says more than it should."""
    return message.replace(file, name) if file else message
