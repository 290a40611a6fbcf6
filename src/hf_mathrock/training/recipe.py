# SPDX-License-Identifier: Apache-2.0
"""Recipes: one YAML file names the model, the data and the training of a run."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml

CACHE_DIR = Path.home() / ".cache" / "hf-mathrock" / "generated"


@dataclass
class Data:
    """Where windows come from: pieces generated on the spot, or a folder `datasets` reads.

    Attributes:
        train: Generated training pieces, `{"num", "seed", "seconds", "sampling_rate"}`.
        validation: Likewise, of other seeds.
        folder: Instead: an audio folder with a metadata file of label columns.
        validation_share: Share of the folder's rows held out, in (0, 1).
        augment: How much generated training windows are varied: "none", "light" or "heavy".
    """

    train: dict[str, Any] | None = None
    validation: dict[str, Any] | None = None
    folder: str | None = None
    validation_share: float = 0.1
    augment: str = "light"

    def __post_init__(self) -> None:
        if (self.folder is None) == (self.train is None):
            raise ValueError("`data` needs either `folder` or `train` (generated pieces), and not both.")
        if self.train is not None and self.validation is None:
            raise ValueError("`data.train` needs `data.validation` beside it: pieces of other seeds to measure on.")
        if not 0 < self.validation_share < 1:
            raise ValueError(f"`data.validation_share` is {self.validation_share}; it must lie between 0 and 1.")


@dataclass
class Recipe:
    """A whole run.

    Attributes:
        name: Of the checkpoint.
        data: See `Data`.
        model: Fields of `MathRockConfig` for a new model, or `{"pretrained": folder or name}` to go on from one.
        extractor: Fields of `MathRockFeatureExtractor`.
        training: Fields of `MathRockTrainingArguments`.
        seed: Of weights, order and augmentation.
    """

    name: str
    data: Data
    model: dict[str, Any]
    extractor: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    seed: int = 0


def _check_keys(given: Mapping[str, Any], known: list[str], where: str) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}."
            raise ValueError(f"Unknown key {key!r} in {where}; {hint}")


def _set(settings: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        settings = settings.setdefault(parent, {})
        if not isinstance(settings, dict):
            raise ValueError(f"{path!r} cannot be set: {parent!r} is a single value in the recipe.")
    settings[last] = value


def load_recipe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read and check a recipe.

    Args:
        path: A YAML file.
        overrides: Values by dotted path, such as `{"training.num_train_epochs": 1}`; they replace the file's.

    Raises:
        ValueError: A key is unknown (the message names the nearest) or missing.
        FileNotFoundError: There is no such file.
    """
    from transformers import TrainingArguments

    from hf_mathrock.data.generated import GeneratedSplit
    from hf_mathrock.models.configuration_mathrock import MathRockConfig
    from hf_mathrock.training.arguments import MathRockTrainingArguments

    try:
        settings = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} is no recipe: expected keys such as `name`, `model` and `data`.")
    for key, value in (overrides or {}).items():
        _set(settings, key, value)

    recipe_fields = [f.name for f in fields(Recipe)]
    _check_keys(settings, recipe_fields, "the recipe")
    if missing := [key for key in ("name", "data", "model") if key not in settings]:
        raise ValueError(f"The recipe {path} lacks {', '.join(missing)}.")
    _check_keys(settings["data"], [f.name for f in fields(Data)], "`data`")
    for split in ("train", "validation"):
        if settings["data"].get(split) is not None:
            _check_keys(settings["data"][split], [f.name for f in fields(GeneratedSplit)], f"`data.{split}`")
    model_keys = ["pretrained"] + [key for key in MathRockConfig().to_dict() if key not in ("id2label", "label2id")]
    _check_keys(settings["model"], model_keys, "`model`")
    argument_names = {f.name for f in fields(MathRockTrainingArguments)} | {f.name for f in fields(TrainingArguments)}
    _check_keys(settings.get("training") or {}, sorted(argument_names - {"output_dir", "seed"}), "`training`")
    return Recipe(**{**settings, "data": Data(**settings["data"])})


def run_recipe(
    path: str | Path,
    output_dir: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    cache_dir: str | Path = CACHE_DIR,
    progress: Any = None,
) -> dict[str, Any]:
    """Train what a recipe describes.

    The output folder then holds the model, its extractor and its code, `recipe.json` (the resolved recipe) and
    `training_log.json`. The threshold from which labels of a multi-label task are active is the one that was best on
    the validation split.

    Args:
        path: The recipe.
        output_dir: Default `runs/<name>`.
        overrides: See `load_recipe`.
        cache_dir: Where generated windows are kept between runs.
        progress: Called with (pieces done, pieces wanted) while windows are generated.

    Returns:
        The metrics on the validation split, as `evaluate_tasks` names them, and `output_dir`.

    Raises:
        ValueError: The recipe or the data are not valid.
    """
    from transformers import set_seed

    from hf_mathrock.training.arguments import MathRockTrainingArguments
    from hf_mathrock.training.trainer import MathRockTrainer

    recipe = load_recipe(path, overrides)
    out = Path(output_dir or Path("runs") / recipe.name)
    set_seed(recipe.seed)
    model, extractor = _model_and_extractor(recipe)
    train, validation = _datasets(recipe, model, extractor, cache_dir, progress)
    args = MathRockTrainingArguments(
        output_dir=str(out / "trainer"),
        seed=recipe.seed,
        **{"save_strategy": "no", "eval_strategy": "epoch", "logging_strategy": "epoch", **recipe.training},
    )
    trainer = MathRockTrainer(
        model=model, args=args, train_dataset=train, eval_dataset=validation, processing_class=extractor
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n")
    trainer.train()
    evaluated = {key.removeprefix("eval_"): value for key, value in trainer.evaluate().items()}
    metrics = {key: value for key, value in evaluated.items() if key.startswith((*model.config.task_names, "mean_"))}
    trainer.model.config.thresholds = _fitted_thresholds(trainer, validation)
    trainer.model.eval().save_pretrained(out)
    extractor.save_pretrained(out)
    (out / "training_log.json").write_text(json.dumps(trainer.state.log_history, indent=1) + "\n")
    return {**metrics, "output_dir": str(out)}


def _fitted_thresholds(trainer: Any, validation: Any) -> dict[str, list[float]]:
    """One activity threshold per multi-label task, from the validation split (`predictions` is logits, task logits)."""
    from hf_mathrock.metrics.classification import best_threshold

    prediction = trainer.predict(validation)
    thresholds = {}
    for task in trainer.model.config.tasks:
        if task["type"] == "multi_label":
            name = task["name"]
            logits = prediction.predictions[1][name].astype(np.float64)
            probabilities = 1 / (1 + np.exp(-logits / trainer.model.config.task_temperature(name)))
            thresholds[name] = [best_threshold(probabilities, prediction.label_ids[name])] * len(task["labels"])
    return thresholds


def _model_and_extractor(recipe: Recipe) -> tuple[Any, Any]:
    from hf_mathrock.models.configuration_mathrock import MathRockConfig
    from hf_mathrock.models.feature_extraction_mathrock import MathRockFeatureExtractor
    from hf_mathrock.models.modeling_mathrock import MathRockForAudioClassification
    from hf_mathrock.zoo import EMBEDDED, embedded_checkpoint

    settings = dict(recipe.model)
    pretrained = settings.pop("pretrained", None)
    if pretrained is None:
        return MathRockForAudioClassification(MathRockConfig(**settings)), MathRockFeatureExtractor(**recipe.extractor)
    source = embedded_checkpoint(pretrained) if pretrained in EMBEDDED else pretrained
    model = MathRockForAudioClassification.from_pretrained(source, **settings)
    return model, MathRockFeatureExtractor.from_pretrained(source, **recipe.extractor)


def _datasets(recipe: Recipe, model: Any, extractor: Any, cache_dir: str | Path, progress: Any) -> tuple[Any, Any]:
    data = recipe.data
    if data.folder is not None:
        from datasets import Audio, load_dataset

        if not Path(data.folder).is_dir():
            raise ValueError(f"`data.folder` is {data.folder!r}, which is no folder.")
        rows = load_dataset("audiofolder", data_dir=data.folder, split="train").cast_column(
            "audio", Audio(decode=False)
        )
        split = rows.train_test_split(data.validation_share, seed=recipe.seed)
        return split["train"], split["test"]
    from hf_mathrock.data.generated import GeneratedSplit, GeneratedWindows

    def windows(settings: Mapping[str, Any], augment: Any) -> GeneratedWindows:
        return GeneratedWindows(
            GeneratedSplit(**settings),
            extractor,
            model.config.tasks,
            cache_dir,
            augment=augment,
            progress=progress,
        )

    assert data.train is not None and data.validation is not None  # see `Data`
    return windows(data.train, data.augment), windows(data.validation, "none")
