# SPDX-License-Identifier: Apache-2.0
"""The recipes for published corpora learn a step from tiny copies of them, with labels in the published order."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

import fake_corpora
from hf_mathrock.data import magnatagatune, million_song, mtg_jamendo
from hf_mathrock.models.tag_vocabularies import MAGNATAGATUNE_TAGS, MSD_TAGS
from hf_mathrock.training.recipe import load_recipe, run_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
JAMENDO_TAGS = ("mood/theme---Epic", "mood/theme---dark", "mood/theme---film", "mood/theme---happy")
SMALL = {
    "music_tagger": {
        "input_samples": 16_000,
        "stages": [{"block": "conv2d", "channels": 4, "pool": [8, 8]}, {"block": "conv2d", "channels": 4, "pool": 7}],
        "collapse": {"kind": "max"},
        "head": {"hidden": 8},
    },
    "musicnn": {"timbral_filters": 2, "temporal_filters": 2, "width": 4, "dense_size": 8},
    "music_tagging_transformer": {
        "input_samples": 22_050,
        "conv_channels": 4,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    },
}


@pytest.fixture(autouse=True)
def few_published(monkeypatch):
    """As if the tiny copies were all there is."""
    few = {"train": 2, "validation": 1, "test": 1}
    monkeypatch.setattr(magnatagatune, "PUBLISHED", {"drop": few, "keep": {**few, "test": 2}})
    few = {"train": 3, "validation": 1, "test": 2}
    monkeypatch.setattr(million_song, "PUBLISHED", {"conventional": few, "cals": few})
    monkeypatch.setitem(mtg_jamendo.NUM_TAGS, "top50tags", 4)
    monkeypatch.setitem(mtg_jamendo.NUM_TRACKS, "top50tags", 4)


def copy_of(corpus: str, folder: Path) -> Path:
    if corpus.startswith("mtg-jamendo"):
        return fake_corpora.jamendo(folder, subset="top50tags", seconds=4)
    make = {
        "magnatagatune": fake_corpora.magna,
        "million-song": fake_corpora.conventional,
        "million-song:split=cals": fake_corpora.cals,
    }[corpus.removesuffix(":untagged=keep")]
    return make(folder, seconds=4)


@pytest.mark.parametrize(
    ("name", "changes", "labels"),
    [
        ("magnatagatune-taggers", {}, MAGNATAGATUNE_TAGS),
        ("magnatagatune-musicnn", {}, MAGNATAGATUNE_TAGS),
        ("million-song-taggers", {}, MSD_TAGS),
        ("million-song-taggers", {"model.model_type": "music_tagging_transformer"}, MSD_TAGS),
        ("million-song-transformer", {"data.corpus": "million-song:split=cals"}, million_song.CALS_TAGS),
        ("mtg-jamendo-taggers", {"model.architecture": "harmonic"}, JAMENDO_TAGS),
    ],
)
def test_a_recipe_learns_a_step_from_a_tiny_copy_of_its_corpus(tmp_path, name, changes, labels):
    recipe = load_recipe(RECIPES / f"{name}.yaml", changes)
    source = copy_of(recipe.data.corpus, tmp_path / "corpus")
    small = {f"model.{key}": value for key, value in SMALL[recipe.model["model_type"]].items()}
    training = {"per_device_train_batch_size": 4, "dataloader_num_workers": 0, "disable_tqdm": True, "max_steps": 1}
    with warnings.catch_warnings():
        # Two training songs; and the copies share artists, as the corpora do, and say so.
        warnings.simplefilter("ignore")
        result = run_recipe(
            RECIPES / f"{name}.yaml",
            tmp_path / "run",
            {
                **changes,
                **small,
                **{f"training.{key}": value for key, value in training.items()},
                "data.source": str(source),
            },
            device="cpu",
        )
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert [task["labels"] for task in config["tasks"]] == [list(labels)]
    assert 0 < result["mean_score"] <= 1
    (loss,) = [entry["train_loss"] for entry in json.loads((tmp_path / "run" / "training_log.json").read_text())
               if "train_loss" in entry]  # fmt: skip
    assert loss > 0


@pytest.mark.parametrize("name", ["magnatagatune-taggers", "million-song-taggers", "mtg-jamendo-taggers"])
def test_the_benchmark_recipes_train_as_published(name):
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    assert recipe.training["optimizer_schedule"] == "tutorial"
    assert recipe.training["num_train_epochs"] == 200 and recipe.training["per_device_train_batch_size"] == 16


@pytest.mark.parametrize(
    "architecture", ["fcn", "short_chunk", "short_chunk_res", "harmonic", "sample", "sample_se", "crnn", "cnnsa"]
)
def test_any_architecture_fits_into_the_recipe_of_a_corpus(architecture):
    recipe = load_recipe(RECIPES / "magnatagatune-taggers.yaml", {"model.architecture": architecture})
    assert recipe.model["architecture"] == architecture
