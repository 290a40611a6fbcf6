# SPDX-License-Identifier: Apache-2.0
"""Recordings kept as float arrays in one HDF5 file, read so that a hostile file can neither fetch nor flood.

HDF5 is a file system in a file: a dataset may have its bytes in another file (external storage), be a window on other
datasets (virtual), be reached through a link into another file, or claim terabytes in a kilobyte. Each has been used to
read `/etc/passwd` or to fill a machine, and h5py follows all of them without a word. So a dataset is opened only by a
hard link in the root, and read only after its layout, type, filters, size and chunks have been found plain.

Source of the format: the corpora of the ISMIR 2024 tutorial "Deep learning 101 for audio-based MIR" (Peeters, Meseguer
Brocal, Riou, Lattner), which pair such a file with a `.pyjama` of annotations.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from hf_mathrock.models.audio_opening import open_regular_file, printable_name

MAX_SAMPLES = 2**28  # 1.7 hours at 44,100 Hz; a gigabyte of float32 at most lies on disk for one entry
MAX_CHUNK_BYTES = 2**26  # HDF5 holds a whole chunk in memory, and unpacks it there
BLOCK_SAMPLES = 2**20
# Beyond this many samples, one byte that unpacks to more than `MAX_RATIO` is no recording: music packs to a half.
MAX_PACKED_SAMPLES, MAX_RATIO = 2**24, 100
# Deflate, shuffle, Fletcher-32 and LZF are built in. Others may load a shared library that HDF5 finds by itself.
ALLOWED_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}

_DAMAGE = (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError, MemoryError)


def hdf5_key(file_path: str) -> str:
    """Name of the dataset that holds a recording: its path with `+++` for `/`, which HDF5 would take for a group.

    >>> hdf5_key("blues/blues.00000.wav")
    'blues+++blues.00000.wav'
    """
    return file_path.replace("/", "+++")


class RefusedRecordingError(ValueError):
    """A dataset that is not to be read, and whose file is not to be trusted."""


class DamagedRecordingError(ValueError):
    """A dataset that cannot be read; others in its file may be intact."""


@dataclass(frozen=True)
class Hdf5Recording:
    """A checked recording.

    Attributes:
        key: Name of the dataset.
        num_samples: Length; at least 1.
        sampling_rate: Hz.
        dtype: float16, float32 or float64.
    """

    key: str
    num_samples: int
    sampling_rate: int
    dtype: np.dtype


class Hdf5Audio:
    """An open HDF5 file of mono recordings; close it, or use it in a `with` statement.

    Every recording is checked when it is asked for. A handle belongs to one process: HDF5 does not survive a fork, so
    every worker opens its own.

    Raises:
        ValueError: The file is not HDF5, or is no regular file (an `AudioReadError`, which is one).
        ImportError: h5py is missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            import h5py
        except ImportError:
            raise ImportError('reading HDF5 needs h5py: pip install "hf-mathrock[corpora]"') from None
        self._h5py = h5py
        self.name = printable_name(path)
        self._stream = open_regular_file(path)
        try:
            self._file = h5py.File(self._stream, "r")
        except _DAMAGE as error:
            self._stream.close()
            raise ValueError(
                f"{self.name} cannot be opened as HDF5 ({_one_line(error)}); it is something else, damaged, or was not "
                "downloaded in full. Get an intact copy."
            ) from None

    def close(self) -> None:
        self._file.close()
        self._stream.close()

    def __enter__(self) -> Hdf5Audio:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def keys(self) -> list[str]:
        """Names in the root, unchecked, in the file's order."""
        try:
            return list(self._file)
        except _DAMAGE as error:
            raise ValueError(
                f"the contents of {self.name} cannot be listed ({_one_line(error)}); it is damaged"
            ) from None

    def __contains__(self, file_path: str) -> bool:
        return self._link(hdf5_key(file_path)) is not None

    def recording(self, file_path: str) -> Hdf5Recording:
        """Check a recording without reading a sample of it.

        Args:
            file_path: Path as the annotations have it; `hdf5_key` makes the name from it.

        Raises:
            KeyError: It is not in the file.
            RefusedRecordingError: It is reached or stored in a way that recordings are not, is no vector of floats, or
                claims a size beyond the limits. Nobody makes such a file by accident.
            DamagedRecordingError: It was never written in full, its description cannot be read, or it has no `sr_hz`.
        """
        key = hdf5_key(file_path)
        return self._check(key, self._dataset(key))

    def blocks(self, file_path: str) -> Iterator[np.ndarray]:
        """Samples of a recording in order, as arrays of at most `BLOCK_SAMPLES`, checked first.

        Not-a-number and infinities come through as they are: `open_audio` decides about them.

        Raises:
            KeyError, RefusedRecordingError, DamagedRecordingError: As `recording` does; the last also where samples
                cannot be read.
        """
        key = hdf5_key(file_path)
        dataset = self._dataset(key)
        recording = self._check(key, dataset)
        for begin in range(0, recording.num_samples, BLOCK_SAMPLES):
            try:
                yield np.asarray(dataset[begin : begin + BLOCK_SAMPLES], dtype=recording.dtype)
            except _DAMAGE as error:
                raise self._damaged(key, f"its samples from {begin} on cannot be read ({_one_line(error)})") from None

    def _link(self, key: str) -> Any:
        """The class of link that leads to a name in the root, `None` where there is none. Follows nothing."""
        if not key or key == "." or "/" in key or "\0" in key:
            return None
        try:
            return self._file.get(key, getclass=True, getlink=True)
        except _DAMAGE:
            return None

    def _dataset(self, key: str) -> Any:
        link = self._link(key)
        if link is None:
            raise KeyError(f"{self.name} has no dataset {_shorten(key)!r}")
        if link is not self._h5py.HardLink:
            raise self._refused(key, f"it is reached by a {link.__name__}, which may lead out of the file")
        try:
            dataset = self._file[key]
        except _DAMAGE as error:
            raise self._damaged(key, f"it cannot be opened ({_one_line(error)})") from None
        if not isinstance(dataset, self._h5py.Dataset):
            raise self._refused(key, f"it is a {type(dataset).__name__.lower()}, not a dataset")
        return dataset

    def _check(self, key: str, dataset: Any) -> Hdf5Recording:
        """Looks at nothing but a dataset's description."""
        try:
            self._check_kind(key, dataset)
            self._check_storage(key, dataset)
            return Hdf5Recording(key, int(dataset.shape[0]), self._sampling_rate(key, dataset), dataset.dtype)
        except (RefusedRecordingError, DamagedRecordingError):
            raise
        except _DAMAGE as error:
            raise self._damaged(key, f"its description cannot be read ({_one_line(error)})") from None

    def _check_kind(self, key: str, dataset: Any) -> None:
        layouts, plan = self._h5py.h5d, dataset.id.get_create_plist()
        if plan.get_external_count():
            raise self._refused(key, "its samples lie in another file (external storage), which may be any file at all")
        if plan.get_layout() not in (layouts.COMPACT, layouts.CONTIGUOUS, layouts.CHUNKED):
            raise self._refused(key, "it is a virtual dataset, put together from other files or datasets")
        if dataset.dtype.kind != "f" or dataset.dtype.itemsize not in (2, 4, 8):
            raise self._refused(
                key, f"its values are {_shorten(dataset.dtype)}; recordings are float16, float32 or float64"
            )
        if dataset.ndim != 1:
            raise self._refused(key, f"its shape is {dataset.shape}; recordings are mono, (num_samples,)")
        for index in range(plan.get_nfilters()):
            code = plan.get_filter(index)[0]
            if code not in ALLOWED_FILTERS:
                names = ", ".join(ALLOWED_FILTERS.values())
                raise self._refused(key, f"it is packed by filter {code}; allowed are {names}")

    def _check_storage(self, key: str, dataset: Any) -> None:
        num_samples, size = int(dataset.shape[0]), dataset.dtype.itemsize
        stored = int(dataset.id.get_storage_size())
        if not 0 < num_samples <= MAX_SAMPLES:
            raise self._refused(key, f"it claims {num_samples} samples; allowed are 1 to {MAX_SAMPLES}")
        chunk = dataset.chunks[0] if dataset.chunks else 0
        if chunk * size > MAX_CHUNK_BYTES:
            raise self._refused(key, f"its chunks are of {chunk * size} bytes; allowed are {MAX_CHUNK_BYTES}")
        if chunk and (there := int(dataset.id.get_num_chunks())) != (wanted := -(-num_samples // chunk)):
            raise self._damaged(key, f"{there} of its {wanted} chunks are there; it was never written in full")
        if not chunk and stored < num_samples * size:
            raise self._damaged(
                key, f"it claims {num_samples * size} bytes and has {stored}; it was never written in full"
            )
        if num_samples > MAX_PACKED_SAMPLES and num_samples * size > MAX_RATIO * stored:
            raise self._refused(
                key, f"{stored} bytes claim to unpack to {num_samples * size}, more than {MAX_RATIO} times as many"
            )

    def _sampling_rate(self, key: str, dataset: Any) -> int:
        attributes = dataset.attrs
        if "sr_hz" not in attributes:
            raise self._damaged(key, "it has no attribute `sr_hz`, so nobody knows its sampling rate")
        described = attributes.get_id("sr_hz")
        # Before it is read: text and references of an attribute can be as large and as odd as those of a dataset.
        if described.dtype.kind not in "iuf" or described.shape not in ((), (1,)):
            raise self._refused(
                key, f"its `sr_hz` is {_shorten(described.dtype)} of shape {described.shape}; it must be one number"
            )
        value = float(np.asarray(attributes["sr_hz"]).reshape(()))
        if not 1 <= value <= 10_000_000 or value != int(value):
            raise self._refused(key, f"its `sr_hz` is {value}; it must be a whole number of hertz")
        return int(value)

    def _refused(self, key: str, reason: str) -> RefusedRecordingError:
        return RefusedRecordingError(
            f"{self.name} is refused for its dataset {_shorten(key)!r}: {reason}. If you trust who made it, have it "
            "written anew as plain float arrays."
        )

    def _damaged(self, key: str, reason: str) -> DamagedRecordingError:
        return DamagedRecordingError(f"{self.name}: dataset {_shorten(key)!r} is not usable: {reason}")


def unpack_recordings(
    hdf5: Hdf5Audio, path: Path, file_paths: list[str], cache_dir: Path
) -> tuple[dict[str, Path], dict[str, str]]:
    """Write recordings as WAV files of floats, once; nothing of their samples is lost.

    One recording is read at a time, block by block. A file appears whole under its name or not at all, so that a killed
    run is continued by the next.

    Args:
        hdf5: The open file.
        path: Where it lies; with its size and time of change it names the sub-folder of `cache_dir`.
        file_paths: Recordings wanted.
        cache_dir: Folder for the WAV files.

    Returns:
        Path of the WAV file per recording, and an error in one line for each that is not in the file or damaged.

    Raises:
        RefusedRecordingError: One of them is refused; nothing is written then.
        ValueError: The disk has no room.
    """
    import soundfile

    status = path.stat()
    identity = f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
    folder = cache_dir / _digest(identity)
    written: dict[str, Path] = {}
    errors: dict[str, str] = {}
    waiting: list[tuple[str, Hdf5Recording, Path]] = []
    for file_path in file_paths:
        # Never a path made of a key: "../../.ssh/config" is a fine key.
        target = folder / f"{_digest(file_path)}.wav"
        try:
            recording = hdf5.recording(file_path)
        except KeyError:
            errors[file_path] = f"there is no dataset {_shorten(hdf5_key(file_path))!r} in {hdf5.name}"
            continue
        except DamagedRecordingError as error:
            errors[file_path] = str(error)
            continue
        if target.is_file():
            written[file_path] = target
        else:
            waiting.append((file_path, recording, target))
    folder.mkdir(parents=True, exist_ok=True)
    needed = sum(recording.num_samples * max(4, recording.dtype.itemsize) for _, recording, _ in waiting)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"unpacking {len(waiting)} recordings of {hdf5.name} takes {needed:,} bytes, and {cache_dir} has {free:,} "
            "free; name another `cache_dir`."
        )
    for file_path, recording, target in waiting:
        partial = target.with_name(f".{os.getpid()}-{target.name}")
        subtype = "DOUBLE" if recording.dtype.itemsize == 8 else "FLOAT"
        try:
            with soundfile.SoundFile(partial, "w", recording.sampling_rate, 1, subtype=subtype, format="WAV") as sink:
                for block in hdf5.blocks(file_path):
                    sink.write(block.astype(np.float64 if subtype == "DOUBLE" else np.float32))
            os.replace(partial, target)
            written[file_path] = target
        except (DamagedRecordingError, soundfile.SoundFileError) as error:
            errors[file_path] = _one_line(error)
        finally:
            partial.unlink(missing_ok=True)
    return written, errors


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _one_line(error: BaseException) -> str:
    return _shorten(" ".join(str(error).split()) or type(error).__name__, 200)


def _shorten(thing: object, length: int = 80) -> str:
    """Text of bounded length: names and types in a hostile file can be megabytes."""
    text = str(thing)
    return text if len(text) <= length else text[: length - 3] + "..."
