# SPDX-License-Identifier: Apache-2.0
"""Which probes are tried on an embedding, and when one stops.

Source: JukeMIR (Castellon, Donahue and Liang, "Codified audio language modeling learns useful representations for music
information retrieval", ISMIR 2021), whose grid and stopping rule "jukemir" is, point by point.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import product
from typing import Any


@dataclass(frozen=True)
class ProbeSettings:
    """One point of a grid.

    Attributes:
        standardize: Whether each number of the embedding is brought to mean 0 and deviation 1 by those of the training
            rows.
        hidden_size: Width of the hidden layer (ReLU); 0: the probe is linear.
        batch_size: Rows in a step.
        learning_rate: Of Adam.
        dropout: Share of the embedding, and of the hidden layer, that is left out in training.
        l2: Weight of the squared weights, which Adam's gradient has a part of.
    """

    standardize: bool
    hidden_size: int
    batch_size: int
    learning_rate: float
    dropout: float
    l2: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)


@dataclass(frozen=True)
class ProbeGrid:
    """The probes to try.

    Attributes:
        settings: In order; of equally good ones the first is taken.
        patience: A probe stops after so many evaluations in a row that are no better than its best.
        evaluate_every: Steps between two evaluations on the validation rows; the first is before any step.
    """

    settings: tuple[ProbeSettings, ...]
    patience: int
    evaluate_every: int = 8


def _points(**choices: tuple[Any, ...]) -> tuple[ProbeSettings, ...]:
    return tuple(ProbeSettings(**dict(zip(choices, point, strict=True))) for point in product(*choices.values()))


GRIDS: dict[str, ProbeGrid] = {
    "jukemir": ProbeGrid(
        _points(
            standardize=(False, True),
            hidden_size=(0, 512),
            batch_size=(64, 256),
            learning_rate=(1e-5, 1e-4, 1e-3),
            dropout=(0.25, 0.5, 0.75),
            l2=(0.0, 1e-4, 1e-3),
        ),
        patience=256,
    ),
    # A part of it that takes seconds. Its figures are no figures of JukeMIR's protocol.
    "fast": ProbeGrid(
        _points(
            standardize=(True,),
            hidden_size=(0, 512),
            batch_size=(64,),
            learning_rate=(1e-3,),
            dropout=(0.25, 0.75),
            l2=(1e-3,),
        ),
        patience=32,
    ),
}


def probe_grid(grid: str | ProbeGrid) -> ProbeGrid:
    """The grid of a name.

    Raises:
        ValueError: There is none of this name, or a grid without points.
    """
    if isinstance(grid, ProbeGrid):
        if not grid.settings or grid.patience < 1 or grid.evaluate_every < 1:
            raise ValueError(f"a grid needs at least one point, and patience and steps of at least 1; it is {grid}.")
        return grid
    if grid not in GRIDS:
        raise ValueError(f"there is no grid {grid!r}; there is {', '.join(map(repr, GRIDS))}.")
    return GRIDS[grid]
