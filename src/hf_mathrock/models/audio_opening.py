# SPDX-License-Identifier: Apache-2.0
"""Opening files and streams: refuse what is no audio, and find the decoder for the rest by its contents."""

from __future__ import annotations

import io
import os
import stat
import tempfile
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.error import URLError

from .audio_reading import (
    SNDFILE_CONTAINERS,
    AudioReadError,
    BlockReader,
    SoundFileReader,
    TorchCodecReader,
    UndecodableError,
    describe_problem,
    load_torchcodec,
    read_error,
)

MAX_DOWNLOAD_BYTES = 2**30
DOWNLOAD_TIMEOUT_SECONDS = 30
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


def printable_name(path: str | bytes | os.PathLike) -> str:
    """The path as text that every terminal and JSON writer accepts; undecodable bytes become backslash escapes."""
    return os.fsdecode(path).encode("utf-8", "backslashreplace").decode()


def open_regular_file(path: str | bytes | os.PathLike) -> io.FileIO:
    """Open a regular file for reading without ever waiting: a pipe or a device is refused, not read.

    Raises:
        AudioReadError: `missing`, `directory`, `not_regular`, `permission`, `empty` or `io`.
    """
    file = printable_name(path)
    # Non-blocking, because opening a pipe nobody writes to waits for ever. The checks run on what will be read.
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
    except UndecodableError as refused:
        refusal = str(refused)
    container = _container_of(head)
    if container is None:
        raise read_error(file, "not_audio", f"{_describe(head)}; give a WAV, FLAC, OGG, MP3, AIFF or M4A file")
    decoder_class, missing = load_torchcodec()
    if decoder_class is None and container in SNDFILE_CONTAINERS:
        raise read_error(
            file,
            "damaged",
            f"libsndfile cannot read this {container} ({refusal}): it is damaged, or holds a rare codec; get an intact"
            ' copy, or for a rare codec pip install "hf-mathrock[ffmpeg]" and the FFmpeg libraries',
        )
    if decoder_class is None:
        raise read_error(
            file,
            "needs_ffmpeg",
            f"it looks like {container}, which libsndfile cannot read ({refusal}), and torchcodec is not usable"
            f' ({missing}); pip install "hf-mathrock[ffmpeg]" and the FFmpeg libraries, or convert it to WAV, FLAC or'
            " MP3",
        )

    def make_decoder() -> Any:
        stream.seek(0)
        return decoder_class(stream)

    try:
        return TorchCodecReader(make_decoder, file, stream if owned else None)
    except AudioReadError:
        raise
    except Exception as error:  # torchcodec raises RuntimeError, ValueError and others for what FFmpeg refuses
        raise read_error(
            file,
            "damaged",
            f"it looks like {container}, but neither libsndfile ({refusal}) nor torchcodec ({describe_problem(error)})"
            " can read it; get an intact copy or convert it to WAV, FLAC or MP3",
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


class _HttpOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not newurl.lower().startswith(("http://", "https://")):
            raise URLError(f"redirected to {newurl!r}, which is not http or https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url: str, allow_url: bool) -> io.FileIO:
    """The contents of a URL in an unnamed temporary file.

    Raises:
        AudioReadError: `url` if it may not be fetched, `download` if that failed or passed `MAX_DOWNLOAD_BYTES`.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise read_error(url, "url", "only http and https URLs can be fetched; give a local path for anything else")
    if not allow_url:
        raise read_error(url, "url", "URLs are fetched only with allow_url=True; pass that, or download it first")
    request = urllib.request.Request(url, headers={"User-Agent": "hf-mathrock"})
    with tempfile.TemporaryFile(buffering=0) as unnamed:
        spool = io.FileIO(os.dup(unnamed.fileno()), "r+")  # a plain FileIO, as the reader closes
    try:
        with urllib.request.build_opener(_HttpOnly).open(request, timeout=DOWNLOAD_TIMEOUT_SECONDS) as response:
            while chunk := response.read(2**16):
                spool.write(chunk)
                if spool.tell() > MAX_DOWNLOAD_BYTES:
                    raise read_error(
                        url, "download", f"it is larger than {MAX_DOWNLOAD_BYTES} bytes; download it yourself"
                    )
    except (OSError, ValueError, HTTPException) as error:
        spool.close()
        if isinstance(error, AudioReadError):
            raise
        raise read_error(url, "download", f"the download failed ({error}); check the address and the network") from None
    return spool
