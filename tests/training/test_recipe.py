# SPDX-License-Identifier: Apache-2.0
"""Recipes: checked before anything is done, and enough to train a model again."""

import json
from pathlib import Path

import pytest
import yaml

from hf_mathrock import MathRockFeatureExtractor, MathRockForAudioClassification, pipeline
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
    assert load_recipe(path).name == path.stem


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modle": {}}, "'modle' in the recipe; did you mean 'model'"),
        ({"training": {"learning_rat": 1}}, "did you mean 'learning_rate'"),
        ({"model": {"hiden_size": 3}}, "did you mean 'hidden_size'"),
        ({"data": {"folder": "x", "train": {}}}, "not both"),
        ({"data": {"train": {"number": 3}}}, "'number' in `data.train`"),
        ({"data": {"folder": "nowhere at all"}}, "no folder"),
    ],
)
def test_what_is_wrong_is_named(changes, message, recipe, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_recipe(recipe(**changes), tmp_path / "out", cache_dir=tmp_path / "cache")


def test_what_is_no_recipe_is_said_to_be_none(tmp_path):
    for text, message in (("a: [", "not a YAML file"), ("just words", "no recipe"), ("name: x", "lacks data, model")):
        (tmp_path / "recipe.yaml").write_text(text)
        with pytest.raises(ValueError, match=message):
            load_recipe(tmp_path / "recipe.yaml")
    with pytest.raises(ValueError, match="single value"):
        load_recipe(RECIPES[0], {"name.first": 1})


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
