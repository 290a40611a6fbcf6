# SPDX-License-Identifier: Apache-2.0
"""Multi-label tagging with unknown entries, as a module of the `evaluate` library."""

from typing import Any

import datasets
import evaluate
import numpy as np

from hf_mathrock.metrics import multi_label
from hf_mathrock.metrics.classification import per_label_metrics

DESCRIPTION = """
Mean average precision, ROC-AUC and F1 over the labels of a tagging task, as scikit-learn measures them, where single
entries may be unknown.
"""

INPUTS = """
Args:
    predictions: `(num_rows, num_labels)` scores: probabilities or logits.
    references: Multi-hot of the same shape: 1, 0, or -100 where unknown.
    label_names: One name per label; default their positions.
    thresholds: Score from which a label is claimed, one number or one per label; without, there is no F1.

Returns:
    `map`, `prior` (what random scores reach), `roc_auc`, with thresholds `macro_f1` and `micro_f1`; by label
    `average_precision_per_label`, `roc_auc_per_label`, `f1_per_label` and `support`; `left_out`, the labels without a
    positive row, which have no part in the means.
"""


class MathrockMultiLabel(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        rows = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": rows, "references": rows}),
        )

    def _compute(self, predictions: Any, references: Any, label_names: Any = None, thresholds: Any = None) -> dict:
        results: dict[str, Any] = dict(multi_label.evaluate(predictions, references, label_names, thresholds))
        names = list(label_names or map(str, range(np.shape(predictions)[1])))
        task = {"name": "predictions", "type": "multi_label", "labels": names}
        per_label = per_label_metrics(task, predictions, references, thresholds)
        for metric in ("average_precision", "roc_auc", "f1"):
            results[f"{metric}_per_label"] = per_label[metric]
        return results | {"support": per_label["support"], "left_out": per_label["left_out"]}
