# SPDX-License-Identifier: Apache-2.0
"""Two processes train as one does. Run by `torchrun`, this file is one of the two."""

import copy
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from hf_mathrock import MathRockConfig, MathRockFeatureExtractor, MathRockForAudioClassification, MathRockTrainer
from hf_mathrock.data.collator import MathRockCollator
from hf_mathrock.training.arguments import MathRockTrainingArguments
from hf_mathrock.training.distributed import (
    SynchronisedBatchNorm1d,
    SynchronisedBatchNorm2d,
    synchronised_batch_norm,
)

# By name: training arguments, and whether the rows come as a stream.
RUNS = {
    "fixed": ({"task_weights": {"emotion": 3.0}}, False),
    "learned": ({"task_weights": "learned"}, False),
    "accumulated": ({"task_weights": "learned", "gradient_accumulation_steps": 2}, False),
    "stream": ({"class_weights": "none"}, True),
}
EXTRACTOR = MathRockFeatureExtractor(window_seconds=1.0, hop_seconds=1.0)
BATCH_NORMS = {nn.BatchNorm1d: SynchronisedBatchNorm1d, nn.BatchNorm2d: SynchronisedBatchNorm2d}
BATCH_NORM_SHAPES = [(3, 4, 5, 1), (2, 4, 5, 1)]  # of the two processes


def rows(num=16):
    """Partial labels, unevenly known: every process and step has another number of them."""
    random = np.random.default_rng(0)
    made = []
    for index in range(num):
        made.append(
            {
                "song": f"{index}.wav",
                "audio": {"array": random.standard_normal(8_000 + 400 * index) / 8, "sampling_rate": 16_000},
                "tempo": ["slow", "slow", "moderate", "fast", None][index % 5],
                "vibe": [0, None, None, 1, 2, None, 3][index % 7],
                "emotion": None if index % 3 else [["joy", "love"], ["grief"], []][index // 3 % 3],
            }
        )
    return made


class ExactCollator(MathRockCollator):
    """Inputs in double precision, so that what is not equal cannot be rounding."""

    def __call__(self, rows):
        batch = super().__call__(rows)
        return batch | {name: batch[name].double() for name in ("input_values", "input_features")}


class Recorder(TrainerCallback):
    """Keeps what every optimiser step is made from."""

    def __init__(self):
        self.trainer, self.steps = None, []

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        named = [*self.trainer.model.named_parameters()]
        if self.trainer.uncertainty is not None:
            named += self.trainer.uncertainty.named_parameters()
        gradients = {name: p.grad.detach().clone() for name, p in named if p.grad is not None}
        self.steps.append({"gradients": gradients, "files": sorted(self.trainer._files)})


def trained(model, folder, batch_size, run, num_accumulated):
    """Gradients, weights and log of two steps; `batch_size` is that of one process and one batch."""
    settings, stream = RUNS[run]
    data = rows()
    if stream:
        import datasets

        data = datasets.IterableDataset.from_generator(lambda: iter(rows()))
    model, recorder = copy.deepcopy(model).train(), Recorder()
    if "gradient_accumulation_steps" in settings:
        # Statistics of a batch norm are of what it sees at once, which accumulation makes smaller.
        norm = model.mathrock.clap_audio.audio_encoder.batch_norm.eval()
        norm.train = lambda mode=True: norm
    made = MathRockTrainer(
        model=model,
        args=MathRockTrainingArguments(
            str(folder / run),
            max_steps=2,
            per_device_train_batch_size=batch_size,
            learning_rate=0.05,
            backbone_learning_rate=0.002,
            optim="sgd",
            max_grad_norm=0.0,
            logging_steps=1,
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            seed=3,
            **settings | {"gradient_accumulation_steps": num_accumulated},
        ),
        train_dataset=data,
        data_collator=ExactCollator(EXTRACTOR, model.config.tasks, with_files=True),
        callbacks=[recorder],
    )
    recorder.trainer = made
    made.train()
    assert not any(isinstance(module, SynchronisedBatchNorm2d) for module in made.model.modules())
    log = [{k: v for k, v in e.items() if k.startswith(("loss", "weight_"))} for e in made.state.log_history]
    learned = {} if made.uncertainty is None else made.uncertainty.state()
    return {"steps": recorder.steps, "state": made.model.state_dict(), "log": log[:2], "learned": learned}


def calm_model(settings):
    """A model that does nothing at random."""
    torch.manual_seed(0)
    model = MathRockForAudioClassification(MathRockConfig(**settings)).double()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    config = model.config.wavlm_config
    config.layerdrop, config.apply_spec_augment = 0.0, False
    for layer in model.mathrock.wavlm.encoder.layers:
        layer.attention.dropout = 0.0
    return model


def normalised(norm, inputs):
    """Output, gradients and statistics of a batch norm in a loss that treats every entry differently."""
    inputs = inputs.clone().requires_grad_()
    output = norm(inputs)
    (output * torch.sin(13 * inputs.detach())).sum().backward()
    return {"output": output.detach(), "input": inputs.grad, "weight": norm.weight.grad, "bias": norm.bias.grad} | {
        name: buffer.clone() for name, buffer in norm.named_buffers()
    }


def batch_norm(momentum, kind=nn.BatchNorm2d):
    torch.manual_seed(5)
    norm = kind(4, momentum=momentum)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def batch_norm_inputs(kind=nn.BatchNorm2d):
    torch.manual_seed(6)
    inputs = [20 * torch.randn(shape) - 60 for shape in BATCH_NORM_SHAPES]
    return inputs if kind is nn.BatchNorm2d else [part[..., 0] for part in inputs]


def worker(folder):
    """What each of the two processes does."""
    model = calm_model(json.loads((folder / "settings.json").read_text()))
    results = {}
    for run, (settings, _) in RUNS.items():
        num_accumulated = settings.get("gradient_accumulation_steps", 1)
        results[run] = trained(model, folder, 4 // num_accumulated, run, num_accumulated)
    rank = torch.distributed.get_rank()
    for momentum, kind in itertools.product((0.1, None), BATCH_NORMS):
        norm, inputs = batch_norm(momentum, kind), batch_norm_inputs(kind)[rank]
        with synchronised_batch_norm(norm):
            assert type(norm) is BATCH_NORMS[kind]
            results[f"{kind.__name__} {momentum}"] = normalised(norm, inputs)
            evaluated = norm.eval()(inputs)
        assert type(norm) is kind
        torch.testing.assert_close(evaluated, norm(inputs), rtol=0, atol=0)
    torch.save(results, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def launch(arguments, timeout=240):
    """A command under two processes that find each other on this machine alone."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="module")
def two(tiny_settings, tmp_path_factory):
    """What each of two processes got."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "settings.json").write_text(json.dumps(tiny_settings))
    result = launch([__file__, str(folder)])
    assert result.returncode == 0, result.stderr[-4000:]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def one(tiny_settings, tmp_path_factory):
    """What one process gets from batches of twice the size."""
    model, folder = calm_model(tiny_settings), tmp_path_factory.mktemp("one")
    return {run: trained(model, folder, 8, run, 1) for run in RUNS}


@pytest.mark.slow
@pytest.mark.parametrize("run", list(RUNS))
def test_two_processes_have_the_gradients_of_one_with_twice_the_batch(run, one, two):
    for step, expected in enumerate(one[run]["steps"]):
        files = sorted(file for process in two for file in process[run]["steps"][step]["files"])
        assert files == expected["files"] and len(files) == 8
        for process in two:
            gradients = process[run]["steps"][step]["gradients"]
            assert set(gradients) == set(expected["gradients"])
            for name, gradient in expected["gradients"].items():
                # The loss is in single precision; gradients of keys' biases are zero but for rounding.
                assert (gradients[name] - gradient).norm() <= 1e-6 * gradient.norm().clamp(min=1e-4), name


@pytest.mark.slow
@pytest.mark.parametrize("run", list(RUNS))
def test_two_processes_end_with_the_weights_and_the_log_of_one(run, one, two):
    for process in two:
        for name, expected in one[run]["state"].items():
            torch.testing.assert_close(process[run]["state"][name], expected, rtol=1e-6, atol=1e-8, msg=name)
        assert process[run]["log"] == [pytest.approx(entry, rel=1e-6, abs=1e-4) for entry in one[run]["log"]]
        assert process[run]["learned"] == pytest.approx(one[run]["learned"], rel=1e-4)
    first, second = (process[run]["state"] for process in two)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
@pytest.mark.parametrize("kind", BATCH_NORMS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_over_two_processes_is_that_of_the_whole_batch(momentum, kind, two):
    parts = [process[f"{kind.__name__} {momentum}"] for process in two]
    expected = normalised(batch_norm(momentum, kind), torch.cat(batch_norm_inputs(kind)))
    for name in ("output", "input"):
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), expected[name], rtol=1e-4, atol=1e-5)
    for name in ("weight", "bias"):  # a process's own share
        torch.testing.assert_close(sum(part[name] for part in parts), expected[name], rtol=1e-4, atol=1e-5)
    for part in parts:
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            torch.testing.assert_close(part[name], expected[name], rtol=1e-5, atol=1e-5)


def test_alone_batch_norm_stays_as_it_is():
    norm = batch_norm(0.1)
    with synchronised_batch_norm(norm):
        assert type(norm) is nn.BatchNorm2d


if __name__ == "__main__":
    worker(Path(sys.argv[1]))
