# SPDX-License-Identifier: Apache-2.0
"""Contribution: what a transformer would say if its last layer attended to one moment alone, read off in one pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from hf_mathrock.explanation.listening import Listener
from hf_mathrock.models.audio_input import AudioWindow


def has_contributions(model: Any) -> bool:
    """Whether a model can tell its tags' contributions."""
    encoder = getattr(getattr(model, "base_model", None), "encoder", None)
    return callable(getattr(model, "tag_contributions", None)) and encoder is not None


def contribution_evidence(listener: Listener, windows: Iterable[AudioWindow]) -> tuple[np.ndarray, np.ndarray]:
    """Contributions of every moment of some windows.

    Args:
        listener: Of a model that has contributions.
        windows: One after another; the moments of overlapping windows overlap.

    Returns:
        Times of the moments in seconds of the recording, `(num_moments, 2)`, and the probabilities of all labels,
        `(num_labels, num_moments)`.
    """
    times, values = [], []
    for window in windows:
        with torch.inference_mode():
            found = listener.model.tag_contributions(**listener.inputs([window]))
        # A short window is repeated up to the model's shortest: what lies behind its end was heard already.
        moments = window.start + np.asarray(found.token_seconds, dtype=np.float64)
        inside = (moments[:, 0] < window.end - 1e-6) & (moments[:, 1] > moments[:, 0])
        moments = np.minimum(moments[inside], window.end)
        # Pooling leaves no moment for a rest at the end, but what the last one hears reaches into it.
        if window.end - moments[-1, 1] < moments[-1, 1] - moments[-1, 0]:
            moments[-1, 1] = window.end
        times.append(moments)
        values.append(found.probabilities[0].float().cpu().numpy().astype(np.float64)[:, inside])
    order = np.argsort(np.concatenate(times)[:, 0], kind="stable")
    return np.concatenate(times)[order], np.concatenate(values, axis=1)[:, order]
