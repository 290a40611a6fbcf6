# SPDX-License-Identifier: Apache-2.0
"""What two frozen backbones make of every window of a recording, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_mathrock.data.content import content_id
from hf_mathrock.models.audio_input import AudioReadError, AudioWindow, open_audio

CACHE_DIR = Path.home() / ".cache" / "hf-mathrock" / "embeddings"
CACHE_VERSION = 1  # to be raised when the same audio and settings give other windows, inputs or files
BACKBONES = ("wavlm", "clap_audio")
_MAX_BYTES_IN_MEMORY = 256 * 2**20
_METADATA_KEY = b"hf_mathrock"
# What says where a config comes from, and not what its model computes.
_PROVENANCE = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "id2label", "label2id"}


@dataclass(frozen=True)
class RecordingEmbeddings:
    """The windows of one recording, as the backbones hear them.

    Attributes:
        wavlm: Mean of the valid WavLM frames, float32 `(num_windows, wavlm_hidden_size)`.
        clap_audio: Pooled output of the CLAP tower, float32 `(num_windows, clap_audio_hidden_size)`.
        start: Seconds, float64 `(num_windows,)`.
        end: Seconds, float64 `(num_windows,)`.
        silent: `(num_windows,)` booleans: there is nothing to hear in the window.
    """

    wavlm: np.ndarray
    clap_audio: np.ndarray
    start: np.ndarray
    end: np.ndarray
    silent: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    @property
    def num_bytes(self) -> int:
        """What it takes in memory."""
        return sum(values.nbytes for values in self.__dict__.values())

    def digest(self) -> str:
        """Changes with every bit of every value."""
        digest = hashlib.blake2b(digest_size=16)
        for values in self.__dict__.values():
            digest.update(f"{values.dtype} {values.shape} ".encode() + np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()


class EmbeddingStore:
    """A folder with one Arrow IPC file per recording, named by the recording's content.

    Args:
        folder: All that the values depend on beside the audio is in its name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._recent: OrderedDict[str, RecordingEmbeddings] = OrderedDict()
        self._num_bytes = 0

    def path(self, content: str) -> Path:
        """Where a recording's file is, or would be."""
        return self.folder / f"{content}.arrow"

    def load(self, content: str) -> RecordingEmbeddings | None:
        """A recording, from memory if it was asked for lately; `None` if there is no file, or no sound one."""
        if content in self._recent:
            self._recent.move_to_end(content)
            return self._recent[content]
        recording = self._read(content)
        if recording is not None:
            self._recent[content] = recording
            self._num_bytes += recording.num_bytes
            while self._num_bytes > _MAX_BYTES_IN_MEMORY and len(self._recent) > 1:
                self._num_bytes -= self._recent.popitem(last=False)[1].num_bytes
        return recording

    def _read(self, content: str) -> RecordingEmbeddings | None:
        import pyarrow as pa

        try:
            # Read whole, not mapped: a file that shrinks under a map ends the process.
            table = pa.ipc.open_file(pa.BufferReader(self.path(content).read_bytes())).read_all()
            table.validate(full=True)
            facts = json.loads((table.schema.metadata or {})[_METADATA_KEY])
            columns = {name: table.column(name).combine_chunks() for name in table.column_names}
            recording = RecordingEmbeddings(
                **{name: _matrix(columns[name]) for name in BACKBONES},
                **{name: columns[name].to_numpy(zero_copy_only=False).copy() for name in ("start", "end", "silent")},
            )
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        is_sound = facts == self._facts(content, recording) and len(recording) > 0
        return recording if is_sound else None

    def save(self, content: str, recording: RecordingEmbeddings) -> None:
        """Write a recording's file; it is there whole or not at all, whoever else writes it at the same time."""
        import pyarrow as pa

        columns = {
            **{
                name: pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
                for name, values in (("wavlm", recording.wavlm), ("clap_audio", recording.clap_audio))
            },
            "start": recording.start,
            "end": recording.end,
            "silent": recording.silent,
        }
        facts = json.dumps(self._facts(content, recording))
        table = pa.table(columns).replace_schema_metadata({_METADATA_KEY: facts})
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(suffix=".tmp", dir=self.folder)
        try:
            with os.fdopen(handle, "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
            os.replace(name, self.path(content))
        except BaseException:
            os.unlink(name)
            raise

    def _facts(self, content: str, recording: RecordingEmbeddings) -> dict[str, Any]:
        return {"folder": self.folder.name, "content": content, "digest": recording.digest()}

    def __getstate__(self) -> dict[str, Any]:
        """For workers: without what is in memory."""
        return self.__dict__ | {"_recent": OrderedDict(), "_num_bytes": 0}


def _matrix(column: Any) -> np.ndarray:
    """A column of lists of equal length as `(num_rows, length)`."""
    return column.flatten().to_numpy().reshape(len(column), column.type.list_size).copy()


@dataclass
class _Recording:
    """A recording on its way through the backbones: what has come back of its windows."""

    content: str
    windows: list[AudioWindow] = field(default_factory=list)  # without their audio
    outputs: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    is_read: bool = False

    def embeddings(self) -> RecordingEmbeddings:
        wavlm, clap_audio = (np.stack(values) for values in zip(*self.outputs, strict=True))
        return RecordingEmbeddings(
            wavlm=wavlm,
            clap_audio=clap_audio,
            start=np.array([window.start for window in self.windows]),
            end=np.array([window.end for window in self.windows]),
            silent=np.array(["silent" in window.quality for window in self.windows]),
        )


class EmbeddingCache:
    """Outputs of a model's backbones for every window of the fixed grid.

    Files lie in a folder named after all that they depend on: the backbones' weights, number format and settings (a new
    projection or head changes nothing), the extractor, the grid, and the version of this format. The values are those
    of the model in evaluation mode, without autocast.

    Args:
        model: A MathRock model, whose backbones do not change while the cache is used.
        extractor: The model's `MathRockFeatureExtractor`.
        cache_dir: Where the folders are; `None`: `~/.cache/hf-mathrock/embeddings`.
        window_seconds: Length of a window; `None`: the extractor's.
        hop_seconds: Distance between the starts of two windows; `None`: the extractor's.
        batch_size: Windows, of one or several recordings, that go through the backbones at a time.

    Attributes:
        store: The folder, without the model.
        num_computed: Recordings that went through the backbones so far.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: The grid does not fit the extractor, or `batch_size` is below 1.
    """

    def __init__(
        self,
        model: Any,
        extractor: Any,
        cache_dir: str | Path | None = None,
        *,
        window_seconds: float | None = None,
        hop_seconds: float | None = None,
        batch_size: int = 8,
    ) -> None:
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise ImportError('Cached embeddings need pyarrow: pip install "hf-mathrock[train]"') from error
        if batch_size < 1:
            raise ValueError(f"`batch_size` is {batch_size}; it must be at least 1.")
        self.base = getattr(model, "mathrock", model)
        self.tasks = model.config.tasks
        self.extractor = extractor
        self.grid = extractor.checked_grid(window_seconds, hop_seconds)
        self.batch_size = batch_size
        self.num_computed = 0
        folder = f"{backbone_fingerprint(self.base)}-{self._settings_digest()}"
        self.store = EmbeddingStore(Path(CACHE_DIR if cache_dir is None else cache_dir).expanduser() / folder)

    def _settings_digest(self) -> str:
        extractor = self.extractor
        names = [name for name in inspect.signature(type(extractor).__init__).parameters if hasattr(extractor, name)]
        # The extractor's own grid does not count: this cache's does.
        settings = {name: getattr(extractor, name) for name in names if name != "hop_seconds"}
        everything = [CACHE_VERSION, settings, self.grid, str(self.base.dtype)]
        return hashlib.blake2b(json.dumps(everything, sort_keys=True).encode(), digest_size=8).hexdigest()

    def fill(
        self, recordings: Iterable[Any], progress: Callable[[int], None] | None = None
    ) -> list[str | AudioReadError]:
        """See to it that every recording's embeddings are in the store.

        Recordings with a sound file there are only hashed, not decoded. Audio of no more than a batch is in memory.

        Args:
            recordings: In any form that `open_audio` reads and `content_id` names.
            progress: Called with the number of recordings taken up so far.

        Returns:
            Per recording the content that `store` knows it by, or why it cannot be read.

        Raises:
            RuntimeError: The backbones give non-finite values.
        """
        found: list[str | AudioReadError] = []
        known: dict[str, str | AudioReadError] = {}  # the same recording may come twice
        waiting: list[tuple[_Recording, AudioWindow]] = []
        for audio in recordings:
            try:
                content = self._content(audio)
                if content not in known:
                    known[content] = content
                    if self.store.load(content) is None:
                        try:
                            self._take_up(_Recording(content), audio, waiting)
                        except AudioReadError as error:
                            known[content] = error
                            waiting = [entry for entry in waiting if entry[0].content != content]
                found.append(known[content])
            except AudioReadError as error:
                found.append(error)
            if progress is not None:
                progress(len(found))
        self._flush(waiting)
        return found

    def _content(self, audio: Any) -> str:
        """`content_id`; a file that cannot be read is a broken recording like any other."""
        try:
            return content_id(audio)
        except OSError as error:
            open_audio(audio, self.extractor.sampling_rate).close()  # this says what is wrong with it
            raise AudioReadError(str(error), reason="io") from error

    def _take_up(self, recording: _Recording, audio: Any, waiting: list[tuple[_Recording, AudioWindow]]) -> None:
        """Read a recording; its windows go through the backbones with those that wait already, batch by batch."""
        with open_audio(audio, self.extractor.sampling_rate) as source:
            for window in source.windows(self.grid[0], self.grid[1], self.extractor.sampling_rates):
                recording.windows.append(window)
                waiting.append((recording, window))
                if len(waiting) >= self.batch_size:
                    self._flush(waiting)
        recording.is_read = True
        self._save_if_whole(recording)  # its last window may have gone through already

    def _flush(self, waiting: list[tuple[_Recording, AudioWindow]]) -> None:
        """Send what waits through the backbones, and write the recordings that are complete."""
        if not waiting:
            return
        outputs = self.embed([window for _, window in waiting])
        for (recording, window), *output in zip(waiting, *outputs, strict=True):
            window.audio = {}
            recording.outputs.append((output[0], output[1]))
        for recording in {id(recording): recording for recording, _ in waiting}.values():
            self._save_if_whole(recording)
        waiting.clear()

    def _save_if_whole(self, recording: _Recording) -> None:
        if recording.is_read and len(recording.outputs) == len(recording.windows):
            self.store.save(recording.content, recording.embeddings())
            self.num_computed += 1

    @torch.no_grad()
    def embed(self, windows: Sequence[AudioWindow]) -> tuple[np.ndarray, np.ndarray]:
        """Outputs of both backbones for some windows, without looking at the store.

        Args:
            windows: With audio at the extractor's rates.

        Returns:
            WavLM's `(num_windows, wavlm_hidden_size)` and CLAP's `(num_windows, clap_audio_hidden_size)`, float32.

        Raises:
            RuntimeError: They are not finite.
        """
        base, was_training = self.base, self.base.training
        inputs = {
            name: values.to(base.device, base.dtype if values.is_floating_point() else values.dtype)
            for name, values in self.extractor.featurize(windows).items()
        }
        base.eval()
        try:
            with torch.autocast(base.device.type, enabled=False):
                outputs = base.embed_backbones(**inputs)
        finally:
            base.train(was_training)
        wavlm, clap_audio = (values.float().cpu().numpy() for values in outputs)
        if not (np.isfinite(wavlm).all() and np.isfinite(clap_audio).all()):
            raise RuntimeError(
                "The backbones gave non-finite values although the audio is finite: the checkpoint is broken, or its "
                "precision too low (try dtype=torch.float32)."
            )
        return wavlm, clap_audio


def backbone_fingerprint(base: Any) -> str:
    """A name for a model's two backbones: 16 hexadecimal digits that follow from weights, number format and settings.

    Args:
        base: A `MathRockModel`.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name in BACKBONES:
        backbone = getattr(base, name)
        settings = {key: value for key, value in backbone.config.to_dict().items() if key not in _PROVENANCE}
        digest.update(f"{name} {json.dumps(settings, sort_keys=True, default=str)} ".encode())
        for key, values in sorted(backbone.state_dict().items()):
            if key.endswith("num_batches_tracked"):  # of a batch norm, which counts and does not compute with it
                continue
            digest.update(f"{key} {values.dtype} {tuple(values.shape)} ".encode())
            digest.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
