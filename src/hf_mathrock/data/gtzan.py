# SPDX-License-Identifier: Apache-2.0
"""GTZAN on its fault-filtered split: 930 clips of 30 seconds in ten genres, without those that are repeated, distorted
or mislabelled, and with no artist on two sides.

Source: Tzanetakis and Cook, "Musical Genre Classification of Audio Signals", 2002; no licence is known. The split is of
Kereliuk, Sturm and Larsen, "Deep Learning and Music Adversaries", 2015: 443 / 197 / 290. `mirdata_corpora` reads the
whole corpus, with tempi, by mirdata's index; here nothing but the audio and the three lists is needed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .corpora import CorpusRows

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
PUBLISHED = {"train": 443, "validation": 197, "test": 290}
_LISTS = {"train": "train_filtered.txt", "validation": "valid_filtered.txt", "test": "test_filtered.txt"}
_NAME = re.compile(rf"({'|'.join(GENRES)})\.\d{{5}}")
_SUFFIXES = {".wav", ".au", ".mp3", ".flac", ".ogg"}


def gtzan_rows(folder: Path) -> CorpusRows:
    """Rows of the fault-filtered split.

    Args:
        folder: Holds the audio under its published names, `blues.00000.wav`, at any depth. The lists
            `train_filtered.txt`, `valid_filtered.txt` and `test_filtered.txt` lie in it, or torchaudio is installed,
            which brings them.

    Returns:
        Rows with `genre` and `split`.

    Raises:
        ValueError: There is no audio of GTZAN, two files are of one clip, or there are no lists.
    """
    split_of = _split(folder)
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in _SUFFIXES or not _NAME.fullmatch(path.stem) or not path.is_file():
            continue
        if path.stem in found:
            raise ValueError(f"{found[path.stem]} and {path} are both {path.stem}; leave one of them in {folder}.")
        found[path.stem] = path
    rows: list[dict[str, Any]] = [
        {
            "audio": str(found[name]),
            "song": found[name].relative_to(folder).as_posix(),
            "genre": name.partition(".")[0],
            "split": split,
        }
        for name, split in split_of.items()
        if name in found
    ]
    if not rows:
        raise ValueError(
            f"{folder} holds none of the {len(split_of)} clips of the split, such as {next(iter(split_of))}.wav. Was "
            "the audio unpacked, under its own names, and is this the right folder?"
        )
    tasks = [{"name": "genre", "type": "single_label", "labels": list(GENRES)}]
    return CorpusRows(rows, tasks, "GTZAN, fault-filtered")


def _split(folder: Path) -> dict[str, str]:
    """The split of each clip by its name, such as "blues.00029"."""
    paths = {split: folder / name for split, name in _LISTS.items()}
    if all(path.is_file() for path in paths.values()):
        lists = {split: path.read_text("utf-8").split() for split, path in paths.items()}
    else:
        try:
            from torchaudio.datasets import gtzan
        except (ImportError, OSError) as error:
            absent = ", ".join(path.name for path in paths.values() if not path.is_file())
            raise ValueError(
                f"GTZAN is measured on its fault-filtered split, and {absent} is not in {folder}. The three lists are "
                "published in the folder gtzan/ of coreyker/dnn-mgr on GitHub, with lines like blues/blues.00029.wav; "
                "torchaudio brings them, too, but cannot be imported here. Without them GTZAN repeats recordings and "
                "artists, and its figures say little."
            ) from error
        lists = {
            "train": gtzan.filtered_train,
            "validation": gtzan.filtered_valid,
            "test": gtzan.filtered_test,
        }
    names = [(re.sub(r"\.(wav|au)$", "", Path(line).name), split) for split, lines in lists.items() for line in lines]
    if len({name for name, _ in names}) < len(names) or not all(_NAME.fullmatch(name) for name, _ in names):
        raise ValueError(
            f"the lists {', '.join(_LISTS.values())} in {folder} are not as published: a line is no clip of GTZAN, or "
            "a clip stands in two places."
        )
    return dict(names)
