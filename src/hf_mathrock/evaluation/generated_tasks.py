# SPDX-License-Identifier: Apache-2.0
"""What is asked about generated long pieces, and what could be answered without hearing their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_mathrock.evaluation.probe_kinds import ProbeKind
from hf_mathrock.metrics.key import NUM_KEYS
from hf_mathrock.metrics.validation import UNKNOWN
from hf_mathrock.synthesis.form_plans import BAG_CEILINGS, FORMS, METER_CHANGES, METERS
from hf_mathrock.synthesis.harmony import MODES

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class GeneratedTask:
    """A question to be answered by a probe.

    Attributes:
        name: For the table.
        kind: See `run_probe`.
        label: Of a piece's facts: a class of `classes`, a key or a number; `None` where the piece has none.
        metrics: Of a probe's result: their names there and for the table.
        classes: All that there are.
        ceiling: Accuracy that is possible without the order of the sections; `None`: not known.
    """

    name: str
    kind: ProbeKind
    label: Callable[[Facts], Any]
    metrics: dict[str, str]
    classes: tuple[Any, ...] = ()
    ceiling: float | None = None

    def labels_of(self, facts: Sequence[Facts]) -> np.ndarray:
        """The label of each piece as `ProbeData` takes them: positions in `classes`, or numbers."""
        known = [self.label(of) for of in facts]
        if self.kind == "regression":
            return np.array([np.nan if label is None else label for label in known], dtype=np.float64)
        return np.array([UNKNOWN if label is None else self.classes.index(label) for label in known])


def _fact(name: str) -> Callable[[Facts], Any]:
    return lambda facts: facts[name]


def _key(facts: Facts) -> int | None:
    return None if facts["key"] is None else facts["key"] + 12 * (facts["tonality"] == "minor")


def _direction(facts: Facts) -> str | None:
    change = facts["meter_change"]
    return change if change and " to " in change else None


_KEY_SCORES = {"weighted_score": "weighted score", "mirex_score": "weighted score, falling fifths too"}
_ACCURACY = {"accuracy": "accuracy"}
_CHANGES = tuple(change for change in METER_CHANGES if " to " in change)
_METERS = tuple(f"{count}/{unit}" for count, unit in METERS)

TASKS: tuple[GeneratedTask, ...] = (
    GeneratedTask("key", "key", _key, _KEY_SCORES, tuple(range(NUM_KEYS))),
    GeneratedTask("mode", "classification", _fact("mode"), _ACCURACY, tuple(MODES)),
    GeneratedTask("tempo", "classification", _fact("tempo"), _ACCURACY, ("slow", "moderate", "fast")),
    GeneratedTask("BPM", "regression", lambda facts: np.log2(facts["bpm"]), {"r2": "R² of its logarithm"}),
    GeneratedTask("meter", "classification", _fact("meter"), _ACCURACY, _METERS),
    GeneratedTask(
        "meter change", "classification", _fact("meter_change"), _ACCURACY, METER_CHANGES, BAG_CEILINGS["meter_change"]
    ),
    GeneratedTask("meter change, direction", "classification", _direction, _ACCURACY, _CHANGES, 1 / 2),
    GeneratedTask(
        "home key", "classification", _fact("home_key"), _ACCURACY, tuple(range(12)), BAG_CEILINGS["home_key"]
    ),
    GeneratedTask("form", "classification", _fact("form"), _ACCURACY, FORMS, BAG_CEILINGS["form"]),
)
"""In the order of the table. Keys take major, lydian and mixolydian as major, the darker modes as minor; pieces that
change their key or meter have none."""
