# SPDX-License-Identifier: Apache-2.0
"""How well a tagger hears generated music, whose labels are known exactly."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hf_mathrock.data.labels import encode_labels
from hf_mathrock.evaluation.labelled import describe_data
from hf_mathrock.evaluation.measuring import measure
from hf_mathrock.evaluation.predictions import Predictions, predict
from hf_mathrock.evaluation.results import plain
from hf_mathrock.synthesis.affect import FASTEST_MODERATE_BPM, SLOWEST_MODERATE_BPM
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


def predict_generated(
    pipe: Any, protocol: Protocol, *, num_workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> Predictions:
    """What a model says of the pieces of a protocol, each heard as a user's file would be.

    Args:
        pipe: A `mathrock-affect` pipeline.
        protocol: Which pieces.
        num_workers: Processes that render.
        progress: Called with (pieces done, pieces wanted).
    """
    tasks = pipe.model.config.tasks

    def rows() -> Iterator[dict[str, Any]]:
        for piece, audio in rendered_pieces(protocol, num_workers):
            heard = piece.labels
            named = {"emotion": heard.emotions, "vibe": heard.vibe, "intensity": heard.intensity, "tempo": heard.tempo}
            yield {
                "audio": {"array": audio, "sampling_rate": SAMPLING_RATE},
                "labels": encode_labels(tasks, named),
                "group": piece.work_id,
                "song": piece.work_id,
                "bpm": piece.bpm,
            }

    follow = None if progress is None else lambda done, _: progress(done, protocol.num)
    return predict(pipe, rows(), progress=follow)


def evaluate_generated(
    pipe: Any,
    protocol: Protocol,
    *,
    title: str = "generated pieces",
    num_resamples: int = 1000,
    num_workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Tag the pieces of a protocol and hold the result against their labels.

    Args:
        pipe: A `mathrock-affect` pipeline; windows are averaged.
        protocol: Which pieces.
        title: What a person calls them.
        num_resamples: Of the bootstrap over works; 0: no intervals.
        num_workers: Processes that render.
        progress: Called with (pieces done, pieces wanted).

    Returns:
        A set of `results.json`: `title`, `data`, `protocol`, and the figures that `measure` gives; with
        `tempo_accuracy_off_border`, the accuracy over pieces whose BPM is more than 5 % away from a border of classes.
    """
    predictions = predict_generated(pipe, protocol, num_workers=num_workers, progress=progress)
    config = pipe.model.config
    figures = measure(
        predictions, temperatures=config.temperatures, thresholds=config.thresholds, num_resamples=num_resamples
    )
    window_seconds, hop_seconds = pipe.feature_extractor.checked_grid(None, None)
    result = {
        "title": title,
        "data": describe_data(predictions, {"source": "hf_mathrock.synthesis"}, ["test"]),
        "protocol": {
            **asdict(protocol),
            "window_seconds": window_seconds,
            "hop_seconds": hop_seconds,
            "aggregation": "mean",
            "num_resamples": num_resamples,
            "temperatures": config.temperatures or {},
            "thresholds": config.thresholds or {},
        },
        **figures,
    }
    if "tempo" in predictions.labels:
        borders = [SLOWEST_MODERATE_BPM, FASTEST_MODERATE_BPM]
        distance = np.min([np.abs(predictions.bpm / border - 1) for border in borders], axis=0)
        right = predictions.song_scores(config.temperatures)["tempo"].argmax(axis=1) == predictions.labels["tempo"]
        result["tempo_accuracy_off_border"] = float(right[distance > 0.05].mean())
    return plain(result)
