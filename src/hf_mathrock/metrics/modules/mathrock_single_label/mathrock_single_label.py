# SPDX-License-Identifier: Apache-2.0
"""Classification with one label a row and unknown rows, as a module of the `evaluate` library."""

from typing import Any

import datasets
import evaluate
import numpy as np

from hf_mathrock.metrics import single_label
from hf_mathrock.metrics.classification import per_label_metrics

DESCRIPTION = """
Accuracy, F1 and confusion of a task with one label a row, as scikit-learn measures them, where rows may be unknown.
"""

INPUTS = """
Args:
    predictions: `(num_rows, num_labels)` scores: probabilities or logits.
    references: `(num_rows,)` class indices, -100 where unknown.
    label_names: One name per class; default their positions.

Returns:
    `accuracy`, `macro_f1` over the classes that occur, `micro_f1`; `f1_per_label` and `support` by class; `confusion`,
    a list of rows (true) of columns (predicted); `left_out`, the classes that never occur.
"""


class MathrockSingleLabel(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Sequence(datasets.Value("float64")), "references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description=DESCRIPTION, citation="", inputs_description=INPUTS, features=datasets.Features(features)
        )

    def _compute(self, predictions: Any, references: Any, label_names: Any = None) -> dict:
        results: dict[str, Any] = dict(single_label.evaluate(predictions, references))
        names = list(label_names or map(str, range(np.shape(predictions)[1])))
        task = {"name": "predictions", "type": "single_label", "labels": names}
        per_label = per_label_metrics(task, predictions, references)
        return results | {
            "f1_per_label": per_label["f1"],
            "support": per_label["support"],
            "confusion": single_label.confusion(predictions, references).tolist(),
            "left_out": per_label["left_out"],
        }
