# SPDX-License-Identifier: Apache-2.0
"""The checkpoint in the wheel: small, described by its own card, and of some use."""

import json
import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hf_mathrock import embedded_checkpoint, pipeline
from hf_mathrock.evaluation.generated import Protocol, evaluate_generated
from hf_mathrock.model_card.card import render_card
from hf_mathrock.model_card.source import read_source

ROOT = Path(__file__).parents[1]
CHECKPOINT = embedded_checkpoint()


@pytest.fixture(scope="module")
def pipe():
    return pipeline("mathrock-affect", device="cpu")


@pytest.fixture(scope="module")
def results():
    return json.loads((CHECKPOINT / "results.json").read_text())


def test_it_is_small(pipe):
    assert sum(parameter.numel() for parameter in pipe.model.parameters()) <= 2_500_000
    assert (CHECKPOINT / "model.safetensors").stat().st_size <= 10_000_000


def test_its_results_are_of_these_weights_and_its_card_of_these_results(pipe, results):
    answer = pipe(np.sin(np.arange(48_000) / 20).astype(np.float32), sampling_rate=48_000)
    assert answer["model"] == {"name": "mathrock-tiny", "fingerprint": results["fingerprint"]}
    assert (CHECKPOINT / "README.md").read_text() == render_card(read_source(CHECKPOINT))


def test_its_recipe_is_the_one_in_the_repository():
    from hf_mathrock.training.recipe import load_recipe

    recipe = load_recipe(ROOT / "recipes" / "mathrock-tiny.yaml")
    stored = json.loads((CHECKPOINT / "recipe.json").read_text())
    for key in ("seed", "model", "extractor", "training"):
        assert stored[key] == getattr(recipe, key), key
    for split in ("train", "validation"):
        assert stored["data"][split] == getattr(recipe.data, split), split


def test_it_is_calibrated_on_other_pieces_than_those_it_is_measured_on(pipe, results):
    calibration = json.loads((CHECKPOINT / "calibration.json").read_text())
    assert calibration["fingerprint"] == results["fingerprint"]
    emotion = calibration["tasks"]["emotion"]
    assert pipe.model.config.task_thresholds("emotion") == list(emotion["thresholds"].values())
    assert pipe.model.config.task_temperature("emotion") == emotion["temperature"]
    assert emotion["ece_after"] < 0.5 * emotion["ece_before"]
    digests = {name: entry["data"]["songs_digest"] for name, entry in results["sets"].items()}
    assert calibration["fitted_on"]["songs_digest"] not in digests.values()
    assert calibration["reported_on"]["songs_digest"] == digests["unseen_seeds"]


def test_its_figures_come_with_intervals(results):
    for entry in results["sets"].values():
        for metric, (low, high) in entry["intervals"].items():
            assert low <= high and metric in entry["metrics"]
            if metric.endswith(("_accuracy", "_macro_f1")):
                assert low <= entry["metrics"][metric] <= high, metric
        assert {"tempo_accuracy", "vibe_macro_f1", "emotion_map", "emotion_ece"} <= set(entry["intervals"])


def test_it_hears_pieces_it_has_never_seen(pipe, results):
    """Three standard errors below the published figure is where chance ends on so few pieces."""
    num = 30
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        measured = evaluate_generated(pipe, Protocol(num, seed=3_100_000))["metrics"]
    published = results["sets"]["unseen_seeds"]["metrics"]
    for task in ("tempo", "intensity", "vibe"):
        share = published[f"{task}_accuracy"]
        assert measured[f"{task}_accuracy"] >= share - 3 * np.sqrt(share * (1 - share) / num), task
    assert measured["emotion_map"] > 1.5 * measured["emotion_prior"]


def test_the_examples_are_heard_as_they_were_composed(pipe):
    facts = json.loads((ROOT / "examples" / "audio" / "labels.json").read_text())
    heard = {name: pipe(str(ROOT / "examples" / "audio" / name)) for name in facts}
    right = sum(heard[name]["tempo"][0]["label"] == fact["sections"][0]["tempo"] for name, fact in facts.items())
    assert right >= 3
    assert all((ROOT / "examples" / "audio" / name).stat().st_size <= 300_000 for name in facts)


def test_real_recordings_are_tagged(pipe, real_audio):
    for file in sorted(real_audio.glob("*.[mw]*[3v]")):
        result = pipe(str(file), return_segments=True)
        assert result["quality"] == [] and len(result["segments"]) >= 1
        assert all(np.isfinite(entry["score"]) for task in pipe.model.config.task_names for entry in result[task])


def test_the_wheel_holds_all_it_needs(tmp_path):
    """Built, unpacked elsewhere and run from there, with this checkout out of reach."""
    built = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            str(ROOT),
            "--no-deps",
            "--no-build-isolation",
            "-q",
            "-w",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert built.returncode == 0, built.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    assert {
        "hf_mathrock/py.typed",
        "hf_mathrock/checkpoints/mathrock-tiny/model.safetensors",
        "hf_mathrock/checkpoints/mathrock-tiny/calibration.json",
        "hf_mathrock/model_card/template.md",
        "hf_mathrock/publishing/licences/mit.txt",
        "hf_mathrock/metrics/modules/mathrock_tempo/mathrock_tempo.py",
    } <= names
    assert not any(name.startswith(("tests/", "examples/")) for name in names)
    # torchaudio is installed but broken, as its Linux wheel is beside a CPU-only torch.
    (tmp_path / "site" / "torchaudio").mkdir()
    (tmp_path / "site" / "torchaudio" / "__init__.py").write_text("raise OSError('libc10_cuda.so')")
    code = (
        "import hf_mathrock, json; pipe = hf_mathrock.pipeline('mathrock-affect', device='cpu');"
        f"r = pipe({str(ROOT / 'examples' / 'audio' / 'breakdown.ogg')!r}, top_k=1);"
        "print(json.dumps([hf_mathrock.__file__, r['vibe'][0]['label']]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    file, _ = json.loads(done.stdout.splitlines()[-1])
    assert file.startswith(str(tmp_path / "site"))
