# SPDX-License-Identifier: Apache-2.0
"""The tracks of a pretraining recipe: found, kept as spectrograms, divided so that validation hears other artists."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_mathrock.data.mel_cache import MelCache, cached_tracks, decibel_settings, write_mel_cache
from hf_mathrock.data.splitting import assign_splits, link_groups
from hf_mathrock.data.tracks import Track, tracks_in_folder, tracks_of_corpus
from hf_mathrock.training.pretraining_recipe import PretrainingData

CACHE_DIR = Path.home() / ".cache" / "hf-mathrock" / "mels"
_TIES = ("artist", "album", "folder", "work")
_FEWEST = 20  # tracks to measure on, if there are five times as many


@dataclass(frozen=True)
class DividedTracks:
    """What a run learns from and is measured on.

    Attributes:
        train: Spectrograms to learn from.
        validation: Of tracks that it does not learn from.
        report: How many and how long they are, how they were divided, and what was left out.
    """

    train: MelCache
    validation: MelCache
    report: dict[str, Any]


def load_tracks(
    data: PretrainingData,
    extractor: Any,
    *,
    min_seconds: float = 0.0,
    seed: int = 0,
    cache_dir: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    write: bool = True,
) -> DividedTracks:
    """Find the tracks of a recipe, compute what is not in the cache yet, and divide them.

    Tracks without a sound are left out, and so are those too short to have two different crops.

    Args:
        data: The recipe's.
        extractor: The model's.
        min_seconds: Of the shortest track that is worth a crop.
        seed: Of the division.
        cache_dir: Where caches without a folder of their own are; `None`: `CACHE_DIR`.
        progress: Called with (tracks done, tracks wanted).
        write: `False`: another process has written the cache.

    Raises:
        ValueError: There are no tracks, or too few to learn from and to measure on.
    """
    tracks, given = _found(data, extractor.sampling_rate)
    folder = Path(data.cache) if data.cache else Path(cache_dir or CACHE_DIR) / _cache_name(data, extractor)
    folder = folder.expanduser()
    if write:
        options: dict[str, Any] = {"num_workers": data.num_workers, "max_broken": data.max_broken}
        cache = write_mel_cache(folder, tracks, extractor, progress=progress, **options)
    else:
        cache = cached_tracks(folder, tracks)
    short = cache.num_frames < min_seconds * cache.frames_per_second
    left_out = {
        "broken": cache.broken,
        "silent": [cache.ids[index] for index in np.flatnonzero(cache.silent)],
        "short": [cache.ids[index] for index in np.flatnonzero(short & ~cache.silent)],
    }
    cache = cache.select(~(cache.silent | short))
    if len(cache) < 4:
        raise ValueError(
            f"{len(cache)} tracks are left of {len(tracks)} ({len(left_out['broken'])} cannot be read, "
            f"{len(left_out['silent'])} are silent, {len(left_out['short'])} last less than {min_seconds:g} s): too "
            "few to tell tracks from each other in training and in validation. Name a folder with more music."
        )
    splits, how = _division(cache, given, data.validation_share, seed)
    train, validation = (cache.select(splits == name) for name in ("train", "validation"))
    if len(train) < 2 or len(validation) < 2:
        raise ValueError(
            f"There are {len(train)} tracks to learn from and {len(validation)} to measure on; there must be two at "
            "least of each. Raise `data.validation_share`, or add music."
        )
    report = {
        "source": data.source if data.source is not None else "generated",
        "corpus": data.corpus,
        "split": how,
        "num_songs": {"train": len(train), "validation": len(validation)},
        "seconds": {
            name: round(float(part.num_frames.sum() / part.frames_per_second), 1)
            for name, part in (("train", train), ("validation", validation))
        },
        **left_out,
    }
    return DividedTracks(train, validation, report)


def _found(data: PretrainingData, sampling_rate: int) -> tuple[list[Track], dict[str, str]]:
    """All tracks, and the split of those that come with one."""
    if data.train is not None and data.validation is not None:
        from hf_mathrock.data.forms import form_tracks

        parts = {
            split: form_tracks(**settings, sampling_rate=sampling_rate)
            for split, settings in (("train", data.train), ("validation", data.validation))
        }
        works = {split: {track.work for track in part} for split, part in parts.items()}
        if both := works["train"] & works["validation"]:
            raise ValueError(
                f"`data.train` and `data.validation` have {len(both)} works in common; give them ranges of seeds that "
                "are apart."
            )
        return [*parts["train"], *parts["validation"]], {t.id: split for split, part in parts.items() for t in part}
    assert data.source is not None  # see `PretrainingData`
    if data.corpus is None:
        return tracks_in_folder(data.source), {}
    if not isinstance(data.source, str):
        raise ValueError(f"`data.source` lists {len(data.source)} folders; the corpus {data.corpus!r} lies in one.")
    tracks = tracks_of_corpus(data.corpus, data.source)
    given = {track.id: track.facts["split"] for track in tracks if track.facts.get("split")}
    if set(given.values()) <= {"train"}:
        return tracks, {}
    # Those for testing stay unheard.
    return [track for track in tracks if given.get(track.id) in ("train", "validation")], given


def _cache_name(data: PretrainingData, extractor: Any) -> str:
    """A folder for these tracks in this form, so that another front end or source has one of its own."""
    source: Any = [data.train, data.validation]
    if data.source is not None:
        sources = [data.source] if isinstance(data.source, str) else data.source
        source = [data.corpus, *(str(Path(path).expanduser().absolute()) for path in sources)]
    told = json.dumps([source, decibel_settings(extractor)], sort_keys=True)
    return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()


def _division(cache: MelCache, given: dict[str, str], share: float, seed: int) -> tuple[np.ndarray, str]:
    """The split of each track, and in words how that came about."""
    if "validation" in given.values():
        return np.array([given[name] for name in cache.ids]), "given"
    folders = [cache[index].facts.get("folder") for index in range(len(cache))]
    columns = {"artist": cache.artists, "album": _albums(cache), "folder": folders, "work": cache.works}
    # Of few tracks a few percent would be two or three, among which to find the right one is no art.
    share = max(share, min(_FEWEST, len(cache) // 5, len(cache) - 2) / len(cache), 2 / len(cache))
    # Whole artists, if there are several; else whole albums; else whole works; else tracks.
    for first in range(len(_TIES) + 1):
        ties = {name: columns[name] for name in _TIES[first:]}
        groups = link_groups(ties, cache.contents, cache.ids)
        splits = np.array(assign_splits(groups, [()] * len(groups), {"train": 1 - share, "validation": share}, seed))
        num_measured = int((splits == "validation").sum())
        if 2 <= num_measured <= len(cache) / 2:
            break
    known = [name for name in ties if any(value is not None for value in columns[name])]
    if not known:
        warnings.warn(
            "Validation tracks may be by artists who are also learned from: "
            + ("no artists are known" if not any(cache.artists) else "almost all tracks are by the same")
            + ". Figures of the validation then flatter the model.",
            stacklevel=3,
        )
    return splits, f"by {', '.join(known)}" if known else "by track"


def _albums(cache: MelCache) -> list[str | None]:
    """Albums with their artists: many are called "Live"."""
    return [
        album if album is None or artist is None else f"{artist}: {album}"
        for artist, album in zip(cache.artists, cache.albums, strict=True)
    ]
