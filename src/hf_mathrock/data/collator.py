# SPDX-License-Identifier: Apache-2.0
"""Rows of a labelled data set to a batch of model inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from hf_mathrock.data.labels import encode_labels
from hf_mathrock.models.audio_input import AudioWindow, read_audio


class MathRockCollator:
    """Make batches of rows that hold audio, or inputs computed before, beside label columns.

    A row has `input_values`, `input_features` and perhaps `attention_mask` (as the extractor gives them, without the
    batch dimension), or an `audio` column in any form `open_audio` reads. Of audio longer than a window, training takes
    a window at random and evaluation the middle one. Labels stand in one column per task, as `encode_label` accepts
    them, or ready-made under `labels`; every batch has every task's labels, -100 where unknown.

    Args:
        feature_extractor: The model's `MathRockFeatureExtractor`.
        tasks: `model.config.tasks`.
        train: Whether windows are drawn at random.
        seed: Of that drawing.
    """

    def __init__(
        self, feature_extractor: Any, tasks: Sequence[Mapping[str, Any]], *, train: bool = False, seed: int = 0
    ) -> None:
        self.feature_extractor = feature_extractor
        self.tasks = tasks
        self.train = train
        self._random = np.random.default_rng(seed)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A batch: the extractor's tensors, and `labels` with one tensor per task."""
        if "input_features" in rows[0]:
            batch = {
                key: torch.stack([torch.as_tensor(np.asarray(row[key])) for row in rows])
                for key in ("input_values", "attention_mask", "input_features")
                if key in rows[0]
            }
            batch = {key: value.float() if value.is_floating_point() else value for key, value in batch.items()}
        else:
            batch = dict(self.feature_extractor.featurize([self._window(row["audio"]) for row in rows]))
        labels = [row["labels"] if "labels" in row else encode_labels(self.tasks, row) for row in rows]
        batch["labels"] = {
            task["name"]: torch.as_tensor(np.stack([np.asarray(label[task["name"]]) for label in labels]))
            for task in self.tasks
        }
        return batch

    def _window(self, audio: Any) -> AudioWindow:
        """One window of a recording, at both of the extractor's rates."""
        extractor = self.feature_extractor
        rates = extractor.sampling_rates
        tracks = {rate: read_audio(audio, rate) for rate in rates}
        duration = min(len(track) / rate for rate, track in tracks.items())
        spare = max(0.0, duration - extractor.window_seconds)
        start = self._random.uniform(0, spare) if self.train else spare / 2
        cut = {
            rate: track[round(start * rate) :][: round(extractor.window_seconds * rate)]
            for rate, track in tracks.items()
        }
        return AudioWindow(index=0, start=start, end=start + min(duration, extractor.window_seconds), audio=cut)
