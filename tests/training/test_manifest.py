# SPDX-License-Identifier: Apache-2.0
"""Checkpoint folders that verify, and every way in which they may not."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from hf_mathrock.training.checkpoints import newest_verified, verify_checkpoint, write_manifest
from hf_mathrock.training.manifest import MANIFEST, rotate, tidy

FILES = {
    "config.json": b"{}",
    "model.safetensors": bytes(range(200)),
    "optimizer.pt": bytes(300),
    "scheduler.pt": b"scheduler",
    "rng_state.pth": b"random",
    "training_args.bin": b"arguments",
}


def made_up(run_dir, step, files=FILES):
    """A checkpoint of invented files."""
    folder = Path(run_dir) / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    for name, content in {**files, "trainer_state.json": json.dumps({"global_step": step}).encode()}.items():
        (folder / name).write_bytes(content)
    write_manifest(folder)
    return folder


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


def rewritten(folder, **changes):
    path = folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def without(folder, *names):
    """The checkpoint as it would be had these files never been there, manifest and all."""
    for name in names:
        (folder / name).unlink()
    write_manifest(folder)


DAMAGE = {
    "weights missing": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
    "optimizer missing": (lambda folder: (folder / "optimizer.pt").unlink(), "optimizer.pt is missing"),
    "scheduler missing": (lambda folder: (folder / "scheduler.pt").unlink(), "scheduler.pt is missing"),
    "random state missing": (lambda folder: (folder / "rng_state.pth").unlink(), "rng_state.pth is missing"),
    "state missing": (lambda folder: (folder / "trainer_state.json").unlink(), "trainer_state.json is missing"),
    "config missing": (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
    "weights cut short": (
        lambda folder: os.truncate(folder / "model.safetensors", 100),
        "model.safetensors has 100 bytes instead of 200",
    ),
    "optimizer empty": (lambda folder: os.truncate(folder / "optimizer.pt", 0), "optimizer.pt has 0 bytes"),
    "state longer": (
        lambda folder: (folder / "trainer_state.json").write_text('{"global_step": 1000000}'),
        "trainer_state.json has 24 bytes",
    ),
    "first bit of the weights": (lambda folder: flip(folder / "model.safetensors", 0), "model.safetensors is not what"),
    "last bit of the optimizer": (lambda folder: flip(folder / "optimizer.pt", -1), "optimizer.pt is not what was"),
    "a bit of the random state": (lambda folder: flip(folder / "rng_state.pth", 2), "rng_state.pth is not what was"),
    "a folder in place of a file": (
        lambda folder: ((folder / "optimizer.pt").unlink(), (folder / "optimizer.pt").mkdir()),
        "optimizer.pt is missing",
    ),
    "manifest missing": (lambda folder: (folder / MANIFEST).unlink(), f"there is no {MANIFEST}"),
    "manifest empty": (lambda folder: os.truncate(folder / MANIFEST, 0), f"{MANIFEST} is damaged"),
    "manifest cut short": (lambda folder: os.truncate(folder / MANIFEST, 300), f"{MANIFEST} is damaged"),
    "manifest of zeros": (lambda folder: (folder / MANIFEST).write_bytes(bytes(900)), f"{MANIFEST} is damaged"),
    "a file struck from the manifest": (
        lambda folder: rewritten(folder, files={"model.safetensors": {"size": 200, "sha256": "0"}}),
        f"{MANIFEST} is damaged",
    ),
    "manifest of another type": (lambda folder: (folder / MANIFEST).write_text("[1, 2]"), f"{MANIFEST} is damaged"),
    "manifest of the future": (lambda folder: rewritten(folder, format=99), f"{MANIFEST} is damaged"),
    "empty folder": (lambda folder: (shutil.rmtree(folder), folder.mkdir()), f"there is no {MANIFEST}"),
    "saved without optimizer": (lambda folder: without(folder, "optimizer.pt"), "no state of the optimizer"),
    "saved without scheduler": (lambda folder: without(folder, "scheduler.pt"), "no state of the learning rate"),
    "saved without random state": (lambda folder: without(folder, "rng_state.pth"), "no random state"),
    "saved without weights": (lambda folder: without(folder, "model.safetensors"), "no weights"),
    "random state of one of two processes": (
        lambda folder: write_manifest(folder, num_processes=2),
        "no random state",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_every_damage_is_found_and_the_checkpoint_before_is_taken(damage, tmp_path):
    good, bad = made_up(tmp_path, 5), made_up(tmp_path, 10)
    assert verify_checkpoint(bad) == []
    assert newest_verified(tmp_path) == (bad, {})
    act, message = DAMAGE[damage]
    act(bad)
    problems = verify_checkpoint(bad)
    assert message in "; ".join(problems)
    assert newest_verified(tmp_path) == (good, {"checkpoint-10": problems})


def test_what_interrupted_saves_leave_is_never_taken_for_a_checkpoint(tmp_path):
    made_up(tmp_path, 5)
    for name in ("tmp-checkpoint-10", "tmp-removed-checkpoint-3", "tmp-replaced-checkpoint-4"):
        shutil.copytree(tmp_path / "checkpoint-5", tmp_path / name)
        assert verify_checkpoint(tmp_path / name) == ["it is what an interrupted save has left"]
    shutil.copytree(tmp_path / "checkpoint-5", tmp_path / "tmp-checkpoint-11" / "checkpoint-11")
    assert verify_checkpoint(tmp_path / "tmp-checkpoint-11" / "checkpoint-11")
    (tmp_path / "checkpoint-12").write_text("a file")
    assert newest_verified(tmp_path)[0].name == "checkpoint-5"
    tidy(tmp_path)
    # What was about to be replaced comes back; its place is free.
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-12", "checkpoint-4", "checkpoint-5"]
    assert newest_verified(tmp_path / "nowhere") == (None, {})
    assert verify_checkpoint(tmp_path / "nowhere") == ["there is no such folder"]


def test_files_added_to_a_checkpoint_do_no_harm_and_a_change_on_purpose_can_be_certified(tmp_path):
    folder = made_up(tmp_path, 5)
    (folder / "results.json").write_text("{}")
    assert verify_checkpoint(folder) == []
    (folder / "config.json").write_text('{"thresholds": {}}')
    assert verify_checkpoint(folder) == ["config.json has 18 bytes instead of 2"]
    manifest = write_manifest(folder)
    assert verify_checkpoint(folder) == []
    assert manifest["step"] == 5 and manifest["files"]["results.json"]["size"] == 2
    assert manifest["versions"]["torch"] == torch.__version__.split("+")[0] or manifest["versions"]["torch"]


def test_weights_alone_verify_but_nothing_can_go_on_from_them(tmp_path):
    folder = made_up(tmp_path, 5)
    without(folder, "optimizer.pt", "scheduler.pt", "rng_state.pth")
    assert verify_checkpoint(folder, resumable=False) == []
    assert len(verify_checkpoint(folder)) == 3


def test_the_newest_checkpoint_is_the_one_saved_last_whatever_its_step(tmp_path):
    made_up(tmp_path, 100)  # of an earlier run in the same folder
    made_up(tmp_path, 2)
    assert newest_verified(tmp_path)[0].name == "checkpoint-2"


def test_rotation_removes_what_was_saved_first_but_not_what_is_protected(tmp_path):
    for step in (100, 1, 2, 3, 4):
        made_up(tmp_path, step)
    (tmp_path / "checkpoint-2" / MANIFEST).unlink()
    rotate(tmp_path, 3, (tmp_path / "checkpoint-4", str(tmp_path / "checkpoint-100")))
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-100", "checkpoint-3", "checkpoint-4"]
    rotate(tmp_path, 1, (tmp_path / "checkpoint-4", str(tmp_path / "checkpoint-100")))
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-100", "checkpoint-4"]
    rotate(tmp_path, None, ())
    assert len(os.listdir(tmp_path)) == 2
