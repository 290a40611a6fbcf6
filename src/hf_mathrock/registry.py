# SPDX-License-Identifier: Apache-2.0
"""What this package tells transformers: which classes belong to a `model_type`, which pipeline to a task."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import wrapt

from hf_mathrock.zoo import embedded_checkpoint


@dataclass(frozen=True)
class Family:
    """One model family: modules of `hf_mathrock.models` and the classes in them."""

    model_type: str
    config: str
    extractor: str
    models: dict[str, str]


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
    ),
)
TASKS = (
    Task(
        name="mathrock-affect",
        pipeline="pipeline_mathrock_affect.MathRockAffectPipeline",
        auto_model="AutoModelForAudioClassification",
        default="mathrock-tiny",
    ),
)


def model_class(reference: str) -> Any:
    """The class behind a `module.Class` of the tables above."""
    module, name = reference.split(".")
    return getattr(import_module(f"hf_mathrock.models.{module}"), name)


def _register_config(auto: Any, family: Family) -> None:
    config = model_class(family.config)
    config.pipelines_installed = True
    auto.AutoConfig.register(family.model_type, config, exist_ok=True)


def _register_model(auto: Any, family: Family, auto_class: str, reference: str) -> None:
    getattr(auto, auto_class).register(model_class(family.config), model_class(reference), exist_ok=True)


def _register_extractor(auto: Any, family: Family) -> None:
    auto.AutoFeatureExtractor.register(model_class(family.config), model_class(family.extractor), exist_ok=True)


def _register_pipeline(pipelines: Any, task: Task) -> None:
    from transformers.models.auto import modeling_auto

    if task.name in pipelines.PIPELINE_REGISTRY.supported_tasks:
        return
    pipelines.PIPELINE_REGISTRY.register_pipeline(
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
    if (package := sys.modules.get("transformers.utils")) is not None:
        package.is_torchaudio_available = importable


def _when_both_loaded(theirs: str, reference: str, action: Callable[..., None], *arguments: Any) -> None:
    """Run `action(theirs, *arguments)` as soon as transformers' module `theirs` and our own module are both imported.

    Registering imports our classes, hence torch, so it waits until the user's code imports the part of transformers that
    looks them up. Where our own module was the first and is importing transformers just now, it waits for that to end.
    """
    ours = f"hf_mathrock.models.{reference.split('.')[0]}"

    def after_theirs(module: Any) -> None:
        loaded = sys.modules.get(ours)
        if loaded is None or not getattr(loaded.__spec__, "_initializing", False):
            action(module, *arguments)

    def after_ours(_: Any) -> None:
        if (module := sys.modules.get(theirs)) is not None:
            action(module, *arguments)

    wrapt.register_post_import_hook(after_theirs, theirs)
    wrapt.register_post_import_hook(after_ours, ours)


def register() -> None:
    """Make transformers know the families and tasks of this package; called by `import hf_mathrock`."""
    wrapt.register_post_import_hook(_shield_from_broken_torchaudio, "transformers.utils.import_utils")
    auto = "transformers.models.auto"
    for family in FAMILIES:
        _when_both_loaded(f"{auto}.configuration_auto", family.config, _register_config, family)
        _when_both_loaded(f"{auto}.feature_extraction_auto", family.extractor, _register_extractor, family)
        for auto_class, reference in family.models.items():
            _when_both_loaded(f"{auto}.modeling_auto", reference, _register_model, family, auto_class, reference)
    for task in TASKS:
        _when_both_loaded("transformers.pipelines", task.pipeline, _register_pipeline, task)
