# SPDX-License-Identifier: Apache-2.0
"""A saved tagger loads where this package cannot be imported, and says the same."""

import numpy as np
import pytest
import torch
from test_cold_load import audio, run_cold
from transformers import pipeline

from tiny_taggers import TAGGERS, tiny_extractor, tiny_tagger


@pytest.mark.parametrize("model_type", TAGGERS)
def test_a_tagger_loads_and_computes_the_same_without_this_package(model_type, tmp_path):
    model = tiny_tagger(model_type, num_labels=5)
    config = model.config
    folder = tmp_path / "saved"
    model.save_pretrained(folder)
    tiny_extractor(model).save_pretrained(folder)
    np.save(folder / "audio.npy", audio())
    pipe = pipeline("music-tagging", model=str(folder), device="cpu")
    expected = pipe(audio(), sampling_rate=16_000, return_taggram=True)
    pipe.save_pretrained(tmp_path / "by_pipeline")
    cold = run_cold(
        f"""
        import json, numpy as np, torch
        from transformers import AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification, pipeline
        folder = {str(folder)!r}
        audio = np.load(folder + "/audio.npy")
        extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
        base = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
        model = AutoModelForAudioClassification.from_pretrained(folder, trust_remote_code=True).eval()
        inputs = extractor(audio, sampling_rate=16000)
        with torch.no_grad():
            output = model(**inputs)
            inputs.pop("windows_per_clip")
            embeddings = base(**inputs).embeddings.mean(dim=0)
        by_task = pipeline("music-tagging", model=folder, trust_remote_code=True, device="cpu")
        without = pipeline(model={str(tmp_path / "by_pipeline")!r}, trust_remote_code=True, device="cpu")
        print(json.dumps({{
            "logits": output.logits[0].tolist(),
            "embeddings": [output.embeddings[0].tolist(), embeddings.tolist()],
            "results": [p(audio, sampling_rate=16000, return_taggram=True) for p in (by_task, without)],
        }}))
        """,
        tmp_path,
    )
    with torch.no_grad():
        output = model(**tiny_extractor(model)(audio(), sampling_rate=16_000))
    np.testing.assert_allclose(cold["logits"], output.logits[0], atol=1e-5)
    np.testing.assert_allclose(cold["embeddings"][0], output.embeddings[0], atol=1e-5)
    np.testing.assert_allclose(cold["embeddings"][0], cold["embeddings"][1], atol=1e-5)
    for result in cold["results"]:
        assert result["model"]["fingerprint"] == expected["model"]["fingerprint"]
        assert {e["label"]: e["score"] for e in result["tags"]} == pytest.approx(
            {e["label"]: e["score"] for e in expected["tags"]}, abs=2e-6
        )
        np.testing.assert_allclose(result["taggram"]["scores"], expected["taggram"]["scores"], atol=2e-6)
    # The clip's score is the mean over its windows, in the model's own output and in the pipeline's.
    scores = dict(zip(config.id2label.values(), torch.sigmoid(output.logits[0]).tolist(), strict=True))
    assert {e["label"]: e["score"] for e in expected["tags"]} == pytest.approx(scores, abs=1e-5)
