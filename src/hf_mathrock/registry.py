# SPDX-License-Identifier: Apache-2.0
"""What this package tells transformers: which classes belong to a `model_type`, which pipeline to a task."""

from __future__ import annotations

import difflib
import os
import sys
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from typing import Any

import wrapt

from hf_mathrock.zoo import embedded_checkpoint


@dataclass(frozen=True)
class Family:
    """One model family: modules of `hf_mathrock.models` and the classes in them.

    Attributes:
        model_type: Its name in `config.json`.
        config: Its configuration.
        extractor: What makes its inputs.
        models: Auto class → class.
        task: The pipeline that it is published for.
    """

    model_type: str
    config: str
    extractor: str
    models: dict[str, str]
    task: str


@dataclass(frozen=True)
class Task:
    """One custom pipeline task; `default` names an embedded checkpoint."""

    name: str
    pipeline: str
    auto_model: str
    default: str


FAMILIES = (
    Family(
        model_type="mathrock",
        config="configuration_mathrock.MathRockConfig",
        extractor="feature_extraction_mathrock.MathRockFeatureExtractor",
        models={
            "AutoModel": "modeling_mathrock.MathRockModel",
            "AutoModelForAudioClassification": "modeling_mathrock.MathRockForAudioClassification",
        },
        task="mathrock-affect",
    ),
    Family(
        model_type="myna",
        config="configuration_myna.MynaConfig",
        extractor="feature_extraction_myna.MynaFeatureExtractor",
        models={
            "AutoModel": "modeling_myna.MynaModel",
            "AutoModelForPreTraining": "modeling_myna.MynaForPreTraining",
            "AutoModelForAudioClassification": "modeling_myna.MynaForAudioClassification",
        },
        task="music-embedding",
    ),
    *(
        Family(
            model_type=module,
            config=f"configuration_{module}.{prefix}Config",
            extractor="feature_extraction_music_tagging.MusicTaggingFeatureExtractor",
            models={
                "AutoModel": f"modeling_{module}.{prefix}Model",
                "AutoModelForAudioClassification": f"modeling_{module}.{prefix}ForAudioClassification",
            },
            task="music-tagging",
        )
        for module, prefix in (
            ("music_tagger", "MusicTagger"),
            ("musicnn", "Musicnn"),
            ("music_tagging_transformer", "MusicTaggingTransformer"),
        )
    ),
)
TASKS = (
    Task(
        name="mathrock-affect",
        pipeline="pipeline_mathrock_affect.MathRockAffectPipeline",
        auto_model="AutoModelForAudioClassification",
        default="mathrock-tiny",
    ),
    Task(
        name="music-tagging",
        pipeline="pipeline_music_tagging.MusicTaggingPipeline",
        auto_model="AutoModelForAudioClassification",
        default="mathrock-tiny",
    ),
    Task(
        name="music-embedding",
        pipeline="pipeline_music_embedding.MusicEmbeddingPipeline",
        auto_model="AutoModel",
        default="mathrock-tiny",
    ),
)


def family(model_type: str | None) -> Family:
    """The family of a model type.

    Raises:
        ValueError: There is none.
    """
    for known in FAMILIES:
        if known.model_type == model_type:
            return known
    near = difflib.get_close_matches(str(model_type), [known.model_type for known in FAMILIES], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ValueError(
        f"{model_type!r} is no model type of hf-mathrock; there is: "
        f"{', '.join(known.model_type for known in FAMILIES)}{hint}"
    )


def model_class(reference: str) -> Any:
    """The class behind a `module.Class` of the tables above."""
    module, name = reference.split(".")
    return getattr(import_module(f"hf_mathrock.models.{module}"), name)


@cache
def register_now() -> None:
    """Register every family and task with transformers; imports torch and the classes."""
    from transformers import AutoConfig, AutoFeatureExtractor
    from transformers.models.auto import modeling_auto
    from transformers.pipelines import PIPELINE_REGISTRY

    for known in FAMILIES:
        config = model_class(known.config)
        config.pipelines_installed = True
        AutoConfig.register(known.model_type, config, exist_ok=True)
        AutoFeatureExtractor.register(config, model_class(known.extractor), exist_ok=True)
        for auto_class, reference in known.models.items():
            getattr(modeling_auto, auto_class).register(config, model_class(reference), exist_ok=True)
    for task in TASKS:
        PIPELINE_REGISTRY.register_pipeline(
            task.name,
            pipeline_class=model_class(task.pipeline),
            pt_model=getattr(modeling_auto, task.auto_model),
            default={"model": (str(embedded_checkpoint(task.default)), None)},
            type="audio",
        )


def _shield_from_broken_torchaudio(import_utils: Any) -> None:
    """Let transformers do without a torchaudio that is installed but cannot be loaded.

    The Linux wheel of torchaudio 2.11 links CUDA libraries; beside a CPU-only torch its import raises `OSError`, and
    transformers, which imports it wherever it is installed, fails with it. Nothing here needs torchaudio.
    """

    def importable() -> bool:
        if not available():
            return False
        try:
            import_module("torchaudio")
        except (ImportError, OSError):
            return False
        return True

    available = import_utils.is_torchaudio_available
    import_utils.is_torchaudio_available = importable
    # Where it has been handed on already, the name there is another one.
    if (package := sys.modules.get("transformers.utils")) is not None:
        vars(package)["is_torchaudio_available"] = importable


def _store_paths_without_torchcodec(audio: Any) -> None:
    """Let `datasets` build an audio folder where torchcodec cannot be imported.

    `Audio.encode_example` of datasets 5.2 imports torchcodec, which needs FFmpeg's libraries, before it looks whether
    there is anything to encode; a path, or a file's bytes, are only written down.
    """

    def encode(function: Any, instance: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        value = args[0] if args else kwargs.get("value")
        if isinstance(value, (str, os.PathLike)):
            return {"bytes": None, "path": os.fspath(value)}
        if isinstance(value, dict) and value.keys() <= {"path", "bytes"}:
            return {"bytes": value.get("bytes"), "path": value.get("path")}
        return function(*args, **kwargs)

    wrapt.wrap_function_wrapper(audio, "Audio.encode_example", encode)


# What a user calls to look something up in transformers' registries.
_ENTRY_POINTS = (
    ("transformers.models.auto.configuration_auto", "AutoConfig.from_pretrained"),
    ("transformers.models.auto.configuration_auto", "AutoConfig.for_model"),
    ("transformers.models.auto.feature_extraction_auto", "AutoFeatureExtractor.from_pretrained"),
    ("transformers.pipelines", "pipeline"),
)


def _register_before(function: Any, instance: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    register_now()
    return function(*args, **kwargs)


def _wrap(function: str, module: Any) -> None:
    wrapt.wrap_function_wrapper(module, function, _register_before)


@cache
def register() -> None:
    """Have transformers know this package's families and tasks from their first use on; `import hf_mathrock` calls it.

    `register_now` costs the import of torch, and cannot run while transformers itself is being imported. So it waits
    until one of the functions that look something up is called.
    """
    wrapt.register_post_import_hook(_shield_from_broken_torchaudio, "transformers.utils.import_utils")
    wrapt.register_post_import_hook(_store_paths_without_torchcodec, "datasets.features.audio")
    for module_name, function in _ENTRY_POINTS:
        wrapt.register_post_import_hook(partial(_wrap, function), module_name)
    if "transformers.pipelines" in sys.modules:
        # The user may hold these functions already, unwrapped; torch is loaded, so nothing is left to save.
        register_now()
