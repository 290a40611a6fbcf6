# SPDX-License-Identifier: Apache-2.0
"""Training and commands on a disk that is full, read-only, or whose quota is used up."""

import errno
import os
import shutil
import subprocess
import sys

import pytest
from kill_worker import make_trainer
from transformers import Trainer, TrainerCallback

from hf_mathrock.cli import info
from hf_mathrock.cli.main import main
from hf_mathrock.training import checkpoints
from hf_mathrock.training.checkpoints import DiskFullError, newest_verified


def failing_save(monkeypatch, error, at="save_to_json"):
    """Let a save fail after the weights have been written, and a probe of the disk meet the same."""
    from transformers import TrainerState

    real = TrainerState.save_to_json

    def save_to_json(self, path):
        if self.global_step == 2:
            raise error
        real(self, path)

    monkeypatch.setattr(TrainerState, "save_to_json", save_to_json)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk quota is used up"),
        (OSError(errno.EROFS, "Read-only file system"), "the disk is read-only"),
        (Exception("Error while serializing: I/O error: No space left on device (os error 28)"), "the disk is full"),
    ],
)
def test_a_disk_that_takes_no_more_leaves_the_last_checkpoint_and_says_what_to_do(error, reason, tmp_path, monkeypatch):
    failing_save(monkeypatch, error)
    with pytest.raises(DiskFullError) as caught:
        make_trainer(tmp_path, num_train_epochs=1).train()
    message = str(caught.value)
    assert message.startswith(f"checkpoint-2 was not saved: {reason}, ")
    assert " MB are free in " in message and "checkpoint-1 is intact" in message and "--resume" in message
    assert "\n" not in message
    assert caught.value.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    assert os.listdir(tmp_path) == ["checkpoint-1"]
    assert newest_verified(tmp_path)[0].name == "checkpoint-1"


def test_torchs_writer_that_keeps_its_reason_to_itself_is_seen_through(tmp_path, monkeypatch):
    failing_save(monkeypatch, RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"))
    with pytest.raises(RuntimeError, match="file write failed"):  # not the disk
        make_trainer(tmp_path / "a", num_train_epochs=1).train()
    assert os.listdir(tmp_path / "a") == ["checkpoint-1"]
    monkeypatch.setattr(checkpoints, "probe_disk", lambda folder: errno.ENOSPC)
    with pytest.raises(DiskFullError, match="checkpoint-1 is intact"):
        make_trainer(tmp_path / "b", num_train_epochs=1).train()


def test_an_error_that_has_nothing_to_do_with_the_disk_stays_what_it_is(tmp_path, monkeypatch):
    failing_save(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path, num_train_epochs=1).train()
    assert os.listdir(tmp_path) == ["checkpoint-1"]


def test_a_save_that_will_not_fit_is_not_begun(tmp_path, monkeypatch):
    made = make_trainer(tmp_path / "run", num_train_epochs=1)
    free = iter([10**9, 10**9, 10**9, 1_200_000, 1_200_000])
    monkeypatch.setattr(checkpoints, "free_bytes", lambda folder: next(free))
    began = []
    real = Trainer._save_checkpoint
    monkeypatch.setattr(Trainer, "_save_checkpoint", lambda self, *rest: (began.append(1), real(self, *rest)))
    with pytest.raises(DiskFullError, match=r"checkpoint-3 was not saved: about 1\.\d MB are needed, 1\.2 MB are free"):
        made.train()
    assert len(began) == 2
    assert sorted(os.listdir(tmp_path / "run")) == ["checkpoint-1", "checkpoint-2"]
    monkeypatch.setattr(checkpoints, "free_bytes", lambda folder: 100)
    with pytest.raises(DiskFullError, match="training was not started: .* there is no earlier checkpoint"):
        make_trainer(tmp_path / "other").train()
    monkeypatch.setattr(checkpoints, "free_bytes", lambda folder: None)  # a file system that does not say
    make_trainer(tmp_path / "other", num_train_epochs=1).train()


def test_the_room_a_checkpoint_needs_is_estimated_well(tmp_path):
    made = make_trainer(tmp_path, num_train_epochs=1)
    made.train()
    saved = sum((tmp_path / "checkpoint-3" / name).stat().st_size for name in ("model.safetensors", "optimizer.pt"))
    assert 0.4 * saved < made._bytes_to_save() < saved  # of so small a model the file's own order is half


class Filler(TrainerCallback):
    """Leaves so much of a disk free before the third step is saved: a share of what the save needs."""

    def __init__(self, folder, share):
        self.folder, self.share = folder, share

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            needed = sum(path.stat().st_blocks * 512 for path in (self.folder / "run" / "checkpoint-2").iterdir())
            free = shutil.disk_usage(self.folder).free
            (self.folder / "filler").write_bytes(bytes(free - int(self.share * needed)))


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a small file system can be mounted by root on Linux only")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    # Lazily: a file whose writing failed may still be held by the error that tells of it.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("checked", [True, False], ids=["seen beforehand", "met while writing"])
def test_on_a_disk_that_is_really_full_the_last_checkpoint_is_whole(checked, small_disk, monkeypatch):
    if not checked:
        monkeypatch.setattr(checkpoints, "free_bytes", lambda folder: None)
    run_dir = small_disk / "run"
    made = make_trainer(run_dir, save_total_limit=None, load_best_model_at_end=False, eval_strategy="no")
    with pytest.raises(DiskFullError, match=r"checkpoint-(\d+) was not saved") as caught:
        made.train()
    assert not list(run_dir.glob("tmp-*"))
    folder, passed_over = newest_verified(run_dir)
    assert passed_over == {} and f"{folder.name} is intact" in str(caught.value)
    # With room again the same command goes on.
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    made = make_trainer(run_dir, load_best_model_at_end=False, eval_strategy="no")
    made.train(resume_from_checkpoint=True)
    assert made.state.global_step == 9


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.97])
def test_wherever_in_a_save_the_disk_gets_full_the_error_is_recognised(share, small_disk, monkeypatch):
    monkeypatch.setattr(checkpoints, "free_bytes", lambda folder: None)
    run_dir = small_disk / "run"
    made = make_trainer(run_dir, num_train_epochs=1, load_best_model_at_end=False, eval_strategy="no", save_steps=2)
    made.add_callback(Filler(small_disk, share))
    with pytest.raises(DiskFullError, match="checkpoint-3 was not saved: the disk is full.* checkpoint-2 is intact"):
        made.train()
    assert os.listdir(run_dir) == ["checkpoint-2"]


# The command line


@pytest.mark.parametrize(
    "error",
    [
        DiskFullError(errno.ENOSPC, "checkpoint-3 was not saved: the disk is full"),
        OSError(errno.ENOSPC, "No space left on device", "out.json"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EROFS, "Read-only file system"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_disk_that_takes_no_more_ends_the_program_with_3_and_one_line(error, monkeypatch, capsys):
    def run(args):
        raise error

    monkeypatch.setattr(info, "run", run)
    assert main(["info"]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    assert "[Errno" not in lines[0] or not isinstance(error, DiskFullError)


def test_other_errors_of_the_system_still_end_the_program_with_1(monkeypatch, capsys):
    def run(args):
        raise PermissionError(errno.EACCES, "Permission denied", "secret.wav")

    monkeypatch.setattr(info, "run", run)
    assert main(["info"]) == 1
