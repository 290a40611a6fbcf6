# SPDX-License-Identifier: Apache-2.0
"""Windows of the taggers: their lengths, what comes before them, and what becomes of short audio."""

import numpy as np
import pytest
import torch

from hf_mathrock import MusicTaggingFeatureExtractor, open_audio
from hf_mathrock.models.configuration_musicnn import FEATURE
from hf_mathrock.models.tagger_features import mel_spectrogram

RATE = 16_000
WINDOW = 187 * 256


def noise(seconds, seed=0):
    return (0.3 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32).clip(-1, 1)


def test_windows_of_fixed_length_repeat_what_is_too_short():
    extractor = MusicTaggingFeatureExtractor(window_samples=RATE)
    inputs = extractor(noise(0.4))
    assert inputs["input_values"].shape == (1, RATE) and bool(inputs["attention_mask"].all())
    assert np.array_equal(inputs["input_values"][0].numpy(), np.resize(noise(0.4), RATE))


def test_what_a_model_can_take_as_it_is_is_padded_and_masked():
    extractor = MusicTaggingFeatureExtractor(window_samples=4 * RATE, min_samples=RATE)
    inputs = extractor([noise(4), noise(1.5), noise(0.5)])
    assert inputs["attention_mask"].sum(dim=1).tolist() == [4 * RATE, 1.5 * RATE, RATE]
    assert inputs["input_values"].shape == (3, 4 * RATE)
    assert not inputs["input_values"][1, round(1.5 * RATE) :].any()
    assert np.array_equal(inputs["input_values"][2, :RATE].numpy(), np.resize(noise(0.5), RATE))
    assert inputs["windows_per_clip"].tolist() == [1, 1, 1]


def test_windows_follow_one_another_unless_a_hop_is_given():
    extractor = MusicTaggingFeatureExtractor(window_samples=RATE)
    assert extractor(noise(3))["windows_per_clip"].tolist() == [3]
    assert extractor(noise(3), hop_seconds=0.5)["windows_per_clip"].tolist() == [5]
    with pytest.raises(ValueError, match="takes windows of up to 1 s"):
        extractor(noise(3), window_seconds=2)
    longer = MusicTaggingFeatureExtractor(window_samples=RATE, min_samples=100, max_samples=2 * RATE)
    assert longer(noise(4), window_seconds=2)["input_values"].shape == (2, 2 * RATE)


@pytest.mark.parametrize("seconds", [0.7, 3.0, 8.976, 9.0, 11.9, 12.1])
@pytest.mark.parametrize("drop_tail", [False, True])
def test_windows_are_counted_without_reading(seconds, drop_tail):
    extractor = MusicTaggingFeatureExtractor(window_samples=WINDOW, drop_tail=drop_tail)
    with open_audio(noise(seconds), RATE) as source:
        windows = list(extractor.windows(source))
    assert len(windows) == extractor.count_windows(round(seconds * RATE), RATE)
    lengths = [len(window.audio[RATE]) for window in windows]
    assert not drop_tail or len(lengths) == 1 or set(lengths) == {WINDOW}


def test_spectrograms_of_windows_are_pieces_of_that_of_the_whole():
    waveform = noise(10)
    extractor = MusicTaggingFeatureExtractor(window_samples=WINDOW, feature=FEATURE, drop_tail=True)
    inputs = extractor(waveform)
    whole = mel_spectrogram(torch.from_numpy(waveform)[None], FEATURE, RATE)[0].T
    assert inputs["input_features"].shape == (3, 187, 96)
    pieces = whole[: 3 * 187].reshape(3, 187, 96)
    assert (inputs["input_features"] - pieces).abs().max() < 1e-5
    # Without what comes before it, a window's first frame would be another.
    alone = extractor(waveform[WINDOW : 2 * WINDOW])["input_features"][0]
    assert (alone[0] - pieces[1, 0]).abs().max() > 0.01
    assert (alone[1:] - pieces[1, 1:]).abs().max() < 1e-5


def test_the_grid_may_overlap_and_the_file_have_another_rate():
    from scipy.signal import resample_poly

    waveform = resample_poly(noise(8), 441, 160).astype(np.float32)
    extractor = MusicTaggingFeatureExtractor(window_samples=WINDOW, feature=FEATURE)
    with open_audio(waveform, 44_100) as source:
        windows = list(extractor.windows(source, hop_seconds=1.0))
    assert [len(window.before[RATE]) for window in windows[:3]] == [0, 256, 256]
    joined = np.concatenate([windows[0].audio[RATE][:RATE], windows[1].audio[RATE]])
    assert np.array_equal(windows[1].before[RATE], joined[RATE - 256 : RATE])


def test_an_extractor_saves_and_loads_its_settings(tmp_path):
    extractor = MusicTaggingFeatureExtractor(window_samples=WINDOW, feature=FEATURE, drop_tail=True, min_samples=WINDOW)
    extractor.save_pretrained(tmp_path)
    loaded = MusicTaggingFeatureExtractor.from_pretrained(tmp_path)
    assert loaded.feature == {"win_length": None, **FEATURE} and loaded.drop_tail and loaded.window_seconds == 2.992
    assert torch.equal(loaded(noise(7))["input_features"], extractor(noise(7))["input_features"])


def test_a_feature_may_be_given_in_part_and_must_be_a_mel_spectrogram():
    assert MusicTaggingFeatureExtractor(feature={"kind": "mel"}).feature["n_fft"] == 512
    with pytest.raises(ValueError, match="'raw'; the extractor computes 'mel' only"):
        MusicTaggingFeatureExtractor(feature={"kind": "raw"})


def test_milliseconds_taken_for_seconds_are_noticed():
    extractor = MusicTaggingFeatureExtractor()
    with pytest.raises(ValueError, match="`window_seconds` is 0.001; .*at least 0.1 s"):
        extractor.checked_grid(0.001, None)
    with pytest.raises(ValueError, match="`hop_seconds` is 0.001; it must be at least 0.01 s"):
        extractor.checked_grid(None, 0.001)
