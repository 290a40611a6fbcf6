# SPDX-License-Identifier: Apache-2.0
"""Recipes: checked before anything is done, and enough to train a model again."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
import yaml

from hf_mathrock import MathRockFeatureExtractor, MathRockForAudioClassification, pipeline
from hf_mathrock.training.pretraining_recipe import load_pretraining_recipe
from hf_mathrock.training.recipe import load_recipe, run_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


@pytest.fixture
def recipe(tmp_path, tiny_settings):
    def write(**changes):
        settings = {
            "name": "small",
            "model": tiny_settings,
            "data": {
                "train": {"num": 4, "seed": 1, "seconds": 12},
                "validation": {"num": 2, "seed": 90, "seconds": 12},
            },
            "training": {"max_steps": 2, "per_device_train_batch_size": 2, "use_cpu": True, "disable_tqdm": True},
            **changes,
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    return write


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_the_recipes_of_the_repository_are_valid(path):
    load = load_pretraining_recipe if "pretraining" in yaml.safe_load(path.read_text()) else load_recipe
    assert load(path).name == path.stem


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modle": {}}, "'modle' in the recipe; did you mean 'model'"),
        ({"training": {"learning_rat": 1}}, "did you mean 'learning_rate'"),
        ({"model": {"hiden_size": 3}}, "did you mean 'hidden_size'"),
        ({"extractor": {"window_second": 3}}, "'window_second' in `extractor`; did you mean 'window_seconds'"),
        ({"training": ["lora"]}, "`training` in .* must map keys"),
        ({"training": {"learning_rate": "much"}}, "`training.learning_rate` is 'much'; a number"),
        ({"training": {"num_train_epochs": 0}}, "nothing would be trained"),
        ({"seed": "x"}, "`seed` is 'x'; a whole number"),
        ({"model": {"focal_gamma": "x"}}, "`model.focal_gamma` is 'x'"),
        ({"model": {"pretrained": "nowhere"}}, "no such folder here.* mathrock-tiny"),
        (
            {"model": {"pretrained": "mathrock-tiny", "hidden_size": 8}},
            "other sizes than `model` asks for .hidden_size",
        ),
        ({"data": {"source": "x", "train": {}}}, "not both"),
        ({"data": {}}, "on the command line --data"),
        ({"data": {"train": {"number": 3}}}, "'number' in `data.train`"),
        ({"data": {"source": "nowhere at all"}}, "nowhere at all"),
        ({"model": {"pretrained": "mathrock-tiny", "backbones": {}}}, "begins from one of them"),
        ({"model": {"new_heads": True}}, "takes the tasks from `data.source`"),
    ],
)
def test_what_is_wrong_is_named(changes, message, recipe, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_recipe(recipe(**changes), tmp_path / "out", cache_dir=tmp_path / "cache")


def test_what_is_no_recipe_is_said_to_be_none(tmp_path):
    for text, message in (("a: [", "not a YAML file"), ("just words", "no recipe"), ("name: x", "lacks data, model")):
        (tmp_path / "recipe.yaml").write_text(text)
        with pytest.raises(ValueError, match=message):
            load_recipe(tmp_path / "recipe.yaml")
    with pytest.raises(ValueError, match="single value"):
        load_recipe(RECIPES[0], {"name.first": 1})
    with pytest.raises(FileNotFoundError, match="There is no recipe .*nowhere.yaml"):
        load_recipe(tmp_path / "nowhere.yaml")
    (tmp_path / "song.flac").write_bytes(b"fLaC\xff\xfe\xc4")
    for place in (tmp_path, tmp_path / "song.flac"):
        with pytest.raises(ValueError, match="is no recipe: expected a YAML file"):
            load_recipe(place)


def test_numbers_are_read_as_people_write_them(recipe):
    path = recipe(training={"use_cpu": True})
    written = "learning_rate: 1e-4\n  weight_decay: 1E-2\n  eval_strategy: no"
    path.write_text(path.read_text().replace("use_cpu: true", written))
    assert load_recipe(path).training == {"learning_rate": 1e-4, "weight_decay": 0.01, "eval_strategy": "no"}


def test_a_run_leaves_a_model_that_tags_and_the_recipe_that_made_it(recipe, tmp_path):
    seen = []
    metrics = run_recipe(
        recipe(),
        tmp_path / "out",
        {"training.max_steps": 1},
        cache_dir=tmp_path / "cache",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (2, 2) and 0 <= metrics["tempo_accuracy"] <= 1
    resolved = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert resolved["training"]["max_steps"] == 1 and resolved["data"]["train"]["num"] == 4
    pipe = pipeline("mathrock-affect", model=str(tmp_path / "out"), device="cpu")
    model = MathRockForAudioClassification.from_pretrained(tmp_path / "out")
    assert pipe.model.config.task_names == model.config.task_names
    assert MathRockFeatureExtractor.from_pretrained(tmp_path / "out").window_seconds == 10

    # The same recipe again uses the windows that are there, and gives the same weights.
    again = run_recipe(recipe(), tmp_path / "again", {"training.max_steps": 1}, cache_dir=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert {key: again[key] for key in again if key != "output_dir"} == {
        key: metrics[key] for key in metrics if key != "output_dir"
    }
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "again")]
    assert weights[0] == weights[1]

    # From there it goes on: temperatures that were fitted to other weights are not taken along.
    config = json.loads((tmp_path / "again" / "config.json").read_text()) | {"temperatures": {"tempo": 2.0}}
    (tmp_path / "again" / "config.json").write_text(json.dumps(config))
    on = recipe(model={"pretrained": str(tmp_path / "again")})
    run_recipe(on, tmp_path / "on", {"training.max_steps": 1}, cache_dir=tmp_path / "cache")
    assert MathRockForAudioClassification.from_pretrained(tmp_path / "on").config.temperatures is None


@pytest.fixture
def corpus(tmp_path):
    """Twenty short tones by four artists, whose pitch is their class; the labels are none of the model's."""
    folder = tmp_path / "tones"
    folder.mkdir()
    lines = ["file_name,artist,register,colour"]
    for index in range(20):
        high = index % 2
        time = np.arange(24_000) / 16_000
        audio = 0.3 * np.sin(2 * np.pi * (220 if not high else 1_760) * time + index)
        sf.write(folder / f"{index}.wav", audio, 16_000)
        lines.append(f"{index}.wav,artist {index // 4},{('low', 'high')[high]},{'' if index % 3 else 'bright;plain'}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    return folder


def test_labels_of_ones_own_get_heads_of_their_own(recipe, corpus, tmp_path):
    data = {"source": str(corpus)}
    with pytest.raises(ValueError, match="--new-heads|label column"):
        run_recipe(recipe(data=data), tmp_path / "refused")
    metrics = run_recipe(recipe(data=data, model={"pretrained": "mathrock-tiny", "new_heads": True}), tmp_path / "out")
    assert {"register_accuracy", "colour_map"} <= set(metrics)
    config = MathRockForAudioClassification.from_pretrained(tmp_path / "out").config
    assert {task["name"]: task["labels"] for task in config.tasks} == {
        "register": ["high", "low"],
        "colour": ["bright", "plain"],
    }
    songs = json.loads((tmp_path / "out" / "training_songs.json").read_text())
    assert 14 <= len(songs["songs"] + songs["selected_on"]) < 20  # those of the test split are not among them
    with pytest.raises(ValueError, match="holds a trained model already"):
        run_recipe(recipe(data=data), tmp_path / "out")


def test_an_unfinished_run_is_never_lost(recipe, corpus, tmp_path, monkeypatch):
    settings = {"data": {"source": str(corpus)}, "model": {"pretrained": "mathrock-tiny", "new_heads": True}}
    training = {
        "tuning": "heads",
        "num_train_epochs": 3,
        "use_cpu": True,
        "disable_tqdm": True,
        "embedding_cache_dir": str(tmp_path / "embeddings"),
    }
    path = recipe(**settings, training=training)
    run_recipe(path, tmp_path / "whole")

    from hf_mathrock.training.trainer import MathRockTrainer

    with monkeypatch.context() as patch:
        step, save = MathRockTrainer.training_step, MathRockTrainer.save_model

        def interrupted(self, *args, **kwargs):
            if self.state.epoch is not None and self.state.epoch >= 2:
                raise KeyboardInterrupt
            return step(self, *args, **kwargs)

        patch.setattr(MathRockTrainer, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(path, tmp_path / "stopped")
    with pytest.raises(ValueError, match="--resume"):
        run_recipe(path, tmp_path / "stopped")
    with pytest.raises(ValueError, match="differs in training"):
        run_recipe(path, tmp_path / "stopped", {"training.num_train_epochs": 4}, resume=True)
    with monkeypatch.context() as patch:

        def cut_off(self, folder=None, _internal_call=False):
            if _internal_call:  # a checkpoint
                return save(self, folder, _internal_call)
            (Path(folder) / "model.safetensors").write_bytes(b"half a mo")
            raise KeyboardInterrupt

        patch.setattr(MathRockTrainer, "save_model", cut_off)
        with pytest.raises(KeyboardInterrupt):  # trained to the end, and killed while the model is written
            run_recipe(path, tmp_path / "stopped", resume=True)
    run_recipe(path, tmp_path / "stopped", resume=True)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert weights[0] == weights[1]
    assert not (tmp_path / "stopped" / "trainer").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said_to_be_absent(recipe, tmp_path):
    with pytest.raises(ValueError, match="CUDA was asked for, but torch .* --device cpu"):
        run_recipe(recipe(), tmp_path / "out", device="cuda")
