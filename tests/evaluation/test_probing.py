# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from fake_corpora import jamendo, magna
from fake_probe_corpora import TRAIN_ARTISTS, emomusic, giantsteps, gtzan
from hf_mathrock.evaluation.probe_grid import GRIDS, ProbeGrid, ProbeSettings
from hf_mathrock.evaluation.probe_tasks import BENCHMARKS, probe_task
from hf_mathrock.evaluation.probing import measure_task, nearest_entries, ways_for
from tiny_myna import tiny_myna, tiny_myna_extractor
from tiny_taggers import tiny_extractor, tiny_tagger

QUICK = ProbeGrid(
    tuple(ProbeSettings(True, hidden, 16, 1e-2, 0.25, 1e-3) for hidden in (0, 16)), patience=8, evaluate_every=4
)


@pytest.fixture(scope="module")
def encoder():
    return tiny_myna(), tiny_myna_extractor()


@pytest.fixture(scope="module")
def genres(tmp_path_factory):
    return probe_task("gtzan", gtzan(tmp_path_factory.mktemp("gtzan"), seconds=1.1))


def test_a_task_says_what_is_asked_of_which_tracks(genres):
    assert genres.label_names[0] == "blues" and len(genres.label_names) == 10
    assert [genres.label_names[label] for label in genres.labels[:3]] == ["blues"] * 3
    assert genres.split.tolist().count("test") == 6
    assert not genres.complete and "published are 443 / 197 / 290" in genres.notes[0]


def test_every_benchmark_is_read_from_its_folder(tmp_path):
    keys = probe_task("giantsteps", giantsteps(tmp_path / "keys", TRAIN_ARTISTS, "Nobody in validation", seconds=0.1))
    assert keys.label_names[keys.labels[-1]] == "F# minor" and keys.benchmark.clip_seconds == 30
    feelings = probe_task("emomusic", emomusic(tmp_path / "feelings", seconds=0.1))
    assert feelings.labels.shape == (12, 2) and feelings.labels[0].tolist() == [1.5, 8.75]
    assert feelings.tracks[0].artist == "Artist No. 2"
    full = probe_task("jamendo", jamendo(tmp_path / "full", subset="top50tags"))
    assert full.labels.shape == (4, 4) and full.benchmark.nearest and full.tracks[0].album == "album_000149"
    tags = probe_task("magnatagatune", magna(tmp_path / "tags"))
    # Five readable clips, of which one without tags stays as an example of none.
    assert tags.labels.shape == (5, 50) and 0 in tags.labels.sum(axis=1)
    assert [tags.label_names[tag] for tag in np.flatnonzero(tags.labels[0])] == ["violin", "female voice"]


@pytest.mark.parametrize(("name", "message"), [("gtzen", "did you mean 'gtzan'"), ("gtzan", "is no folder")])
def test_a_benchmark_or_folder_that_is_not_there_is_refused(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        probe_task(name, tmp_path / "nothing")


def test_published_figures_are_of_metrics_that_are_reported():
    for benchmark in BENCHMARKS.values():
        for figure in benchmark.published:
            assert figure.metric in benchmark.metrics and 0 < figure.value < 1
    assert BENCHMARKS["giantsteps"].songs == {"train": 923, "validation": 236, "test": 604}
    assert BENCHMARKS["magnatagatune"].songs == {"train": 18_706, "validation": 1_825, "test": 5_329}
    assert BENCHMARKS["emomusic"].songs == {"train": 504, "validation": 115, "test": 125}


def test_each_way_has_its_figures_beside_the_others(encoder, genres, tmp_path):
    heard = []
    figures = measure_task(
        genres,
        *encoder,
        tmp_path / "cache",
        chunk_seconds=0.512,
        grid=QUICK,
        seeds=(0, 1),
        num_workers=0,
        progress=lambda what, done, total: heard.append((what, done, total)),
    )
    assert [entry["how"] for entry in figures.probes] == ["whole track", "chunk mean, 0.512 s", "mel statistics"]
    for entry in figures.probes:
        assert (entry["task"], entry["data"], entry["metric"]) == ("genre", "GTZAN, fault-filtered", "accuracy")
        assert (entry["num_seeds"], entry["num_test"], entry["grid"]) == (2, 6, "own")
        assert entry["chance"] == pytest.approx(1 / 3)
        tested = [run["test"] for run in entry["chosen"]]
        assert entry["mean"] == pytest.approx(np.mean(tested)) and entry["sd"] == pytest.approx(np.std(tested, ddof=1))
        assert {run["hidden_size"] for run in entry["chosen"]} <= {0, 16}
    # The genres are three pitches: bands tell them.
    assert figures.probes[2]["mean"] > 0.6
    assert figures.published == () and "no figure compares" in figures.notes[0] and len(figures.notes) == 1
    assert ("spectrograms", 30, 30) in heard and ("probes: whole track", 4, 4) in heard


def test_albums_and_artists_are_found_by_what_lies_nearest(genres):
    # Two albums of one artist and one of another; tracks of an album lie close, albums of an artist less so.
    places = {"a": [1.0, 0.0, 0.0], "b": [0.8, 0.6, 0.0], "c": [0.0, 0.0, 1.0], "d": [0.0, 0.3, 1.0]}
    artists = {"a": "x", "b": "x", "c": "y", "d": "y"}
    rng = np.random.default_rng(0)
    albums = np.repeat(list("abcd"), 6)
    rows = np.array([places[album] for album in albums]) + 0.05 * rng.normal(size=(24, 3))
    tracks = [
        replace(genres.tracks[0], id=str(number), album=of, artist=artists[of]) for number, of in enumerate(albums)
    ]
    split = np.array(["train", "test"] * 12)
    task = replace(genres, tracks=tracks, split=split)
    found = {(entry["task"], entry["metric"]): entry for entry in nearest_entries(task, "way", rows, np.arange(24))}
    assert set(found) == {(f"same {what}", metric) for what in ("album", "artist") for metric in ("mAP", "nearest")}
    assert found["same album", "mAP"]["mean"] == 1.0 > 0.5 > found["same album", "mAP"]["chance"]
    assert found["same artist", "nearest"]["mean"] > 0.9 and found["same artist", "nearest"]["num_test"] == 12
    # Of the nine tracks of other albums three are of the artist.
    assert found["same artist", "nearest"]["chance"] == pytest.approx(3 / 9)
    nameless = [replace(track, album=None, artist=None) for track in tracks]
    assert nearest_entries(replace(task, tracks=nameless), "way", rows, np.arange(24)) == []


def test_spectrograms_are_computed_once(encoder, genres, tmp_path, monkeypatch):
    options = {"ways": ["statistics"], "grid": QUICK, "seeds": (0,), "num_workers": 0}
    first = measure_task(genres, *encoder, tmp_path / "cache", **options)
    monkeypatch.setattr("hf_mathrock.data.mel_computing.open_audio", None)
    assert measure_task(genres, *encoder, tmp_path / "cache", **options) == first
    assert first.probes[0]["sd"] is None


def test_clips_of_a_song_are_answered_for_one_by_one(encoder, genres, tmp_path):
    in_clips = replace(genres, benchmark=replace(genres.benchmark, clip_seconds=0.512))
    (entry,) = measure_task(
        in_clips, *encoder, tmp_path / "cache", ways=["clips"], grid=QUICK, seeds=(0,), num_workers=0
    ).probes
    assert entry["how"] == "clips of 0.512 s" and entry["num_test"] == 6
    assert entry["chosen"][0]["strategy"] in ("vote", "max", "mean_logit", "mean_prob")


def test_published_figures_stand_beside_the_whole_benchmark_by_the_same_protocol_only(
    encoder, genres, tmp_path, monkeypatch
):
    counts = {split: genres.split.tolist().count(split) for split in ("train", "validation", "test")}
    whole = replace(genres, benchmark=replace(genres.benchmark, songs=counts), complete=True, notes=[])
    for name in ("jukemir", "fast"):
        monkeypatch.setitem(GRIDS, name, QUICK)
    options = {"ways": ["statistics"], "seeds": (0,), "num_workers": 0}
    same = measure_task(whole, *encoder, tmp_path / "cache", grid="jukemir", **options)
    assert [figure.system for figure in same.published] == ["CLMR", "Jukebox, 5B", "Myna Hybrid, 22M"]
    assert same.notes == []
    assert measure_task(whole, *encoder, tmp_path / "cache", grid="fast", **options).published == ()
    in_clips = replace(whole, benchmark=replace(whole.benchmark, clip_seconds=0.512))
    assert measure_task(in_clips, *encoder, tmp_path / "cache", grid="jukemir", **options).published == ()
    by_clips = measure_task(in_clips, *encoder, tmp_path / "cache", grid="jukemir", **options | {"ways": ["clips"]})
    assert by_clips.published == same.published
    broken = replace(whole, tracks=[replace(whole.tracks[0], id="other", audio=tmp_path / "no.wav"), *whole.tracks[1:]])
    with pytest.warns(UserWarning, match="1 of 30 tracks cannot be read"):
        without = measure_task(broken, *encoder, tmp_path / "cache", grid="jukemir", **options)
    assert without.published == () and "there are 17 / 6 / 6 songs" in without.notes[0]


def test_a_model_of_windows_is_measured_by_them(genres, tmp_path):
    model = tiny_tagger("musicnn")
    arguments = (model.base_model, tiny_extractor(model), tmp_path)
    (entry,) = measure_task(genres, *arguments, grid=QUICK, seeds=(0,)).probes
    assert entry["how"] == "chunk mean, 1.024 s" and entry["num_test"] == 6
    broken = replace(genres, tracks=[replace(genres.tracks[0], audio=tmp_path / "no.wav"), *genres.tracks[1:]])
    with pytest.warns(UserWarning, match=r"1 of 30 tracks cannot be read.*no\.wav"):
        measure_task(broken, *arguments, grid=QUICK, seeds=(0,))
    with pytest.raises(ValueError, match="more than `max_broken`"):
        measure_task(broken, *arguments, grid=QUICK, seeds=(0,), max_broken=0.01)


@pytest.mark.parametrize(
    ("ways", "message"),
    [
        (["clips"], "'clips' is not possible: the clips of this benchmark are its recordings"),
        (["all"], "'all' is no way"),
        ([], "name at least one"),
        (["whole", "whole"], "each once"),
    ],
)
def test_a_way_that_is_none_here_is_refused(encoder, genres, ways, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ways_for(genres, encoder[1], ways)


def test_a_model_of_windows_hears_no_whole_tracks(genres):
    with pytest.raises(ValueError, match=r"'whole' is not possible: this model hears windows"):
        ways_for(genres, tiny_extractor(tiny_tagger("musicnn")), ["whole"])
