# SPDX-License-Identifier: Apache-2.0
"""Mel spectrograms of whole tracks, computed once and kept on disk, of which any stretch is read without the rest.

A cache is a folder: `cache.json` with what the spectrograms depend on, Arrow IPC files of one row a track, and after a
whole run `report.json`. A file is there whole or not at all, so whoever is interrupted goes on where they were.
"""

from __future__ import annotations

import copy
import json
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_mathrock.data.mel_computing import computed_tracks
from hf_mathrock.data.mel_shards import TEXT_COLUMNS, ShardWriter, facts_text, open_shard, shard_paths
from hf_mathrock.data.tracks import Track, audio_stamp

CACHE_VERSION = 1  # to be raised when the same audio and settings give other decibels or files
_SETTINGS_FILE, _REPORT_FILE = "cache.json", "report.json"
_SHOWN = 3


@dataclass(frozen=True)
class MelTrack:
    """One track of a cache.

    Attributes:
        id: Its name, unique in the cache.
        decibels: Power in dB, read-only float16 `(num_frames, num_mel_bins)`: a map of the file, of which nothing is
            read before it is used.
        reference: The track's level in dB, for the extractor's `values_of`.
        work: What is played, `None` where unknown; several recordings may be of one work.
        artist: Likewise.
        album: Likewise.
        facts: Whatever else is known of it.
    """

    id: str
    decibels: np.ndarray
    reference: float
    work: str | None
    artist: str | None
    album: str | None
    facts: dict[str, Any]


class MelCache:
    """The tracks of a cache folder, as a sequence of `MelTrack`.

    Made by `write_mel_cache`. May go to other processes, which map the files anew.

    Args:
        folder: The cache's.

    Attributes:
        folder: The cache's.
        settings: What its contents depend on, see `decibel_settings`.
        ids: Names of the tracks.
        works: Per track, or `None`.
        artists: Per track, or `None`.
        albums: Per track, or `None`.
        contents: Per track the `content_id` of its audio; `None` for what was generated.
        num_frames: `(num_tracks,)` int64.
        references: Levels in dB, `(num_tracks,)` float32.
        silent: `(num_tracks,)` booleans: there is nothing to hear in the track.
        broken: `{"id", "error"}` of each track that could not be read when the cache was last written.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: The folder holds no cache, or a file of it is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.settings = read_settings(self.folder)
        self.broken: list[dict[str, str]] = []
        if (self.folder / _REPORT_FILE).is_file():
            self.broken = json.loads((self.folder / _REPORT_FILE).read_text(encoding="utf-8"))["broken"]
        self._paths = shard_paths(self.folder)
        self._maps: dict[int, np.ndarray] = {}
        columns: dict[str, list[Any]] = {name: [] for name in (*TEXT_COLUMNS, "reference", "silent", "num_frames")}
        shards, starts = [], []
        for number, path in enumerate(self._paths):
            rows, decibels = open_shard(path, self.num_mel_bins)
            self._maps[number] = decibels
            for name in columns:
                columns[name] += rows[name]
            starts += (np.cumsum(rows["num_frames"]) - rows["num_frames"]).tolist()
            shards += [number] * len(rows["id"])
        # A track that was computed anew, since its audio had changed, is its newest row.
        newest = sorted({name: row for row, name in enumerate(columns["id"])}.values())
        chosen = {name: [values[row] for row in newest] for name, values in columns.items()}
        self.ids, self._stamps, self.contents = chosen["id"], chosen["stamp"], chosen["content"]
        self.works, self.artists, self.albums = chosen["work"], chosen["artist"], chosen["album"]
        self._facts = chosen["facts"]
        self.num_frames = np.array(chosen["num_frames"], dtype=np.int64)
        self.references = np.array(chosen["reference"], dtype=np.float32)
        self.silent = np.array(chosen["silent"], dtype=bool)
        self._shards = np.array(shards, dtype=np.int64)[newest]
        self._starts = np.array(starts, dtype=np.int64)[newest]

    @property
    def num_mel_bins(self) -> int:
        """Bands of the spectrograms."""
        return int(self.settings["feature"]["num_mel_bins"])

    @property
    def frames_per_second(self) -> float:
        """Frames of the spectrograms in a second."""
        return self.settings["sampling_rate"] / self.settings["feature"]["hop_length"]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> MelTrack:
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no track {index}; the cache has {len(self)}.")
        shard, start = int(self._shards[index]), int(self._starts[index])
        if shard not in self._maps:
            self._maps[shard] = open_shard(self._paths[shard], self.num_mel_bins)[1]
        return MelTrack(
            id=self.ids[index],
            decibels=self._maps[shard][start : start + int(self.num_frames[index])],
            reference=float(self.references[index]),
            work=self.works[index],
            artist=self.artists[index],
            album=self.albums[index],
            facts=json.loads(self._facts[index]),
        )

    def select(self, tracks: Sequence[int] | np.ndarray) -> MelCache:
        """A view of some tracks.

        Args:
            tracks: Their indices, in the order wanted, or `(num_tracks,)` booleans.
        """
        chosen = np.asarray(tracks)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        view = copy.copy(self)
        for name in ("ids", "works", "artists", "albums", "contents", "_facts", "_stamps"):
            setattr(view, name, [getattr(self, name)[index] for index in chosen])
        for name in ("num_frames", "references", "silent", "_shards", "_starts"):
            setattr(view, name, getattr(self, name)[chosen])
        return view

    def check_extractor(self, extractor: Any) -> None:
        """See to it that an extractor would compute what is in here.

        Raises:
            ValueError: It would not; the message says which settings differ.
        """
        _check_same(self.settings, decibel_settings(extractor), self.folder)

    def __getstate__(self) -> dict[str, Any]:
        """For workers: without the maps, which would be sent as what they show."""
        return self.__dict__ | {"_maps": {}}


def write_mel_cache(
    folder: str | Path,
    tracks: Iterable[Track],
    extractor: Any,
    *,
    num_workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
    max_broken: float = 0.05,
) -> MelCache:
    """See to it that the spectrogram of every track is in a cache.

    What is there already stays, unless the audio has changed since: a file of another size or time, another
    array, or a callable made with other arguments. Only one process may write to a folder at a time. A script that
    calls this needs the usual `if __name__ == "__main__":`, for workers import it.

    Args:
        folder: The cache's; made if need be.
        tracks: Whose `audio` may also be a callable without arguments that gives a waveform, `(num_samples,)` or
            `(num_channels, num_samples)` at the extractor's rate; it must be picklable, as a `functools.partial` of a
            function of a module is.
        extractor: The model's, with `decibels`.
        num_workers: Processes that read and compute; 0: this one.
        progress: Called with (tracks done, tracks wanted).
        max_broken: Share of the tracks that may be unreadable; these are listed in `broken` and left out.

    Returns:
        A view of the cache: the readable ones of `tracks`, in their order and with their `work`, `artist`, `album` and
        `facts`.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: There are no tracks, two have the same id, more are broken than allowed, or the folder holds a cache
            of other settings.
        RuntimeError: A worker process died.
    """
    tracks, folder = list(tracks), Path(folder)
    _check_tracks(tracks)
    _claim(folder, decibel_settings(extractor))
    for unfinished in folder.glob("*.tmp"):
        unfinished.unlink()
    _drop_damaged(folder)
    before = MelCache(folder)
    known = dict(zip(before.ids, before._stamps, strict=True))
    stamps = {track.id: audio_stamp(track.audio) for track in tracks}
    missing = [track for track in tracks if known.get(track.id) != stamps[track.id]]
    done = len(tracks) - len(missing)
    if progress is not None:
        progress(done, len(tracks))
    broken: list[dict[str, str]] = []
    with ShardWriter(folder) as writer:
        for track, computed in computed_tracks(missing, extractor, num_workers):
            done += 1
            if isinstance(computed, str):
                broken.append({"id": track.id, "error": computed})
                _check_broken(broken, len(tracks), max_broken)
            else:
                writer.add(track, stamps[track.id], computed)
            if progress is not None:
                progress(done, len(tracks))
    _write_json(folder / _REPORT_FILE, {"num_tracks": len(tracks) - len(broken), "broken": broken})
    if broken:
        warnings.warn(
            f"{_said(broken, len(tracks))} and are left out; {folder / _REPORT_FILE} lists them.", stacklevel=2
        )
    gone = {entry["id"] for entry in broken}
    return cached_tracks(folder, [track for track in tracks if track.id not in gone])


def cached_tracks(folder: str | Path, tracks: Iterable[Track]) -> MelCache:
    """A view of those tracks that are in a cache, in their order and with what is said of them now.

    What a second process calls once the first has written the cache.

    Raises:
        ValueError: See `MelCache`.
    """
    cache = MelCache(folder)
    rows = {name: row for row, name in enumerate(cache.ids)}
    there = [track for track in tracks if track.id in rows]
    view = cache.select([rows[track.id] for track in there])
    view.works, view.artists = [track.work for track in there], [track.artist for track in there]
    view.albums, view._facts = [track.album for track in there], [facts_text(track) for track in there]
    return view


def decibel_settings(extractor: Any) -> dict[str, Any]:
    """What the decibels and the reference of a track depend on, beside its audio."""
    settings = {
        "version": CACHE_VERSION,
        "sampling_rate": extractor.sampling_rate,
        "feature": dict(extractor.feature),
        # Of these two the reference of a quiet track depends.
        "top_db": extractor.top_db,
        "decibel_factor": extractor.decibel_factor,
    }
    return json.loads(json.dumps(settings))


def read_settings(folder: Path) -> dict[str, Any]:
    """`decibel_settings` of the extractor that a cache was made with.

    Raises:
        ValueError: The folder holds no cache.
    """
    try:
        return json.loads((folder / _SETTINGS_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(
            f"{folder} is no mel cache: it has no {_SETTINGS_FILE}. `write_mel_cache` makes one."
        ) from None
    except ValueError as error:
        raise ValueError(f"{folder / _SETTINGS_FILE} cannot be read ({error}); make the cache anew.") from None


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Make the folder a cache of these settings, or see that it is one."""
    if (folder / _SETTINGS_FILE).exists():
        _check_same(read_settings(folder), settings, folder)
        return
    # A draft of the settings is what is left of a first attempt that was killed at once.
    draft = Path(_SETTINGS_FILE).with_suffix(".tmp").name
    if folder.exists() and any(path.name != draft for path in folder.iterdir()):
        raise ValueError(f"{folder} holds files and is no mel cache; name an empty or a new folder for one.")
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / _SETTINGS_FILE, settings)


def _check_same(stored: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    flat_stored, flat_wanted = ({**of, **of.get("feature", {})} for of in (stored, wanted))
    names = sorted((set(flat_stored) | set(flat_wanted)) - {"feature"})
    if changed := [name for name in names if flat_stored.get(name) != flat_wanted.get(name)]:
        said = ", ".join(
            f"{name} {flat_stored.get(name)!r} there and {flat_wanted.get(name)!r} here" for name in changed
        )
        raise ValueError(
            f"The mel cache in {folder} was made with other settings of the extractor: {said}. Name another folder, or "
            "take the extractor that it was made with."
        )


def _check_tracks(tracks: Sequence[Track]) -> None:
    if not tracks:
        raise ValueError("There are no tracks to compute mel spectrograms of.")
    seen: set[str] = set()
    for track in tracks:
        if track.id in seen:
            raise ValueError(f"Two tracks have the id {track.id!r}; every track needs one of its own.")
        seen.add(track.id)


def _said(broken: Sequence[Mapping[str, str]], num_tracks: int) -> str:
    first = "; ".join(entry["error"] for entry in broken[:_SHOWN])
    more = f"; and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
    return f"{len(broken)} of {num_tracks} tracks cannot be read ({first}{more})"


def _check_broken(broken: Sequence[Mapping[str, str]], num_tracks: int, max_broken: float) -> None:
    if len(broken) == num_tracks:
        raise ValueError(
            f"{_said(broken, num_tracks)}: nothing is left. Check that the paths and the folder are right."
        )
    if len(broken) > max_broken * num_tracks:
        raise ValueError(
            f"{_said(broken, num_tracks)}, more than `max_broken` ({max_broken:g}) allows. Check that the paths and "
            "the folder are right, or raise it to go on without them; what is computed already stays."
        )


def _drop_damaged(folder: Path) -> None:
    num_mel_bins = int(read_settings(folder)["feature"]["num_mel_bins"])
    for path in shard_paths(folder):
        try:
            open_shard(path, num_mel_bins)
        except ValueError as error:
            warnings.warn(str(error), stacklevel=3)
            path.unlink()


def _write_json(path: Path, value: Any) -> None:
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(draft, path)
