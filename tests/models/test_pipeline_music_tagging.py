# SPDX-License-Identifier: Apache-2.0
"""What `pipeline("music-tagging")` promises, of every family."""

import json

import numpy as np
import pytest
import torch
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

import hf_mathrock
from hf_mathrock import AudioReadError, MathRockFeatureExtractor

RATE = 16_000
TAGS = ["guitar", "piano", "drums", "fast", "slow", "no vocals"]
TASKS = [
    {"name": "tempo", "type": "single_label", "labels": ["slow", "moderate", "fast"]},
    {"name": "tag", "type": "multi_label", "labels": TAGS},
]
# Per family the prefix of its classes and a config of a few thousand parameters that hears a second at a time.
TAGGERS = {
    "music_tagger": (
        "MusicTagger",
        {
            "architecture": "short_chunk",
            "input_samples": RATE,
            "feature": {"num_mel_bins": 16},
            "stages": [{"block": "conv2d", "channels": 4, "pool": 4}, {"block": "conv2d", "channels": 4, "pool": 4}],
            "head": {"hidden": 8},
        },
    ),
    "musicnn": ("Musicnn", {"input_samples": 16_128, "timbral_filters": 3, "temporal_filters": 2, "width": 4}),
    "music_tagging_transformer": (
        "MusicTaggingTransformer",
        {
            "sampling_rate": RATE,
            "input_samples": RATE,
            "feature": {"num_mel_bins": 32},
            "conv_channels": 4,
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        },
    ),
}


def music(seconds, seed=0, silent=()):
    """Noise whose colour changes every second; `silent` lists seconds without a sound."""
    random = np.random.default_rng(seed)
    samples = random.standard_normal(round(seconds * RATE)).astype(np.float32) * 0.1
    for second in range(0, int(np.ceil(seconds)), 2):
        part = slice(second * RATE, (second + 1) * RATE)
        samples[part] = np.convolve(samples[part], np.ones(32) / 8, mode="same")
    for second in silent:
        samples[second * RATE : (second + 1) * RATE] = 0
    return {"array": samples, "sampling_rate": RATE}


def make(family, tasks=TASKS):
    prefix, settings = TAGGERS[family]
    torch.manual_seed(0)
    config = getattr(hf_mathrock, f"{prefix}Config")(tasks=tasks, **settings)
    model = getattr(hf_mathrock, f"{prefix}ForAudioClassification")(config).eval()
    with torch.no_grad():  # far from 0.5, so that aggregations differ
        for name, parameter in model.named_parameters():
            if not name.startswith(f"{model.base_model_prefix}.") and parameter.dim() == 2:
                parameter.mul_(8)
    return model, hf_mathrock.MusicTaggingFeatureExtractor.for_config(config)


@pytest.fixture(scope="module", params=TAGGERS)
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    for part in make(request.param):
        part.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def every_pipe(folder):
    return pipeline("music-tagging", model=str(folder), device="cpu")


@pytest.fixture(scope="module")
def pipe():
    model, extractor = make("music_tagging_transformer")
    return pipeline("music-tagging", model=model, feature_extractor=extractor, device="cpu")


def scores(result):
    return {entry["label"]: entry["score"] for entry in result["tags"]}


def taggram(result):
    """Its scores by label, `(num_windows,)` each, NaN where it is silent."""
    return {
        label: np.array(row, dtype=float)
        for label, row in zip(result["taggram"]["labels"], result["taggram"]["scores"], strict=True)
    }


def logit(score):
    return np.log(score / (1 - score))


def test_a_result_is_plain_json_with_ranked_tags(every_pipe):
    result = every_pipe(music(5.3), return_taggram=True, return_embedding=True)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert list(result) == [
        *("file", "duration", "sampling_rate", "quality", "tags", "taggram", "embedding", "model", "settings")
    ]
    assert (result["duration"], result["sampling_rate"], result["quality"]) == (5.3, RATE, [])
    assert all(entry.keys() == {"label", "score"} for entry in result["tags"])
    ranked = [entry["score"] for entry in result["tags"]]
    assert ranked == sorted(ranked, reverse=True) and sorted(scores(result)) == sorted(TAGS)
    assert result["settings"]["task"] == "tag" and len(result["model"]["fingerprint"]) == 16
    assert all(isinstance(value, float) for value in result["embedding"])


def test_the_taggram_is_tags_by_windows_and_its_mean_are_the_tags(every_pipe):
    result = every_pipe(music(5.3), return_taggram=True)
    found, seconds = result["taggram"], every_pipe.feature_extractor.window_seconds
    assert found["labels"] == TAGS
    assert found["start"] == pytest.approx([number * seconds for number in range(len(found["start"]))], abs=1e-3)
    assert all(end - start <= seconds + 1e-3 for start, end in zip(found["start"], found["end"], strict=True))
    assert len(found["start"]) >= 5
    assert {label: row.mean() for label, row in taggram(result).items()} == pytest.approx(scores(result), abs=2e-6)


def test_it_says_of_a_task_what_mathrock_affect_says(every_pipe, folder):
    affect = pipeline("mathrock-affect", model=str(folder), device="cpu")
    whole = affect(music(4), return_segments=True, return_embedding=True, aggregation="max")
    for task in ("tempo", "tag"):
        result = every_pipe(music(4), task=task, return_taggram=True, return_embedding=True, aggregation="max")
        assert result["tags"] == [{"label": e["label"], "score": e["score"]} for e in whole[task]]
        assert result["embedding"] == whole["embedding"]
        for number, segment in enumerate(whole["segments"]):
            column = {label: row[number] for label, row in taggram(result).items()}
            assert column == {entry["label"]: entry["score"] for entry in segment[task]}


def test_without_a_task_the_models_own_pipeline_is_made(folder, tiny_model, tmp_path):
    assert type(pipeline(model=str(folder), device="cpu")).__name__ == "MusicTaggingPipeline"
    tiny_model.save_pretrained(tmp_path)
    MathRockFeatureExtractor().save_pretrained(tmp_path)
    assert type(pipeline(model=str(tmp_path), device="cpu")).__name__ == "MathRockAffectPipeline"


def test_the_stock_audio_classification_pipeline_gives_the_first_task(folder, every_pipe):
    stock = pipeline("audio-classification", model=str(folder), device="cpu")
    clip = music(4.6)
    ranked = stock({"raw": clip["array"].copy(), "sampling_rate": RATE}, top_k=3)
    expected = scores(every_pipe(clip, task="tempo"))
    assert {entry["label"]: entry["score"] for entry in ranked} == pytest.approx(expected, abs=1e-5)


def test_mathrock_gives_its_first_multi_label_task(tiny_model):
    made = pipeline("music-tagging", model=tiny_model, feature_extractor=MathRockFeatureExtractor(), device="cpu")
    result = made(music(12), top_k=5, return_taggram=True)
    assert result["settings"]["task"] == "emotion" and len(result["tags"]) == 5
    assert result["taggram"]["start"] == [0, 5] and len(result["taggram"]["scores"]) == 28


def test_a_model_without_tags_gives_its_first_task_and_an_unknown_task_is_named():
    model, extractor = make("music_tagging_transformer", tasks=TASKS[:1])
    made = pipeline("music-tagging", model=model, feature_extractor=extractor, device="cpu")
    result = made(music(2))
    assert result["settings"]["task"] == "tempo" and result["settings"]["threshold"] is None
    assert sum(scores(result).values()) == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match=r"no task 'tag'; its tasks are \['tempo'\]"):
        made(music(2), task="tag")


def test_aggregations_are_what_they_say(pipe):
    song = music(6)
    windows = taggram(pipe(song, return_taggram=True))
    expected = {
        "mean": {label: row.mean() for label, row in windows.items()},
        "max": {label: row.max() for label, row in windows.items()},
        "vote": {label: (row >= 0.4).mean() for label, row in windows.items()},
        "mean_logit": {label: 1 / (1 + np.exp(-logit(row).mean())) for label, row in windows.items()},
    }
    for aggregation, by_label in expected.items():
        result = pipe(song, aggregation=aggregation, threshold=0.4)
        assert scores(result) == pytest.approx(by_label, abs=2e-5), aggregation
    spread = np.abs(np.array(list(expected["mean"].values())) - np.array(list(expected["mean_logit"].values())))
    assert spread.max() > 1e-3  # the windows differ enough for the test to see it


def test_of_classes_a_vote_counts_winners_and_mean_logits_give_a_softmax(pipe):
    song = music(6)
    windows = np.stack(list(taggram(pipe(song, task="tempo", return_taggram=True)).values()), axis=1)
    labels = TASKS[0]["labels"]
    votes = np.bincount(windows.argmax(axis=1), minlength=3) / len(windows)
    assert scores(pipe(song, task="tempo", aggregation="vote")) == pytest.approx(
        dict(zip(labels, votes, strict=True)), abs=1e-6
    )
    product = np.exp(np.log(windows).mean(axis=0))
    expected = dict(zip(labels, product / product.sum(), strict=True))
    assert scores(pipe(song, task="tempo", aggregation="mean_logit")) == pytest.approx(expected, abs=1e-4)


def test_tags_with_as_many_votes_stand_in_the_order_of_their_means(pipe):
    by_mean = [entry["label"] for entry in pipe(music(3))["tags"]]
    nobody = pipe(music(3), aggregation="vote", threshold=1.0)["tags"]
    assert [entry["score"] for entry in nobody] == [0.0] * len(TAGS)
    assert [entry["label"] for entry in nobody] == by_mean


def test_thresholds_and_temperatures_of_the_config_are_used(pipe):
    song, config = music(6), pipe.model.config
    plain = taggram(pipe(song, return_taggram=True))
    try:
        config.temperatures, config.thresholds = {"tag": 3.0}, {"tag": [0.0] * 5 + [1.0]}
        cooled = pipe(song, return_taggram=True, aggregation="mean_logit")
        votes = pipe(song, aggregation="vote")
    finally:
        config.temperatures = config.thresholds = None
    for label, row in taggram(cooled).items():
        assert logit(row) == pytest.approx(logit(plain[label]) / 3, abs=1e-3)
        assert logit(scores(cooled)[label]) == pytest.approx(logit(plain[label]).mean() / 3, abs=1e-3)
    assert scores(votes) == {label: float(label != TAGS[-1]) for label in TAGS}
    assert votes["settings"]["threshold"] == [0.0] * 5 + [1.0]


def test_top_k_cuts_the_list_and_not_the_taggram(pipe):
    result = pipe(music(3), top_k=2, return_taggram=True)
    assert result["tags"] == pipe(music(3))["tags"][:2] and result["taggram"]["labels"] == TAGS
    assert len(pipe(music(3), top_k=99)["tags"]) == len(TAGS)


def test_a_silent_window_is_nothing_and_does_not_count(pipe):
    result = pipe(music(6, silent=(2, 3)), return_taggram=True)
    for row in result["taggram"]["scores"]:
        assert [score is None for score in row] == [False, False, True, True, False, False]
    means = {label: np.nanmean(row) for label, row in taggram(result).items()}
    assert means == pytest.approx(scores(result), abs=2e-6)


def test_a_result_can_be_drawn_as_it_is(pipe, tmp_path):
    from hf_mathrock.report.taggram import draw_taggram

    for number, options in enumerate(({"silent": (2,)}, {"silent": (0, 1, 2, 3)})):
        result = pipe(music(4, **options), return_taggram=True, top_k=2)
        draw_taggram(json.loads(json.dumps(result)), None, tmp_path / f"{number}.png")
    assert all(path.stat().st_size > 10_000 for path in tmp_path.iterdir())


def test_all_silence_has_no_tags(pipe):
    result = pipe(music(3, silent=(0, 1, 2)), return_taggram=True, return_embedding=True, aggregation="mean_logit")
    assert result["tags"] == [] and result["quality"] == ["silent"] and result["embedding"] is None
    assert result["taggram"]["scores"] == [[None] * 3] * len(TAGS)


def test_a_smaller_hop_makes_a_finer_taggram(pipe):
    found = pipe(music(3), hop_seconds=0.25, return_taggram=True)["taggram"]
    assert found["start"] == [0.25 * number for number in range(9)] and found["end"][-1] == 3.0
    coarse = pipe(music(3), return_taggram=True)["taggram"]
    # Whole seconds are windows of both.
    fine = np.array(found["scores"])[:, ::4]
    assert fine == pytest.approx(np.array(coarse["scores"]), abs=1e-5)


def test_scores_depend_neither_on_the_batch_nor_on_the_company(every_pipe):
    songs = [music(seconds, seed) for seed, seconds in enumerate((3.4, 0.3, 6.2))]
    alone = [every_pipe(song, batch_size=1) for song in songs]
    for together in (every_pipe(songs, batch_size=4), list(every_pipe(iter(songs)))):
        for one, other in zip(alone, together, strict=True):
            assert scores(one) == pytest.approx(scores(other), abs=1e-5)


def test_lists_datasets_and_bad_files(pipe, tmp_path):
    rows = [{"audio": music(2, seed)} for seed in range(2)]
    expected = pipe([row["audio"] for row in rows])
    assert list(pipe(KeyDataset(rows, "audio"))) == expected == pipe(rows)
    bad = tmp_path / "notes.mp3"
    bad.write_text("not music at all")
    with pytest.raises(AudioReadError, match=r"notes\.mp3"):
        pipe(str(bad))
    with pytest.warns(UserWarning, match=r"notes\.mp3"):
        results = pipe([rows[0]["audio"], str(bad)])
    assert results[0] == expected[0] and set(results[1]) == {"file", "error"}


def test_a_model_of_whole_songs_hears_a_short_one_in_one_window():
    model, extractor = make("music_tagging_transformer")
    extractor.window_samples = 29 * RATE
    made = pipeline("music-tagging", model=model, feature_extractor=extractor, device="cpu")
    found = made(music(4.5), return_taggram=True)["taggram"]
    assert (found["start"], found["end"]) == ([0.0], [4.5])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tasks": "tag"}, TypeError, "music-tagging has no option 'tasks'; did you mean 'task'"),
        ({"task": "mood"}, ValueError, r"no task 'mood'; its tasks are \['tempo', 'tag'\]"),
        ({"aggregation": "median"}, ValueError, "mean, max, vote, mean_logit"),
        ({"threshold": 2}, ValueError, r"in \[0, 1\]"),
        ({"top_k": 0}, ValueError, "at least 1"),
        ({"hop_seconds": 4}, ValueError, "at most the window"),
        ({"on_error": "ignore"}, ValueError, "raise, record"),
    ],
)
def test_a_wrong_option_is_refused(options, error, message, pipe):
    with pytest.raises(error, match=message):
        pipe(music(1), **options)


def test_the_command_line_knows_every_aggregation():
    import argparse

    from hf_mathrock.cli import evaluate, tag
    from hf_mathrock.models.scoring import AGGREGATIONS

    for command in (evaluate, tag):
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        (choices,) = (action.choices for action in parser._actions if action.dest == "aggregation")
        assert tuple(choices) == AGGREGATIONS
