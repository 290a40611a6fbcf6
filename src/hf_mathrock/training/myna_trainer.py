# SPDX-License-Identifier: Apache-2.0
"""`Trainer` for Myna's contrastive pretraining: all views of all processes are compared, whatever fits into memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.data import IterableDataset, SequentialSampler
from transformers import Trainer

from hf_mathrock.data.crops import CropBatches, CropCollator
from hf_mathrock.training.checkpoints import VerifiedCheckpoints
from hf_mathrock.training.clustering_terms import SphericalKMeans
from hf_mathrock.training.contrastive_terms import ContrastiveObjective, ConvexCombination
from hf_mathrock.training.distributed import num_processes
from hf_mathrock.training.divergence import NonFiniteLossError, non_finite_gradient
from hf_mathrock.training.gathering import gather_rows
from hf_mathrock.training.gradient_cache import cached_rows
from hf_mathrock.training.myna_arguments import MynaTrainingArguments
from hf_mathrock.training.pair_retrieval import pair_retrieval
from hf_mathrock.training.replay import SeededCollator, SeededRows

OBJECTIVE_FILE = "contrastive_objective.safetensors"
NUM_NAMED = 8


class MynaTrainer(VerifiedCheckpoints, Trainer):
    """Train `MynaForPreTraining`, or any model that projects two views of each track.

    The rows of `train_dataset` become batches by `data_collator` (by default a `CropCollator`, for `CropBatches`):
    `input_features` and `other_features`, crops of the same tracks, `track_ids`, and perhaps masks and `keep_ratio`.
    Of each row the model gives `projections`.

    The loss is over the batches of all processes, see `ContrastiveObjective`; two processes of half the batch train as
    one does, and micro-batches as whole ones. Evaluation reports the loss and how often a crop finds the other crop of
    its track, among all of the evaluation set (see `pair_retrieval`); what it hears does not change from one evaluation
    to the next. Checkpoints and resuming are described at `VerifiedCheckpoints`.

    Attributes:
        objective: The loss, with what it remembers.
    """

    args: MynaTrainingArguments
    model: Any
    data_collator: Any
    optimizer: Any

    def __init__(
        self,
        model: Any = None,
        args: MynaTrainingArguments | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        compute_metrics: Any = None,
        eval_data_collator: Any = None,
        **kwargs: Any,
    ) -> None:
        if find_spec("accelerate") is None:
            raise ImportError('Training needs accelerate: pip install "hf-mathrock[train]"')
        if model is None:
            raise ValueError("Pass a `model`, such as `MynaForPreTraining(MynaConfig())`.")
        args = args or MynaTrainingArguments("trainer_output")
        if not isinstance(args, MynaTrainingArguments):
            raise ValueError(f"`args` is a {type(args).__name__}; MynaTrainer takes MynaTrainingArguments.")
        if args.fp16 and args.device.type == "cpu":
            raise ValueError("`fp16` needs a GPU, and this run is on the CPU: train with `bf16`, or with neither.")
        _check_batches(train_dataset, args)
        if isinstance(train_dataset, IterableDataset) and args.accelerator_config.dispatch_batches is None:
            args.accelerator_config.dispatch_batches = False  # batches hold more than tensors
        data_collator = data_collator or CropCollator()
        self._eval_collator = eval_data_collator or data_collator
        self.temperature = model.config.temperature if args.temperature is None else args.temperature
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            compute_metrics=compute_metrics or self._retrieval,
            **kwargs,
        )
        # The loss is a mean over each batch, so the Trainer divides it by the accumulation steps itself.
        self.model_accepts_loss_kwargs = False
        self.objective = _objective(args, self.temperature).to(args.device)
        self._terms: dict[str, torch.Tensor] = {}  # sums since the last log
        self._num_batches: dict[str, int] = {}  # likewise

    # The loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The loss over the batches of all processes, and this process's projections if outputs are asked for."""
        own = self._views(model, inputs)
        size = own[0].shape[1]
        gathered = gather_rows(torch.cat(own, dim=1))
        views = list(gathered.split(size, dim=1))
        track_ids = inputs.get("track_ids")
        if track_ids is None:
            # A row of its own for each; SogCLR would take them for the same tracks in every batch.
            if self.objective.sogclr is not None:
                raise ValueError("`loss` 'sogclr' remembers every track: batches must have `track_ids`.")
            track_ids = torch.arange(len(gathered), device=gathered.device)
        else:
            track_ids = gather_rows(track_ids)
        self.objective.train(model.training)
        loss, terms = self.objective(views, track_ids, self._ramp())
        if model.training:
            if not torch.isfinite(loss):
                raise self._non_finite(inputs, views, track_ids, terms)
            for name, term in terms.items():
                self._terms[name] = self._terms.get(name, 0) + term
                self._num_batches[name] = self._num_batches.get(name, 0) + 1
        if return_outputs:
            return loss, {"projections": own[0], "other_projections": own[1]}
        return loss

    def _ramp(self) -> float:
        """How far the terms beside the contrastive one have come in, 0 to 1."""
        start, end = (share * self.state.max_steps for share in self.args.term_ramp)
        passed = self.state.global_step - start
        return 0.0 if passed < 0 else min(1.0, (passed + 1) / max(1.0, end - start + 1))

    def _views(self, model: nn.Module, inputs: Mapping[str, Any]) -> list[torch.Tensor]:
        """Projections of first and second crops, `(batch_size, size)` each, as often as each crop is drawn."""
        crops = [
            (inputs["input_features"], inputs.get("attention_mask")),
            (inputs["other_features"], inputs.get("other_attention_mask")),
        ]
        num_draws = self.args.draws_per_crop if model.training else 1
        batch_size = len(crops[0][0])
        options = {} if inputs.get("keep_ratio") is None else {"keep_ratio": float(inputs["keep_ratio"])}
        rows = self.args.micro_batch_size or batch_size
        if model.training and rows < batch_size * num_draws and self.args.micro_batch_size is not None:
            passes: list[Callable[[], torch.Tensor]] = []
            for features, mask in crops:
                indices = torch.arange(batch_size, device=features.device).repeat(num_draws)
                passes += [partial(self._embed, model, features, mask, part, options) for part in indices.split(rows)]
            no_sync = getattr(model, "no_sync", nullcontext)
            both = cached_rows(passes, no_sync, self.args.device).chunk(2)
        else:
            (features, mask), (other, other_mask) = (_repeated(crop, num_draws) for crop in crops)
            outputs = model(
                input_features=features,
                attention_mask=mask,
                other_features=other,
                other_attention_mask=other_mask,
                **options,
            )
            both = outputs["projections"], outputs["other_projections"]
        draws = [view.split(batch_size) for view in both]
        return [view for pair in zip(*draws, strict=True) for view in pair]

    def _embed(
        self,
        model: nn.Module,
        features: torch.Tensor,
        mask: torch.Tensor | None,
        rows: torch.Tensor,
        options: Mapping[str, Any],
    ) -> torch.Tensor:
        with self.compute_loss_context_manager():  # on the way back too, which lies outside the stock one
            mask = None if mask is None else mask[rows]
            return model(input_features=features[rows], attention_mask=mask, **options)["projections"]

    def _non_finite(
        self,
        inputs: Mapping[str, Any],
        views: Sequence[torch.Tensor],
        track_ids: torch.Tensor,
        terms: Mapping[str, torch.Tensor],
    ) -> NonFiniteLossError:
        values = ", ".join(f"{name} {term.item():.4g}" for name, term in terms.items())
        broken = track_ids[~torch.stack([view.isfinite().all(dim=1) for view in views]).all(dim=0)].tolist()
        named = ", ".join(map(str, broken[:NUM_NAMED])) + (", ..." if len(broken) > NUM_NAMED else "")
        heard = [inputs[name] for name in ("input_features", "other_features")]
        if not all(features.isfinite().all() for features in heard):
            advice = "Their spectrograms hold values that are not finite: look at these files."
        elif len(broken) == len(track_ids):
            advice = "All rows are affected, so the weights have diverged: lower the learning rate, or raise warm-up."
        else:
            advice = "Their spectrograms are finite in this process; a lower learning rate, or bf16 for fp16, may help."
        return NonFiniteLossError(
            f"The loss of training step {self.state.global_step + 1} is not finite ({values}); so are projections of "
            f"{len(broken)} of {len(track_ids)} tracks (by number: {named or 'none'}). Nothing was updated, and "
            f"checkpoints stay as they are. {advice}"
        )

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """The stock step; a gradient that is no number stops the training before the weights are changed."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        # With a gradient scaler (fp16) overflows are part of the play: it passes over their steps.
        if self.accelerator.sync_gradients and self.accelerator.scaler is None:
            norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
            if not torch.isfinite(norm):
                raise non_finite_gradient(model, step=self.state.global_step + 1)
        return loss

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The stock batches of one optimiser step, before which learned terms have no gradient."""
        self.objective.zero_grad()
        return super().get_batch_samples(*args, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the mean of each term since the last time to a training log, where there are several."""
        if "loss" in logs and self._terms:
            # Every process computes the same, of the rows of all.
            means = {name: (total / self._num_batches[name]).item() for name, total in self._terms.items()}
            if set(means) != {"contrastive"}:
                named = {"width": "width"}  # the one that is made larger
                logs.update({named.get(name, f"loss_{name}"): round(mean, 4) for name, mean in means.items()})
            self._terms, self._num_batches = {}, {}
        super().log(logs, *args, **kwargs)

    # The optimiser

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Weights of linear layers and convolutions."""
        return [
            f"{name}.weight".removeprefix(".")
            for name, module in model.named_modules()
            if isinstance(module, (nn.Linear, _ConvNd))
        ]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The stock optimiser, which learns mixtures of the objective too."""
        first = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if first and (learned := list(self.objective.parameters())):
            optimizer.add_param_group({"params": learned, "weight_decay": 0.0})
        return optimizer

    # Data

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if isinstance(dataset, CropBatches):
            return SequentialSampler(dataset)  # it has its own order, which batches of one length depend on
        return super()._get_train_sampler(train_dataset)

    def _get_dataloader(
        self,
        dataset: Any,
        description: str,
        batch_size: int,
        sampler_fn: Any = None,
        is_training: bool = False,
        dataloader_key: str | None = None,
    ) -> Any:
        if is_training:
            return super()._get_dataloader(dataset, description, batch_size, sampler_fn, is_training, dataloader_key)
        # Every evaluation hears the same crops, to the last one.
        epoch, rows, collator = torch.zeros((), dtype=torch.int64), dataset, self.data_collator
        sampler = None if sampler_fn is None else lambda _: sampler_fn(dataset)
        if hasattr(dataset, "__len__") and not isinstance(dataset, IterableDataset):
            rows = SeededRows(dataset, self.args.seed, epoch)
        drop_last = self.args.dataloader_drop_last
        self.data_collator = SeededCollator(self._eval_collator, self.args.seed, epoch, self.args.process_index)
        self.args.dataloader_drop_last = False
        try:
            return super()._get_dataloader(rows, description, batch_size, sampler, is_training, dataloader_key)
        finally:
            self.data_collator, self.args.dataloader_drop_last = collator, drop_last

    # Evaluation

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """The stock loop; what it draws is the same every time, and not missing in the training."""
        with self._fixed_random_numbers():
            return super().evaluation_loop(*args, **kwargs)

    @contextmanager
    def _fixed_random_numbers(self) -> Any:
        device = self.args.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.default_generator.manual_seed(self.args.seed)
            if device.type == "cuda":
                torch.cuda.manual_seed(self.args.seed)
            yield

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[None, tuple[torch.Tensor, ...], torch.Tensor]:
        """Both projections of each row, and its track; the loss is that of all rows together."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            views = self._views(model, inputs)
        track_ids = inputs.get("track_ids")
        if track_ids is None:
            track_ids = torch.full((len(views[0]),), -1, device=views[0].device)
        return None, tuple(view.float() for view in views), track_ids

    def _retrieval(self, prediction: Any) -> dict[str, float]:
        first, other = (torch.from_numpy(view) for view in prediction.predictions)
        ids = torch.from_numpy(prediction.label_ids)
        return pair_retrieval(
            first, other, self.temperature, None if (ids < 0).any() else ids, symmetric=not self.args.one_way
        )

    # Checkpoints

    def _save_extra_state(self, folder: str) -> None:
        """What the objective remembers belongs into a checkpoint: it is no part of the model."""
        from safetensors.torch import save

        if state := self.objective.state_dict():
            contiguous = {name: tensor.contiguous() for name, tensor in state.items()}
            (Path(folder) / OBJECTIVE_FILE).write_bytes(save(contiguous))

    def _load_extra_state(self, folder: str) -> None:
        from safetensors.torch import load

        file = Path(folder) / OBJECTIVE_FILE
        self.objective.restore(load(file.read_bytes()) if file.exists() else {})


def _objective(args: MynaTrainingArguments, temperature: float) -> ContrastiveObjective:
    kmeans = convex = None
    if args.kmeans_weight:
        kmeans = SphericalKMeans(
            args.kmeans_clusters, args.kmeans_temperature, args.kmeans_decay, args.kmeans_sinkhorn_iterations
        )
    if args.convex_weight:
        convex = ConvexCombination(2 * args.draws_per_crop - 1, learned=args.convex_weights == "learned")
    return ContrastiveObjective(
        temperature,
        loss=args.loss,
        symmetric=not args.one_way,
        sogclr_gamma=args.sogclr_gamma,
        kmeans=kmeans,
        kmeans_weight=args.kmeans_weight,
        convex=convex,
        convex_weight=args.convex_weight,
        width_weight=args.width_weight,
        seed=args.seed,
    )


def _repeated(
    crop: tuple[torch.Tensor, torch.Tensor | None], num_draws: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    if num_draws == 1:
        return crop
    features, mask = crop
    return features.repeat(num_draws, 1, 1), None if mask is None else mask.repeat(num_draws, 1)


def _check_batches(dataset: Any, args: MynaTrainingArguments) -> None:
    """Refuse batches without negatives, or that cannot be filled."""
    if dataset is None:
        return
    size = args.tracks_per_batch
    told = f"`per_device_train_batch_size` {args.per_device_train_batch_size} in {max(1, num_processes())} process(es)"
    if size < 2:
        raise ValueError(f"A batch is one track ({told}): with none to tell it from, nothing is learned.")
    if isinstance(dataset, CropBatches):
        if dataset.batch_size != size:
            raise ValueError(
                f"`CropBatches` makes batches of {dataset.batch_size} and the arguments ask for {size} ({told}); they "
                "must be equal: the rows of a batch have one length."
            )
    elif hasattr(dataset, "__len__") and args.dataloader_drop_last and len(dataset) < size:
        raise ValueError(
            f"The training set has {len(dataset)} tracks, fewer than a batch of {size} ({told}), and only whole "
            "batches are trained on: lower `per_device_train_batch_size`, or add tracks."
        )
