# SPDX-License-Identifier: Apache-2.0
"""Contrastive training of Myna on one process."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from hf_mathrock.data.crops import CropBatches, FixedCrops
from hf_mathrock.data.mel_cache import write_mel_cache
from hf_mathrock.models.contrastive import info_nce
from hf_mathrock.training import distributed, gathering
from hf_mathrock.training.checkpoints import newest_verified
from hf_mathrock.training.divergence import NonFiniteLossError
from hf_mathrock.training.gradient_cache import cached_rows
from hf_mathrock.training.myna_arguments import MynaTrainingArguments
from hf_mathrock.training.myna_trainer import OBJECTIVE_FILE, MynaTrainer
from noise_tracks import noise_tracks
from tiny_myna import tiny_myna_extractor, tiny_myna_for_pretraining

EVERYTHING = {
    "loss": "sogclr",
    "draws_per_crop": 2,
    "kmeans_weight": 0.1,
    "kmeans_clusters": 3,
    "convex_weight": 0.1,
    "convex_weights": "learned",
    "width_weight": 0.01,
    "term_ramp": [0.0, 0.5],
}


class Tracks:
    """Each track is a pattern of its own; rows hold two noisy looks at it, drawn anew at every reading."""

    def __init__(self, num=16, num_frames=(64, 96), tracks=None):
        self.patterns = np.random.default_rng(0).standard_normal((num, 128), dtype=np.float32)
        self.num_frames, self.tracks = num_frames, tracks or list(range(num))

    def __len__(self):
        return len(self.patterns)

    def __getitem__(self, index):
        def crop(num_frames):
            return self.patterns[index] + 0.5 * np.random.standard_normal((num_frames, 128)).astype(np.float32)

        return crop(self.num_frames[0]), crop(self.num_frames[1]), self.tracks[index]


def collate(rows, keep_ratio=0.3):
    first, other, ids = zip(*rows, strict=True)
    return {
        "input_features": torch.from_numpy(np.stack(first)),
        "other_features": torch.from_numpy(np.stack(other)),
        "track_ids": torch.tensor(ids),
        "keep_ratio": keep_ratio,
    }


def trainer(folder, model=None, dataset=None, collator=collate, callbacks=None, **settings):
    arguments = {
        "max_steps": 3,
        "per_device_train_batch_size": 8,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "learning_rate": 1e-3,
    }
    return MynaTrainer(
        model=tiny_myna_for_pretraining() if model is None else model,
        args=MynaTrainingArguments(str(folder), **arguments | settings),
        train_dataset=Tracks() if dataset is None else dataset,
        eval_dataset=Tracks(),
        data_collator=collator,
        callbacks=callbacks,
    )


def weights(made):
    return {name: tensor.clone() for name, tensor in made.model.state_dict().items()}


def gradients(made, batch):
    """Loss and gradients of one batch, by the trainer's own step."""
    torch.manual_seed(5)
    made.accelerator.gradient_state._set_sync_gradients(True)
    made.current_gradient_accumulation_steps = 1
    loss = made.training_step(made.model, batch)
    found = {name: p.grad.clone() for name, p in made.model.named_parameters() if p.grad is not None}
    made.model.zero_grad()
    return loss, found, torch.rand(3)


@pytest.mark.parametrize("settings", [{}, {"loss": "sogclr"}, {**EVERYTHING, "term_ramp": [0.0, 0.0]}], ids=str)
@pytest.mark.parametrize("rows", [1, 3, 8])
def test_micro_batches_give_the_gradients_of_the_whole_batch_with_the_same_patches(rows, settings, tmp_path):
    model, batch = tiny_myna_for_pretraining().double(), collate([Tracks()[i] for i in range(8)], keep_ratio=0.2)
    whole = gradients(trainer(tmp_path, copy.deepcopy(model), **settings), batch)
    parts = gradients(trainer(tmp_path, copy.deepcopy(model), micro_batch_size=rows, **settings), batch)
    torch.testing.assert_close(parts[0], whole[0], rtol=1e-6, atol=0)
    assert set(parts[1]) == set(whole[1]) == {name for name, _ in model.named_parameters()}
    for name, gradient in whole[1].items():
        assert (parts[1][name] - gradient).norm() <= 1e-6 * gradient.norm().clamp(min=1e-6), name
    # The random numbers afterwards are the same too, so the next batch draws the same patches.
    assert torch.equal(parts[2], whole[2])


def test_padded_crops_go_through_micro_batches_too(tmp_path):
    batch = collate([Tracks()[i] for i in range(4)], keep_ratio=1.0)
    batch["attention_mask"] = (torch.arange(64) < torch.tensor([64, 32, 64, 48])[:, None]).long()
    model = tiny_myna_for_pretraining().double()
    whole = gradients(trainer(tmp_path, copy.deepcopy(model)), batch)
    parts = gradients(trainer(tmp_path, copy.deepcopy(model), micro_batch_size=3), batch)
    for name, gradient in whole[1].items():
        torch.testing.assert_close(parts[1][name], gradient, rtol=1e-6, atol=1e-12)


def test_cached_rows_hold_no_more_than_one_pass_at_a_time():
    class Held(torch.autograd.Function):
        now = most = 0

        @staticmethod
        def forward(ctx, rows):
            ctx.counted = True
            if torch.is_grad_enabled() or rows.requires_grad:
                Held.now += 1
                Held.most = max(Held.most, Held.now)
            return rows * 2

        @staticmethod
        def backward(ctx, gradient):
            Held.now -= 1
            return gradient * 2

    weight = torch.ones(4, 3, requires_grad=True)
    passes = [lambda part=part: Held.apply(weight[part : part + 1]) for part in range(4)]
    rows = cached_rows(passes)
    Held.now = Held.most = 0  # the first passes keep nothing; only `requires_grad` of a leaf says otherwise
    (rows.square().sum()).backward()
    assert Held.most == 1 and torch.equal(weight.grad, torch.full((4, 3), 8.0))


def test_the_loss_is_that_of_the_model_itself(tmp_path):
    batch = collate([Tracks()[i] for i in range(6)], keep_ratio=1.0)
    made = trainer(tmp_path)
    assert made.compute_loss(made.model, batch).item() == pytest.approx(made.model(**batch).loss.item())
    one_way = trainer(tmp_path, one_way=True, temperature=0.5)
    projections = made.model(**batch)
    expected = info_nce(projections.projections, projections.other_projections, 0.5, symmetric=False)
    assert one_way.compute_loss(made.model, batch).item() == pytest.approx(expected.item())


def test_copies_of_a_track_in_a_batch_are_no_negatives(tmp_path):
    made, rows = trainer(tmp_path), [Tracks()[i] for i in range(3)]
    copies = collate([*rows, (*rows[0][:2], 0)], keep_ratio=1.0)
    differing = copies | {"track_ids": torch.arange(4)}
    losses = [made.compute_loss(made.model, batch).item() for batch in (copies, differing)]
    assert losses[0] < losses[1] - 0.1


def test_training_makes_crops_find_each_other(tmp_path):
    made = trainer(tmp_path, max_steps=40, learning_rate=2e-3, eval_strategy="no", logging_steps=40)
    before = made.evaluate()
    assert before["eval_retrieval_chance"] == pytest.approx(1 / 16) and before["eval_num_rows"] == 16
    made.train()
    after = made.evaluate()
    assert after["eval_loss"] < before["eval_loss"] / 2
    assert after["eval_retrieval_top1"] > max(0.8, before["eval_retrieval_top1"])


def test_every_evaluation_hears_the_same_and_all_and_leaves_the_training_as_it_is(tmp_path):
    made = trainer(tmp_path, per_device_eval_batch_size=5)
    names = ("eval_loss", "eval_retrieval_top1", "eval_num_rows")
    measured = [[made.evaluate()[name] for name in names] for _ in range(2)]
    assert measured[0] == measured[1] and measured[0][2] == 16
    ends = []
    for strategy in ("no", "steps"):
        made = trainer(tmp_path, eval_strategy=strategy, eval_steps=1)
        made.train()
        ends.append(weights(made))
    for name, tensor in ends[0].items():
        assert torch.equal(tensor, ends[1][name]), name


def test_the_evaluated_loss_does_not_depend_on_the_batches(tmp_path):
    fixed = [Tracks()[i] for i in range(16)]
    found = []
    for size in (3, 16):
        made = trainer(tmp_path, per_device_eval_batch_size=size)
        found.append(made.evaluate(fixed)["eval_loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize("settings", [{}, EVERYTHING | {"micro_batch_size": 3}], ids=["plain", "everything"])
def test_a_resumed_run_ends_with_the_same_bits(settings, tmp_path):
    settings = settings | {"max_steps": 5, "save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps"}
    settings |= {"eval_steps": 3}
    whole = trainer(tmp_path / "whole", **settings)
    whole.train()

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "run", callbacks=[Stop()], **settings).train()
    folder, _ = newest_verified(tmp_path / "run")
    assert folder.name == "checkpoint-2" and (folder / OBJECTIVE_FILE).exists() == ("loss" in settings)
    torch.rand(7)
    resumed = trainer(tmp_path / "run", **settings)
    resumed.train(resume_from_checkpoint=True)
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    for name, tensor in whole.objective.state_dict().items():
        assert torch.equal(tensor, resumed.objective.state_dict()[name]), name
    logs = [[entry.get("loss") for entry in made.state.log_history] for made in (whole, resumed)]
    assert logs[0] == logs[1] and len(logs[0]) > 5


def test_a_checkpoint_of_another_loss_is_refused(tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 2}
    trainer(tmp_path, loss="sogclr", **saving).train()
    with pytest.raises(ValueError, match=r"remembers sogclr.*needs nothing: resume it with"):
        trainer(tmp_path, max_steps=5, **saving).train(resume_from_checkpoint=True)


def test_the_learning_rate_follows_the_batch_and_the_cosine(tmp_path):
    made = trainer(tmp_path, learning_rate=None, gradient_accumulation_steps=2, max_steps=40)
    assert made.args.learning_rate == pytest.approx(5e-4 * 16 / 1024)
    made.create_optimizer_and_scheduler(40)
    rates = []
    for _ in range(41):
        rates.append(made.optimizer.param_groups[0]["lr"])
        made.optimizer.step()
        made.lr_scheduler.step()
    assert rates.index(max(rates)) == 2 and rates[2] == pytest.approx(made.args.learning_rate)
    assert rates[21] == pytest.approx(made.args.learning_rate / 2) and rates[40] == pytest.approx(0, abs=1e-12)
    assert made.optimizer.defaults["betas"] == (0.9, 0.95)
    assert made.args.max_grad_norm == 1.0


@pytest.mark.parametrize("changes", [{}, {"position_embedding": "alibi_1d", "slopes": "learned"}])
def test_matrices_are_decayed_and_nothing_else(changes, tmp_path):
    made = trainer(tmp_path, tiny_myna_for_pretraining(**changes))
    decayed, rest = (group["params"] for group in made.create_optimizer().param_groups)
    matrices = [module.weight for module in made.model.modules() if isinstance(module, nn.Linear)]
    assert {id(p) for p in decayed} == {id(p) for p in matrices}
    assert [group["weight_decay"] for group in made.optimizer.param_groups] == [0.05, 0.0]
    assert len(decayed) + len(rest) == len(list(made.model.parameters()))


def test_learned_mixtures_are_learned_without_decay(tmp_path):
    made = trainer(tmp_path, **EVERYTHING | {"term_ramp": [0.0, 0.0]})
    made.train()
    assert made.optimizer.param_groups[2]["weight_decay"] == 0
    assert made.objective.convex.scores.abs().sum() > 0


def test_terms_are_logged_and_come_in_late(tmp_path):
    made = trainer(tmp_path, **EVERYTHING | {"max_steps": 10, "term_ramp": [0.4, 0.8]})
    made.train()
    log = [entry for entry in made.state.log_history if "loss" in entry]
    assert ["loss_kmeans" in entry for entry in log] == [False] * 4 + [True] * 6
    assert {"loss_contrastive", "loss_convex", "width"} <= set(log[-1])
    expected = log[-1]["loss_contrastive"] + 0.1 * log[-1]["loss_kmeans"] + 0.1 * log[-1]["loss_convex"]
    assert log[-1]["loss"] == pytest.approx(expected - 0.01 * log[-1]["width"], abs=2e-4)
    plain = trainer(tmp_path)
    plain.train()
    assert not [key for entry in plain.state.log_history for key in entry if key.startswith("loss_")]


def crops(cache, batch_size):
    return CropBatches(cache, tiny_myna_extractor(), [[16, 16]], batch_size, max_seconds=5.0, min_tokens=4)


def test_crops_of_a_library_are_trained_on_and_resumed(tmp_path):
    cache = write_mel_cache(tmp_path / "cache", noise_tracks(9, 6.0), tiny_myna_extractor(), num_workers=0)
    settings = {"max_steps": 5, "per_device_train_batch_size": 4, "micro_batch_size": 3, "loss": "sogclr"}
    settings |= {"save_strategy": "steps", "save_steps": 3}
    fixed = FixedCrops(cache, tiny_myna_extractor(), [[16, 16]], seconds=3.0)

    def made(folder):
        trained = trainer(tmp_path / folder, dataset=crops(cache, 4), collator=None, **settings)
        heard, step = [], trained.training_step
        trained.training_step = lambda model, inputs, *rest: heard.append(inputs) or step(model, inputs, *rest)
        return trained, heard

    whole, heard = made("run")
    whole.train()
    resumed, heard_again = made("run")
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3"))
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    assert len(heard) == 5 and len(heard_again) == 2  # of the second epoch and the third
    for batch, again in zip(heard[3:], heard_again, strict=True):
        assert torch.equal(batch["input_features"], again["input_features"])
    lengths = {(len(batch["input_features"][0]), len(batch["other_features"][0])) for batch in heard}
    assert len(lengths) > 2 and all(0 < batch["keep_ratio"] < 1 for batch in heard)
    assert resumed.evaluate(fixed)["eval_num_rows"] == 9
    with pytest.raises(ValueError, match="makes batches of 3 and the arguments ask for 4"):
        trainer(tmp_path, dataset=crops(cache, 3), collator=None, **settings)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_on_a_gpu_micro_batches_draw_the_same_patches_both_times(precision, tmp_path):
    # All draws of the first passes are made again, or gradients would be of other patches than the loss.
    model, batch = tiny_myna_for_pretraining(), collate([Tracks()[i] for i in range(8)], keep_ratio=0.2)
    made = trainer(tmp_path, model, use_cpu=False, bf16=precision == "bf16", micro_batch_size=3)
    heard = []
    made.model.projector.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0].detach().float()))
    _, found, _ = gradients(made, batch)
    passes = len(heard) // 2
    assert passes == 6 and all(gradient.isfinite().all() for gradient in found.values())
    for first, again in zip(heard[:passes], heard[passes:], strict=True):
        torch.testing.assert_close(first, again, rtol=1e-3, atol=1e-3)


def test_alone_a_process_talks_to_no_other(tmp_path, monkeypatch):
    class Nobody:
        def __getattr__(self, name):
            raise AssertionError(f"torch.distributed.{name} was called")

    monkeypatch.setattr(gathering, "dist", Nobody())
    monkeypatch.setattr(distributed, "num_processes", lambda: 1)
    rows = torch.ones(2, 3, requires_grad=True)
    assert gathering.gather_rows(rows) is rows
    trainer(tmp_path, **EVERYTHING).train()


def test_a_spectrogram_that_is_no_number_stops_the_training_and_is_named(tmp_path):
    def broken(rows):
        batch = collate(rows, keep_ratio=1.0)
        batch["other_features"][batch["track_ids"] == 11] = torch.nan
        return batch

    made = trainer(tmp_path, collator=broken, max_steps=2)
    before = weights(made)
    with pytest.raises(NonFiniteLossError, match=r"1 of 8 tracks \(by number: 11\).*look at these files"):
        made.train()
    steps = made.state.global_step
    assert steps <= 1 and (steps == 1 or all(torch.equal(before[n], t) for n, t in weights(made).items()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "triplet"}, "`loss` is 'triplet'; allowed: 'info_nce', 'sogclr'"),
        ({"loss": "sogclr", "one_way": True}, "`one_way` is of 'info_nce'"),
        ({"convex_weight": 0.1}, "set `draws_per_crop` to 2"),
        ({"width_weight": 0.1}, "Set `kmeans_weight`"),
        ({"term_ramp": [0.5, 0.2]}, "two shares"),
        ({"micro_batch_size": 0}, "at least 1"),
        ({"temperature": 0.0}, "above 0"),
        ({"sogclr_gamma": 1.5}, "at most 1"),
        ({"kmeans_decay": 1.0}, r"in \[0, 1\)"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_arguments_that_make_no_sense_are_refused(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        MynaTrainingArguments(str(tmp_path), use_cpu=True, **settings)


def test_batches_without_negatives_are_refused(tmp_path):
    with pytest.raises(ValueError, match="with none to tell it from"):
        trainer(tmp_path, per_device_train_batch_size=1)
    with pytest.raises(ValueError, match="has 4 tracks, fewer than a batch of 8"):
        trainer(tmp_path, dataset=Tracks(4))
