# SPDX-License-Identifier: Apache-2.0
"""`Trainer` for every family of the package, with the multi-task focal objective and two learning rates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import IterableDataset
from tqdm.auto import tqdm
from transformers import EarlyStoppingCallback, Trainer

from hf_mathrock.data.collator import MathRockCollator
from hf_mathrock.data.embedded_windows import EmbeddedWindows
from hf_mathrock.data.embeddings import BACKBONES, EmbeddingCache
from hf_mathrock.data.grid import GridWindows, song_level
from hf_mathrock.data.labels import row_labels
from hf_mathrock.metrics.classification import evaluate_tasks
from hf_mathrock.models.scoring import task_scores
from hf_mathrock.training.arguments import MathRockTrainingArguments
from hf_mathrock.training.checkpoints import VerifiedCheckpoints
from hf_mathrock.training.checks import check_dataset, check_task_weights
from hf_mathrock.training.objective import MultiTaskObjective
from hf_mathrock.training.provenance import write_training_songs
from hf_mathrock.training.schedule import OptimizerSchedule, StageRates
from hf_mathrock.training.tuning import (
    has_backbones,
    is_adapted,
    merged_model,
    prepare_for_tuning,
)


class MathRockTrainer(MultiTaskObjective, VerifiedCheckpoints, Trainer):
    """Train a model of any family of this package: MathRock, or a tagger.

    Beside the stock arguments: without a `data_collator` rows of audio and label columns are collated by
    `MathRockCollator` (pass the extractor as `processing_class`): a random window of each recording in training, all
    windows of the fixed grid in evaluation. Without `compute_metrics` evaluation reports accuracy and macro-F1 of every
    single-label task and the mean average precision of every multi-label one, of whole recordings: their score is the
    mean of their windows', as in the pipeline. The loss of each task is logged beside the sum.

    The loss and its weights are described at `MultiTaskObjective`, checkpoints and resuming at `VerifiedCheckpoints`,
    several optimisers one after the other at `OptimizerSchedule`.
    """

    args: MathRockTrainingArguments
    model: Any
    data_collator: Any
    train_dataset: Any
    optimizer: Any
    lr_scheduler: Any
    data_report: Mapping[str, Any] | None = (
        None  # what `load_labelled_audio` said of the data, to be saved with a model
    )

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
        if not isinstance(args, MathRockTrainingArguments):
            raise ValueError(f"`args` is a {type(args).__name__}; MathRockTrainer takes MathRockTrainingArguments.")
        tasks = model.config.tasks
        check_dataset(tasks, train_dataset, "train_dataset")
        for part in eval_dataset.values() if isinstance(eval_dataset, Mapping) else [eval_dataset]:
            check_dataset(tasks, part, "eval_dataset")
        check_task_weights(tasks, args.task_weights)
        if args.fp16 and args.device.type == "cpu":
            raise ValueError("`fp16` needs a GPU, and this run is on the CPU: train with `bf16`, or with neither.")
        self._eval_collator = data_collator
        if data_collator is None:
            if processing_class is None:
                raise ValueError("Pass the model's extractor as `processing_class`, or a `data_collator` of your own.")
            data_collator = MathRockCollator(
                processing_class,
                tasks,
                train=True,
                augment=args.augment,
                max_broken=max(10, len(train_dataset) // 20 if hasattr(train_dataset, "__len__") else 0),
                with_files=True,
            )
            self._eval_collator = MathRockCollator(processing_class, tasks)
        if compute_metrics is None:
            compute_metrics = self._task_metrics
        model = prepare_for_tuning(model, args)
        # The outputs of two frozen backbones are small; so a window is heard once. A tagger hears it every time.
        self._trains_on_embeddings = args.tuning == "heads" and has_backbones(model)
        self._embedding_cache: EmbeddingCache | None = None
        if isinstance(train_dataset, IterableDataset) and args.accelerator_config.dispatch_batches is None:
            # Of a stream one process would read and deal out batches, which must then be alike; ours have names of
            # files, and fewer rows where a file is broken. So every process reads its own.
            args.accelerator_config.dispatch_batches = False
        self._recordings = (train_dataset, eval_dataset)  # as they came; to embeddings they lead no way back
        self._grids: list[tuple[Any, Any]] = []  # of each data set evaluated on
        self._song_ids: np.ndarray | None = None
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
        if args.early_stopping_patience is not None:
            self.add_callback(EarlyStoppingCallback(args.early_stopping_patience))
        self._schedule: OptimizerSchedule | None = None
        if args.optimizer_schedule is not None:
            if isinstance(train_dataset, IterableDataset):
                raise ValueError(
                    "`optimizer_schedule` counts epochs, and nobody knows how long one of a stream is: train on a data "
                    "set with a length, or without a schedule."
                )
            self._schedule = OptimizerSchedule(args.optimizer_schedule, self._go_back_to_best)
            self.add_callback(self._schedule)
        # The loss is a mean over each batch, so the Trainer divides it by the accumulation steps itself.
        self.model_accepts_loss_kwargs = False
        self._weigh(tasks, self._encoded_labels(tasks, train_dataset))

    def _encoded_labels(self, tasks: list, dataset: Any) -> Any:
        """Labels of all training rows; `None` where there are none, or reading them would mean reading the audio."""
        if dataset is None or not hasattr(dataset, "__len__"):
            return None
        if hasattr(dataset, "encoded_labels"):
            return dataset.encoded_labels
        names = ["labels", *(task["name"] for task in tasks)]
        if columns := [name for name in names if name in getattr(dataset, "column_names", [])]:
            dataset = dataset.select_columns(columns)  # the audio stays unread
        elif not isinstance(dataset, (list, tuple)) and self.args.class_weights == "none":
            return None
        return [row_labels(tasks, dataset[index]) for index in range(len(dataset))]

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """The evaluating collator in place."""
        training_collator, self.data_collator = self.data_collator, self._eval_collator
        try:
            yield
        finally:
            self.data_collator = training_collator

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """The stock loader with the evaluating collator, over all windows of each recording."""
        dataset = eval_dataset if eval_dataset is not None else self.eval_dataset
        if isinstance(dataset, str):
            dataset = self.eval_dataset[dataset]
        with self._evaluating():
            return super().get_eval_dataloader(self._whole_recordings(dataset))

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        """The stock loader with the evaluating collator, over all windows of each recording."""
        with self._evaluating():
            return super().get_test_dataloader(self._whole_recordings(test_dataset))

    def _whole_recordings(self, dataset: Any) -> Any:
        """All windows of a data set's recordings, where it has recordings and a length."""
        if not self._has_recordings(dataset):
            return dataset
        check_dataset(self._eval_collator.tasks, dataset, "eval_dataset")
        for known, windows in self._grids:
            if known is dataset:
                return windows
        if self._trains_on_embeddings:
            windows = self._embedded(dataset, train=False)
        else:
            collator = self._eval_collator
            windows = GridWindows(dataset, collator.feature_extractor, collator.tasks)
        self._grids.append((dataset, windows))
        return windows

    def _has_recordings(self, dataset: Any) -> bool:
        """Whether rows hold audio that is ours to read, and their number is known."""
        if not isinstance(self._eval_collator, MathRockCollator) or not hasattr(dataset, "__len__") or not len(dataset):
            return False
        return "audio" in (getattr(dataset, "column_names", None) or dataset[0])

    def get_train_dataloader(self) -> Any:
        """The stock loader; for heads alone, over the outputs of the frozen backbones."""
        if self._trains_on_embeddings and self._has_recordings(self.train_dataset):
            self.train_dataset = self._embedded(self.train_dataset, train=True)
        return super().get_train_dataloader()

    def _embedded(self, dataset: Any, train: bool) -> EmbeddedWindows:
        """A data set's recordings as the frozen backbones hear them; one process computes, the others read."""
        if self._embedding_cache is None:
            self._embedding_cache = EmbeddingCache(
                self.model,
                self._eval_collator.feature_extractor,
                self.args.embedding_cache_dir,
                batch_size=self.args.per_device_eval_batch_size,
            )
        with (
            self.args.main_process_first(desc="embedding recordings"),
            tqdm(total=len(dataset), desc="Embedding recordings", disable=self.args.disable_tqdm) as bar,
        ):
            return EmbeddedWindows(
                dataset,
                self._embedding_cache,
                train=train,
                progress=lambda done, _: bar.update(done - bar.n),
            )

    def evaluation_loop(self, dataloader: Any, *args: Any, **kwargs: Any) -> Any:
        """The stock loop; the metrics are told which recording each window belongs to."""
        self._song_ids = getattr(dataloader.dataset, "song_ids", None)
        return super().evaluation_loop(dataloader, *args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The stock save, with `training_songs.json`; of a model with adapters the plain model they make of it.

        Checkpoints, which the trainer writes for itself, hold the adapters.
        """
        if _internal_call:
            return super().save_model(output_dir, _internal_call)
        adapted = self.model
        self.model = merged_model(adapted) if is_adapted(adapted) else adapted
        try:
            super().save_model(output_dir, _internal_call)
        finally:
            self.model = adapted
        if self.args.should_save:
            write_training_songs(output_dir or str(self.args.output_dir), *self._recordings, self.data_report)

    def _go_back_to_best(self) -> None:
        self._load_best_model()
        self._load_extra_state(self.state.best_model_checkpoint)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """The arguments' learning rate; with a schedule of stages, theirs."""
        if self._schedule is None or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        self.lr_scheduler = StageRates(self.optimizer if optimizer is None else optimizer)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The arguments' optimiser over four groups: backbones and the rest, each with and without weight decay.

        A tagger has no backbones, so these are two. Learned task weights are one more. A schedule of stages has one
        group for all parameters.
        """
        module = self.model if model is None else model
        if self.optimizer is None and self._schedule is not None:
            staged: list[dict[str, Any]] = [{"params": [p for p in module.parameters() if p.requires_grad]}]
            if self.uncertainty is not None:
                staged.append({"params": list(self.uncertainty.parameters()), "undecayed": True})
            self.optimizer = self._schedule.optimizer(staged)
        if self.optimizer is None:
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, module)
            options = {key: value for key, value in options.items() if key != "params"}
            groups = self.parameter_groups(module)
            if self.uncertainty is not None:
                rate = self.args.learning_rate
                groups.append({"params": list(self.uncertainty.parameters()), "lr": rate, "weight_decay": 0.0})
            self.optimizer = optimizer_class(groups, **options)
        return self.optimizer

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """The stock names, which leave out layer norms and biases, without those of batch norms."""
        norms = {id(p) for module in model.modules() if isinstance(module, _BatchNorm) for p in module.parameters()}
        parameters = dict(model.named_parameters())
        return [name for name in super().get_decay_parameter_names(model) if id(parameters.get(name)) not in norms]

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Every trainable parameter exactly once, with its learning rate and weight decay.

        Norms and biases are not decayed.
        """
        decayed = set(self.get_decay_parameter_names(model))
        groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            # Adapters are as new as the heads.
            in_backbone = any(part in BACKBONES for part in name.split(".")) and ".lora_" not in name
            rate = self.args.backbone_learning_rate if in_backbone else self.args.learning_rate
            groups[rate, self.args.weight_decay if name in decayed else 0.0].append(parameter)
        grouped = [id(parameter) for parameters in groups.values() for parameter in parameters]
        trainable = [id(parameter) for parameter in model.parameters() if parameter.requires_grad]
        assert sorted(grouped) == sorted(trainable), "a parameter is in no group, or in two"
        return [
            {"params": parameters, "lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()
        ]

    def recording_scores(self, prediction: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Scores and labels of whole recordings, from the windows of the evaluation or prediction just made.

        Args:
            prediction: What `predict` returns; its `predictions` are logits of the first task, and of every task.

        Returns:
            As `song_level`; of rows that are no windows of recordings, each row's own.
        """
        config = self.model.config
        task_logits: Mapping[str, np.ndarray] = prediction.predictions[1]
        scores = {
            task["name"]: task_scores(task, task_logits[task["name"]], config.task_temperature(task["name"]))
            for task in config.tasks
        }
        if self._song_ids is not None and len(self._song_ids) == len(next(iter(scores.values()))):
            return song_level(self._song_ids, scores, prediction.label_ids)
        return scores, prediction.label_ids

    def _task_metrics(self, prediction: Any) -> dict[str, float]:
        return evaluate_tasks(self.model.config.tasks, *self.recording_scores(prediction))
