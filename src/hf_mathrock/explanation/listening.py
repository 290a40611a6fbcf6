# SPDX-License-Identifier: Apache-2.0
"""Probabilities of a model's labels for windows of audio, and labels by their names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from hf_mathrock.models.audio_input import AudioWindow
from hf_mathrock.models.scoring import task_scores


@dataclass(frozen=True)
class Tag:
    """One output of a model: a label of one of its tasks, and its place among all outputs."""

    task: str
    label: str
    place: int


class Listener:
    """A model that answers with probabilities.

    Args:
        pipe: A pipeline of this package; its model and its feature extractor are used.
        batch_size: Windows in a forward pass.
        report_progress: Called with the number of windows heard so far, after each forward pass.
    """

    def __init__(self, pipe: Any, batch_size: int, report_progress: Callable[[int], None] | None = None) -> None:
        self.model = pipe.model
        self.config = pipe.model.config
        self.extractor = pipe.feature_extractor
        self.num_heard = 0
        self._batch_size = batch_size
        self._report_progress = report_progress
        labels = [(task["name"], label) for task in self.config.tasks for label in task["labels"]]
        self.tags = [Tag(task, label, place) for place, (task, label) in enumerate(labels)]

    def __call__(self, windows: Iterable[AudioWindow]) -> np.ndarray:
        """Probabilities of all labels of all tasks, in the order of `tags`: `(num_windows, num_labels)`, float64.

        Args:
            windows: Taken as they come, so that only one batch of them is held.

        Raises:
            RuntimeError: The model gave logits that are no numbers.
        """
        windows = iter(windows)
        batches = []
        while batch := list(islice(windows, self._batch_size)):
            batches.append(self._probabilities(batch))
            self.num_heard += len(batch)
            if self._report_progress is not None:
                self._report_progress(self.num_heard)
        return np.concatenate(batches) if batches else np.zeros((0, len(self.tags)))

    def inputs(self, windows: Sequence[AudioWindow]) -> dict[str, torch.Tensor]:
        """What the model is given for these windows, on its device and in its precision."""
        inputs = self.extractor.featurize(windows).to(self.model.device)
        return {
            name: value.to(self.model.dtype) if value.is_floating_point() else value for name, value in inputs.items()
        }

    def _probabilities(self, windows: Sequence[AudioWindow]) -> np.ndarray:
        with torch.inference_mode():
            task_logits = self.model(**self.inputs(windows)).task_logits
        scores = []
        for task in self.config.tasks:
            logits = task_logits[task["name"]].float().cpu().numpy()
            if not np.isfinite(logits).all():
                raise RuntimeError(
                    f"The model gave non-finite logits for {task['name']!r} although the audio is finite: the "
                    "checkpoint is broken, or its precision too low (try dtype=torch.float32)."
                )
            scores.append(task_scores(task, logits, self.config.task_temperature(task["name"])))
        return np.concatenate(scores, axis=1)

    def find(self, names: Sequence[str]) -> list[Tag]:
        """The tags of these names, each once.

        Args:
            names: Labels, or `task/label` where several tasks have a label of that name.

        Raises:
            ValueError: The model has no such label (the message suggests the nearest), or several tasks have it.
        """
        return list(dict.fromkeys(self._find_one(name) for name in names))

    def _find_one(self, name: str) -> Tag:
        full = {f"{tag.task}/{tag.label}": tag for tag in self.tags}
        if name in full:
            return full[name]
        found = [tag for tag in self.tags if tag.label == name]
        if len(found) > 1:
            choices = " or ".join(f"{tag.task}/{tag.label}" for tag in found)
            raise ValueError(f"several tasks of the model have a tag {name!r}; say {choices}")
        if not found:
            known = list(dict.fromkeys(tag.label for tag in self.tags))
            near = difflib.get_close_matches(name.casefold(), known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            shown = ", ".join(known[:60]) + (f" and {len(known) - 60} more" if len(known) > 60 else "")
            raise ValueError(f"the model has no tag {name!r}{hint} Its tags are {shown}.")
        return found[0]

    def best(self, probabilities: np.ndarray, top_k: int, task: str | None = None) -> list[Tag]:
        """The tags of one task with the highest probabilities, best first.

        Args:
            probabilities: Of all labels, `(num_labels,)`.
            top_k: How many, or all if there are fewer.
            task: Its name; `None`: the first multi-label task, or else the first.

        Raises:
            ValueError: The model has no such task.
        """
        if task is None:
            kinds = {entry["name"]: entry["type"] for entry in self.config.tasks}
            task = next((name for name, kind in kinds.items() if kind == "multi_label"), next(iter(kinds)))
        self.config.task(task)
        ranked = sorted((tag for tag in self.tags if tag.task == task), key=lambda tag: -probabilities[tag.place])
        return ranked[:top_k]
