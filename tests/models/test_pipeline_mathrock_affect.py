# SPDX-License-Identifier: Apache-2.0
"""What `pipeline("mathrock-affect")` promises."""

import io
import json
import warnings

import numpy as np
import pytest
import soundfile as sf
import torch
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from hf_mathrock import AudioReadError, MathRockFeatureExtractor

RATE = 22_050


def music(seconds, seed=0, channels=2):
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    beat = np.exp(-8 * (time % 0.5))
    tone = np.sin(2 * np.pi * 110 * 2 ** (random.integers(12) / 12) * time)
    left = 0.3 * beat * tone + 0.02 * random.standard_normal(len(time))
    return np.stack([left, 0.8 * left][:channels]).astype(np.float32)


@pytest.fixture(scope="module")
def pipe(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model.save_pretrained(folder)
    MathRockFeatureExtractor().save_pretrained(folder)
    return pipeline("mathrock-affect", model=str(folder), device="cpu")


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    path = tmp_path_factory.mktemp("songs") / "song.wav"
    sf.write(path, music(23).T, RATE)
    return path


def scores(result, task="emotion"):
    return {entry["label"]: entry["score"] for entry in result[task]}


def differs(first, second):
    pairs = [(scores(first, task), scores(second, task)) for task in TASKS]
    return max(abs(one[label] - other[label]) for one, other in pairs for label in other)


TASKS = ("emotion", "vibe", "intensity", "tempo")


def test_a_result_is_plain_json_with_every_task_ranked(pipe, song):
    result = pipe(str(song), return_segments=True, return_embedding=True)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert (result["duration"], result["sampling_rate"], result["quality"]) == (23.0, RATE, [])
    for task, size in zip(TASKS, (28, 4, 3, 3), strict=True):
        values = [entry["score"] for entry in result[task]]
        assert len(values) == size and values == sorted(values, reverse=True)
    for task in TASKS[1:]:
        assert [entry["active"] for entry in result[task]] == [True] + [False] * (len(result[task]) - 1)
        assert sum(scores(result, task).values()) == pytest.approx(1, abs=1e-5)
    assert [(part["start"], part["end"]) for part in result["segments"]] == [(0, 10), (5, 15), (10, 20), (15, 23)]
    assert len(result["embedding"]) == 16
    assert len(result["model"]["fingerprint"]) == 16
    assert result["settings"]["hop_seconds"] == 5.0


def test_the_same_file_gives_the_same_bytes(pipe, song):
    first, second = (json.dumps(pipe(str(song), return_segments=True, return_embedding=True)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_scores_do_not_depend_on_the_batch_size(batch_size, pipe, song):
    assert differs(pipe(str(song)), pipe(str(song), batch_size=batch_size)) <= 1e-5


def test_windows_of_several_songs_share_batches_without_mixing(pipe, song, monkeypatch):
    songs = [{"array": music(seconds, seed), "sampling_rate": RATE} for seed, seconds in enumerate((4, 23, 11, 0.3))]
    alone = [pipe(one) for one in songs]
    sizes = []
    forward = pipe.model.forward
    monkeypatch.setattr(
        pipe.model, "forward", lambda **inputs: (sizes.append(len(inputs["input_values"])), forward(**inputs))[1]
    )
    together = pipe(songs, batch_size=3)
    assert sizes == [3, 3, 2]
    assert [result["duration"] for result in together] == [result["duration"] for result in alone]
    assert max(differs(*pair) for pair in zip(alone, together, strict=True)) <= 1e-5


def test_every_kind_of_input_gives_the_same_scores(pipe, song):
    audio, _ = sf.read(song, dtype="float32")

    class Decoder:  # torchcodec's interface, as far as it is used
        class metadata:
            sample_rate, num_channels, duration_seconds = RATE, 2, 23.0

        def get_all_samples(self):
            return type("Samples", (), {"data": torch.from_numpy(audio.T.copy()), "sample_rate": RATE})()

        def get_samples_played_in_range(self, start_seconds, stop_seconds=None):
            first, last = round(start_seconds * RATE), None if stop_seconds is None else round(stop_seconds * RATE)
            return type("Samples", (), {"data": torch.from_numpy(audio.T[:, first:last].copy()), "sample_rate": RATE})()

    expected = pipe(str(song))
    kinds = {
        "path": song,
        "bytes": song.read_bytes(),
        "file": io.BytesIO(song.read_bytes()),
        "array": {"array": audio, "sampling_rate": RATE},
        "raw, channels first": {"raw": audio.T, "sampling_rate": RATE},
        "torch": {"array": torch.from_numpy(audio), "sampling_rate": RATE},
        "datasets row": {"path": None, "bytes": song.read_bytes()},
        "decoder": Decoder(),
    }
    for kind, value in kinds.items():
        assert differs(expected, pipe(value)) <= 2e-4, kind  # 16-bit files are decoded exactly, resampling is the same
    assert differs(expected, pipe(audio, sampling_rate=RATE)) <= 2e-4


def test_lists_generators_and_datasets(pipe, song):
    rows = [{"audio": {"array": music(2, seed), "sampling_rate": RATE}, "id": seed} for seed in range(3)]
    expected = pipe([row["audio"] for row in rows])
    assert isinstance(expected, list) and len(expected) == 3
    from_generator = list(pipe(row["audio"] for row in rows))
    from_dataset = list(pipe(KeyDataset(rows, "audio")))
    assert from_generator == from_dataset == expected
    assert pipe([]) == []
    assert pipe((str(song),))[0] == pipe(str(song))


def test_a_generator_is_read_as_results_are_taken(pipe):
    taken = []

    def songs():
        for seed in range(50):
            taken.append(seed)
            yield {"array": music(2, seed), "sampling_rate": RATE}

    next(iter(pipe(songs(), batch_size=2)))
    assert len(taken) <= 4


def test_a_bad_file_raises_alone_and_is_recorded_in_a_list(pipe, song, tmp_path):
    bad = tmp_path / "notes.mp3"
    bad.write_text("not music at all")
    with pytest.raises(AudioReadError, match=r"notes\.mp3"):
        pipe(str(bad))
    with pytest.warns(UserWarning, match=r"notes\.mp3"):
        results = pipe([str(song), str(bad), str(song)])
    assert set(results[1]) == {"file", "error"} and "notes.mp3" in results[1]["error"]
    assert results[0] == results[2] == pipe(str(song))
    with pytest.raises(AudioReadError):
        pipe([str(bad)], on_error="raise")
    with pytest.warns(UserWarning):
        assert "error" in pipe(str(bad), on_error="record")


def test_silence_has_no_tempo(pipe):
    silence = pipe({"array": np.zeros(RATE * 12, np.float32), "sampling_rate": RATE}, return_embedding=True)
    assert silence["quality"] == ["silent"] and silence["embedding"] is None
    assert all(silence[task] == [] for task in TASKS)


def test_silent_windows_do_not_count(pipe):
    sound = music(10)
    quiet_end = np.concatenate([sound, np.zeros((2, RATE * 20), np.float32)], axis=1)
    result = pipe({"array": quiet_end, "sampling_rate": RATE}, return_segments=True, hop_seconds=10)
    assert [part["quality"] for part in result["segments"]] == [[], ["silent"], ["silent"]]
    assert "silent" not in result["quality"] and result["segments"][1]["tempo"] == []
    assert scores(result) == scores(result["segments"][0])


def test_hours_of_silence_do_not_pile_up(pipe, monkeypatch):
    from hf_mathrock.models import pipeline_recordings as module

    monkeypatch.setattr(module, "_MAX_SILENT_WAITING", 3)
    kept = []
    original = module.open_audio

    def watched(*args, **kwargs):
        source = original(*args, **kwargs)
        windows = source.windows

        def counted(*grid):
            for window in windows(*grid):
                kept.append(window)
                yield window

        source.windows = counted
        return source

    monkeypatch.setattr(module, "open_audio", watched)
    recordings = ({"array": np.zeros(RATE * 60, np.float32), "sampling_rate": RATE} for _ in range(3))
    results = pipe(recordings, batch_size=2)
    assert next(results)["quality"] == ["silent"]
    holding = [window for window in kept if window.audio]
    assert len(holding) <= 2 and len(kept) < 3 * 11


def test_a_row_of_a_dataset_is_heard_by_its_audio(pipe, song):
    assert differs(pipe({"audio": {"path": str(song)}, "tempo": "slow"}), pipe(str(song))) == 0


def test_aggregations(pipe, song):
    segments = pipe(str(song), return_segments=True)["segments"]
    for task in TASKS:
        stacked = {label: [scores(part, task)[label] for part in segments] for label in scores(segments[0], task)}
        for aggregation, reduce in (("mean", np.mean), ("max", np.max)):
            result = scores(pipe(str(song), aggregation=aggregation), task)
            assert result == pytest.approx({label: reduce(values) for label, values in stacked.items()}, abs=2e-6)
        votes = {
            label: np.mean([next(e["active"] for e in part[task] if e["label"] == label) for part in segments])
            for label in stacked
        }
        assert scores(pipe(str(song), aggregation="vote"), task) == pytest.approx(votes, abs=1e-6)


def test_options_reach_the_result(pipe, song):
    result = pipe(str(song), tasks=["tempo", "emotion"], top_k=2, threshold=0.0, window_seconds=4, hop_seconds=4)
    assert [key for key in result if key in TASKS] == ["tempo", "emotion"]
    assert len(result["emotion"]) == 2 and all(entry["active"] for entry in result["emotion"])
    assert result["settings"]["window_seconds"] == 4.0
    assert not any(entry["active"] for entry in pipe(str(song), threshold=1.0)["emotion"])
    assert pipe(str(song), tasks="tempo").keys() == pipe(str(song), tasks=["tempo"]).keys()


def test_thresholds_and_temperatures_of_the_config_are_used(pipe, song):
    plain = pipe(str(song))
    config = pipe.model.config
    try:
        config.temperatures, config.thresholds = {"tempo": 4.0}, {"emotion": [0.0] * 27 + [1.0]}
        changed = pipe(str(song))
    finally:
        config.temperatures = config.thresholds = None
    assert max(scores(changed, "tempo").values()) < max(scores(plain, "tempo").values())
    assert {e["label"] for e in changed["emotion"] if not e["active"]} == {"neutral"}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"agregation": "mean"}, TypeError, "did you mean 'aggregation'"),
        ({"aggregation": "median"}, ValueError, "mean, max, vote"),
        ({"top_k": 0}, ValueError, "at least 1"),
        ({"threshold": 1.5}, ValueError, r"in \[0, 1\]"),
        ({"tasks": ["mood"]}, ValueError, "its tasks are"),
        ({"window_seconds": 30}, ValueError, "up to 10 s"),
        ({"hop_seconds": 0}, ValueError, "must be at least 0.01 s"),
        ({"on_error": "ignore"}, ValueError, "raise, record"),
        ({"batch_size": -1}, ValueError, "at least 1"),
    ],
)
def test_a_wrong_option_is_refused(options, error, message, pipe, song):
    with pytest.raises(error, match=message):
        pipe(str(song), **options)


def test_options_can_be_given_when_the_pipeline_is_made(tiny_model, song):
    made = pipeline(
        "mathrock-affect",
        model=tiny_model,
        feature_extractor=MathRockFeatureExtractor(),
        top_k=1,
        tasks="vibe",
        batch_size=2,
        device="cpu",
    )
    assert len(made(str(song))["vibe"]) == 1
    assert len(made(str(song), top_k=3)["vibe"]) == 3


def test_a_model_straight_from_training_does_not_drop_out(tiny_model, song):
    import copy

    model = copy.deepcopy(tiny_model).train()
    made = pipeline("mathrock-affect", model=model, feature_extractor=MathRockFeatureExtractor(), device="cpu")
    assert made(str(song)) == made(str(song))


def test_urls_are_fetched_only_when_allowed(pipe):
    with pytest.raises(AudioReadError, match="allow_url"):
        pipe("https://example.invalid/song.mp3")


def test_broken_weights_are_reported_not_passed_on(pipe, song):
    weight = pipe.model.heads["tempo"][1].bias
    with torch.no_grad():
        kept = weight.clone()
        weight.fill_(float("nan"))
        try:
            with pytest.raises(RuntimeError, match="non-finite logits for 'tempo'"):
                pipe(str(song))
        finally:
            weight.copy_(kept)


def test_the_stock_pipeline_loads_the_folder_and_hears_whole_songs(pipe):
    stock = pipeline("audio-classification", model=pipe.model.config._name_or_path, device="cpu", top_k=1)
    clips = [{"array": music(seconds)[0], "sampling_rate": RATE} for seconds in (3, 23)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        together, alone = stock(list(clips)), [stock(dict(clip)) for clip in clips]
    assert [entry[0]["label"] for entry in together] == [entry[0]["label"] for entry in alone]


def test_the_fingerprint_follows_the_weights(tiny_model, song):
    import copy

    model = copy.deepcopy(tiny_model)
    one = pipeline("mathrock-affect", model=model, feature_extractor=MathRockFeatureExtractor(), device="cpu")
    first = one(str(song))["model"]["fingerprint"]
    with torch.no_grad():
        model.heads["tempo"][1].bias += 1e-3
    assert one(str(song))["model"]["fingerprint"] != first
    two = pipeline("mathrock-affect", model=model, feature_extractor=MathRockFeatureExtractor(), device="cpu")
    assert two(str(song))["model"]["fingerprint"] != first


def test_the_stock_audio_classification_pipeline_gives_the_emotions(pipe, song):
    stock = pipeline("audio-classification", model=pipe.model, feature_extractor=pipe.feature_extractor, device="cpu")
    audio, _ = sf.read(song, dtype="float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ranked = stock({"array": audio.mean(axis=1)[: RATE * 10], "sampling_rate": RATE}, top_k=28)
    expected = scores(pipe({"array": audio[: RATE * 10], "sampling_rate": RATE}))
    assert {entry["label"]: entry["score"] for entry in ranked} == pytest.approx(expected, abs=5e-3)
