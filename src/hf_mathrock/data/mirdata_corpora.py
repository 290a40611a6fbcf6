# SPDX-License-Identifier: Apache-2.0
"""Corpora that `mirdata` has loaders for, as rows: which attribute of its tracks becomes which task.

Source: mirdata (BSD-3-Clause), whose loaders read the annotations here; licences of the corpora differ, mirdata prints
each (`mirdata.initialize(name).license()`). How labels were mapped:

- `tempo`: the corpus' beats per minute by `hf_mathrock.synthesis.affect.tempo_class` (borders 95 and 140), which stay
  in the column `bpm`; 0 and less is unknown. Of GiantSteps the corrected annotations (v2), and of two tempi the surer.
- `key`: 24 major and minor keys, flats and sharps of one sound being one; other modes and several keys are unknown.
- `genre` and `instrument`: the corpus' own labels in alphabetical order.

What a measurement should know: GTZAN's published split is the fault-filtered one (443 / 197 / 290), which mirdata does
not bring; lay its lists into the folder. Without, GTZAN repeats recordings and artists across any split. Ballroom
has some recordings twice.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_mathrock.synthesis.affect import TEMPOS, tempo_class

from .corpora import CorpusRows, inside, keep_present

_PITCHES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
KEYS: tuple[str, ...] = tuple(f"{pitch} {mode}" for mode in ("major", "minor") for pitch in _PITCHES)
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_KEY = re.compile(r"([A-G])([#♯b♭]?)(?:[\s:_-]*(major|maj|minor|min|m)\b)", re.IGNORECASE)
_MODES = {"major": "major", "maj": "major", "minor": "minor", "min": "minor", "m": "minor"}

Read = Callable[[Any], Any]


@dataclass(frozen=True)
class TaskColumn:
    """A task: its labels in order, and how a track's label is read; `None` is unknown."""

    labels: tuple[str, ...]
    read: Read
    type: str = "single_label"


@dataclass(frozen=True)
class MirdataCorpus:
    """What one of mirdata's loaders gives.

    Attributes:
        tasks: By name.
        columns: Further columns: `bpm`, groups (`artist`, `work`), `split` where one is published.
        layout: How the local copy looks, in words.
    """

    tasks: Mapping[str, TaskColumn]
    layout: str
    columns: Mapping[str, Read] = field(default_factory=dict)


def parse_key(text: Any) -> str | None:
    """One of `KEYS` for a key as people write it; `None` for another mode, several keys or none.

    >>> parse_key("G# minor"), parse_key("Gb major"), parse_key("D dorian"), parse_key("Bbm")
    ('Ab minor', 'F# major', None, 'Bb minor')
    """
    match = _KEY.fullmatch(" ".join(str(text).split()))
    if match is None:
        return None
    shift = {"#": 1, "♯": 1, "b": -1, "♭": -1}.get(match[2].lower(), 0)
    return f"{_PITCHES[(_STEPS[match[1].upper()] + shift) % 12]} {_MODES[match[3].lower()]}"


def _bpm_of(value: Any) -> float | None:
    bpm = float(value) if value is not None else 0.0
    return bpm if math.isfinite(bpm) and bpm > 0 else None


def _tempo(track: Any) -> float | None:
    return _bpm_of(track.tempo)


def _gtzan_tempo(track: Any) -> float | None:
    # Not `track.tempo`: mirdata 1.0 makes a float of a matrix there, which NumPy 2.4 refuses.
    return _bpm_of(Path(track.tempo_path).read_text("utf-8").split()[0]) if track.tempo_path else None


def _tempo_v2(track: Any) -> float | None:
    data = track.tempo_v2
    if data is None or not len(data.tempos):
        return None
    return _bpm_of(data.tempos[int(data.confidence.argmax()) if data.confidence is not None else 0])


def _one_key(track: Any) -> str | None:
    keys = track.key if isinstance(track.key, list) else [track.key]
    return parse_key(keys[0]) if len(keys) == 1 else None


def _artists(track: Any) -> str | None:
    return ", ".join(track.artists) or None


def _with_tempo(read: Read = _tempo) -> tuple[dict[str, TaskColumn], dict[str, Read]]:
    """The task `tempo` and the column `bpm`."""

    def class_of(track: Any) -> str | None:
        bpm = read(track)
        return None if bpm is None else tempo_class(bpm)

    return {"tempo": TaskColumn(TEMPOS, class_of)}, {"bpm": read}


def _rhythm(folder: str) -> MirdataCorpus:
    tasks, columns = _with_tempo()
    return MirdataCorpus(tasks, f"It should hold `{folder}/`, with the audio and `annotations/tempo/`.", columns)


def _irmas_work(track: Any) -> str:
    # 0189__2 is the second excerpt of recording 189; "And The Body Will Die-8.wav" the eighth of that song.
    if track.split == "train":
        return f"train {track.track_id.split('__')[0]}"
    return re.sub(r"-\d+$", "", Path(track.audio_path).stem)


_OPENMIC = (
    *("accordion", "banjo", "bass", "cello", "clarinet", "cymbals", "drums", "flute", "guitar", "mallet_percussion"),
    *("mandolin", "organ", "piano", "saxophone", "synthesizer", "trombone", "trumpet", "ukulele", "violin", "voice"),
)


def _openmic_instruments(track: Any) -> list[float]:
    """1 where most annotators heard the instrument, 0 where not, -100 where none was asked."""
    scores = track.instruments
    return [-100.0 if name not in scores else float(scores[name] >= 0.5) for name in _OPENMIC]


_TEMPO_TASKS, _TEMPO_COLUMNS = _with_tempo()
_GTZAN_TASKS, _GTZAN_COLUMNS = _with_tempo(_gtzan_tempo)
_V2_TASKS, _V2_COLUMNS = _with_tempo(_tempo_v2)
_KEY_TASK = {"key": TaskColumn(KEYS, _one_key)}
_GTZAN_GENRES = ("blues", "classical", "country", "disco", "hip-hop", "jazz", "metal", "pop", "reggae", "rock")
_DANCES = ("chachacha", "jive", "quickstep", "rumba", "samba", "tango", "viennesewaltz", "waltz")
_IRMAS_INSTRUMENTS = ("cel", "cla", "flu", "gac", "gel", "org", "pia", "sax", "tru", "vio", "voi")
_SOLO_INSTRUMENTS = (
    *("clarinet", "distorted electric guitar", "female singer", "flute", "piano", "tenor saxophone", "trumpet"),
    "violin",
)

MIRDATA_CORPORA: dict[str, MirdataCorpus] = {
    "ballroom": MirdataCorpus(
        # Rumba comes as rumba-american, -international and -misc, which published figures take as one.
        {"genre": TaskColumn(_DANCES, lambda track: track.genre.partition("-")[0]), **_TEMPO_TASKS},
        "It should hold `B_1.0/audio/<dance>/` and `B_1.0/annotations/tempo/`.",
        _TEMPO_COLUMNS,
    ),
    "beatport_key": MirdataCorpus(
        _KEY_TASK,
        "It should hold `audio/`, `keys/` and `meta/`.",
        {"bpm": _tempo, "artist": _artists, "beatport_genre": lambda track: ", ".join(track.genres["genres"]) or None},
    ),
    "brid": _rhythm("BRID_1.0"),
    "cuidado": _rhythm("C_1.0"),
    "fma_keys": MirdataCorpus(
        {"key": TaskColumn(KEYS, lambda track: parse_key(f"{track.key} {track.mode}"))},
        "It should hold `000/` to `124/` and `fma_keys_metadata.csv`.",
    ),
    "giantsteps_key": MirdataCorpus(
        _KEY_TASK,
        "It should hold `audio/`, `keys/` (with the key files) and `original_metadata/`, as mirdata unpacks them.",
        {"bpm": _tempo, "artist": _artists, "beatport_genre": lambda track: ", ".join(track.genres["genres"]) or None},
    ),
    "giantsteps_tempo": MirdataCorpus(
        _V2_TASKS,
        "It should hold `audio/` and `giantsteps-tempo-dataset-<commit>/annotations/`.",
        {**_V2_COLUMNS, "bpm_v1": lambda track: _bpm_of(track.tempo.tempos[0]), "beatport_genre": lambda t: t.genre},
    ),
    "gtzan_genre": MirdataCorpus(
        {"genre": TaskColumn(_GTZAN_GENRES, lambda track: track.genre), **_GTZAN_TASKS},
        "It should hold `gtzan_genre/genres/<genre>/` and, for tempi, `gtzan_tempo_beat-main/`.",
        _GTZAN_COLUMNS,
    ),
    "hainsworth": _rhythm("H_1.0"),
    "irmas": MirdataCorpus(
        {
            "instrument": TaskColumn(_IRMAS_INSTRUMENTS, lambda track: track.instrument, "multi_label"),
            "genre": TaskColumn(("cla", "cou_fol", "jaz_blu", "lat_sou", "pop_roc"), lambda track: track.genre),
        },
        "It should hold `IRMAS-TrainingData/` and `IRMAS-TestingData-Part1/` to `-Part3/`.",
        {"split": lambda track: track.split, "work": _irmas_work},
    ),
    "medley_solos_db": MirdataCorpus(
        {"instrument": TaskColumn(_SOLO_INSTRUMENTS, lambda track: track.instrument)},
        "It should hold `audio/` and `annotation/Medley-solos-DB_metadata.csv`.",
        {
            "split": lambda track: "train" if track.subset == "training" else track.subset,
            "work": lambda track: f"{track.instrument} {track.song_id}",
        },
    ),
    "openmic2018": MirdataCorpus(
        {"instrument": TaskColumn(_OPENMIC, _openmic_instruments, "multi_label")},
        "It should hold `audio/`, `partitions/`, and `openmic-2018-metadata.csv` and `-aggregated-labels.csv`.",
        {
            "split": lambda track: {"split01_train": "train", "split01_test": "test"}.get(track.split),
            "artist": lambda track: track.artist,
            "work": lambda track: track.track_id.split("_")[0],
        },
    ),
    "tonality_classicaldb": MirdataCorpus(_KEY_TASK, "It should hold `audio/` and `keys/`."),
}


def mirdata_rows(
    name: str, folder: Path, version: str = "default", index: str | os.PathLike[str] | None = None
) -> CorpusRows:
    """Rows of a local copy that one of mirdata's loaders reads.

    mirdata finds files by an index, which its wheel does not hold: it lies in the folder, or where mirdata's own
    download put it. Nothing is fetched here.

    Args:
        name: A key of `MIRDATA_CORPORA`.
        folder: mirdata's `data_home`.
        version: Of the corpus, as mirdata names it.
        index: The index file; `None` looks in the folder, then where mirdata keeps it.

    Returns:
        Rows with `track_id` beside tasks and columns. A label whose annotation is missing is unknown, and
        counted in the notes.

    Raises:
        ValueError: The index is not to be found or names files outside of the folder, or no audio is there.
        ImportError: mirdata is missing.
    """
    try:
        import mirdata
    except ImportError:
        raise ImportError(f'reading {name} needs mirdata: pip install "hf-mathrock[corpora]"') from None
    corpus = MIRDATA_CORPORA[name]
    # An absolute path of a folder that exists: mirdata opens paths through smart_open, which takes URLs as well.
    folder = folder.resolve()
    try:
        dataset = mirdata.initialize(name, data_home=str(folder), version=version)
    except ValueError as error:
        raise ValueError(f"mirdata does not know the version {version!r} of {name}: {error}") from None
    dataset.index_path = str(_index(dataset, folder, Path(index) if index is not None else None))
    tracks = _checked_tracks(dataset, folder)
    problems: dict[str, list[str]] = {}
    rows = []
    for track_id in tracks:
        track = dataset.track(track_id)
        audio = Path(track.audio_path)
        row: dict[str, Any] = {"audio": str(audio), "song": audio.relative_to(folder).as_posix(), "track_id": track_id}
        if audio.is_file():  # the annotations of audio that is not there need not be there either
            for column, task in corpus.tasks.items():
                row[column] = _known(column, task, _value(task.read, track, column, problems))
            row.update({column: _value(read, track, column, problems) for column, read in corpus.columns.items()})
        rows.append(row)
    kept, notes = keep_present(rows, folder, corpus.layout)
    notes += [
        f"{column} is unknown for {len(errors)} of {len(kept)} tracks ({errors[0]})"
        for column, errors in problems.items()
    ]
    if name == "gtzan_genre":
        kept, more = _fault_filtered(kept, folder)
        notes += more
    tasks = [{"name": task, "type": made.type, "labels": list(made.labels)} for task, made in corpus.tasks.items()]
    return CorpusRows(kept, tasks, f"{name}, index {dataset.version} (mirdata {mirdata.__version__})", notes)


def _index(dataset: Any, folder: Path, given: Path | None) -> Path:
    usual = Path(dataset.index_path)
    candidates = [given] if given is not None else [folder / usual.name, folder.parent / usual.name, usual]
    for path in candidates:
        if path.is_file():
            return path
    remote = dataset._index_data.remote
    command = f"import mirdata; mirdata.initialize('{dataset.name}').download(['index'])"
    fetch = (
        f'mirdata fetches it: `python -c "{command}"`, from {remote.url}'
        if remote
        else "mirdata's own repository has it under tests/indexes"
    )
    raise ValueError(
        f"the index {usual.name} that says which files make up {dataset.name} is not in {candidates[0].parent}"
        f"{'' if given is not None else ' and not where mirdata keeps it'}. {fetch}. Then run this again, or put the "
        "file into the folder of the corpus."
    )


def _checked_tracks(dataset: Any, folder: Path) -> list[str]:
    """Names of all tracks, once no path of the index leads out of the folder."""
    try:
        tracks = dataset._index["tracks"]
        paths = [path for files in tracks.values() for path, _ in files.values() if path is not None]
        with_audio = [track for track, files in tracks.items() if files["audio"][0] is not None]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{dataset.index_path} is not an index of mirdata's ({_one_line(error)}).") from None
    for path in paths:
        inside(folder, path, dataset.index_path)
    return with_audio


def _value(read: Read, track: Any, column: str, problems: dict[str, list[str]]) -> Any:
    """A fact about a track; `None`, with a line in `problems`, where mirdata cannot read it."""
    try:
        return read(track)
    except (
        OSError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        AssertionError,
        StopIteration,
    ) as error:
        # AttributeError is what mirdata says of a track that its table of metadata lacks.
        problems.setdefault(column, []).append(f"{track.track_id}: {_one_line(error)}")
        return None


def _known(column: str, task: TaskColumn, value: Any) -> Any:
    """The label, refused where it is none of the task's."""
    names = [] if value is None else value if isinstance(value, list) else [value]
    for label in names:
        if isinstance(label, str) and label not in task.labels:
            raise ValueError(
                f"mirdata gives the {column} {label!r}, which is none of {', '.join(task.labels)}. Is this another "
                "version of the corpus?"
            )
    return value


def _fault_filtered(rows: list[dict[str, Any]], folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """GTZAN's published split, from lists of paths like `blues/blues.00029.wav`, if they lie in the folder."""
    lists = {
        "train": folder / "train_filtered.txt",
        "validation": folder / "valid_filtered.txt",
        "test": folder / "test_filtered.txt",
    }
    absent = [path.name for path in lists.values() if not path.is_file()]
    if absent:
        return rows, [
            "no published split: mirdata brings none, and the fault-filtered one needs "
            f"{', '.join(path.name for path in lists.values())} in {folder}. GTZAN repeats recordings and artists, so "
            "a split by file is too kind to any model"
        ]
    split_of = {
        Path(line.strip()).stem: split
        for split, path in lists.items()
        for line in path.read_text("utf-8").splitlines()
        if line.strip()
    }
    kept = [{**row, "split": split_of[row["track_id"]]} for row in rows if row["track_id"] in split_of]
    if not kept:
        raise ValueError(f"the lists {', '.join(map(str, lists.values()))} name none of the recordings that are there.")
    left_out = len(rows) - len(kept)
    return kept, [f"{left_out} recordings are in none of the fault-filtered lists and left out"] if left_out else []


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
