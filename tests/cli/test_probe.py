# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from fake_probe_corpora import gtzan
from hf_mathrock.cli import probe
from hf_mathrock.evaluation import probe_grid
from hf_mathrock.evaluation.probe_tasks import BENCHMARKS
from hf_mathrock.evaluation.probing import WAYS
from tiny_myna import tiny_myna, tiny_myna_extractor
from tiny_taggers import save_tiny_tagger


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny-encoder"
    tiny_myna().save_pretrained(folder)
    tiny_myna_extractor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    return gtzan(tmp_path_factory.mktemp("gtzan"), seconds=0.6)


@pytest.fixture
def short_grid(monkeypatch):
    point = probe_grid.ProbeSettings(True, 0, 16, 1e-2, 0.25, 0.0)
    monkeypatch.setitem(probe_grid.GRIDS, "fast", probe_grid.ProbeGrid((point,), patience=8, evaluate_every=4))


def test_the_command_knows_what_the_package_knows():
    assert list(probe.TASKS) == [*BENCHMARKS, probe.GENERATED]
    assert list(probe.WAYS) == list(WAYS)


def test_a_table_is_printed_and_results_are_written(command, encoder, songs, tmp_path, short_grid):
    arguments = ("probe", encoder, "--task", "gtzan", "--data", songs, "--grid", "fast", "--num-workers", "0")
    code, printed, err = command(*arguments, "--out", tmp_path, "--seeds", "2", "--chunk-seconds", "0.5")
    assert code == 0, err
    head, _, row, *_ = printed.splitlines()
    columns = ["task", "metric", "whole track", "chunk mean, 0.5 s", "mel statistics", "chance"]
    assert [cell.strip() for cell in head.strip("|").split("|")] == columns
    assert "genre" in row and " ± " in row
    assert "published are 443 / 197 / 290" in err and "wrote" in err and "by others" not in err
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["checkpoint"] == "tiny-encoder" and len(results["fingerprint"]) > 8
    assert [entry["how"] for entry in results["probes"]] == columns[2:-1]
    assert (tmp_path / "spectrograms" / "cache.json").is_file()

    code, printed, _ = command(*arguments, "--out", tmp_path, "--how", "whole,chunks", "--seeds", "1")
    assert code == 0 and "chunk mean, 3 s" in printed
    hows = [entry["how"] for entry in json.loads((tmp_path / "results.json").read_text())["probes"]]
    assert hows == [*columns[2:-1], "chunk mean, 3 s"]


def test_a_tagger_is_measured_by_its_windows(command, songs, tmp_path, short_grid):
    save_tiny_tagger("musicnn", tmp_path / "tagger")
    arguments = ("probe", tmp_path / "tagger", "--task", "gtzan", "--data", songs, "--out", tmp_path / "out")
    code, printed, err = command(*arguments, "--grid", "fast", "--seeds", "1")
    assert code == 0, err
    assert "chunk mean, 1.024 s" in printed and "whole track" not in printed
    code, _, err = command(*arguments, "--how", "whole")
    assert code == 2 and "--how: 'whole' is not possible: this model hears windows" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "gtzan"], "--data is missing: the folder of a local copy of gtzan"),
        (["--task", "gtzan", "--data", "x", "--works", "9"], "--works is for --task generated only"),
        (["--task", "generated", "--data", "x"], "--data has no meaning with --task generated"),
        (["--task", "gtzan", "--data", "x", "--how", "hole"], "'hole' is no way to describe a track"),
        (["--task", "gtzan", "--data", "x", "--seeds", "0"], "'0' is no whole number above 0"),
        (["--task", "gtzon", "--data", "x"], "invalid choice: 'gtzon'"),
    ],
)
def test_a_command_line_that_cannot_be_is_refused(command, encoder, tmp_path, arguments, message):
    code, _, err = command("probe", encoder, "--out", tmp_path / "out", *arguments)
    assert code == 2 and message in err
    assert not (tmp_path / "out").exists()


def test_a_folder_without_the_benchmark_is_an_error_of_one_line(command, encoder, tmp_path):
    code, _, err = command("probe", encoder, "--task", "emomusic", "--data", tmp_path, "--out", tmp_path / "out")
    assert code == 1 and "static_annotations.csv is not in" in err
    code, _, err = command("probe", encoder, "--task", "gtzan", "--data", tmp_path / "no", "--out", tmp_path / "out")
    assert code == 1 and "is no folder; give that of a local copy of GTZAN" in err


def test_generated_pieces_need_no_data(command, encoder, tmp_path, monkeypatch):
    from hf_mathrock.evaluation import generated_benchmark

    entry = {"task": "key", "data": "generated pieces", "metric": "accuracy", "how": "whole track", "mean": 0.5}
    entry |= {"sd": None, "num_seeds": 1, "num_test": 48, "chance": 0.1}
    asked = {}

    def cache(folder, extractor, benchmark, **options):
        asked.update(folder=folder, benchmark=benchmark, **options)
        return "the cache"

    def measure(model, extractor, cache, benchmark, progress):
        progress("probe", 1, 2)
        assert cache == "the cache" and benchmark is asked["benchmark"]
        return {"protocol": {}, "probes": [entry]}

    monkeypatch.setattr(generated_benchmark, "benchmark_cache", cache)
    monkeypatch.setattr(generated_benchmark, "run_generated_benchmark", measure)
    arguments = ("probe", encoder, "--task", "generated", "--out", tmp_path, "--cache", tmp_path / "kept")
    code, printed, err = command(*arguments, "--works", "120", "--seeds", "1", "--chunk-seconds", "5")
    assert code == 0, err
    benchmark = asked["benchmark"]
    assert (benchmark.num_works, benchmark.probe_seeds, benchmark.chunk_seconds) == (120, (0,), 5.0)
    assert benchmark.grid == "fast" and asked["folder"] == tmp_path / "kept"
    assert "0.500" in printed
    assert json.loads((tmp_path / "results.json").read_text())["probes"] == [entry]
