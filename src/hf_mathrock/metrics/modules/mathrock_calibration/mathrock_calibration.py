# SPDX-License-Identifier: Apache-2.0
"""Expected calibration error and Brier score, as a module of the `evaluate` library."""

from typing import Any

import datasets
import evaluate

from hf_mathrock.metrics import calibration

DESCRIPTION = """
Whether probabilities mean what they say: expected calibration error (Naeini et al. 2015 for multi-label tasks, Guo et
al. 2017 for tasks with one label a row) and Brier score, where labels may be unknown.
"""

INPUTS = """
Args:
    predictions: `(num_rows, num_labels)` probabilities.
    references: `(num_rows,)` class indices, or multi-hot `(num_rows, num_labels)`; -100 where unknown.
    num_bins: Bins of equal width over [0, 1]; default 15.

Returns:
    `ece`, `brier`, and `reliability`: for each bin with a claim `low`, `high`, `confidence`, `frequency`, `count`.
"""


class MathrockCalibration(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        rows = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=[
                datasets.Features({"predictions": rows, "references": datasets.Value("int64")}),
                datasets.Features({"predictions": rows, "references": rows}),
            ],
        )

    def _compute(self, predictions: Any, references: Any, num_bins: int = calibration.NUM_BINS) -> dict:
        results: dict[str, Any] = dict(calibration.evaluate(predictions, references, num_bins))
        return results | {"reliability": calibration.reliability_curve(predictions, references, num_bins)}
