# SPDX-License-Identifier: Apache-2.0
"""Metrics: arrays in, floats out; unknown labels are -100 and do not count.

One module per task, in the shape of mir_eval: `validate` says what does not fit, each metric can be called alone, and
`evaluate` gives all of them by name. `single_label`, `multi_label`, `calibration`, `tempo`, `key`, `regression` and
`retrieval` are such tasks; `classification` measures all tasks of a model, `bootstrap` says how sure the figures are,
and `thresholds` finds the scores from which labels are claimed. The first four are also modules of the `evaluate`
library:

    evaluate.load(str(module_path("mathrock_multi_label"))).compute(predictions=scores, references=labels)
"""

from __future__ import annotations

import difflib
from pathlib import Path

MODULES = ("mathrock_multi_label", "mathrock_single_label", "mathrock_calibration", "mathrock_tempo")


def module_path(name: str) -> Path:
    """The folder of a module for `evaluate.load`, which needs it as a string; nothing is downloaded.

    Args:
        name: "mathrock_multi_label", "mathrock_single_label", "mathrock_calibration" or "mathrock_tempo".

    Raises:
        ValueError: No module has this name; the message gives the closest.
    """
    if name not in MODULES:
        near = difflib.get_close_matches(name, MODULES, n=1, cutoff=0.3)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(MODULES)}."
        raise ValueError(f"{name!r} is no evaluate module of this package; {hint}")
    return Path(__file__).parent / "modules" / name
