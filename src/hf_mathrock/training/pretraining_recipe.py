# SPDX-License-Identifier: Apache-2.0
"""Recipes for pretraining without labels: which tracks, which encoder, which crops."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hf_mathrock.data.crops import CropBatches
from hf_mathrock.registry import Family, model_class
from hf_mathrock.training.recipe_keys import (
    check_keys,
    check_numbers,
    check_sections,
    check_training,
    options_of,
    read_settings,
)

# Of `CropBatches`; the rest follow from the model, the tracks and the training arguments.
_CROP_KEYS = [
    name
    for name, parameter in inspect.signature(CropBatches).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name != "seed"
]


@dataclass
class PretrainingData:
    """Which tracks are learned from.

    Attributes:
        source: A folder of audio, or several: searched to the bottom. With `corpus`, where that lies.
        corpus: A published corpus, as `corpus_rows` names it; its published split is kept to.
        train: Instead of a source: generated pieces, as the arguments of `form_tracks`, `{"num", "seed", ...}`.
        validation: Likewise, of other seeds.
        validation_share: Of the tracks of a source that comes without a split, apart by artist, album and work.
        cache: Folder of the spectrograms; `None`: one in `~/.cache/hf-mathrock/mels`, for this source and front end.
        num_workers: Processes that compute them.
        max_broken: Share of the tracks that may be unreadable.
    """

    source: str | list[str] | None = None
    corpus: str | None = None
    train: dict[str, Any] | None = None
    validation: dict[str, Any] | None = None
    validation_share: float = 0.05
    cache: str | None = None
    num_workers: int = 2
    max_broken: float = 0.05

    def __post_init__(self) -> None:
        if (self.source is None) == (self.train is None):
            raise ValueError(
                "`data` needs either `source` (on the command line --data), a folder of music, or `train` (generated "
                "pieces), and not both."
            )
        if self.train is not None and self.validation is None:
            raise ValueError("`data.train` needs `data.validation` beside it: pieces of other seeds to measure on.")
        if not 0 < self.validation_share < 1:
            raise ValueError(
                f"`data.validation_share` is {self.validation_share}; it is a share of the tracks, above 0 and below 1."
            )
        for name in ("train", "validation"):
            if "num" not in (getattr(self, name) or {"num": 0}):
                raise ValueError(f"`data.{name}` lacks `num`, the number of pieces.")


@dataclass
class PretrainingRecipe:
    """A whole run.

    Attributes:
        name: Of the checkpoint.
        data: See `PretrainingData`.
        model: `model_type: myna` and fields of its config, with `size` and `front_end` for those of a preset; or
            `pretrained`, a folder or Hub name to go on from.
        pretraining: Options of `CropBatches`, of which `keep_ratio` is by default what the model's `patchout` leaves;
            and `validation_seconds`, the length of crops in validation (10).
        extractor: Fields of the extractor that the model does not settle.
        training: Fields of `MynaTrainingArguments`.
        seed: Of the split, weights, order and crops.
        card: What only the publisher knows, for the model card: see `hf-mathrock push`.
    """

    name: str
    data: PretrainingData
    model: dict[str, Any]
    pretraining: dict[str, Any] = field(default_factory=dict)
    extractor: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    card: dict[str, Any] = field(default_factory=dict)


def load_pretraining_recipe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> PretrainingRecipe:
    """Read and check a recipe.

    Args:
        path: A YAML file.
        overrides: Values by dotted path, such as `{"data.source": "my music"}`; they replace the file's.

    Raises:
        ValueError: A key is unknown (the message names the nearest) or missing.
        FileNotFoundError: There is no such file.
    """
    from transformers import PreTrainedConfig, TrainingArguments

    from hf_mathrock.data.forms import form_tracks
    from hf_mathrock.training.myna_arguments import MynaTrainingArguments

    settings = read_settings(path, overrides)
    check_keys(settings, [f.name for f in fields(PretrainingRecipe)], "the recipe")
    if missing := [key for key in ("name", "data", "model") if key not in settings]:
        raise ValueError(f"The recipe {path} lacks {', '.join(missing)}.")
    check_sections(settings, ("data", "model", "pretraining", "extractor", "training", "card"), path)
    check_numbers(settings, {"seed": 0}, "")

    data = settings["data"]
    check_keys(data, [f.name for f in fields(PretrainingData)], "`data`")
    check_numbers(data, {f.name: f.default for f in fields(PretrainingData)}, "data.")
    for split in ("train", "validation"):
        if data.get(split) is not None:
            check_keys(
                data[split], [name for name in options_of(form_tracks) if name != "sampling_rate"], f"`data.{split}`"
            )

    kind = encoder_family(settings["model"])
    config_class = model_class(kind.config)
    own = {f.name for f in fields(config_class)} - {f.name for f in fields(PreTrainedConfig)} | {"model_type", "dtype"}
    config_fields = {name: value for name, value in config_class().to_dict().items() if name in own}
    model = settings["model"]
    check_keys(model, ["pretrained", "size", "front_end", *config_fields], "`model`")
    check_numbers(model, config_fields, "model.")
    if model.get("pretrained") is None:
        encoder_config(kind, model)  # raises now, before any data are read
    elif presets := [key for key in ("size", "front_end") if key in model]:
        raise ValueError(f"`model.{presets[0]}` is of a new model, and `model.pretrained` has its own; leave one out.")
    check_keys(settings["extractor"], options_of(model_class(kind.extractor)), "`extractor`")

    check_keys(settings["pretraining"], [*_CROP_KEYS, "validation_seconds"], "`pretraining`")
    crop_defaults = {name: inspect.signature(CropBatches).parameters[name].default for name in _CROP_KEYS}
    # A share of tokens may also be a range of them.
    check_numbers(
        settings["pretraining"], {**crop_defaults, "keep_ratio": None, "validation_seconds": 1.0}, "pretraining."
    )

    argument_names = {f.name for f in fields(MynaTrainingArguments)} | {f.name for f in fields(TrainingArguments)}
    check_keys(settings["training"], sorted(argument_names - {"output_dir", "seed"}), "`training`")
    check_numbers(settings["training"], {f.name: f.default for f in fields(MynaTrainingArguments)}, "training.")
    check_training(settings["training"])
    return PretrainingRecipe(**{**settings, "data": PretrainingData(**data)})


def encoder_family(model: Mapping[str, Any]) -> Family:
    """The family of a recipe's `model`.

    Raises:
        ValueError: It is none that is pretrained without labels.
    """
    from hf_mathrock.training.recipe import family_of

    kind = family_of({"model_type": "myna"} if not {"model_type", "pretrained"} & set(model) else model)
    if "AutoModelForPreTraining" not in kind.models:
        raise ValueError(
            f"`model` is a {kind.model_type!r}, which learns from labels; a recipe with `pretraining` is for "
            "`model_type: myna`."
        )
    return kind


def encoder_config(kind: Family, model: Mapping[str, Any]) -> Any:
    """The config of a new model; single fields go before those of its presets."""
    config_class = model_class(kind.config)
    presets: dict[str, Any] = {}
    if model.get("size") is not None:
        presets.update(config_class.size(model["size"]))
    if model.get("front_end") is not None:
        presets.update(config_class.front_end(model["front_end"]))
    given = {
        name: value for name, value in model.items() if name not in ("model_type", "pretrained", "size", "front_end")
    }
    return config_class(**{**presets, **given})
