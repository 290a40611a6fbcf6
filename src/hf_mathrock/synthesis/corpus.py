# SPDX-License-Identifier: Apache-2.0
"""Writes a folder of composed and rendered pieces that `datasets.load_dataset("audiofolder", ...)` reads.

    corpus.json      what the corpus was made with
    metadata.jsonl   a line per piece: labels, tags, BPM, key, meters, sections, and where the rest lies
    audio/           the recordings
    scores/          a JSON file per piece: beats, bars, chords, notes, drum strokes, the recording's settings
    midi/            the same notes as MIDI

Every time written is a time in the audio: the tempo drift of the recording has been applied to the labels too. Single
strokes lie around their written times with a standard deviation of at most 6 ms and no bias.

`datasets` 5.2 by itself imports torchcodec before it opens any audio folder, even to read paths alone; once
`hf_mathrock` is imported it does without. `datasets.load_dataset("json", data_files="metadata.jsonl")` gives the same
rows anywhere, with `file_name` for the audio.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import soundfile

from . import RECIPE_VERSION
from .composer import compose
from .midi import write_midi
from .renderer import render
from .score import Labels, Piece
from .tags import piece_tags
from .variation import Variation, draw_variation, perform

AudioFormat = Literal["flac", "wav", "ogg", "mp3"]

_SUBTYPES = {"flac": "PCM_16", "wav": "PCM_16", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}
_BLOCK_SAMPLES = 1 << 16  # libsndfile's Vorbis encoder overruns its stack on one long write


@dataclass(frozen=True, slots=True)
class _Recipe:
    """All that decides the content of a corpus but its size."""

    version: int
    seed: int
    seconds: float
    sampling_rate: int
    audio_format: AudioFormat


def write_corpus(
    out: str | os.PathLike[str],
    num: int,
    *,
    seed: int = 0,
    seconds: float = 30.0,
    sampling_rate: int = 44_100,
    audio_format: AudioFormat = "flac",
    num_workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Compose, render and write `num` pieces; run again, it writes only what is missing.

    Piece i has the seed `seed + i`, so corpora whose seed ranges are apart share no piece. A larger `num` extends a
    corpus. With more than one worker, processes are spawned: a script must guard its call with
    `if __name__ == "__main__":`.

    Args:
        out: Folder, made if missing.
        num: How many pieces.
        seed: Seed of the first piece, not negative.
        seconds: Wished length of a piece; it ends with the bar nearest to it.
        sampling_rate: Samples per second.
        audio_format: Container of the audio files.
        num_workers: Processes; `None` takes one a core.
        progress: Called as `progress(done, total)` from this process, first with what was there already.

    Returns:
        The folder.

    Raises:
        ValueError: An argument is out of range, or the folder holds a corpus made with other settings.
    """
    if num < 1:
        raise ValueError(f"num is {num}; a corpus has at least one piece")
    if seed < 0:
        raise ValueError(f"seed is {seed}; seeds are not negative")
    if audio_format not in get_args(AudioFormat):
        raise ValueError(f"audio_format is {audio_format!r}; it must be one of {', '.join(get_args(AudioFormat))}")
    folder = Path(out)
    recipe = _Recipe(RECIPE_VERSION, seed, float(seconds), sampling_rate, audio_format)
    _claim(folder, recipe)
    wanted = range(seed, seed + num)
    missing = [piece_seed for piece_seed in wanted if not _is_finished(folder, recipe, piece_seed)]
    done = num - len(missing)
    if progress:
        progress(done, num)
    for _ in _write_all(folder, recipe, missing, num_workers):
        done += 1
        if progress:
            progress(done, num)
    lines = [_tagged(json.loads(score.read_text("utf-8"))["metadata"], recipe) for score in _scores(folder)]
    _write_text(folder / "metadata.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return folder


def _claim(folder: Path, recipe: _Recipe) -> None:
    """Note the settings in a new folder, or make sure that an old one has the same."""
    for part in ("audio", "scores", "midi"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    notes = folder / "corpus.json"
    if notes.exists():
        former = json.loads(notes.read_text("utf-8"))
        if former != asdict(recipe):
            raise ValueError(
                f"{folder} holds a corpus made with {former}; this call asks for {asdict(recipe)}. "
                "Choose another folder, or delete this one"
            )
    _write_text(notes, json.dumps(asdict(recipe), indent=2) + "\n")


def _write_all(folder: Path, recipe: _Recipe, seeds: list[int], num_workers: int | None) -> Iterator[None]:
    workers = min(num_workers or os.cpu_count() or 1, len(seeds))
    if workers <= 1:
        for piece_seed in seeds:
            _write_piece(folder, recipe, piece_seed)
            yield
        return
    # Spawned, not forked: the caller may hold threads (torch, tqdm) that a fork would copy in mid-stride.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        count = len(seeds)
        yield from pool.map(
            _write_piece, [folder] * count, [recipe] * count, seeds, chunksize=max(1, min(8, count // workers))
        )


def _scores(folder: Path) -> list[Path]:
    return sorted((folder / "scores").glob("*.json"))


def _tagged(metadata: dict[str, Any], recipe: _Recipe) -> dict[str, Any]:
    """The facts of a piece with its tags, which corpora written before there were any do not name."""
    if "tag" in metadata:
        return metadata
    piece = perform(compose(metadata["seed"], seconds=recipe.seconds), draw_variation(metadata["seed"]))
    return {**metadata, "tag": piece_tags(piece)}


def _paths(folder: Path, recipe: _Recipe, piece_seed: int) -> tuple[Path, Path, Path]:
    name = f"mathrock-{piece_seed:08d}"
    return (
        folder / "audio" / f"{name}.{recipe.audio_format}",
        folder / "scores" / f"{name}.json",
        folder / "midi" / f"{name}.mid",
    )


def _is_finished(folder: Path, recipe: _Recipe, piece_seed: int) -> bool:
    return all(path.exists() for path in _paths(folder, recipe, piece_seed))


def _write_piece(folder: Path, recipe: _Recipe, piece_seed: int) -> None:
    """Write one piece; each file appears whole under its name or not at all."""
    audio_path, score_path, midi_path = _paths(folder, recipe, piece_seed)
    piece = compose(piece_seed, seconds=recipe.seconds)
    variation = draw_variation(piece_seed)
    audio = render(piece, sampling_rate=recipe.sampling_rate, seed=piece_seed, variation=variation)
    heard = perform(piece, variation)
    paths = [path.relative_to(folder).as_posix() for path in (audio_path, score_path, midi_path)]
    metadata = _metadata(heard, recipe.sampling_rate, audio.shape[1], *paths)

    partial = _partial(audio_path)
    _write_audio(partial, audio, recipe)
    os.replace(partial, audio_path)
    partial = _partial(midi_path)
    write_midi(heard, partial)
    os.replace(partial, midi_path)
    _write_text(score_path, json.dumps({"metadata": metadata, **_score(heard, variation)}, ensure_ascii=False))


def _metadata(piece: Piece, sampling_rate: int, num_samples: int, audio: str, score: str, midi: str) -> dict[str, Any]:
    return {
        "file_name": audio,
        "work_id": piece.work_id,
        "seed": piece.seed,
        "duration": num_samples / sampling_rate,
        "sampling_rate": sampling_rate,
        **_labels(piece.labels),
        "tag": piece_tags(piece),
        "rules": [{"label": label, "rule": rule} for label, rule in piece.rules.items()],
        "bpm": piece.bpm,
        "key": piece.key,
        "mode": piece.mode,
        "meters": list(dict.fromkeys(f"{bar.meter[0]}/{bar.meter[1]}" for bar in piece.bars)),
        "sections": [
            {"start": _time(part.start), "end": _time(part.end), "name": part.name, **_labels(part.labels)}
            for part in piece.sections
        ],
        "score_path": score,
        "midi_path": midi,
    }


def _labels(labels: Labels) -> dict[str, Any]:
    return {
        "emotion": labels.emotions,
        "vibe": labels.vibe,
        "intensity": labels.intensity,
        "tempo": labels.tempo,
        "valence": round(labels.valence, 4),
        "arousal": round(labels.arousal, 4),
    }


def _score(piece: Piece, variation: Variation) -> dict[str, Any]:
    """The long parts of a piece: notes as [start, duration, pitch, velocity, technique, tone]."""
    return {
        "beats": [_time(beat) for bar in piece.bars for beat in bar.beats],
        "downbeats": [_time(bar.beats[0]) for bar in piece.bars],
        "bars": [
            {
                "start": _time(bar.start),
                "end": _time(bar.end),
                "meter": list(bar.meter),
                "beats": [_time(beat) for beat in bar.beats],
            }
            for bar in piece.bars
        ],
        "chords": [
            {"start": _time(chord.start), "end": _time(chord.end), "root": chord.root, "quality": chord.quality}
            for chord in piece.chords
        ],
        "tracks": {
            instrument: [
                [
                    _time(note.start),
                    _time(note.duration),
                    note.pitch,
                    round(note.velocity, 4),
                    note.technique,
                    note.tone,
                ]
                for note in notes
            ]
            for instrument, notes in piece.tracks.items()
        },
        "drums": [[_time(hit.start), hit.kind, round(hit.velocity, 4)] for hit in piece.drums],
        "recording": asdict(variation),
    }


def _time(seconds: float) -> float:
    return round(seconds, 6)


def _partial(path: Path) -> Path:
    """A hidden neighbour, so that renaming stays on one disk; `datasets` passes hidden files over."""
    return path.with_name(f".{os.getpid()}-{path.name}")


def _write_text(path: Path, text: str) -> None:
    partial = _partial(path)
    partial.write_text(text, "utf-8")
    os.replace(partial, path)


def _write_audio(path: Path, audio: np.ndarray, recipe: _Recipe) -> None:
    with soundfile.SoundFile(
        path,
        "w",
        recipe.sampling_rate,
        audio.shape[0],
        subtype=_SUBTYPES[recipe.audio_format],
        format=recipe.audio_format.upper(),
    ) as sink:
        for begin in range(0, audio.shape[1], _BLOCK_SAMPLES):
            sink.write(audio[:, begin : begin + _BLOCK_SAMPLES].T)
