# SPDX-License-Identifier: Apache-2.0
"""Generated windows: right labels, kept on disk, varied only in what labels do not depend on."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hf_mathrock import MathRockConfig, MathRockFeatureExtractor
from hf_mathrock.data.generated import GeneratedSplit, GeneratedWindows, render_piece

SPLIT = GeneratedSplit(num=3, seed=77, seconds=12.0)
TASKS = MathRockConfig().tasks


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def windows(cache, **settings):
    return GeneratedWindows(SPLIT, MathRockFeatureExtractor(), TASKS, cache, num_workers=1, **settings)


def test_a_row_is_what_the_extractor_hears_and_the_piece_says(cache):
    data = windows(cache)
    for index in range(SPLIT.num):
        audio, piece = render_piece(SPLIT, index)
        start = (audio.shape[1] - 441_000) // 2
        expected = MathRockFeatureExtractor()(audio[:, start : start + 441_000], sampling_rate=44_100)
        row = data[index]
        np.testing.assert_allclose(row["input_features"], expected["input_features"][0], atol=0.04)
        np.testing.assert_allclose(row["input_values"], expected["input_values"][0], atol=1e-3)
        assert TASKS[3]["labels"][int(row["labels"]["tempo"])] == piece.labels.tempo
        heard = {TASKS[0]["labels"][i] for i in np.flatnonzero(row["labels"]["emotion"])}
        assert heard in [set(section.labels.emotions) for section in piece.sections]
        assert data.facts[index] == {"work_id": piece.work_id, "bpm": piece.bpm}


def test_a_split_is_computed_once(cache, monkeypatch):
    first = windows(cache)[0]["input_values"]
    monkeypatch.setattr("hf_mathrock.data.generated._compute", lambda *_: pytest.fail("computed again"))
    np.testing.assert_array_equal(windows(cache)[0]["input_values"], first)


@pytest.mark.parametrize("augment", ["light", "heavy"])
def test_augmentation_turns_both_streams_alike_and_keeps_the_labels(augment, cache):
    plain, varied = windows(cache), windows(cache, augment=augment)
    torch.manual_seed(3)
    for _ in range(4):
        before, after = plain[0], varied[0]
        assert not np.array_equal(before["input_values"], after["input_values"])
        for task in before["labels"]:
            np.testing.assert_array_equal(before["labels"][task], after["labels"][task])
        # The shift of each stream, from its correlation with the stream as it was.
        shifts = []
        for key, level in (
            ("input_features", lambda x: x[0, :1000].mean(axis=1)),
            ("input_values", lambda x: np.abs(x).reshape(1000, 160).mean(axis=1)),
        ):
            one, other = (level(row[key]) - level(row[key]).mean() for row in (before, after))
            correlation = np.fft.ifft(np.fft.fft(other) * np.fft.fft(one).conj()).real
            shifts.append(int(correlation.argmax()))
        assert min((shifts[0] - shifts[1]) % 1000, (shifts[1] - shifts[0]) % 1000) <= 1


def first_samples(data, num_workers):
    loader = DataLoader(data, batch_size=1, num_workers=num_workers)
    return [[float(row["input_values"][0, :4_000].abs().sum()) for row in loader] for _ in range(2)]


def test_workers_and_epochs_vary_differently_and_the_seed_repeats_them(cache):
    data = windows(cache, augment="light")
    runs = []
    for _ in range(2):
        torch.manual_seed(5)
        runs.append(first_samples(data, num_workers=2))
    assert runs[0] == runs[1]
    drawn = [value for epoch in runs[0] for value in epoch]
    assert len(set(drawn)) == len(drawn)


def test_an_unknown_augmentation_is_refused(cache):
    with pytest.raises(ValueError, match="none, light, heavy"):
        windows(cache, augment="some")
