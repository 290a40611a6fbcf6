import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from hf_mathrock.data import mel_shards
from hf_mathrock.data.mel_cache import MelCache, write_mel_cache
from hf_mathrock.data.tracks import Track
from hf_mathrock.models.audio_input import open_audio
from noise_tracks import RATE, noise, noise_tracks, silence
from tiny_myna import tiny_myna_extractor

EXTRACTOR = tiny_myna_extractor()


def write(folder, tracks, **options):
    return write_mel_cache(folder, tracks, EXTRACTOR, **{"num_workers": 0, **options})


def test_a_cache_holds_what_the_extractor_computes(tmp_path):
    seconds = [4.0, 1.3, 7.0]
    cache = write(tmp_path, noise_tracks(3, seconds))
    assert [cache[i].id for i in range(3)] == cache.ids == ["noise 0", "noise 1", "noise 2"]
    for index, length in enumerate(seconds):
        decibels = EXTRACTOR.decibels(noise(index, length))
        assert cache[index].decibels.dtype == np.float16
        assert cache.num_frames[index] == len(decibels) == 1 + round(length * RATE) // 512
        np.testing.assert_allclose(cache[index].decibels, decibels, atol=0.032)  # half a step of float16 near -100
        assert cache[index].reference == pytest.approx(EXTRACTOR.reference_of(decibels), abs=1e-4)
    track = MelCache(tmp_path)[1]
    assert (track.work, track.artist, track.album) == ("work 1", "artist 0", "noises")
    assert track.facts == {"seed": 1, "tempo": 101.0}
    assert cache.frames_per_second == 31.25
    with pytest.raises(IndexError, match="no track 3; the cache has 3"):
        cache[3]


def test_other_processes_compute_the_same_to_the_bit(tmp_path):
    tracks, steps = noise_tracks(5, 2.0), []
    here = write(tmp_path / "here", tracks)
    there = write(tmp_path / "there", tracks, num_workers=2, progress=lambda *counts: steps.append(counts))
    assert here.ids == there.ids
    assert all(np.array_equal(here[i].decibels, there[i].decibels) for i in range(5))
    assert steps == [(done, 5) for done in range(6)]


def test_a_file_is_heard_as_the_pipeline_hears_it(tmp_path):
    samples = np.stack([noise(1), noise(2)], axis=1)
    soundfile.write(tmp_path / "stereo.wav", samples[: 44_100 * 1], 44_100)
    cache = write(tmp_path / "cache", [Track("a", tmp_path / "stereo.wav")])
    with open_audio(tmp_path / "stereo.wav") as source:
        np.testing.assert_allclose(cache[0].decibels, EXTRACTOR.decibels(source), atol=0.032)
    assert len(cache.contents[0]) == 32
    assert cache[0].artist is None and cache[0].facts == {}


def test_reading_maps_the_file_and_copies_nothing(tmp_path):
    cache = write(tmp_path, noise_tracks(2))
    decibels = cache[1].decibels
    assert not decibels.flags.writeable and not decibels.flags.owndata
    assert np.shares_memory(cache[1].decibels, decibels)
    with open("/proc/self/maps") as maps:
        assert str(tmp_path / "shard-00000.arrow") in maps.read()


def test_a_cache_goes_to_other_processes_without_its_spectrograms(tmp_path):
    cache = write(tmp_path, noise_tracks(2, 30.0))
    sent = pickle.dumps(cache)
    assert len(sent) < 5_000 < cache[0].decibels.nbytes
    assert np.array_equal(pickle.loads(sent)[1].decibels, cache[1].decibels)


def test_what_is_there_is_not_computed_again(tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    write(tmp_path / "cache", noise_tracks(2, marks=str(marks)))
    for mark in marks.iterdir():
        mark.unlink()
    cache = write(tmp_path / "cache", noise_tracks(4, marks=str(marks)))
    assert sorted(mark.name for mark in marks.iterdir()) == ["2", "3"]
    assert cache.ids == [f"noise {i}" for i in range(4)]


def test_a_track_whose_audio_changed_is_computed_again(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1), RATE)
    tracks = [Track("a", tmp_path / "a.wav"), Track("b", partial(noise, 5))]
    before = write(tmp_path / "cache", tracks)
    soundfile.write(tmp_path / "a.wav", noise(2, 6.0), RATE)
    after = write(tmp_path / "cache", [tracks[0], replace(tracks[1], audio=partial(noise, 6))])
    assert after.num_frames.tolist() == [188, 126] and before.num_frames.tolist() == [126, 126]
    np.testing.assert_allclose(after[1].decibels, EXTRACTOR.decibels(noise(6)), atol=0.032)
    assert len(MelCache(tmp_path / "cache")) == 2


def test_the_view_has_the_order_and_the_words_of_the_tracks_that_were_asked_for(tmp_path):
    tracks = noise_tracks(3)
    write(tmp_path, tracks)
    cache = write(tmp_path, [replace(tracks[2], artist="somebody", facts={"form": "AABA"}), tracks[0]])
    assert cache.ids == ["noise 2", "noise 0"]
    assert (cache[0].artist, cache[0].facts) == ("somebody", {"form": "AABA"})
    np.testing.assert_allclose(cache[0].decibels, EXTRACTOR.decibels(noise(2)), atol=0.032)


def test_views_of_views_hold_what_they_name(tmp_path):
    cache = write(tmp_path, noise_tracks(5))
    chosen = cache.select(np.array([True, False, True, True, False])).select([2, 0])
    assert [track.id for track in chosen] == ["noise 3", "noise 0"]
    assert np.array_equal(chosen[0].decibels, cache[3].decibels)
    assert chosen.num_frames.tolist() == [126, 126] and len(cache) == 5


def test_a_broken_file_is_listed_and_the_others_are_done(tmp_path):
    (tmp_path / "broken.mp3").write_bytes(b"no music" * 100)
    soundfile.write(tmp_path / "good.wav", noise(1), RATE)
    files = [Track(path.name, path) for path in (tmp_path / "broken.mp3", tmp_path / "good.wav", tmp_path / "gone.wav")]
    with pytest.warns(UserWarning, match="2 of 5 tracks cannot be read .*broken.mp3"):
        cache = write(tmp_path / "cache", [*files, *noise_tracks(2)], max_broken=0.5)
    assert cache.ids == ["good.wav", "noise 0", "noise 1"]
    assert [entry["id"] for entry in cache.broken] == ["broken.mp3", "gone.wav"]
    assert "no such file" in cache.broken[1]["error"]
    assert MelCache(tmp_path / "cache").broken == cache.broken


def test_too_many_broken_files_end_the_run_and_what_is_done_stays(tmp_path):
    tracks = [*noise_tracks(2), Track("gone", tmp_path / "gone.wav"), *noise_tracks(4)[2:]]
    with pytest.raises(ValueError, match=r"1 of 5 tracks cannot be read .*`max_broken` \(0.1\)"):
        write(tmp_path / "cache", tracks, max_broken=0.1)
    assert MelCache(tmp_path / "cache").ids == ["noise 0", "noise 1"]
    with pytest.raises(ValueError, match="nothing is left"):
        write(tmp_path / "other", tracks[2:3], max_broken=1.0)


def test_silence_is_marked_and_stays_below_the_loudest_value(tmp_path):
    cache = write(tmp_path, [Track("rest", silence), *noise_tracks(1)])
    assert cache.silent.tolist() == [True, False]
    values = EXTRACTOR.values_of(cache[0].decibels, cache[0].reference)
    assert (values == EXTRACTOR.floor).all()


@pytest.mark.parametrize("seconds", [1 / RATE, 0.02, 0.5])
def test_the_shortest_clips_have_a_frame(tmp_path, seconds):
    cache = write(tmp_path, noise_tracks(1, seconds))
    assert cache[0].decibels.shape == (1 + round(seconds * RATE) // 512, 128)
    assert np.isfinite(cache[0].decibels).all()


def test_other_settings_are_refused_by_name(tmp_path):
    cache = write(tmp_path, noise_tracks(1))
    other = tiny_myna_extractor(feature={"hop_length": 256, "num_mel_bins": 64})
    with pytest.raises(ValueError, match="hop_length 512 there and 256 here, num_mel_bins 128 there and 64 here"):
        write_mel_cache(tmp_path, noise_tracks(1), other, num_workers=0)
    with pytest.raises(ValueError, match="sampling_rate 16000 there and 44100 here"):
        cache.check_extractor(tiny_myna_extractor(sampling_rate=44_100))
    cache.check_extractor(tiny_myna_extractor(mean=-30.0))  # of no account to decibels


def test_a_first_attempt_that_was_killed_at_once_is_begun_anew(tmp_path):
    (tmp_path / "cache.tmp").write_text("{")
    assert len(write(tmp_path, noise_tracks(1))) == 1
    assert not list(tmp_path.glob("*.tmp"))


def test_folders_of_something_else_are_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("all I have")
    with pytest.raises(ValueError, match="holds files and is no mel cache"):
        write(tmp_path, noise_tracks(1))
    with pytest.raises(ValueError, match="is no mel cache"):
        MelCache(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "all I have"


def test_tracks_need_names_of_their_own(tmp_path):
    with pytest.raises(ValueError, match="Two tracks have the id 'noise 0'"):
        write(tmp_path, noise_tracks(1) * 2)
    with pytest.raises(ValueError, match="no tracks"):
        write(tmp_path, [])


def test_a_damaged_file_is_computed_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(mel_shards, "SHARD_BYTES", 1)
    write(tmp_path, noise_tracks(3))
    shard = tmp_path / "shard-00001.arrow"
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(ValueError, match="shard-00001.arrow is damaged"):
        MelCache(tmp_path)
    with pytest.warns(UserWarning, match="is damaged"):
        cache = write(tmp_path, noise_tracks(3))
    np.testing.assert_allclose(cache[1].decibels, EXTRACTOR.decibels(noise(1)), atol=0.032)


def test_anybody_with_arrow_can_read_it(tmp_path):
    write(tmp_path, noise_tracks(2))
    table = pa.ipc.open_file(tmp_path / "shard-00000.arrow").read_all()
    assert table.column("id").to_pylist() == ["noise 0", "noise 1"]
    assert np.array(table.column("decibels")[1].as_py()).shape == (126, 128)


KILLED = """
import sys
from noise_tracks import noise_tracks, slow_noise
from tiny_myna import tiny_myna_extractor
from hf_mathrock.data import mel_shards
from hf_mathrock.data.mel_cache import write_mel_cache

if __name__ == "__main__":
    mel_shards.SHARD_BYTES = 2 * 126 * 256
    tracks = noise_tracks(100, make=slow_noise, marks=sys.argv[2])
    write_mel_cache(sys.argv[1], tracks, tiny_myna_extractor(), num_workers=1)
"""


def test_a_killed_run_goes_on_where_it_was_and_leaves_no_process_behind(tmp_path):
    (tmp_path / "killed.py").write_text(KILLED)
    (tmp_path / "marks").mkdir()
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "killed.py"), str(tmp_path / "cache"), str(tmp_path / "marks")],
        env={**os.environ, "PYTHONPATH": paths},
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "cache" / "shard-00001.arrow").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    children = _children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert children
    while any(_is_alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(_is_alive(child) for child in children)
    (tmp_path / "cache" / "shard-00099.tmp").write_bytes(b"cut off")  # as a kill in the middle of writing leaves it

    kept = MelCache(tmp_path / "cache").ids
    assert 4 <= len(kept) < 20 and len(kept) % 2 == 0
    (tmp_path / "marks").rename(tmp_path / "before")
    (tmp_path / "marks").mkdir()
    tracks = noise_tracks(20, marks=str(tmp_path / "marks"))
    # What is stamped are the arguments, so these must be the same.
    cache = write(tmp_path / "cache", [replace(t, audio=_slow(t.audio)) for t in tracks])
    assert {f"noise {mark.name}" for mark in (tmp_path / "marks").iterdir()} == set(cache.ids) - set(kept)
    assert not list((tmp_path / "cache").glob("*.tmp"))
    np.testing.assert_allclose(cache[0].decibels, EXTRACTOR.decibels(noise(0)), atol=0.032)


def _slow(audio):
    from noise_tracks import slow_noise

    return partial(slow_noise, *audio.args, **audio.keywords)


def _children(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]


def _is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
