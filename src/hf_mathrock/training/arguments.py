# SPDX-License-Identifier: Apache-2.0
"""Training arguments with the reference's recipe as defaults."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

import torch
from transformers import TrainingArguments

from hf_mathrock.data.augmentation import Strength
from hf_mathrock.training.schedule import Stage, stages_of
from hf_mathrock.training.tuning import Tuning

TUNINGS, AUGMENTATIONS = get_args(Tuning), get_args(Strength)


@dataclass
class MathRockTrainingArguments(TrainingArguments):
    """`TrainingArguments` for the multi-task focal objective; the defaults are the reference's.

    Args:
        backbone_learning_rate: Of both backbones; `learning_rate` is that of projections, fusion and heads.
        focal_gamma: Exponent of the focal factor; `None`: the model config's.
        label_smoothing: Of the multi-label targets; `None`: the model config's.
        class_weights: "balanced": classes of single-label tasks weigh the same in total, counted on the training set;
            "none": every row weighs the same.
        task_weights: Factor of each task in the loss, tasks not named count 1; "learned": by their uncertainty.
        tuning: What is trained. "full": everything; "heads": projections, fusion and heads over the outputs of frozen
            backbones, which are computed once and kept on disk; "lora": the same and low-rank changes of the
            backbones' attention, through `peft`.
        lora_rank: Rank of those changes.
        lora_alpha: Their scale is `lora_alpha / lora_rank`.
        lora_dropout: Dropout before them, in [0, 1).
        embedding_cache_dir: Where outputs of frozen backbones are kept; `None`: `~/.cache/hf-mathrock/embeddings`.
        augment: How much recordings are varied in training: "none", "light" or "heavy", see `data.augmentation`.
        early_stopping_patience: Stop after this many evaluations without a better `metric_for_best_model` (by default
            the mean of the tasks' scores) and keep the best model; `None`: never.
        optimizer_schedule: One optimiser after the other, each from the best model so far: "tutorial" (see
            `schedule.TUTORIAL`), or a list of stages such as `{"optimizer": "adam", "learning_rate": 1e-4, "epochs":
            80}` (see `schedule.Stage`). It takes the place of `optim`, both learning rates, `weight_decay`, warm-up and
            `lr_scheduler_type`; the best model is that of the lowest validation loss, unless `metric_for_best_model`
            says something else. `None`: one optimiser throughout.

    Source: "Neural Math Rock": 20 epochs, AdamW, 3e-5 and 1e-4, weight decay 0.01, gradient norm 1.0, γ 2,
    smoothing 0.1.
    """

    learning_rate: float = field(default=1e-4, metadata={"help": "Of projections, fusion and heads."})
    backbone_learning_rate: float = field(default=3e-5, metadata={"help": "Of both backbones."})
    num_train_epochs: float = field(default=20.0)
    weight_decay: float = field(default=0.01)
    max_grad_norm: float = field(default=1.0)
    focal_gamma: float | None = field(default=None)
    label_smoothing: float | None = field(default=None)
    class_weights: str = field(default="balanced", metadata={"choices": ["balanced", "none"]})
    task_weights: dict | str | None = field(default=None)
    tuning: str = field(default="full", metadata={"choices": list(TUNINGS)})
    lora_rank: int = field(default=8)
    lora_alpha: float = field(default=16.0)
    lora_dropout: float = field(default=0.0)
    embedding_cache_dir: str | None = field(default=None)
    augment: str = field(default="none", metadata={"choices": list(AUGMENTATIONS)})
    early_stopping_patience: int | None = field(default=None)
    optimizer_schedule: list | str | None = field(default=None)
    # The collator reads the label columns, which the stock default would remove: the model's `forward` names none.
    remove_unused_columns: bool = field(default=False)
    label_names: list[str] | None = field(default_factory=lambda: ["labels"])
    dataloader_pin_memory: bool = field(default_factory=torch.cuda.is_available)  # of use to no one else, and a warning
    report_to: str | list[str] = field(default="none")

    def __post_init__(self) -> None:
        arguments: Any = self  # the base class's own fields have no types here
        if self.optimizer_schedule is not None:
            stages = stages_of(self.optimizer_schedule)  # raises, if it is none
            if any(isinstance(stage, Stage) for stage in self.optimizer_schedule):
                self.optimizer_schedule = [asdict(stage) for stage in stages]
            arguments.metric_for_best_model = arguments.metric_for_best_model or "loss"
        if self.early_stopping_patience is not None or self.optimizer_schedule is not None:
            # Stopping early means keeping the best, so something must be measured and saved.
            arguments.load_best_model_at_end = True
            arguments.metric_for_best_model = arguments.metric_for_best_model or "mean_score"
            if str(arguments.eval_strategy) in ("no", "IntervalStrategy.NO"):
                arguments.eval_strategy = arguments.save_strategy = "epoch"
        super().__post_init__()
        if isinstance(self.task_weights, str) and self.task_weights != "learned":
            try:
                self.task_weights = json.loads(self.task_weights)  # as a command line gives it
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"`task_weights` is {self.task_weights!r}; allowed: 'learned', or a weight per task such as "
                    """'{"tempo": 2}'."""
                ) from error
        for name, allowed in (
            ("class_weights", ("balanced", "none")),
            ("tuning", TUNINGS),
            ("augment", AUGMENTATIONS),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"`{name}` is {getattr(self, name)!r}; allowed: {', '.join(map(repr, allowed))}.")
