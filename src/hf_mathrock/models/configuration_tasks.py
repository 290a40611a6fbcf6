# SPDX-License-Identifier: Apache-2.0
"""What the configurations of all families share: a declarative list of tasks, and what belongs to them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar

from transformers import PreTrainedConfig

# Keys of the pipelines' results beside the tasks: a task of that name would overwrite them.
RESERVED_TASK_NAMES = (
    {"file", "duration", "sampling_rate", "quality", "segments", "embedding", "model", "settings", "error", "timeline"}
    | {"start", "end", "taggram"}
)  # fmt: skip

# What always follows from the first task, whatever a caller or a file says.
_DERIVED = ("id2label", "label2id", "num_labels", "problem_type")


class _InstalledPipelines(dict):
    """A checkpoint's custom pipelines where the installed package has registered them.

    `transformers.pipeline` learns the task's name from here when none is given; finding the task not contained, it
    takes the class from its registry instead of asking for trust in remote code.
    """

    def __contains__(self, task: object) -> bool:
        return False


def _checked_task(task: Mapping[str, Any]) -> dict[str, Any]:
    """A complete, valid copy of one task entry."""
    known = {"name", "type", "labels", "head_hidden", "head_dropout"}
    if unknown := set(task) - known:
        raise ValueError(
            f"Unknown key {sorted(unknown)} in the task {task.get('name')!r}; known keys: {sorted(known)}."
        )
    if missing := {"name", "type", "labels"} - set(task):
        raise ValueError(f"The task {task.get('name')!r} lacks {sorted(missing)}.")
    name, labels = task["name"], list(task["labels"])
    if not isinstance(name, str) or not name.isidentifier() or name in RESERVED_TASK_NAMES:
        raise ValueError(
            f"{name!r} cannot name a task: use letters, digits and underscores, and none of "
            f"{sorted(RESERVED_TASK_NAMES)}, which the pipeline's result uses itself."
        )
    if task["type"] not in ("multi_label", "single_label"):
        raise ValueError(f"The task {name!r} has type {task['type']!r}; allowed: 'multi_label', 'single_label'.")
    if len(labels) < (1 if task["type"] == "multi_label" else 2):
        raise ValueError(f"The task {name!r} has too few labels: {labels}.")
    if doubled := sorted({label for label in labels if labels.count(label) > 1}):
        raise ValueError(f"The task {name!r} names these labels more than once: {doubled}.")
    return {
        "name": name,
        "type": task["type"],
        "labels": labels,
        "head_hidden": task.get("head_hidden"),
        "head_dropout": float(task.get("head_dropout", 0.0)),
    }


def _answers_alike(task: Mapping[str, Any], other: Mapping[str, Any] | None) -> bool:
    """Whether thresholds and temperatures of the one make sense for the other."""
    return other is not None and task["type"] == other["type"] and list(task["labels"]) == list(other["labels"])


class TaskConfig(PreTrainedConfig):
    """Base of every family's configuration.

    Args:
        tasks: Ordered list of `{"name", "type": "multi_label" | "single_label", "labels", "head_hidden": int | None,
            "head_dropout"}`; default the family's. `id2label`, `label2id` and `problem_type` always describe the first
            task, so that the stock `audio-classification` pipeline and the Hub's widget work.
        thresholds: Per multi-label task, one score in [0, 1] per label from which on it counts as active; tasks not
            named use 0.5.
        temperatures: Per task, a positive number the logits are divided by before the sigmoid or softmax; tasks not
            named use 1.
        focal_gamma: Exponent of the focal factor of multi-label tasks, >= 0 (0: plain cross-entropy).
        label_smoothing: Smoothing of multi-label targets, in [0, 1).

    Raises:
        ValueError: A task, threshold or temperature is not well formed; the message names it.
    """

    _auto_class = "AutoConfig"
    # Set where the package is installed and registered with transformers; false in code loaded from the Hub.
    pipelines_installed: ClassVar[bool] = False
    # Where the travelling code stands: written into every config, so that any save can be loaded by any Auto class.
    code_files: ClassVar[dict[str, str]] = {}
    pipeline_files: ClassVar[dict[str, dict[str, Any]]] = {}

    tasks: Any = None
    thresholds: dict | None = None
    temperatures: dict | None = None
    focal_gamma: float = 0.0
    label_smoothing: float = 0.0

    @classmethod
    def default_tasks(cls, words: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The tasks of a config that is given none.

        Args:
            words: `id2label`, `label2id`, `num_labels` and `problem_type`, transformers' own words for labels; `None`
                where nothing was said.
        """
        raise NotImplementedError

    def __post_init__(self, **kwargs: Any) -> None:
        given = self.tasks
        if given is None:
            words = {name: getattr(self, name) for name in ("id2label", "label2id", "problem_type")}
            given = self.default_tasks({**words, "num_labels": kwargs.get("num_labels")})
        tasks = [_checked_task(task) for task in given]
        names = [task["name"] for task in tasks]
        if not tasks or len(set(names)) < len(names):
            raise ValueError(f"`tasks` needs at least one entry and different names, got {names}.")
        self.tasks = tasks
        first = tasks[0]
        for derived in _DERIVED:
            kwargs.pop(derived, None)
        self.id2label = dict(enumerate(first["labels"]))
        self.label2id = {label: index for index, label in enumerate(first["labels"])}
        self.problem_type = f"{first['type']}_classification"
        kwargs.setdefault("auto_map", dict(self.code_files))
        pipelines = kwargs.pop("custom_pipelines", None) or self.pipeline_files
        super().__post_init__(**kwargs)
        self.publish_by(pipelines)
        self._check_thresholds()
        self._check_temperatures()

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As the base class, but changed fields are checked like those of a new config.

        The base class sets them one by one after the checks: with other `tasks`, labels and thresholds of the old ones
        would stay. Thresholds and temperatures of tasks that are not the same any more are dropped here.
        """
        found = config_dict.get("model_type", cls.model_type)
        if found != cls.model_type:
            raise ValueError(
                f"This checkpoint is a {found!r}, and {cls.__name__} reads {cls.model_type!r}: load it with "
                "AutoModelForAudioClassification (AutoModel, AutoConfig), which finds the right class."
            )
        own = {field.name for field in fields(cls)} - {field.name for field in fields(PreTrainedConfig)}
        changed = {name: kwargs.pop(name) for name in list(kwargs) if name in own}
        words = {name: kwargs.pop(name) for name in _DERIVED if name in kwargs}
        before = {name: value for name, value in config_dict.items() if value is not None}
        if "tasks" not in changed and (tasks := cls.retargeted(before, words)) is not None:
            changed["tasks"] = tasks
        merged = {**config_dict, **changed}
        if "tasks" in changed:
            former = {task["name"]: task for task in before.get("tasks") or cls.default_tasks(before)}
            same = {task["name"] for task in changed["tasks"] if _answers_alike(task, former.get(task["name"]))}
            for name in ("thresholds", "temperatures"):
                if name not in changed:
                    merged[name] = {key: value for key, value in (merged.get(name) or {}).items() if key in same}
        return super().from_dict(merged, **kwargs)

    @classmethod
    def retargeted(cls, before: Mapping[str, Any], words: Mapping[str, Any]) -> list[dict[str, Any]] | None:
        """The tasks of a config that is loaded with transformers' own words for labels; `None`: they change nothing.

        Args:
            before: The config in its file.
            words: Those of `id2label`, `label2id`, `num_labels` and `problem_type` that were given.
        """
        return None

    def publish_by(self, pipeline_files: Mapping[str, Mapping[str, Any]]) -> None:
        """Name the pipeline that checkpoints are used by, which is written into every saved config.

        Args:
            pipeline_files: As `custom_pipelines` of transformers. Of two, `pipeline(model=...)` could not choose.
        """
        pipelines = copy.deepcopy(dict(pipeline_files))
        self.custom_pipelines = _InstalledPipelines(pipelines) if self.pipelines_installed else pipelines

    def _check_thresholds(self) -> None:
        for name, values in (self.thresholds or {}).items():
            task = self.task(name)
            if task["type"] != "multi_label":
                raise ValueError(f"`thresholds` names {name!r}, which has one label per clip: the highest score wins.")
            if len(values) != len(task["labels"]) or not all(0 <= value <= 1 for value in values):
                raise ValueError(f"`thresholds[{name!r}]` needs {len(task['labels'])} numbers in [0, 1], got {values}.")

    def _check_temperatures(self) -> None:
        for name, value in (self.temperatures or {}).items():
            self.task(name)
            if not 0 < value < float("inf"):
                raise ValueError(f"`temperatures[{name!r}]` must be positive and finite, got {value}.")

    @property
    def task_names(self) -> list[str]:
        """Names of the tasks, in order."""
        return [task["name"] for task in self.tasks]

    def task(self, name: str) -> dict[str, Any]:
        """The entry of one task.

        Raises:
            ValueError: There is no such task.
        """
        for task in self.tasks:
            if task["name"] == name:
                return task
        raise ValueError(f"This model has no task {name!r}; its tasks are {self.task_names}.")

    def task_thresholds(self, name: str) -> list[float]:
        """Activity threshold of every label of a multi-label task."""
        return list((self.thresholds or {}).get(name) or [0.5] * len(self.task(name)["labels"]))

    def task_temperature(self, name: str) -> float:
        """Temperature of one task."""
        return float((self.temperatures or {}).get(name, 1.0))

    def to_dict(self) -> dict[str, Any]:
        output = super().to_dict()
        output["tasks"] = copy.deepcopy(self.tasks)
        return output
