# SPDX-License-Identifier: Apache-2.0
"""Arguments of Myna's contrastive pretraining."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainingArguments

LOSSES = ("info_nce", "sogclr")
CONVEX_WEIGHTS = ("optimal", "learned")


@dataclass
class MynaTrainingArguments(TrainingArguments):
    """`TrainingArguments` for contrastive pretraining.

    Accumulated batches are compared among themselves only; for more negatives than memory allows set
    `micro_batch_size`, whose gradients are those of the whole batch.

    Args:
        learning_rate: At its highest; `None`: `base_learning_rate` by the batch.
        base_learning_rate: For batches of 1024 tracks, in all processes and accumulated steps together.
        warmup_steps: Below 1 a share of all steps.
        weight_decay: Of matrices; norms, biases, tables and tokens are not decayed.
        temperature: Of the contrastive loss; `None`: the model config's.
        loss: "info_nce": of a batch; "sogclr": with weights that remember each track, for small batches.
        one_way: Only first crops seek second ones; "info_nce" only.
        sogclr_gamma: See `SogCLR`.
        micro_batch_size: Rows that are embedded at once with gradients, in each process; the loss still compares all
            of the batch. About a third more computation. `None`: all rows.
        draws_per_crop: How often each crop is embedded, each time with other tokens; the contrastive loss is averaged.
        kmeans_weight: Of `SphericalKMeans`, 0.1 is a beginning; 0: none.
        kmeans_clusters: Number of its clusters.
        kmeans_temperature: `None`: the nearest centroid alone counts.
        kmeans_decay: What is left of centroids after a batch.
        kmeans_sinkhorn_iterations: 3 for clusters of about equal size; 0: each row to its nearest.
        convex_weight: Of `ConvexCombination`; above 0 it needs two `draws_per_crop`, or a hull is one point.
        convex_weights: "optimal": each track's nearest point of the hull; "learned": one mixture for all.
        width_weight: Of the clusters' width, which is made larger; needs `kmeans_weight`.
        term_ramp: Shares of the training between which these terms come in, after the contrastive loss has formed the
            space.

    Source: AdamW (0.9, 0.95), 0.05, a cosine with 5 % warm-up and the scaled rate are our choice; temperature and gamma
    are those of Myna.
    """

    learning_rate: float | None = field(default=None)
    base_learning_rate: float = field(default=5e-4)
    num_train_epochs: float = field(default=100.0)
    warmup_steps: float = field(default=0.05)
    lr_scheduler_type: str = field(default="cosine")
    adam_beta2: float = field(default=0.95)
    weight_decay: float = field(default=0.05)
    max_grad_norm: float = field(default=1.0)
    temperature: float | None = field(default=None)
    loss: str = field(default="info_nce", metadata={"choices": list(LOSSES)})
    one_way: bool = field(default=False)
    sogclr_gamma: float = field(default=0.9)
    micro_batch_size: int | None = field(default=None)
    draws_per_crop: int = field(default=1)
    kmeans_weight: float = field(default=0.0)
    kmeans_clusters: int = field(default=64)
    kmeans_temperature: float | None = field(default=None)
    kmeans_decay: float = field(default=0.99)
    kmeans_sinkhorn_iterations: int = field(default=0)
    convex_weight: float = field(default=0.0)
    convex_weights: str = field(default="optimal", metadata={"choices": list(CONVEX_WEIGHTS)})
    width_weight: float = field(default=0.0)
    term_ramp: list[float] = field(default_factory=lambda: [0.1, 0.2])
    dataloader_drop_last: bool = field(default=True)  # of training; a few last rows would have few negatives
    remove_unused_columns: bool = field(default=False)  # the collator makes of rows what the model hears
    label_names: list[str] | None = field(default_factory=lambda: ["track_ids"])
    # Nothing in the model is a running statistic, and every parameter has a gradient.
    ddp_broadcast_buffers: bool | None = field(default=False)
    ddp_find_unused_parameters: bool | None = field(default=False)
    dataloader_pin_memory: bool = field(default_factory=torch.cuda.is_available)
    report_to: str | list[str] = field(default="none")

    def __post_init__(self) -> None:
        arguments: Any = self  # the base class's own fields have no types here
        given_rate = self.learning_rate
        arguments.learning_rate = self.base_learning_rate if given_rate is None else given_rate
        super().__post_init__()
        self._check()
        if given_rate is None:
            arguments.learning_rate = self.base_learning_rate * self.tracks_per_step / 1024

    @property
    def tracks_per_batch(self) -> int:
        """Tracks that are compared with each other: those of one batch of all processes."""
        return self.train_batch_size * self.world_size

    @property
    def tracks_per_step(self) -> int:
        """Tracks behind one change of the weights."""
        return self.tracks_per_batch * self.gradient_accumulation_steps

    def _check(self) -> None:
        for name, allowed in (("loss", LOSSES), ("convex_weights", CONVEX_WEIGHTS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"`{name}` is {getattr(self, name)!r}; allowed: {', '.join(map(repr, allowed))}.")
        for name, lowest, highest in (
            ("temperature", 0.0, float("inf")),
            ("kmeans_temperature", 0.0, float("inf")),
            ("sogclr_gamma", 0.0, 1.0),
            ("base_learning_rate", 0.0, float("inf")),
        ):
            value = getattr(self, name)
            if value is not None and not lowest < value <= highest:
                limit = "" if highest == float("inf") else f" and at most {highest:g}"
                raise ValueError(f"`{name}` is {value}; it must be above {lowest:g}{limit}.")
        if not 0 <= self.kmeans_decay < 1:
            raise ValueError(f"`kmeans_decay` is {self.kmeans_decay}; it is what is left after a batch, in [0, 1).")
        for name in ("kmeans_weight", "convex_weight", "width_weight", "kmeans_sinkhorn_iterations"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` is {getattr(self, name)}; it must be at least 0, which leaves it out.")
        for name in ("micro_batch_size", "draws_per_crop", "kmeans_clusters"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` is {value}; it must be at least 1.")
        ramp = self.term_ramp
        if not (isinstance(ramp, list | tuple) and len(ramp) == 2 and 0 <= ramp[0] <= ramp[1] <= 1):
            raise ValueError(f"`term_ramp` is {ramp!r}; it is two shares of the training, such as [0.1, 0.2].")
        if self.one_way and self.loss == "sogclr":
            raise ValueError("`one_way` is of 'info_nce'; 'sogclr' has both views among its anchors and negatives.")
        if self.convex_weight and self.draws_per_crop < 2:
            raise ValueError(
                f"`convex_weight` is {self.convex_weight}, but each track has one other view, whose hull is a point: "
                "set `draws_per_crop` to 2 or more."
            )
        if self.width_weight and not self.kmeans_weight:
            raise ValueError(
                f"`width_weight` is {self.width_weight} without clusters; it would blow all apart. Set `kmeans_weight`."
            )
