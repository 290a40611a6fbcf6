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

from hf_mathrock.data.labels import encode_labels
from hf_mathrock.models.audio_input import open_audio
from hf_mathrock.synthesis import RECIPE_VERSION
from hf_mathrock.synthesis.composer import compose
from hf_mathrock.synthesis.renderer import render

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


def render_piece(split: GeneratedSplit, index: int) -> tuple[np.ndarray, Any]:
    """One piece of a split: stereo audio `(2, num_samples)` and the `Piece` with its labels."""
    piece = compose(split.seed + index, seconds=split.seconds)
    return render(piece, sampling_rate=split.sampling_rate), piece


def _window_inputs(
    split: GeneratedSplit, extractor: Any, tasks: Sequence[Mapping[str, Any]], index: int
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], dict[str, Any]]:
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
    labels = encode_labels(
        tasks,
        {
            "emotion": section.labels.emotions,
            "vibe": section.labels.vibe,
            "intensity": section.labels.intensity,
            "tempo": section.labels.tempo,
        },
    )
    return (
        inputs["input_values"][0].numpy().astype(np.float16),
        inputs["input_features"][0].numpy().astype(np.float16),
        labels,
        {"work_id": piece.work_id, "bpm": piece.bpm},
    )


class GeneratedWindows(Dataset):
    """A split of generated music as model inputs.

    Inputs are stored as float16, which keeps log-mel values to 0.03 dB.

    Args:
        split: Which pieces.
        extractor: The model's extractor.
        tasks: `MathRockConfig.tasks`.
        cache_dir: Folder in which the inputs of every split are kept; a split is computed once.
        augment: Vary what the labels do not depend on, for training: "light" or "heavy", see `_augmented`; "none".
        num_workers: Processes that compute a new split.
        progress: Called with (pieces done, pieces wanted).
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
        folder = Path(cache_dir) / _key(split, extractor, tasks)
        if not (folder / "facts.json").exists():
            _compute(split, extractor, tasks, folder, num_workers, progress)
        self._values = np.load(folder / "input_values.npy", mmap_mode="r")
        self._features = np.load(folder / "input_features.npy", mmap_mode="r")
        with np.load(folder / "labels.npz") as stored:
            labels = dict(stored)
        self.encoded_labels = [{name: labels[name][row] for name in labels} for row in range(split.num)]
        self.facts: list[dict[str, Any]] = json.loads((folder / "facts.json").read_text())
        if augment not in get_args(Augmentation):
            raise ValueError(f"`augment` is {augment!r}; allowed: {', '.join(get_args(Augmentation))}.")
        self._augment = augment

    def __len__(self) -> int:
        return len(self.encoded_labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        values = self._values[index].astype(np.float32)
        features = self._features[index].astype(np.float32)
        if self._augment != "none":
            values, features = self._augmented(values, features)
        return {"input_values": values, "input_features": features, "labels": self.encoded_labels[index]}

    def _augmented(self, values: np.ndarray, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn the window round in time, play it on other equipment, and hide a band and a moment of it.

        Without the turn a small model learns onset positions by heart. Both streams turn by the same whole number of
        mel frames. Light: one level for both and a colour of the spectrogram. Heavy: level, colour, contrast between
        loud and soft and a floor of noise, drawn for each stream: what another renderer does differently to the notes.
        """
        # Of torch's generator, which every worker has its own of and checkpoints keep.
        random = np.random.default_rng(int(torch.randint(2**62, ())))
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
    values = features = None
    labels: dict[str, list[np.ndarray]] = {task["name"]: [] for task in tasks}
    facts = []
    # Spawned, not forked: torch's threads do not survive a fork.
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
        for index, row in enumerate(pool.map(one, range(split.num), chunksize=8)):
            if values is None or features is None:
                values, features = (
                    np.lib.format.open_memmap(
                        folder / f"{name}.npy", mode="w+", dtype=array.dtype, shape=(split.num, *array.shape)
                    )
                    for name, array in (("input_values", row[0]), ("input_features", row[1]))
                )
            values[index], features[index] = row[0], row[1]
            for name, label in row[2].items():
                labels[name].append(label)
            facts.append(row[3])
            if progress is not None:
                progress(index + 1, split.num)
    arrays: dict[str, Any] = {name: np.stack(stacked) for name, stacked in labels.items()}
    np.savez(folder / "labels.npz", **arrays)
    (folder / "facts.json").write_text(json.dumps(facts))
