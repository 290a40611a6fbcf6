# SPDX-License-Identifier: Apache-2.0
"""One optimiser after the other at fixed epochs, each beginning from the best weights so far.

    stages = [Stage("adam", 1e-4, epochs=80, weight_decay=1e-4), Stage("sgd", 1e-3, weight_decay=1e-4)]
    schedule = OptimizerSchedule(stages)
    args = TrainingArguments(..., **SCHEDULE_ARGUMENTS)
    Trainer(model, args, ..., optimizers=schedule.optimizers(model), callbacks=[schedule]).train()

`MathRockTrainer` does all that by itself for the argument `optimizer_schedule`.
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch.optim.adam import adam
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.sgd import sgd
from transformers import TrainerCallback

logger = logging.getLogger(__name__)

Algorithm = Literal["adam", "adamw", "sgd"]

SCHEDULE_ARGUMENTS: dict[str, Any] = {
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "load_best_model_at_end": True,
    "metric_for_best_model": "loss",
    "greater_is_better": False,
}
"""What a schedule needs of `TrainingArguments`: the model is measured and saved after each epoch, the best one kept."""


@dataclass(frozen=True)
class Stage:
    """One optimiser and how long it is at work; every parameter gets the same rate and decay.

    Attributes:
        optimizer: "adam", "adamw" or "sgd"; decay is L2 in "adam" and "sgd", as in torch.
        learning_rate: Constant throughout.
        epochs: How many; `None`, of the last stage: until training ends.
        weight_decay: Of all parameters, norms and biases too.
        momentum: Of "sgd".
        nesterov: Of "sgd".
        betas: Of "adam" and "adamw".
        epsilon: Likewise.
    """

    optimizer: Algorithm
    learning_rate: float
    epochs: int | None = None
    weight_decay: float = 0.0
    momentum: float = 0.9
    nesterov: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        if self.optimizer not in get_args(Algorithm):
            raise ValueError(
                f"`optimizer` of a stage is {self.optimizer!r}; allowed: {', '.join(map(repr, get_args(Algorithm)))}."
            )
        for name in ("learning_rate", "weight_decay", "momentum", "epsilon"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise ValueError(f"`{name}` of a stage is {value!r}; a number of at least 0 is wanted.")
        if self.epochs is not None and (type(self.epochs) is not int or self.epochs < 1):
            raise ValueError(f"`epochs` of a stage is {self.epochs!r}; a whole number of at least 1 is wanted.")
        if self.nesterov and self.optimizer == "sgd" and self.momentum == 0:
            raise ValueError("`nesterov` wants `momentum` above 0; give `nesterov: false` for plain SGD.")
        betas = tuple(self.betas) if isinstance(self.betas, (list, tuple)) else ()
        if len(betas) != 2 or not all(type(beta) in (int, float) and 0 <= beta < 1 for beta in betas):
            raise ValueError(f"`betas` of a stage is {self.betas!r}; two numbers in [0, 1) are wanted.")
        object.__setattr__(self, "betas", tuple(map(float, betas)))

    def group_options(self, number: int) -> dict[str, Any]:
        """Options of a parameter group in this stage, plain values: they go into checkpoints."""
        return {
            "stage": number,
            "algorithm": self.optimizer,
            "lr": float(self.learning_rate),
            "weight_decay": float(self.weight_decay),
            "momentum": float(self.momentum),
            "nesterov": self.nesterov,
            "betas": self.betas,
            "eps": float(self.epsilon),
        }


TUTORIAL = (
    Stage("adam", 1e-4, epochs=80, weight_decay=1e-4),
    Stage("sgd", 1e-3, epochs=20, weight_decay=1e-4),
    Stage("sgd", 1e-4, epochs=20, weight_decay=1e-4),
    Stage("sgd", 1e-5, weight_decay=1e-4),
)
"""The schedule of the music-classification tutorial's benchmark, 200 epochs in all.

Source: Won, Ferraro, Bogdanov and Serra, "Evaluation of CNN-based automatic music tagging models", 2020,
https://arxiv.org/abs/2006.00751, and their code, https://github.com/minzwon/sota-music-tagging-models.
"""


def stages_of(schedule: Any) -> tuple[Stage, ...]:
    """The stages that a recipe names.

    Args:
        schedule: "tutorial", or a list of stages: `Stage` or dictionaries of its fields.

    Raises:
        ValueError: It is neither, a stage has an unknown or missing field, or a stage before the last has no `epochs`.
    """
    if schedule == "tutorial":
        return TUTORIAL
    if isinstance(schedule, (str, Mapping)) or not isinstance(schedule, Iterable):
        raise ValueError(f"`optimizer_schedule` is {schedule!r}; allowed: 'tutorial', or a list of stages.")
    stages = tuple(stage if isinstance(stage, Stage) else _stage(stage) for stage in schedule)
    if not stages:
        raise ValueError("`optimizer_schedule` has no stage.")
    for number, stage in enumerate(stages[:-1], 1):
        if stage.epochs is None:
            raise ValueError(f"Stage {number} of `optimizer_schedule` has no `epochs`, so the next one never begins.")
    return stages


def _stage(fields: Any) -> Stage:
    if not isinstance(fields, Mapping):
        raise ValueError(f"A stage of `optimizer_schedule` is {fields!r}; it must map fields to values.")
    known = [field.name for field in dataclasses.fields(Stage)]
    for name in fields:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"its fields are {', '.join(known)}."
            raise ValueError(f"A stage of `optimizer_schedule` has no {name!r}; {hint}")
    if missing := [name for name in ("optimizer", "learning_rate") if name not in fields]:
        raise ValueError(f"A stage of `optimizer_schedule` lacks {' and '.join(missing)}.")
    return Stage(**fields)


class StagedOptimizer(torch.optim.Optimizer):
    """Adam, AdamW or SGD with momentum, whichever the stage says.

    The stage stands in the parameter groups, so a state dict restores it like everything else.

    Args:
        parameters: Parameters, or parameter groups; one with `undecayed` true has no weight decay in any stage.
        stage: The first stage.

    Source: updates are `torch.optim`'s own functions, so a stage is bit for bit `torch.optim.Adam` and the like.
    """

    def __init__(self, parameters: Any, stage: Stage) -> None:
        super().__init__(parameters, {"undecayed": False, **stage.group_options(0)})
        self.begin(0, stage)

    @property
    def stage(self) -> int:
        """Number of the stage it is in, from 0."""
        return int(self.param_groups[0]["stage"])

    def begin(self, number: int, stage: Stage) -> None:
        """Go over to another stage; nothing of what was gathered over past gradients is kept."""
        self.state.clear()
        for group in self.param_groups:
            group.update(stage.group_options(number))
            if group["undecayed"]:
                group["weight_decay"] = 0.0

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters and group["algorithm"] == "sgd":
                self._sgd(group, parameters)
            elif parameters:
                self._adam(group, parameters)
        return loss

    def _adam(self, group: dict[str, Any], parameters: list[torch.Tensor]) -> None:
        states = [self.state[parameter] for parameter in parameters]
        for state, parameter in zip(states, parameters, strict=True):
            if not state:
                state["step"] = torch.tensor(0.0)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        adam(
            parameters,
            _gradients(parameters),
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            decoupled_weight_decay=group["algorithm"] == "adamw",
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

    def _sgd(self, group: dict[str, Any], parameters: list[torch.Tensor]) -> None:
        buffers = [self.state[parameter].get("momentum_buffer") for parameter in parameters]
        sgd(
            parameters,
            _gradients(parameters),
            buffers,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            dampening=0.0,
            nesterov=group["nesterov"],
            maximize=False,
        )
        for parameter, buffer in zip(parameters, buffers, strict=True):
            if buffer is not None:
                self.state[parameter]["momentum_buffer"] = buffer


def _gradients(parameters: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


class StageRates(LRScheduler):
    """Leaves the learning rate to the stages, and knows it for the log."""

    def get_lr(self) -> list[float]:  # type: ignore[override]
        return [group["lr"] for group in self.optimizer.param_groups]

    def follow(self) -> None:
        """Take note of the rates of a stage that has just begun."""
        self._last_lr = list(self.get_lr())


class OptimizerSchedule(TrainerCallback):
    """Begins each stage at its epoch, from the best weights so far, and leaves the rest to the `Trainer`.

    The best weights are those of the trainer's best checkpoint, by `metric_for_best_model`: the lowest validation loss
    with `SCHEDULE_ARGUMENTS`, which also make the last model the best of all. They lie in the output folder, where the
    trainer keeps them whatever `save_total_limit` is. Which stage a run is in stands in its optimizer, and with it in
    every checkpoint: a resumed run neither misses a change of stage nor makes it twice.

    Args:
        stages: In order; the last one lasts until training ends.
        reload: Loads the best weights into the model being trained; `None`: from the checkpoint's safetensors files.
    """

    def __init__(self, stages: Sequence[Stage] | str, reload: Callable[[], None] | None = None) -> None:
        self.stages = stages_of(stages)
        self._reload = reload

    def optimizers(self, model: Any) -> tuple[StagedOptimizer, StageRates]:
        """What to give a `Trainer` as `optimizers`, over all trainable parameters of a model."""
        optimizer = self.optimizer([parameter for parameter in model.parameters() if parameter.requires_grad])
        return optimizer, StageRates(optimizer)

    def optimizer(self, parameters: Any) -> StagedOptimizer:
        """The optimizer in its first stage, over parameters or groups of them."""
        return StagedOptimizer(parameters, self.stages[0])

    def first_epochs(self) -> list[int]:
        """The epoch, from 0, that each stage begins with."""
        first = [0]
        for stage in self.stages[:-1]:
            first.append(first[-1] + (stage.epochs or 0))
        return first

    def stage_at(self, epoch: float) -> int:
        """Number of the stage that an epoch (from 0) belongs to."""
        # Epochs are counted in fractions; a whole one may be a rounding short.
        return sum(first <= epoch + 1e-6 for first in self.first_epochs()) - 1

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not args.load_best_model_at_end or str(getattr(args.eval_strategy, "value", args.eval_strategy)) == "no":
            raise ValueError(
                "A schedule of stages goes on from the best model, so models must be measured and kept: pass "
                "**SCHEDULE_ARGUMENTS to the training arguments."
            )
        optimizer = _staged(kwargs["optimizer"])
        if optimizer.stage >= len(self.stages):
            raise ValueError(
                f"The checkpoint is in stage {optimizer.stage + 1}, and this schedule has {len(self.stages)}: resume "
                "it with the schedule that it began with."
            )
        never = [first for first in self.first_epochs() if first >= args.num_train_epochs]
        if never and args.max_steps <= 0:
            logger.warning(
                "%d of the %d stages never begin: training ends after %g epochs, before epoch %d.",
                len(never),
                len(self.stages),
                args.num_train_epochs,
                never[0] + 1,
            )

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        optimizer = _staged(kwargs["optimizer"])
        number = self.stage_at(state.epoch or 0.0)
        if number == optimizer.stage:
            return
        if number == 0:  # trained once more
            self._begin(optimizer, kwargs["lr_scheduler"], 0)
            return
        if state.best_model_checkpoint is None:
            raise ValueError(
                f"Stage {number + 1} of the schedule begins from the best model, and no evaluation has found one: is "
                "there a validation set, and was its loss a number?"
            )
        if self._reload is not None:
            self._reload()
        else:
            load_weights(kwargs["model"], state.best_model_checkpoint)
        self._begin(optimizer, kwargs["lr_scheduler"], number)
        logger.info(
            "Stage %d (%s, %g) goes on from %s.",
            number + 1,
            self.stages[number].optimizer,
            self.stages[number].learning_rate,
            state.best_model_checkpoint,
        )

    def _begin(self, optimizer: StagedOptimizer, scheduler: Any, number: int) -> None:
        optimizer.begin(number, self.stages[number])
        getattr(scheduler, "scheduler", scheduler).follow()


def load_weights(model: torch.nn.Module, folder: str | Path) -> None:
    """Load the weights that `save_pretrained` wrote, in one file or several, into a model in place.

    Raises:
        FileNotFoundError: There are none in safetensors files.
        RuntimeError: They are of another model.
    """
    from safetensors.torch import load_file

    files = sorted(Path(folder).glob("model*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder} has no model.safetensors; was it removed while training went on?")
    weights = {name: tensor for file in files for name, tensor in load_file(file).items()}
    found = model.load_state_dict(weights, strict=False)
    # Of tied weights one is enough.
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    if missing := [name for name in found.missing_keys if name not in tied] + list(found.unexpected_keys):
        raise RuntimeError(f"The weights in {folder} are of another model; they differ in {', '.join(missing[:5])}.")


def _staged(optimizer: Any) -> StagedOptimizer:
    inner = getattr(optimizer, "optimizer", optimizer)
    if not isinstance(inner, StagedOptimizer):
        raise ValueError(
            f"The optimizer is a {type(inner).__name__}, which knows no stages: pass "
            "optimizers=schedule.optimizers(model) to the Trainer beside the callback."
        )
    return inner
