# SPDX-License-Identifier: Apache-2.0
"""Reading intact audio: every input kind, the resampler, the grid of windows, and memory."""

from __future__ import annotations

import http.server
import io
import os
import pickle
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hf_mathrock.models import audio_opening, audio_reading
from hf_mathrock.models.audio_input import AudioReadError, open_audio, read_audio

soundfile = pytest.importorskip("soundfile")
soxr = pytest.importorskip("soxr")

MODELS = Path(audio_reading.__file__).parent
RECORDINGS = Path(__file__).parents[2].parent / "shared" / "audio"


def music(seconds: float, rate: int = 44_100, channels: int = 2) -> np.ndarray:
    """Noise with a slow swell, different in every channel, below full scale."""
    time = np.arange(round(seconds * rate))[:, None] / rate
    noise = np.random.default_rng(7).standard_normal((len(time), channels))
    return (0.1 * noise * (1 + 0.5 * np.sin(time))).astype(np.float32)


def windows_of(audio, window=10.0, hop=5.0, rates=(16_000, 48_000), **options):
    with open_audio(audio, options.pop("sampling_rate", None)) as source:
        return list(source.windows(window, hop, rates, **options)), source.report()


@pytest.fixture
def wav(tmp_path) -> Path:
    path = tmp_path / "song.wav"
    soundfile.write(path, music(2.5), 44_100, subtype="FLOAT")
    return path


# --- input kinds -----------------------------------------------------------------------------------------------------


class StandInDecoder:
    """What torchcodec's `AudioDecoder` offers: metadata, and samples of a range in seconds, `(channels, samples)`."""

    def __init__(self, samples: np.ndarray, rate: int):
        self._samples, self._rate = samples, rate
        self.metadata = SimpleNamespace(sample_rate=rate, num_channels=2, duration_seconds=len(samples) / rate)

    def get_all_samples(self):
        return self.get_samples_played_in_range(0, len(self._samples) / self._rate)

    def get_samples_played_in_range(self, start, stop):
        torch = pytest.importorskip("torch")
        if start >= self.metadata.duration_seconds:
            raise RuntimeError("No audio frames were decoded.")
        part = self._samples[round(start * self._rate) : round(stop * self._rate)]
        return SimpleNamespace(data=torch.from_numpy(part.T.copy()), sample_rate=self._rate)


def as_tensor(path):
    torch = pytest.importorskip("torch")
    return torch.from_numpy(soundfile.read(path, dtype="float32")[0]).requires_grad_()


KINDS = {
    "str": str,
    "path": lambda path: path,
    "bytes": Path.read_bytes,
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "file object": lambda path: io.BytesIO(path.read_bytes()),
    "samples first": lambda path: soundfile.read(path)[0],
    "channels first": lambda path: soundfile.read(path)[0].T,
    "tensor": as_tensor,
    "array dict": lambda path: {"array": soundfile.read(path)[0], "sampling_rate": 44_100, "path": "x.wav"},
    "raw dict": lambda path: {"raw": soundfile.read(path)[0], "sampling_rate": 44_100},
    "bytes dict": lambda path: {"path": "elsewhere.wav", "bytes": path.read_bytes()},
    "path dict": lambda path: {"path": str(path), "bytes": None},
    "decoder": lambda path: StandInDecoder(soundfile.read(path, dtype="float32")[0], 44_100),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_input_gives_the_same_samples(wav, kind):
    expected = read_audio(wav, 16_000)
    found = read_audio(KINDS[kind](wav), 16_000, array_sampling_rate=44_100)
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_a_long_decoder_is_read_range_by_range(monkeypatch):
    monkeypatch.setattr(audio_reading, "_MAX_RANGE_SAMPLES", 1)  # one range is then 92,160 frames
    samples = music(7.0)
    np.testing.assert_allclose(read_audio(StandInDecoder(samples, 44_100), 44_100), samples.mean(axis=1), atol=1e-7)


def test_a_decoder_that_loses_its_place_is_replaced_by_a_fresh_one(monkeypatch):
    class Forgetful(StandInDecoder):
        asked = 0

        def get_samples_played_in_range(self, start, stop):
            self.asked += stop > start
            if start > 0 and self.asked > 1:
                raise RuntimeError("cannot go on from here")
            return super().get_samples_played_in_range(start, stop)

    monkeypatch.setattr(audio_reading, "_MAX_RANGE_SAMPLES", 1)
    samples = music(7.0)
    reader = audio_reading.TorchCodecReader(lambda: Forgetful(samples, 44_100), None)
    np.testing.assert_array_equal(np.concatenate(list(reader.blocks(50_000))), samples)


def test_the_rate_a_decoder_gives_counts_not_the_rate_of_its_file():
    decoder = StandInDecoder(music(1.0, 16_000), 16_000)
    decoder.metadata.sample_rate = 44_100  # as a row of datasets.Audio(sampling_rate=16_000) from a 44.1 kHz file
    assert open_audio(decoder).info.sampling_rate == 16_000


@pytest.mark.parametrize("name", [b"caf\xe9.wav", "naïve ☂.wav".encode(), b"line\nbreak.wav"])
def test_any_file_name_opens_and_prints(tmp_path, wav, name):
    path = os.path.join(os.fsencode(tmp_path), name)
    try:
        os.rename(wav, path)
    except OSError:
        pytest.skip("this file system does not take the name")
    with open_audio(os.fsdecode(path)) as source:
        source.info.file.encode("utf-8")
    os.truncate(path, 0)
    with pytest.raises(AudioReadError) as caught:
        open_audio(os.fsdecode(path))
    message = str(caught.value).encode("utf-8")
    assert message.startswith(b"cannot read ") and b"\n" not in message


def test_samples_need_their_sampling_rate():
    with pytest.raises(AudioReadError, match="sampling_rate=") as caught:
        open_audio(np.zeros(100, dtype=np.float32))
    assert caught.value.reason == "rate"


@pytest.mark.parametrize(
    ("audio", "reason"),
    [
        (None, "type"),
        (["a.wav"], "type"),
        ({"text": "la"}, "type"),
        (io.StringIO("text"), "type"),
        (np.zeros((2, 3, 4), np.float32), "shape"),
        (np.zeros((1_000, 40), np.float32), "channels"),
        (np.zeros(0, np.float32), "empty"),
        (np.zeros(100, np.int64), "dtype"),
        (np.zeros(100, np.complex64), "dtype"),
        (b"", "empty"),
    ],
)
def test_what_cannot_be_audio_is_refused_with_a_reason(audio, reason):
    with pytest.raises(AudioReadError) as caught:
        open_audio(audio, 16_000)
    assert caught.value.reason == reason


def test_an_error_survives_the_way_back_from_a_worker_process():
    error = pickle.loads(pickle.dumps(audio_reading.read_error("a.wav", "empty", "nothing in it")))
    assert (str(error), error.file, error.reason) == ("cannot read 'a.wav': nothing in it", "a.wav", "empty")


# --- URLs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(wav):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(wav.parent))

        def do_GET(self):
            if self.path == "/redirect":
                self.send_response(302)
                self.send_header("Location", "ftp://127.0.0.1/song.wav")
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_url_is_read_only_when_allowed(server, wav):
    url = f"{server}/song.wav"
    for audio in (url, {"path": url, "bytes": None}):
        with pytest.raises(AudioReadError, match="allow_url=True"):
            open_audio(audio)
    np.testing.assert_array_equal(read_audio(url, 16_000, allow_url=True), read_audio(wav, 16_000))


@pytest.mark.parametrize("page", ["absent.wav", "redirect"])
def test_a_failed_download_is_one_line(server, page):
    with pytest.raises(AudioReadError) as caught:
        open_audio(f"{server}/{page}", allow_url=True)
    assert caught.value.reason == "download"


def test_a_download_stops_at_the_limit(server, monkeypatch):
    monkeypatch.setattr(audio_opening, "MAX_DOWNLOAD_BYTES", 10_000)
    with pytest.raises(AudioReadError, match="larger than 10000 bytes"):
        open_audio(f"{server}/song.wav", allow_url=True)


@pytest.mark.parametrize("url", ["ftp://host/a.wav", "file:///a.wav", "s3://bucket/a.wav", "hf://datasets/a.wav"])
def test_only_http_is_ever_fetched(url):
    with pytest.raises(AudioReadError) as caught:
        open_audio(url, allow_url=True)
    assert caught.value.reason == "url"


# --- samples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [4_000, 8_000, 16_000, 22_050, 44_099, 44_100, 48_000, 96_001, 192_000, 384_000])
def test_streamed_resampling_equals_one_call(rate):
    mono = music(3.3, rate, channels=1)[:, 0]
    with open_audio(mono, rate) as source:
        (window,) = source.windows(10, 10, block_frames=1_000)
    for wanted, samples in window.audio.items():
        expected = soxr.resample(mono, rate, wanted, quality="HQ") if wanted != rate else mono
        assert len(samples) == round(3.3 * wanted)
        np.testing.assert_allclose(samples[: len(expected)], expected, atol=1e-6)


def test_the_block_size_changes_no_sample(tmp_path):
    path = tmp_path / "song.flac"
    hard = music(13.7)
    hard[200_000:300_000, 1] = -hard[200_000:300_000, 0]  # antiphase, decided block by block
    soundfile.write(path, hard, 44_100)
    whole, whole_report = windows_of(path, block_frames=10**7)
    for block_frames in (333, 22_050, 65_536):
        parts, report = windows_of(path, block_frames=block_frames)
        assert report == whole_report
        for part, expected in zip(parts, whole, strict=True):
            assert part.quality == expected.quality
            for rate in (16_000, 48_000):
                np.testing.assert_array_equal(part.audio[rate], expected.audio[rate])


def test_the_same_source_reads_twice_alike(wav):
    with open_audio(wav) as source:
        first, second = (list(source.windows(1, 0.5)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.audio[48_000], other.audio[48_000])


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_every_sample_format_has_the_same_scale(tmp_path, subtype):
    path, samples = tmp_path / "a.wav", music(1.0)
    soundfile.write(path, samples, 44_100, subtype=subtype)
    tolerance = {"PCM_U8": 2**-7, "PCM_16": 2**-15}.get(subtype, 1e-6)  # libsndfile writes the next step below
    np.testing.assert_allclose(read_audio(path, 44_100), samples.mean(axis=1), atol=tolerance)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "float16", "float32", "float64"])
def test_every_array_type_has_the_same_scale(dtype):
    samples = music(0.5, channels=1)[:, 0]
    if dtype.startswith("float"):
        stored = samples.astype(dtype)
    else:
        half = 2.0 ** (np.iinfo(dtype).bits - 1)
        stored = (np.round(samples * half) + (half if dtype == "uint8" else 0)).astype(dtype)
    tolerance = {"int8": 5e-3, "uint8": 5e-3, "float16": 5e-4}.get(dtype, 2e-5)
    np.testing.assert_allclose(read_audio(stored, 44_100, array_sampling_rate=44_100), samples, atol=tolerance)


def test_eight_channels_are_averaged():
    samples = music(1.0, channels=8)
    np.testing.assert_allclose(read_audio(samples, 44_100, array_sampling_rate=44_100), samples.mean(axis=1), atol=1e-7)


# --- windows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "window", "hop", "spans"),
    [
        (3.0, 10, 5, [(0, 3)]),
        (10.0, 10, 5, [(0, 10)]),
        (10.9, 10, 5, [(0, 10)]),  # a rest below a second is left out
        (11.0, 10, 5, [(0, 10), (5, 11)]),
        (20.0, 10, 5, [(0, 10), (5, 15), (10, 20)]),
        (12.0, 5, 5, [(0, 5), (5, 10), (10, 12)]),
        (2.25, 1, 0.5, [(0, 1), (0.5, 1.5), (1, 2), (1.5, 2.25)]),  # half a hop, where that is below a second
        (0.7, 0.3, 0.1, [(0, 0.3), (0.1, 0.4), (0.2, 0.5), (0.3, 0.6), (0.4, 0.7)]),
    ],
)
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_windows_stand_on_the_grid(seconds, window, hop, spans, rate):
    windows, report = windows_of(music(seconds, rate), window, hop, sampling_rate=rate)
    assert [(found.start, found.end) for found in windows] == spans
    assert [found.index for found in windows] == list(range(len(spans)))
    assert report.duration == pytest.approx(seconds) and report.num_windows == len(spans)
    for found in windows:
        for wanted, samples in found.audio.items():
            assert samples.dtype == np.float32
            assert len(samples) == pytest.approx((found.end - found.start) * wanted, abs=1)


def test_every_rate_covers_the_same_span():
    rate = 44_100
    tone = np.zeros(12 * rate, dtype=np.float32)
    clicks = np.arange(1, 12) * rate
    tone[clicks] = 0.9
    windows, _ = windows_of(tone, 4.0, 1.5, sampling_rate=rate)
    for window in windows:
        for wanted, samples in window.audio.items():
            times = window.start + np.flatnonzero(np.abs(samples) > 0.6 * np.abs(samples).max()) / wanted
            assert np.abs(times - np.round(times)).max() < 1e-4


def test_a_window_is_the_slice_of_the_whole():
    samples = music(23.0)
    whole = read_audio(samples, 16_000, array_sampling_rate=44_100)
    for window in windows_of(samples, 10.0, 3.3, sampling_rate=44_100)[0]:
        first = round(window.start * 16_000)
        np.testing.assert_array_equal(window.audio[16_000], whole[first : first + len(window.audio[16_000])])


@pytest.mark.parametrize(
    ("window", "hop", "rates"),
    [(0, 1, (16_000,)), (5, 0, (16_000,)), (5, 6, (16_000,)), (float("nan"), 1, (16_000,)), (5, 5, ()), (5, 5, (-1,))],
)
def test_a_grid_that_makes_no_sense_is_refused(window, hop, rates):
    with pytest.raises(ValueError, match="seconds|sampling_rates"):
        open_audio(music(1.0), 44_100).windows(window, hop, rates)


def test_memory_does_not_grow_with_length(tmp_path):
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 44_100, 2, "PCM_16") as sound:
        for _ in range(30):
            sound.write(music(10.0))

    def peak(seconds):
        with open_audio(path) as source:
            tracemalloc.start()
            for window in source.windows(10, 5):
                if window.end >= seconds:
                    break
            largest = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return largest

    short, long = peak(60), peak(300)
    assert long < 1.1 * short < 40 * 2**20


# --- real recordings and travelling ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["demucs-test.mp3", "flamenco.wav", "TRWJAZW128F42760DD.mp3", "joram-solipsism-30s.mp3"]
)
def test_real_recordings_read_clean_and_equal_librosa(name):
    path = RECORDINGS / name
    if not path.exists():
        pytest.skip(f"{path.name} is not in the shared recordings here")
    librosa = pytest.importorskip("librosa")
    _, report = windows_of(path)
    assert report.quality == []
    expected, _ = librosa.load(path, sr=16_000, mono=True, res_type="soxr_hq")
    found = read_audio(path, 16_000)
    assert abs(len(found) - len(expected)) <= 1
    length = min(len(found), len(expected))
    np.testing.assert_allclose(found[:length], expected[:length], atol=1e-5)


@pytest.mark.parametrize("container", ["ogg", "mp3", "flac", "aiff"])
def test_a_file_written_by_libsndfile_comes_back(tmp_path, container):
    path = tmp_path / f"song.{container}"
    time = np.arange(3 * 44_100) / 44_100
    tone = (0.4 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    with soundfile.SoundFile(path, "w", 44_100, 1) as sound:
        for first in range(0, len(tone), 4_096):  # the Vorbis encoder crashes on one long write
            sound.write(tone[first : first + 4_096])
    found = read_audio(path, 44_100)
    assert windows_of(path)[1].quality == []
    assert len(found) == len(tone)
    assert np.corrcoef(found, tone)[0, 1] > 0.999


def test_the_files_load_where_the_package_is_absent(tmp_path, wav):
    package = tmp_path / "travelled"
    package.mkdir()
    (package / "__init__.py").touch()
    for source in MODELS.glob("audio_*.py"):
        (package / source.name).write_text(source.read_text())
    code = f"""
import sys
from travelled.audio_input import read_audio
assert not {{"torch", "soundfile", "soxr", "hf_mathrock"}} & set(sys.modules), "imported before it was needed"
assert len(read_audio({str(wav)!r}, 16_000)) == 40_000
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env={**os.environ, "PYTHONPATH": ""})


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_an_excerpt_is_the_window_of_that_place(suffix, tmp_path):
    audio = np.random.default_rng(0).uniform(-0.3, 0.3, (6 * 44_100, 2)).astype(np.float32)
    soundfile.write(tmp_path / f"noise.{suffix}", audio, 44_100)
    with open_audio(tmp_path / f"noise.{suffix}") as source:
        windows = list(source.windows(2.0, 1.0))
        for index in (3, 0, 2):
            excerpt = source.excerpt(float(index), 2.0)
            assert (excerpt.start, excerpt.end, excerpt.quality) == (index, index + 2.0, windows[index].quality)
            for rate in (16_000, 48_000):
                inner = slice(rate // 50, -rate // 50)  # the ends of a resampled excerpt know nothing of what is beyond
                np.testing.assert_allclose(excerpt.audio[rate][inner], windows[index].audio[rate][inner], atol=2e-3)
        with pytest.raises(AudioReadError, match="no audio 9.0 s into it"):
            source.excerpt(9.0, 2.0)
        assert len(list(source.windows(2.0, 1.0))) == len(windows)  # reading from the beginning still works
