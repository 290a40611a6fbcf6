# SPDX-License-Identifier: Apache-2.0
"""Training arguments with the reference's recipe as defaults."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from transformers import TrainingArguments


@dataclass
class MathRockTrainingArguments(TrainingArguments):
    """`TrainingArguments` for the multi-task focal objective; the defaults are the reference's.

    Args:
        backbone_learning_rate: Of both backbones; `learning_rate` is that of projections, fusion and heads.
        focal_gamma: Exponent of the focal factor; `None`: the model config's.
        label_smoothing: Of the multi-label targets; `None`: the model config's.
        class_weights: "balanced": classes of single-label tasks weigh the same in total, counted on the training set;
            "none": every row weighs the same.
        task_weights: Factor of each task in the loss; tasks not named count 1.

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
    # The collator reads the label columns, which the stock default would remove: the model's `forward` names none.
    remove_unused_columns: bool = field(default=False)
    label_names: list[str] | None = field(default_factory=lambda: ["labels"])
    report_to: str | list[str] = field(default="none")

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.task_weights, str):  # as a command line gives it
            self.task_weights = json.loads(self.task_weights)
        if self.class_weights not in ("balanced", "none"):
            raise ValueError(f"`class_weights` is {self.class_weights!r}; allowed: 'balanced', 'none'.")
