# SPDX-License-Identifier: Apache-2.0
"""Evaluation hears what the pipeline hears: all windows of the grid, and the mean of their scores."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import soundfile

from hf_mathrock import MathRockFeatureExtractor, open_audio, pipeline
from hf_mathrock.data.collator import MathRockCollator
from hf_mathrock.data.grid import GridWindows, song_level
from hf_mathrock.models.audio_windows import count_windows
from hf_mathrock.models.scoring import task_scores

TASKS = [
    {"name": "mood", "type": "multi_label", "labels": ["calm", "wild"]},
    {"name": "tempo", "type": "single_label", "labels": ["slow", "fast"]},
]


def tone(seconds, seed=0):
    random = np.random.default_rng(seed)
    return (0.2 * random.standard_normal(round(seconds * 16_000))).astype(np.float32)


@pytest.fixture(scope="module")
def extractor():
    return MathRockFeatureExtractor(window_seconds=1.0, hop_seconds=0.5)


@pytest.fixture
def rows(tmp_path):
    made = []
    for index, seconds in enumerate((2.3, 0.4, 1.0)):
        soundfile.write(tmp_path / f"{index}.wav", tone(seconds, index), 16_000)
        made.append({"audio": str(tmp_path / f"{index}.wav"), "tempo": index % 2, "mood": ["calm"]})
    return made


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100])
@pytest.mark.parametrize("grid", [(1.0, 0.5), (1.0, 1.0), (0.7, 0.3), (10.0, 5.0)])
def test_windows_are_counted_as_they_are_cut(rate, grid):
    for num_frames in [1, rate // 3, rate, *np.random.default_rng(0).integers(1, 12 * rate, size=12)]:
        audio = np.ones(num_frames, dtype=np.float32) * 0.1
        cut = list(open_audio(audio, rate).windows(*grid, (rate,)))
        assert count_windows(int(num_frames), rate, *grid) == len(cut), num_frames


def test_every_window_of_the_grid_is_heard_in_order(extractor, rows):
    grid = GridWindows(rows, extractor, TASKS)
    assert grid.song_ids.tolist() == [0, 0, 0, 0, 1, 2]
    expected = [w for row in rows for w in open_audio(row["audio"]).windows(1.0, 0.5)]
    for order in (range(6), [5, 3, 0, 3, 1]):  # in order, and as a shuffled loader would ask
        for index in order:
            window = grid[index]["window"]
            np.testing.assert_array_equal(window.audio[48_000], expected[index].audio[48_000])
    assert grid[4]["labels"]["tempo"] == 1
    assert len(pickle.loads(pickle.dumps(grid))[2]["window"].audio) == 2  # for the workers of a loader


def test_silence_and_what_breaks_off_count_nowhere(extractor, rows, tmp_path):
    whole = tone(4.0)
    whole[16_000:] = 0
    soundfile.write(tmp_path / "quiet.wav", whole, 16_000)
    soundfile.write(tmp_path / "cut.wav", tone(4.0), 16_000)
    data = (tmp_path / "cut.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(data[: len(data) // 2])
    (tmp_path / "none.wav").write_bytes(b"")
    files = [{"audio": str(tmp_path / name), "tempo": 1} for name in ("quiet.wav", "none.wav", "cut.wav")]
    with pytest.warns(UserWarning, match="1 recordings are left out .*none.wav"):
        grid = GridWindows(files, extractor, TASKS)
    assert set(grid.song_ids) == {0, 2} and list(grid.broken) == [1]
    known = np.array([int(grid[index]["labels"]["tempo"]) != -100 for index in range(len(grid))])
    assert known[grid.song_ids == 0].tolist() == [True, True] + [False] * 5
    of_cut = known[grid.song_ids == 2]
    assert of_cut[:2].all() and not of_cut[-2:].any()


def test_a_recordings_score_is_the_mean_of_its_windows_that_count():
    scores = {"tempo": np.array([[0.9, 0.1], [0.5, 0.5], [0.0, 1.0], [0.2, 0.8]])}
    labels = {"tempo": np.array([0, -100, 0, 1])}
    means, truth = song_level(np.array([0, 0, 0, 1]), scores, labels)
    np.testing.assert_allclose(means["tempo"], [[0.45, 0.55], [0.2, 0.8]])
    assert truth["tempo"].tolist() == [0, 1]


def test_a_partly_known_recording_counts_in_the_task_that_is_known():
    scores = {"tempo": np.array([[0.9, 0.1]]), "mood": np.array([[0.3, 0.4]])}
    labels = {"tempo": np.array([-100]), "mood": np.array([[1.0, -100.0]])}
    means, truth = song_level(np.array([4]), scores, labels)
    assert means["mood"].tolist() == [[0.3, 0.4]] and truth["tempo"].tolist() == [-100]


def test_it_is_the_pipelines_score(tiny_model, tmp_path):
    """The same recording through the trainer's road and through the pipeline."""
    import torch

    soundfile.write(tmp_path / "song.wav", tone(17.0), 16_000)
    extractor = MathRockFeatureExtractor()
    tasks = tiny_model.config.tasks
    row = {"audio": str(tmp_path / "song.wav"), "tempo": "fast"}
    grid = GridWindows([row], extractor, tasks)
    batch = MathRockCollator(extractor, tasks)([grid[index] for index in range(len(grid))])
    labels = {name: value.numpy() for name, value in batch.pop("labels").items()}
    with torch.no_grad():
        logits = tiny_model(**batch).task_logits
    scores = {task["name"]: task_scores(task, logits[task["name"]].numpy()) for task in tasks}
    means, _ = song_level(grid.song_ids, scores, labels)
    pipe = pipeline("mathrock-affect", model=tiny_model, feature_extractor=extractor)
    heard = {entry["label"]: entry["score"] for entry in pipe(row["audio"])["tempo"]}
    np.testing.assert_allclose(means["tempo"][0], [heard[label] for label in ("slow", "moderate", "fast")], atol=2e-6)
