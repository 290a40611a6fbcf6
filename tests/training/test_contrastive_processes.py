# SPDX-License-Identifier: Apache-2.0
"""Two processes with half the batch train Myna as one does. Run by `torchrun`, this file is one of the two."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from hf_mathrock.models.contrastive import info_nce
from hf_mathrock.training.gathering import gather_rows
from hf_mathrock.training.myna_arguments import MynaTrainingArguments
from hf_mathrock.training.myna_trainer import MynaTrainer
from tiny_myna import tiny_myna_for_pretraining

TERMS = {
    "draws_per_crop": 2,
    "kmeans_weight": 0.5,
    "kmeans_clusters": 3,
    "convex_weight": 0.5,
    "convex_weights": "learned",
    "width_weight": 0.1,
    "term_ramp": [0.0, 0.0],
}
# By name: training arguments. Micro-batches of 3 in halves of 4 are a whole and a part.
RUNS = {
    "plain": {},
    "cached": {"micro_batch_size": 3},
    "one way": {"one_way": True, "micro_batch_size": 1},
    "sogclr": {"loss": "sogclr"},
    "sogclr, cached": {"loss": "sogclr", "micro_batch_size": 3},
    "accumulated": {"gradient_accumulation_steps": 2, "micro_batch_size": 2},
    "terms": {"loss": "sogclr", **TERMS},
    "terms, cached": {**TERMS, "micro_batch_size": 3},
}
NUM_UNEVEN = (3, 2)


def rows():
    """Tracks, two of which come twice: their copies are in different processes."""
    random = np.random.default_rng(0)
    made = []
    for index in range(32):
        looks = [random.standard_normal((frames, 128), dtype=np.float32) for frames in (32, 48)]
        made.append((*looks, index if index % 8 != 5 else index - 4))
    return made


def collate(batch):
    first, other, ids = zip(*batch, strict=True)
    return {
        "input_features": torch.from_numpy(np.stack(first)),
        "other_features": torch.from_numpy(np.stack(other)),
        "track_ids": torch.tensor(ids),
        "keep_ratio": 1.0,
    }


class Recorder(TrainerCallback):
    """Keeps the gradients of every step, before they are clipped."""

    def __init__(self):
        self.trainer, self.steps = None, []

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        named = [*self.trainer.model.named_parameters(), *self.trainer.objective.named_parameters()]
        self.steps.append({name: p.grad.detach().clone() for name, p in named})


def trained(folder, run, batch_size):
    """Gradients, weights, memory and log of two steps; `batch_size` is that of one process."""
    # In double precision, so that what is not equal cannot be rounding.
    model, recorder = tiny_myna_for_pretraining().double(), Recorder()
    made = MynaTrainer(
        model=model,
        args=MynaTrainingArguments(
            str(folder / run),
            max_steps=2,
            per_device_train_batch_size=batch_size,
            per_device_eval_batch_size=3,
            learning_rate=0.01,
            warmup_steps=0,
            max_grad_norm=0.0,
            optim="sgd",
            logging_steps=1,
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            **RUNS[run],
        ),
        train_dataset=rows(),
        eval_dataset=rows()[:31],
        data_collator=collate,
        callbacks=[recorder],
    )
    recorder.trainer = made
    made.train()
    memory = {name: tensor for name, tensor in made.objective.state_dict().items() if "log" not in name}
    if made.objective.sogclr is not None:
        memory["remembered"] = made.objective.sogclr.log_averages.exp()[:32]
    evaluated = {name: value for name, value in made.evaluate().items() if "loss" in name or "retrieval" in name}
    log = [{k: v for k, v in entry.items() if "loss" in k or k == "width"} for entry in made.state.log_history[:2]]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return {"steps": recorder.steps, "state": state, "memory": memory, "log": log, "evaluated": evaluated}


def uneven():
    """Views of five tracks, and a loss of them that weighs every row differently."""
    random = torch.Generator().manual_seed(4)
    return [torch.randn(sum(NUM_UNEVEN), 6, generator=random, dtype=torch.float64) for _ in range(2)]


def worker(folder):
    """What each of the two processes does."""
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else int(os.environ["RANK"])
    results = {run: trained(folder, run, 4) for run in RUNS}
    own = [view.split(NUM_UNEVEN)[rank].clone().requires_grad_() for view in uneven()]
    info_nce(gather_rows(own[0]), gather_rows(own[1]), 0.2).backward()
    ids = gather_rows(torch.arange(5).split(NUM_UNEVEN)[rank])
    results["uneven"] = {"gradients": [view.grad for view in own], "ids": ids}
    torch.save(results, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two processes got."""
    folder = tmp_path_factory.mktemp("two")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    done = subprocess.run(
        [*launch, __file__, str(folder)], env=os.environ | environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """What one process gets from batches of twice the size."""
    folder = tmp_path_factory.mktemp("one")
    return {run: trained(folder, run, 8) for run in RUNS}


@pytest.mark.slow
@pytest.mark.parametrize("run", list(RUNS))
def test_two_processes_have_the_loss_and_the_gradients_of_one(run, one, two):
    for process in two:
        assert process[run]["log"] == [pytest.approx(entry, rel=1e-6, abs=1e-4) for entry in one[run]["log"]]
        for expected, found in zip(one[run]["steps"], process[run]["steps"], strict=True):
            assert set(found) == set(expected)
            for name, gradient in expected.items():
                assert (found[name] - gradient).norm() <= 1e-5 * gradient.norm().clamp(min=1e-6), name


@pytest.mark.slow
@pytest.mark.parametrize("run", list(RUNS))
def test_two_processes_end_with_the_weights_and_the_memory_of_one(run, one, two):
    for part in ("state", "memory"):
        for name, expected in one[run][part].items():
            for process in two:
                torch.testing.assert_close(process[run][part][name], expected, rtol=1e-5, atol=1e-7, msg=name)
            assert torch.equal(two[0][run][part][name], two[1][run][part][name]), name
    assert one[run]["memory"] or "loss" not in RUNS[run]


@pytest.mark.slow
def test_micro_batches_in_two_processes_are_whole_batches_in_them(two):
    for plain, cached in (("plain", "cached"), ("sogclr", "sogclr, cached")):
        for expected, found in zip(two[0][plain]["steps"], two[0][cached]["steps"], strict=True):
            for name, gradient in expected.items():
                assert (found[name] - gradient).norm() <= 1e-6 * gradient.norm().clamp(min=1e-6), name


@pytest.mark.slow
def test_two_processes_evaluate_all_tracks_once(one, two):
    for process in two:
        assert process["plain"]["evaluated"] == pytest.approx(one["plain"]["evaluated"], rel=1e-4)


@pytest.mark.slow
def test_processes_may_have_different_numbers_of_rows(two):
    whole = [view.requires_grad_() for view in uneven()]
    info_nce(*whole, 0.2).backward()
    for rank, process in enumerate(two):
        assert process["uneven"]["ids"].tolist() == list(range(5))
        for view, gradient in zip(whole, process["uneven"]["gradients"], strict=True):
            # Averaging over the processes divides by their number.
            torch.testing.assert_close(gradient / 2, view.grad.split(NUM_UNEVEN)[rank])


if __name__ == "__main__":
    worker(Path(sys.argv[1]))
