# SPDX-License-Identifier: Apache-2.0
"""What an explanation says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class BandEvidence:
    """What each band of frequencies contributes to the tags.

    Attributes:
        edges: Lower and upper edge of every band in Hz, `(num_bands, 2)`.
        values: As `Explanation.values`, `(num_labels, num_bands)`.
        baseline: What stood in for a band, in words.
    """

    edges: np.ndarray
    values: np.ndarray
    baseline: str


@dataclass(frozen=True)
class Explanation:
    """Evidence for tags over time.

    Attributes:
        file: Printable name of the recording, or `None` for audio without one.
        duration: Seconds of the whole recording.
        start: Where the explained part begins, in seconds of the recording.
        end: Where it ends.
        labels: The explained tags.
        tasks: The task of each of them.
        probabilities: Of each tag, in [0, 1]: of the explained window, or the mean of all sounding windows.
        times: Beginning and end of every stretch of time in seconds of the recording, `(num_stretches, 2)`, by rising
            beginning; stretches may overlap, and silence has none.
        values: `(num_labels, num_stretches)`. Occlusion: probability with the stretch minus probability without it, in
            [-1, 1], above 0 where the stretch speaks for the tag. Contribution: the tag's probability, in [0, 1], if
            the model had attended to that stretch alone.
        method: "occlusion" or "contribution".
        baseline: What the values are measured against, in words.
        bands: The same for bands of frequencies, if they were asked for.
        model: Name and fingerprint of the model.
        settings: How it was made.
    """

    file: str | None
    duration: float
    start: float
    end: float
    labels: list[str]
    tasks: list[str]
    probabilities: np.ndarray
    times: np.ndarray
    values: np.ndarray
    method: str
    baseline: str
    bands: BandEvidence | None = None
    model: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def share_between(self, label: str, start: float, end: float) -> float:
        """Which share of a tag's evidence lies in a span of the recording.

        A stretch that lies there in part counts by that part. Of an occlusion only what speaks for the tag counts; of a
        contribution what lies above the row's lowest value.

        Args:
            label: One of `labels`.
            start: Seconds of the recording.
            end: Seconds of the recording.

        Returns:
            In [0, 1]; NaN where nothing speaks for the tag.

        Raises:
            ValueError: The label is not among those explained.
        """
        if label not in self.labels:
            raise ValueError(f"{label!r} was not explained; there is {', '.join(self.labels)}")
        values = self.values[self.labels.index(label)]
        evidence = np.maximum(values, 0) if self.method == "occlusion" else values - values.min()
        begins, ends = self.times.T
        inside = np.clip(np.minimum(ends, end) - np.maximum(begins, start), 0, None) / (ends - begins)
        total = evidence.sum()
        return float((evidence * inside).sum() / total) if total > 0 else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """The explanation in plain JSON types; times to a millisecond, values to a millionth."""
        result: dict[str, Any] = {
            "file": self.file,
            "duration": round(self.duration, 3),
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "method": self.method,
            "baseline": self.baseline,
            "labels": list(self.labels),
            "tasks": list(self.tasks),
            "probabilities": _plain(self.probabilities),
            "times": [{"start": round(start, 3), "end": round(end, 3)} for start, end in self.times.tolist()],
            "values": [_plain(row) for row in self.values],
        }
        if self.bands is not None:
            result["bands"] = {
                "baseline": self.bands.baseline,
                "edges_hz": [[round(low, 1), round(high, 1)] for low, high in self.bands.edges.tolist()],
                "values": [_plain(row) for row in self.bands.values],
            }
        return result | {"model": dict(self.model), "settings": dict(self.settings)}


def _plain(values: np.ndarray) -> list[float]:
    # Adding zero turns -0.0 into 0.0, which reads better in a file.
    return [round(float(value), 6) + 0.0 for value in values]
