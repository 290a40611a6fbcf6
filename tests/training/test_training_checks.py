# SPDX-License-Identifier: Apache-2.0
"""Data and settings that cannot be trained with: one clear line, and nothing lost."""

import copy
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hf_mathrock import MathRockFeatureExtractor, MathRockTrainer
from hf_mathrock.data.labels import note_label_tasks
from hf_mathrock.library.tagging import describe
from hf_mathrock.models.objectives import UNKNOWN
from hf_mathrock.training.arguments import MathRockTrainingArguments
from hf_mathrock.training.checks import check_dataset, check_task_weights, check_training_labels
from hf_mathrock.training.divergence import NonFiniteLossError, non_finite_loss

TASKS = [
    {"name": "emotion", "type": "multi_label", "labels": ["joy", "grief", "awe"]},
    {"name": "tempo", "type": "single_label", "labels": ["slow", "moderate", "fast"]},
    {"name": "vibe", "type": "single_label", "labels": ["calm", "wild"]},
]


def encoded(tempo, emotion=None, vibe=None):
    """Encoded rows; what is not given is unknown."""
    num = len(tempo)
    emotion = emotion or [[UNKNOWN] * 3] * num
    vibe = vibe or [UNKNOWN] * num
    keys = ("emotion", "tempo", "vibe")
    return [dict(zip(keys, values, strict=True)) for values in zip(emotion, tempo, vibe, strict=True)]


def test_labels_are_counted():
    given = encoded([0, 2, 2, UNKNOWN], [[1.0, 0.0, 0.0], [1, UNKNOWN, 1], [UNKNOWN] * 3, [0, 1, 0]])
    counts = check_training_labels(TASKS, given)
    assert counts["tempo"].known == 3 and counts["tempo"].positives == {"slow": 1, "moderate": 0, "fast": 2}
    assert counts["tempo"].negatives == {"slow": 2, "moderate": 3, "fast": 1}
    assert counts["emotion"].known == 3
    assert counts["emotion"].positives == {"joy": 2, "grief": 1, "awe": 1}
    assert counts["emotion"].negatives == {"joy": 1, "grief": 1, "awe": 2}
    assert counts["vibe"].known == 0


def test_labels_in_order_pass_in_silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_training_labels(TASKS, encoded([0, 1], [[1, 0, 1], [0, 1, 0]], [1, 0]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "training set is empty"),
        (encoded([UNKNOWN] * 5), r"None of the 5 training rows has a known label of any task \(emotion, tempo, vibe\)"),
        (encoded([1, 1, UNKNOWN]), "all 2 rows with a known 'tempo' have moderate"),
        (encoded([UNKNOWN] * 2, [[0, 0, 0]] * 2), "all 2 rows with a known 'emotion' have none of its labels"),
        (encoded([1, 1], vibe=[0, 0]), "'tempo' have moderate; all 2 rows with a known 'vibe' have calm"),
        (encoded([0, 3]), "Row 1 of the .* has 3 as an encoded label of 'tempo'; allowed are 0 to 2, or -100"),
        (encoded([0, 1], [[0, 1, 0], [0, float("nan"), 0]]), "Row 1 .* has nan as an encoded label of 'emotion'"),
    ],
)
def test_labels_that_teach_nothing_are_refused(given, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_training_labels(TASKS, given)
    assert "\n" not in str(caught.value)


def test_a_head_that_can_learn_nothing_is_named():
    with pytest.warns(UserWarning, match="The head 'vibe' can learn nothing: all 3 rows with a known 'vibe' have wild"):
        check_training_labels(TASKS, encoded([0, 1, 2], vibe=[1, 1, 1]))


def test_labels_without_a_positive_row_are_listed_once():
    with pytest.warns(UserWarning) as caught:
        check_training_labels(TASKS, encoded([0, 1], [[1, 0, 0], [0, UNKNOWN, 0]]))
    assert len(caught) == 1 and "(emotion: grief, awe)" in str(caught[0].message)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"temp": 2.0}, "has a weight for 'temp'; did you mean 'tempo'?"),
        ({"tempo": -1}, "gives 'tempo' the weight -1"),
        ({"tempo": float("nan")}, "gives 'tempo' the weight nan"),
    ],
)
def test_task_weights_that_would_be_passed_over_are_refused(weights, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        check_task_weights(TASKS, weights)
    check_task_weights(TASKS, {"tempo": 0.5, "vibe": 0})


def rows(num=8):
    random = np.random.default_rng(0)
    return [
        {
            "song": f"{index}.wav",
            "audio": {"array": random.standard_normal(8_000).astype(np.float32) / 8, "sampling_rate": 16_000},
            "tempo": ("slow", "moderate", "fast")[index % 3],
            "emotion": ["joy"] if index % 2 else [],
        }
        for index in range(num)
    ]


def trainer(model, folder, data=None, **settings):
    defaults = {"max_steps": 3, "per_device_train_batch_size": 4, "save_strategy": "no", "disable_tqdm": True}
    return MathRockTrainer(
        model=copy.deepcopy(model).train(),
        args=MathRockTrainingArguments(str(folder), **{"use_cpu": True, **defaults, **settings}),
        train_dataset=rows() if data is None else data,
        processing_class=MathRockFeatureExtractor(),
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [([], "training set is empty"), ([{"audio": row["audio"]} for row in rows(3)], "None of the 3 training rows")],
)
def test_the_trainer_refuses_them_before_the_first_step(data, message, tiny_model, tmp_path):
    with pytest.raises(ValueError, match=message):
        trainer(tiny_model, tmp_path, data)


def test_half_precision_without_a_gpu_is_one_clear_line(tiny_model, tmp_path):
    with pytest.raises(ValueError, match="`fp16` needs a GPU, and this run is on the CPU"):
        trainer(tiny_model, tmp_path, fp16=True)


@pytest.mark.parametrize("settings", [{"bf16": True}, {"gradient_checkpointing": True}])
def test_a_step_reaches_every_parameter(settings, tiny_model, tmp_path):
    seen = {}
    made = trainer(tiny_model, tmp_path, max_steps=1, class_weights="none", task_weights="learned", **settings)
    made.model.config.wavlm_config.layerdrop = 0.0  # it would skip layers
    # Every task known, and steps of time to mask.
    made.train_dataset = [row | {"vibe": i % 4, "intensity": "low"} for i, row in enumerate(rows(4))]
    made.model.config.wavlm_config.mask_time_prob = 0.5
    step = made.training_step

    def watched(*args, **kwargs):
        loss = step(*args, **kwargs)
        named = [*made.model.named_parameters(), *made.uncertainty.named_parameters()]
        seen.update({name: p.grad is not None and bool(torch.isfinite(p.grad).all()) for name, p in named})
        return loss

    made.training_step = watched
    made.train()
    assert [name for name, reached in seen.items() if not reached] == []
    assert {p.dtype for p in made.model.parameters()} == {torch.float32}


def test_a_loss_that_is_no_number_stops_before_the_update_and_names_the_file(tiny_model, tmp_path):
    made = trainer(tiny_model, tmp_path, save_strategy="steps", save_steps=1, max_steps=4)
    collate, heard = made.data_collator, []

    class Broken:
        def __call__(self, given):
            batch = collate(given)
            heard.extend(batch["files"])
            if len(heard) > 8:  # the third step
                batch["input_values"][2, 5] = float("nan")
            return batch

    made.data_collator = Broken()
    weights = {}
    save = made._save_checkpoint
    made._save_checkpoint = lambda *args: (weights.update(copy.deepcopy(made.model.state_dict())), save(*args))
    with pytest.raises(NonFiniteLossError) as caught:
        made.train()
    message = str(caught.value)
    assert "The loss of training step 3 is not finite" in message and "\n" not in message
    assert "that of 'tempo' is nan" in message
    assert "the inputs were not, in `input_values`" in message
    assert f"Files at fault: {heard[10]}." in message
    # The weights are those of the last checkpoint, which is whole. (Batch norm has heard the batch.)
    now = dict(made.model.named_parameters())
    assert all(torch.equal(now[name], weights[name]) for name in now)
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2"]
    # As the command line says it, with exit code 1 and without "this looks like a defect".
    assert isinstance(caught.value, ValueError) and describe(caught.value) == message


def test_a_gradient_that_is_no_number_stops_too(tiny_model, tmp_path):
    made = trainer(tiny_model, tmp_path)
    made.model.heads["tempo"][1].weight.register_hook(lambda gradient: gradient / 0)
    before = copy.deepcopy(made.model.heads["tempo"][1].weight.detach())
    with pytest.raises(NonFiniteLossError, match=r"gradient of training step 1 .* in heads.tempo.1.weight,.*\.wav"):
        made.train()
    assert torch.equal(before, made.model.heads["tempo"][1].weight)


def diagnosis(**changed):
    """The message for a batch of three rows in which something is not finite."""
    given = {
        "model": torch.nn.Linear(2, 3),
        "inputs": {"input_values": torch.zeros(3, 9), "attention_mask": torch.ones(3, 9, dtype=torch.int64)},
        "labels": {"emotion": torch.zeros(3, 3), "tempo": torch.tensor([0, 1, 2])},
        "task_logits": {"emotion": torch.zeros(3, 3), "tempo": torch.zeros(3, 3)},
        "task_losses": {"emotion": torch.tensor(float("inf")), "tempo": torch.tensor(0.5)},
        "step": 7,
        "files": ["a.wav", "b.wav", "c.wav"],
    }
    return str(non_finite_loss(**(given | changed)))


def with_bad_row(shape, row, value=float("nan")):
    values = torch.zeros(shape)
    values[row] = value
    return values


def test_the_diagnosis_names_the_first_thing_that_was_not_finite():
    bad_logits = {"emotion": with_bad_row((3, 3), 1), "tempo": torch.zeros(3, 3)}
    bad_inputs = {"input_values": with_bad_row((3, 9), 2, float("inf"))}
    ruined = torch.nn.Linear(2, 3)
    torch.nn.init.constant_(ruined.bias, float("nan"))
    assert "that of 'emotion' is inf" in diagnosis()
    assert "so it overflowed. Files of the batch: a.wav, b.wav, c.wav." in diagnosis()
    assert "the logits of 'emotion' were not" in diagnosis(task_logits=bad_logits)
    assert "Files at fault: b.wav." in diagnosis(task_logits=bad_logits)
    assert "Files at fault: c.wav." in diagnosis(task_logits=bad_logits, inputs=bad_inputs)
    assert "the weights were not, in bias" in diagnosis(task_logits=bad_logits, model=ruined)
    bad_labels = {"emotion": with_bad_row((3, 3), 0), "tempo": torch.tensor([0, 1, 2])}
    assert "the labels of 'emotion' were not. Files at fault: a.wav." in diagnosis(labels=bad_labels)
    bad_weights = {"tempo": torch.tensor([1.0, float("inf"), 1.0])}
    assert "the class weights of 'tempo' were not" in diagnosis(class_weights=bad_weights)
    assert "Which files the batch holds is unknown" in diagnosis(files=None)


def test_many_files_are_not_all_listed():
    files = [f"{index}.wav" for index in range(20)]
    assert "0.wav, 1.wav" in diagnosis(files=files) and "7.wav and 12 more." in diagnosis(files=files)


class Split(list):
    """Rows that know what their labels mean, as those of `load_labelled_audio` do."""

    def __init__(self):
        super().__init__()
        self.info = SimpleNamespace(description="")
        note_label_tasks(self, TASKS)


def test_labels_that_mean_something_else_are_refused():
    check_dataset(TASKS, Split(), "train_dataset")
    check_dataset(TASKS[1:], Split(), "train_dataset")  # more than the model has
    check_dataset(TASKS, [], "train_dataset")  # nobody knows
    for changes, message in (
        ({"labels": ["fast", "moderate", "slow"]}, "the labels of 'tempo' stand in another order"),
        ({"labels": ["slow", "fast", "hasty"]}, "labels of the data only: moderate; of the model only: hasty"),
        ({"type": "multi_label"}, "'tempo' is single_label in the data and multi_label in the model"),
        ({"name": "pace"}, "the data have no task 'pace'"),
    ):
        tasks = [TASKS[0], {**TASKS[1], **changes}]
        with pytest.raises(ValueError, match=f"`eval_dataset` .*{message}.*load_labelled_audio"):
            check_dataset(tasks, Split(), "eval_dataset")


def test_what_is_no_single_split_is_refused():
    with pytest.raises(ValueError, match="holds all splits .train, test.; pass one, such as songs.'train'"):
        check_dataset(TASKS, {"train": [], "test": []}, "train_dataset")
    with pytest.raises(ValueError, match="`train_dataset` is a path"):
        check_dataset(TASKS, "songs.csv", "train_dataset")


def test_stock_arguments_are_refused_by_name(tiny_model):
    from transformers import TrainingArguments

    with pytest.raises(ValueError, match="`args` is a TrainingArguments; MathRockTrainer takes MathRockTrainingArg"):
        MathRockTrainer(tiny_model, TrainingArguments("out"))
