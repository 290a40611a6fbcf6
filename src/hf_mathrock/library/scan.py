# SPDX-License-Identifier: Apache-2.0
"""Which audio files a list of paths means, told from names alone: no file is opened."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

# What libsndfile reads, and what FFmpeg adds when it is there; a file named outright may be called anything.
AUDIO_EXTENSIONS = frozenset(
    (".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".w64", ".wav")
    + (".aac", ".ac3", ".amr", ".ape", ".m4a", ".m4b", ".mka", ".mkv", ".mov", ".mp4", ".tta", ".webm", ".wma", ".wv")
)


@dataclass(frozen=True)
class Scan:
    """What a scan found.

    Attributes:
        files: Audio files, each once. The arguments keep their order, the contents of a folder are in natural order.
        errors: Path → one line for every argument or folder that gives no audio.
    """

    files: list[Path] = field(default_factory=list)
    errors: dict[Path, str] = field(default_factory=dict)


def scan(paths: Iterable[str | os.PathLike[str]]) -> Scan:
    """Lists the audio files under some files and folders.

    A file that is named is taken as it is, whatever its extension, even if it does not exist: reading it will say so. A
    folder is searched to its bottom for known extensions. Inside a folder, symbolic links are not followed (they lead
    out of it or round in circles) and names that begin with a dot are passed over.

    Args:
        paths: Files and folders.

    Returns:
        The files, and an error for each folder that cannot be listed or holds no audio.

    Example:
        >>> scan(["song.mp3", "song.mp3"]).files
        [PosixPath('song.mp3')]
    """
    found: dict[Path, None] = {}
    errors: dict[Path, str] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            found[path] = None
            continue
        files, num_links = _walk(path, errors)
        if not files and path not in errors:
            links = f"; {num_links} symbolic link(s) in it were not followed, name their targets" if num_links else ""
            errors[path] = f"there is no audio in this folder (.wav, .flac, .mp3, .ogg, .m4a and the like){links}"
        found.update(dict.fromkeys(sorted(files, key=natural_order)))
    return Scan(list(found), errors)


def natural_order(path: Path) -> list[list[tuple[int, int, str]]]:
    """Sorts as people number things, "2 take" before "10 take", folder by folder and without regard to case."""
    return [
        [(0, int(run), "") if run.isdecimal() else (1, 0, run) for run in re.split(r"([0-9]+)", part.casefold()) if run]
        + [(1, 0, part)]
        for part in path.parts
    ]


def _walk(folder: Path, errors: dict[Path, str]) -> tuple[list[Path], int]:
    files: list[Path] = []
    num_links = 0

    def refuse(error: OSError) -> None:
        errors[Path(error.filename)] = f"the folder cannot be listed: {error.strerror}"

    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        num_links += sum(os.path.islink(os.path.join(parent, name)) for name in folders)
        for name in names:
            path = Path(parent, name)
            if name.startswith(".") or path.suffix.lower() not in AUDIO_EXTENSIONS:
                continue
            if path.is_symlink():
                num_links += 1
            elif path.is_file():
                files.append(path)
    return files, num_links
