# SPDX-License-Identifier: Apache-2.0
"""The loss of a training step: a mean over all known labels of all its batches in all processes, weighted by task."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from hf_mathrock.data.labels import balanced_class_weights
from hf_mathrock.models.objectives import loss_denominators, multi_task_focal_loss
from hf_mathrock.training.arguments import MathRockTrainingArguments
from hf_mathrock.training.checks import TaskCounts, check_training_labels
from hf_mathrock.training.distributed import (
    known_statistics_for_one_value,
    num_processes,
    sum_over_processes,
    synchronised_batch_norm,
)
from hf_mathrock.training.divergence import non_finite_gradient, non_finite_loss
from hf_mathrock.training.tuning import keep_frozen_in_evaluation
from hf_mathrock.training.uncertainty import UncertaintyWeights

if TYPE_CHECKING:
    from transformers import Trainer as _Trainer
else:
    _Trainer = object

TASK_WEIGHTS_FILE = "task_weights.json"


class MultiTaskObjective(_Trainer):
    """Gives a `Trainer` the multi-task focal objective, with class and task weights and each task's loss in the log.

    Put it before all other bases. The loss of a step is the mean over all known labels of all of its batches, in all
    processes: accumulated batches and several processes give the gradients of one process with one large batch. A loss
    or gradient that is no number stops the training before the weights are changed.

    Attributes:
        label_counts: `TaskCounts` of each task in the training set; empty where its labels were not read beforehand.
        class_weights: Per single-label task, `(num_labels,)`; empty for equal weights.
        uncertainty: The task weights, where they are learned.
    """

    args: MathRockTrainingArguments
    model: Any
    label_counts: dict[str, TaskCounts]
    class_weights: dict[str, torch.Tensor]
    uncertainty: UncertaintyWeights | None

    def _weigh(self, tasks: Sequence[Mapping[str, Any]], rows: Any) -> None:
        """Set up all weights; `rows` are the encoded labels of the training set, `None` where they cannot be read."""
        self.label_counts = {} if rows is None else check_training_labels(tasks, rows)
        self.class_weights = {}
        if rows is not None and self.args.class_weights == "balanced":
            weights = balanced_class_weights(tasks, rows)
            self.class_weights = {name: torch.from_numpy(weight) for name, weight in weights.items()}
        self.uncertainty = None
        if self.args.task_weights == "learned":
            self.uncertainty = UncertaintyWeights([task["name"] for task in tasks]).to(self.args.device)
        self._task_losses: dict[str, torch.Tensor] = {}  # sums since the last log
        self._num_steps = 0  # likewise
        self._waiting: list[dict[str, Any]] = []  # batches of a step that the end of a stream has cut short
        self._num_batches = 1  # of the step under way
        self._files: list[str] | None = None  # likewise

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """The stock training; batch norm sees the batches of all processes."""
        self._waiting = []
        with synchronised_batch_norm(self.model):
            return super().train(*args, **kwargs)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The multi-task focal loss with this run's class and task weights.

        `num_items_in_batch` is what `get_batch_samples` gives: what each task's loss is divided by. Learned task
        weights count in training only, so that losses of evaluations can be compared.
        """
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        files = inputs.pop("files", None)
        if model.training:
            keep_frozen_in_evaluation(model)
        with known_statistics_for_one_value(model):
            outputs = model(**inputs)
        unwrapped = self.accelerator.unwrap_model(model)
        config, learned = unwrapped.config, self.uncertainty is not None
        denominators = num_items_in_batch
        if denominators is None:
            denominators = loss_denominators(labels, config.tasks, class_weights=self.class_weights)
        loss, task_losses = multi_task_focal_loss(
            outputs.task_logits,
            labels,
            config.tasks,
            gamma=config.focal_gamma if self.args.focal_gamma is None else self.args.focal_gamma,
            label_smoothing=config.label_smoothing if self.args.label_smoothing is None else self.args.label_smoothing,
            class_weights=self.class_weights,
            task_weights=None if learned else cast("dict[str, float] | None", self.args.task_weights),
            denominators=denominators,
        )
        if model.training:
            if self.uncertainty is not None:
                loss = self.uncertainty(task_losses, denominators)
            if not torch.isfinite(loss):
                raise non_finite_loss(
                    unwrapped,
                    inputs,
                    labels,
                    outputs.task_logits,
                    task_losses,
                    step=self.state.global_step + 1,
                    files=files,
                    class_weights=self.class_weights,
                )
            for name, task_loss in task_losses.items():
                self._task_losses[name] = self._task_losses.get(name, 0) + task_loss.detach() / self._num_batches
        return (loss, outputs) if return_outputs else loss

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: Any) -> tuple[list, Any]:
        """The batches of one optimiser step, and what the loss of each task is divided by in every one of them.

        That is the denominator of the whole step, of all batches in all processes, over the number of these batches: by
        that number the Trainer and `DistributedDataParallel` divide the loss again.

        Of a data set without a length the end is not seen coming. Where batches are then too few for a step, in any
        process, all of them wait for the next epoch: the stock loop would add their gradients to the next step's, and
        processes that still had batches would wait for the others for ever.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches - len(self._waiting), device)
        batches = [*self._waiting, *batches]
        too_few = torch.tensor(float(len(batches) < num_batches), device=device)
        wait = bool(sum_over_processes(too_few))
        batches, self._waiting = ([], batches) if wait else (batches, [])
        tasks = self.model.config.tasks
        totals = torch.zeros(len(tasks), device=device)
        for batch in batches:
            own = loss_denominators(batch["labels"], tasks, class_weights=self.class_weights)
            totals += torch.stack([own[task["name"]].to(totals) for task in tasks])
        self._num_batches = max(1, len(batches))
        self._num_steps += bool(batches)
        self._files = [file for batch in batches for file in batch.get("files", ())] or None
        if self.uncertainty is not None:
            self.uncertainty.zero_grad()
        totals = sum_over_processes(totals) / (self._num_batches * num_processes())
        return batches, dict(zip((task["name"] for task in tasks), totals, strict=True))

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """The stock step; gradients are complete, and finite, when the last batch of an optimiser step is through."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            if self.uncertainty is not None:
                self.uncertainty.average_gradients()
            # With a gradient scaler (fp16) overflows are part of the play: it passes over their steps.
            if self.accelerator.scaler is None:
                norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
                if not torch.isfinite(norm):
                    raise non_finite_gradient(model, step=self.state.global_step + 1, files=self._files)
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the mean loss of each task since the last time, and learned task weights, to a training log."""
        if "loss" in logs and self._task_losses:
            means = sum_over_processes(torch.stack(list(self._task_losses.values()))) / (
                num_processes() * max(1, self._num_steps)
            )
            for name, mean in zip(self._task_losses, means.tolist(), strict=True):
                logs[f"loss_{name}"] = round(mean, 4)
            for name, weight in ({} if self.uncertainty is None else self.uncertainty.weights()).items():
                if name not in self.label_counts or self.label_counts[name].known:
                    logs[f"weight_{name}"] = round(weight, 4)
            self._task_losses, self._num_steps = {}, 0
        super().log(logs, *args, **kwargs)

    def _save_extra_state(self, folder: str | Path) -> None:
        """Learned task weights belong into a checkpoint: they are no part of the model."""
        if self.uncertainty is not None:
            (Path(folder) / TASK_WEIGHTS_FILE).write_text(json.dumps(self.uncertainty.state(), indent=1) + "\n")

    def _load_extra_state(self, folder: str | Path) -> None:
        file = Path(folder) / TASK_WEIGHTS_FILE
        if file.exists() != (self.uncertainty is not None):
            were, are = ("learned", "fixed") if file.exists() else ("fixed", "learned")
            raise ValueError(
                f"The run of {folder} had {were} task weights, this one has {are} ones: resume it with the same "
                "`task_weights`, or begin again from its model."
            )
        if self.uncertainty is not None:
            self.uncertainty.restore(json.loads(file.read_text()))
