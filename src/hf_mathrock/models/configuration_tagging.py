# SPDX-License-Identifier: Apache-2.0
"""What the configurations of all taggers share: the audio they take, and labels in transformers' words."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch

from .configuration_features import KINDS, check_below_half_the_rate, fill_feature
from .configuration_tasks import TaskConfig
from .configuration_values import check_value

# The benchmarks of the field (MagnaTagATune, Million Song Dataset, MTG-Jamendo) have 50 tags each.
NUM_TAGS = 50
# What transformers and the base class read beside the fields, or set themselves.
_LOADED_WITH = (
    {"name_or_path", "torch_dtype", "num_labels", "attn_implementation", "experts_implementation", "model_type"}
    | {"auto_map", "custom_pipelines", "output_attentions", "per_layer_config", "quantization_config"}
    | {"transformers_version", "use_cache"}
)  # fmt: skip
LONGEST_SECONDS = 600
"""Of a window for models that hear any length: what is longer is better cut, for the sake of memory."""
_TYPES = {"multi_label_classification": "multi_label", "single_label_classification": "single_label"}

PIPELINE_FILES: dict[str, dict[str, Any]] = {
    "music-tagging": {
        "impl": "pipeline_music_tagging.MusicTaggingPipeline",
        "pt": ["AutoModelForAudioClassification"],
        "type": "audio",
    }
}


class TaggerConfig(TaskConfig):
    """Base of the taggers' configurations: one head over one embedding.

    Without `tasks`, `num_labels`, `id2label` and `problem_type` name the one task "tag", as everywhere in transformers:
    50 labels, of which a clip may have several, where nothing is said. Of several tasks the head's outputs stand one
    after the other; `head_hidden` and `head_dropout` of a task have no meaning here, since a tagger has one head.

    Args:
        sampling_rate: Hz of the audio that the model hears.
        input_samples: Samples at that rate that it was trained on, the length of a window.
        feature: What is computed from the audio, see `configuration_features`.
    """

    pipeline_files = PIPELINE_FILES
    # Kept out of `Trainer` predictions: large, and not scores.
    keys_to_ignore_at_inference = ["embeddings", "hidden_states", "attentions", "task_losses"]

    sampling_rate: int = 16_000
    input_samples: int = 48_000
    feature: Any = None

    @classmethod
    def default_tasks(cls, words: Mapping[str, Any]) -> list[dict[str, Any]]:
        labels = words.get("id2label")
        if labels is None and words.get("label2id"):
            labels = {index: label for label, index in words["label2id"].items()}
        if isinstance(labels, list | tuple):
            labels = dict(enumerate(labels))
        if labels is None:
            count = words.get("num_labels")
            labels = {index: f"LABEL_{index}" for index in range(NUM_TAGS if count is None else int(count))}
        problem = words.get("problem_type") or "multi_label_classification"
        if problem not in _TYPES:
            raise ValueError(f"`problem_type` is {problem!r}; allowed: {', '.join(map(repr, _TYPES))}.")
        numbered = {int(index): label for index, label in labels.items()}
        if sorted(numbered) != list(range(len(numbered))):
            raise ValueError(f"`id2label` must number its labels from 0 without a gap, got {sorted(numbered)}.")
        ordered = [numbered[index] for index in range(len(numbered))]
        return [{"name": "tag", "type": _TYPES[problem], "labels": ordered}]

    @classmethod
    def retargeted(cls, before: Mapping[str, Any], words: Mapping[str, Any]) -> list[dict[str, Any]] | None:
        if not words:
            return None
        (first, *_) = before.get("tasks") or cls.default_tasks(before)
        given = dict(words)
        given.setdefault("problem_type", f"{first['type']}_classification")
        if not any(given.get(name) is not None for name in ("id2label", "label2id", "num_labels")):
            given["id2label"] = dict(enumerate(first["labels"]))
        (task,) = cls.default_tasks(given)
        return [{**task, "name": first["name"]}]

    def __post_init__(self, **kwargs: Any) -> None:
        self._refuse_misspelt(kwargs)
        super().__post_init__(**kwargs)
        self.check()

    def check(self) -> None:
        """Whether a model can be made of this: a finished configuration may have been edited.

        Raises:
            ValueError: A field is not well formed, or does not go with another; the message names it.
        """
        self._refuse_misspelt(vars(self))
        for name in ("sampling_rate", "input_samples"):
            check_value(name, getattr(self, name), 1, f"`{name}`")
        check_below_half_the_rate(fill_feature(self.feature), self.sampling_rate)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As the base class; a `feature` given in part is merged over the saved one."""
        saved, given = config_dict.get("feature"), kwargs.get("feature")
        if isinstance(saved, Mapping) and isinstance(given, Mapping) and given.get("kind") in (None, saved.get("kind")):
            kwargs["feature"] = {**saved, **given}
        return super().from_dict(config_dict, **kwargs)

    def _refuse_misspelt(self, given: Mapping[str, Any]) -> None:
        """Refuse what resembles a field or belongs into one; of anything else say that it has no effect."""
        own = [field.name for field in fields(type(self))]
        for name in given:
            if name in own or name in _LOADED_WITH or name.startswith("_"):
                continue
            if near := difflib.get_close_matches(name, own, n=1, cutoff=0.8):
                raise ValueError(f"{type(self).__name__} has no field {name!r}; did you mean {near[0]!r}?")
            if part := next((part for part, names in self.parts().items() if name in names), None):
                raise ValueError(
                    f"{name!r} is no field of {type(self).__name__}, but stands in one: {part}={{{name!r}: ...}}."
                )
            if name in ("labels", "tags", "classes"):
                raise ValueError(f"{name!r} is no field; name labels by `id2label` ({{0: 'calm', ...}}) or `tasks`.")
            warnings.warn(f"{type(self).__name__} has no field {name!r}; it is kept, and has no effect.", stacklevel=2)

    @classmethod
    def parts(cls) -> dict[str, set[str]]:
        """Fields that are dicts, and the keys that stand in them."""
        return {"feature": {key for keys in KINDS.values() for key in keys}}

    @property
    def accepts_any_length(self) -> bool:
        """Whether the model hears audio of other lengths than `input_samples`."""
        raise NotImplementedError

    @property
    def min_samples(self) -> int:
        """The fewest samples that the model hears as they are; the extractor repeats what is shorter."""
        return self.input_samples

    @property
    def max_samples(self) -> int | None:
        """The most samples that the model hears at once; `None`: no more than `input_samples`."""
        return None

    @property
    def window_seconds(self) -> float:
        """Length of a window in seconds."""
        return self.input_samples / self.sampling_rate

    def extractor_settings(self) -> dict[str, Any]:
        """Arguments of the `MusicTaggingFeatureExtractor` that feeds this model."""
        return {
            "sampling_rate": self.sampling_rate,
            "window_samples": self.input_samples,
            "min_samples": self.min_samples,
            "max_samples": self.max_samples,
        }

    @property
    def num_outputs(self) -> int:
        """Outputs of the head: the labels of all tasks."""
        return sum(len(task["labels"]) for task in self.tasks)

    def split_logits(self, logits: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits of every task, `(..., num_labels)`, from those of the head, `(..., num_outputs)`."""
        parts = logits.split([len(task["labels"]) for task in self.tasks], dim=-1)
        return dict(zip(self.task_names, parts, strict=True))


class NormalisedTaggerConfig(TaggerConfig):
    """Of a tagger with batch norms.

    Args:
        feature_batch_norm: Whether the feature is normalised over each of its channels.
        batch_norm_eps: Of every batch norm.
    """

    feature_batch_norm: bool = True
    batch_norm_eps: float = 1e-5

    def check(self) -> None:
        super().check()
        check_value("feature_batch_norm", self.feature_batch_norm, True, "`feature_batch_norm`")
        check_value("batch_norm_eps", self.batch_norm_eps, 1e-5, "`batch_norm_eps`")
