# SPDX-License-Identifier: Apache-2.0
"""What Myna hears of audio, held to librosa and numpy: three front ends, long files read in pieces, and odd audio."""

import json

import numpy as np
import pytest
import soundfile
import torch
from transformers import AutoFeatureExtractor

from hf_mathrock.models import feature_extraction_myna
from hf_mathrock.models.audio_input import AudioReadError, open_audio, read_audio
from hf_mathrock.models.configuration_myna import MynaConfig
from hf_mathrock.models.feature_extraction_myna import MynaFeatureExtractor
from tiny_myna import tiny_myna, tiny_myna_config, tiny_myna_extractor

RATE = 16_000
PRESETS = ["default", "myna", "rpe-44k"]


@pytest.fixture(scope="module")
def extractor():
    """The default front end; tests must not change it."""
    return MynaFeatureExtractor.from_preset("default")


def music(num_samples, rate=RATE, seed=0):
    """Tones that come and go over a little noise, so that no band is far below the others."""
    random = np.random.default_rng(seed)
    time = np.arange(num_samples) / rate
    tones = sum(np.sin(2 * np.pi * f * time + random.uniform(0, 6)) for f in random.uniform(80, 3000, size=5))
    swell = 1 + 0.8 * np.sin(2 * np.pi * 0.3 * time)
    return (0.05 * swell * tones + 0.05 * random.standard_normal(num_samples)).astype(np.float32)


def power(waveform, rate=RATE, hop_length=512, win_length=2048, pad_mode="reflect"):
    """Power in librosa's mel bands, `(num_frames, 128)`; the transform is numpy's, as librosa compiles for its own."""
    import librosa.filters

    window = np.zeros(2048)
    first = (2048 - win_length) // 2
    window[first : first + win_length] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(win_length) / win_length)
    padded = np.pad(waveform.astype(np.float64), 1024, mode=pad_mode)
    frames = np.lib.stride_tricks.sliding_window_view(padded, 2048)[::hop_length]
    spectrum = np.concatenate(
        [np.abs(np.fft.rfft(part * window)) for part in np.array_split(frames, 1 + len(frames) // 500)]
    )
    return np.square(spectrum) @ librosa.filters.mel(sr=rate, n_fft=2048, n_mels=128).T.astype(np.float64)


def decibels(waveform):
    return 10 * np.log10(np.maximum(power(waveform), 1e-10))


# -- The front ends ---------------------------------------------------------------------------------------------------


@pytest.mark.slow  # librosa compiles its transform
def test_the_front_ends_are_those_of_librosa():
    import librosa

    waveform = music(3 * RATE)
    waveform[RATE : 2 * RATE] *= 0.003
    mel = librosa.feature.melspectrogram(
        y=waveform,
        sr=RATE,
        n_fft=2048,
        hop_length=512,
        n_mels=128,
        fmin=0.0,
        fmax=8000.0,
        power=2.0,
        pad_mode="reflect",
    ).T
    given = MynaFeatureExtractor.from_preset("default")(waveform)["input_features"][0].numpy()
    np.testing.assert_allclose(given, (librosa.power_to_db(mel, ref=np.max, top_db=80.0) + 40) / 40, atol=1e-3)
    given = MynaFeatureExtractor.from_preset("myna")(waveform)["input_features"][0].numpy()
    np.testing.assert_allclose(given, mel, rtol=1e-3, atol=1e-5 * mel.max())

    # All that is not named is librosa's default.
    mel = librosa.feature.melspectrogram(
        y=waveform, sr=44_100, n_fft=2048, win_length=1102, hop_length=441, n_mels=128, fmin=0.0, fmax=22_050.0
    ).T
    given = MynaFeatureExtractor.from_preset("rpe-44k")(waveform, sampling_rate=44_100)["input_features"][0].numpy()
    np.testing.assert_allclose(given, librosa.amplitude_to_db(mel, ref=np.max, top_db=80.0), atol=2e-2)


def test_the_default_hears_decibels_below_the_loudest_moment(extractor):
    waveform = music(5 * RATE)
    waveform[2 * RATE : 3 * RATE] *= 1e-7  # further down than the floor
    expected = np.maximum(decibels(waveform) - decibels(waveform).max(), -80)
    features = extractor(waveform)["input_features"][0].numpy()
    assert features.dtype == np.float32 and features.shape == (1 + len(waveform) // 512, 128)
    np.testing.assert_allclose(features, (expected + 40) / 40, atol=1e-3)
    assert features.max() == pytest.approx(1.0) and features.min() == extractor.floor == -1.0


def test_decibels_are_ten_times_the_logarithm_of_power(extractor):
    waveform = music(3 * RATE + 77)
    given = extractor.decibels(waveform)
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, decibels(waveform), atol=5e-3)
    assert extractor.decibels(0 * waveform).max() == -100


def test_myna_hears_raw_power():
    extractor = MynaFeatureExtractor.from_preset("myna")
    waveform = music(3 * RATE)
    expected = power(waveform)
    features = extractor(waveform)["input_features"][0].numpy()
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-6 * expected.max())
    assert extractor.frames_per_second == 31.25 and extractor.floor == 0


def test_rpe_44k_hears_power_as_if_it_were_amplitude():
    """Twice the decibels, and the floor 40 dB below the loudest; windows of 25 ms every 10 ms, 1102 samples."""
    extractor = MynaFeatureExtractor.from_preset("rpe-44k")
    waveform = music(3 * 44_100, rate=44_100)
    waveform[44_100 : 2 * 44_100] *= 0.003
    loudness = power(waveform, 44_100, 441, 1102, "constant")
    expected = np.maximum(20 * np.log10(loudness / loudness.max()), -80)
    features = extractor(waveform, sampling_rate=44_100)["input_features"][0].numpy()
    assert features.shape == (301, 128) and extractor.frames_per_second == 100
    np.testing.assert_allclose(features, expected, atol=2e-2)
    assert (features == -80).any() and extractor.floor == -80


def test_without_a_bound_on_decibels_nothing_is_clipped():
    extractor = MynaFeatureExtractor(top_db=None, mean=0.0, std=1.0)
    waveform = music(2 * RATE)
    waveform[RATE:] *= 1e-4
    features = extractor(waveform)["input_features"][0].numpy()
    np.testing.assert_allclose(features, decibels(waveform) - decibels(waveform).max(), atol=2e-2)
    assert features.min() < -85


@pytest.mark.parametrize("preset", PRESETS)
def test_a_model_and_its_extractor_hear_alike(preset):
    config = tiny_myna_config(**MynaConfig.front_end(preset))
    own, named = MynaFeatureExtractor.for_config(config), MynaFeatureExtractor.from_preset(preset)
    assert own.front_end_settings() == named.front_end_settings() == config.front_end_settings()
    assert config.frames_per_second == own.frames_per_second
    model = tiny_myna(**MynaConfig.front_end(preset))
    with torch.no_grad():
        output = model(**own(music(config.sampling_rate, config.sampling_rate), config.sampling_rate))
    assert output.pooler_output.shape == (1, 24) and output.pooler_output.isfinite().all()


def test_an_unknown_front_end_is_refused():
    with pytest.raises(ValueError, match="rpe_44k"):
        MynaFeatureExtractor.from_preset("rpe_44k")


def test_loudness_means_nothing_in_decibels_and_all_in_power(extractor):
    waveform = music(2 * RATE)
    loud, quiet = (extractor(level * waveform)["input_features"] for level in (1.0, 0.125))
    torch.testing.assert_close(quiet, loud, atol=1e-4, rtol=0)
    power = MynaFeatureExtractor.from_preset("myna")
    loud, quiet = (power(level * waveform)["input_features"] for level in (1.0, 0.125))
    torch.testing.assert_close(quiet, loud / 64, rtol=1e-4, atol=1e-9)


# -- Long files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["default", "rpe-44k"])
def test_a_long_file_in_pieces_is_the_whole_file(preset, tmp_path):
    extractor = MynaFeatureExtractor.from_preset(preset)
    rate = extractor.sampling_rate
    length = 150 * rate + 313  # three blocks
    soundfile.write(tmp_path / "long.wav", music(length, rate), rate, subtype="PCM_16")
    waveform, _ = soundfile.read(tmp_path / "long.wav", dtype="float32")
    with open_audio(tmp_path / "long.wav") as source:
        streamed = extractor.decibels(source)
    feature = extractor.feature
    loudness = power(waveform, rate, feature["hop_length"], feature["win_length"] or 2048, feature["pad_mode"])
    assert streamed.shape == loudness.shape == (1 + length // feature["hop_length"], 128)
    np.testing.assert_allclose(streamed, 10 * np.log10(np.maximum(loudness, 1e-10)), atol=1e-2)
    np.testing.assert_allclose(streamed, extractor.decibels(waveform), atol=1e-4)


@pytest.mark.parametrize("block_seconds", [0.05, 0.1, 0.25625, 1.0])
def test_the_length_of_the_pieces_means_nothing(extractor, monkeypatch, block_seconds):
    waveform = music(3 * RATE + 1)
    expected = decibels(waveform)
    monkeypatch.setattr(feature_extraction_myna, "_BLOCK_SECONDS", block_seconds)
    for audio in (waveform, open_audio(waveform, RATE)):
        given = extractor.decibels(audio)
        assert given.shape == expected.shape
        np.testing.assert_allclose(given, expected, atol=5e-3)


def test_a_file_of_another_rate_is_heard_at_the_models(extractor, tmp_path):
    left, right = music(70 * 44_100, 44_100), music(70 * 44_100, 44_100, seed=1)
    soundfile.write(tmp_path / "song.flac", np.stack([left, right], axis=1), 44_100)
    waveform = read_audio(tmp_path / "song.flac", RATE)
    given = extractor(str(tmp_path / "song.flac"))["input_features"][0].numpy()
    expected = extractor.values_of(decibels(waveform))
    assert given.shape == expected.shape == (1 + 70 * RATE // 512, 128)
    np.testing.assert_allclose(given, expected, atol=5e-3)


# Around a hop, half a window and a window, where something begins or ends; and just beyond a block.
@pytest.mark.parametrize(
    "length", [1, 2, 511, 512, 513, 1023, 1024, 1025, 1536, 2047, 2048, 2049, 2560, 2561, 60 * RATE, 60 * RATE + 1]
)
def test_every_length_has_one_frame_and_one_for_each_hop(extractor, length):
    waveform = music(length)
    given = extractor.decibels(waveform)
    assert given.shape == (1 + length // 512, 128) and np.isfinite(given).all()
    with open_audio(waveform, RATE) as source:
        np.testing.assert_allclose(extractor.decibels(source), given, atol=1e-4)
    if length > 1024:  # there is as much to reflect as half a window
        np.testing.assert_allclose(given, decibels(waveform), atol=5e-3)


# -- Crops ------------------------------------------------------------------------------------------------------------


def test_a_crop_is_a_piece_of_its_track_under_the_tracks_level(extractor):
    waveform = music(8 * RATE)
    waveform[: 4 * RATE] *= 0.1
    spectrogram = extractor.decibels(waveform)
    whole, crop = extractor.values_of(spectrogram), spectrogram[10:90]
    reference = extractor.reference_of(spectrogram)
    assert reference == pytest.approx(spectrogram.max())
    np.testing.assert_array_equal(extractor.values_of(crop, reference), whole[10:90])
    assert extractor.values_of(crop).max() > whole[10:90].max() + 0.2  # by its own level it is louder
    np.testing.assert_allclose(extractor.values_of(crop.astype(np.float16), reference), whole[10:90], atol=1e-3)


def test_windows_are_heard_one_by_one(extractor):
    waveform = music(7 * RATE)
    inputs = extractor(waveform, window_seconds=2.0, hop_seconds=1.0)
    assert inputs["windows_per_clip"].tolist() == [6] and inputs["input_features"].shape == (6, 63, 128)
    for index in range(6):
        window = waveform[index * RATE : (index + 2) * RATE]
        np.testing.assert_allclose(
            inputs["input_features"][index].numpy(), extractor.values_of(decibels(window)), atol=1e-3
        )


# -- Batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_a_batch_is_filled_with_the_floor_and_says_where(preset):
    extractor = MynaFeatureExtractor.from_preset(preset)
    rate = extractor.sampling_rate
    clips = [music(seconds * rate, rate, seed=seconds) for seconds in (3, 1, 2)]
    batch = extractor(clips, sampling_rate=rate)
    lengths = [1 + len(clip) // extractor.feature["hop_length"] for clip in clips]
    assert batch["attention_mask"].sum(dim=1).tolist() == lengths
    for clip, features, mask, length in zip(
        clips, batch["input_features"], batch["attention_mask"], lengths, strict=True
    ):
        assert mask[:length].all() and not mask[length:].any()
        torch.testing.assert_close(features[:length], extractor(clip, rate)["input_features"][0], atol=0, rtol=0)
        assert (features[length:] == extractor.floor).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_the_floor_is_what_silence_sounds_like(preset):
    extractor = MynaFeatureExtractor.from_preset(preset)
    features = extractor(np.zeros(2 * extractor.sampling_rate, np.float32), extractor.sampling_rate)["input_features"]
    np.testing.assert_allclose(features.numpy(), extractor.floor, atol=1e-6)
    music_and_silence = music(2 * extractor.sampling_rate, extractor.sampling_rate)
    music_and_silence[extractor.sampling_rate :] = 0
    features = extractor(music_and_silence, extractor.sampling_rate)["input_features"][0].numpy()
    np.testing.assert_allclose(features[-5:], extractor.floor, atol=1e-6)
    assert features.min() >= extractor.floor - 1e-6


@pytest.mark.parametrize("length", [1, 400, 4000])
def test_less_than_a_patch_is_filled_up_to_one(length):
    extractor = tiny_myna_extractor()
    inputs = extractor(music(length))
    assert inputs["input_features"].shape == (1, 16, 128) and inputs["attention_mask"].all()
    assert (inputs["input_features"][0, 1 + length // 512 :] == extractor.floor).all()
    with torch.no_grad():
        output = tiny_myna()(**inputs)
    assert output.pooler_output.isfinite().all() and output.last_hidden_state.shape == (1, 9, 24)


# -- Saving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_an_extractor_that_was_saved_hears_the_same(preset, tmp_path):
    extractor = MynaFeatureExtractor.from_preset(preset, hop_seconds=2.0)
    tiny_myna_config(**MynaConfig.front_end(preset)).save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    first = (tmp_path / "preprocessor_config.json").read_text()
    again = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert isinstance(again, MynaFeatureExtractor) and again.to_dict() == extractor.to_dict()
    again.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "preprocessor_config.json").read_text()) == json.loads(first)
    rate = extractor.sampling_rate
    for key, values in extractor(music(rate, rate), rate).items():
        assert torch.equal(again(music(rate, rate), rate)[key], values), key


# -- What is wrong ----------------------------------------------------------------------------------------------------


def test_audio_that_is_none_is_refused_by_name(extractor):
    with pytest.raises(AudioReadError):
        extractor(np.empty(0, np.float32))
    with pytest.raises(AudioReadError):
        extractor(np.array([0.1, np.nan, 0.2] * 1000, np.float32))
    with pytest.raises(AudioReadError, match="nowhere.mp3"):
        extractor("nowhere.mp3")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"values": "loudness"}, "`values` is 'loudness'"),
        ({"top_db": -80.0}, "`top_db` is -80"),
        ({"std": 0.0}, "`std` is 0"),
        ({"mean": None}, "`mean` is None"),
        ({"min_frames": 0}, "`min_frames` is 0"),
        ({"feature": {"num_mel_binz": 3}}, "num_mel_binz"),
        ({"feature": {"compression": "ln"}}, "'ln'"),
        ({"sampling_rate": 8000, "feature": {"max_frequency_hz": 8000.0}}, "max_frequency_hz"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(fields, message):
    with pytest.raises(ValueError, match=message):
        MynaFeatureExtractor(**fields)
