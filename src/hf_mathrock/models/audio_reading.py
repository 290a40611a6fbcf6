# SPDX-License-Identifier: Apache-2.0
"""Readers: anything that holds audio, as float32 blocks of ``(num_frames, num_channels)``.

libsndfile comes first because it is small, fast and needs nothing installed beside its wheel; torchcodec (FFmpeg)
follows for the containers libsndfile does not know. Both are imported when needed, so this module loads without them.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

MIN_SAMPLING_RATE, MAX_SAMPLING_RATE = 4_000, 384_000
MAX_CHANNELS = 32

# What libsndfile may open. It knows two dozen more containers, hardly fuzzed and never music, so they stay shut.
_SNDFILE_CONTAINERS = {"AIFF", "AU", "CAF", "FLAC", "MP3", "NIST", "OGG", "RF64", "W64", "WAV", "WAVEX"}
# Decoders of these overshoot full scale on honest music, so samples beyond 1 say nothing about the file.
_LOSSY_CONTAINERS = {"MP3", "OGG"}
# FFmpeg also opens playlists that name other files; only these beginnings ever reach it: (offset, bytes, name).
_CONTAINER_MAGIC = (
    (8, b"WAVE", "WAV"),
    (8, b"AVI ", "AVI"),
    (0, b"FORM", "AIFF"),
    (0, b"caff", "CAF"),
    (0, b".snd", "AU"),
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "OGG"),
    (0, b"ID3", "MP3"),
    (4, b"ftyp", "MP4 or M4A"),
    (4, b"moov", "QuickTime"),
    (4, b"mdat", "QuickTime"),
    (4, b"wide", "QuickTime"),
    (0, b"\x1aE\xdf\xa3", "Matroska or WebM"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "WMA or ASF"),
    (0, b"FLV\x01", "FLV"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"wvpk", "WavPack"),
    (0, b"TTA1", "True Audio"),
    (0, b"DSD ", "DSF"),
    (0, b"FRM8", "DSDIFF"),
    (0, b"#!AMR", "AMR"),
    (0, b"\x0bw", "AC-3"),
    (0, b"\x00\x00\x01\xba", "MPEG programme stream"),
    (0, b"G@", "MPEG transport stream"),
)
# Multiples of this many frames end on a codec frame in AAC (1024), HE-AAC (2048), MP3 (1152) and Opus (960). A range
# that ends inside one makes torchcodec decode again from the beginning of the file at the next range.
_TORCHCODEC_FRAMES = 8 * 92_160


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

    def close(self) -> None: ...


# --- files -----------------------------------------------------------------------------------------------------------


def printable_name(path: str | bytes | os.PathLike) -> str:
    """The path as text that every terminal and JSON writer accepts; undecodable bytes become backslash escapes."""
    return os.fsdecode(path).encode("utf-8", "backslashreplace").decode()


def open_regular_file(path: str | bytes | os.PathLike) -> io.FileIO:
    """Open a regular file for reading without ever waiting: a pipe or a device is refused, not read.

    Raises:
        AudioReadError: `missing`, `directory`, `not_regular`, `permission`, `empty` or `io`.
    """
    file = printable_name(path)
    # Non-blocking, because opening a pipe nobody writes to waits for ever. The checks run on the descriptor that is read.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        raise read_error(file, "missing", "there is no such file; check the spelling and the working folder") from None
    except PermissionError:
        if os.path.isdir(path):  # Windows answers so for a folder
            raise read_error(file, "directory", "it is a folder; give the audio files inside it") from None
        raise read_error(file, "permission", "permission denied; make it readable for this user") from None
    except (OSError, ValueError) as error:
        raise read_error(file, "io", f"the system cannot open it ({error})") from None
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size > 0:
        return io.FileIO(descriptor, "r")
    os.close(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise read_error(file, "directory", "it is a folder; give the audio files inside it")
    if not stat.S_ISREG(status.st_mode):
        raise read_error(file, "not_regular", "it is a pipe, socket or device; copy its contents to a file first")
    raise read_error(file, "empty", "the file is empty (0 bytes); it was probably never written in full")


def open_stream(stream: Any, file: str | None, *, owned: bool) -> BlockReader:
    """Find the decoder for a seekable binary stream, by its contents and never by its name.

    Args:
        stream: seekable binary file object, read from its beginning.
        file: printable name for messages, or `None`.
        owned: `stream` is ours, an `io.FileIO` that the reader closes (and that is closed here on failure).
    """
    try:
        return _find_decoder(stream, file, owned)
    except BaseException:
        if owned:
            stream.close()
        raise


def _find_decoder(stream: Any, file: str | None, owned: bool) -> BlockReader:
    try:
        stream.seek(0)
        head = stream.read(64)
        stream.seek(0)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise read_error(
            file, "io", f"the file object cannot be read and rewound ({error}); pass its bytes instead"
        ) from None
    if not isinstance(head, bytes):
        raise read_error(file, "type", "the file object gives text, not bytes; open it with mode 'rb'")
    if not head:
        raise read_error(file, "empty", "it holds 0 bytes; it was probably never written in full")
    try:
        return SoundFileReader(stream, file, owned)
    except _Undecodable as refused:
        refusal = str(refused)
    container = _container_of(head)
    if container is None:
        raise read_error(file, "not_audio", f"{_describe(head)}; give a WAV, FLAC, OGG, MP3, AIFF or M4A file")
    decoder_class, missing = _torchcodec_decoder()
    if decoder_class is None and container in _SNDFILE_CONTAINERS:
        raise read_error(
            file,
            "damaged",
            f"libsndfile cannot read this {container} ({refusal}), so it is damaged or holds a rare codec; get an intact"
            ' copy, or for a rare codec: pip install "hf-mathrock[ffmpeg]" and the FFmpeg libraries',
        )
    if decoder_class is None:
        raise read_error(
            file,
            "needs_ffmpeg",
            f"it looks like {container}, which libsndfile cannot read ({refusal}), and torchcodec is not usable"
            f' ({missing}); pip install "hf-mathrock[ffmpeg]" and the FFmpeg libraries, or convert it to WAV, FLAC or MP3',
        )
    try:
        stream.seek(0)
        return TorchCodecReader(decoder_class(stream), file)
    except AudioReadError:
        raise
    except Exception as error:  # torchcodec raises RuntimeError, ValueError and others for what FFmpeg refuses
        raise read_error(
            file,
            "damaged",
            f"it looks like {container}, but neither libsndfile ({refusal}) nor torchcodec ({_problem(error)}) can read"
            " it; get an intact copy or convert it to WAV, FLAC or MP3",
        ) from None


def _container_of(head: bytes) -> str | None:
    for offset, magic, name in _CONTAINER_MAGIC:
        if head.startswith(magic, offset):
            return name
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return "AAC" if head[1] & 0xF6 == 0xF0 else "MP3"
    return None


def _describe(head: bytes) -> str:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the audio itself (run `git lfs pull`)"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        return "it is a web page or XML, not audio (a download that answered with an error page?)"
    if text.startswith((b"#extm3u", b"[playlist]")):
        return "it is a playlist, not audio (give the files it lists)"
    if all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return "it is text, not audio"
    return f"it is not audio in any known container (first bytes {head[:8].hex(' ')})"


def _problem(error: Exception) -> str:
    """A library's complaint, shortened to one clause."""
    text = str(getattr(error, "error_string", error)).strip() or type(error).__name__
    if "not a regular file" in text:  # what libsndfile says when the MP3 decoder finds no frame
        return "no frame in it decodes"
    return text.splitlines()[0].removeprefix("Error : ").rstrip(" .")[:200]


# --- libsndfile ------------------------------------------------------------------------------------------------------


_CORRECTED_LENGTH = re.compile(
    r"^\s*(?:data|ssnd|data size)\s*: (?P<claimed>\d+) \(should be (?P<actual>\d+)\)", re.IGNORECASE | re.MULTILINE
)


class _Undecodable(Exception):
    """libsndfile does not take this stream; another decoder may."""


class SoundFileReader:
    """Blocks from libsndfile: WAV, FLAC, OGG (Vorbis, Opus), MP3, AIFF, CAF, AU, W64, RF64."""

    def __init__(self, stream: Any, file: str | None, owned: bool):
        try:
            import soundfile
        except (ImportError, OSError) as error:  # OSError: the binding is there, the library is not
            raise _Undecodable(f"soundfile is not usable: {_problem(error)}; pip install soundfile") from None

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
            raise _Undecodable(_problem(error)) from None
        if self._sound.format not in _SNDFILE_CONTAINERS:
            self._sound.close()
            raise _Undecodable(f"it looks like {self._sound.format}, which is not accepted")
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
        # libsndfile quietly corrects a data chunk that claims more than the file holds; only its log tells.
        lie = _CORRECTED_LENGTH.search(self._sound.extra_info)
        if lie is None or int(lie["actual"]) == 0:
            return frames
        claimed, actual = int(lie["claimed"]), int(lie["actual"])
        if claimed >= 0x7FFFF000:  # what programs that write into a pipe put for "length unknown"
            return None
        return frames * claimed // actual

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
                    self.info.file, "damaged", f"nothing in it decodes ({_problem(error)}); get an intact copy"
                ) from None
            self.cut_short = True
        if "without an End-Of-Stream flag" in self._sound.extra_info:
            self.cut_short = True

    def close(self) -> None:
        self._sound.close()
        if self._owned:
            self._stream.close()


# --- torchcodec ------------------------------------------------------------------------------------------------------


def _torchcodec_decoder() -> tuple[Any, str]:
    """torchcodec's `AudioDecoder` and "", or `None` and why not.

    The wheel can be there and yet fail to load: OSError for a missing CUDA library, RuntimeError for missing FFmpeg.
    """
    try:
        from torchcodec.decoders import AudioDecoder
    except (ImportError, OSError, RuntimeError) as error:
        return None, _problem(error)
    return AudioDecoder, ""


class TorchCodecReader:
    """Blocks from a torchcodec `AudioDecoder`, ours or the caller's (a decoded row of `datasets`), range by range."""

    def __init__(self, decoder: Any, file: str | None):
        self._decoder = decoder
        self.cut_short = False
        metadata = decoder.metadata
        if not metadata.sample_rate:
            raise read_error(file, "damaged", "its audio stream states no sampling rate; get an intact copy")
        self._range_seconds = _TORCHCODEC_FRAMES / metadata.sample_rate
        self._duration = metadata.duration_seconds
        # The metadata describe the file; a decoder made with another rate or number of channels gives those instead.
        sampling_rate, data = self._decode(0.0, 0.1, file)
        self.info = AudioInfo(
            file=file,
            sampling_rate=sampling_rate,
            channels=data.shape[1],
            container="FFmpeg",
            encoding=str(getattr(metadata, "codec", None) or "unknown"),
            claimed_frames=round(self._duration * sampling_rate) if self._duration else None,
            lossy=True,
        )

    def _decode(self, start: float, stop: float, file: str | None) -> tuple[int, np.ndarray]:
        try:
            samples = self._decoder.get_samples_played_in_range(start, stop)
        except Exception as error:  # its types differ between versions
            raise read_error(
                file, "damaged", f"nothing in it decodes ({_problem(error)}); get an intact copy"
            ) from None
        return int(samples.sample_rate), np.ascontiguousarray(samples.data.cpu().numpy().T, dtype=np.float32)

    def blocks(self, num_frames: int) -> Iterator[np.ndarray]:
        start = 0.0
        while self._duration is None or start < self._duration:
            try:
                _, block = self._decode(start, start + self._range_seconds, self.info.file)
            except AudioReadError:
                if start == 0:
                    raise
                return  # past the end of a stream of unknown or overstated length
            if len(block):
                yield block
            start += self._range_seconds

    def close(self) -> None:
        """Nothing to do: the decoder frees itself, and it may be the caller's."""


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
        self.info = AudioInfo(file, int(sampling_rate), array.shape[1], "array", str(array.dtype), len(array))

    def blocks(self, num_frames: int) -> Iterator[np.ndarray]:
        for first in range(0, len(self._array), num_frames):
            block = self._array[first : first + num_frames]
            if self._scale is None:
                yield np.ascontiguousarray(block, dtype=np.float32)
            else:
                yield (block.astype(np.float32) - self._offset) * self._scale

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
