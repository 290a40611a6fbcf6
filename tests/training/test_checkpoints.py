# SPDX-License-Identifier: Apache-2.0
"""Training into verified checkpoints, and resuming from them to the same bits."""

import json
import logging
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from kill_worker import fingerprint, make_trainer, rows
from transformers import Trainer

from hf_mathrock import MathRockTrainer
from hf_mathrock.training.checkpoints import newest_verified, verify_checkpoint, write_manifest
from hf_mathrock.training.manifest import MANIFEST


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


class DrawnRows(torch.utils.data.Dataset):
    """Rows that sound different each time they are read."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        array = self.rows[index]["audio"]["array"] * random.uniform(0.5, 2) + np.random.normal(0, 0.01)
        audio = {"array": array.astype(np.float32) * torch.rand(()).item(), "sampling_rate": 16_000}
        return {**self.rows[index], "audio": audio}


class Stream(torch.utils.data.IterableDataset):
    """Six rows, one after the other."""

    def __iter__(self):
        yield from rows(6)


VARIANTS = {
    "evaluated on the way": ({}, (1, 3, 5, 6, 9)),  # within epochs, at their ends, and at that of the run
    "last one best": ({"save_total_limit": None, "metric_for_best_model": "mean_score"}, (4, 6)),
    "by epochs": ({"save_strategy": "epoch", "eval_strategy": "epoch"}, (3, 6)),
    "evaluated by epochs, saved by steps": ({"eval_strategy": "epoch", "load_best_model_at_end": False}, (2, 3, 5)),
    "accumulated": ({"gradient_accumulation_steps": 2, "per_device_train_batch_size": 1}, (2, 3, 4)),
    "a stream": ({"train_rows": Stream(), "max_steps": 8, "class_weights": "none"}, (2, 3, 4, 7)),
    "two loader processes": ({"dataloader_num_workers": 2, "num_train_epochs": 2}, (1, 3, 4)),
    "lasting loader processes": (
        {"dataloader_num_workers": 1, "dataloader_persistent_workers": True, "num_train_epochs": 2},
        (3, 4),
    ),
    "rows drawn by three generators": ({"train_rows": DrawnRows(rows(6)), "num_train_epochs": 2}, (2, 3)),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_from_whichever_checkpoint_a_resumed_run_ends_with_the_same_bits(variant, tmp_path):
    settings, steps = VARIANTS[variant]
    settings = {"save_total_limit": None, **settings}
    whole = make_trainer(tmp_path / "whole", **settings)
    whole.train()
    expected = fingerprint(whole.model), whole.state.best_global_step, whole.state.global_step
    for step in steps:
        torch.rand(step)  # a new process has other random numbers
        run_dir = tmp_path / str(step)
        shutil.copytree(tmp_path / "whole" / f"checkpoint-{step}", run_dir / f"checkpoint-{step}")
        if settings.get("load_best_model_at_end", True):
            for other in (tmp_path / "whole").glob("checkpoint-*"):
                shutil.copytree(other, run_dir / other.name, dirs_exist_ok=True)
        resumed = make_trainer(run_dir, **settings)
        resumed.train(resume_from_checkpoint=str(run_dir / f"checkpoint-{step}"))
        assert (fingerprint(resumed.model), resumed.state.best_global_step, resumed.state.global_step) == expected, step


def test_everything_is_on_the_disk_before_it_gets_its_name_and_older_ones_go_last(tmp_path, monkeypatch):
    events = []

    def recorded(name, real, path_of):
        def act(*args):
            events.append((name, path_of(*args)))
            return real(*args)

        monkeypatch.setattr(os, name, act)

    recorded("fsync", os.fsync, lambda handle: os.readlink(f"/proc/self/fd/{handle}"))
    recorded("rename", os.rename, lambda old, new: os.path.basename(new))
    recorded("replace", os.replace, lambda old, new: os.path.basename(new))
    make_trainer(tmp_path, num_train_epochs=1, save_total_limit=1, load_best_model_at_end=False, save_steps=2).train()
    named = events.index(("rename", "checkpoint-3"))
    begun = events.index(("rename", "tmp-removed-checkpoint-2")) - 1
    staged = str(tmp_path / "tmp-checkpoint-3" / "checkpoint-3")
    certified = max(index for index, event in enumerate(events[:named]) if event == ("replace", MANIFEST))
    synced = [path for name, path in events[:certified] if name == "fsync"]
    for name in os.listdir(tmp_path / "checkpoint-3"):
        assert f"{staged}/{name}{'.tmp' if name == MANIFEST else ''}" in synced, name
    assert staged in synced
    # The manifest's name, the folder's name, the end of the older one: each on the disk before the next.
    assert events[certified + 1 : named] == [("fsync", staged)]
    assert events[named + 1] == ("fsync", str(tmp_path)) and begun > named


def test_windows_differ_from_epoch_to_epoch_and_not_from_run_to_run(tmp_path):
    def batches(num_workers, persistent):
        made = make_trainer(
            tmp_path, dataloader_num_workers=num_workers, dataloader_persistent_workers=persistent, save_strategy="no",
            load_best_model_at_end=False, eval_strategy="no", num_train_epochs=2,
        )  # fmt: skip
        heard = []
        step = made.training_step

        def training_step(model, inputs, *rest):
            heard.append(inputs["input_values"].clone())
            return step(model, inputs, *rest)

        made.training_step = training_step
        made.train()
        return torch.stack(heard)

    here = batches(0, False)
    first, second = (sorted(row.sum().item() for row in epoch.flatten(0, 1)) for epoch in here.split(3))
    assert not set(first) & set(second)
    assert torch.equal(here, batches(2, False))
    assert torch.equal(here, batches(1, True))


def test_resuming_says_what_it_passed_over_and_why(tmp_path, caplog):
    make_trainer(tmp_path, num_train_epochs=1).train()
    os.truncate(tmp_path / "checkpoint-3" / "optimizer.pt", 10)
    (tmp_path / "tmp-checkpoint-4" / "checkpoint-4").mkdir(parents=True)
    made = make_trainer(tmp_path, num_train_epochs=1)
    with caplog.at_level(logging.WARNING):
        made.train(resume_from_checkpoint=True)
    assert "checkpoint-3: optimizer.pt has 10 bytes instead of" in caplog.text
    assert newest_verified(tmp_path)[0].name == "checkpoint-3"  # saved anew in place of the damaged one
    assert not list(tmp_path.glob("tmp-*"))


def test_resuming_without_any_checkpoint_starts_from_the_beginning(tmp_path, caplog):
    made = make_trainer(tmp_path, num_train_epochs=1)
    with caplog.at_level(logging.WARNING):
        made.train(resume_from_checkpoint=True)
    assert "There is no checkpoint" in caplog.text
    assert made.state.global_step == 3
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        make_trainer(tmp_path, num_train_epochs=1).train()
    assert "beside 2 checkpoints of an earlier run" in caplog.text


def test_damaged_checkpoints_alone_are_an_error_and_so_is_a_damaged_one_asked_for(tmp_path):
    make_trainer(tmp_path, max_steps=5, save_steps=5, load_best_model_at_end=False, eval_strategy="no").train()
    flip(tmp_path / "checkpoint-5" / "model.safetensors", 7)
    made = make_trainer(tmp_path)
    with pytest.raises(ValueError, match=r"No checkpoint in .*checkpoint-5: model.safetensors is not what was saved"):
        made.train(resume_from_checkpoint=True)
    with pytest.raises(ValueError, match=r"checkpoint-5 cannot be resumed from: model.safetensors is not"):
        made.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    with pytest.raises(ValueError, match="there is no such folder"):
        made.train(resume_from_checkpoint=tmp_path / "checkpoint-7")
    assert os.listdir(tmp_path) == ["checkpoint-5"]


def test_a_checkpoint_of_weights_alone_is_not_resumed_from(tmp_path):
    make_trainer(tmp_path, num_train_epochs=1, save_only_model=True, load_best_model_at_end=False).train()
    with pytest.raises(ValueError, match="no state of the optimizer"):
        make_trainer(tmp_path).train(resume_from_checkpoint=True)


def test_a_stock_checkpoint_is_taken_once_it_is_certified(tmp_path):
    class Stock(MathRockTrainer):
        _save_checkpoint = Trainer._save_checkpoint

    make_trainer(tmp_path, Stock, num_train_epochs=1).train()
    with pytest.raises(ValueError, match="another program made it"):
        make_trainer(tmp_path).train(resume_from_checkpoint=True)
    write_manifest(tmp_path / "checkpoint-3")
    made = make_trainer(tmp_path)
    made.train(resume_from_checkpoint=True)
    assert made.state.global_step == 9


def test_a_damaged_best_checkpoint_is_not_loaded(tmp_path):
    class Damaging(MathRockTrainer):
        def _load_best_model(self):
            flip(Path(self.state.best_model_checkpoint) / "model.safetensors", -1)
            super()._load_best_model()

    with pytest.raises(RuntimeError, match="best checkpoint .* is damaged: model.safetensors is not what was saved"):
        make_trainer(tmp_path, Damaging, num_train_epochs=1).train()


def test_a_run_that_had_stopped_early_stays_stopped(tmp_path):
    settings = {"learning_rate": 0.0, "backbone_learning_rate": 0.0, "early_stopping_patience": 1}
    settings |= {"metric_for_best_model": "tempo_accuracy", "greater_is_better": True, "save_total_limit": None}
    made = make_trainer(tmp_path, **settings)
    made.train()
    assert made.state.global_step == 2
    for start in (1, 2):  # before the counter is full, and after
        resumed = make_trainer(tmp_path, **settings)
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{start}"))
        assert resumed.state.global_step == 2
        assert resumed.state.best_global_step == 1
    patient = make_trainer(tmp_path, **settings | {"early_stopping_patience": 3})
    patient.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert patient.state.global_step == 4


def test_early_stopping_can_be_added_when_a_run_is_resumed(tmp_path):
    make_trainer(tmp_path, num_train_epochs=1).train()
    made = make_trainer(tmp_path, early_stopping_patience=50)
    made.train(resume_from_checkpoint=True)
    assert made.state.global_step == 9


def test_extra_state_travels_with_the_checkpoint(tmp_path):
    class Counting(MathRockTrainer):
        seen = 0

        def training_step(self, *args, **kwargs):
            self.seen += 1
            return super().training_step(*args, **kwargs)

        def _save_extra_state(self, folder):
            Path(folder, "seen.txt").write_text(str(self.seen))

        def _load_extra_state(self, folder):
            self.seen = int(Path(folder, "seen.txt").read_text())

    make_trainer(tmp_path, Counting, num_train_epochs=1).train()
    made = make_trainer(tmp_path, Counting, num_train_epochs=2)
    made.train(resume_from_checkpoint=True)
    assert made.seen == 6
    (tmp_path / "checkpoint-6" / "seen.txt").write_text("7")
    assert verify_checkpoint(tmp_path / "checkpoint-6") == ["seen.txt is not what was saved (SHA-256)"]


def test_the_checkpoint_of_a_termination_signal_is_verified_too(tmp_path):
    from transformers.trainer_jit_checkpoint import CheckpointManager

    made = make_trainer(tmp_path, num_train_epochs=1, save_total_limit=None)
    made.train()
    made.state.global_step = 4
    CheckpointManager(made).execute_jit_checkpoint()
    CheckpointManager(made).execute_jit_checkpoint()  # at a step that is saved already
    assert newest_verified(tmp_path) == (tmp_path / "checkpoint-4", {})


def test_an_upload_begins_only_when_the_checkpoint_has_its_name(tmp_path, monkeypatch):
    pushed = []
    monkeypatch.setattr(
        Trainer, "_push_from_checkpoint", lambda self, folder: pushed.append((folder, verify_checkpoint(folder)))
    )
    made = make_trainer(tmp_path, num_train_epochs=1, load_best_model_at_end=False)
    made.train()
    made.args.push_to_hub = True
    made._save_checkpoint(made.model, None)
    assert pushed == [(str(tmp_path / "checkpoint-3"), [])]


TWO_PROCESSES = """
import os, sys
import torch
from kill_worker import fingerprint, make_trainer, rows

def made(run_dir, **settings):
    return make_trainer(run_dir, train_rows=rows(12), ddp_find_unused_parameters=True, num_train_epochs=2, **settings)

class Stopped(Exception):
    pass

def stopping(trainer, step):
    save = trainer._save_checkpoint
    def save_and_stop(*rest):
        save(*rest)
        if trainer.state.global_step == step:
            raise Stopped
    trainer._save_checkpoint = save_and_stop
    try:
        trainer.train()
    except Stopped:
        torch.distributed.barrier()

whole = made(sys.argv[1] + "/whole")
whole.train()
stopping(made(sys.argv[1] + "/run"), 5)
if int(os.environ["RANK"]) == 0:  # the random state of the other process
    with open(sys.argv[1] + "/run/checkpoint-5/rng_state_1.pth", "r+b") as file:
        file.write(b"?")
torch.distributed.barrier()
torch.rand(1 + int(os.environ["RANK"]))
resumed = made(sys.argv[1] + "/run")
resumed.train(resume_from_checkpoint=True)
with open(f"{sys.argv[1]}/{os.environ['RANK']}.txt", "w") as file:
    print(fingerprint(whole.model) == fingerprint(resumed.model), resumed.state.global_step, file=file)
"""


@pytest.mark.slow
def test_two_processes_wait_for_each_other_and_resume_to_the_same_bits(tmp_path):
    (tmp_path / "two.py").write_text(TWO_PROCESSES)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, str(tmp_path / "two.py"), str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)] == ["True 6\n"] * 2
    # In the middle of the second epoch the damage to one process's random state was seen by both.
    assert "checkpoint-5: rng_state_1.pth is not what was saved" in done.stderr
    folder, passed_over = newest_verified(tmp_path / "run")
    assert (folder.name, passed_over) == ("checkpoint-6", {})
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= set(os.listdir(folder))
    assert json.loads((folder / MANIFEST).read_text())["num_processes"] == 2
