# SPDX-License-Identifier: Apache-2.0
"""Audio in any form → mono windows at the sampling rates a model wants, in memory that does not grow with the file.

    with open_audio("song.mp3") as source:
        for window in source.windows(window_seconds=10.0, hop_seconds=5.0):
            window.audio[16_000], window.audio[48_000], window.quality
    source.report().quality

Anything wrong with the caller's audio raises `AudioReadError`, in one line; what is merely imperfect is a quality flag.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .audio_opening import download, open_regular_file, open_stream, printable_name
from .audio_reading import ArrayReader, AudioInfo, AudioReadError, BlockReader, TorchCodecReader, read_error
from .audio_windows import QUALITY_FLAGS, AudioWindow, MonoStream, cut_windows, in_order

__all__ = [
    "QUALITY_FLAGS",
    "AudioInfo",
    "AudioReadError",
    "AudioReport",
    "AudioSource",
    "AudioWindow",
    "open_audio",
    "read_audio",
]

BLOCK_FRAMES = 65_536
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # two letters at least, so that C:// stays a path
# Missing seconds that are no damage: lossy headers count frames that decoders leave out (0.15 s in an intact MP3).
_TOLERATED_SECONDS, _TOLERATED_LOSSY_SECONDS = 0.02, 0.5


@dataclass(frozen=True)
class AudioReport:
    """What reading the audio has shown so far; complete once the last window is out.

    Attributes:
        file: printable name, or `None` for audio without one.
        duration: seconds decoded.
        sampling_rate: Hz, of the source.
        channels: of the source.
        num_windows: windows given out.
        quality: flags of the whole file: those of its windows and `truncated`; `silent` only if every window is.
    """

    file: str | None
    duration: float
    sampling_rate: int
    channels: int
    num_windows: int
    quality: list[str]


class AudioSource:
    """Opened audio, made by `open_audio`. Close it, or use it in a `with` statement.

    Attributes:
        info (`AudioInfo`): what the header says.
    """

    def __init__(self, reader: BlockReader):
        self._reader = reader
        self.info = reader.info
        self._stream = MonoStream(reader)
        self._flags: set[str] = set()
        self._num_windows = 0
        self._num_silent = 0
        self._finished = False

    def windows(
        self,
        window_seconds: float,
        hop_seconds: float,
        sampling_rates: Sequence[int] = (16_000, 48_000),
        *,
        context_seconds: float = 0.0,
        keep_rest: bool = False,
        block_frames: int = BLOCK_FRAMES,
    ) -> Iterator[AudioWindow]:
        """Read from the beginning and give the windows of the fixed grid as they come.

        Args:
            window_seconds: length of a window, above 0.
            hop_seconds: distance between the starts of neighbours, above 0 and at most `window_seconds`.
            sampling_rates: Hz; each window carries the same span at each of them.
            context_seconds: how much of what comes before a window goes along with it, in `AudioWindow.before`.
            keep_rest: give out the end of the audio however short it is, so that the windows hold every sample.
            block_frames: frames to ask the decoder for at a time; changes speed and memory, never a sample.

        Yields:
            `AudioWindow`, at least one. `cut_windows` states the rule for the last.

        Raises:
            ValueError: for a window, hop or rate out of range.
            AudioReadError: `empty`, `damaged` or `non_finite`, known only while (or after) reading.
        """
        if not 0 < window_seconds < float("inf"):
            raise ValueError(f"window_seconds is {window_seconds}, and must be above 0")
        if not 0 < hop_seconds <= window_seconds:
            raise ValueError(
                f"hop_seconds is {hop_seconds}, and must be above 0 and at most window_seconds ({window_seconds}),"
                " or music between the windows would go unheard"
            )
        if not sampling_rates or any(int(rate) != rate or rate <= 0 for rate in sampling_rates):
            raise ValueError(
                f"sampling_rates is {sampling_rates!r}; it must be one or more positive whole numbers of Hz"
            )
        if hop_seconds * min((self.info.sampling_rate, *sampling_rates)) < 1:
            raise ValueError(f"hop_seconds is {hop_seconds}, less than one sample; it is in seconds")
        return self._windows(
            float(window_seconds), float(hop_seconds), sampling_rates, block_frames, float(context_seconds), keep_rest
        )

    def _windows(
        self,
        window_seconds: float,
        hop_seconds: float,
        sampling_rates: Sequence[int],
        block_frames: int,
        context_seconds: float,
        keep_rest: bool,
    ) -> Iterator[AudioWindow]:
        self._stream = MonoStream(self._reader)
        self._flags, self._num_windows, self._num_silent, self._finished = set(), 0, 0, False
        windows = cut_windows(
            self._stream,
            self.info,
            window_seconds,
            hop_seconds,
            sampling_rates,
            block_frames,
            context_seconds,
            keep_rest,
        )
        for window in windows:
            self._flags.update(window.quality)
            self._num_windows += 1
            self._num_silent += "silent" in window.quality
            yield window
        self._finished = True

    def excerpt(
        self, start_seconds: float, window_seconds: float, sampling_rates: Sequence[int] = (16_000, 48_000)
    ) -> AudioWindow:
        """One window from anywhere, without decoding what comes before it where the format allows that.

        Args:
            start_seconds: where it begins, at least 0.
            window_seconds: its length, above 0.
            sampling_rates: as for `windows`.

        Returns:
            As `windows` gives it, but judged by itself: its offset and antiphase are measured inside it.

        Raises:
            AudioReadError: `empty` when there is nothing at that place, and as for `windows`.
        """
        rate = self.info.sampling_rate
        first, num_frames = round(start_seconds * rate), round(window_seconds * rate)
        frames = self._reader.excerpt(first, num_frames)
        if len(frames) == 0:
            raise read_error(self.info.file, "empty", f"there is no audio {start_seconds:.1f} s into it")
        reader = ArrayReader(frames if frames.shape[1] > 1 else frames[:, 0], rate, self.info.file)
        reader.info = replace(self.info, claimed_frames=len(frames))
        seconds = len(frames) / rate
        (window,) = cut_windows(MonoStream(reader), reader.info, seconds, seconds, sampling_rates, BLOCK_FRAMES)
        window.start, window.end = first / rate, (first + len(frames)) / rate
        return window

    def report(self) -> AudioReport:
        """What reading has shown so far; complete after the last window."""
        flags = set(self._flags)
        if self._num_silent < self._num_windows:
            flags.discard("silent")
        if self._finished and self._is_truncated():
            flags.add("truncated")
        return AudioReport(
            file=self.info.file,
            duration=self._stream.num_frames / self.info.sampling_rate,
            sampling_rate=self.info.sampling_rate,
            channels=self.info.channels,
            num_windows=self._num_windows,
            quality=in_order(flags),
        )

    def _is_truncated(self) -> bool:
        if self._reader.cut_short:
            return True
        claimed = self.info.claimed_frames
        if claimed is None:
            return False
        missing = claimed - self._stream.num_frames
        tolerated = _TOLERATED_LOSSY_SECONDS if self.info.lossy else _TOLERATED_SECONDS
        return missing > min(tolerated * self.info.sampling_rate, claimed / 5)

    def close(self) -> None:
        """Release the file. Safe to call twice."""
        self._reader.close()

    def __enter__(self) -> AudioSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_audio(audio: Any, sampling_rate: int | None = None, *, allow_url: bool = False) -> AudioSource:
    """Open audio in any of the forms the Hugging Face stack uses.

    Args:
        audio: one of
            - a path (`str` or `os.PathLike`) of a local file, recognised by its contents;
            - the bytes of a file (`bytes`, `bytearray`, `memoryview`) or a seekable binary file object;
            - samples as a numpy array or torch tensor, `(num_samples,)` or two axes of which the shorter is the
              channels; floats between -1 and 1, or int16, int32, uint8;
            - `{"array" | "raw": samples, "sampling_rate": Hz}`;
            - `{"path", "bytes"}`, as `datasets.Audio(decode=False)` gives;
            - a torchcodec `AudioDecoder`, as `datasets.Audio()` gives;
            - an `http(s)://` URL, with `allow_url`.
        sampling_rate: Hz of bare samples, for which it is required; a file states its own, so there it is ignored.
        allow_url: download URLs (at most 1 GiB, to a temporary file). Off by default: a list of files or a dataset row
            must not make this machine fetch addresses somebody else chose.

    Returns:
        `AudioSource`.

    Raises:
        AudioReadError: if it cannot be opened; its `reason` says why.
    """
    return AudioSource(_open_reader(audio, sampling_rate, allow_url))


def _open_reader(audio: Any, sampling_rate: int | None, allow_url: bool, file: str | None = None) -> BlockReader:
    if isinstance(audio, str) and _URL.match(audio):
        return open_stream(download(audio, allow_url), audio, owned=True)
    if isinstance(audio, (str, os.PathLike)):
        return open_stream(open_regular_file(audio), printable_name(audio), owned=True)
    if isinstance(audio, (bytes, bytearray, memoryview)):
        return open_stream(io.BytesIO(audio), file, owned=False)
    if isinstance(audio, Mapping):
        return _open_mapping(audio, sampling_rate, allow_url)
    if hasattr(audio, "get_samples_played_in_range") and hasattr(audio, "metadata"):
        return TorchCodecReader(lambda: audio, file)
    if hasattr(audio, "detach") and hasattr(audio, "cpu"):  # a torch tensor, without importing torch
        tensor = audio.detach().cpu()
        audio = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    if isinstance(audio, np.ndarray):
        if sampling_rate is None:
            raise read_error(
                file,
                "rate",
                "samples alone do not tell their sampling rate; pass sampling_rate=..., or a dict with array and"
                " sampling_rate",
            )
        return ArrayReader(audio, sampling_rate, file)
    if hasattr(audio, "read") and hasattr(audio, "seek"):
        name = getattr(audio, "name", None)
        return open_stream(audio, printable_name(name) if isinstance(name, (str, bytes)) else file, owned=False)
    raise read_error(
        file,
        "type",
        f"it is a {type(audio).__name__}; give a path, bytes, a binary file object, a numpy array, a torch tensor, a"
        " dict with array and sampling_rate, or a torchcodec AudioDecoder",
    )


def _open_mapping(row: Mapping, sampling_rate: int | None, allow_url: bool) -> BlockReader:
    path = row.get("path")
    file = printable_name(path) if isinstance(path, (str, bytes, os.PathLike)) else None
    for key in ("array", "raw"):
        if row.get(key) is not None:
            samples = row[key]
            if isinstance(samples, (list, tuple)):  # a row of a dataset formatted as plain Python
                samples = np.asarray(samples, dtype=np.float32)
            return _open_reader(samples, row.get("sampling_rate", sampling_rate), allow_url, file)
    if row.get("bytes") is not None:
        return _open_reader(row["bytes"], None, allow_url, file)
    if path is not None:
        return _open_reader(path, None, allow_url)
    raise read_error(
        file,
        "type",
        f"it is a dict with {sorted(map(str, row))}; give one with array (or raw) and sampling_rate, or with bytes or"
        " path",
    )


def read_audio(
    audio: Any, sampling_rate: int, *, array_sampling_rate: int | None = None, allow_url: bool = False
) -> np.ndarray:
    """A whole recording as one array, by the same path as the windows; for training data.

    Args:
        audio: as for `open_audio`.
        sampling_rate: Hz wanted.
        array_sampling_rate: Hz of bare samples.
        allow_url: as for `open_audio`.

    Returns:
        Mono float32 `(num_samples,)`, `num_samples = round(duration * sampling_rate)`, at least 1.

    Raises:
        AudioReadError: as for `open_audio` and `AudioSource.windows`.
    """
    whole = 1e9  # seconds; longer than any recording
    with open_audio(audio, array_sampling_rate, allow_url=allow_url) as source:
        (window,) = source.windows(whole, whole, (sampling_rate,))
    return window.audio[sampling_rate]
