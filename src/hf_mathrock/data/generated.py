# SPDX-License-Identifier: Apache-2.0
"""Windows of generated music with exact labels, computed once and kept as model inputs on disk."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch.utils.data import Dataset

from hf_mathrock.data.excerpts import filling_windows
from hf_mathrock.data.labels import closest, encode_labels
from hf_mathrock.models.audio_input import open_audio
from hf_mathrock.synthesis import RECIPE_VERSION
from hf_mathrock.synthesis.composer import compose
from hf_mathrock.synthesis.renderer import render
from hf_mathrock.synthesis.tags import TAGS, tag_task, tags_between
from hf_mathrock.synthesis.variation import draw_variation, perform

Augmentation = Literal["none", "light", "heavy"]


@dataclass(frozen=True)
class GeneratedSplit:
    """Which pieces make up a split: `num` pieces of consecutive seeds from `seed`, one window each.

    Attributes:
        num: Pieces.
        seed: Seed of the first piece.
        seconds: Length of a piece; the window is its middle.
        sampling_rate: Hz the pieces are rendered at.
    """

    num: int
    seed: int
    seconds: float = 14.0
    sampling_rate: int = 44_100


def tasks_of_pieces() -> list[dict[str, Any]]:
    """What a tagger that brings no tasks learns of generated pieces: their tags."""
    return [tag_task()]


def render_piece(split: GeneratedSplit, index: int) -> tuple[np.ndarray, Any]:
    """One piece of a split: stereo audio `(2, num_samples)` and the `Piece` with its labels."""
    piece = compose(split.seed + index, seconds=split.seconds)
    return render(piece, sampling_rate=split.sampling_rate), piece


def _window_inputs(
    split: GeneratedSplit, extractor: Any, tasks: Sequence[Mapping[str, Any]], index: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
    """Model inputs, encoded labels and facts of one piece's middle window."""
    torch.set_num_threads(1)
    audio, piece = render_piece(split, index)
    length = round(extractor.window_seconds * split.sampling_rate)
    start = max(0, (audio.shape[1] - length) // 2)
    cut = audio[:, start : start + length]
    (window, *_) = open_audio(cut, split.sampling_rate).windows(
        extractor.window_seconds, extractor.window_seconds, extractor.sampling_rates
    )
    inputs = extractor.featurize([window])
    begin, end = start / split.sampling_rate, (start + length) / split.sampling_rate
    # The labels of the section that fills most of the window.
    section = max(piece.sections, key=lambda part: min(part.end, end) - max(part.start, begin))
    known = next((task["labels"] for task in tasks if task["name"] == "tag"), ())
    tags = tags_between(perform(piece, draw_variation(piece.seed)), begin, end)
    labels = encode_labels(
        tasks,
        {
            "emotion": section.labels.emotions,
            "vibe": section.labels.vibe,
            "intensity": section.labels.intensity,
            "tempo": section.labels.tempo,
            "tag": [tag for tag in tags if tag in known],
        },
    )
    arrays = {name: value[0].numpy().astype(np.float16) for name, value in inputs.items() if name.startswith("input_")}
    return arrays, labels, {"work_id": piece.work_id, "bpm": piece.bpm}


class GeneratedWindows(Dataset):
    """A split of generated music as model inputs.

    Inputs are stored as float16, which keeps log-mel values to 0.03 dB. A row has those of the extractor but the
    `attention_mask`: a piece fills its window.

    Args:
        split: Which pieces.
        extractor: The model's extractor.
        tasks: Those of the model's config: of "emotion", "vibe", "intensity", "tempo" and "tag" (any of
            `synthesis.tags.TAGS`) the labels are known.
        cache_dir: Folder in which the inputs of every split are kept; a split is computed once.
        augment: Vary what the labels do not depend on, for training: "light" or "heavy", see `_augmented` and
            `_varied_waveform`; "none". Of a spectrogram alone "light" turns it round in time, and "heavy" is refused.
        num_workers: Processes that compute a new split.
        progress: Called with (pieces done, pieces wanted).

    Raises:
        ValueError: There is no such augmentation or tag, or pieces are shorter than the model's window.
    """

    def __init__(
        self,
        split: GeneratedSplit,
        extractor: Any,
        tasks: Sequence[Mapping[str, Any]],
        cache_dir: str | Path,
        *,
        augment: Augmentation = "none",
        num_workers: int = 2,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if augment not in get_args(Augmentation):
            raise ValueError(f"`augment` is {augment!r}; allowed: {', '.join(get_args(Augmentation))}.")
        _check_split(split, extractor, tasks)
        extractor = filling_windows(extractor)
        folder = Path(cache_dir) / _key(split, extractor, tasks)
        if not (folder / "facts.json").exists():
            _compute(split, extractor, tasks, folder, num_workers, progress)
        self._inputs = {
            path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("input_*.npy"), reverse=True)
        }
        if augment == "heavy" and "input_values" not in self._inputs:
            raise ValueError(
                "`augment` is 'heavy', which changes the waveform, and this model's extractor keeps only the "
                "spectrogram; allowed: none, light."
            )
        with np.load(folder / "labels.npz") as stored:
            labels = dict(stored)
        self.encoded_labels = [{name: labels[name][row] for name in labels} for row in range(split.num)]
        self.facts: list[dict[str, Any]] = json.loads((folder / "facts.json").read_text())
        self._augment = augment

    def __len__(self) -> int:
        return len(self.encoded_labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row: dict[str, Any] = {name: values[index].astype(np.float32) for name, values in self._inputs.items()}
        if self._augment != "none":
            if len(row) > 1:
                row["input_values"], row["input_features"] = self._augmented(row["input_values"], row["input_features"])
            elif "input_values" in row:
                row["input_values"] = self._varied_waveform(row["input_values"])
            else:
                row["input_features"] = _turned(row["input_features"], _own_generator())
        return {**row, "labels": self.encoded_labels[index]}

    def _varied_waveform(self, values: np.ndarray) -> np.ndarray:
        """Turn a waveform round in time, play it on other equipment, and silence a moment of it.

        Light: another level. Heavy: level, tilt, contrast and a floor of noise.
        """
        random = _own_generator()
        values = _turned(values, random)
        if self._augment == "heavy":
            values = _other_waveform(values, random)
        else:
            values = values * np.float32(10 ** (random.uniform(-10, 10) / 20))
        begin = int(random.integers(len(values)))
        values[begin : begin + int(random.integers(1 + len(values) // 20))] = 0
        return values

    def _augmented(self, values: np.ndarray, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn the window round in time, play it on other equipment, and hide a band and a moment of it.

        Without the turn a small model learns onset positions by heart. Both streams turn by the same whole number of
        mel frames. Light: one level for both and a colour of the spectrogram. Heavy: level, colour, contrast between
        loud and soft and a floor of noise, drawn for each stream: what another renderer does differently to the notes.
        """
        random = _own_generator()
        num_frames = features.shape[1] - 1
        shift = int(random.integers(num_frames))
        values = np.roll(values, shift * (len(values) // num_frames))
        features = np.concatenate([np.roll(features[:, :-1], shift, axis=1), features[:, -1:]], axis=1)
        if self._augment == "heavy":
            values, features = _other_waveform(values, random), _other_spectrogram(features, random)
        else:
            gain = random.uniform(-10, 10)
            values = values * np.float32(10 ** (gain / 20))
            features = np.maximum(features + np.float32(gain) + _colour(features.shape[2], 6, 5, random), -100.0)

        first_band, first_frame = int(random.integers(features.shape[2])), int(random.integers(num_frames))
        features[:, :, first_band : first_band + int(random.integers(8))] = features.mean()
        length = int(random.integers(50))
        features[:, first_frame : first_frame + length] = features.mean()
        step = len(values) // num_frames
        first_frame = int(random.integers(num_frames))
        values[first_frame * step : (first_frame + length) * step] = 0
        return values, features


def _own_generator() -> np.random.Generator:
    """Seeded by torch's generator, which every worker has its own of and checkpoints keep."""
    return np.random.default_rng(int(torch.randint(2**62, ())))


def _turned(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The sound begun at another moment, its beginning played after its end; time is the first axis."""
    return np.roll(values, int(random.integers(len(values))), axis=0)


def _check_split(split: GeneratedSplit, extractor: Any, tasks: Sequence[Mapping[str, Any]]) -> None:
    if split.seconds < extractor.window_seconds:
        raise ValueError(
            f"The pieces last about {split.seconds:g} s, and the model hears {extractor.window_seconds:g} s at a time: "
            "give `seconds` of that length at least."
        )
    for task in tasks:
        if task["name"] == "tag" and (unknown := [label for label in task["labels"] if label not in TAGS]):
            near = closest(unknown[0], TAGS)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(TAGS)}."
            raise ValueError(f"Generated pieces have no tag {unknown[0]!r}; {hint}")


def _key(split: GeneratedSplit, extractor: Any, tasks: Sequence[Mapping[str, Any]]) -> str:
    """Name of a split's folder: changes with all that its inputs and labels depend on, and with nothing else."""
    names = [name for name in inspect.signature(type(extractor).__init__).parameters if hasattr(extractor, name)]
    labels = [[task["name"], task["type"], task["labels"]] for task in tasks]
    settings = [asdict(split), {name: getattr(extractor, name) for name in names}, labels, RECIPE_VERSION]
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8).hexdigest()


def _colour(num_bands: int, most_db: float, num_knots: int, random: np.random.Generator) -> np.ndarray:
    """A smooth curve over the mel bands, in dB, of at most `most_db` either way."""
    knots = np.linspace(0, num_bands - 1, num_knots)
    return np.interp(np.arange(num_bands), knots, random.uniform(-most_db, most_db, size=num_knots)).astype(np.float32)


def _other_spectrogram(features: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Log-mel values in dB with another level (±10 dB), colour (±9 dB), contrast (0.75 to 1.25) and noise floor."""
    mean = features.mean()
    contrast = np.float32(random.uniform(0.75, 1.25))
    changed = mean + contrast * (features - mean) + _colour(features.shape[2], 9, 6, random)
    floor = np.float32(mean - random.uniform(10, 50))
    changed = np.logaddexp(changed * np.float32(0.1 * np.log(10)), floor * np.float32(0.1 * np.log(10)))
    changed = changed * np.float32(10 / np.log(10)) + np.float32(random.uniform(-10, 10))
    return np.maximum(changed, -100.0)


def _other_waveform(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Samples with another level, tilt (a one-tap filter), contrast (a power of 0.75 to 1.25) and noise floor."""
    peak = np.abs(values).max() + 1e-6
    changed = np.sign(values) * (np.abs(values) / peak) ** np.float32(random.uniform(0.75, 1.25))
    changed[1:] -= np.float32(random.uniform(-0.5, 0.8)) * changed[:-1]
    noise = 10 ** random.uniform(-4, -2) * random.standard_normal(len(changed), dtype=np.float32)
    return (changed + noise.astype(np.float32)) * np.float32(peak * 10 ** random.uniform(-0.5, 0.5))


def _compute(
    split: GeneratedSplit,
    extractor: Any,
    tasks: Sequence[Mapping[str, Any]],
    folder: Path,
    num_workers: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Fill `folder`; `facts.json` is written last and marks it as whole."""
    folder.mkdir(parents=True, exist_ok=True)
    one = partial(_window_inputs, split, extractor, tasks)
    stored: dict[str, np.ndarray] = {}
    labels: dict[str, list[np.ndarray]] = {task["name"]: [] for task in tasks}
    facts = []
    # Spawned, not forked: torch's threads do not survive a fork.
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
        for index, row in enumerate(pool.map(one, range(split.num), chunksize=8)):
            for name, array in row[0].items():
                if name not in stored:
                    stored[name] = np.lib.format.open_memmap(
                        folder / f"{name}.npy", mode="w+", dtype=array.dtype, shape=(split.num, *array.shape)
                    )
                stored[name][index] = array
            for name, label in row[1].items():
                labels[name].append(label)
            facts.append(row[2])
            if progress is not None:
                progress(index + 1, split.num)
    arrays: dict[str, Any] = {name: np.stack(stacked) for name, stacked in labels.items()}
    np.savez(folder / "labels.npz", **arrays)
    (folder / "facts.json").write_text(json.dumps(facts))
