# SPDX-License-Identifier: Apache-2.0
"""The `music-embedding` pipeline: recordings of any length in, one vector each out."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedConfig

from .audio_input import AudioReadError, open_audio
from .pipeline_recordings import Recording, RecordingPipeline

SHORTEST_CHUNK_SECONDS = 0.1
# Fields of the families' configs that change no embedding: labels and their calibration, and what only training sees.
_WITHOUT_EFFECT = frozenset(
    ["tasks", "thresholds", "temperatures", "focal_gamma", "label_smoothing", "backbones"]
    + ["patchout", "projector_sizes", "temperature", "input_samples"]
)
# Likewise of an extractor.
_NOT_HEARD = frozenset(
    ["auto_map", "feature_extractor_type", "processor_class", "return_attention_mask", "padding_side", "max_samples"]
)
_WINDOW = frozenset(["window_seconds", "window_samples", "hop_seconds"])


@dataclass
class Track(Recording):
    """A recording that is heard whole or in chunks.

    Attributes:
        pieces: Spectrograms that wait for the model, each `(num_frames, num_mel_bins)`; none of silence.
        mode: How the last of them was heard, as the model says.
    """

    pieces: list[np.ndarray] = field(default_factory=list)
    mode: str | None = None


class MusicEmbeddingPipeline(RecordingPipeline):
    """Embed recordings with the base model of any family of this package.

    A model that takes tracks of any length hears each recording as one. Other models hear a few seconds at a time: a
    recording is cut into windows, and the mean over its sounding windows is its embedding.

    Input: a path, `bytes`, an open file, a numpy array or torch tensor (mono, or two-dimensional with its channels on
    the shorter axis), `{"array" or "raw", "sampling_rate"}`, `{"path", "bytes"}`, a torchcodec `AudioDecoder`; or a
    list, generator or dataset of these.

    Example:
        ```python
        >>> pipe = pipeline("music-embedding", model="my-encoder")  # doctest: +SKIP
        >>> len(pipe("song.mp3")["embedding"])  # doctest: +SKIP
        192

        ```
    """

    task_name = "music-embedding"
    postprocess_options = ("chunk_seconds", "on_error")

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Embed one recording, or many.

        Args:
            inputs: A recording or an iterable of recordings, as listed above.
            chunk_seconds (float): Cut the recording into chunks of this length, one after the other, and give the mean
                of their embeddings; default `None`: the whole recording at once, or of a model that cannot do that
                windows as its extractor cuts them. The level of a chunk is seen against the whole recording's.
            batch_size (int): Recordings or chunks in a forward pass; default 8. Whole recordings go together only if
                they are of one length, and no more of them than the model's `max_tokens` allows.
            num_workers (int): Threads that read and analyse recordings ahead of the model; default 0, which does
                nothing ahead.
            sampling_rate (int): Hz, of bare arrays; default the extractor's.
            allow_url (bool): Fetch `http(s)` URLs; default `False`.
            on_error (str): "raise", or "record": a recording that cannot be read yields `{"file", "error"}` with a
                warning, and the others are embedded. Default: raise for one recording, record for many.

        Returns:
            For one recording a dict of plain JSON types: `file`, `duration` in seconds, `sampling_rate` of the file,
            `quality` flags, `mode`, `embedding` (a list of floats), `model` and `settings`. The mode is "whole", or of
            recordings beyond the model's `max_tokens` "patchout" or "two_level" (see the model's config), or "chunks".
            Of silence `mode` and `embedding` are `None`, and `quality` says "silent".
            For a list a list of these; for a generator or dataset an iterator.

        Raises:
            AudioReadError: A recording cannot be read; a `ValueError` of one line that says why.
            ValueError: An option is out of range, or the model has nothing that could be an embedding.
            RuntimeError: The model gave a NaN or infinite embedding.
            TypeError: An option is unknown.
        """
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict, dict, dict]:
        if not hasattr(self.feature_extractor, "featurize"):
            raise ValueError(
                f"music-embedding cannot use {self.model.config.model_type!r} models: their "
                f"{type(self.feature_extractor).__name__} does not cut recordings of any length. It takes the families "
                "of hf-mathrock: Myna, MathRock and the taggers."
            )
        if window := {"window_seconds", "hop_seconds"} & set(kwargs):
            raise TypeError(f"music-embedding has no option {min(window)!r}; the length of a chunk is chunk_seconds.")
        if "chunk_seconds" not in kwargs:
            return super()._sanitize_parameters(**kwargs)
        chunk = kwargs["chunk_seconds"]
        self._settings(chunk)
        if self.hears_whole_tracks:
            preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
            return {**preprocess, "chunk_seconds": chunk}, forward, postprocess
        preprocess, forward, postprocess = super()._sanitize_parameters(
            **kwargs, window_seconds=chunk, hop_seconds=chunk
        )
        return preprocess, forward, {name: postprocess[name] for name in postprocess if name not in _WINDOW}

    @property
    def hears_whole_tracks(self) -> bool:
        """Whether the model takes recordings of any length as they are."""
        return hasattr(self.feature_extractor, "values_of")

    # Windows, of models that hear a few seconds: the base class's way, without logits.

    def _forward(self, model_inputs: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        output = self.model(**{key: self._as_model(value) for key, value in model_inputs.items()})
        embeddings = getattr(output, "pooler_output", None)
        embeddings = getattr(output, "embeddings", None) if embeddings is None else embeddings
        if embeddings is None:
            raise ValueError(
                f"{type(self.model).__name__} gives neither `pooler_output` nor `embeddings`, so there is nothing that "
                "stands for a whole recording; load the checkpoint as AutoModel, or use one of hf-mathrock's families."
            )
        return {"task_logits": {}, "embeddings": embeddings, "mode": getattr(output, "mode", None)}

    # Whole tracks and their chunks.

    def get_iterator(
        self,
        inputs: Iterable[Any],
        num_workers: int,
        batch_size: int,
        preprocess_params: dict,
        forward_params: dict,
        postprocess_params: dict,
    ) -> Iterator[dict[str, Any]]:
        """Results in order; `num_workers` threads read ahead, where the model hears whole tracks."""
        if self.hears_whole_tracks:
            preprocess_params = {**preprocess_params, "num_workers": num_workers}
        return super().get_iterator(
            inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params
        )

    def _stream(
        self, inputs: Iterable[Any], batch_size: int, preprocess_params: dict, forward_params: dict
    ) -> Iterator[Recording]:
        if not self.hears_whole_tracks:
            yield from super()._stream(inputs, batch_size, preprocess_params, forward_params)
            return
        options = dict(preprocess_params)
        num_workers = options.pop("num_workers", 0)
        waiting: list[Track] = []
        num_pieces = num_frames = 0
        for track in self._read_ahead(inputs, num_workers, options):
            waiting.append(track)
            num_pieces += len(track.pieces)
            num_frames += sum(map(len, track.pieces))
            # What needs no model fills no batch, but its result must come all the same.
            if num_pieces >= batch_size or num_frames >= self._frames_at_once or len(waiting) >= 8 * batch_size:
                self._embed(waiting, batch_size, forward_params)
                yield from waiting
                waiting, num_pieces, num_frames = [], 0, 0
        self._embed(waiting, batch_size, forward_params)
        yield from waiting

    def _read_ahead(self, inputs: Iterable[Any], num_workers: int, options: dict[str, Any]) -> Iterator[Track]:
        """Tracks in order, of which up to `num_workers` are read while the model is at work."""
        if num_workers < 1:
            yield from (self._read(recording, **options) for recording in inputs)
            return
        pool = ThreadPoolExecutor(num_workers, thread_name_prefix="reading")
        try:
            coming: deque[Future[Track]] = deque()
            for recording in inputs:
                coming.append(pool.submit(self._read, recording, **options))
                if len(coming) > num_workers:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _read(
        self,
        inputs: Any,
        chunk_seconds: float | None = None,
        sampling_rate: int | None = None,
        allow_url: bool = False,
    ) -> Track:
        extractor, track = self.feature_extractor, Track()
        if isinstance(inputs, Mapping) and "audio" in inputs:  # a whole row of a data set
            inputs = inputs["audio"]
        try:
            with open_audio(inputs, sampling_rate or extractor.sampling_rate, allow_url=allow_url) as source:
                decibels = extractor.decibels(source)
                track.report = source.report()
        except AudioReadError as error:
            track.error = error
            return track
        if "silent" in track.report.quality:
            return track
        reference = extractor.reference_of(decibels)
        if chunk_seconds is None:
            track.pieces = [extractor.values_of(decibels, reference)]
            return track
        chunks = cut_chunks(decibels, chunk_seconds, extractor.frames_per_second, extractor.min_frames)
        values = [extractor.values_of(chunk, reference) for chunk in chunks]
        # As a silent window, a chunk of which nothing rises above the floor says nothing.
        track.pieces = [value for value in values if float(value.max()) > extractor.floor + 1e-6] or values[:1]
        return track

    @property
    def _frames_at_once(self) -> int:
        """Frames that go through the model together, unless a single recording has more."""
        config = self.model.config
        return max(1, int(config.max_tokens / config.tokens_per_second * config.frames_per_second))

    def _embed(self, tracks: Sequence[Track], batch_size: int, forward_params: dict) -> None:
        """Send the pieces of tracks through the model, those of one length together."""
        extractor = self.feature_extractor
        by_length: dict[int, list[tuple[Track, int]]] = {}
        for track in tracks:
            track.embeddings = [np.empty(0)] * len(track.pieces)
            for index, piece in enumerate(track.pieces):
                by_length.setdefault(max(len(piece), extractor.min_frames), []).append((track, index))
        for length, entries in by_length.items():
            size = max(1, min(batch_size, self._frames_at_once // length))
            for first in range(0, len(entries), size):
                batch = entries[first : first + size]
                features = torch.full((len(batch), length, extractor.feature_size), extractor.floor)
                for row, (track, index) in enumerate(batch):
                    piece = track.pieces[index]
                    features[row, : len(piece)] = torch.from_numpy(piece)
                output = self.forward({"input_features": features}, **forward_params)
                for (track, index), embedding in zip(batch, output["embeddings"].float().numpy(), strict=True):
                    track.embeddings[index], track.mode = embedding, output["mode"]
        for track in tracks:
            track.pieces = []

    def postprocess(self, recording: Recording, chunk_seconds: float | None = None) -> dict[str, Any]:
        """The result of one recording, as plain JSON types; `chunk_seconds` as for `__call__`."""
        result = recording.facts()
        result["mode"], result["embedding"] = None, None
        if recording.embeddings:
            mean = np.stack(recording.embeddings).mean(axis=0, dtype=np.float64).astype(np.float32)
            if not np.isfinite(mean).all():
                raise RuntimeError(
                    f"The model gave a NaN or infinite embedding of {result['file'] or 'the recording'} although the "
                    "audio is finite: the checkpoint is broken, or its precision too low (try dtype=torch.float32)."
                )
            whole = self.hears_whole_tracks and chunk_seconds is None
            result["mode"] = getattr(recording, "mode", None) if whole else "chunks"
            result["embedding"] = mean.tolist()
        result["model"] = self.model_card
        result["settings"] = self._settings(chunk_seconds)
        return result

    def _settings(self, chunk_seconds: float | None) -> dict[str, Any]:
        """How recordings are cut.

        Raises:
            ValueError: The length is out of range.
        """
        if self.hears_whole_tracks:
            if chunk_seconds is None:
                return {"how": "whole"}
            if not SHORTEST_CHUNK_SECONDS <= chunk_seconds < float("inf"):
                raise ValueError(
                    f"`chunk_seconds` is {chunk_seconds}; it must be at least {SHORTEST_CHUNK_SECONDS} s, or None for "
                    "the whole recording."
                )
            return {"how": "chunks", "chunk_seconds": float(chunk_seconds)}
        window, hop = self.feature_extractor.checked_grid(chunk_seconds, chunk_seconds)
        return {"how": "chunks", "chunk_seconds": window, "hop_seconds": hop}

    def space(self, chunk_seconds: float | None = None) -> dict[str, Any]:
        """What two embeddings must have in common to be compared, as plain JSON types.

        Args:
            chunk_seconds: As for `__call__`.

        Returns:
            `model` (its name, for people), `model_type`, `fingerprint` of the weights, `revision` (the Hub's; `None` of
            a folder), how recordings are cut, `config` and `extractor`: all settings that change an embedding.

        Raises:
            ValueError: The length is out of range.
        """
        ignored = _NOT_HEARD | (_WINDOW if self.hears_whole_tracks else frozenset())
        extractor = self.feature_extractor.to_dict()
        return {
            "model": self.model_card["name"],
            "model_type": self.model.config.model_type,
            "fingerprint": self.model_card["fingerprint"],
            "revision": getattr(self.model.config, "_commit_hash", None),
            **self._settings(chunk_seconds),
            "config": _plain(_own_fields(self.model.config)),
            "extractor": _plain({name: value for name, value in extractor.items() if name not in ignored}),
        }


def cut_chunks(
    decibels: np.ndarray, chunk_seconds: float, frames_per_second: float, min_frames: int
) -> list[np.ndarray]:
    """A spectrogram in chunks, one after the other.

    As of windows, a rest becomes a chunk of its own if nothing else does, or if it has a second (or half a chunk, where
    that is less) and fills a patch.

    Args:
        decibels: `(num_frames, num_mel_bins)`.
        chunk_seconds: Length of a chunk.
        frames_per_second: Of the spectrogram.
        min_frames: Frames of the widest patch; chunks are at least that long.

    Example:
        >>> [len(chunk) for chunk in cut_chunks(np.zeros((100, 1)), 4.0, 10.0, 5)]
        [40, 40, 20]
    """
    length = max(min_frames, round(chunk_seconds * frames_per_second))
    chunks = [decibels[first : first + length] for first in range(0, len(decibels), length)]
    least = max(min_frames, min(frames_per_second, length / 2))
    return chunks[:-1] if len(chunks) > 1 and len(chunks[-1]) < least else chunks


def _own_fields(config: Any) -> dict[str, Any]:
    """What a config says beside what every config of transformers says."""
    common = {entry.name for entry in fields(PreTrainedConfig)} | _WITHOUT_EFFECT
    own = {entry.name: getattr(config, entry.name) for entry in fields(config) if entry.name not in common}
    return {
        name: _own_fields(value) if isinstance(value, PreTrainedConfig) else value
        for name, value in own.items()
        if not name.startswith("_")
    }


def _plain(value: Any) -> Any:
    """As JSON would bring it back, so that what was stored can be compared with what is."""
    return json.loads(json.dumps(value, sort_keys=True, default=str))
