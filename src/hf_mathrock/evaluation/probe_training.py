# SPDX-License-Identifier: Apache-2.0
"""Many small probes trained side by side; each as if it were alone.

Probes of one width and batch size differ in learning rate, dropout, L2 and standardisation. They begin with the same
weights, see the same rows in the same order and draw their dropout from the same numbers, so that the grid compares
settings, and a probe alone comes out as it does among others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch.optim.adam import adam

from hf_mathrock.evaluation.probe_grid import ProbeGrid, ProbeSettings

_MOST_WEIGHTS = 24_000_000  # of probes trained at once: with gradients and moments some 500 MB
_MOST_ACTIVATIONS = 16_000_000

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Outputs `(num_probes, num_rows, num_outputs)` and targets of the rows to the sum of the probes' mean losses."""
Score = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Outputs of the validation rows to the score of each probe, and which way of joining clips gave it."""


@dataclass(frozen=True)
class TrainedProbe:
    """A probe at its best evaluation.

    Attributes:
        settings: Of the grid.
        layers: Weights `(in, out)` and biases `(out,)` of each layer, float32.
        score: On the validation rows.
        strategy: Number of the way of joining clips that gave the score.
        step: Steps that it was trained for.
    """

    settings: ProbeSettings
    layers: list[tuple[np.ndarray, np.ndarray]]
    score: float
    strategy: int
    step: int


@dataclass(frozen=True)
class Scaler:
    """Mean and deviation of each number of an embedding over the training rows, `(size,)`."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def fit(cls, rows: np.ndarray) -> Scaler:
        """Those of rows; a number that never changes keeps its deviation of 1."""
        deviation = rows.std(axis=0, dtype=np.float64)
        mean = rows.mean(axis=0, dtype=np.float64)
        # Rounding alone makes the deviation of a constant number a tiny one.
        constant = deviation <= 1e-7 * np.maximum(1.0, np.abs(mean))
        return cls(mean.astype(np.float32), np.where(constant, 1.0, deviation).astype(np.float32))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return (rows - self.mean) / self.deviation


def train_probes(
    rows: np.ndarray,
    targets: np.ndarray,
    validation_rows: np.ndarray,
    num_outputs: int,
    grid: ProbeGrid,
    loss: Loss,
    score: Score,
    *,
    seed: int,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[TrainedProbe]:
    """Train every probe of a grid until it stops.

    Args:
        rows: Embeddings to train on, `(num_rows, size)`.
        targets: Whatever `loss` takes, one per row.
        validation_rows: Embeddings to evaluate on.
        num_outputs: Of a probe.
        grid: The probes.
        loss: What they minimise.
        score: What they stop by; higher is better.
        seed: Of weights, order and dropout.
        device: Where they are trained.
        progress: Called with (probes done, probes).

    Yields:
        The probes, in no order.

    Raises:
        RuntimeError: No score of a probe is a number: it diverged from the first step on.
    """
    scaler = Scaler.fit(rows)
    inputs = torch.from_numpy(np.stack([rows, scaler(rows)])).to(device)
    validation = torch.from_numpy(np.stack([validation_rows, scaler(validation_rows)])).to(device)
    wanted = torch.from_numpy(targets).to(device)
    done = 0
    for settings in _side_by_side(grid.settings, rows.shape[1], num_outputs):
        probes = _Probes(settings, rows.shape[1], num_outputs, seed, device)
        draw = torch.Generator(device).manual_seed(seed)
        step, num_rows = 0, min(settings[0].batch_size, len(rows))
        while probes.settings:
            if step % grid.evaluate_every == 0:
                for finished in probes.note(*score(probes.outputs(validation)), step, grid.patience):
                    done += 1
                    if progress is not None:
                        progress(done, len(grid.settings))
                    yield finished
                if not probes.settings:
                    break
            chosen = torch.randperm(len(rows), generator=draw, device=device)[:num_rows]
            probes.step(inputs[:, chosen], wanted[chosen], loss, draw)
            step += 1


def _side_by_side(settings: Sequence[ProbeSettings], size: int, num_outputs: int) -> Iterator[list[ProbeSettings]]:
    """Settings that can be trained at once, as many as fit."""
    kinds: dict[tuple[int, int], list[ProbeSettings]] = {}
    for point in settings:
        kinds.setdefault((point.hidden_size, point.batch_size), []).append(point)
    for (hidden_size, _), group in kinds.items():
        weights = size * num_outputs if not hidden_size else hidden_size * (size + num_outputs)
        most = max(1, _MOST_WEIGHTS // weights)
        yield from (group[first : first + most] for first in range(0, len(group), most))


class _Probes:
    """The probes of one width that are still in training, and the best that each has been."""

    def __init__(
        self, settings: list[ProbeSettings], size: int, num_outputs: int, seed: int, device: torch.device
    ) -> None:
        self.settings = list(settings)
        self.device = device
        widths = [size, *([settings[0].hidden_size] if settings[0].hidden_size else []), num_outputs]
        begin = torch.Generator().manual_seed(seed)
        # Of each layer: weights (num_probes, in, out) and biases (num_probes, 1, out).
        self.weights: list[torch.Tensor] = []
        for width, next_width in zip(widths[:-1], widths[1:], strict=True):
            for shape in ((width, next_width), (1, next_width)):
                first = (2 * torch.rand(shape, generator=begin) - 1) / width**0.5
                self.weights.append(first.to(device).repeat(len(settings), 1, 1))
        self.moments = [torch.zeros_like(weight) for weight in self.weights]
        self.squares = [torch.zeros_like(weight) for weight in self.weights]
        self.best = [weight.clone() for weight in self.weights]
        self.scores = np.full(len(settings), -np.inf)
        self.strategies = np.zeros(len(settings), dtype=np.int64)
        self.best_steps = np.zeros(len(settings), dtype=np.int64)
        self.waited = np.zeros(len(settings), dtype=np.int64)
        self.num_steps = torch.zeros((), device=device)
        self._arrange()

    def _arrange(self) -> None:
        """What depends on which probes are left."""
        for weight in self.weights:
            weight.requires_grad_(True)
        of_adam = (self.weights, self.moments, self.squares)
        self.views = [[part.detach().unbind() for part in parts] for parts in of_adam]
        self.rates: dict[tuple[float, float], list[int]] = {}
        for probe, point in enumerate(self.settings):
            self.rates.setdefault((point.learning_rate, point.l2), []).append(probe)
        self.standardized = torch.tensor([int(point.standardize) for point in self.settings], device=self.device)
        self.dropout = torch.tensor([point.dropout for point in self.settings], device=self.device).view(-1, 1, 1)

    def step(self, inputs: torch.Tensor, targets: torch.Tensor, loss: Loss, draw: torch.Generator) -> None:
        """One step of Adam of every probe on rows `(2, num_rows, size)`, raw and standardised."""
        outputs = self._forward(inputs[self.standardized], draw)
        gradients = [gradient.unbind() for gradient in torch.autograd.grad(loss(outputs, targets), self.weights)]
        self.num_steps += 1
        with torch.no_grad():
            for (learning_rate, l2), probes in self.rates.items():
                weights, moments, squares = ([part[probe] for part in of for probe in probes] for of in self.views)
                adam(
                    weights,
                    [of[probe] for of in gradients for probe in probes],
                    moments,
                    squares,
                    [],
                    # The step is counted by each call in these.
                    [self.num_steps - 1 for _ in weights],
                    fused=True,
                    amsgrad=False,
                    beta1=0.9,
                    beta2=0.999,
                    lr=learning_rate,
                    weight_decay=l2,
                    eps=1e-8,
                    maximize=False,
                )

    def _forward(self, values: torch.Tensor, draw: torch.Generator | None) -> torch.Tensor:
        """`(num_probes, num_rows, size)` to outputs; with dropout where there is something to draw it from."""
        for layer in range(0, len(self.weights), 2):
            values = F.relu(values) if layer else values
            if draw is not None:
                chances = torch.rand(values.shape[1:], generator=draw, device=self.device)
                values = values * ((chances >= self.dropout) / (1 - self.dropout))
            values = torch.baddbmm(self.weights[layer + 1], values, self.weights[layer])
        return values

    @torch.no_grad()
    def outputs(self, rows: torch.Tensor) -> np.ndarray:
        """Outputs of rows `(2, num_rows, size)`, `(num_probes, num_rows, num_outputs)`."""
        widest = max(weight.shape[1] for weight in self.weights)
        most = max(1, _MOST_ACTIVATIONS // (len(self.settings) * widest))
        parts = [self._forward(part[self.standardized], None) for part in rows.split(most, dim=1)]
        return torch.cat(parts, dim=1).cpu().numpy()

    def note(self, scores: np.ndarray, strategies: np.ndarray, step: int, patience: int) -> list[TrainedProbe]:
        """Keep what is better than before, and take out who has waited long enough or diverged."""
        scores = np.where(np.isnan(scores), -np.inf, scores)
        better = np.flatnonzero(scores > self.scores)
        self.waited += 1
        self.waited[better], self.scores[better], self.strategies[better] = 0, scores[better], strategies[better]
        self.best_steps[better] = step
        for kept, weight in zip(self.best, self.weights, strict=True):
            for probe in better:
                kept[probe].copy_(weight.detach()[probe])
        done = (self.waited >= patience) | np.isneginf(scores)
        finished = [self._finished(int(probe)) for probe in np.flatnonzero(done)]
        if finished:
            left = np.flatnonzero(~done)
            index = torch.from_numpy(left).to(self.device)
            for name in ("weights", "moments", "squares", "best"):
                setattr(self, name, [part.detach()[index] for part in getattr(self, name)])
            for name in ("scores", "strategies", "best_steps", "waited"):
                setattr(self, name, getattr(self, name)[left])
            self.settings = [self.settings[probe] for probe in left]
            self._arrange()
        return finished

    def _finished(self, probe: int) -> TrainedProbe:
        point = self.settings[probe]
        if np.isneginf(self.scores[probe]):
            raise RuntimeError(
                f"a probe has no score from the first step on ({point.as_dict()}). Are there numbers in the embeddings "
                "that are too large to compute with?"
            )
        arrays = [part[probe].cpu().numpy() for part in self.best]
        layers = [(weights, biases[0]) for weights, biases in zip(arrays[::2], arrays[1::2], strict=True)]
        return TrainedProbe(
            point, layers, float(self.scores[probe]), int(self.strategies[probe]), int(self.best_steps[probe])
        )
