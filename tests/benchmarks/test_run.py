# SPDX-License-Identifier: Apache-2.0
"""The benchmark runs, and what it compares is comparable."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hf_mathrock import MathRockConfig, MathRockFeatureExtractor, MathRockForAudioClassification

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def benchmark_modules(monkeypatch):
    """As `python benchmarks/run.py` finds them."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_the_parts_of_a_run_sum_to_the_whole_and_the_innermost_counts():
    from timing import REST, Stage, run_in_stages

    def read():
        time.sleep(0.02)
        work.think()
        yield 1

    def run():
        for _ in work.read():
            time.sleep(0.01)

    work = SimpleNamespace(read=read, think=lambda: time.sleep(0.04))
    start = time.perf_counter()
    seconds = run_in_stages(run, [Stage("read", work, "read"), Stage("think", work, "think")])
    whole = time.perf_counter() - start
    assert list(seconds) == ["read", "think", REST]
    assert seconds["read"] >= 0.02 and seconds["think"] >= 0.04 and seconds[REST] >= 0.01
    assert sum(seconds.values()) <= whole
    assert work.read is read


def test_competitors_take_turns_after_a_warm_up():
    from timing import summarise_runs, take_turns

    order = []

    def competitor(name):
        def run():
            order.append(name)
            return {"work": float(len(order)), "the rest": 1.0}

        return run

    runs = take_turns({"a": competitor("a"), "b": competitor("b")}, num_rounds=3)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert [run["work"] for run in runs["a"]] == [3, 6, 7]
    assert summarise_runs(runs["a"]) == {
        "median": 7,
        "min": 4,
        "max": 8,
        "stages": {"work": 6, "the rest": 1},
    }


def test_the_reference_wiring_and_ours_give_the_same_logits(tiny_settings, tmp_path):
    from full_size import ReferenceWiring, largest_difference, our_logits
    from material import write_song

    torch.manual_seed(0)
    model = MathRockForAudioClassification(MathRockConfig(**tiny_settings)).eval()
    path = write_song(tmp_path / "song.mp3", 17.0)
    times, logits = our_logits(model, MathRockFeatureExtractor(), path)
    assert times == [(0.0, 10.0), (5.0, 15.0), (10.0, 17.0)]
    reference = ReferenceWiring(model)
    theirs = reference.logits(path, times)
    assert {name: tuple(values.shape) for name, values in theirs.items()} == {
        "emotion": (3, 28),
        "vibe": (3, 4),
        "intensity": (3, 3),
        "tempo": (3, 3),
    }
    assert largest_difference(logits, theirs) < 1e-5
    logits["tempo"][1, 2] += 0.5
    assert largest_difference(logits, theirs) == pytest.approx(0.5, abs=1e-3)


def test_a_song_has_exactly_the_wished_length(tmp_path, monkeypatch):
    import material
    import soundfile

    monkeypatch.setattr(material, "LONGEST_RENDERING_SECONDS", 4.0)
    for kind in ("flac", "mp3"):
        assert soundfile.info(material.write_song(tmp_path / f"song.{kind}", 9.5)).frames == 9.5 * 44_100


def test_the_full_size_part_makes_a_section(tiny_settings, tmp_path):
    import full_size

    section = full_size.render(full_size.measure(tmp_path, quick=True, config=MathRockConfig(**tiny_settings)))
    assert section.startswith("## Full-size backbones")
    for row in ("| reference wiring, float32 |", "| ours, float32 |", "| ours, bfloat16 |", "| WavLM |"):
        assert row in section


def test_a_quick_run_prints_a_table_and_writes_nothing(tmp_path, capsys):
    import run

    run.main(["--quick", "--only", "startup", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "| `hf-mathrock --help`, whole process |" in printed
    assert list(tmp_path.iterdir()) == []


def test_a_part_replaces_its_own_results_only(tmp_path, monkeypatch, capsys):
    import run

    def part(name):
        return run.Part(lambda folder, quick: {"value": f"new {name}"}, lambda result: f"## {result['value']}")

    monkeypatch.setattr(run, "part", part)
    kept = tmp_path / "benchmarks" / "results.json"
    kept.parent.mkdir()
    kept.write_text(json.dumps({"memory": {"value": "old memory", "environment": run.environment()}}))
    run.main(["--only", "tiny", "--out", str(tmp_path)])
    written = (tmp_path / "BENCHMARKS.md").read_text("utf-8")
    assert written.index("## new tiny") < written.index("## old memory")
    assert "cores" in written and "torch" in written
    assert set(json.loads(kept.read_text("utf-8"))) == {"tiny", "memory"}
    with pytest.raises(SystemExit):
        run.main(["--only", "everything"])
    assert "invalid choice" in capsys.readouterr().err


def test_a_part_whose_files_are_not_here_is_left_out_and_keeps_its_results(tmp_path, monkeypatch, capsys):
    import run

    def part(name):
        absent = (lambda: "the files are not here") if name == "musicnn" else (lambda: None)
        return run.Part(lambda folder, quick: {"value": f"new {name}"}, lambda result: f"## {result['value']}", absent)

    monkeypatch.setattr(run, "part", part)
    kept = tmp_path / "benchmarks" / "results.json"
    kept.parent.mkdir()
    kept.write_text(json.dumps({"musicnn": {"value": "old musicnn", "environment": run.environment()}}))
    run.main(["--out", str(tmp_path)])
    assert "## old musicnn" in (tmp_path / "BENCHMARKS.md").read_text("utf-8")
    assert "leaving out musicnn: the files are not here" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run.main(["--only", "musicnn", "--out", str(tmp_path)])
    assert "cannot be measured: the files are not here" in capsys.readouterr().err


def test_the_musicnn_part_makes_a_section(tmp_path):
    import musicnn

    if reason := musicnn.absent():
        pytest.skip(reason)
    section = musicnn.render(musicnn.measure(tmp_path, quick=True))
    assert section.startswith("## The published MTT_musicnn") and "| front end |" in section
