# SPDX-License-Identifier: Apache-2.0
"""Recipes: one YAML file names the model, the data and the training of a run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from hf_mathrock.data.loading import load_labelled_audio
from hf_mathrock.registry import Family, family, model_class
from hf_mathrock.training.recipe_keys import (
    check_keys,
    check_numbers,
    check_sections,
    check_training,
    options_of,
    read_settings,
)
from hf_mathrock.training.run_folder import begin_run, check_run_folder, end_run, wants_cpu
from hf_mathrock.zoo import EMBEDDED, embedded_checkpoint

CACHE_DIR = Path.home() / ".cache" / "hf-mathrock" / "generated"


@dataclass
class Data:
    """Where recordings come from: a source of your own, or pieces generated on the spot.

    Attributes:
        source: Anything `load_labelled_audio` takes: a folder, a table, a data set.
        corpus: The published corpus that `source` holds, if it is one.
        columns: Which column of the source holds the labels of which task.
        group_by: Columns whose values must not be in two splits.
        shares: Of the splits, where the source does not come split.
        on_leak: "warn", "raise" or "drop", where a group is in two splits that came with the source.
        max_broken: Share of recordings that may be unreadable.
        train: Instead of a source: generated training pieces, `{"num", "seed", "seconds", "sampling_rate"}`.
        validation: Likewise, of other seeds.
        augment: How much generated training windows are varied: "none", "light" or "heavy".
    """

    source: str | None = None
    corpus: str | None = None
    columns: dict[str, str] | None = None
    group_by: list[str] | str | None = None
    shares: dict[str, float] | None = None
    on_leak: Literal["warn", "raise", "drop"] = "warn"
    max_broken: float = 0.05
    train: dict[str, Any] | None = None
    validation: dict[str, Any] | None = None
    augment: str = "light"

    def __post_init__(self) -> None:
        if (self.source is None) == (self.train is None):
            raise ValueError(
                "`data` needs either `source` (on the command line --data) or `train` (generated pieces), and not both."
            )
        if self.train is not None and self.validation is None:
            raise ValueError("`data.train` needs `data.validation` beside it: pieces of other seeds to measure on.")


@dataclass
class Recipe:
    """A whole run.

    Attributes:
        name: Of the checkpoint.
        data: See `Data`.
        model: `model_type`, one of the families in `registry.FAMILIES` ("mathrock" where none is named), and fields of
            that family's config for a new model, or with `pretrained` (a folder, a Hub name or an embedded checkpoint)
            for one to go on from; of MathRock also with `backbones: {wavlm, clap}` for one between two pretrained
            backbones. `new_heads: true`: its tasks are those of the data, with fresh heads. A new tagger without
            `tasks` takes them from the data anyway, of generated pieces their tags.
        extractor: Fields of the family's extractor; those that a tagger's config settles may be left out.
        training: Fields of `MathRockTrainingArguments`.
        seed: Of splits, weights, order and augmentation.
        card: What only the publisher knows, for the model card: see `hf-mathrock push`.
    """

    name: str
    data: Data
    model: dict[str, Any]
    extractor: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    card: dict[str, Any] = field(default_factory=dict)


def load_recipe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read and check a recipe.

    Args:
        path: A YAML file.
        overrides: Values by dotted path, such as `{"training.num_train_epochs": 1}`; they replace the file's.

    Raises:
        ValueError: A key is unknown (the message names the nearest) or missing.
        FileNotFoundError: There is no such file.
    """
    from transformers import PreTrainedConfig, TrainingArguments

    from hf_mathrock.data.generated import GeneratedSplit
    from hf_mathrock.training.arguments import MathRockTrainingArguments

    settings = read_settings(path, overrides)
    if "pretraining" in settings:
        raise ValueError(f"{path} is a recipe for pretraining without labels; `load_pretraining_recipe` reads it.")
    recipe_fields = [f.name for f in fields(Recipe)]
    check_keys(settings, recipe_fields, "the recipe")
    if missing := [key for key in ("name", "data", "model") if key not in settings]:
        raise ValueError(f"The recipe {path} lacks {', '.join(missing)}.")
    check_sections(settings, ("data", "model", "extractor", "training", "card"), path)
    check_keys(settings["data"], [f.name for f in fields(Data)], "`data`")
    for split in ("train", "validation"):
        if settings["data"].get(split) is not None:
            check_keys(settings["data"][split], [f.name for f in fields(GeneratedSplit)], f"`data.{split}`")
    kind = family_of(settings["model"])
    config_class = model_class(kind.config)
    # Of transformers' own fields a recipe has no use but for these two.
    own = {f.name for f in fields(config_class)} - {f.name for f in fields(PreTrainedConfig)} | {"model_type", "dtype"}
    config_fields = {name: value for name, value in config_class().to_dict().items() if name in own}
    model_keys = ["pretrained", *(["backbones"] if kind.model_type == "mathrock" else []), "new_heads"] + [
        key for key in config_fields if key not in ("id2label", "label2id")
    ]
    check_keys(settings["model"], model_keys, "`model`")
    check_keys(settings["extractor"], options_of(model_class(kind.extractor)), "`extractor`")
    argument_names = {f.name for f in fields(MathRockTrainingArguments)} | {f.name for f in fields(TrainingArguments)}
    check_keys(settings["training"], sorted(argument_names - {"output_dir", "seed"}), "`training`")
    check_numbers(settings, {"seed": 0}, "")
    check_numbers(settings["model"], config_fields, "model.")
    new = {key: value for key, value in settings["model"].items() if key not in ("model_type", "new_heads")}
    if not {"pretrained", "backbones"} & set(new):
        model_class(kind.config)(**new)  # raises now, before any data are read
    training = settings["training"]
    check_numbers(training, {f.name: f.default for f in fields(MathRockTrainingArguments)}, "training.")
    check_training(training)
    return Recipe(**{**settings, "data": Data(**settings["data"])})


def family_of(model: Mapping[str, Any]) -> Family:
    """The family that the `model` of a recipe belongs to: that of its `pretrained`, its `model_type`, or MathRock.

    Raises:
        ValueError: There is no such family, or the two contradict each other.
        OSError: `pretrained` cannot be read; FileNotFoundError where there is nothing of that name.
    """
    from transformers import PreTrainedConfig

    named = model.get("model_type")
    if model.get("pretrained") is None:
        return family("mathrock" if named is None else named)
    source = checkpoint_source(model["pretrained"])
    try:
        found = PreTrainedConfig.get_config_dict(source)[0].get("model_type")
    except OSError as error:
        raise OSError(f"`model.pretrained` {str(source)!r} cannot be loaded: {error}") from error
    if named is not None and named != found:
        raise ValueError(f"`model.model_type` is {named!r}, and `model.pretrained` holds a {found!r}; leave one out.")
    return family(found)


def run_recipe(
    path: str | Path,
    output_dir: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    resume: bool = False,
    device: str | None = None,
    cache_dir: str | Path = CACHE_DIR,
    progress: Any = None,
) -> dict[str, Any]:
    """Train what a recipe describes; one with a section `pretraining` by `run_pretraining`.

    The output folder then holds the model, its extractor and its code, `recipe.json` (the resolved recipe),
    `training_log.json`, and `training_songs.json`: which recordings it learned from and was chosen by. The threshold
    from which labels of a multi-label task are active is the one that was best on the validation split. While it runs,
    the checkpoints of an unfinished run are in the folder `trainer` inside.

    Args:
        path: The recipe.
        output_dir: Default `runs/<name>`.
        overrides: See `load_recipe`.
        resume: Go on from the newest whole checkpoint of an unfinished run.
        device: "cpu" or "cuda"; `None`: what there is.
        cache_dir: Where generated windows are kept between runs.
        progress: Called with (pieces done, pieces wanted) while windows are generated.

    Returns:
        The metrics on the validation split, as `evaluate_tasks` names them, and `output_dir`.

    Raises:
        ValueError: The recipe, the data or the device are not valid, or the folder holds another run.
    """
    from transformers import set_seed

    from hf_mathrock.training.arguments import MathRockTrainingArguments
    from hf_mathrock.training.trainer import MathRockTrainer

    if "pretraining" in read_settings(path, overrides):
        from hf_mathrock.training.pretraining import run_pretraining

        return run_pretraining(path, output_dir, overrides, resume=resume, device=device, progress=progress)
    recipe = load_recipe(path, overrides)
    out = Path(output_dir or Path("runs") / recipe.name)
    settings = json.loads(json.dumps(asdict(recipe)))
    check_run_folder(out, settings, resume)
    if device is not None:
        recipe.training = {**recipe.training, "use_cpu": wants_cpu(device)}
    try:
        args = MathRockTrainingArguments(
            output_dir=str(out / "trainer"),
            seed=recipe.seed,
            **{
                "save_strategy": "epoch",
                "save_total_limit": 2,
                "eval_strategy": "epoch",
                "logging_strategy": "epoch",
                **recipe.training,
            },
        )
    except ValueError as error:
        if "use_cpu" not in str(error):
            raise
        raise ValueError(f"{error} On the command line: --device cpu.") from error
    set_seed(recipe.seed)
    songs = _songs(recipe)
    model, extractor = _model_and_extractor(recipe, None if songs is None else songs.tasks)
    if songs is None:
        with args.main_process_first(desc="making windows"):
            train, validation = _generated(recipe, model, extractor, cache_dir, progress)
    else:
        train, validation = songs["train"], songs["validation"]
    trainer = MathRockTrainer(
        model=model, args=args, train_dataset=train, eval_dataset=validation, processing_class=extractor
    )
    trainer.data_report = None if songs is None else songs.report
    begin_run(out, settings)
    trainer.train(resume_from_checkpoint=resume)
    evaluated = {key.removeprefix("eval_"): value for key, value in trainer.evaluate().items()}
    metrics = {key: value for key, value in evaluated.items() if key.startswith((*model.config.task_names, "mean_"))}
    model.config.thresholds = _fitted_thresholds(trainer, validation)
    trainer.save_model(str(out))
    if not trainer.is_world_process_zero():
        return {**metrics, "output_dir": str(out)}
    end_run(out, extractor, trainer.state.log_history)
    return {**metrics, "output_dir": str(out)}


def _songs(recipe: Recipe) -> Any:
    """The labelled recordings of a source; `None` where pieces are generated."""
    data = recipe.data
    if data.source is None:
        return None
    songs = load_labelled_audio(
        data.source,
        _expected_tasks(recipe),
        corpus=data.corpus,
        columns=data.columns,
        group_by=data.group_by,
        shares=data.shares,
        seed=recipe.seed,
        on_leak=data.on_leak,
        max_broken=data.max_broken,
    )
    if missing := [split for split in ("train", "validation") if split not in songs]:
        raise ValueError(f"{data.source} has no {' and no '.join(missing)} split; there is: {', '.join(songs)}.")
    return songs


def _expected_tasks(recipe: Recipe) -> list[dict[str, Any]] | None:
    """The tasks that labels must fit; `None`: whatever the data say."""
    if recipe.model.get("new_heads") or _tasks_are_open(recipe.model):
        return None
    kind = family_of(recipe.model)
    config_class = model_class(kind.config)
    if "tasks" in recipe.model or "pretrained" not in recipe.model:
        return config_class(tasks=recipe.model.get("tasks")).tasks
    return config_class.from_pretrained(checkpoint_source(recipe.model["pretrained"])).tasks


def _tasks_are_open(model: Mapping[str, Any]) -> bool:
    """Whether a new model has no labels of its own: MathRock comes with some, a tagger with none."""
    if model.get("pretrained") is not None or model.get("tasks") is not None:
        return False
    return family_of(model).model_type != "mathrock"


def _fitted_thresholds(trainer: Any, validation: Any) -> dict[str, list[float]]:
    """One activity threshold per multi-label task, for scores of whole recordings of the validation split."""
    from hf_mathrock.metrics.classification import best_threshold

    scores, labels = trainer.recording_scores(trainer.predict(validation))
    return {
        task["name"]: [best_threshold(scores[task["name"]], labels[task["name"]])] * len(task["labels"])
        for task in trainer.model.config.tasks
        if task["type"] == "multi_label"
    }


def checkpoint_source(name: str) -> Any:
    """Where `from_pretrained` finds what a recipe calls `pretrained`: a folder, a Hub name, or inside the package.

    Raises:
        FileNotFoundError: It can be none of these.
    """
    if name in EMBEDDED:
        return embedded_checkpoint(name)
    if not Path(name).is_dir() and not re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)):
        raise FileNotFoundError(
            f"`model.pretrained` is {name!r}: there is no such folder here, and it is no name on the Hub (org/name); "
            f"inside the package: {', '.join(EMBEDDED)}."
        )
    return name


def _model_and_extractor(recipe: Recipe, tasks: list[dict[str, Any]] | None) -> tuple[Any, Any]:
    from hf_mathrock.data.generated import tasks_of_pieces

    kind = family_of(recipe.model)
    config_class, extractor_class = model_class(kind.config), model_class(kind.extractor)
    model_of_family = model_class(kind.models["AutoModelForAudioClassification"])
    settings = dict(recipe.model)
    settings.pop("model_type", None)
    pretrained, backbones = settings.pop("pretrained", None), settings.pop("backbones", None)
    if tasks is None and kind.model_type != "mathrock":
        tasks = tasks_of_pieces()
    if settings.pop("new_heads", False) or _tasks_are_open(recipe.model):
        if tasks is None:
            raise ValueError(
                "`model.new_heads` takes the tasks from `data.source`; generated pieces have the usual ones."
            )
        settings["tasks"] = tasks
    if pretrained is not None and backbones is not None:
        raise ValueError("`model` names both `pretrained` and `backbones`; a model begins from one of them.")
    if backbones is not None:
        check_keys(backbones, ["wavlm", "clap"], "`model.backbones`")
        return model_of_family.from_backbones(**backbones, **settings), extractor_class(**recipe.extractor)
    if pretrained is None:
        config = config_class(**settings)
        if hasattr(extractor_class, "for_config"):
            return model_of_family(config), extractor_class.for_config(config, **recipe.extractor)
        return model_of_family(config), extractor_class(**recipe.extractor)
    source = checkpoint_source(pretrained)
    try:
        model = model_of_family.from_pretrained(source, ignore_mismatched_sizes="tasks" in settings, **settings)
    except RuntimeError as error:
        if "ignore_mismatched_sizes" not in str(error):
            raise
        raise ValueError(
            f"The weights of {pretrained!r} have other sizes than `model` asks for ({', '.join(settings)}); leave this "
            "out, or begin without `pretrained`."
        ) from error
    if "temperatures" not in settings:
        model.config.temperatures = None  # they were fitted to the weights of before
    followed: dict[str, Any] = {}
    if hasattr(extractor_class, "for_config"):
        # What the config settles follows the changed config; what it does not, such as the hop, stays as it was saved.
        before = config_class.from_pretrained(source).extractor_settings()
        now = model.config.extractor_settings()
        followed = {name: value for name, value in now.items() if value != before.get(name)}
    return model, extractor_class.from_pretrained(source, **{**followed, **recipe.extractor})


def _generated(recipe: Recipe, model: Any, extractor: Any, cache_dir: str | Path, progress: Any) -> tuple[Any, Any]:
    """Training and validation windows of generated pieces."""
    from hf_mathrock.data.generated import GeneratedSplit, GeneratedWindows

    data = recipe.data

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
