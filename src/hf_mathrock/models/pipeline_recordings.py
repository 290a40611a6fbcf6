# SPDX-License-Identifier: Apache-2.0
"""What all pipelines share: recordings of any length in, the model's outputs of their windows out, in batches."""

from __future__ import annotations

import difflib
import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from transformers.dynamic_module_utils import custom_object_save
from transformers.pipelines.base import ChunkPipeline

from .audio_input import AudioReadError, AudioReport, AudioWindow, open_audio
from .scoring import AGGREGATIONS

DEFAULT_BATCH_SIZE = 8
_MAX_SILENT_WAITING = 64
PREPROCESS_OPTIONS = ("window_seconds", "hop_seconds", "sampling_rate", "allow_url")


@dataclass
class Recording:
    """One input on its way through the pipeline: its windows go in, their outputs come back.

    Attributes:
        report: What reading showed; `None` if it failed.
        error: Why it could not be read.
        windows: Its windows, without their audio.
        logits: Of every window, by task, `(num_labels,)`; `None` where it is silent.
        embeddings: Of every sounding window, `(hidden_size,)`.
    """

    report: AudioReport | None = None
    error: AudioReadError | None = None
    windows: list[AudioWindow] = field(default_factory=list)
    logits: list[dict[str, np.ndarray] | None] = field(default_factory=list)
    embeddings: list[np.ndarray] = field(default_factory=list)

    def add(self, window: AudioWindow, output: Mapping[str, Any] | None) -> None:
        """Keep what a window said (`None`: silence says nothing), and of the window its times and flags only."""
        window.audio, window.before = {}, {}
        self.windows.append(window)
        self.logits.append(None if output is None else output["logits"])
        if output is not None:
            self.embeddings.append(output["embedding"])

    def facts(self) -> dict[str, Any]:
        """What every result begins with, as plain JSON: `file`, `duration` in s, `sampling_rate`, `quality`."""
        report = self.report
        assert report is not None  # `get_iterator` gives only recordings that were read
        return {
            "file": report.file,
            "duration": round(report.duration, 3),
            "sampling_rate": report.sampling_rate,
            "quality": report.quality,
        }

    def mean_embedding(self) -> list[float] | None:
        """Mean embedding of the sounding windows; `None`: all is silent."""
        if not self.embeddings:
            return None
        mean = np.stack(self.embeddings).mean(axis=0, dtype=np.float64)
        return [round(value, 6) for value in mean.tolist()]


class RecordingPipeline(ChunkPipeline):
    """Base of the pipelines over recordings.

    A recording is read window by window, so that one of any length runs in bounded memory; the windows of one
    recording, and of several in a list, go through the model in batches of `batch_size`. A subclass gives
    `postprocess_options` and `postprocess`, and checks its options in `_checked_options`.

    Input: a path, `bytes`, an open file, a numpy array or torch tensor (mono, or two-dimensional with its channels on
    the shorter axis), `{"array" or "raw", "sampling_rate"}`, `{"path", "bytes"}`, a torchcodec `AudioDecoder`; or a
    list, generator or dataset of these.
    """

    task_name: ClassVar[str]
    postprocess_options: ClassVar[tuple[str, ...]]

    _load_tokenizer = False
    _load_feature_extractor = True
    _load_image_processor = False
    _load_processor = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model.eval()  # one straight from a trainer would still drop units out
        self._card: tuple[Any, dict[str, Any]] | None = None

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """The result of one recording, or of many; the options are those of the subclass.

        Returns:
            For one recording its result; for a list a list of results; for a generator or dataset an iterator.

        Raises:
            AudioReadError: A recording cannot be read; a `ValueError` of one line that says why.
            ValueError: An option is out of range.
            TypeError: An option is unknown.
        """
        if inputs is None:
            raise TypeError("The recording is None; pass a path, samples with their rate, or a list of recordings.")
        single = _is_recording(inputs)
        if not single:
            # A dataset keeps its length, a list gives a list; any other iterable becomes a generator.
            if isinstance(inputs, tuple):
                inputs = list(inputs)
            elif not isinstance(inputs, (list, torch.utils.data.Dataset)):
                inputs = (recording for recording in inputs)
            if isinstance(inputs, list) and not inputs:
                return []
        if not single and "on_error" not in self._postprocess_params:
            kwargs.setdefault("on_error", "record")
        batch_size = kwargs.pop("batch_size", None) or self._batch_size or DEFAULT_BATCH_SIZE
        if batch_size < 1:
            raise ValueError(f"`batch_size` is {batch_size}; it must be at least 1.")
        kwargs["batch_size"] = batch_size
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict, dict, dict]:
        known = sorted({*PREPROCESS_OPTIONS, *self.postprocess_options})
        for name in kwargs:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise TypeError(f"{self.task_name} has no option {name!r}{hint} Options: {', '.join(known)}.")
        preprocess = {name: kwargs[name] for name in PREPROCESS_OPTIONS if name in kwargs}
        postprocess = {name: kwargs[name] for name in self.postprocess_options if name in kwargs}
        self.feature_extractor.checked_grid(kwargs.get("window_seconds"), kwargs.get("hop_seconds"))
        if kwargs.get("aggregation", "mean") not in AGGREGATIONS:
            raise ValueError(f"`aggregation` is {kwargs['aggregation']!r}; allowed: {', '.join(AGGREGATIONS)}.")
        if kwargs.get("on_error", "raise") not in ("raise", "record"):
            raise ValueError(f"`on_error` is {kwargs['on_error']!r}; allowed: raise, record.")
        if (top_k := kwargs.get("top_k")) is not None and top_k < 1:
            raise ValueError(f"`top_k` is {top_k}; it must be at least 1, or None for all labels.")
        return preprocess, {}, self._checked_options(postprocess)

    def _checked_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options of `postprocess` in their plain form.

        Raises:
            ValueError: One is out of range.
        """
        return options

    # From input to windows, from windows to outputs, from outputs to a result.

    def preprocess(
        self,
        inputs: Any,
        window_seconds: float | None = None,
        hop_seconds: float | None = None,
        sampling_rate: int | None = None,
        allow_url: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """Windows of one recording as they are read: `{"recording", "window", "is_last"}`.

        Args:
            inputs: One recording.
            window_seconds: See `__call__`.
            hop_seconds: See `__call__`.
            sampling_rate: See `__call__`.
            allow_url: See `__call__`.
        """
        extractor = self.feature_extractor
        recording = Recording()
        if isinstance(inputs, Mapping) and "audio" in inputs:  # a whole row of a data set
            inputs = inputs["audio"]
        try:
            with open_audio(inputs, sampling_rate or extractor.sampling_rate, allow_url=allow_url) as source:
                window = None
                for following in extractor.windows(source, window_seconds, hop_seconds):
                    if window is not None:
                        yield {"recording": recording, "window": window, "is_last": False}
                    window = following
                recording.report = source.report()
                yield {"recording": recording, "window": window, "is_last": True}
        except AudioReadError as error:
            recording.error = error
            yield {"recording": recording, "window": None, "is_last": True}

    def _forward(self, model_inputs: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        output = self.model(**{key: self._as_model(value) for key, value in model_inputs.items()})
        return {"task_logits": dict(output.task_logits), "embeddings": output.embeddings}

    def _as_model(self, value: torch.Tensor) -> torch.Tensor:
        return value.to(self.model.dtype) if value.is_floating_point() else value

    def _outputs(self, windows: Sequence[AudioWindow], forward_params: dict) -> list[dict[str, Any]]:
        """One forward pass: the logits and embedding of every window."""
        outputs = self.forward(self.feature_extractor.featurize(windows), **forward_params)
        logits = {name: values.float().numpy() for name, values in outputs["task_logits"].items()}
        embeddings = outputs["embeddings"].float().numpy()
        for name, values in logits.items():
            if not np.isfinite(values).all():
                raise RuntimeError(
                    f"The model gave non-finite logits for {name!r} although the audio is finite: the checkpoint is "
                    "broken, or its precision too low (try dtype=torch.float32)."
                )
        return [
            {"logits": {name: values[row] for name, values in logits.items()}, "embedding": embeddings[row]}
            for row in range(len(windows))
        ]

    def _stream(
        self, inputs: Iterable[Any], batch_size: int, preprocess_params: dict, forward_params: dict
    ) -> Iterator[Recording]:
        """Recordings in order, each as soon as its last window has been through the model."""
        waiting: list[dict[str, Any]] = []
        num_sounding = 0

        def flush() -> Iterator[Recording]:
            sounding = [chunk["window"] for chunk in waiting if _sounds(chunk["window"])]
            outputs = iter(self._outputs(sounding, forward_params) if sounding else [])
            for chunk in waiting:
                recording, window = chunk["recording"], chunk["window"]
                if window is not None:
                    recording.add(window, next(outputs) if _sounds(window) else None)
                if chunk["is_last"]:
                    yield recording
            waiting.clear()

        for recording in inputs:
            for chunk in self.preprocess(recording, **preprocess_params):
                waiting.append(chunk)
                if _sounds(chunk["window"]):
                    num_sounding += 1
                elif chunk["window"] is not None:
                    chunk["window"].audio, chunk["window"].before = {}, {}  # hours of silence must not pile up
                # Silence does not fill a batch, but results must come all the same.
                if num_sounding >= batch_size or len(waiting) >= batch_size + _MAX_SILENT_WAITING:
                    yield from flush()
                    num_sounding = 0
        yield from flush()

    def listen(
        self,
        inputs: Iterable[Any],
        batch_size: int = DEFAULT_BATCH_SIZE,
        window_seconds: float | None = None,
        hop_seconds: float | None = None,
    ) -> Iterator[Recording]:
        """What the model made of every window, before any temperature, aggregation or threshold.

        Args:
            inputs: Recordings; one that cannot be read comes back with its `error`.
            batch_size: Windows in a forward pass.
            window_seconds: See `__call__`.
            hop_seconds: See `__call__`.
        """
        grid = {"window_seconds": window_seconds, "hop_seconds": hop_seconds}
        return self._stream(inputs, batch_size, grid, {})

    def get_iterator(
        self,
        inputs: Iterable[Any],
        num_workers: int,
        batch_size: int,
        preprocess_params: dict,
        forward_params: dict,
        postprocess_params: dict,
    ) -> Iterator[dict[str, Any]]:
        """Results in order; `num_workers` is not used, decoding takes a fraction of the model's time.

        Replaces the stock loader, which forwards the windows of a single input one by one.
        """
        params = dict(postprocess_params)
        on_error = params.pop("on_error", "raise")
        for recording in self._stream(_items(inputs), batch_size, preprocess_params, forward_params):
            if recording.error is None:
                yield self.postprocess(recording, **params)
            elif on_error == "raise":
                raise recording.error
            else:
                warnings.warn(str(recording.error), stacklevel=2)
                yield {"file": recording.error.file, "error": str(recording.error)}

    @property
    def model_card(self) -> dict[str, Any]:
        """Which weights speak: their `name`, and a `fingerprint` that changes with any of them."""
        # Weights change by counted operations; only what was counted anew is read anew.
        state = tuple(
            (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version)
            for tensor in self.model.state_dict(keep_vars=True).values()
        )
        if self._card is None or self._card[0] != state:
            self._card = (state, self._described())
        return self._card[1]

    def _described(self) -> dict[str, Any]:
        digest = hashlib.blake2b(digest_size=8)
        for name, tensor in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        source = str(self.model.config._name_or_path or "")
        # A folder's name, not its path: results are passed on, and a path says more than it should.
        name = os.path.basename(os.path.normpath(source)) if os.path.isdir(source) else source
        return {"name": name or self.model.config.model_type, "fingerprint": digest.hexdigest()}

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save the model, the extractor and their code as one folder that `pipeline` loads anywhere.

        Unlike the stock method it leaves the config's `custom_pipelines` as they are: those of this machine would name
        the embedded checkpoint's place on it.

        Args:
            save_directory: The folder; made if absent.
            **kwargs: Passed on to the model's and the extractor's `save_pretrained`.
        """
        os.makedirs(save_directory, exist_ok=True)
        self.model.save_pretrained(save_directory, **kwargs)
        self.feature_extractor.save_pretrained(save_directory, **kwargs)
        custom_object_save(self, save_directory)


def _is_recording(value: Any) -> bool:
    """Whether this is one recording, not a collection of them."""
    return (
        isinstance(value, (str, os.PathLike, bytes, bytearray, memoryview, Mapping, np.ndarray, torch.Tensor))
        or hasattr(value, "read")
        or hasattr(value, "get_all_samples")
    )


def _items(inputs: Any) -> Iterator[Any]:
    """Iterate over a map-style dataset too, whose length alone tells where it ends."""
    if hasattr(inputs, "__getitem__") and not hasattr(inputs, "__iter__"):
        return (inputs[index] for index in range(len(inputs)))
    return iter(inputs)


def _sounds(window: AudioWindow | None) -> bool:
    return window is not None and "silent" not in window.quality
