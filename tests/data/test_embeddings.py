# SPDX-License-Identifier: Apache-2.0
"""Embeddings are computed once, are the model's own, and are kept under a name that says what they depend on."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pyarrow as pa
import pytest
import soundfile as sf
import torch
from torch.utils.data import DataLoader

from hf_mathrock import MathRockFeatureExtractor
from hf_mathrock.data import embeddings
from hf_mathrock.data.collator import MathRockCollator
from hf_mathrock.data.embedded_windows import EmbeddedWindows
from hf_mathrock.data.embeddings import EmbeddingCache
from hf_mathrock.data.grid import GridWindows
from hf_mathrock.models.objectives import UNKNOWN

EXTRACTOR = MathRockFeatureExtractor()
RATE = 16_000


def song(seconds, seed=0, silent=()):
    """A tone in noise; `silent` are spans in seconds."""
    time = np.arange(round(seconds * RATE)) / RATE
    audio = np.sin(2 * np.pi * (150 + 97 * seed) * time) / 4
    audio += 0.01 * np.random.default_rng(seed).standard_normal(len(time))
    for start, end in silent:
        audio[round(start * RATE) : round(end * RATE)] = 0
    return audio.astype(np.float32)


def row(seconds, seed=0, silent=(), **labels):
    return {"audio": {"array": song(seconds, seed, silent), "sampling_rate": RATE}, **labels}


def cache_for(model, folder, **options):
    return EmbeddingCache(model, EXTRACTOR, folder, **options)


def no_decoder(*_args, **_kwargs):
    raise AssertionError("audio was decoded")


def test_the_heads_say_of_cached_embeddings_what_the_model_says_of_the_audio(tiny_model, tmp_path):
    rows = [row(12, 1, tempo="slow"), row(23, 2, tempo="fast"), row(4, 3, vibe=1)]
    windows = EmbeddedWindows(rows, cache_for(tiny_model, tmp_path, batch_size=3), train=False)
    grid = GridWindows(rows, EXTRACTOR, tiny_model.config.tasks)
    assert windows.song_ids.tolist() == grid.song_ids.tolist() == [0, 0, 1, 1, 1, 1, 2]
    collate = MathRockCollator(EXTRACTOR, tiny_model.config.tasks)
    cached, heard = collate([windows[i] for i in range(len(windows))]), collate([grid[i] for i in range(len(grid))])
    assert {"wavlm_embeddings", "clap_audio_embeddings", "labels"} == set(cached)
    with torch.no_grad():
        ours, theirs = tiny_model(**cached), tiny_model(**heard)
    for name, logits in theirs.task_logits.items():
        torch.testing.assert_close(ours.task_logits[name], logits, atol=1e-6, rtol=0)
        assert torch.equal(cached["labels"][name], heard["labels"][name])
    torch.testing.assert_close(ours.loss, theirs.loss, atol=1e-6, rtol=0)


def test_a_second_run_decodes_nothing_and_asks_no_backbone(tiny_model, tmp_path, monkeypatch):
    path = tmp_path / "song.wav"
    sf.write(path, song(12), RATE)
    rows = [{"audio": {"path": str(path), "bytes": None}, "tempo": "slow"}]
    first = EmbeddedWindows(rows, cache_for(tiny_model, tmp_path), train=False)
    monkeypatch.setattr(embeddings, "open_audio", no_decoder)
    cache = cache_for(copy.deepcopy(tiny_model), tmp_path)
    second = EmbeddedWindows(rows, cache, train=False)
    assert cache.num_computed == 0
    for index in range(len(first)):
        np.testing.assert_array_equal(second[index]["wavlm_embeddings"], first[index]["wavlm_embeddings"])
    # The name of a file counts for nothing, what is in it for everything.
    path = path.rename(tmp_path / "renamed.wav")
    EmbeddedWindows([{"audio": str(path)}], cache, train=False)
    sf.write(path, song(12, seed=1), RATE)
    with pytest.raises(AssertionError, match="was decoded"):
        EmbeddedWindows([{"audio": str(path)}], cache, train=False)


@pytest.mark.parametrize("backbone", ["wavlm", "clap_audio"])
def test_another_backbone_has_another_folder(tiny_model, tmp_path, backbone):
    other = copy.deepcopy(tiny_model)
    with torch.no_grad():
        list(getattr(other.mathrock, backbone).parameters())[-1].view(-1)[0].add_(1e-6)
    assert cache_for(other, tmp_path).store.folder != cache_for(tiny_model, tmp_path).store.folder


def test_running_statistics_are_weights_too(tiny_model, tmp_path):
    other = copy.deepcopy(tiny_model)
    other.mathrock.clap_audio.audio_encoder.batch_norm.running_mean.add_(0.1)
    assert cache_for(other, tmp_path).store.folder != cache_for(tiny_model, tmp_path).store.folder
    counted = copy.deepcopy(tiny_model)
    counted.mathrock.clap_audio.audio_encoder.batch_norm.num_batches_tracked.add_(1)
    assert cache_for(counted, tmp_path).store.folder == cache_for(tiny_model, tmp_path).store.folder


def test_other_heads_share_the_folder(tiny_model, tmp_path):
    other = copy.deepcopy(tiny_model)
    with torch.no_grad():
        for module in (other.heads, other.mathrock.fusion, other.mathrock.wavlm_projection):
            next(module.parameters()).add_(1.0)
    assert cache_for(other, tmp_path).store.folder == cache_for(tiny_model, tmp_path).store.folder
    assert cache_for(tiny_model.mathrock, tmp_path).store.folder == cache_for(tiny_model, tmp_path).store.folder


def test_every_setting_has_its_own_folder(tiny_model, tmp_path, monkeypatch):
    folders = [
        cache_for(tiny_model, tmp_path).store.folder,
        cache_for(tiny_model, tmp_path, hop_seconds=2.5).store.folder,
        cache_for(tiny_model, tmp_path, window_seconds=8.0).store.folder,
        EmbeddingCache(tiny_model, MathRockFeatureExtractor(do_normalize=True), tmp_path).store.folder,
        EmbeddingCache(tiny_model, MathRockFeatureExtractor(max_frequency_hz=12_000.0), tmp_path).store.folder,
        cache_for(copy.deepcopy(tiny_model).bfloat16(), tmp_path).store.folder,
    ]
    other_activation = copy.deepcopy(tiny_model)
    other_activation.mathrock.wavlm.config.hidden_act = "relu"
    folders.append(cache_for(other_activation, tmp_path).store.folder)
    monkeypatch.setattr(embeddings, "CACHE_VERSION", -1)
    folders.append(cache_for(tiny_model, tmp_path).store.folder)
    assert len(set(folders)) == len(folders)
    # A hop that is stated twice is the same hop.
    monkeypatch.undo()
    stated = EmbeddingCache(tiny_model, MathRockFeatureExtractor(hop_seconds=2.5), tmp_path, hop_seconds=5.0)
    assert stated.store.folder == folders[0]


def _cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path):
    """One bit of the values, which Arrow itself does not check."""
    data = bytearray(path.read_bytes())
    place = data.find(np.float32(np.load(path.with_suffix(".npy"))[0]).tobytes())
    assert place > 0
    data[place] ^= 1
    path.write_bytes(data)


def _foreign(path):
    table = pa.table({"text": ["not", "ours"]})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _of_another_song(path):
    other = next(file for file in path.parent.glob("*.arrow") if file != path)
    path.write_bytes(other.read_bytes())


def _emptied(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_cut, _flip, _foreign, _of_another_song, _emptied], ids=lambda f: f.__name__)
def test_a_damaged_or_foreign_file_is_computed_anew(tiny_model, tmp_path, damage):
    rows = [row(8, 1), row(8, 2)]
    cache = cache_for(tiny_model, tmp_path)
    (content, _) = cache.fill(r["audio"] for r in rows)
    path, whole = cache.store.path(content), cache.store.load(content)
    np.save(path.with_suffix(".npy"), whole.wavlm[0])
    damage(path)
    again = cache_for(tiny_model, tmp_path)
    assert again.fill([rows[0]["audio"]]) == [content]
    assert again.num_computed == 1
    np.testing.assert_allclose(again.store.load(content).wavlm, whole.wavlm, atol=1e-6)
    assert cache_for(tiny_model, tmp_path).store.load(content) is not None


def test_an_interrupted_write_leaves_nothing(tiny_model, tmp_path, monkeypatch):
    cache = cache_for(tiny_model, tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embeddings.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        cache.fill([row(4)["audio"]])
    assert list(cache.store.folder.iterdir()) == []


def test_silence_is_marked_and_neither_drawn_nor_counted(tiny_model, tmp_path):
    rows = [row(25, 1, silent=[(0, 16)], tempo="slow"), row(12, silent=[(0, 12)], tempo="fast")]
    cache = cache_for(tiny_model, tmp_path)
    windows = EmbeddedWindows(rows, cache, train=False)
    silent = [True, True, False, False, True, True]
    assert [bool(window["labels"]["tempo"] == UNKNOWN) for window in windows] == silent
    assert [int(labels["tempo"]) for labels in windows.encoded_labels][2:4] == [0, 0]
    grid = GridWindows(rows, EXTRACTOR, tiny_model.config.tasks)
    assert [bool(window["labels"]["tempo"] == UNKNOWN) for window in grid] == silent
    drawn = EmbeddedWindows(rows, cache, train=True)
    assert len(drawn) == 1  # the second is silent throughout
    of_song = [window["wavlm_embeddings"] for window in windows]
    values = [drawn[0]["wavlm_embeddings"] for _ in range(20)]
    assert {i for value in values for i in range(4) if np.array_equal(value, of_song[i])} == {2, 3}
    with pytest.raises(ValueError, match="there is no data"):
        EmbeddedWindows(rows[1:], cache, train=True)


def test_every_window_has_its_turn_by_torchs_generator(tiny_model, tmp_path):
    drawn = EmbeddedWindows([row(40, 1)], cache_for(tiny_model, tmp_path, hop_seconds=10.0), train=True)

    def draw(num=60):
        torch.manual_seed(0)
        return [float(drawn[0]["wavlm_embeddings"][0]) for _ in range(num)]

    values = draw()
    assert values == draw()
    _, counts = np.unique(values, return_counts=True)
    assert len(counts) == 4 and counts.min() >= 8


def test_workers_read_what_the_process_itself_reads(tiny_model, tmp_path):
    windows = EmbeddedWindows([row(12, seed) for seed in range(3)], cache_for(tiny_model, tmp_path), train=False)
    loader = DataLoader(windows, batch_size=2, num_workers=2, collate_fn=list)
    for index, other in enumerate(other for batch in loader for other in batch):
        np.testing.assert_array_equal(other["wavlm_embeddings"], windows[index]["wavlm_embeddings"])
    assert len(pickle.dumps(windows._store)) < 1000  # workers are not sent what is in memory


def test_broken_recordings_are_left_out_and_listed_up_to_a_limit(tiny_model, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF not at all")
    rows = [row(4, 1), {"audio": str(broken)}, row(4, 2), {"audio": str(tmp_path / "missing.wav")}]
    cache = cache_for(tiny_model, tmp_path)
    with pytest.warns(UserWarning, match=r"2 of 4 recordings are left out: .*broken\.wav.*; .*missing\.wav"):
        windows = EmbeddedWindows(rows, cache, train=True, max_broken=0.5)
    assert windows.song_ids.tolist() == [0, 2]
    assert list(windows.broken) == [1, 3]
    assert "does not exist" in windows.broken[3] or "missing" in windows.broken[3]
    np.testing.assert_array_equal(
        windows[1]["wavlm_embeddings"], cache.store.load(cache.fill([rows[2]["audio"]])[0]).wavlm[0]
    )
    with pytest.raises(ValueError, match=r"2 of 4 recordings cannot be read, more than `max_broken` \(5%\)"):
        EmbeddedWindows(rows, cache, train=True)


def test_a_recording_that_breaks_off_takes_no_other_along(tiny_model, tmp_path):
    """It is found out after some of its windows went through, in a batch with its neighbours."""
    torn = song(18, 2)
    torn[-4 * RATE :: 3] = np.nan
    audio = [{"array": values, "sampling_rate": RATE} for values in (song(9, 1), torn, song(9, 3), torn)]
    cache = cache_for(tiny_model, tmp_path, batch_size=3)
    found = cache.fill(audio)
    assert [isinstance(content, str) for content in found] == [True, False, True, False]
    alone = cache_for(tiny_model, tmp_path / "alone", batch_size=1)
    for index in (0, 2):
        (content,) = alone.fill([audio[index]])
        np.testing.assert_allclose(
            cache.store.load(content).wavlm, alone.store.load(content).wavlm, atol=1e-6, err_msg=str(index)
        )
    assert len(list(cache.store.folder.iterdir())) == 2


def test_short_recordings_share_a_batch_and_twins_are_computed_once(tiny_model, tmp_path, monkeypatch):
    cache = cache_for(tiny_model, tmp_path, batch_size=4)
    sizes, done = [], []
    embed = cache.embed
    monkeypatch.setattr(cache, "embed", lambda windows: sizes.append(len(windows)) or embed(windows))
    found = cache.fill([row(3, seed % 5)["audio"] for seed in range(7)], done.append)
    assert sizes == [4, 1]
    assert found[:2] == found[5:] and len(set(found)) == 5
    assert cache.num_computed == 5
    assert done == [1, 2, 3, 4, 5, 6, 7]


def test_no_more_audio_than_a_batch_is_kept(tiny_model, tmp_path, monkeypatch):
    cache = cache_for(tiny_model, tmp_path, batch_size=2)
    seen, most_alive = [], []

    def embed(windows):
        gc.collect()
        seen.extend(weakref.ref(values) for window in windows for values in window.audio.values())
        most_alive.append(sum(ref() is not None for ref in seen))
        return np.zeros((len(windows), 16), np.float32), np.zeros((len(windows), 16), np.float32)

    monkeypatch.setattr(cache, "embed", embed)
    cache.fill([row(62, 1)["audio"], row(31, 2)["audio"]])
    assert len(most_alive) > 6 and max(most_alive) <= 2 * 2


def test_the_model_is_left_as_it_was(tiny_model, tmp_path):
    model = copy.deepcopy(tiny_model).train()
    before = copy.deepcopy(model.state_dict())
    values = [cache_for(model, tmp_path / str(i)).fill([row(4)["audio"]]) for i in range(2)]
    assert model.training and model.mathrock.wavlm.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    one, other = (cache_for(model, tmp_path / str(i)).store.load(values[i][0]) for i in range(2))
    np.testing.assert_array_equal(one.wavlm, other.wavlm)  # no dropout


def test_a_low_precision_model_is_heard_in_its_precision(tiny_model, tmp_path):
    model = copy.deepcopy(tiny_model).bfloat16()
    (content,) = (cache := cache_for(model, tmp_path)).fill([row(4)["audio"]])
    wavlm = cache.store.load(content).wavlm
    assert wavlm.dtype == np.float32
    np.testing.assert_array_equal(torch.from_numpy(wavlm).bfloat16().float().numpy(), wavlm)


def test_non_finite_outputs_stop_the_run(tiny_model, tmp_path):
    model = copy.deepcopy(tiny_model)
    with torch.no_grad():
        model.mathrock.wavlm.encoder.layer_norm.bias.fill_(float("nan"))
    with pytest.raises(RuntimeError, match="non-finite"):
        cache_for(model, tmp_path).fill([row(4)["audio"]])
    with pytest.raises(ValueError, match="at least 1"):
        cache_for(model, tmp_path, batch_size=0)


def test_a_data_set_that_would_decode_is_asked_for_bytes(tiny_model, tmp_path):
    from datasets import Audio, Dataset

    path = tmp_path / "song.wav"
    sf.write(path, song(4), RATE)
    data = Dataset.from_dict({"audio": [str(path)], "tempo": ["slow"]}).cast_column("audio", Audio())
    windows = EmbeddedWindows(data, cache_for(tiny_model, tmp_path), train=True)
    assert windows[0]["song"].endswith("song.wav") and int(windows[0]["labels"]["tempo"]) == 0
