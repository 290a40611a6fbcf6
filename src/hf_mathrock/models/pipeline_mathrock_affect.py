# SPDX-License-Identifier: Apache-2.0
"""The `mathrock-affect` pipeline: recordings of any length in, labels of every task with times out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .pipeline_recordings import Recording, RecordingPipeline
from .scoring import active_labels, aggregate_scores, plain_thresholds, task_scores


class MathRockAffectPipeline(RecordingPipeline):
    """Tag recordings with every task of a MathRock model.

    A recording is read window by window, so that one of any length runs in bounded memory; the windows of one
    recording, and of several in a list, go through the model in batches of `batch_size`.

    Input: a path, `bytes`, an open file, a numpy array or torch tensor (mono, or two-dimensional with its channels on
    the shorter axis), `{"array" or "raw", "sampling_rate"}`, `{"path", "bytes"}`, a torchcodec `AudioDecoder`; or a
    list, generator or dataset of these.

    Example:
        ```python
        >>> pipe = pipeline("mathrock-affect")  # doctest: +SKIP
        >>> pipe("song.mp3")["tempo"][0]  # doctest: +SKIP
        {'label': 'fast', 'score': 0.93, 'active': True}

        ```
    """

    task_name = "mathrock-affect"
    postprocess_options = (
        "tasks",
        "aggregation",
        "threshold",
        "top_k",
        "return_segments",
        "return_embedding",
        "window_seconds",
        "hop_seconds",
        "on_error",
    )

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Tag one recording, or many.

        Args:
            inputs: A recording or an iterable of recordings, as listed above.
            batch_size (int): Windows in a forward pass; default 8. Scores depend on it by less than 1e-5.
            tasks (list of str): Tasks to report; default all of the model.
            aggregation (str): From windows to the recording: "mean" (default) or "max" of the windows' scores; "vote",
                the share of windows in which the label is active; or "mean_logit", the score of the mean logit.
            threshold (float or dict): Score in [0, 1] from which a label of a multi-label task is active, or a dict
                from task to score; default the thresholds of the model's config (0.5).
            top_k (int): Keep the best labels of each task only; default all.
            return_segments (bool): Also the scores of every window, with its times in seconds.
            return_embedding (bool): Also the mean embedding of the sounding windows, a list of `hidden_size` floats
                (`None` when all is silent).
            window_seconds (float): Length of a window, at most the model's (10 s); shorter ones are padded.
            hop_seconds (float): Distance between the starts of two windows; default 5 s.
            sampling_rate (int): Hz, of bare arrays; default the extractor's, 48 000.
            allow_url (bool): Fetch `http(s)` URLs; default `False`.
            on_error (str): "raise", or "record": a recording that cannot be read yields `{"file", "error"}` with a
                warning, and the others are tagged. Default: raise for one recording, record for many.

        Returns:
            For one recording a dict of plain JSON types: `file`, `duration` in seconds, `sampling_rate` of the file,
            `quality` flags, one ranked list of `{"label", "score", "active"}` per task, `segments` and `embedding` if
            asked for, `model` and `settings`. Silence has no labels: its lists are empty and `quality` says "silent".
            For a list a list of these; for a generator or dataset an iterator.

        Raises:
            AudioReadError: A recording cannot be read; a `ValueError` of one line that says why.
            ValueError: An option is out of range.
            TypeError: An option is unknown.
        """
        return super().__call__(inputs, **kwargs)

    def _checked_options(self, options: dict[str, Any]) -> dict[str, Any]:
        if (tasks := options.get("tasks")) is not None:
            if isinstance(tasks, str):
                tasks = options["tasks"] = [tasks]
            for name in tasks:
                self.model.config.task(name)
        self._thresholds(options.get("threshold"))
        return options

    def _thresholds(self, threshold: float | Mapping[str, float] | None) -> dict[str, np.ndarray]:
        """Activity threshold of each label of each multi-label task, `(num_labels,)`."""
        config = self.model.config
        given = threshold if isinstance(threshold, Mapping) else {}
        for name in given:
            config.task(name)
        thresholds = {}
        for task in config.tasks:
            if task["type"] == "multi_label":
                value = given.get(task["name"]) if isinstance(threshold, Mapping) else threshold
                if value is not None and not 0 <= value <= 1:
                    raise ValueError(f"`threshold` is {value}; it must lie in [0, 1].")
                values = config.task_thresholds(task["name"]) if value is None else [value] * len(task["labels"])
                thresholds[task["name"]] = np.asarray(values)
        return thresholds

    def postprocess(
        self,
        recording: Recording,
        tasks: Sequence[str] | None = None,
        aggregation: str = "mean",
        threshold: float | Mapping[str, float] | None = None,
        top_k: int | None = None,
        return_segments: bool = False,
        return_embedding: bool = False,
        window_seconds: float | None = None,
        hop_seconds: float | None = None,
    ) -> dict[str, Any]:
        """The result of one recording, as plain JSON types; the options are those of `__call__`."""
        config = self.model.config
        thresholds = self._thresholds(threshold)
        window_seconds, hop_seconds = self.feature_extractor.checked_grid(window_seconds, hop_seconds)
        names = config.task_names if tasks is None else list(tasks)

        result = recording.facts()
        segments: list[dict[str, Any]] = [
            {"start": round(window.start, 3), "end": round(window.end, 3), "quality": window.quality}
            for window in recording.windows
        ]
        for name in names:
            task = config.task(name)
            temperature = config.task_temperature(name)
            scores = [
                None if logits is None else task_scores(task, logits[name], temperature) for logits in recording.logits
            ]
            sounding = [logits[name] for logits in recording.logits if logits is not None]
            overall = (
                aggregate_scores(
                    task, np.stack(sounding), aggregation, temperature=temperature, thresholds=thresholds.get(name)
                )
                if sounding
                else None
            )
            result[name] = _ranked(task["labels"], overall, thresholds.get(name), top_k)
            for segment, values in zip(segments, scores, strict=True):
                segment[name] = _ranked(task["labels"], values, thresholds.get(name), top_k)
        if return_segments:
            result["segments"] = segments
        if return_embedding:
            result["embedding"] = recording.mean_embedding()
        result["model"] = self.model_card
        result["settings"] = {
            "tasks": names,
            "window_seconds": window_seconds,
            "hop_seconds": hop_seconds,
            "aggregation": aggregation,
            "thresholds": {name: plain_thresholds(values) for name, values in thresholds.items() if name in names},
            "top_k": top_k,
        }
        return result


def _ranked(
    labels: Sequence[str], scores: np.ndarray | None, thresholds: np.ndarray | None, top_k: int | None
) -> list[dict[str, Any]]:
    """Labels by falling score, those of equal score in the order of the model's labels."""
    if scores is None:
        return []
    active = active_labels(scores, thresholds)
    order = np.argsort(-scores, kind="stable")[:top_k]
    return [
        {"label": labels[index], "score": round(float(scores[index]), 6), "active": bool(active[index])}
        for index in order
    ]
