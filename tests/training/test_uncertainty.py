# SPDX-License-Identifier: Apache-2.0
"""Learned task weights, alone and in the trainer."""

import copy
import json

import numpy as np
import pytest
import torch

from hf_mathrock import MathRockFeatureExtractor, MathRockTrainer
from hf_mathrock.data.collator import MathRockCollator
from hf_mathrock.training.arguments import MathRockTrainingArguments
from hf_mathrock.training.uncertainty import UncertaintyWeights


def rows(num=12):
    random = np.random.default_rng(0)
    return [
        {
            "audio": {"array": random.standard_normal(8_000) / 8, "sampling_rate": 16_000},
            "tempo": ("slow", "moderate", "fast")[index % 3],
            "vibe": index % 4 if index % 2 else None,
        }
        for index in range(num)
    ]


def trainer(model, folder, **settings):
    defaults = {"max_steps": 4, "per_device_train_batch_size": 4, "save_strategy": "no", "disable_tqdm": True}
    settings = {"task_weights": "learned", "use_cpu": True, "learning_rate": 0.01, **defaults, **settings}
    return MathRockTrainer(
        model=copy.deepcopy(model).train(),
        args=MathRockTrainingArguments(str(folder), **settings),
        train_dataset=rows(),
        processing_class=MathRockFeatureExtractor(),
    )


def losses(**values):
    return {name: torch.tensor(value) for name, value in values.items()}


def test_the_weighted_sum_is_the_published_one():
    weights = UncertaintyWeights(["vibe", "tempo"])
    weights.restore({"tempo": -1.0, "vibe": 0.5})
    total = weights(losses(vibe=2.0, tempo=3.0), losses(vibe=7.0, tempo=1.0))
    # L / σ² + log σ, with s = log σ².
    assert total.item() == pytest.approx(2 * np.exp(-0.5) + 0.25 + 3 * np.exp(1.0) - 0.5, rel=1e-6)
    assert weights.weights() == pytest.approx({"vibe": np.exp(-0.5), "tempo": np.e}, rel=1e-6)


def test_at_the_minimum_every_tasks_weight_is_the_inverse_of_twice_its_loss():
    weights = UncertaintyWeights(["vibe", "tempo"])
    optimizer = torch.optim.Adam(weights.parameters(), lr=0.05)
    for _ in range(600):
        optimizer.zero_grad()
        weights(losses(vibe=2.0, tempo=0.1), losses(vibe=1.0, tempo=1.0)).backward()
        optimizer.step()
    assert weights.weights() == pytest.approx({"vibe": 1 / 4, "tempo": 5.0}, rel=1e-3)


def test_a_task_counts_only_in_steps_with_labels_of_it():
    weights = UncertaintyWeights(["vibe", "tempo"])
    total = weights(losses(vibe=2.0, tempo=0.0), losses(vibe=1.0, tempo=0.0))
    total.backward()
    assert total == 2.0
    assert weights.log_variances.grad.tolist() == [-1.5, 0.0]


def test_saved_weights_come_back_exactly_and_of_other_tasks_not_at_all():
    weights, other = UncertaintyWeights(["vibe", "tempo"]), UncertaintyWeights(["tempo", "vibe"])
    torch.nn.init.normal_(weights.log_variances)
    other.restore(json.loads(json.dumps(weights.state())))
    assert other.state() == weights.state()
    with pytest.raises(ValueError, match=r"\['tempo', 'vibe'\], the model has \['tempi'\]"):
        UncertaintyWeights(["tempi"]).restore(weights.state())


def test_training_learns_and_logs_them_and_the_model_never_knows(tiny_model, tmp_path):
    made = trainer(tiny_model, tmp_path, logging_steps=1, task_weights="learned")
    made.train()
    log = [entry for entry in made.state.log_history if "loss" in entry]
    for entry in log:
        assert {name for name in entry if name.startswith("weight_")} == {"weight_tempo", "weight_vibe"}
    assert log[0]["weight_tempo"] != log[-1]["weight_tempo"]
    state = made.uncertainty.state()
    assert log[-1]["weight_vibe"] == pytest.approx(np.exp(-state["vibe"]), abs=1e-4)
    # Nobody gave these labels: their weights must not run away.
    assert state["emotion"] == state["intensity"] == 0.0
    assert made.model.state_dict().keys() == tiny_model.state_dict().keys()
    # Adam's first step is as long as its rate, against the gradient `1 / 2 - L`.
    assert log[0]["weight_tempo"] == pytest.approx(np.exp(-0.01), abs=1e-4)


def test_they_have_a_group_of_their_own_without_decay(tiny_model, tmp_path):
    made = trainer(tiny_model, tmp_path, weight_decay=0.1, backbone_learning_rate=0.001)
    group = made.create_optimizer().param_groups[-1]
    assert group["params"][0] is made.uncertainty.log_variances and len(group["params"]) == 1
    assert group["weight_decay"] == 0.0 and group["lr"] == 0.01


def test_losses_of_evaluations_can_be_compared(tiny_model, tmp_path):
    made = trainer(tiny_model, tmp_path, max_steps=1)
    before = made.evaluate(rows(4))["eval_loss"]
    made.uncertainty.restore(dict.fromkeys(made.uncertainty.task_names, 3.0))
    assert made.evaluate(rows(4))["eval_loss"] == before > 0


def test_a_resumed_run_ends_with_the_same_weights_to_the_bit(tiny_model, tmp_path):
    ends = []
    for run, resume in (("whole", None), ("resumed", str(tmp_path / "whole" / "checkpoint-2"))):
        made = trainer(tiny_model, tmp_path / run, save_strategy="steps", save_steps=2)
        made.train(resume_from_checkpoint=resume)
        ends.append((made.uncertainty.state(), made.model.state_dict()))
    assert ends[0][0] == ends[1][0] and ends[0][0]["tempo"] != 0
    assert all(torch.equal(ends[0][1][name], ends[1][1][name]) for name in ends[0][1])
    saved = json.loads((tmp_path / "whole" / "checkpoint-2" / "task_weights.json").read_text())
    assert set(saved) == set(tiny_model.config.task_names) and saved["tempo"] != ends[0][0]["tempo"]


def test_a_run_with_fixed_weights_is_not_resumed_with_learned_ones_nor_the_other_way_round(tiny_model, tmp_path):
    kinds = {"fixed": {"task_weights": {"tempo": 2.0}}, "learned": {"task_weights": "learned"}}
    for kind, settings in kinds.items():
        saving = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1}
        trainer(tiny_model, tmp_path / kind, **settings, **saving).train()
    for kind, other in (("fixed", "learned"), ("learned", "fixed")):
        with pytest.raises(ValueError, match=f"had {other} task weights, this one has {kind} ones"):
            made = trainer(tiny_model, tmp_path / f"{kind} again", **kinds[kind])
            made.train(resume_from_checkpoint=str(tmp_path / other / "checkpoint-1"))


def test_a_word_for_weights_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="`task_weights` is 'learnt'; allowed: 'learned', or a weight per task"):
        MathRockTrainingArguments("unused", task_weights="learnt")


def test_accumulated_batches_give_them_the_gradient_of_one_large_batch(tiny_model, tmp_path):
    gradients = []
    for size, steps in ((12, 1), (4, 3)):
        made = trainer(
            tiny_model,
            tmp_path / str(size),
            max_steps=1,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            data_seed=0,
        )
        still(made.model)
        made.data_collator = MathRockCollator(MathRockFeatureExtractor(), tiny_model.config.tasks)
        made.train()
        gradients.append(made.uncertainty.log_variances.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
    assert (gradients[0] != 0).tolist() == [False, True, False, True]


def still(model):
    """No chance, and no batch norm that sees how large a batch is."""
    model.config.wavlm_config.layerdrop, model.config.wavlm_config.apply_spec_augment = 0.0, False
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for layer in model.mathrock.wavlm.encoder.layers:
        layer.attention.dropout = 0.0
    norm = model.mathrock.clap_audio.audio_encoder.batch_norm.eval()
    norm.train = lambda mode=True: norm
