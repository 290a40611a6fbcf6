# SPDX-License-Identifier: Apache-2.0
"""Mel spectrograms of many tracks, in other processes and in order."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from typing import Any

import numpy as np
import torch

from hf_mathrock.data.content import content_id
from hf_mathrock.data.tracks import Track
from hf_mathrock.models.audio_input import AudioReadError, open_audio


@dataclass(frozen=True)
class ComputedTrack:
    """What is computed of a track.

    Attributes:
        decibels: float16 `(num_frames, num_mel_bins)`.
        reference: The track's level in dB.
        silent: There is nothing to hear in it.
        content: `content_id` of its audio; `None` where it was generated.
    """

    decibels: np.ndarray
    reference: float
    silent: bool
    content: str | None


def _compute(extractor: Any, track: Track) -> ComputedTrack | str:
    """The spectrogram of a track, or why it cannot be read."""
    try:
        audio = track.audio() if callable(track.audio) else track.audio
        with open_audio(audio, extractor.sampling_rate) as source:
            decibels = extractor.decibels(source)
            silent = "silent" in source.report().quality
        content = None if callable(track.audio) else content_id(track.audio)
    except (AudioReadError, OSError) as error:
        return " ".join(str(error).split())
    return ComputedTrack(decibels.astype(np.float16), extractor.reference_of(decibels), silent, content)


_work: Callable[[Track], ComputedTrack | str]


def _begin_work(extractor: Any) -> None:
    """Prepare a worker process."""
    global _work
    torch.set_num_threads(1)
    _work = partial(_compute, extractor)
    # A worker whose parent was killed would wait for work for ever.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do_work(track: Track) -> ComputedTrack | str:
    return _work(track)


def computed_tracks(
    tracks: Sequence[Track], extractor: Any, num_workers: int
) -> Iterator[tuple[Track, ComputedTrack | str]]:
    """The tracks' spectrograms in order, computed a few tracks ahead.

    Args:
        tracks: Whose `audio` may be a callable that gives a waveform.
        extractor: With `decibels`, `reference_of` and `sampling_rate`.
        num_workers: Processes; 0: this one.

    Yields:
        Each track with what was computed of it, or with one line that says why it cannot be read.

    Raises:
        RuntimeError: A process died.
    """
    if num_workers < 1 or not tracks:
        for track in tracks:
            yield track, _compute(extractor, track)
        return
    # Spawned, not forked: torch's threads do not survive a fork.
    pool = ProcessPoolExecutor(
        min(num_workers, len(tracks)), get_context("spawn"), initializer=_begin_work, initargs=(extractor,)
    )
    waiting: deque[tuple[Track, Any]] = deque()
    first = tracks[0]
    try:
        for track in tracks:
            waiting.append((track, pool.submit(_do_work, track)))
            if len(waiting) >= 4 * num_workers:
                first, result = waiting.popleft()
                yield first, result.result()
        while waiting:
            first, result = waiting.popleft()
            yield first, result.result()
    except BrokenProcessPool as error:
        suspects = ", ".join(repr(track.id) for track in [first, *(track for track, _ in waiting)][: 2 * num_workers])
        raise RuntimeError(
            f"A process that computed mel spectrograms died: out of memory, by a crash in a decoder at one of "
            f"{suspects}, or because a script without `if __name__ == '__main__':` began anew in it. What is computed "
            "already stays; run again to go on, without that file if it happens again."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
