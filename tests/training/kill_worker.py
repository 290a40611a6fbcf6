# SPDX-License-Identifier: Apache-2.0
"""Kills training at random moments and at every file operation of a save; a program, run by `test_kills.py`.

    python kill_worker.py random NUM_KILLS SEED FOLDER
    python kill_worker.py sweep kill|full FOLDER

It prints what it found as JSON. Everything slow is imported once; each training is a fork of this process, which must
therefore never run anything on torch's threads itself.
"""

import builtins
import errno
import gc
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import torch

import hf_mathrock
from hf_mathrock import MathRockFeatureExtractor, MathRockTrainer
from hf_mathrock.training.arguments import MathRockTrainingArguments
from hf_mathrock.training.checkpoints import DiskFullError, newest_verified

sys.path.append(str(Path(__file__).parents[1]))
from tiny import SETTINGS  # noqa: E402


def rows(num, seed=0, seconds=3.0):
    """Noise with labels."""
    draw = np.random.default_rng(seed)
    return [
        {
            "audio": {"array": draw.normal(0, 0.1, int(16_000 * seconds)).astype(np.float32), "sampling_rate": 16_000},
            "tempo": index % 3,
            "vibe": index % 4,
        }
        for index in range(num)
    ]


def make_trainer(run_dir, trainer_class=MathRockTrainer, train_rows=None, **settings):
    """A trainer of a tiny model with dropout, on random windows of 6 rows: 3 epochs of 3 steps, evaluated and saved
    after each step, of which the best is loaded at the end."""
    defaults = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 2,
        "learning_rate": 3e-3,
        "save_strategy": "steps",
        "save_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_total_limit": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "loss",
        "disable_tqdm": True,
        "logging_steps": 1000,
    }
    torch.manual_seed(0)
    model = hf_mathrock.MathRockForAudioClassification(hf_mathrock.MathRockConfig(**SETTINGS))
    return trainer_class(
        model=model,
        args=MathRockTrainingArguments(str(run_dir), use_cpu=True, **{**defaults, **settings}),
        train_dataset=train_rows or rows(6),
        eval_dataset=rows(2, seed=1, seconds=1.0),
        processing_class=MathRockFeatureExtractor(window_seconds=1.0, hop_seconds=1.0),
    )


def fingerprint(model):
    """SHA-256 of all weights."""
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def train_to_the_end(run_dir):
    """What anyone would run again and again; the outcome is written beside the run folder."""
    made = make_trainer(run_dir)
    made.train(resume_from_checkpoint=True)
    last = Path(run_dir) / f"checkpoint-{made.state.global_step}"
    outcome = {
        "weights": fingerprint(made.model),
        "best_step": made.state.best_global_step,
        "last_weights": hashlib.sha256((last / "model.safetensors").read_bytes()).hexdigest(),
    }
    Path(f"{run_dir}.json").write_text(json.dumps(outcome))


def start(function, *arguments, log):
    """Run a function in a fork; its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        function(*arguments)
        code = 0
    except SystemExit as left:
        code = left.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def finished(pid, seconds=None):
    """The exit code of a process; `None` if it is still at work after so many seconds."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while deadline is None or time.monotonic() < deadline:
        done, status = os.waitpid(pid, 0 if deadline is None else os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    return None


def wait_for_saves(pid, run_dir, num_saves):
    """Wait until a process has begun so many saves; its exit code if it ends before that."""
    # What the one killed before has left is removed first: a save begins where there was nothing of that name.
    before, begun = {path.name for path in run_dir.glob("tmp-checkpoint-*")}, 0
    while begun < num_saves:
        if (code := finished(pid, 0.002)) is not None:
            return code
        now = {path.name for path in run_dir.glob("tmp-checkpoint-*")}
        begun, before = begun + len(now - before), now
    return None


def run(run_dir, log):
    """An undisturbed run to the end: its outcome."""
    code = finished(start(train_to_the_end, run_dir, log=log))
    if code != 0:
        raise SystemExit(f"a run that nobody killed ended with {code}:\n{log.read_text()[-4000:]}")
    return json.loads(Path(f"{run_dir}.json").read_text())


def random_kills(num_kills, seed, folder):
    """Kill training at random moments, starting it again each time, until so many kills are reached."""
    log = folder / "log.txt"
    expected = run(folder / "undisturbed", log)
    begun = time.monotonic()
    assert run(folder / "undisturbed-again", log) == expected
    whole = time.monotonic() - begun
    chance = random.Random(seed)
    report = {
        "kills": 0,
        "in_a_save": 0,
        "before_any_save": 0,
        "runs": 0,
        "different": 0,
        "failed": 0,
        "seconds": whole,
    }
    while report["kills"] < num_kills and not report["failed"] and report["runs"] < num_kills + 10:
        run_dir = folder / f"run-{report['runs']}"
        report["runs"] += 1
        while True:
            pid = start(train_to_the_end, run_dir, log=log)
            if report["kills"] >= num_kills:
                code = finished(pid)
            elif report["kills"] % 2:
                code = finished(pid, chance.uniform(0.0, 0.75 * whole))
            else:  # within a save: the first to the fourth that this process begins, somewhere on the way
                code = wait_for_saves(pid, run_dir, chance.randint(1, 4))
                code = finished(pid, chance.uniform(0.0, 0.06)) if code is None else code
            if code is not None:
                break
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            names = os.listdir(run_dir) if run_dir.exists() else []
            report["kills"] += 1
            report["in_a_save"] += any(name.startswith("tmp-") for name in names)
            report["before_any_save"] += not any(name.startswith("checkpoint-") for name in names)
        if code != 0:
            report["failed"] += 1
            report["log"] = log.read_text()[-4000:]
        else:
            outcome = json.loads(Path(f"{run_dir}.json").read_text())
            report["different"] += outcome != expected
            left = [name for name in os.listdir(run_dir) if name.startswith("tmp-")]
            assert not left, left
        shutil.rmtree(run_dir)
    return report


class Faults:
    """Counts the file operations of this process, and lets the one of a given number go wrong.

    Args:
        number: Which, from 1.
        full: Whether the disk is full from there on; otherwise the process dies there.
    """

    def __init__(self, number, full):
        self.number, self.full, self.count = number, full, 0
        from transformers import modeling_utils

        self._wrap(os, "fsync", "rename", "replace", "mkdir")
        if not full:  # removing needs no room
            self._wrap(os, "unlink", "rmdir")
        self._wrap(torch, "save", half_written=1)
        self._wrap(modeling_utils, "safe_save_file", half_written=1)
        self._wrap(builtins, "open", half_written=0)

    def _wrap(self, module, *names, half_written=None):
        for name in names:
            setattr(module, name, self._wrapped(name, getattr(module, name), half_written))

    def _wrapped(self, name, real, half_written):
        def operation(*args, **kwargs):
            if name == "open" and not set((args[1:2] or (kwargs.get("mode", "r"),))[0]) & set("wxa+"):
                return real(*args, **kwargs)
            self.count += 1
            if self.count == self.number and not self.full:
                if half_written is not None:
                    with open(os.open(args[half_written], os.O_WRONLY | os.O_CREAT), "wb") as file:
                        file.write(b"half of it")
                os._exit(137)
            if self.full and (self.count == self.number or (self.count > self.number and name != "rename")):
                if name == "save":
                    raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")
                if name == "safe_save_file":
                    raise ValueError("Error while serializing: I/O error: No space left on device (os error 28)")
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*args, **kwargs)

        return operation


def sweep(full, folder, from_step=4, wanted_step=5):
    """Let the 1st, 2nd, 3rd … file operation of one save go wrong, until a save passes with no fault."""
    log = folder / "log.txt"
    expected = run(folder / "undisturbed", log)

    class Interrupted(MathRockTrainer):
        """Saves its fifth step over and over, each time in a copy of the run folder and in a process of its own."""

        def _save_checkpoint(self, model, trial):
            if self.state.global_step != wanted_step:
                return super()._save_checkpoint(model, trial)
            real, results, number = self.args.output_dir, [], 0
            while not results or results[-1]["faulted"]:
                number += 1
                self.args.output_dir = f"{real}-{number}"
                shutil.copytree(real, self.args.output_dir)
                # Something to replace, as when a resumed run saves a step that an explicit resume had left behind.
                old = f"{self.args.output_dir}/checkpoint-{wanted_step}"
                shutil.copytree(f"{real}/checkpoint-{from_step}", old)
                code = finished(start(self._save_with_a_fault, number, model, trial, log=log))
                results.append(judged(Path(self.args.output_dir), code))
                shutil.rmtree(f"{self.args.output_dir}-rest", ignore_errors=True)
            Path(f"{real}-results.json").write_text(json.dumps(results))
            raise SystemExit(0)

        def _save_with_a_fault(self, number, model, trial):
            faults = Faults(number, full)
            try:
                super()._save_checkpoint(model, trial)
            except DiskFullError as error:
                print(f"fault {number}: {error}")
                raise SystemExit(3) from error
            raise SystemExit(0 if faults.count < number else 4)

    resumed = {}  # outcome by what the fault had left

    def judged(run_dir, code):
        left = sorted(os.listdir(run_dir))
        path, passed_over = newest_verified(run_dir)
        facts = {"code": code, "left": left, "faulted": code != 0, "newest": path and path.name}
        facts["passed_over"] = sorted(passed_over)
        facts["sizes"] = [len(os.listdir(run_dir / name)) for name in left]
        key = json.dumps([left, facts["newest"]])
        if key not in resumed or os.environ.get("MATHROCK_NUM_KILLS"):
            again = start(train_to_the_end, run_dir, log=log)
            resumed[key] = (
                "the same"
                if finished(again) == 0 and json.loads(Path(f"{run_dir}.json").read_text()) == expected
                else "something else"
            )
        facts["resumed_to"] = resumed[key]
        shutil.rmtree(run_dir)
        return facts

    def experiment():
        made = make_trainer(folder / "run", Interrupted)
        made.train()

    code = finished(start(experiment, log=log))
    results = folder / "run-results.json"
    if code != 0 or not results.exists():
        raise SystemExit(f"the sweep ended with {code}:\n{log.read_text()[-4000:]}")
    return {"faults": json.loads(results.read_text()), "log": log.read_text()[-2000:]}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    # Forks share what is imported, and need not go through it whenever the Trainer collects garbage.
    gc.freeze()
    what, *arguments, folder = sys.argv[1:]
    folder = Path(folder)
    if what == "random":
        print(json.dumps(random_kills(int(arguments[0]), int(arguments[1]), folder)))
    else:
        print(json.dumps(sweep(arguments[0] == "full", folder)))
