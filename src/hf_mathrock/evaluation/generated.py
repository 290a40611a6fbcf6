# SPDX-License-Identifier: Apache-2.0
"""How well a tagger hears generated music, whose labels are known exactly."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hf_mathrock.data.labels import encode_labels
from hf_mathrock.metrics.classification import evaluate_tasks
from hf_mathrock.synthesis.composer import compose
from hf_mathrock.synthesis.midi import write_midi
from hf_mathrock.synthesis.renderer import render
from hf_mathrock.synthesis.score import Piece
from hf_mathrock.synthesis.soundfont import render_soundfont

SAMPLING_RATE = 44_100


@dataclass(frozen=True)
class Protocol:
    """A set of test pieces.

    Attributes:
        num: Pieces.
        seed: Seed of the first; the others follow. Keep it away from the training seeds.
        seconds: Length of a piece: 14 s gives pieces of one section, 30 s whole forms of two or three.
        renderer: "own", or "soundfont": the composer's MIDI through FluidSynth.
        soundfont: File of the SoundFont; `None`: the one found.
    """

    num: int
    seed: int
    seconds: float = 14.0
    renderer: Literal["own", "soundfont"] = "own"
    soundfont: str | None = None


def _rendered(protocol: Protocol, seed: int) -> tuple[Piece, np.ndarray]:
    """One piece and its audio, float32 `(2, num_samples)`."""
    piece = compose(seed, seconds=protocol.seconds)
    if protocol.renderer == "own":
        return piece, render(piece, sampling_rate=SAMPLING_RATE)
    with tempfile.TemporaryDirectory() as folder:
        midi = Path(folder) / "piece.mid"
        write_midi(piece, midi)
        audio = render_soundfont(
            midi, soundfont=protocol.soundfont, sampling_rate=SAMPLING_RATE, duration=piece.duration
        )
    return piece, audio


def rendered_pieces(protocol: Protocol, num_workers: int = 1) -> Iterator[tuple[Piece, np.ndarray]]:
    """The pieces of a protocol in order, with their audio, float32 `(2, num_samples)` at 44.1 kHz.

    Args:
        protocol: Which pieces.
        num_workers: Processes that render, spawned when more than one.
    """
    one = partial(_rendered, protocol)
    seeds = range(protocol.seed, protocol.seed + protocol.num)
    if num_workers == 1:
        yield from map(one, seeds)
        return
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(one, seeds)


def evaluate_generated(
    pipe: Any, protocol: Protocol, *, num_workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Tag the pieces of a protocol and hold the result against their labels.

    Args:
        pipe: A `mathrock-affect` pipeline; every piece goes through it as a user's file would, windows averaged.
        protocol: Which pieces.
        num_workers: Processes that render.
        progress: Called with (pieces done, pieces wanted).

    Returns:
        `protocol`; `metrics` as `evaluate_tasks` names them; `confusion` per single-label task, rows true, columns
        heard, in the order of the model's labels; `average_precision` per label of multi-label tasks that occurs;
        `tempo_accuracy_off_border`: accuracy over pieces whose BPM is more than 5 % away from a border of classes.
    """
    from sklearn.metrics import average_precision_score, confusion_matrix

    tasks: Sequence[dict[str, Any]] = pipe.model.config.tasks
    scores: dict[str, list[list[float]]] = {task["name"]: [] for task in tasks}
    encoded = []
    bpm = []
    for done, (piece, audio) in enumerate(rendered_pieces(protocol, num_workers), start=1):
        result = pipe({"array": audio, "sampling_rate": SAMPLING_RATE})
        for task in tasks:
            by_label = {entry["label"]: entry["score"] for entry in result[task["name"]]}
            scores[task["name"]].append([by_label[label] for label in task["labels"]])
        labels = piece.labels
        encoded.append(
            encode_labels(
                tasks,
                {"emotion": labels.emotions, "vibe": labels.vibe, "intensity": labels.intensity, "tempo": labels.tempo},
            )
        )
        bpm.append(piece.bpm)
        if progress is not None:
            progress(done, protocol.num)
    stacked = {name: np.array(values) for name, values in scores.items()}
    truth = {task["name"]: np.stack([row[task["name"]] for row in encoded]) for task in tasks}
    result = {
        "protocol": asdict(protocol),
        "metrics": {name: round(value, 4) for name, value in evaluate_tasks(tasks, stacked, truth).items()},
        "confusion": {},
        "average_precision": {},
    }
    for task in tasks:
        name, names = task["name"], task["labels"]
        if task["type"] == "single_label":
            matrix = confusion_matrix(truth[name], stacked[name].argmax(axis=1), labels=range(len(names)))
            result["confusion"][name] = matrix.tolist()
        else:
            result["average_precision"][name] = {
                label: round(float(average_precision_score(truth[name][:, i], stacked[name][:, i])), 4)
                for i, label in enumerate(names)
                if truth[name][:, i].any()
            }
    if "tempo" in stacked:
        distance = np.min([np.abs(np.array(bpm) / border - 1) for border in (95, 140)], axis=0)
        right = stacked["tempo"].argmax(axis=1) == truth["tempo"]
        result["tempo_accuracy_off_border"] = round(float(right[distance > 0.05].mean()), 4)
    return result
