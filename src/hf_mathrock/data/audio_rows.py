# SPDX-License-Identifier: Apache-2.0
"""The audio of a table's rows: where it is, whether it opens, and which rows are the same recording."""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hf_mathrock.data.content import content_id
from hf_mathrock.data.sources import PATH_COLUMNS, Part, require_column, same_column
from hf_mathrock.models.audio_input import AudioReadError, open_audio

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


@dataclass
class CheckedAudio:
    """What opening the audio of some rows has shown.

    Attributes:
        usable: Whether each row's audio opens, bool `(num_rows,)`.
        seconds: Length that each header claims, 0 where it claims none, float64 `(num_rows,)`.
        contents: Per row what identifies its audio, `None` before `identify` or where nothing else can be the same.
        broken: `{"song", "error"}` of the others.
        sizes: Bytes, by row.
        paths: Files, by row.
        replaced: `{"path", "bytes"}` per row where the column does not hold such already, else `None`.
    """

    usable: np.ndarray
    seconds: np.ndarray
    contents: list[str | None]
    broken: list[dict[str, str]] = field(default_factory=list)
    sizes: dict[int, int] = field(default_factory=dict)
    paths: dict[int, str] = field(default_factory=dict)
    replaced: list[dict[str, Any]] | None = None


def audio_column_of(part: Part, wanted: str | None) -> str:
    """The column of a part that holds the audio, see `find_audio_column`."""
    return find_audio_column(part.rows.column_names, part.rows.features, part.place, wanted)


def find_audio_column(names: Sequence[str], features: Mapping[str, Any] | None, place: str, wanted: str | None) -> str:
    """The column that holds the audio: the one wanted, the one of type `Audio`, or one called like a path.

    Raises:
        ValueError: There is none.
    """
    if wanted is not None:
        return require_column(names, wanted, place, "audio_column")
    typed = [name for name in names if type((features or {}).get(name)).__name__ == "Audio"]
    if len(typed) == 1:
        return typed[0]
    for known in PATH_COLUMNS:
        for name in names:
            if same_column(name) == known:
                return name
    raise ValueError(
        f"{place} has no column with audio or paths; its columns are {', '.join(names) or 'none'}. Call it "
        "`file_name`, or say which it is: audio_column=..."
    )


def stored_audio(value: Any, folder: Path | None = None, roots: Sequence[Path] | None = None) -> dict[str, Any]:
    """Audio of any form as `{"path", "bytes"}`, as `datasets.Audio(decode=False)` stores it.

    Args:
        value: A path, bytes, `{"path", "bytes"}`, or samples with their rate, which become a WAV file of float32.
        folder: Where a relative path begins.
        roots: Folders outside of which no file is to be read, as their paths are written; `None`: anywhere.

    Raises:
        AudioReadError: There is no audio, it is a URL, or lies outside.
    """
    if value is None or value == "":
        raise AudioReadError("the row has no audio", reason="missing")
    if isinstance(value, (bytes, bytearray)):
        return {"path": None, "bytes": bytes(value)}
    if not isinstance(value, Mapping):
        value = {"path": value}
    samples = value.get("array", value.get("raw"))
    if samples is not None:
        return {"path": value.get("path"), "bytes": _wav(samples, value.get("sampling_rate"))}
    path, content = value.get("path"), value.get("bytes")
    if content is not None:
        return {"path": path, "bytes": content}
    if path is None:
        raise AudioReadError("the row has no audio", reason="missing")
    text = str(path)
    if _URL.match(text):
        raise AudioReadError(f"{text!r} is a URL, and none is ever fetched; download it first", file=text, reason="url")
    located = os.path.join(folder, text) if folder is not None else text
    if roots is not None:
        # As it is written: a link inside the folder was put there by whoever owns the folder.
        whole = os.path.abspath(located)
        if not any(Path(whole).is_relative_to(os.path.abspath(root)) for root in roots):
            raise AudioReadError(
                f"{text!r} lies outside {roots[0]}, and a folder or data set may only name files of its own; if you "
                "trust it, give the table itself, or the loaded data set, as the source",
                file=text,
                reason="outside",
            )
    return {"path": located, "bytes": None}


def _wav(samples: Any, sampling_rate: Any) -> bytes:
    import soundfile

    values = np.asarray(samples, dtype=np.float32 if isinstance(samples, list) else None)
    if sampling_rate is None or values.ndim not in (1, 2) or not values.size:
        raise AudioReadError("samples need a sampling_rate, and one or two axes", reason="shape")
    frames = values.T if values.ndim == 2 and values.shape[0] < values.shape[1] else values
    stream = io.BytesIO()
    subtype = {"f": "FLOAT"}.get(values.dtype.kind, "PCM_16" if values.dtype == np.int16 else "PCM_32")
    try:
        soundfile.write(stream, frames, int(sampling_rate), format="WAV", subtype=subtype)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AudioReadError(f"samples of type {values.dtype} cannot be stored ({error})", reason="dtype") from None
    return stream.getvalue()


def check_audio(part: Part, column: str, songs: Sequence[str]) -> CheckedAudio:
    """Open the audio of every row, decode none.

    Args:
        part: The rows.
        column: Which column is the audio.
        songs: Printable names of the rows, for the list of broken ones.
    """
    from datasets import Audio

    rows = part.rows.select_columns([column]).with_format(None)
    feature = rows.features[column]
    if isinstance(feature, Audio):
        rows = rows.cast_column(column, Audio(decode=False))
    is_stored = isinstance(feature, Audio) or (isinstance(feature, dict) and set(feature) == {"bytes", "path"})
    # A relative path is worth nothing once the rows have left their folder.
    replaced: list[dict[str, Any]] | None = None if is_stored and part.folder is None else []
    checked = CheckedAudio(np.zeros(len(rows), bool), np.zeros(len(rows)), [None] * len(rows), replaced=replaced)
    for index, row in enumerate(rows):
        stored: dict[str, Any] = {"path": None, "bytes": None}
        try:
            stored = stored_audio(row[column], part.folder, part.roots)
            with open_audio(stored) as opened:
                checked.seconds[index] = (opened.info.claimed_frames or 0) / opened.info.sampling_rate
            if stored["bytes"] is not None:
                checked.sizes[index], checked.contents[index] = len(stored["bytes"]), content_id(stored)
            else:
                checked.sizes[index], checked.paths[index] = os.path.getsize(stored["path"]), stored["path"]
            checked.usable[index] = True
        except (AudioReadError, OSError) as error:
            checked.broken.append({"song": songs[index], "error": str(error)})
        if replaced is not None:
            replaced.append(stored)
    return checked


def identify(checked: Sequence[CheckedAudio]) -> None:
    """Fill in the content of the files that may be the same recording: those whose size occurs more than once."""
    sizes = Counter(size for part in checked for size in part.sizes.values())
    for part in checked:
        for row, path in part.paths.items():
            if sizes[part.sizes[row]] > 1:
                part.contents[row] = content_id(path)
