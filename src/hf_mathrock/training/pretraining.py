# SPDX-License-Identifier: Apache-2.0
"""Pretraining from a recipe: a folder of music becomes an encoder of tracks."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hf_mathrock.data.crops import CropBatches, FixedCrops
from hf_mathrock.registry import model_class
from hf_mathrock.training.pretraining_recipe import (
    PretrainingRecipe,
    encoder_config,
    encoder_family,
    load_pretraining_recipe,
)
from hf_mathrock.training.pretraining_tracks import DividedTracks, load_tracks
from hf_mathrock.training.provenance import write_song_contents
from hf_mathrock.training.run_folder import begin_run, check_run_folder, end_run, wants_cpu

_DEFAULTS = {"save_strategy": "epoch", "save_total_limit": 2, "eval_strategy": "epoch", "logging_strategy": "epoch"}


def run_pretraining(
    path: str | Path,
    output_dir: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    resume: bool = False,
    device: str | None = None,
    cache_dir: str | Path | None = None,
    progress: Any = None,
) -> dict[str, Any]:
    """Pretrain what a recipe describes.

    The output folder then holds the encoder with its projector, its extractor and its code, `recipe.json` (the resolved
    recipe), `training_log.json`, and `training_songs.json`: which recordings it learned from and was measured on, and
    what was left out. While it runs, the checkpoints of an unfinished run are in the folder `trainer` inside.

    Args:
        path: The recipe.
        output_dir: Default `runs/<name>`.
        overrides: See `load_pretraining_recipe`.
        resume: Go on from the newest whole checkpoint of an unfinished run.
        device: "cpu" or "cuda"; `None`: what there is.
        cache_dir: Where spectrograms are kept between runs, if the recipe names no folder.
        progress: Called with (tracks done, tracks wanted) while spectrograms are computed.

    Returns:
        The metrics on the validation tracks, see `pair_retrieval`, and `output_dir`.

    Raises:
        ValueError: The recipe, the data or the device are not valid, or the folder holds another run.
    """
    from transformers import set_seed

    from hf_mathrock.training.myna_trainer import MynaTrainer

    recipe = load_pretraining_recipe(path, overrides)
    out = Path(output_dir or Path("runs") / recipe.name)
    settings = json.loads(json.dumps(asdict(recipe)))
    check_run_folder(out, settings, resume)
    if device is not None:
        recipe.training = {**recipe.training, "use_cpu": wants_cpu(device)}
    args = _arguments(recipe, out)
    set_seed(recipe.seed)
    model, extractor = _model_and_extractor(recipe)
    # One process writes; nodes need a file system in common.
    with args.main_process_first(local=False, desc="computing spectrograms"):
        tracks = load_tracks(
            recipe.data,
            extractor,
            min_seconds=_crop_options(recipe, model).get("min_seconds", 3.0),
            seed=recipe.seed,
            cache_dir=cache_dir,
            progress=progress,
            write=args.process_index == 0,
        )
    args = _fitting(args, recipe, out, len(tracks.train))
    train, validation = _crops(recipe, model, extractor, tracks, args.tracks_per_batch)
    trainer = MynaTrainer(
        model=model, args=args, train_dataset=train, eval_dataset=validation, processing_class=extractor
    )
    begin_run(out, settings)
    trainer.train(resume_from_checkpoint=resume)
    metrics = {key.removeprefix("eval_"): value for key, value in trainer.evaluate().items()}
    metrics = {key: value for key, value in metrics.items() if key == "loss" or key.startswith("retrieval_")}
    trainer.save_model(str(out))
    if trainer.is_world_process_zero():
        heard, measured = (list(filter(None, part.contents)) for part in (tracks.train, tracks.validation))
        write_song_contents(out, heard, measured, tracks.report)
        end_run(out, extractor, trainer.state.log_history)
    return {**metrics, "output_dir": str(out)}


def _arguments(recipe: PretrainingRecipe, out: Path, **changes: Any) -> Any:
    from hf_mathrock.training.myna_arguments import MynaTrainingArguments

    settings = {**_DEFAULTS, **recipe.training, **changes}
    try:
        return MynaTrainingArguments(output_dir=str(out / "trainer"), seed=recipe.seed, **settings)
    except ValueError as error:
        if "use_cpu" not in str(error):
            raise
        raise ValueError(f"{error} On the command line: --device cpu.") from error


def _fitting(args: Any, recipe: PretrainingRecipe, out: Path, num_tracks: int) -> Any:
    """Arguments whose batches are no larger than the library: more of a track in a batch teaches nothing."""
    if args.tracks_per_batch <= num_tracks:
        return args
    smaller = max(2, num_tracks // args.world_size)
    warnings.warn(
        f"A batch would be {args.tracks_per_batch} tracks, and there are {num_tracks} to learn from; a process takes "
        f"{smaller} instead of {args.train_batch_size}. With so few to tell apart, little can be learned.",
        stacklevel=3,
    )
    return _arguments(recipe, out, per_device_train_batch_size=max(1, smaller // max(1, args.n_gpu)))


def _model_and_extractor(recipe: PretrainingRecipe) -> tuple[Any, Any]:
    from hf_mathrock.training.recipe import checkpoint_source

    kind = encoder_family(recipe.model)
    model_of_family, extractor_class = model_class(kind.models["AutoModelForPreTraining"]), model_class(kind.extractor)
    if recipe.model.get("pretrained") is None:
        config = encoder_config(kind, recipe.model)
        return model_of_family(config), extractor_class.for_config(config, **recipe.extractor)
    changes = {name: value for name, value in recipe.model.items() if name not in ("model_type", "pretrained")}
    source = checkpoint_source(recipe.model["pretrained"])
    model = model_of_family.from_pretrained(source, **changes)
    return model, extractor_class.for_config(model.config, **recipe.extractor)


def _crop_options(recipe: PretrainingRecipe, model: Any) -> dict[str, Any]:
    options = {"keep_ratio": 1.0 - model.config.patchout, **recipe.pretraining}
    options.pop("validation_seconds", None)
    return options


def _crops(
    recipe: PretrainingRecipe, model: Any, extractor: Any, tracks: DividedTracks, batch_size: int
) -> tuple[CropBatches, FixedCrops]:
    patch_sizes, seed = model.config.patch_sizes, recipe.seed
    train = CropBatches(tracks.train, extractor, patch_sizes, batch_size, seed=seed, **_crop_options(recipe, model))
    seconds = recipe.pretraining.get("validation_seconds", 10.0)
    return train, FixedCrops(tracks.validation, extractor, patch_sizes, seconds=seconds, seed=seed)
