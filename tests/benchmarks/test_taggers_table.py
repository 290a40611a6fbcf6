# SPDX-License-Identifier: Apache-2.0
"""The tables of taggers say what was measured, and nothing that was not."""

import copy
import json
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SPLITS = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def benchmark_modules(monkeypatch):
    """As `python benchmarks/taggers.py` finds them."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.fixture
def results():
    measured = {
        "map": 0.5,
        "map_interval": [0.45, 0.55],
        "roc_auc": 0.7,
        "chance_map": 0.3,
        "num_parameters": 1234567,
        "training_seconds": 90.0,
    }
    learned = {
        **measured,
        "left_out": [],
        "num_labels": 31,
        "num_steps": 150,
        "num_windows": 1200,
        "input_seconds": 29.0,
    }
    return {
        "budget": {"num_train": 1200, "num_test": 160, "seconds": 32.0},
        "recipe": {"per_device_train_batch_size": 8, "learning_rate": 1e-3},
        "models": {
            "logistic_regression": measured,
            "fcn": learned,
            "musicnn": {**learned, "map": 0.6, "map_interval": [0.56, 0.64], "input_seconds": 2.9},
        },
        "timing": {
            "clip_seconds": 30.0,
            "num_rounds": 5,
            "threads": 2,
            "models": {
                "fcn": {"median": 0.3, "min": 0.2, "max": 0.4},
                "musicnn": {"median": 0.2, "min": 0.2, "max": 0.3},
            },
        },
        "workers": 2,
        "environment": {
            "date": "2026-11-21",
            "processor": "a processor",
            "cpu_capability": "AVX2",
            "cores": 2,
            "threads": 2,
            "load_before": 0.1,
            "system": "Linux",
            "versions": {"torch": "2.13"},
        },
    }


def test_the_best_model_stands_first_with_its_interval_and_its_time(results):
    from tagger_tables import trained

    rows = [line for line in trained(results).splitlines() if line.startswith("|")][2:]
    assert rows == [
        "| MusiCNN | 0.600 (0.560–0.640) | 0.700 | 1,234,567 | 2.90 s | 1.5 min | 200 ms | 1.0 |",
        "| logistic regression on mel statistics | 0.500 (0.450–0.550) | 0.700 | 1,234,567 |  | 1.5 min |  |  |",
        "| FCN | 0.500 (0.450–0.550) | 0.700 | 1,234,567 | 29.00 s | 1.5 min | 300 ms | 1.5 |",
        "| chance: the share of pieces with a tag | 0.300 | 0.500 |  |  |  |  |  |",
    ]


def test_tags_that_no_test_piece_has_are_named(results):
    from tagger_tables import trained

    assert "do not count" not in trained(results)
    for model in results["models"].values():
        model["left_out"] = ["slide", "voice"]
    assert "No test piece has slide, voice" in " ".join(trained(results).split())


def test_published_figures_and_ours_stand_in_slots_of_their_own(results):
    from tagger_tables import PUBLISHED, filled, published, trained

    slots = "".join(f"<!-- {name}:start -->old<!-- {name}:end -->" for name in ("trained", "published"))
    text = filled(f"before\n{slots}\nafter", results)
    assert "old" not in text and text.startswith("before\n") and text.endswith("\nafter")
    assert published() in text and trained(results) in text
    assert not any(figure in trained(results) for cells in PUBLISHED.values() for figure in cells if figure)
    with pytest.raises(ValueError, match="has 0 slots named 'trained'"):
        filled("nothing", results)


def test_every_model_has_a_title():
    from tagger_tables import TITLES
    from taggers import BASELINE, MODELS

    assert set(TITLES) == {BASELINE, *MODELS}


def test_every_architecture_of_the_package_is_compared():
    from taggers import MODELS

    from hf_mathrock.models.configuration_musicnn import VARIANTS
    from hf_mathrock.models.tagger_presets import PRESETS

    assert {model["architecture"] for model in MODELS.values() if "architecture" in model} == set(PRESETS)
    assert {model.get("variant", "musicnn") for model in MODELS.values() if model["model_type"] == "musicnn"} == set(
        VARIANTS
    )


def test_the_pieces_of_the_splits_are_apart_and_longer_than_any_input():
    from taggers import MODELS, Budget, settings_of

    from hf_mathrock.registry import family
    from hf_mathrock.training.recipe import model_class

    budget = Budget()
    seeds = [
        range(getattr(budget, f"{s}_seed"), getattr(budget, f"{s}_seed") + getattr(budget, f"num_{s}")) for s in SPLITS
    ]
    assert all(not set(one) & set(other) for one in seeds for other in seeds if one is not other)
    for name in MODELS:
        model = dict(settings_of(name, budget)["model"])
        config = model_class(family(model.pop("model_type")).config)(**model)
        assert config.window_seconds < budget.seconds - 2  # a piece ends with the bar that is nearest


def test_the_recipe_says_how_to_make_the_pieces_by_hand():
    from taggers import RECIPE, Budget

    budget = Budget()
    text = RECIPE.read_text()
    for split in ("train", "validation"):
        assert (
            f"hf-mathrock synthesize --out tags/{split} --num {getattr(budget, f'num_{split}')} "
            f"--seed {getattr(budget, f'{split}_seed')} --seconds {budget.seconds:g} "
            f"--sampling-rate {budget.sampling_rate}"
        ) in text
    assert yaml.safe_load(text)["data"]["source"] == "tags"


def test_a_kept_result_is_used_as_long_as_its_settings_are_the_same(tmp_path, monkeypatch):
    import taggers

    budget = taggers.Budget()
    kept = tmp_path / "results" / "fcn.json"
    kept.parent.mkdir()
    kept.write_text(json.dumps({"settings": taggers.settings_of("fcn", budget), "map": 0.4}))
    assert taggers.train_all(["fcn"], budget, tmp_path, 1, anew=False)["fcn"]["map"] == 0.4

    def failing(*_, **__):
        raise InterruptedError("begun anew")

    monkeypatch.setattr(taggers.subprocess, "run", failing)
    with pytest.raises(InterruptedError):
        taggers.train_all(["fcn"], budget, tmp_path, 1, anew=True)
    other = copy.replace(budget, num_train=7) if hasattr(copy, "replace") else taggers.replace(budget, num_train=7)
    with pytest.raises(InterruptedError):
        taggers.train_all(["fcn"], other, tmp_path, 1, anew=False)


def test_the_readme_is_what_the_results_say():
    from taggers import README, RESULTS, tagger_tables

    if not RESULTS.exists():
        pytest.skip("benchmarks/taggers.py has not been run yet")
    text = README.read_text("utf-8")
    assert tagger_tables.filled(text, json.loads(RESULTS.read_text("utf-8"))) == text


def test_the_readme_names_every_recipe():
    from taggers import README

    text = README.read_text("utf-8")
    assert [path.name for path in (ROOT / "recipes").glob("*.yaml") if f"`{path.name}`" not in text] == []
