# SPDX-License-Identifier: Apache-2.0
"""Rows of a labelled data set to a batch of model inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from hf_mathrock.data.labels import row_labels
from hf_mathrock.models.audio_input import AudioWindow, open_audio


class MathRockCollator:
    """Make batches of rows that hold audio, or inputs computed before, beside label columns.

    A row has `input_values`, `input_features` and perhaps `attention_mask` (as the extractor gives them, without the
    batch dimension), or an `audio` column in any form `open_audio` reads. Of audio longer than a window, training takes
    a window at random and evaluation the middle one. Labels stand in one column per task, as `encode_label` accepts
    them, or ready-made under `labels`; every batch has every task's labels, -100 where unknown.

    Args:
        feature_extractor: The model's `MathRockFeatureExtractor`.
        tasks: `model.config.tasks`.
        train: Whether windows are drawn at random, by torch's generator: the `Trainer` seeds it, for every worker anew,
            and keeps it in its checkpoints.
    """

    def __init__(self, feature_extractor: Any, tasks: Sequence[Mapping[str, Any]], *, train: bool = False) -> None:
        self.feature_extractor = feature_extractor
        self.tasks = tasks
        self.train = train

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
        labels = [row_labels(self.tasks, row) for row in rows]
        stacked = {
            task["name"]: torch.as_tensor(np.stack([np.asarray(label[task["name"]]) for label in labels]))
            for task in self.tasks
        }
        return {**batch, "labels": stacked}

    def _window(self, audio: Any) -> AudioWindow:
        """One window of a recording: one of those that sound, at random; or the one in the middle."""
        extractor = self.feature_extractor
        length = extractor.window_seconds
        with open_audio(audio, extractor.sampling_rate) as source:
            kept, num_sounding = None, 0
            claimed_seconds = (source.info.claimed_frames or 0) / source.info.sampling_rate
            middle = max(0.0, (claimed_seconds - length) / 2)
            for window in source.windows(length, length / 4, extractor.sampling_rates):
                if self.train:
                    # Each sounding window with the same chance, without keeping them all.
                    num_sounding += "silent" not in window.quality
                    if kept is None or ("silent" not in window.quality and torch.rand(()).item() * num_sounding < 1):
                        kept = window
                elif kept is None or window.start <= middle:
                    kept = window
                else:
                    break
        assert kept is not None  # a recording has at least one window
        return kept
