# SPDX-License-Identifier: Apache-2.0
"""Readers: anything that holds audio, as float32 blocks of ``(num_frames, num_channels)``.

libsndfile comes first because it is small, fast and needs nothing installed beside its wheel; torchcodec (FFmpeg)
follows for the containers libsndfile does not know. Both are imported when needed, so this module loads without them.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

MIN_SAMPLING_RATE, MAX_SAMPLING_RATE = 4_000, 384_000
MAX_CHANNELS = 32

# What libsndfile may open. It knows two dozen more containers, hardly fuzzed and never music, so they stay shut.
SNDFILE_CONTAINERS = {"AIFF", "AU", "CAF", "FLAC", "MP3", "NIST", "OGG", "RF64", "W64", "WAV", "WAVEX"}
# Decoders of these overshoot full scale on honest music, so samples beyond 1 say nothing about the file.
_LOSSY_CONTAINERS = {"MP3", "OGG"}
# torchcodec is asked for ranges that end where codec frames end in AAC (1024), HE-AAC (2048), MP3 (1152) and Opus
# (960): after any other it starts again from the beginning of the file. Some containers make it do so always, hence few
# ranges.
_CODEC_FRAMES = 92_160
_MAX_RANGE_SAMPLES = 2**24  # 64 MiB of float32, of which torchcodec needs several; three minutes of stereo


class AudioReadError(ValueError):
    """The caller's audio cannot be used; the message is one line that says what came and what to do.

    Attributes:
        file (`str` or `None`): name of the file, printable; `None` for audio that came without a name.
        reason (`str`): stable code, one of `missing`, `directory`, `not_regular`, `permission`, `io`, `empty`,
            `not_audio`, `damaged`, `needs_ffmpeg`, `non_finite`, `rate`, `channels`, `shape`, `dtype`, `type`, `url`,
            `download`.
    """

    def __init__(self, message: str, *, file: str | None = None, reason: str = "not_audio"):
        super().__init__(message)
        self.file = file
        self.reason = reason


def read_error(file: str | None, reason: str, message: str) -> AudioReadError:
    """An `AudioReadError` whose message names the file (quoted, so that line breaks in a name stay on the line)."""
    subject = repr(file) if file is not None else "the audio"
    return AudioReadError(f"cannot read {subject}: {' '.join(message.split())}", file=file, reason=reason)


@dataclass(frozen=True)
class AudioInfo:
    """What is known about the audio before decoding it.

    Attributes:
        file: printable name, or `None` for audio without one.
        sampling_rate: Hz, 4,000 to 384,000.
        channels: 1 to 32.
        container: `"WAV"`, `"MP3"`, ... as libsndfile names it, `"FFmpeg"` or `"array"`.
        encoding: `"PCM_16"`, ... or the codec or dtype.
        claimed_frames: length the header claims, in frames; `None` when it claims none. Never to be trusted.
        lossy: decoded from a lossy codec, where samples beyond full scale are ordinary.
    """

    file: str | None
    sampling_rate: int
    channels: int
    container: str
    encoding: str
    claimed_frames: int | None = None
    lossy: bool = False

    def __post_init__(self):
        if not MIN_SAMPLING_RATE <= self.sampling_rate <= MAX_SAMPLING_RATE:
            raise read_error(
                self.file,
                "rate",
                f"its sampling rate is {self.sampling_rate} Hz, and {MIN_SAMPLING_RATE} to {MAX_SAMPLING_RATE} Hz is"
                " accepted; a rate outside that comes from a damaged header or a wrong `sampling_rate`",
            )
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise read_error(
                self.file,
                "channels",
                f"it has {self.channels} channels, and 1 to {MAX_CHANNELS} are accepted; mix it down first",
            )


class BlockReader(Protocol):
    """Audio that can be read from the beginning, block by block, any number of times."""

    info: AudioInfo
    cut_short: bool  # the decoder met the end of the data before the end of the stream; valid after reading

    def blocks(self, num_frames: int) -> Iterator[np.ndarray]:
        """Blocks of at most about `num_frames` frames, float32 `(num_frames, num_channels)`."""
        ...

    def excerpt(self, first_frame: int, num_frames: int) -> np.ndarray:
        """Frames from `first_frame` on, without decoding those before where the format allows it.

        Float32 `(num_frames, num_channels)`; fewer, or none, where the audio ends or breaks off before.
        """
        ...

    def close(self) -> None: ...


def _frames_from(reader: BlockReader, first_frame: int, num_frames: int) -> np.ndarray:
    """An excerpt by reading from the beginning."""
    pieces, position, last_frame = [], 0, first_frame + num_frames
    for block in reader.blocks(65_536):
        pieces.append(block[max(0, first_frame - position) : max(0, last_frame - position)])
        position += len(block)
        if position >= last_frame:
            break
    return np.concatenate(pieces) if pieces else np.zeros((0, reader.info.channels), dtype=np.float32)


def describe_problem(error: Exception) -> str:
    """A library's complaint, shortened to one clause."""
    text = str(getattr(error, "error_string", error)).strip() or type(error).__name__
    if "not a regular file" in text:  # what libsndfile says when the MP3 decoder finds no frame
        return "no frame in it decodes"
    text = re.sub(r"^\w+, \S+:\d+, ", "", text.splitlines()[0])  # torchcodec begins with its source line
    return text.removeprefix("Error : ").rstrip(" .")[:200]


# --- libsndfile ------------------------------------------------------------------------------------------------------


# What libsndfile's log says when a header claims more than the file holds: WAV, AIFF, AU and W64; then RF64.
_CORRECTED_LENGTHS = (
    re.compile(r"^\s*(?:data|SSND|Data Size|riff)\s*: (?P<claimed>\d+) \(should be (?P<actual>\d+)\)", re.MULTILINE),
    re.compile(r"frame count (?P<actual>\d+) does not match value from 'ds64' chunk of (?P<claimed>\d+)"),
)


class UndecodableError(Exception):
    """libsndfile does not take this stream; another decoder may."""


class SoundFileReader:
    """Blocks from libsndfile: WAV, FLAC, OGG (Vorbis, Opus), MP3, AIFF, CAF, AU, W64, RF64."""

    def __init__(self, stream: Any, file: str | None, owned: bool):
        try:
            import soundfile
        except (ImportError, OSError) as error:  # OSError: the binding is there, the library is not
            raise UndecodableError(
                f"soundfile is not usable: {describe_problem(error)}; pip install soundfile"
            ) from None

        class Sequential(soundfile.SoundFile):
            # After every read soundfile seeks to where it already is if the file is seekable. That costs time, and it
            # throws the samples away when the seek fails, as in a FLAC that was cut short.
            def seekable(self):
                return False

        self._stream, self._owned = stream, owned
        self._library_error: type[Exception] = soundfile.LibsndfileError
        # By descriptor where possible: any file name works, and reading needs no calls back into Python.
        target = stream.fileno() if owned and os.name != "nt" else stream
        try:
            self._sound = Sequential(target, closefd=False)
        except (soundfile.LibsndfileError, RuntimeError, TypeError, OSError) as error:
            raise UndecodableError(describe_problem(error)) from None
        if self._sound.format not in SNDFILE_CONTAINERS:
            self._sound.close()
            raise UndecodableError(f"it looks like {self._sound.format}, which is not accepted")
        self.cut_short = False
        self.info = AudioInfo(
            file=file,
            sampling_rate=self._sound.samplerate,
            channels=self._sound.channels,
            container=self._sound.format,
            encoding=self._sound.subtype,
            claimed_frames=self._claimed_frames(),
            lossy=self._sound.format in _LOSSY_CONTAINERS,
        )

    def _claimed_frames(self) -> int | None:
        frames = self._sound.frames
        if not 0 < frames < 2**62:  # libsndfile's words for "unknown"
            return None
        # libsndfile quietly corrects a length that lies; only its log tells.
        lies = (pattern.search(self._sound.extra_info) for pattern in _CORRECTED_LENGTHS)
        for claimed, actual in ((int(lie["claimed"]), int(lie["actual"])) for lie in lies if lie):
            if claimed >= 0x7FFFF000:  # what programs that write into a pipe put for "length unknown"
                return None
            if claimed > actual > 0:
                return frames * claimed // actual
        return frames

    def blocks(self, num_frames: int) -> Iterator[np.ndarray]:
        self.cut_short = False
        num_read = 0
        try:
            if self._sound.tell() != 0:
                self._sound.seek(0)
            while True:
                block = self._sound.read(num_frames, dtype="float32", always_2d=True)
                if len(block) == 0:
                    break
                num_read += len(block)
                yield block
        except (self._library_error, RuntimeError) as error:
            if num_read == 0:
                raise read_error(
                    self.info.file, "damaged", f"nothing in it decodes ({describe_problem(error)}); get an intact copy"
                ) from None
            self.cut_short = True
        if "without an End-Of-Stream flag" in self._sound.extra_info:
            self.cut_short = True

    def excerpt(self, first_frame: int, num_frames: int) -> np.ndarray:
        if self.info.container == "MP3":
            # Entering an MP3 in the middle gives the same samples, and complaints of its decoder on the terminal.
            return _frames_from(self, first_frame, num_frames)
        try:
            self._sound.seek(first_frame)
            return self._sound.read(num_frames, dtype="float32", always_2d=True)
        except (self._library_error, RuntimeError):  # beyond the end, or where a damaged stream cannot be entered
            return _frames_from(self, first_frame, num_frames)

    def close(self) -> None:
        self._sound.close()
        if self._owned:
            self._stream.close()


# --- torchcodec ------------------------------------------------------------------------------------------------------


def load_torchcodec() -> tuple[Any, str]:
    """torchcodec's `AudioDecoder` and "", or `None` and why not.

    The wheel can be there and yet fail to load: OSError for a missing CUDA library, RuntimeError for missing FFmpeg.
    """
    try:
        from torchcodec.decoders import AudioDecoder
    except (ImportError, OSError, RuntimeError) as error:
        return None, describe_problem(error)
    return AudioDecoder, ""


class TorchCodecReader:
    """Blocks from a torchcodec `AudioDecoder`, ours or the caller's (a decoded row of `datasets`), range by range.

    Args:
        make_decoder: gives a decoder at the beginning of the audio. A fresh one for every reading makes the samples
            reproducible: AAC decoders fill in noise, and go on with their random numbers after a rewind.
        file: printable name for messages, or `None`.
        stream: file object to close with the reader, or `None`.
    """

    def __init__(self, make_decoder: Callable[[], Any], file: str | None, stream: io.FileIO | None = None):
        self._make_decoder = make_decoder
        self._stream = stream
        self.cut_short = False
        decoder = make_decoder()
        metadata = decoder.metadata
        self._duration = metadata.duration_seconds
        # The metadata describe the file; a decoder made with another rate or number of channels gives those instead.
        # The empty range tells, and decodes nothing.
        sampling_rate, data = self._decode(decoder, 0.0, 0.0, file)
        self.info = AudioInfo(
            file=file,
            sampling_rate=sampling_rate,
            channels=data.shape[1],
            container="FFmpeg",
            encoding=str(getattr(metadata, "codec", None) or "unknown"),
            claimed_frames=round(self._duration * sampling_rate) if self._duration else None,
            lossy=True,
        )
        units = max(1, _MAX_RANGE_SAMPLES // (_CODEC_FRAMES * self.info.channels))
        self._range_seconds = units * _CODEC_FRAMES / (metadata.sample_rate or sampling_rate)

    def _decode(self, decoder: Any, start: float, stop: float, file: str | None) -> tuple[int, np.ndarray]:
        try:
            samples = decoder.get_samples_played_in_range(start, stop)
        except Exception as error:  # its types differ between versions
            raise read_error(
                file, "damaged", f"nothing in it decodes ({describe_problem(error)}); get an intact copy"
            ) from None
        return int(samples.sample_rate), samples.data.cpu().numpy().T

    def blocks(self, num_frames: int) -> Iterator[np.ndarray]:
        decoder = self._make_decoder()
        start = 0.0
        while self._duration is None or start < self._duration:
            stop = start + self._range_seconds
            try:
                _, samples = self._decode(decoder, start, stop, self.info.file)
            except AudioReadError:
                if start == 0:
                    raise
                if self._duration is None:
                    return  # the end of a stream of unknown length
                # Some containers cannot go on from where a range ended; a decoder that comes from the beginning can.
                try:
                    decoder = self._make_decoder()
                    _, samples = self._decode(decoder, start, stop, self.info.file)
                except AudioReadError:
                    return  # what is missing of the claimed length tells that it was cut short
            for first in range(0, len(samples), num_frames):
                yield np.ascontiguousarray(samples[first : first + num_frames], dtype=np.float32)
            start = stop

    def excerpt(self, first_frame: int, num_frames: int) -> np.ndarray:
        start, stop = (frame / self.info.sampling_rate for frame in (first_frame, first_frame + num_frames))
        try:
            _, samples = self._decode(self._make_decoder(), start, stop, self.info.file)
        except AudioReadError:
            return _frames_from(self, first_frame, num_frames)
        return np.ascontiguousarray(samples[:num_frames], dtype=np.float32)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()


# --- arrays ----------------------------------------------------------------------------------------------------------


class ArrayReader:
    """Blocks from samples in memory, converted block by block so that a long array is never copied whole.

    Args:
        array: `(num_samples,)`, or two axes of which the shorter is the channels. Floats keep their values; int16 and
            int32 are divided by 2^15 and 2^31; uint8 is centred on 128 as in WAV files.
        sampling_rate: Hz.
        file: printable name for messages, or `None`.
    """

    def __init__(self, array: np.ndarray, sampling_rate: int, file: str | None = None):
        try:
            rate = int(sampling_rate)
        except (TypeError, ValueError, OverflowError):
            raise read_error(file, "rate", f"sampling_rate is {sampling_rate!r}, and must be a number of Hz") from None
        if array.ndim == 1:
            array = array[:, None]
        elif array.ndim == 2:
            array = array.T if array.shape[0] < array.shape[1] else array
        else:
            raise read_error(
                file, "shape", f"the array has shape {array.shape}; one axis (mono), or two (channels and samples)"
            )
        if array.size == 0:
            raise read_error(file, "empty", "the array holds no samples")
        self._scale, self._offset = _integer_scale(array.dtype, file)
        self._array = array
        self.cut_short = False
        self.info = AudioInfo(file, rate, array.shape[1], "array", str(array.dtype), len(array))

    def blocks(self, num_frames: int) -> Iterator[np.ndarray]:
        for first in range(0, len(self._array), num_frames):
            block = self._array[first : first + num_frames]
            if self._scale is None:
                yield np.ascontiguousarray(block, dtype=np.float32)
            else:
                yield (block.astype(np.float32) - self._offset) * self._scale

    def excerpt(self, first_frame: int, num_frames: int) -> np.ndarray:
        return _frames_from(self, first_frame, num_frames)

    def close(self) -> None:
        """Nothing to do: the array is the caller's."""


def _integer_scale(dtype: np.dtype, file: str | None) -> tuple[np.float32 | None, np.float32]:
    if dtype.kind == "f":
        return None, np.float32(0)
    full_scale = {"int8": (2**7, 0), "uint8": (2**7, 2**7), "int16": (2**15, 0), "int32": (2**31, 0)}.get(dtype.name)
    if full_scale is None:
        raise read_error(
            file,
            "dtype",
            f"samples are {dtype}, whose full scale is unknown; give floats between -1 and 1, or int16, int32 or uint8",
        )
    return np.float32(1 / full_scale[0]), np.float32(full_scale[1])
