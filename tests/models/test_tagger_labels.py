# SPDX-License-Identifier: Apache-2.0
"""Labels of taggers in transformers' own words, and in ours."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForAudioClassification

from tiny_taggers import TAGGERS

_, TINY = TAGGERS["music_tagging_transformer"]


def config(**kwargs):
    return AutoConfig.for_model("music_tagging_transformer", **TINY, **kwargs)


def saved(tmp_path, **kwargs):
    AutoModelForAudioClassification.from_config(config(**kwargs)).save_pretrained(tmp_path)
    return tmp_path


def test_without_a_word_there_are_fifty_tags():
    assert config().num_labels == config().num_outputs == 50
    assert config().tasks[0]["type"] == "multi_label" and config().problem_type == "multi_label_classification"


def test_labels_come_in_transformers_words():
    assert config(num_labels=3).tasks[0]["labels"] == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert config(id2label={1: "b", 0: "a"}).tasks[0]["labels"] == ["a", "b"]
    assert config(id2label={"0": "a", "1": "b"}).label2id == {"a": 0, "b": 1}
    assert config(label2id={"b": 1, "a": 0}).tasks[0]["labels"] == ["a", "b"]
    genres = config(id2label={0: "rock", 1: "folk"}, problem_type="single_label_classification")
    assert genres.tasks[0]["type"] == "single_label"


@pytest.mark.parametrize(
    "words, message",
    [
        ({"id2label": {0: "a", 2: "c"}}, "without a gap"),
        ({"id2label": {0: "a", 1: "a"}}, "more than once"),
        ({"problem_type": "regression"}, "'regression'.*allowed"),
        ({"tasks": []}, "at least one entry"),
    ],
)
def test_labels_that_make_no_sense_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        config(**words)


def test_several_tasks_share_the_head():
    tasks = [
        {"name": "mood", "type": "multi_label", "labels": ["calm", "tense", "glad"]},
        {"name": "tempo", "type": "single_label", "labels": ["slow", "fast"]},
    ]
    model = AutoModelForAudioClassification.from_config(config(tasks=tasks)).eval()
    labels = {"mood": torch.tensor([[1, 0, -100]]), "tempo": torch.tensor([1])}
    output = model(torch.randn(1, 8000), labels=labels)
    assert {name: value.shape[1] for name, value in output.task_logits.items()} == {"mood": 3, "tempo": 2}
    assert torch.equal(output.logits, output.task_logits["mood"])
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(output.logits[:, :2], torch.tensor([[1.0, 0.0]]))
    assert output.task_losses["mood"].item() == pytest.approx(entropy.item(), abs=1e-6)
    assert output.loss.item() == pytest.approx(sum(output.task_losses.values()).item(), abs=1e-6)


def test_a_checkpoint_is_given_other_labels_as_anywhere_in_transformers(tmp_path):
    folder = saved(tmp_path, num_labels=4, thresholds={"tag": [0.2] * 4}, temperatures={"tag": 2.0})
    same = AutoConfig.from_pretrained(folder)
    assert same.thresholds == {"tag": [0.2] * 4}
    other = AutoModelForAudioClassification.from_pretrained(
        folder, id2label={0: "rock", 1: "folk"}, label2id={"rock": 0, "folk": 1}, ignore_mismatched_sizes=True
    )
    assert other.config.tasks[0]["labels"] == ["rock", "folk"] and other.config.tasks[0]["name"] == "tag"
    assert not other.config.thresholds and not other.config.temperatures
    assert other.eval()(torch.randn(1, 8000)).logits.shape == (1, 2)
    single = AutoConfig.from_pretrained(folder, problem_type="single_label_classification")
    assert single.tasks[0]["type"] == "single_label" and single.num_labels == 4


def test_labels_changed_behind_the_back_of_the_tasks_are_noticed():
    changed = config(num_labels=4)
    changed.num_labels = 7
    with pytest.raises(ValueError, match="7 labels and its first task 4.*not afterwards"):
        AutoModelForAudioClassification.from_config(changed)
