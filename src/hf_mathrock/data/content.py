# SPDX-License-Identifier: Apache-2.0
"""Which recording is which: by what is in it, since a file may be renamed or lie in two folders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_DIGEST_BYTES = 16
_BLOCK_BYTES = 1 << 20


def content_id(audio: Any) -> str:
    """A name for a recording that follows from its content alone.

    Args:
        audio: A path, `bytes`, a `{"path", "bytes"}`, or samples: an array or `{"array" or "raw", "sampling_rate"}`. A
            file and its bytes are the same recording; another encoding of the music is another one.

    Returns:
        32 hexadecimal digits.

    Raises:
        OSError: The file cannot be read.
        TypeError: The audio is none of these.

    Example:
        >>> content_id(b"RIFF") == content_id({"path": "song.wav", "bytes": b"RIFF"})
        True
    """
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    if isinstance(audio, Mapping):
        samples = audio.get("array", audio.get("raw"))
        if samples is not None:
            digest.update(f"{audio.get('sampling_rate')} Hz ".encode())
            audio = samples
        else:
            audio = audio["bytes"] if audio.get("bytes") is not None else audio.get("path")
    if isinstance(audio, (bytes, bytearray, memoryview)):
        digest.update(audio)
    elif isinstance(audio, (str, os.PathLike)):
        if not Path(audio).is_file():  # a pipe would be waited for without end
            raise OSError(f"{os.fspath(audio)!r} is no file")
        with open(audio, "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    elif audio is not None and hasattr(audio, "__array__"):
        values = np.ascontiguousarray(audio, dtype=np.float32)
        digest.update(f"{values.shape} ".encode() + values.tobytes())
    else:
        raise TypeError(f"{type(audio).__name__} is no recording; give a path, bytes, or samples with their rate")
    return digest.hexdigest()


def recording_name(row: Mapping[str, Any], otherwise: str = "(without a name)") -> str:
    """What to call a row's recording in a message: its `song`, or its path, or `otherwise`."""
    audio = row.get("audio")
    path = audio.get("path") if isinstance(audio, Mapping) else audio
    return str(row.get("song") or (os.fspath(path) if isinstance(path, (str, os.PathLike)) else otherwise))


def songs_digest(content_ids: Iterable[str]) -> str:
    """One name for a set of recordings, in whatever order: 32 hexadecimal digits."""
    joined = "\n".join(sorted(content_ids))
    return hashlib.blake2b(joined.encode(), digest_size=_DIGEST_BYTES).hexdigest()
