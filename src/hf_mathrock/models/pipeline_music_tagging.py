# SPDX-License-Identifier: Apache-2.0
"""The `music-tagging` pipeline: recordings of any length in, ranked tags out, and if wanted tags over time."""

from __future__ import annotations

from typing import Any

import numpy as np

from .pipeline_recordings import Recording, RecordingPipeline
from .scoring import aggregate_scores, plain_thresholds, task_scores


class MusicTaggingPipeline(RecordingPipeline):
    """Tag recordings with one task of any model of this package.

    Works with taggers that hear a few seconds at a time and with those that hear half a minute: a recording is cut into
    windows as the model's extractor says, and the scores of the windows become those of the recording. It is read
    window by window, so that one of any length runs in bounded memory; the windows of one recording, and of several in
    a list, go through the model in batches of `batch_size`.

    Input: a path, `bytes`, an open file, a numpy array or torch tensor (mono, or two-dimensional with its channels on
    the shorter axis), `{"array" or "raw", "sampling_rate"}`, `{"path", "bytes"}`, a torchcodec `AudioDecoder`; or a
    list, generator or dataset of these.

    Example:
        ```python
        >>> pipe = pipeline("music-tagging", model="MTT_musicnn")  # doctest: +SKIP
        >>> pipe("song.mp3", top_k=10)["tags"][0]  # doctest: +SKIP
        {'label': 'techno', 'score': 0.53}

        ```
    """

    task_name = "music-tagging"
    postprocess_options = (
        "task",
        "aggregation",
        "threshold",
        "top_k",
        "return_taggram",
        "return_embedding",
        "window_seconds",
        "hop_seconds",
        "on_error",
    )

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Tag one recording, or many.

        Args:
            inputs: A recording or an iterable of recordings, as listed above.
            top_k (int): Keep the best tags only; default all. The taggram always has all.
            task (str): Which of the model's tasks; default its first multi-label task, of a model without one its
                first.
            aggregation (str): From windows to the recording: "mean" (default) or "max" of the windows' scores; "vote",
                the share of windows in which the tag reaches its threshold (of a single-label task: in which it is the
                best); or "mean_logit", the score of the mean logit.
            threshold (float): For a vote: score in [0, 1] that counts as a yes; default the thresholds of the model's
                config (0.5).
            return_taggram (bool): Also the scores of all tags in every window, with times.
            return_embedding (bool): Also the mean embedding of the sounding windows, a list of floats (`None` when all
                is silent).
            window_seconds (float): Length of a window; default the one that the model was trained on.
            hop_seconds (float): Distance between the starts of two windows, at most the window; default the
                extractor's. A smaller one makes a finer taggram.
            batch_size (int): Windows in a forward pass; default 8. Scores depend on it by less than 1e-5.
            sampling_rate (int): Hz, of bare arrays; default the extractor's.
            allow_url (bool): Fetch `http(s)` URLs; default `False`.
            on_error (str): "raise", or "record": a recording that cannot be read yields `{"file", "error"}` with a
                warning, and the others are tagged. Default: raise for one recording, record for many.

        Returns:
            For one recording a dict of plain JSON types: `file`, `duration` in seconds, `sampling_rate` of the file,
            `quality` flags, `tags`, a ranked list of `{"label", "score"}` (of equal score the higher mean first),
            `taggram` and `embedding` if asked for, `model` and `settings`. The taggram is a dict of `labels`, in the
            order of the model's task and the same for every recording; `start` and `end`, seconds of each window; and
            `scores`, a list per label of a score per window. A silent window has `None` for every label and does not
            count in `tags`; when all is silent, `tags` is empty and `quality` says "silent".
            For a list a list of these; for a generator or dataset an iterator.

        Raises:
            AudioReadError: A recording cannot be read; a `ValueError` of one line that says why.
            ValueError: An option is out of range, or the model has no such task.
            TypeError: An option is unknown.
        """
        return super().__call__(inputs, **kwargs)

    def _checked_options(self, options: dict[str, Any]) -> dict[str, Any]:
        self._task(options.get("task"))
        threshold = options.get("threshold")
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"`threshold` is {threshold}; it must lie in [0, 1].")
        return options

    def _task(self, name: str | None) -> dict[str, Any]:
        """The entry of the task to report."""
        config = self.model.config
        if name is not None:
            return config.task(name)
        return next((task for task in config.tasks if task["type"] == "multi_label"), config.tasks[0])

    def postprocess(
        self,
        recording: Recording,
        task: str | None = None,
        aggregation: str = "mean",
        threshold: float | None = None,
        top_k: int | None = None,
        return_taggram: bool = False,
        return_embedding: bool = False,
        window_seconds: float | None = None,
        hop_seconds: float | None = None,
    ) -> dict[str, Any]:
        """The result of one recording, as plain JSON types; the options are those of `__call__`."""
        config = self.model.config
        entry = self._task(task)
        name, labels = entry["name"], entry["labels"]
        temperature = config.task_temperature(name)
        thresholds = None
        if entry["type"] == "multi_label":
            given = config.task_thresholds(name) if threshold is None else [threshold] * len(labels)
            thresholds = np.asarray(given)
        window_seconds, hop_seconds = self.feature_extractor.checked_grid(window_seconds, hop_seconds)

        result = recording.facts()
        result["tags"] = []
        if sounding := [logits[name] for logits in recording.logits if logits is not None]:
            how = {"temperature": temperature, "thresholds": thresholds}
            scores, means = (aggregate_scores(entry, np.stack(sounding), way, **how) for way in (aggregation, "mean"))
            # Most tags of a vote have none at all: the mean says which of them came nearer.
            order = np.lexsort((-means, -scores))[:top_k]
            result["tags"] = [{"label": labels[index], "score": round(float(scores[index]), 6)} for index in order]
        if return_taggram:
            columns = [
                [None] * len(labels)
                if logits is None
                else [round(score, 6) for score in task_scores(entry, logits[name], temperature).tolist()]
                for logits in recording.logits
            ]
            result["taggram"] = {
                "labels": list(labels),
                "start": [round(window.start, 3) for window in recording.windows],
                "end": [round(window.end, 3) for window in recording.windows],
                "scores": [list(row) for row in zip(*columns, strict=True)],
            }
        if return_embedding:
            result["embedding"] = recording.mean_embedding()
        result["model"] = self.model_card
        result["settings"] = {
            "task": name,
            "window_seconds": window_seconds,
            "hop_seconds": hop_seconds,
            "aggregation": aggregation,
            "threshold": None if thresholds is None else plain_thresholds(thresholds),
            "top_k": top_k,
        }
        return result
