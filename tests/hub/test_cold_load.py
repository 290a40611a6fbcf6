# SPDX-License-Identifier: Apache-2.0
"""What is saved here loads where this package cannot be imported, and says the same."""

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import pipeline

from hf_mathrock import MathRockFeatureExtractor, MathRockModel

# Refuses this package, whether installed or on the path.
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "hf_mathrock":
            raise ImportError(name + " is not here")
sys.meta_path.insert(0, Block())
"""


def audio():
    time = np.arange(16_000 * 12) / 16_000
    return (0.3 * np.sin(2 * np.pi * 220 * time) * np.exp(-6 * (time % 0.4))).astype(np.float32)


def run_cold(code, tmp_path):
    """Run code without the package; it prints one line of JSON last."""
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    environment |= {"OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", BLOCK + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def saved(tiny_model, tmp_path_factory):
    """A model and its extractor, saved by themselves."""
    folder = tmp_path_factory.mktemp("saved")
    tiny_model.save_pretrained(folder)
    MathRockFeatureExtractor().save_pretrained(folder)
    np.save(folder / "audio.npy", audio())
    return folder


@pytest.fixture(scope="module")
def saved_pipeline(saved, tmp_path_factory):
    """The same through `pipe.save_pretrained`, and what the pipeline says here."""
    folder = tmp_path_factory.mktemp("pipeline")
    pipe = pipeline("mathrock-affect", model=str(saved), device="cpu")
    pipe.save_pretrained(folder)
    np.save(folder / "audio.npy", audio())
    return folder, pipe(audio(), sampling_rate=16_000, return_segments=True, return_embedding=True)


def flat(result):
    numbers = {(task, e["label"]): e["score"] for task in ("emotion", "vibe", "tempo") for e in result[task]}
    return numbers | {("embedding", i): value for i, value in enumerate(result["embedding"])}


def test_every_auto_class_loads_and_computes_the_same(saved, tiny_model, tmp_path):
    cold = run_cold(
        f"""
        import json, numpy as np, torch
        from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification
        folder = {str(saved)!r}
        config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
        extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
        base = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
        classifier = AutoModelForAudioClassification.from_pretrained(folder, trust_remote_code=True).eval()
        inputs = extractor(np.load(folder + "/audio.npy"), sampling_rate=16000)
        with torch.no_grad():
            logits = classifier(**inputs).task_logits
            embeddings = base(**inputs).embeddings
        print(json.dumps({{
            "tasks": config.task_names,
            "logits": {{name: value.tolist() for name, value in logits.items()}},
            "embeddings": embeddings.tolist(),
        }}))
        """,
        tmp_path,
    )
    inputs = MathRockFeatureExtractor()(audio(), sampling_rate=16_000)
    with torch.no_grad():
        expected = tiny_model(**inputs)
    assert cold["tasks"] == tiny_model.config.task_names
    np.testing.assert_allclose(cold["embeddings"], expected.embeddings, atol=1e-6)
    for name, logits in expected.task_logits.items():
        np.testing.assert_allclose(cold["logits"][name], logits, atol=1e-6)


@pytest.mark.parametrize("task", ["'mathrock-affect', ", ""])
@pytest.mark.parametrize("source", ["saved", "saved_pipeline"])
def test_the_pipeline_loads_with_and_without_the_task(task, source, saved, saved_pipeline, tmp_path):
    folder = saved if source == "saved" else saved_pipeline[0]
    cold = run_cold(
        f"""
        import json, numpy as np
        from transformers import pipeline
        pipe = pipeline({task}model={str(folder)!r}, trust_remote_code=True, device="cpu")
        audio = np.load({str(folder / "audio.npy")!r})
        print(json.dumps(pipe(audio, sampling_rate=16000, return_segments=True, return_embedding=True)))
        """,
        tmp_path,
    )
    expected = saved_pipeline[1]
    assert flat(cold) == pytest.approx(flat(expected), abs=1e-6)
    assert cold["model"]["fingerprint"] == expected["model"]["fingerprint"]


def test_the_base_model_and_a_resaved_model_travel_too(saved, tmp_path):
    MathRockModel.from_pretrained(saved).save_pretrained(tmp_path / "base")
    cold = run_cold(
        f"""
        import json
        from transformers import AutoModel, AutoModelForAudioClassification
        base, info = AutoModel.from_pretrained("base", trust_remote_code=True, output_loading_info=True)
        model = AutoModelForAudioClassification.from_pretrained({str(saved)!r}, trust_remote_code=True)
        model.save_pretrained("again")
        again, again_info = AutoModelForAudioClassification.from_pretrained(
            "again", trust_remote_code=True, output_loading_info=True
        )
        missing = list(info["missing_keys"]) + list(again_info["missing_keys"])
        print(json.dumps([type(base).__name__, type(again).__name__, missing]))
        """,
        tmp_path,
    )
    assert cold == ["MathRockModel", "MathRockForAudioClassification", []]


def test_nothing_saved_names_this_machine(saved_pipeline, tmp_path_factory):
    folder, _ = saved_pipeline
    checkout = Path(__file__).parents[2]
    for place in (Path.home(), checkout, tempfile.gettempdir(), tmp_path_factory.getbasetemp()):
        naming = [file.name for file in folder.rglob("*.json") if str(place) in file.read_text()]
        assert naming == [], place
    assert json.loads((folder / "config.json").read_text())["custom_pipelines"]["mathrock-affect"]["impl"] == (
        "pipeline_mathrock_affect.MathRockAffectPipeline"
    )
