# SPDX-License-Identifier: Apache-2.0
"""`Trainer` with the multi-task focal objective and two learning rates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from transformers import Trainer

from hf_mathrock.data.collator import MathRockCollator
from hf_mathrock.data.labels import balanced_class_weights, row_labels
from hf_mathrock.metrics.classification import evaluate_tasks
from hf_mathrock.models.objectives import multi_task_focal_loss
from hf_mathrock.training.arguments import MathRockTrainingArguments

BACKBONES = ("wavlm", "clap_audio")


class MathRockTrainer(Trainer):
    """Train a MathRock model.

    Beside the stock arguments: without a `data_collator` rows of audio and label columns are collated by
    `MathRockCollator` (pass the extractor as `processing_class`), with random windows in training; without
    `compute_metrics` evaluation reports accuracy and macro-F1 of every single-label task and the mean average
    precision of every multi-label one. The loss of each task is logged beside the sum.
    """

    args: MathRockTrainingArguments
    data_collator: Any
    optimizer: Any

    def __init__(
        self,
        model: Any = None,
        args: MathRockTrainingArguments | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        compute_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        if missing := [name for name in ("accelerate", "sklearn") if find_spec(name) is None]:
            raise ImportError(f'Training needs {" and ".join(missing)}: pip install "hf-mathrock[train]"')
        if model is None:
            raise ValueError("Pass a `model`: its config names the tasks, so it cannot be made later by `model_init`.")
        args = args or MathRockTrainingArguments("trainer_output")
        tasks = model.config.tasks
        self._eval_collator = data_collator
        if data_collator is None:
            if processing_class is None:
                raise ValueError("Pass the model's extractor as `processing_class`, or a `data_collator` of your own.")
            data_collator = MathRockCollator(processing_class, tasks, train=True)
            self._eval_collator = MathRockCollator(processing_class, tasks)
        if compute_metrics is None:
            compute_metrics = self._task_metrics
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            compute_metrics=compute_metrics,
            **kwargs,
        )
        # The loss is a mean over each batch, so the Trainer divides it by the accumulation steps itself.
        self.model_accepts_loss_kwargs = False
        self.class_weights = self._count_classes(tasks, train_dataset)
        self._task_losses: dict[str, torch.Tensor] = {}  # sums since the last log
        self._num_losses = 0

    def _count_classes(self, tasks: list, dataset: Any) -> dict[str, torch.Tensor]:
        """Weights of every single-label task's classes, from the label columns of the training set."""
        if self.args.class_weights == "none" or dataset is None or not hasattr(dataset, "__len__"):
            return {}
        if hasattr(dataset, "encoded_labels"):
            rows = dataset.encoded_labels
        else:
            names = ["labels", *(task["name"] for task in tasks)]
            if columns := [name for name in names if name in getattr(dataset, "column_names", [])]:
                dataset = dataset.select_columns(columns)  # the audio stays unread
            rows = [row_labels(tasks, dataset[index]) for index in range(len(dataset))]
        return {name: torch.from_numpy(weight) for name, weight in balanced_class_weights(tasks, rows).items()}

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """The evaluating collator in place: the middle window, not one at random."""
        training_collator, self.data_collator = self.data_collator, self._eval_collator
        try:
            yield
        finally:
            self.data_collator = training_collator

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """The stock loader with the evaluating collator."""
        with self._evaluating():
            return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        """The stock loader with the evaluating collator."""
        with self._evaluating():
            return super().get_test_dataloader(test_dataset)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The multi-task focal loss with this run's class and task weights."""
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        config = self.accelerator.unwrap_model(model).config
        loss, task_losses = multi_task_focal_loss(
            outputs.task_logits,
            labels,
            config.tasks,
            gamma=config.focal_gamma if self.args.focal_gamma is None else self.args.focal_gamma,
            label_smoothing=config.label_smoothing if self.args.label_smoothing is None else self.args.label_smoothing,
            class_weights=self.class_weights,
            task_weights=cast("dict[str, float] | None", self.args.task_weights),
        )
        if model.training:
            self._num_losses += 1
            for name, task_loss in task_losses.items():
                self._task_losses[name] = self._task_losses.get(name, 0) + task_loss.detach()
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the mean loss of each task since the last time to a training log."""
        if "loss" in logs:
            for name, total in self._task_losses.items():
                logs[f"loss_{name}"] = round(total.item() / self._num_losses, 4)
            self._task_losses, self._num_losses = {}, 0
        super().log(logs, *args, **kwargs)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The arguments' optimiser over four groups: backbones and the rest, each with and without weight decay."""
        module = self.model if model is None else model
        if self.optimizer is None:
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, module)
            options = {key: value for key, value in options.items() if key != "params"}
            self.optimizer = optimizer_class(self.parameter_groups(module), **options)
        return self.optimizer

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Every trainable parameter exactly once, with its learning rate and weight decay.

        Norms and biases are not decayed.
        """
        decayed = set(self.get_decay_parameter_names(model))
        groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            in_backbone = any(part in BACKBONES for part in name.split("."))
            rate = self.args.backbone_learning_rate if in_backbone else self.args.learning_rate
            groups[rate, self.args.weight_decay if name in decayed else 0.0].append(parameter)
        grouped = [id(parameter) for parameters in groups.values() for parameter in parameters]
        trainable = [id(parameter) for parameter in model.parameters() if parameter.requires_grad]
        assert sorted(grouped) == sorted(trainable), "a parameter is in no group, or in two"
        return [
            {"params": parameters, "lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()
        ]

    def _task_metrics(self, prediction: Any) -> dict[str, float]:
        """Metrics of every task; `predictions` is (logits of the first task, logits of every task)."""
        task_logits: Mapping[str, np.ndarray] = prediction.predictions[1]
        return evaluate_tasks(self.model.config.tasks, task_logits, prediction.label_ids)
