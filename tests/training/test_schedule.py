# SPDX-License-Identifier: Apache-2.0
"""One optimiser after the other: torch's own updates, begun from the best weights, and gone on with after a stop."""

import io
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from hf_mathrock.training.arguments import MathRockTrainingArguments
from hf_mathrock.training.schedule import (
    SCHEDULE_ARGUMENTS,
    TUTORIAL,
    OptimizerSchedule,
    Stage,
    StagedOptimizer,
    stages_of,
)
from hf_mathrock.training.trainer import MathRockTrainer

STAGES = (
    Stage("adam", 3e-2, epochs=3, weight_decay=1e-4),
    Stage("sgd", 2e-2, epochs=2, weight_decay=1e-4),
    Stage("sgd", 1e-2, weight_decay=1e-4),
)
TASKS = [{"name": "tag", "type": "multi_label", "labels": ["loud", "high"]}]


class Toy(nn.Module):
    """Two layers with a batch norm between them: running statistics are no parameters, and must come back too."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 1)

    def forward(self, x, labels=None):
        logits = self.last(torch.relu(self.norm(self.first(x))))
        return {"loss": nn.functional.mse_loss(logits[:, 0], labels), "logits": logits}


def toy(seed=0):
    torch.manual_seed(seed)
    return Toy()


def rows(num=24):
    random = np.random.default_rng(0)
    x = random.standard_normal((num, 4)).astype(np.float32)
    return [{"x": torch.from_numpy(row), "labels": torch.tensor(float(np.sin(row).sum()))} for row in x]


def descend(model, optimizer, num_steps, seed):
    """Steps on changing data."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(num_steps):
        x = torch.randn(8, 4, generator=generator)
        optimizer.zero_grad()
        model(x, x.sum(dim=1))["loss"].backward()
        optimizer.step()


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


TORCH = {
    "adam": lambda p: torch.optim.Adam(p, lr=3e-3, weight_decay=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, lr=3e-3, weight_decay=1e-2),
    "sgd": lambda p: torch.optim.SGD(p, lr=3e-3, weight_decay=1e-2, momentum=0.9, nesterov=True),
}


@pytest.mark.parametrize("first", TORCH)
@pytest.mark.parametrize("second", TORCH)
def test_each_stage_is_torchs_own_optimizer_step_by_step(first, second):
    staged, plain = toy(), toy()
    ours = StagedOptimizer(staged.parameters(), Stage(first, 3e-3, weight_decay=1e-2))
    for number, name in enumerate((first, second)):
        if number:
            ours.begin(1, Stage(name, 3e-3, weight_decay=1e-2))
        theirs = TORCH[name](plain.parameters())  # a new one: it has gathered nothing
        for step in range(12):
            descend(staged, ours, 1, seed=step)
            descend(plain, theirs, 1, seed=step)
            torch.testing.assert_close(weights(staged), weights(plain), rtol=0, atol=1e-7)


def test_a_state_dict_restores_the_stage_and_goes_on_identically():
    model = toy()
    optimizer = StagedOptimizer(model.parameters(), Stage("adam", 1e-2))
    descend(model, optimizer, 5, seed=1)
    optimizer.begin(1, Stage("sgd", 3e-2, weight_decay=1e-3))
    descend(model, optimizer, 5, seed=2)
    saved = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, saved)
    descend(model, optimizer, 5, seed=3)

    saved.seek(0)
    stored = torch.load(saved, weights_only=True)
    other = toy(seed=9)
    other.load_state_dict(stored["model"])
    restored = StagedOptimizer(other.parameters(), Stage("adam", 1e-2))
    restored.load_state_dict(stored["optimizer"])
    assert restored.stage == 1
    descend(other, restored, 5, seed=3)
    assert torch.equal(weights(other), weights(model))


def test_parameters_that_are_not_to_be_decayed_are_decayed_in_no_stage():
    free, bound = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = StagedOptimizer(
        [{"params": [free], "undecayed": True}, {"params": [bound]}], Stage("sgd", 0.1, weight_decay=0.5)
    )
    for number in (0, 1):
        if number:
            optimizer.begin(1, Stage("adam", 0.1, weight_decay=0.5))
        before = bound.detach().clone()
        free.grad, bound.grad = torch.zeros(3), torch.zeros(3)
        optimizer.step()
        assert torch.equal(free.detach(), torch.ones(3)) and (bound < before).all()


def test_the_tutorials_schedule_is_the_published_one():
    schedule = OptimizerSchedule("tutorial")
    assert schedule.stages == TUTORIAL and schedule.first_epochs() == [0, 80, 100, 120]
    assert [schedule.stage_at(epoch) for epoch in (0, 79.99, 80, 99, 100, 119.5, 120, 199)] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [(stage.optimizer, stage.learning_rate) for stage in TUTORIAL] == [
        ("adam", 1e-4),
        ("sgd", 1e-3),
        ("sgd", 1e-4),
        ("sgd", 1e-5),
    ]
    assert all(stage.weight_decay == 1e-4 and stage.momentum == 0.9 and stage.nesterov for stage in TUTORIAL)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("tutorail", "allowed: 'tutorial', or a list"),
        ({"optimizer": "adam"}, "or a list of stages"),
        ([], "has no stage"),
        ([{"optimizer": "adam", "learning_rat": 1}], "no 'learning_rat'; did you mean 'learning_rate'"),
        ([{"optimizer": "adam"}], "lacks learning_rate"),
        ([{"optimizer": "adma", "learning_rate": 1}], "is 'adma'; allowed: 'adam', 'adamw', 'sgd'"),
        ([{"optimizer": "sgd", "learning_rate": "1e-3"}], "`learning_rate` of a stage is '1e-3'"),
        ([{"optimizer": "sgd", "learning_rate": 1, "epochs": 0}], "`epochs` of a stage is 0"),
        ([{"optimizer": "sgd", "learning_rate": 1, "momentum": 0}], "`nesterov` wants `momentum`"),
        ([{"optimizer": "adam", "learning_rate": 1, "betas": [0.9]}], "`betas` of a stage"),
        ([{"optimizer": "adam", "learning_rate": 1}, {"optimizer": "sgd", "learning_rate": 1}], "Stage 1 .* no `epo"),
    ],
)
def test_what_is_no_schedule_is_refused(schedule, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        stages_of(schedule)
    with pytest.raises(ValueError, match=message):
        MathRockTrainingArguments(tmp_path, optimizer_schedule=schedule)


class Watcher(TrainerCallback):
    """Notes the weights and the optimizer as each epoch finds them; it stands behind the schedule."""

    def __init__(self):
        self.begun, self.best = {}, {}

    def on_epoch_begin(self, args, state, control, **kwargs):
        epoch = round(state.epoch or 0)
        model, optimizer = kwargs["model"], kwargs["optimizer"]
        self.begun[epoch] = {name: value.clone() for name, value in model.state_dict().items()}
        self.begun[epoch, "state"] = len(optimizer.state)
        if state.best_model_checkpoint:
            self.best[epoch] = load_file(f"{state.best_model_checkpoint}/model.safetensors")


# The lowest so far after epochs 1, 2 and 4: what stages 2 and 3 begin from, and what is left in the end.
SCRIPT = [1.0, 0.5, 0.8, 0.4, 0.7, 0.6, 0.9]


def scripted(values):
    left = iter(values)
    return lambda prediction: {"script": next(left)}


def run_stock(folder, script=SCRIPT, resume=None, **changes):
    schedule, watcher = OptimizerSchedule(STAGES), Watcher()
    model = toy()
    args = TrainingArguments(
        str(folder),
        **{
            **SCHEDULE_ARGUMENTS,
            "metric_for_best_model": "script",
            "num_train_epochs": 7,
            "per_device_train_batch_size": 8,
            "save_total_limit": 2,
            "logging_strategy": "epoch",
            "use_cpu": True,
            "disable_tqdm": True,
            "report_to": "none",
            **changes,
        },
    )
    trainer = Trainer(
        model,
        args,
        train_dataset=rows(),
        eval_dataset=rows(8),
        compute_metrics=scripted(script),
        optimizers=schedule.optimizers(model),
        callbacks=[schedule, watcher],
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer, watcher


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_each_stage_begins_from_the_best_weights_and_so_ends_the_last(tmp_path):
    trainer, watcher = run_stock(tmp_path)
    for epoch in (3, 5):
        assert same(watcher.begun[epoch], watcher.best[epoch])
        assert watcher.begun[epoch, "state"] == 0  # nothing gathered is taken along
    for epoch in (1, 2, 4, 6):  # and within a stage training simply goes on
        assert watcher.begun[epoch, "state"] > 0
    assert not same(watcher.begun[4], watcher.best[4]) or SCRIPT[3] == min(SCRIPT[:4])
    assert not same(watcher.begun[6], watcher.best[6])
    # Stage 2 begins after epoch 3 from the weights of epoch 2, stage 3 after epoch 5 from those of epoch 4.
    assert same(watcher.begun[3], watcher.begun[2]) and same(watcher.begun[5], watcher.begun[4])
    assert same(trainer.model.state_dict(), watcher.begun[4])
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    assert rates == [3e-2] * 3 + [2e-2] * 2 + [1e-2] * 2


def test_the_best_weights_stay_on_disk_until_the_end(tmp_path):
    trainer, _ = run_stock(tmp_path, script=[0.1, *SCRIPT[1:]], save_total_limit=1)
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-3")
    assert same(trainer.model.state_dict(), load_file(tmp_path / "checkpoint-3" / "model.safetensors"))


def test_a_callback_without_its_optimizer_or_without_evaluations_says_what_is_missing(tmp_path):
    arguments = {"use_cpu": True, "report_to": "none", "disable_tqdm": True}
    args = TrainingArguments(str(tmp_path), **SCHEDULE_ARGUMENTS, **arguments)
    data = {"train_dataset": rows(), "eval_dataset": rows(8)}
    with pytest.raises(ValueError, match="knows no stages: pass optimizers="):
        Trainer(toy(), args, callbacks=[OptimizerSchedule(STAGES)], **data).train()
    model, schedule = toy(), OptimizerSchedule(STAGES)
    args = TrainingArguments(str(tmp_path), **arguments)
    with pytest.raises(ValueError, match="SCHEDULE_ARGUMENTS"):
        Trainer(model, args, callbacks=[schedule], optimizers=schedule.optimizers(model), **data).train()


# In the package's own trainer, by an argument, and with its checkpoints.


def tagger(seed=0):
    from hf_mathrock import MusicTaggingTransformerConfig, MusicTaggingTransformerForAudioClassification

    torch.manual_seed(seed)
    return MusicTaggingTransformerForAudioClassification(
        MusicTaggingTransformerConfig(
            tasks=TASKS,
            sampling_rate=8_000,
            input_samples=4_000,
            feature={"n_fft": 256, "hop_length": 128, "num_mel_bins": 16},
            conv_channels=4,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
        )
    )


def sounds(num, seed, contrary=False):
    """Tones; with `contrary` labels that say the opposite, so that the better a model learns, the worse it does."""
    random = np.random.default_rng(seed)
    made = []
    for index in range(num):
        loud, high = index % 2, index // 2 % 2
        time = np.arange(4_000) / 8_000
        wave = (0.4 if loud else 0.02) * np.sin(2 * np.pi * (2_000 if high else 300) * time + random.uniform(0, 6))
        labels = {"tag": np.abs(np.array([loud, high], dtype=np.float32) - contrary)}
        made.append(
            {"input_values": (wave + 0.01 * random.standard_normal(4_000)).astype(np.float32), "labels": labels}
        )
    return made


STAGE_LIST = [
    {"optimizer": "adam", "learning_rate": 3.0e-2, "epochs": 2, "weight_decay": 1.0e-4},
    {"optimizer": "sgd", "learning_rate": 5.0e-3, "epochs": 2},
    {"optimizer": "sgd", "learning_rate": 1.0e-3},
]


def run_own(folder, resume=None, stop_after=None, **changes):
    from hf_mathrock import MusicTaggingFeatureExtractor

    args = MathRockTrainingArguments(
        str(folder),
        **{
            "optimizer_schedule": STAGE_LIST,
            "num_train_epochs": 5,
            "per_device_train_batch_size": 4,
            "logging_strategy": "epoch",
            "max_grad_norm": 0.0,
            "use_cpu": True,
            "disable_tqdm": True,
            **changes,
        },
    )
    model = tagger()
    trainer = MathRockTrainer(
        model,
        args,
        train_dataset=sounds(12, 0),
        eval_dataset=sounds(4, 1, contrary=True),
        processing_class=MusicTaggingFeatureExtractor.for_config(model.config),
    )
    if stop_after is not None:

        class Stop(TrainerCallback):
            def on_save(self, args, state, control, **kwargs):
                if state.global_step >= stop_after:
                    raise KeyboardInterrupt

        trainer.add_callback(Stop())
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return run_own(tmp_path_factory.mktemp("whole") / "run")


def test_the_argument_trains_by_the_schedule_and_keeps_the_lowest_loss(uninterrupted):
    history = uninterrupted.state.log_history
    rates = [entry["learning_rate"] for entry in history if "learning_rate" in entry]
    assert rates == [3e-2] * 2 + [5e-3] * 2 + [1e-3]
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    assert len(losses) == 5 and losses[1] > min(losses[:2])  # or it would not matter which model is gone back to
    assert uninterrupted.evaluate()["eval_loss"] == pytest.approx(min(losses), abs=1e-6)
    assert uninterrupted.args.metric_for_best_model == "loss" and not uninterrupted.args.greater_is_better


# Nine steps end the first epoch of the second stage; six are where it begins; fourteen lie within the last one.
@pytest.mark.parametrize(("stop_after", "saving"), [(9, {}), (6, {}), (14, {"save_steps": 2})])
def test_a_run_stopped_in_a_later_stage_goes_on_to_the_same_bits(stop_after, saving, uninterrupted, tmp_path):
    if saving:
        saving = {**saving, "save_strategy": "steps", "eval_strategy": "steps", "eval_steps": 2}
        whole = run_own(tmp_path / "whole", **saving)
    else:
        whole = uninterrupted
    with pytest.raises(KeyboardInterrupt):
        run_own(tmp_path / "run", stop_after=stop_after, **saving)
    newest = max(int(path.name.split("-")[1]) for path in (tmp_path / "run").glob("checkpoint-*"))
    assert newest == stop_after
    resumed = run_own(tmp_path / "run", resume=True, **saving)
    assert same(resumed.model.state_dict(), whole.model.state_dict())
    keys = ("learning_rate", "eval_loss", "epoch")
    told = [
        [{key: entry.get(key) for key in keys} for entry in run.state.log_history[: len(resumed.state.log_history) - 1]]
        for run in (resumed, whole)
    ]
    assert told[0] == told[1]


def test_a_checkpoint_without_its_best_model_is_not_gone_on_from_silently(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_own(tmp_path, stop_after=6)
    state = json.loads((tmp_path / "checkpoint-6" / "trainer_state.json").read_text())
    best = state["best_model_checkpoint"]
    if best.endswith("checkpoint-6"):
        pytest.fail("this seed's best model is its last; choose another")
    shutil.rmtree(best)
    with pytest.raises(ValueError, match="begins from the best model, and no evaluation has found one"):
        run_own(tmp_path, resume=True)


def test_a_second_training_begins_with_the_first_stage_again(uninterrupted, tmp_path):
    trainer = run_own(tmp_path, num_train_epochs=3)
    trainer.train()
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    assert rates == [3e-2] * 2 + [5e-3]


def test_a_schedule_longer_than_training_says_so(tmp_path, caplog):
    run_own(tmp_path, num_train_epochs=1)
    assert "2 of the 3 stages never begin" in caplog.text
