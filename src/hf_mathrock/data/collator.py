# SPDX-License-Identifier: Apache-2.0
"""Rows of a labelled data set to a batch of model inputs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from hf_mathrock.data.augmentation import Augmentation
from hf_mathrock.data.content import recording_name
from hf_mathrock.data.excerpts import filling_windows, middle_window, random_window, silent_window
from hf_mathrock.data.labels import row_labels
from hf_mathrock.models.audio_input import AudioReadError, AudioWindow
from hf_mathrock.models.objectives import UNKNOWN

# Inputs computed before: those of an extractor, or the outputs of frozen backbones.
READY_INPUTS = ("input_values", "attention_mask", "input_features", "wavlm_embeddings", "clap_audio_embeddings")


class MathRockCollator:
    """Make batches of rows that hold audio, or inputs computed before, beside label columns.

    A row has an `audio` column in any form `open_audio` reads, or a `window` of it, or inputs without the batch
    dimension: whatever of `input_values`, `input_features` and `attention_mask` the extractor gives, or
    `wavlm_embeddings` and `clap_audio_embeddings`. Of audio longer than a window, training takes a window at random and
    evaluation the middle one. Labels stand in one column per task, as `encode_label` accepts them, or ready-made under
    `labels`; every batch has every task's labels, -100 where unknown.

    A recording that cannot be read is left out with a warning, and listed in `broken`. More than `max_broken` of them
    are an error.

    Args:
        feature_extractor: The model's, of any family.
        tasks: `model.config.tasks`.
        train: Whether windows are drawn at random, by torch's generator: the `Trainer` seeds it, for every worker anew,
            and keeps it in its checkpoints.
        augment: Strength of `Augmentation` in training: "none", "light" or "heavy".
        max_broken: How many recordings may be unreadable, in each process that reads.
        with_files: Add `files` to a batch: the name of each row's recording.
    """

    def __init__(
        self,
        feature_extractor: Any,
        tasks: Sequence[Mapping[str, Any]],
        *,
        train: bool = False,
        augment: str = "none",
        max_broken: int = 10,
        with_files: bool = False,
    ) -> None:
        self.feature_extractor = filling_windows(feature_extractor) if train else feature_extractor
        self.tasks = tasks
        self.train = train
        self.max_broken = max_broken
        self.with_files = with_files
        self.broken: dict[str, str] = {}
        self._augmentation = None
        if augment != "none":
            if not train:
                raise ValueError("`augment` is for training: evaluation hears recordings as they are.")
            self._augmentation = Augmentation(augment, feature_extractor.sampling_rate)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A batch: the inputs, and `labels` with one tensor per task."""
        labels = [row_labels(self.tasks, row) for row in rows]
        if ready := [key for key in READY_INPUTS if key in rows[0]]:
            batch: dict[str, Any] = {
                key: torch.stack([torch.as_tensor(np.asarray(row[key])) for row in rows]) for key in ready
            }
            batch = {key: value.float() if value.is_floating_point() else value for key, value in batch.items()}
        else:
            windows = [row["window"] if "window" in row else self._window(row) for row in rows]
            kept = [index for index, window in enumerate(windows) if window is not None]
            if kept:
                rows, labels = [rows[index] for index in kept], [labels[index] for index in kept]
            else:  # a batch of broken recordings is still a batch, from which nothing is learnt
                windows, rows = [silent_window(self.feature_extractor)], rows[:1]
                labels = [{name: np.full_like(value, UNKNOWN) for name, value in labels[0].items()}]
            batch = dict(self.feature_extractor.featurize(self._varied([w for w in windows if w is not None])))
        batch["labels"] = {
            task["name"]: torch.as_tensor(np.stack([label[task["name"]] for label in labels])) for task in self.tasks
        }
        if self.with_files:
            batch["files"] = [recording_name(row) for row in rows]
        return batch

    def _window(self, row: Mapping[str, Any]) -> AudioWindow | None:
        """A window of a row's recording; `None` if it cannot be read."""
        extractor = self.feature_extractor
        if "audio" not in row:
            raise ValueError(
                f"the rows have no `audio` (but {', '.join(row) or 'nothing'}). The stock Trainer removes columns that "
                "the model's `forward` does not name: give its arguments remove_unused_columns=False."
            )
        try:
            if not self.train:
                return middle_window(row["audio"], extractor, extractor.sampling_rates)
            # What is changed is changed once, at the highest rate, so that all streams hear the same.
            rates = extractor.sampling_rates if self._augmentation is None else (extractor.sampling_rate,)
            return random_window(row["audio"], extractor, rates)
        except AudioReadError as error:
            name = recording_name(row)
            if name not in self.broken:
                self.broken[name] = str(error)
                if len(self.broken) > self.max_broken:
                    raise AudioReadError(
                        f"{len(self.broken)} recordings cannot be read, more than the {self.max_broken} that are "
                        f"passed over; the last one: {error}",
                        file=error.file,
                        reason=error.reason,
                    ) from error
                warnings.warn(f"left out: {error}", stacklevel=2)
            return None

    def _varied(self, windows: list[AudioWindow]) -> list[AudioWindow]:
        """The windows after augmentation, at all rates."""
        if self._augmentation is None or self.feature_extractor.sampling_rate not in windows[0].audio:
            return windows
        import soxr

        high = self.feature_extractor.sampling_rate
        lengths = torch.tensor([len(window.audio[high]) for window in windows])
        padded = torch.zeros(len(windows), int(lengths.max()))
        for row, window in zip(padded, windows, strict=True):
            row[: len(window.audio[high])] = torch.from_numpy(window.audio[high])
        for row, window in zip(self._augmentation(padded, lengths), windows, strict=True):
            waveform = row[: len(window.audio[high])].numpy()
            window.audio = {
                rate: waveform if rate == high else soxr.resample(waveform, high, rate, quality="HQ")
                for rate in self.feature_extractor.sampling_rates
            }
        return windows
