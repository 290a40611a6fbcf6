# SPDX-License-Identifier: Apache-2.0
"""Embeddings of tracks for measuring: of whole tracks, as means over chunks, and a baseline without a model.

The two ways differ in nothing but what the encoder can see at a time: chunks are pieces of the track's spectrogram at
the track's own level, cut as the `music-embedding` pipeline cuts them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch

from hf_mathrock.models.audio_input import open_audio
from hf_mathrock.models.pipeline_music_embedding import cut_chunks

How = Literal["whole", "chunks"]
HOWS: tuple[str, ...] = get_args(How)
CHUNK_SECONDS = 3.0
STATISTICS_FLOOR_DB = -80.0
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Spectrogram:
    """A track's decibels `(num_frames, num_mel_bins)` and its level."""

    decibels: np.ndarray
    reference: float


def hears_whole_tracks(extractor: Any) -> bool:
    """Whether its model takes spectrograms of any length, rather than windows of the audio."""
    return hasattr(extractor, "values_of")


def embed_tracks(
    model: Any,
    extractor: Any,
    tracks: Sequence[Any],
    *,
    how: How = "whole",
    chunk_seconds: float | None = None,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> np.ndarray:
    """One embedding for each track.

    Args:
        model: Any base model of this package: its output has a `pooler_output` or `embeddings`. It is put into
            evaluation mode meanwhile.
        extractor: Its feature extractor.
        tracks: A `MelCache` or any sequence of its tracks, whose spectrograms the extractor must have made; or tracks
            with an `audio`, or whatever `open_audio` reads, or callables that give a waveform at the extractor's rate.
        how: "whole" lets the model hear a track at once; "chunks" takes the mean over chunks, but for those of silence.
        chunk_seconds: Length of a chunk, rounded to whole patches of the model. `None`: 3 s, or of a model that hears
            windows the length of those.
        batch_size: Chunks in a forward pass.
        progress: Called with (tracks done, tracks).

    Returns:
        `(num_tracks, embedding_size)` float32.

    Raises:
        ValueError: There are no tracks, an option is out of range, or the model cannot hear whole tracks.
        AudioReadError: A track cannot be read.
        RuntimeError: An embedding is not finite.
    """
    embedded, _ = embed_clips(
        model,
        extractor,
        tracks,
        clip_seconds=None,
        how=how,
        chunk_seconds=chunk_seconds,
        batch_size=batch_size,
        progress=progress,
    )
    return embedded


def embed_clips(
    model: Any,
    extractor: Any,
    tracks: Sequence[Any],
    *,
    clip_seconds: float | None,
    how: How = "whole",
    chunk_seconds: float | None = None,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """One embedding for each clip of each track, where a probe shall answer for clips.

    Args:
        model: See `embed_tracks`, as all that is not named here.
        extractor: See `embed_tracks`.
        tracks: See `embed_tracks`.
        clip_seconds: Length of a clip; a shorter one at the end is left out, and a shorter track is one clip. `None`:
            a track is one clip.
        how: What the model hears of a clip at a time.
        chunk_seconds: See `embed_tracks`.
        batch_size: See `embed_tracks`.
        progress: See `embed_tracks`.

    Returns:
        Embeddings `(num_clips, embedding_size)` and the number of the track of each, `(num_clips,)` int64.

    Raises:
        ValueError: See `embed_tracks`.
        AudioReadError: See `embed_tracks`.
        RuntimeError: See `embed_tracks`.
    """
    if how not in HOWS:
        raise ValueError(f"`how` is {how!r}; allowed are {', '.join(map(repr, HOWS))}.")
    if not len(tracks):
        raise ValueError("there are no tracks to embed.")
    embed = _spectrogram_embedder if hears_whole_tracks(extractor) else _window_embedder
    embeddings, numbers = [], []
    with _listening(model), torch.inference_mode():
        clips_of = embed(model, extractor, how, chunk_seconds, clip_seconds, batch_size)
        for number in range(len(tracks)):
            clips = clips_of(tracks[number])
            if not np.isfinite(clips).all():
                name = getattr(tracks[number], "id", number)
                raise RuntimeError(
                    f"the embedding of track {name!r} is not finite. Are the weights of the model sound?"
                )
            embeddings.append(clips)
            numbers += [number] * len(clips)
            if progress is not None:
                progress(number + 1, len(tracks))
    return np.concatenate(embeddings), np.array(numbers, dtype=np.int64)


def _spectrogram_embedder(
    model: Any, extractor: Any, how: str, chunk_seconds: float | None, clip_seconds: float | None, batch_size: int
) -> Callable[[Any], np.ndarray]:
    """For models that hear spectrograms of any length."""
    rate, least = extractor.frames_per_second, extractor.min_frames
    patch = math.lcm(*(frames for _, frames in getattr(model.config, "patch_sizes", ((1, 1),))))
    # A chunk that ends within a patch would lose the rest of it.
    wanted = CHUNK_SECONDS if chunk_seconds is None else _positive("chunk_seconds", chunk_seconds)
    chunk = patch * max(1, round(wanted * rate / patch)) / rate
    clip = None if clip_seconds is None else max(least, round(_positive("clip_seconds", clip_seconds) * rate))

    def pieces_of(values: np.ndarray) -> list[np.ndarray]:
        if how == "whole":
            return [values]
        chunks = cut_chunks(values, chunk, rate, least)
        return [part for part in chunks if float(part.max()) > extractor.floor + 1e-6] or chunks[:1]

    def embed(values: np.ndarray) -> np.ndarray:
        pieces = [_filled(piece, least, extractor.floor) for piece in pieces_of(values)]
        rows = []
        for length in sorted({len(piece) for piece in pieces}):
            same = [piece for piece in pieces if len(piece) == length]
            for first in range(0, len(same), batch_size):
                batch = torch.from_numpy(np.stack(same[first : first + batch_size]))
                rows.append(_forward(model, {"input_features": batch}))
        return np.concatenate(rows).mean(axis=0)

    def clips_of(track: Any) -> np.ndarray:
        heard = _spectrogram(track, extractor)
        values = extractor.values_of(heard.decibels, heard.reference)
        return np.stack([embed(piece) for piece in ([values] if clip is None else _cut(values, clip))])

    return clips_of


def _window_embedder(
    model: Any, extractor: Any, how: str, chunk_seconds: float | None, clip_seconds: float | None, batch_size: int
) -> Callable[[Any], np.ndarray]:
    """For models that hear windows of the audio, which have a greatest length."""
    if how == "whole":
        raise ValueError(
            f"this model hears windows of the audio (of {extractor.window_seconds:g} s), not whole tracks; only "
            "how='chunks' is possible."
        )
    if clip_seconds is not None:
        raise ValueError("clips are for models that hear tracks of any length; this one hears windows.")
    window, hop = extractor.checked_grid(chunk_seconds, chunk_seconds)

    def clips_of(track: Any) -> np.ndarray:
        with open_audio(_audio(track), extractor.sampling_rate) as source:
            windows = list(extractor.windows(source, window, hop))
        windows = [one for one in windows if "silent" not in one.quality] or windows[:1]
        batches = [windows[first : first + batch_size] for first in range(0, len(windows), batch_size)]
        parts = [_forward(model, extractor.featurize(batch)) for batch in batches]
        return np.concatenate(parts).mean(axis=0, keepdims=True)

    return clips_of


def _forward(model: Any, inputs: Any) -> np.ndarray:
    device, dtype = model.device, model.dtype
    given = {
        name: value.to(device=device, dtype=dtype if value.is_floating_point() else value.dtype)
        for name, value in inputs.items()
        if isinstance(value, torch.Tensor)
    }
    output = model(**given, return_dict=True)
    pooled = getattr(output, "pooler_output", None)
    return (output.embeddings if pooled is None else pooled).float().cpu().numpy()


@contextmanager
def _listening(model: Any) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _audio(track: Any) -> Any:
    if hasattr(track, "decibels"):
        raise ValueError("this model hears audio; tracks of a mel cache have none. Give the recordings.")
    audio = getattr(track, "audio", track)
    return audio() if callable(audio) else audio


def _spectrogram(track: Any, extractor: Any) -> _Spectrogram:
    if hasattr(track, "decibels"):
        return _Spectrogram(track.decibels, track.reference)
    with open_audio(_audio(track), extractor.sampling_rate) as source:
        decibels = extractor.decibels(source)
    return _Spectrogram(decibels, extractor.reference_of(decibels))


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"`{name}` is {value}; a number of seconds above 0 is needed.")
    return value


def _cut(values: np.ndarray, length: int) -> list[np.ndarray]:
    """Pieces of a length, without the shorter one at the end; all of it where it is shorter itself."""
    return [values[first : first + length] for first in range(0, len(values) - length + 1, length)] or [values]


def _filled(values: np.ndarray, length: int, floor: float) -> np.ndarray:
    return np.pad(values, ((0, max(0, length - len(values))), (0, 0)), constant_values=floor)


def mel_statistics(tracks: Sequence[Any], extractor: Any | None = None, progress: Progress | None = None) -> np.ndarray:
    """What any encoder must beat: statistics over time of each mel band, in decibels below the track's level.

    Args:
        tracks: As for `embed_tracks`.
        extractor: Needed where tracks are audio.
        progress: Called with (tracks done, tracks).

    Returns:
        `(num_tracks, 4 * num_mel_bins)` float32: mean and deviation of each band, then mean and deviation of how much
        it changes from frame to frame, without its sign.

    Raises:
        ValueError: There are no tracks.
        AudioReadError: A track cannot be read.
    """
    if not len(tracks):
        raise ValueError("there are no tracks to measure.")
    rows = []
    for number in range(len(tracks)):
        heard = _spectrogram(tracks[number], extractor)
        level = np.asarray(heard.decibels, np.float32) - np.float32(heard.reference)
        level = np.clip(level, STATISTICS_FLOOR_DB, 0.0)
        change = np.abs(np.diff(level, axis=0)) if len(level) > 1 else np.zeros_like(level)
        rows.append(np.concatenate([level.mean(0), level.std(0), change.mean(0), change.std(0)]))
        if progress is not None:
            progress(number + 1, len(tracks))
    return np.stack(rows).astype(np.float32)
