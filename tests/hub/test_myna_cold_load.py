# SPDX-License-Identifier: Apache-2.0
"""A saved Myna loads where this package cannot be imported, and embeds the same."""

import json

import numpy as np
import pytest
import torch
from test_cold_load import audio, run_cold
from transformers import pipeline

from hf_mathrock import MynaForAudioClassification, MynaModel
from tiny_myna import tiny_myna, tiny_myna_config, tiny_myna_extractor, tiny_myna_for_pretraining

SHORT = 40_000
HYBRID = {"position_embedding": "alibi_1d", "pooling": "cls_mean", "patch_sizes": [[16, 16], [128, 2]]}


def saved_by_pipeline(folder, model, **changes):
    """Save a model and its extractor by themselves and by the pipeline, which is returned."""
    model.save_pretrained(folder)
    tiny_myna_extractor(**changes).save_pretrained(folder)
    np.save(folder / "audio.npy", audio())
    pipe = pipeline("music-embedding", model=str(folder), device="cpu")
    pipe.save_pretrained(folder.parent / "by_pipeline")
    return pipe


@pytest.mark.parametrize("changes", [{}, HYBRID], ids=["default", "hybrid"])
def test_an_encoder_loads_and_embeds_the_same_without_this_package(changes, tmp_path):
    model = tiny_myna(**changes)
    pipe = saved_by_pipeline(tmp_path / "saved", model, **changes)
    cold = run_cold(
        f"""
        import json, numpy as np, torch
        from transformers import AutoFeatureExtractor, AutoModel, pipeline
        audio = np.load("saved/audio.npy")
        extractor = AutoFeatureExtractor.from_pretrained("saved", trust_remote_code=True)
        model, info = AutoModel.from_pretrained("saved", trust_remote_code=True, output_loading_info=True)
        with torch.no_grad():
            output = model.eval()(**extractor([audio, audio[:{SHORT}]], sampling_rate=16000))
        by_task = pipeline("music-embedding", model="saved", trust_remote_code=True, device="cpu")
        without = pipeline(model="by_pipeline", trust_remote_code=True, device="cpu")
        print(json.dumps({{
            "class": type(model).__name__,
            "missing": sorted(info["missing_keys"]),
            "preset": type(extractor).from_preset("rpe-44k").sampling_rate,
            "mode": output.mode,
            "embeddings": output.pooler_output.tolist(),
            "results": [p(audio, sampling_rate=16000) for p in (by_task, without)],
            "chunks": by_task(audio, sampling_rate=16000, chunk_seconds=4.0)["embedding"],
        }}))
        """,
        tmp_path,
    )
    with torch.no_grad():
        expected = model(**tiny_myna_extractor(**changes)([audio(), audio()[:SHORT]], sampling_rate=16_000))
    assert (cold["class"], cold["missing"], cold["preset"]) == ("MynaModel", [], 44_100)
    assert cold["mode"] == expected.mode == "whole"
    np.testing.assert_allclose(cold["embeddings"], expected.pooler_output, atol=1e-5)
    here = pipe(audio(), sampling_rate=16_000)
    assert here["mode"] == "whole" and len(here["embedding"]) == model.config.embedding_size
    for result in cold["results"]:
        assert result["model"]["fingerprint"] == here["model"]["fingerprint"]
        np.testing.assert_allclose(result["embedding"], here["embedding"], atol=2e-6)
    chunks = pipe(audio(), sampling_rate=16_000, chunk_seconds=4.0)["embedding"]
    np.testing.assert_allclose(cold["chunks"], chunks, atol=2e-6)


def test_a_pretrained_encoder_embeds_and_trains_on_without_this_package(tmp_path):
    model = tiny_myna_for_pretraining(patchout=0.0)
    pipe = saved_by_pipeline(tmp_path / "saved", model)
    cold = run_cold(
        """
        import json, numpy as np, torch
        from transformers import AutoModelForPreTraining, pipeline
        pipe = pipeline(model="saved", trust_remote_code=True, device="cpu")
        result = pipe(np.load("saved/audio.npy"), sampling_rate=16000)
        model = AutoModelForPreTraining.from_pretrained("saved", trust_remote_code=True)
        one, other = (torch.arange(4 * 32 * 128).reshape(4, 32, 128).mul(step).sin() for step in (0.1, 0.2))
        output = model(input_features=one, other_features=other)
        output.loss.backward()
        print(json.dumps([type(model).__name__, output.loss.item(), output.projections.tolist(), result]))
        """,
        tmp_path,
    )
    one, other = (torch.arange(4 * 32 * 128).reshape(4, 32, 128).mul(step).sin() for step in (0.1, 0.2))
    with torch.no_grad():
        expected = model(input_features=one, other_features=other)
    assert cold[0] == "MynaForPreTraining" and cold[1] == pytest.approx(expected.loss.item(), abs=1e-5)
    np.testing.assert_allclose(cold[2], expected.projections, atol=1e-5)
    here = pipe(audio(), sampling_rate=16_000)
    # Embeddings of the encoder alone and of the same one with its projector beside it are of one space.
    assert cold[3]["model"]["fingerprint"] == here["model"]["fingerprint"]
    np.testing.assert_allclose(cold[3]["embedding"], here["embedding"], atol=2e-6)


def test_a_fine_tuned_myna_tags_without_this_package_and_its_encoder_embeds(tmp_path):
    torch.manual_seed(0)
    labels = {"id2label": {0: "drone", 1: "riff", 2: "solo"}, "input_samples": 48_000}
    MynaForAudioClassification(tiny_myna_config(**labels)).save_pretrained(tmp_path / "saved")
    tiny_myna_extractor(**labels).save_pretrained(tmp_path / "saved")
    np.save(tmp_path / "audio.npy", audio())
    MynaModel.from_pretrained(tmp_path / "saved").save_pretrained(tmp_path / "encoder")
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("saved", "encoder")]
    assert [list(config["custom_pipelines"]) for config in configs] == [["music-tagging"], ["music-embedding"]]
    cold = run_cold(
        """
        import json, numpy as np
        from transformers import pipeline
        pipe = pipeline(model="saved", trust_remote_code=True, device="cpu")
        print(json.dumps([type(pipe).__name__, pipe(np.load("audio.npy"), sampling_rate=16000)["tags"]]))
        """,
        tmp_path,
    )
    pipe = pipeline("music-tagging", model=str(tmp_path / "saved"), device="cpu")
    expected = pipe(audio(), sampling_rate=16_000)["tags"]
    assert cold[0] == "MusicTaggingPipeline"
    assert {e["label"]: e["score"] for e in cold[1]} == pytest.approx(
        {e["label"]: e["score"] for e in expected}, abs=2e-6
    )
