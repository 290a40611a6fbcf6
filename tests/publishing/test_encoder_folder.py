# SPDX-License-Identifier: Apache-2.0
"""An encoder is published as what it is: by its own pipeline, with a card about an embedding and none about labels."""

import json
import re

import pytest
import yaml
from huggingface_hub import ModelCard
from transformers import pipeline

from hf_mathrock.conversion.musicnn import LICENCE_FILE as MUSICNN_NOTICE
from hf_mathrock.conversion.myna import LICENCE_FILE as MYNA_NOTICE
from hf_mathrock.model_card.architecture import describe_architecture, usage_task
from hf_mathrock.model_card.card import render_card
from hf_mathrock.model_card.encoder import describe_embedding, describe_lengths, embedding_size, is_encoder
from hf_mathrock.model_card.source import read_source
from hf_mathrock.models.configuration_myna import POSITIONS, MynaConfig
from hf_mathrock.models.modeling_myna import MynaForAudioClassification
from hf_mathrock.publishing import assemble
from hf_mathrock.publishing.licence import NOTICE
from tiny_myna import tiny_myna, tiny_myna_config, tiny_myna_extractor, tiny_myna_for_pretraining

REPO = "ada/whole-tracks"
NUM_PROJECTED = 24 * 24 + 24 + 24 * 16 + 16


def probe(task, how, mean, **more):
    entry = {"task": task, "data": "generated pieces", "metric": "accuracy", "how": how, "mean": mean}
    return entry | {"sd": 0.0125, "num_seeds": 3, "num_test": 90} | more


PROBES = [
    probe("meter", "whole track", 0.875, chance=0.25),
    probe("meter", "chunk mean, 3 s", 0.75, chance=0.25),
    probe("meter", "mel statistics", 0.5, chance=0.25),
    probe("key", "whole track", 0.625, data="GiantSteps", metric="weighted score"),
]
RECIPE = {
    "name": "whole-tracks",
    "data": {"train": {"num": 2000, "seed": 3}, "validation": {"num": 200, "seed": 4}},
    "model": {"model_type": "myna", "size": "tiny"},
    "pretraining": {"min_seconds": 3, "max_seconds": 150},
    "training": {"max_steps": 3000, "base_learning_rate": 1e-3},
    "card": {"summary": "Hears whole tracks.", "training_data": "2000 generated pieces."},
}


@pytest.fixture(scope="module")
def published(tmp_path_factory, clip):
    """What was assembled of a small pretrained encoder that was measured, and its pipeline."""
    folder = tmp_path_factory.mktemp("encoder") / "run"
    tiny_myna_for_pretraining().save_pretrained(folder)
    tiny_myna_extractor().save_pretrained(folder)
    pipe = pipeline("music-embedding", model=str(folder), device="cpu")
    results = {"fingerprint": pipe.model_card["fingerprint"], "date": "2026-11-21", "probes": PROBES}
    for name, content in {"results": results, "recipe": RECIPE}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / NOTICE).write_text("The weights were made by others, under conditions.\n")
    return assemble(folder, folder.parent / "out", repo=REPO, example=clip, facts={"licence": "mit"}), pipe


def read(built, name):
    return json.loads((built.folder / name).read_text())


def test_the_encoder_goes_out_without_its_projector_by_its_own_pipeline(published):
    built, pipe = published
    assert built.task == "music-embedding" and built.fingerprint == pipe.model_card["fingerprint"]
    config = read(built, "config.json")
    assert config["architectures"] == ["MynaModel"] and list(config["custom_pipelines"]) == ["music-embedding"]
    assert {"modeling_myna.py", "feature_extraction_myna.py", "pipeline_music_embedding.py"} <= set(built.files)
    learned = sum(parameter.numel() for parameter in pipe.model.parameters())
    whole = sum(parameter.numel() for parameter in tiny_myna_for_pretraining().parameters())
    assert learned == whole - NUM_PROJECTED
    assert f"It has {learned:,} parameters" in (built.folder / "README.md").read_text()


def test_the_example_is_the_embedding_of_the_clip(published, clip):
    built, pipe = published
    answer = read(built, "example_output.json")
    assert answer["model"] == {"name": REPO, "fingerprint": built.fingerprint} and answer["mode"] == "whole"
    assert answer["embedding"] == pipe(str(clip))["embedding"]
    first = ", ".join(f"{number:.3f}" for number in answer["embedding"][:3])
    card = (built.folder / "README.md").read_text()
    assert f'The embedding of [`example.wav`](example.wav), heard in the mode "whole" begins with {first}' in card


def test_the_card_speaks_of_an_embedding_and_of_no_label(published):
    built, _ = published
    text = (built.folder / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["pipeline_tag"] == "feature-extraction" and front["license"] == "mit"
    assert {"myna", "music-embedding", "custom_code", "music"} <= set(front["tags"])
    assert not re.search(r"LABEL_|\btag\b|threshold|calibrat", text)
    assert f'pipeline("music-embedding", model="{REPO}", trust_remote_code=True)' in text
    assert f'AutoModel.from_pretrained("{REPO}", trust_remote_code=True)' in text
    assert "24 numbers, the class token's state" in text and "2-D ALiBi, slopes `halving`" in text
    assert "128 mel bands in decibels below the loudest moment of the track, down to -80" in text
    assert "a frame every 32.0 ms, of audio at 16,000 Hz" in text
    # 8 rows of 31.25 / 16 columns a second.
    assert "one below 0.51 s is filled up" in text and "Up to 8,192 patches, 8.74 minutes, are heard at once" in text
    assert "trained on pieces of 3 s to 2.5 minutes" in text and "2,000 generated pieces" in text
    assert "steps 3000; learning rate for a batch of 1024 0.001" in text


def test_the_probes_stand_in_the_card_and_the_index_without_the_baseline(published):
    built, _ = published
    card = ModelCard((built.folder / "README.md").read_text())
    assert "**generated pieces**" in card.text and "**GiantSteps**" in card.text
    assert "| meter | accuracy | **0.875 ± 0.013** | 0.750 ± 0.013 | 0.500 ± 0.013 | 0.250 |" in card.text
    assert "Nothing was measured" not in card.text
    assert {(entry.dataset_name, entry.metric_name, entry.metric_value) for entry in card.data.eval_results} == {
        ("generated pieces", "meter: accuracy, whole track", 0.875),
        ("generated pieces", "meter: accuracy, chunk mean, 3 s", 0.75),
        ("GiantSteps", "key: weighted score, whole track", 0.625),
    }


def test_the_notice_of_converted_weights_goes_with_them(published):
    built, _ = published
    assert MYNA_NOTICE == MUSICNN_NOTICE == NOTICE
    assert "made by others" in (built.folder / NOTICE).read_text()


def test_an_unmeasured_encoder_is_said_to_be_unmeasured(tmp_path, clip):
    tiny_myna().save_pretrained(tmp_path / "run")
    tiny_myna_extractor().save_pretrained(tmp_path / "run")
    built = assemble(tmp_path / "run", tmp_path / "out", repo=REPO, example=clip)
    text = (built.folder / "README.md").read_text()
    assert "**Nothing was measured.**" in text and "trained on pieces" not in text
    assert any("hf-mathrock probe" in note for note in built.notes)
    (silent,) = (note for note in built.notes if "you have not said" in note)
    assert "training_data" in silent and "labels" not in silent


def test_figures_of_other_weights_or_without_their_number_of_seeds_are_refused(tmp_path):
    tiny_myna().save_pretrained(tmp_path)
    tiny_myna_extractor().save_pretrained(tmp_path)
    results = {"fingerprint": "a" * 16, "probes": PROBES}
    (tmp_path / "results.json").write_text(json.dumps(results))
    with pytest.raises(ValueError, match="of other weights"):
        read_source(tmp_path, fingerprint="b" * 16)
    results["probes"] = [{key: value for key, value in PROBES[0].items() if key != "num_seeds"}]
    (tmp_path / "results.json").write_text(json.dumps(results))
    with pytest.raises(ValueError, match="a probe without num_seeds"):
        read_source(tmp_path)


def test_a_fine_tuned_myna_has_the_card_of_a_tagger(tmp_path):
    labels = {"id2label": {0: "drone", 1: "riff"}, "input_samples": 48_000}
    MynaForAudioClassification(tiny_myna_config(**labels)).save_pretrained(tmp_path)
    tiny_myna_extractor(**labels).save_pretrained(tmp_path)
    text = render_card(read_source(tmp_path, repo=REPO))
    assert "any number of: drone, riff" in text and 'pipeline("music-tagging"' in text and "windows of 3 s" in text
    assert "A Myna encoder" in text and yaml.safe_load(text.split("---\n")[1])["pipeline_tag"] == "audio-classification"


def saved_config(**fields):
    """A config as it is saved with an encoder."""
    return {**MynaConfig(**fields).to_dict(), "architectures": ["MynaModel"]}


@pytest.mark.parametrize("position_embedding", POSITIONS)
def test_every_way_to_know_places_is_described_in_its_own_words(position_embedding):
    others = {describe_architecture(saved_config(position_embedding=other)) for other in POSITIONS}
    assert len(others) == len(POSITIONS)
    text = describe_architecture(saved_config(position_embedding=position_embedding, rope_base=64.0))
    assert ("base 64" in text) == (position_embedding == "rope_2d") and "{" not in text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (MynaConfig.front_end("myna"), "as power, without a logarithm, a frame every 32.0 ms"),
        (
            MynaConfig.front_end("rpe-44k"),
            "track, times 2, down to -80, a frame every 10.0 ms, of audio at 44,100",
        ),
        ({"top_db": None}, "loudest moment of the track, a frame"),
    ],
)
def test_every_front_end_is_described(fields, said):
    assert said in describe_architecture(saved_config(**fields))


@pytest.mark.parametrize(
    "fields",
    [{}, {"pooling": "cls_mean"}, {"patch_sizes": [[16, 16], [128, 2]]}, {"pooling": "mean", "use_cls_token": False}],
)
def test_the_size_of_the_embedding_is_the_models(fields):
    config = tiny_myna_config(**fields)
    assert embedding_size(config.to_dict()) == config.embedding_size
    assert describe_embedding(config.to_dict()).startswith(f"{config.embedding_size} numbers")


@pytest.mark.parametrize("patch_sizes", [[[16, 16]], [[128, 2]], [[16, 16], [128, 2]], [[64, 4]]])
def test_the_length_that_is_heard_at_once_is_the_configs(patch_sizes):
    config = MynaConfig(patch_sizes=patch_sizes, max_tokens=5000)
    text = describe_lengths(config.to_dict())
    assert float(re.search(r"([\d.]+) minutes", text)[1]) == pytest.approx(
        5000 / config.tokens_per_second / 60, rel=0.01
    )
    assert "drawn at random, 4 times" in text
    assert "stretch by stretch" in describe_lengths(MynaConfig(long_input="two_level").to_dict())


def test_what_a_checkpoint_is_for_is_told_by_its_architecture():
    assert is_encoder({"model_type": "myna", "architectures": ["MynaForPreTraining"]})
    assert is_encoder({"model_type": "myna"})
    assert not is_encoder({"model_type": "myna", "architectures": ["MynaForAudioClassification"]})
    assert not is_encoder({"model_type": "musicnn", "architectures": ["MusicnnModel"]})
    assert usage_task(saved_config()) == "music-embedding"


def test_a_config_of_another_package_is_refused_by_what_it_lacks():
    with pytest.raises(ValueError, match="lacks sampling_rate, feature, .*not saved by hf-mathrock"):
        describe_architecture({"model_type": "myna", "dim": 384, "patch_size": 16})
