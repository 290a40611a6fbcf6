# SPDX-License-Identifier: Apache-2.0
"""Tempo accuracy where beats per minute are known, as a module of the `evaluate` library."""

from typing import Any

import datasets
import evaluate

from hf_mathrock.metrics import tempo

DESCRIPTION = """
Accuracy 1 and Accuracy 2 of tempo estimates (Gouyon et al. 2006): within 4 % of the tempo, or of the tempo, its
double, triple, half or third.
"""

INPUTS = """
Args:
    predictions: `(num_songs,)` estimated beats per minute, 0 where none was found.
    references: `(num_songs,)` true beats per minute, -100 where unknown.
    tolerance: Share of the tempo; default 0.04.

Returns:
    `acc1` and `acc2` in [0, 1].
"""


class MathrockTempo(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        bpm = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": bpm, "references": bpm}),
        )

    def _compute(self, predictions: Any, references: Any, tolerance: float = tempo.TOLERANCE) -> dict:
        return tempo.evaluate(references, predictions, tolerance)
