# SPDX-License-Identifier: Apache-2.0
"""Training that is killed, or runs out of disk, at any moment (`kill_worker.py` does it, in processes of its own)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NUM_KILLS = int(os.environ.get("MATHROCK_NUM_KILLS", 50))  # `make test-release` asks for 200


def work(*arguments):
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "kill_worker.py"), *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-2000:]
    return json.loads(done.stdout)


@pytest.mark.slow
def test_killed_at_random_moments_training_ends_with_the_weights_of_an_undisturbed_run(tmp_path):
    report = work("random", NUM_KILLS, 3, tmp_path)
    assert report["failed"] == 0, report["log"]
    assert report["different"] == 0, report
    assert report["kills"] == NUM_KILLS
    # Or the test would say nothing about saves.
    assert report["in_a_save"] >= NUM_KILLS // 5, report


@pytest.mark.slow
def test_killed_at_any_file_operation_of_a_save_training_resumes_to_the_same_end(tmp_path):
    faults = work("sweep", "kill", tmp_path)["faults"]
    assert len(faults) > 60, "the save has fewer file operations than files"
    for number, fault in enumerate(faults, start=1):
        assert fault["passed_over"] == [], (number, fault)  # a half-written folder never looks like a checkpoint
        assert fault["newest"] in ("checkpoint-4", "checkpoint-5"), (number, fault)
        assert fault["resumed_to"] == "the same", (number, fault)
    assert faults[-1]["code"] == 0
    assert {fault["code"] for fault in faults[:-1]} == {137}
    assert any("tmp-checkpoint-5" in fault["left"] for fault in faults)
    assert any(name.startswith("tmp-removed-") for fault in faults for name in fault["left"])
    assert any(fault["newest"] == "checkpoint-4" for fault in faults)  # between the renames of a replacement


@pytest.mark.slow
def test_a_disk_that_fills_up_at_any_file_operation_of_a_save_costs_nothing_that_was_saved(tmp_path):
    report = work("sweep", "full", tmp_path)
    faults = report["faults"]
    assert len(faults) > 30
    assert {fault["code"] for fault in faults[:-1]} == {3}  # each time `DiskFullError`
    for number, fault in enumerate(faults, start=1):
        assert not any(name.startswith("tmp-") for name in fault["left"]), (number, fault)
        assert "checkpoint-4" in fault["left"] and fault["passed_over"] == [], (number, fault)
        assert fault["resumed_to"] == "the same", (number, fault)
