# SPDX-License-Identifier: Apache-2.0
"""Audio that is damaged, odd or no audio at all: one clear line, or a result with a flag that says what was done."""

from __future__ import annotations

import os
import struct
import sys

import numpy as np
import pytest

from hf_mathrock.models.audio_input import AudioReadError, open_audio, read_audio

soundfile = pytest.importorskip("soundfile")

RATE = 44_100


def tone(seconds=3.0, rate=RATE, amplitude=0.3) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * 440 * time)).astype(np.float32)


def noise(seconds=3.0, channels=1) -> np.ndarray:
    return (0.1 * np.random.default_rng(3).standard_normal((round(seconds * RATE), channels))).astype(np.float32)


def read(audio, window=10.0, hop=5.0, sampling_rate=RATE):
    with open_audio(audio, sampling_rate) as source:
        return list(source.windows(window, hop)), source.report()


def refusal(audio, sampling_rate=RATE) -> AudioReadError:
    with pytest.raises(AudioReadError) as caught:
        read(audio, sampling_rate=sampling_rate)
    assert "\n" not in str(caught.value)
    if isinstance(audio, os.PathLike):
        assert os.fspath(audio) in str(caught.value)
        assert caught.value.file == os.fspath(audio)
    return caught.value


def written(path, samples, rate=RATE, **options):
    with soundfile.SoundFile(path, "w", rate, 1 if samples.ndim == 1 else samples.shape[1], **options) as sound:
        for first in range(0, len(samples), 4_096):  # the Vorbis encoder crashes on one long write
            sound.write(samples[first : first + 4_096])
    return path


def cut(path, fraction):
    os.truncate(path, int(os.path.getsize(path) * fraction))
    return path


@pytest.fixture(autouse=True)
def without_torchcodec(monkeypatch):
    """The answers must not depend on whether FFmpeg happens to be installed."""
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)


# --- not readable at all ---------------------------------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path):
    assert refusal(tmp_path / "absent.wav").reason == "missing"


def test_a_folder_is_refused(tmp_path):
    assert refusal(tmp_path).reason == "directory"


def test_a_file_without_permission_is_refused(tmp_path, monkeypatch):
    path = written(tmp_path / "a.wav", tone())

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert refusal(path).reason == "permission"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_and_never_waited_for(tmp_path):
    path = tmp_path / "pipe.wav"
    os.mkfifo(path)
    assert refusal(path).reason == "not_regular"


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="this system has no /dev/zero")
def test_a_device_is_refused():
    with pytest.raises(AudioReadError) as caught:
        open_audio("/dev/zero")
    assert caught.value.reason == "not_regular"


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "a.mp3"
    path.touch()
    assert refusal(path).reason == "empty"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"la la la, this is a song text\n" * 40, "text"),
        (b"<!DOCTYPE html><html><body>404</body></html>" * 40, "web page"),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n" * 20, "playlist"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (bytes(range(1, 200)) * 20, "first bytes 01 02"),
        (b"\0" * 50_000, "first bytes 00 00"),
    ],
)
def test_what_is_no_audio_is_said_to_be_what_it_is(tmp_path, content, words):
    path = tmp_path / "song.mp3"
    path.write_bytes(content)
    error = refusal(path)
    assert error.reason == "not_audio" and words in str(error)


@pytest.mark.parametrize("container", ["wav", "flac", "mp3", "ogg", "aiff"])
def test_a_truncated_header_is_refused(tmp_path, container):
    path = written(tmp_path / f"a.{container}", tone())
    os.truncate(path, 30)
    assert refusal(path).reason == "damaged"


def test_a_container_for_ffmpeg_says_what_to_install(tmp_path):
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom" + bytes(1_000))
    error = refusal(path)
    assert error.reason == "needs_ffmpeg"
    assert "MP4" in str(error) and "libsndfile" in str(error) and "torchcodec" in str(error)
    assert 'pip install "hf-mathrock[ffmpeg]"' in str(error)


def test_a_torchcodec_that_fails_to_load_is_as_good_as_none(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "torchcodec")
    monkeypatch.delitem(sys.modules, "torchcodec.decoders")
    package = tmp_path / "torchcodec"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "decoders.py").write_text("raise OSError('libnvrtc.so.13: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "a.webm"
    path.write_bytes(b"\x1aE\xdf\xa3" + bytes(1_000))
    assert "libnvrtc" in str(refusal(path))


@pytest.mark.parametrize("rate", [1_000, 3_999, 384_001, 0, -44_100, "fast"])
def test_an_absurd_rate_is_refused(rate):
    assert refusal(tone(), rate).reason == "rate"


def test_a_header_with_no_samples_is_empty(tmp_path):
    assert refusal(written(tmp_path / "a.wav", np.zeros(0, np.float32))).reason == "empty"


# --- readable in part ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["wav", "flac", "mp3", "ogg", "aiff", "au", "w64", "rf64"])
def test_a_truncated_file_gives_what_is_there(tmp_path, container):
    path = cut(written(tmp_path / f"a.{container}", noise(8.0), format=container.upper()), 0.5)
    windows, report = read(path, 2, 2)
    assert "truncated" in report.quality
    assert 2.5 < report.duration < 5.5
    assert len(windows) >= 1 and all(np.isfinite(window.audio[16_000]).all() for window in windows)


def test_a_header_that_claims_more_than_is_there_is_noticed(tmp_path):
    path = written(tmp_path / "a.wav", tone())
    content = bytearray(path.read_bytes())
    content[40:44] = struct.pack("<I", 10 * struct.unpack("<I", content[40:44])[0])
    path.write_bytes(content)
    assert read(path)[1].quality == ["truncated"]


def test_a_header_written_into_a_pipe_is_no_damage(tmp_path):
    path = written(tmp_path / "a.wav", tone())
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff" * 4
    path.write_bytes(content)
    _, report = read(path)
    assert report.quality == [] and report.duration == 3.0


def test_the_name_says_nothing_about_the_contents(tmp_path):
    path = written(tmp_path / "a.wav", tone())
    path = path.rename(tmp_path / "a.mp3")
    assert read(path)[1].quality == []


# --- odd samples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_a_few_bad_samples_are_repaired_where_they_are(tmp_path, value):
    samples = tone(25.0)
    samples[20 * RATE : 20 * RATE + 50] = value
    windows, report = read(written(tmp_path / "a.wav", samples, subtype="FLOAT"))
    assert report.quality == ["non_finite_repaired"]
    assert [bool(window.quality) for window in windows] == [window.end > 20.0 for window in windows]
    for window in windows:
        assert all(np.isfinite(part).all() and np.abs(part).max() < 1 for part in window.audio.values())


def test_many_bad_samples_are_refused():
    samples = tone()
    samples[::50] = np.nan
    error = refusal(samples)
    assert error.reason == "non_finite" and "2646 of 132300" in str(error)


def test_silence_is_flagged_and_only_a_wholly_silent_file_is_silent():
    quiet, loud = np.zeros(10 * RATE, np.float32), tone(10.0)
    windows, report = read(np.concatenate([quiet, loud]))
    assert [window.quality for window in windows] == [["silent"], [], []]
    assert report.quality == []
    assert read(quiet + np.float32(1e-4))[1].quality == ["silent"]
    assert read(tone(amplitude=1e-3))[1].quality == []


def test_a_constant_is_removed_and_what_remains_is_silence():
    assert read(np.full(3 * RATE, 0.5, np.float32))[1].quality == ["silent", "dc_removed"]


def test_an_offset_is_removed_and_the_music_stays():
    (window,), report = read(tone() + np.float32(0.2))
    assert report.quality == ["dc_removed"]
    middle = window.audio[16_000][1_000:-1_000]
    np.testing.assert_allclose(middle, read(tone())[0][0].audio[16_000][1_000:-1_000], atol=1e-4)


def test_a_bass_note_cut_short_is_no_offset():
    time = np.arange(round(0.11 * RATE)) / RATE
    assert read((0.5 * np.sin(2 * np.pi * 41 * time)).astype(np.float32))[1].quality == ["too_short"]


@pytest.mark.parametrize("peak", [1.0, 1.5])
def test_samples_little_beyond_full_scale_keep_their_values(tmp_path, peak):
    samples = tone(amplitude=peak)
    path = written(tmp_path / "a.wav", samples, subtype="FLOAT")
    assert read(path)[1].quality == (["over_full_scale"] if peak > 1 else [])
    np.testing.assert_array_equal(read_audio(path, RATE), samples)


@pytest.mark.parametrize("peak", [3.0, 8.0, 32_768.0])
def test_samples_far_beyond_full_scale_are_scaled_by_their_peak(peak):
    (window,), report = read(tone(amplitude=peak))
    assert report.quality == ["scaled"]
    (expected,), _ = read(tone(amplitude=1.0))
    np.testing.assert_allclose(window.audio[48_000], expected.audio[48_000], atol=2e-3)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_flat_tops_are_clipping_and_a_full_scale_sine_is_none(tmp_path, subtype):
    clipped = np.clip(tone(amplitude=2.0), -1, 1)
    assert read(written(tmp_path / "a.wav", clipped, subtype=subtype))[1].quality == ["clipped"]
    assert read(written(tmp_path / "b.wav", tone(amplitude=0.9999), subtype=subtype))[1].quality == []


def test_clipping_in_one_channel_is_seen():
    stereo = np.stack([np.clip(tone(amplitude=2.0), -1, 1), tone(amplitude=0.1)], axis=1)
    assert read(stereo)[1].quality == ["clipped"]


def test_antiphase_stereo_is_heard():
    left = noise()[:, 0]
    (window,), report = read(np.stack([left, -left], axis=1))
    assert report.quality == ["antiphase"]
    np.testing.assert_allclose(window.audio[48_000], read(left)[0][0].audio[48_000], atol=1e-6)


def test_antiphase_in_a_part_is_flagged_there_and_joins_without_a_click():
    left = tone(20.0)
    right = left.copy()
    right[10 * RATE :] *= -1
    windows, report = read(np.stack([left, right], axis=1), 5, 5)
    assert [window.quality for window in windows] == [[], [], ["antiphase"], ["antiphase"]]
    assert report.quality == ["antiphase"]
    steps = np.abs(np.diff(read_audio(np.stack([left, right]), RATE, array_sampling_rate=RATE)))
    assert steps.max() < 1.5 * np.abs(np.diff(left)).max()


def test_ordinary_stereo_is_not_antiphase():
    assert read(noise(channels=2))[1].quality == []


@pytest.mark.parametrize("rate", [8_000, 192_000])
def test_low_and_high_rates_give_a_result(tmp_path, rate):
    (window,), report = read(written(tmp_path / "a.wav", tone(rate=rate), rate))
    assert report.quality == [] and report.sampling_rate == rate
    assert len(window.audio[16_000]) == 48_000 and len(window.audio[48_000]) == 144_000


@pytest.mark.parametrize("num_samples", [1, 4_410])
def test_a_moment_of_audio_is_too_short_but_no_error(num_samples):
    (window,), report = read(np.full(num_samples, 0.01, np.float32))
    assert report.quality == ["too_short"]
    assert len(window.audio[16_000]) == max(1, round(num_samples / RATE * 16_000))


def test_eight_channels_give_a_result(tmp_path):
    assert read(written(tmp_path / "a.wav", noise(channels=8)))[1].channels == 8


def test_a_damaged_file_leaves_no_descriptor_open(tmp_path):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system does not list open descriptors")
    paths = [written(tmp_path / "a.wav", tone()), written(tmp_path / "b.flac", tone()), tmp_path / "c.mp3"]
    os.truncate(paths[1], 30)
    paths[2].write_text("no audio")
    before = len(os.listdir("/proc/self/fd"))
    for path in paths:
        try:
            read(path)
        except AudioReadError:
            continue
    assert len(os.listdir("/proc/self/fd")) == before
