# SPDX-License-Identifier: Apache-2.0
"""Taggers of every family are trained by the same trainer and the same recipes as MathRock."""

import json
import warnings
from dataclasses import asdict

import numpy as np
import pytest
import soundfile as sf
import torch
import yaml
from torch import nn
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, TrainerCallback

from hf_mathrock import MusicTaggingFeatureExtractor
from hf_mathrock.data.collator import MathRockCollator
from hf_mathrock.data.excerpts import random_window
from hf_mathrock.data.generated import GeneratedSplit, GeneratedWindows, render_piece
from hf_mathrock.data.grid import GridWindows
from hf_mathrock.models.audio_input import open_audio
from hf_mathrock.registry import family, model_class
from hf_mathrock.synthesis.tags import TAGS, tag_task, tags_between
from hf_mathrock.synthesis.variation import draw_variation, perform
from hf_mathrock.training.arguments import MathRockTrainingArguments
from hf_mathrock.training.distributed import known_statistics_for_one_value
from hf_mathrock.training.recipe import Data, Recipe, _model_and_extractor, load_recipe, run_recipe
from hf_mathrock.training.trainer import MathRockTrainer
from tiny_taggers import TAGGERS as FAMILIES

TAGGERS = {kind: fields for kind, (_, fields) in FAMILIES.items()}
TASKS = [{"name": "tag", "type": "multi_label", "labels": ["loud", "high"]}]
RATE = 16_000


def make(kind, tasks=TASKS, **changes):
    """A tiny model of a family, with the extractor that feeds it."""
    classes = family(kind)
    torch.manual_seed(0)
    config = model_class(classes.config)(**{"tasks": tasks, **TAGGERS[kind], **changes})
    return (
        model_class(classes.models["AutoModelForAudioClassification"])(config),
        model_class(classes.extractor).for_config(config),
    )


def rows(num, seconds=2.5, seed=0, rate=RATE):
    """Tones, loud or soft, high or low, and their labels."""
    random = np.random.default_rng(seed)
    made = []
    for index in range(num):
        loud, high = index % 2, index // 2 % 2
        time = np.arange(round(seconds * rate)) / rate
        wave = (0.4 if loud else 0.02) * np.sin(2 * np.pi * (3_000 if high else 300) * time + random.uniform(0, 6))
        wave += 0.003 * random.standard_normal(len(time))
        tags = [name for name, holds in zip(("loud", "high"), (loud, high), strict=True) if holds]
        made.append({"audio": {"array": wave.astype(np.float32), "sampling_rate": rate}, "tag": tags})
    return made


def arguments(folder, **changes):
    return MathRockTrainingArguments(
        str(folder),
        **{
            "num_train_epochs": 2,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-2,
            "save_strategy": "no",
            "use_cpu": True,
            "disable_tqdm": True,
            "logging_strategy": "no",
            **changes,
        },
    )


def trainer_of(kind, folder, train=None, evaluation=None, model_changes=None, **changes):
    model, extractor = make(kind, **(model_changes or {}))
    return MathRockTrainer(
        model,
        arguments(folder, **changes),
        train_dataset=rows(8) if train is None else train,
        eval_dataset=evaluation,
        processing_class=extractor,
    )


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", TAGGERS)
def test_a_tagger_learns_a_batch_by_heart(kind, tmp_path):
    quiet = {"music_tagger": {"head": {**TAGGERS["music_tagger"]["head"], "dropout": 0.0}}}
    quiet["musicnn"] = {"dropout": 0.0, "batch_norm_momentum": 0.1}
    quiet["music_tagging_transformer"] = {"hidden_dropout": 0.0}
    settings = {"num_train_epochs": 80, "per_device_train_batch_size": 8, "learning_rate": 2e-2}
    trainer = trainer_of(kind, tmp_path, rows(8), rows(8), quiet[kind], **settings)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_loss"] < 0.35 < 0.6 < before and after["eval_tag_map"] == 1.0


@pytest.mark.parametrize("kind", TAGGERS)
def test_a_tagger_that_was_stopped_goes_on_to_the_same_weights(kind, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 1, "num_train_epochs": 2, "augment": "light"}
    whole = trainer_of(kind, tmp_path / "whole", **settings)
    whole.train()

    class Stop(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            if state.global_step == 3:
                raise KeyboardInterrupt

    stopped = trainer_of(kind, tmp_path / "run", **settings)
    stopped.add_callback(Stop())
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    resumed = trainer_of(kind, tmp_path / "run", **settings)
    resumed.train(resume_from_checkpoint=True)
    assert same(resumed.model.state_dict(), whole.model.state_dict())


@pytest.mark.parametrize("kind", TAGGERS)
def test_heads_alone_leave_the_rest_as_it_was(kind, tmp_path):
    trainer = trainer_of(kind, tmp_path, tuning="heads", augment="light")
    before = weights(trainer.model)
    trainer.train()
    after, prefix = weights(trainer.model), f"{trainer.model.base_model_prefix}."
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    # Running statistics too: a frozen part hears nothing of the data.
    assert changed and not [name for name in changed if name.startswith(prefix)]
    with pytest.raises(ValueError, match="'lora', which changes the backbones of MathRock; a .* has none. Use 'heads'"):
        trainer_of(kind, tmp_path, tuning="lora")


@pytest.mark.parametrize("kind", TAGGERS)
def test_norms_and_biases_are_not_decayed_and_all_learn_at_one_rate(kind, tmp_path):
    trainer = trainer_of(kind, tmp_path, weight_decay=0.1, learning_rate=3e-3)
    trainer.create_optimizer()
    groups = trainer.optimizer.param_groups
    decayed = {id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]}
    assert {group["lr"] for group in groups} == {3e-3}
    assert sum(len(group["params"]) for group in groups) == len(list(trainer.model.parameters()))
    norms = 0
    for module in trainer.model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            plain = isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.LayerNorm)) or "bias" in name
            norms += isinstance(module, nn.modules.batchnorm._BatchNorm)
            assert (id(parameter) in decayed) != plain, (type(module).__name__, name)
    assert norms


@pytest.mark.parametrize("kind", TAGGERS)
def test_short_clips_and_a_last_batch_of_one_can_be_trained_on(kind, tmp_path):
    train = rows(4) + rows(1, seconds=0.3, seed=2)
    trainer = trainer_of(kind, tmp_path, train, rows(4) + rows(1, seconds=0.3, seed=3))
    trainer.train()
    assert np.isfinite(trainer.evaluate()["eval_loss"]) and trainer.state.global_step == 4
    assert all(torch.isfinite(value).all() for value in trainer.model.state_dict().values())


@pytest.mark.parametrize("shape, moves", [((2, 3), True), ((1, 3), False), ((1, 3, 5), True), ((1, 3, 1), False)])
def test_only_one_value_per_channel_is_normalised_by_known_statistics(shape, moves):
    norm = nn.BatchNorm1d(3).train()
    with known_statistics_for_one_value(norm):
        given = norm(torch.randn(shape) + 4)
    assert norm.training and bool(norm.running_mean.abs().sum() > 0.1) == moves
    assert torch.isfinite(given).all() and not norm._forward_pre_hooks


def test_training_repeats_short_clips_and_evaluation_leaves_them_short():
    _, extractor = make("music_tagging_transformer")
    batch = [rows(1)[0], rows(1, seconds=0.5, seed=1)[0]]
    heard = MathRockCollator(extractor, TASKS, train=True)(batch)
    assert heard["attention_mask"].all() and heard["input_values"].shape == (2, extractor.window_samples)
    short = MathRockCollator(extractor, TASKS)(batch)
    assert not short["attention_mask"].all()


def test_a_random_window_is_never_longer_than_the_model_takes():
    """Half a sample at a low rate is more than one at a high rate."""
    extractor = MusicTaggingFeatureExtractor(sampling_rate=RATE, window_samples=16_003)
    for seed in range(20):
        torch.manual_seed(seed)
        for rate in (8_000, 11_025, 44_100):
            window = random_window(rows(1, rate=rate)[0]["audio"], extractor, (RATE,))
            assert len(window.audio[RATE]) <= 16_003
            assert extractor.featurize([window])["input_values"].shape == (1, 16_003)


@pytest.mark.parametrize("kind", TAGGERS)
def test_evaluation_hears_the_windows_that_the_extractor_cuts(kind):
    _, extractor = make(kind)
    data = rows(2, seconds=3.4)
    windows = GridWindows(data, extractor, TASKS)
    with open_audio(data[0]["audio"], extractor.sampling_rate) as source:
        expected = list(extractor.windows(source))
    assert list(windows.song_ids).count(0) == len(expected) > 1
    for index, window in enumerate(expected):
        ours = extractor.featurize([windows[index]["window"]])
        for name, value in extractor.featurize([window]).items():
            torch.testing.assert_close(ours[name], value, rtol=0, atol=0)


# Generated pieces.

SPLIT = GeneratedSplit(num=3, seed=5, seconds=5.0, sampling_rate=22_050)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("generated")


@pytest.fixture(scope="module")
def waveforms(cache):
    """The split as one family hears it, and its extractor; computed once."""
    _, extractor = make("music_tagger")
    return GeneratedWindows(SPLIT, extractor, [tag_task()], cache, num_workers=1), extractor


@pytest.fixture(scope="module")
def spectrograms(cache):
    config = make("musicnn")[0].config
    extractor = MusicTaggingFeatureExtractor.for_config(config, feature=config.feature)
    return GeneratedWindows(SPLIT, extractor, [tag_task()], cache, num_workers=1), extractor


@pytest.mark.parametrize("kind", ["waveforms", "spectrograms"])
def test_generated_windows_hold_what_the_extractor_gives_and_the_tags_of_that_moment(kind, request):
    data, extractor = request.getfixturevalue(kind)
    collate = MathRockCollator(extractor, [tag_task()])
    for index in range(SPLIT.num):
        audio, piece = render_piece(SPLIT, index)
        length = round(extractor.window_seconds * SPLIT.sampling_rate)
        start = (audio.shape[1] - length) // 2
        expected = extractor(audio[:, start : start + length], sampling_rate=SPLIT.sampling_rate)
        name = "input_values" if "input_values" in expected else "input_features"
        assert data[index].keys() == {name, "labels"}
        np.testing.assert_allclose(data[index][name], expected[name][0], atol=4e-3)
        heard = tags_between(
            perform(piece, draw_variation(piece.seed)),
            start / SPLIT.sampling_rate,
            (start + length) / SPLIT.sampling_rate,
        )
        assert [TAGS[i] for i in np.flatnonzero(data[index]["labels"]["tag"])] == heard
    batch = collate([data[0], data[1]])
    assert batch[name].shape[0] == 2 and batch["labels"]["tag"].shape == (2, len(TAGS))


def test_models_that_hear_the_same_share_their_windows(waveforms, cache, monkeypatch):
    monkeypatch.setattr("hf_mathrock.data.generated._compute", lambda *_: pytest.fail("computed again"))
    extractor = waveforms[1]
    for shortest, longest in ((None, None), (400, 10**6)):
        other = MusicTaggingFeatureExtractor(
            extractor.sampling_rate, extractor.window_samples, min_samples=shortest, max_samples=longest
        )
        GeneratedWindows(SPLIT, other, [tag_task()], cache)


@pytest.mark.parametrize("augment", ["light", "heavy"])
def test_augmented_waveforms_are_turned_round_and_keep_their_labels(augment, waveforms, cache):
    plain, extractor = waveforms
    varied = GeneratedWindows(SPLIT, extractor, [tag_task()], cache, augment=augment)
    torch.manual_seed(1)
    seen = [varied[0] for _ in range(3)]
    for row in seen:
        assert row["input_values"].shape == plain[0]["input_values"].shape and np.isfinite(row["input_values"]).all()
        np.testing.assert_array_equal(row["labels"]["tag"], plain[0]["labels"]["tag"])
    assert len({float(np.abs(row["input_values"]).sum()) for row in [*seen, plain[0]]}) == 4
    torch.manual_seed(1)
    np.testing.assert_array_equal(varied[0]["input_values"], seen[0]["input_values"])


def test_a_spectrogram_is_turned_round_and_no_more(spectrograms, cache):
    plain, extractor = spectrograms
    turned = GeneratedWindows(SPLIT, extractor, [tag_task()], cache, augment="light")
    before, after = plain[1]["input_features"], turned[1]["input_features"]
    shift = int(np.argmax((after == before[0]).all(axis=1)))
    assert shift and np.array_equal(np.roll(before, shift, axis=0), after)
    with pytest.raises(ValueError, match="'heavy', which changes the waveform"):
        GeneratedWindows(SPLIT, extractor, [tag_task()], cache, augment="heavy")


def test_what_generated_pieces_cannot_give_is_said(waveforms, cache):
    longer = MusicTaggingFeatureExtractor(RATE, 29 * RATE)
    with pytest.raises(ValueError, match="last about 5 s, and the model hears 29 s"):
        GeneratedWindows(SPLIT, longer, [tag_task()], cache)
    with pytest.raises(ValueError, match="no tag 'taping'; did you mean 'tapping'"):
        GeneratedWindows(SPLIT, waveforms[1], [{**tag_task(), "labels": ["voice", "taping"]}], cache)


# Recipes.


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Sixteen tones of eight artists, with a column of one label and one of several."""
    folder = tmp_path_factory.mktemp("songs")
    lines = []
    for index, row in enumerate(rows(16, seconds=1.6)):
        sf.write(folder / f"{index}.wav", row["audio"]["array"], RATE)
        artist = f"artist {index // 2}"
        pitch = "high" if "high" in row["tag"] else "low"
        lines.append({"file_name": f"{index}.wav", "artist": artist, "tag": row["tag"], "pitch": pitch})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def recipe(tmp_path):
    def write(kind, **changes):
        settings = {
            "name": "small",
            "model": {"model_type": kind, **TAGGERS[kind]},
            "training": {
                "num_train_epochs": 1,
                "per_device_train_batch_size": 4,
                "use_cpu": True,
                "disable_tqdm": True,
            },
            **changes,
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    return write


def test_the_extractor_of_a_pretrained_tagger_follows_what_a_recipe_changes_and_keeps_the_rest(tmp_path):
    model, extractor = make("musicnn")
    extractor.hop_seconds = 0.25
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)

    def made(extractor_settings=None, **changes):
        model_settings = {"pretrained": str(tmp_path), **changes}
        recipe = Recipe("other", Data(source="songs"), model_settings, extractor_settings or {})
        return _model_and_extractor(recipe, None)

    model, extractor = made(feature={**extractor.feature, "max_frequency_hz": 3000.0})
    assert extractor.feature == model.config.feature and extractor.feature["max_frequency_hz"] == 3000.0
    assert extractor.hop_seconds == 0.25
    model, extractor = made(input_samples=9216)
    assert (extractor.window_samples, extractor.min_samples, extractor.hop_seconds) == (9216, 9216, 0.25)
    assert made({"min_samples": 4096}, input_samples=9216)[1].min_samples == 4096


@pytest.mark.parametrize("kind", TAGGERS)
def test_a_recipe_trains_a_tagger_on_the_labels_of_the_data(kind, recipe, songs, tmp_path):
    metrics = run_recipe(recipe(kind, data={"source": str(songs)}), tmp_path / "out")
    assert {"tag_map", "pitch_accuracy", "mean_score"} <= set(metrics)
    model = AutoModelForAudioClassification.from_pretrained(tmp_path / "out")
    assert model.config.model_type == kind
    assert [(task["name"], task["labels"]) for task in model.config.tasks] == [
        ("tag", ["high", "loud"]),
        ("pitch", ["high", "low"]),
    ]
    assert list(model.config.thresholds) == ["tag"] and len(model.config.thresholds["tag"]) == 2
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "out")
    assert extractor.window_seconds == model.config.window_seconds
    assert (tmp_path / "out" / "training_songs.json").exists() and not (tmp_path / "out" / "trainer").exists()

    # And goes on from what it left, with heads for other labels.
    on = recipe(
        kind,
        model={"pretrained": str(tmp_path / "out"), "new_heads": True},
        data={"source": str(songs), "columns": {"tag": "pitch"}},
        training={"max_steps": 1, "use_cpu": True, "disable_tqdm": True, "tuning": "heads"},
    )
    run_recipe(on, tmp_path / "on")
    other = AutoModelForAudioClassification.from_pretrained(tmp_path / "on")
    assert other.config.model_type == kind and other.config.task("tag")["labels"] == ["high", "low"]
    assert other.config.task_names == ["tag"] and other.config.task("tag")["type"] == "single_label"


def test_a_recipe_trains_a_tagger_on_generated_tags_by_a_schedule(waveforms, cache, recipe, tmp_path):
    generated = asdict(SPLIT)  # for both: these are there already
    path = recipe(
        "music_tagger",
        data={"train": generated, "validation": generated},
        training={
            "optimizer_schedule": [
                {"optimizer": "adam", "learning_rate": 1e-3, "epochs": 1},
                {"optimizer": "sgd", "learning_rate": 1e-4},
            ],
            "num_train_epochs": 2,
            "use_cpu": True,
            "disable_tqdm": True,
        },
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few pieces have few tags
        metrics = run_recipe(path, tmp_path / "out", cache_dir=cache)
    assert 0 <= metrics["tag_map"] <= 1
    log = json.loads((tmp_path / "out" / "training_log.json").read_text())
    assert [entry["learning_rate"] for entry in log if "learning_rate" in entry] == [1e-3, 1e-4]
    assert AutoModelForAudioClassification.from_pretrained(tmp_path / "out").config.tasks[0]["labels"] == list(TAGS)


@pytest.mark.parametrize(
    ("model", "extractor", "message"),
    [
        ({"model_type": "musicn"}, {}, "'musicn' is no model type .* did you mean 'musicnn'"),
        ({"model_type": "musicnn", "architecture": "fcn"}, {}, "Unknown key 'architecture' in `model`"),
        ({"model_type": "musicnn", "backbones": {}}, {}, "Unknown key 'backbones' in `model`"),
        ({"model_type": "music_tagger", "architecture": "fnc"}, {}, "fnc"),
        ({"model_type": "music_tagger", "input_samples": "many"}, {}, "`model.input_samples` is 'many'"),
        ({"model_type": "musicnn"}, {"window_sampels": 3}, "'window_sampels' in `extractor`; did you mean 'window_sam"),
        ({"model_type": "musicnn", "pretrained": "mathrock-tiny"}, {}, "'musicnn', and .* holds a 'mathrock'"),
    ],
)
def test_what_a_family_does_not_know_is_named_before_any_data_are_read(model, extractor, message, recipe):
    path = recipe("musicnn", model=model, extractor=extractor, data={"source": "nowhere"})
    with pytest.raises(ValueError, match=message):
        load_recipe(path)
