# SPDX-License-Identifier: Apache-2.0
"""Taggers are published as what they are: by their own pipeline, and with a card that describes their network."""

import json
import os
import re
import subprocess
import sys

import pytest
import yaml

from hf_mathrock.model_card.architecture import TITLES, describe_architecture, listening_grid, usage_task
from hf_mathrock.model_card.card import render_card
from hf_mathrock.model_card.source import read_source
from hf_mathrock.publishing import assemble
from hf_mathrock.registry import FAMILIES
from tiny_taggers import TAGGERS, save_tiny_tagger, tiny_config

REPO = "ada/tagger"
LABELS = dict(enumerate(["drum & bass", "no vocals", "jazz"]))
COLD = """
import json, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "hf_mathrock":
            raise ImportError(name + " is not here")
sys.meta_path.insert(0, Block())
from transformers import pipeline
pipe = pipeline("music-tagging", model=".", trust_remote_code=True, device="cpu")
print(json.dumps(pipe(sys.argv[1], return_taggram=True)))
"""


@pytest.fixture(scope="module", params=list(TAGGERS))
def published(request, tmp_path_factory, clip):
    """A family, what was assembled of a small tagger of it, and the pipeline that was saved."""
    folder = tmp_path_factory.mktemp(request.param)
    pipe = save_tiny_tagger(request.param, folder / "saved", id2label=LABELS)
    facts = {"licence": "isc", "summary": "Hears tags."}
    built = assemble(folder / "saved", folder / "out", repo=REPO, example=clip, facts=facts)
    return request.param, built, pipe


def read(built, name):
    return json.loads((built.folder / name).read_text())


def test_the_folder_names_the_taggers_own_pipeline(published):
    family, built, pipe = published
    assert built.task == "music-tagging" and built.fingerprint == pipe.model_card["fingerprint"]
    config = read(built, "config.json")
    assert list(config["custom_pipelines"]) == ["music-tagging"] and config["model_type"] == family
    modules = {*config["auto_map"].values(), *(entry["impl"] for entry in config["custom_pipelines"].values())}
    assert {f"{reference.split('.')[0]}.py" for reference in modules} <= set(built.files)
    assert not [name for name in built.files if "mathrock" in name or "wavlm" in name]


def test_the_example_holds_tags_and_their_course(published, clip):
    _, built, pipe = published
    answer = read(built, "example_output.json")
    assert answer["model"] == {"name": REPO, "fingerprint": built.fingerprint} and answer["file"] == "example.wav"
    assert answer["tags"] == pipe(str(clip))["tags"]
    assert answer["taggram"]["labels"] == list(LABELS.values()) and len(answer["taggram"]["scores"]) == 3


def test_the_card_speaks_of_this_network_only(published):
    family, built, _ = published
    text = (built.folder / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["pipeline_tag"] == "audio-classification" and front["license"] == "isc"
    assert {"music-tagging", family, "custom_code"} <= set(front["tags"]) and "tag" not in front["tags"]
    assert f'pipeline("music-tagging", model="{REPO}", trust_remote_code=True)' in text
    assert "- **tag**, any number of: drum & bass, no vocals, jazz" in text
    assert TITLES[family] in text and "of audio at 8,000 Hz" in text
    assert not re.search("WavLM|CLAP|MathRock|mathrock-affect", text)
    best = read(built, "example_output.json")["tags"][0]
    assert f"the answer is *{best['label']}* ({best['score']:.2f})" in text


def test_the_card_counts_what_was_learned(published):
    _, built, pipe = published
    learned = sum(parameter.numel() for parameter in pipe.model.parameters())
    assert f"It has {learned:,} parameters" in (built.folder / "README.md").read_text()


def test_the_folder_answers_the_same_where_the_package_is_absent(published, tmp_path):
    family, built, _ = published
    if family != "music_tagger":
        pytest.skip("one is enough: every family is loaded without the package in tests/hub")
    environment = {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", COLD, "example.wav"],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        cwd=built.folder,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cold, there = json.loads(done.stdout), read(built, "example_output.json")
    assert {e["label"]: e["score"] for e in cold["tags"]} == pytest.approx(
        {e["label"]: e["score"] for e in there["tags"]}, abs=1e-6
    )
    assert cold["taggram"]["start"] == there["taggram"]["start"]


def test_every_family_can_be_described():
    assert {family.model_type for family in FAMILIES} == set(TITLES)
    for name in TAGGERS:
        assert len(describe_architecture(tiny_config(name).to_dict())) > 40
    assert describe_architecture({"model_type": "bert"}) == ""


@pytest.mark.parametrize(
    ("architecture", "heard"),
    [
        ("sample_se", "the waveform at 16,000 Hz. Its stages: 11 of `residual_se1d`. What is left"),
        ("harmonic", "the first 6 harmonics of all notes in decibels, a frame every 16.0 ms"),
        ("logmel_hybrid", "128 mel bands under a logarithm, a frame every 46.4 ms, of audio at 22,050 Hz"),
        ("cnnsa", "A Transformer encoder over time"),
        ("crnn", "A recurrent network (GRU)"),
    ],
)
def test_architectures_are_told_apart(architecture, heard):
    from hf_mathrock import MusicTaggerConfig

    assert heard in describe_architecture(MusicTaggerConfig(architecture=architecture).to_dict())


def test_every_back_end_is_named():
    from hf_mathrock import MusicTaggerConfig
    from hf_mathrock.models.configuration_music_tagger import BACKENDS

    said = {
        describe_architecture(MusicTaggerConfig(architecture="short_chunk", backend={"kind": kind}).to_dict())
        for kind in BACKENDS
    }
    assert len(said) == len(BACKENDS) and all("embedding" in text.split("Its stages")[1] for text in said)


def test_the_vgg_is_no_musicnn():
    assert "vgg" in describe_architecture({"model_type": "musicnn", "variant": "vgg"})


def test_windows_are_told_in_seconds_whatever_the_extractor():
    assert listening_grid({"window_seconds": 10.0, "hop_seconds": 5.0}) == (10.0, 5.0)
    assert listening_grid({"window_samples": 48_000, "sampling_rate": 16_000, "hop_seconds": None}) == (3.0, 3.0)
    assert listening_grid({"window_samples": 48_000, "sampling_rate": 16_000, "hop_seconds": 1.5}) == (3.0, 1.5)
    with pytest.raises(ValueError, match="how long a window is"):
        listening_grid({"sampling_rate": 16_000})


def test_the_usage_is_the_first_pipeline_of_the_config():
    assert usage_task({"custom_pipelines": {"music-tagging": {}, "other": {}}}) == "music-tagging"
    assert usage_task({}) == "mathrock-affect"


def test_figures_and_thresholds_of_tags_are_shown(tmp_path):
    pipe = save_tiny_tagger("musicnn", tmp_path, id2label=LABELS, thresholds={"tag": [0.1, 0.2, 0.3]})
    results = {
        "fingerprint": pipe.model_card["fingerprint"],
        "sets": {"mtt": {"metrics": {"tag_map": 0.3821, "tag_roc_auc": 0.9112}, "protocol": {"aggregation": "mean"}}},
    }
    (tmp_path / "results.json").write_text(json.dumps(results))
    text = render_card(read_source(tmp_path, repo=REPO))
    assert "| tag: mAP | 0.38 |" in text and "| tag: ROC-AUC | 0.91 |" in text
    assert "drum & bass 0.10, no vocals 0.20, jazz 0.30" in text
