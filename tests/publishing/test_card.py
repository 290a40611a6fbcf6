# SPDX-License-Identifier: Apache-2.0
"""The card says what was measured and what the publisher said, and of the rest that nobody did."""

import json
import shutil

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from hf_mathrock.model_card import checked_facts
from hf_mathrock.model_card.card import render_card
from hf_mathrock.model_card.metadata import eval_result_files
from hf_mathrock.model_card.source import read_source

REPO = "ada/shelf"


def card(folder, **kwargs):
    return ModelCard(render_card(read_source(folder, repo=REPO, **kwargs)))


def changed(folder, name, change):
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))


def test_every_figure_of_the_index_was_measured_and_none_is_missing(measured):
    data = card(measured).data
    assert {(r.metric_name, r.metric_value) for r in data.eval_results} == {
        ("emotion: mAP", 0.3121),
        ("vibe: accuracy", 0.725),
        ("tempo: macro-F1", 0.8123),
    }
    one = data.eval_results[0]
    assert (one.task_type, one.dataset_name, one.dataset_type, one.dataset_config, one.dataset_split) == (
        "audio-classification",
        "Forty songs of my shelf",
        "local",
        "my_songs",
        "test",
    )


def test_the_front_matter_tells_the_hub_what_it_is(measured):
    data = card(measured).data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "audio-classification")
    assert {"music", "custom_code", "emotion", "tempo"} <= set(data.tags)
    assert data.base_model == ["microsoft/wavlm-base"]  # the other backbone is nowhere on the Hub
    assert data.get("datasets") is None
    with_data = card(measured, facts={"datasets": ["ada/songs"]}).data
    assert with_data.datasets == ["ada/songs"]


def test_figures_stand_with_intervals_windows_and_their_songs(measured):
    text = card(measured).text
    assert "| tempo: macro-F1 | 0.81 (0.70 to 0.90) | 0.60 |" in text
    assert "| emotion: mAP | 0.31 (0.25 to 0.41) | not measured |" in text
    assert "micro-F1" not in text  # of one label per song it is the accuracy
    assert "40 songs of 12 groups; 2.0 hours" in text and "labels known: vibe 40, tempo 31" in text
    assert "no group is in two splits" in text and "1 file could not be read" in text
    assert "grief, pride (emotion, my songs)" in text


def test_leaks_and_songs_that_were_calibrated_on_are_said_aloud(measured):
    def leak(results):
        results["sets"]["my_songs"]["data"] |= {"trained_on": 3, "leaks": [{"group": "x"}]}
        results["sets"]["my_songs"]["data"]["songs_digest"] = "d0"

    changed(measured, "results.json", leak)
    text = card(measured).text
    assert "**1 group is in more than one split, so figures flatter**" in text
    assert "**3 of them were trained on, so figures flatter**" in text
    assert "fitted on these songs, so figures flatter" in text


def test_the_calibration_and_its_songs_are_described(measured):
    text = card(measured).text
    assert "fitted on 25 songs, and what follows was measured on 15 others" in text
    assert "| tempo | 1.70 | 0.210 | 0.034 | 0.400 | 0.300 |" in text
    assert "neutral 0.60" in text and "measured with other" not in text
    changed(measured, "config.json", lambda config: config.update(thresholds=None))
    assert "measured with other thresholds than the model has now" in card(measured).text


def test_what_nobody_measured_or_said_is_stated_as_such(checkpoint):
    rendered = card(checkpoint[0])
    assert rendered.data.eval_results is None and "model-index" not in rendered.data.to_dict()
    assert "**Nothing was measured.**" in rendered.text
    assert "**not calibrated**" in rendered.text
    assert rendered.text.count("The publisher has not") == 6
    assert rendered.data.license == "unknown"
    assert "0.5 on (the default)" in rendered.text


def test_what_the_publisher_said_is_in_the_card(measured):
    rendered = card(
        measured, facts={"licence": "cc-by-4.0", "citation": "@misc{shelf}", "labels": "My ears {and} yours."}
    )
    assert "My ears {and} yours." in rendered.text  # braces are text
    assert "```bibtex\n@misc{shelf}\n```" in rendered.text
    assert "[cc-by-4.0](https://creativecommons.org/licenses/by/4.0/legalcode)" in rendered.text
    rendered = card(measured)
    assert (
        "Hears my shelf." in rendered.text
        and "- Only guitars." in rendered.text
        and "Made by Ada L., Max M.\n" in rendered.text
    )
    assert "tuning heads; epochs 3; learning rate 0.0001; seed 7" in rendered.text


def test_the_training_songs_are_described_from_their_report(measured):
    report = {"source": "songs", "split": "by group", "group_by": ["artist"], "num_songs": {"train": 300, "test": 40}}
    report |= {"num_groups": {"train": 90, "test": 12}, "leaks": [], "broken": []}
    (measured / "training_songs.json").write_text(json.dumps({"songs": ["c0ffee"], "report": report}))
    assert "songs: train 300 songs of 90 groups; test 40 songs of 12 groups; the split keeps each artist together" in (
        card(measured).text
    )


def test_without_intervals_nothing_is_said_to_be_certain(measured):
    changed(measured, "results.json", lambda results: results["sets"]["my_songs"].pop("intervals"))
    text = card(measured).text
    assert "How far chance alone could move them was not measured." in text and "bootstrap" not in text


def test_eval_results_of_a_set_that_is_no_benchmark_point_to_nobody_elses_data(measured):
    ((name, text),) = eval_result_files(read_source(measured, repo=REPO)).items()
    entries = parse_eval_result_entries(yaml.safe_load(text))
    metrics = json.loads((measured / "results.json").read_text())["sets"]["my_songs"]["metrics"]
    assert name == "my_songs.yaml" and entries
    for entry in entries:
        assert entry.dataset_id == "ada/my_songs" and "is no dataset on the Hub" in entry.notes
        assert entry.value == metrics[entry.task_id]


def test_eval_results_of_a_benchmark_are_the_figure_it_asks_for(measured):
    facts = {"benchmarks": {"my_songs": {"dataset": "ada/bench", "task_id": "tempo", "metric": "tempo_macro_f1"}}}
    source = read_source(measured, repo=REPO, facts=facts)
    (text,) = eval_result_files(source).values()
    (entry,) = parse_eval_result_entries(yaml.safe_load(text))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("ada/bench", "tempo", 0.8123)
    assert (entry.date, entry.source_url) == ("2026-11-20", "https://huggingface.co/ada/shelf")
    assert ModelCard(render_card(source)).data.eval_results[0].dataset_type == "ada/bench"
    facts["benchmarks"]["my_songs"]["metric"] = "tempo_accuracy"
    with pytest.raises(ValueError, match="'tempo_accuracy'.*not measured"):
        eval_result_files(read_source(measured, repo=REPO, facts=facts))


@pytest.mark.parametrize(
    "facts, said",
    [
        ({"sumary": "x"}, "did you mean 'summary'"),
        ({"limits": {"a": 1}}, "'limits' in `card` must be a list"),
        ({"summary": ["x"]}, "'summary' in `card` must be a text"),
        ({"datasets": ["my songs"]}, "names of datasets"),
        ({"benchmarks": {"a": {"dataset": "b"}}}, "org/name"),
        (["summary"], "must map keys"),
    ],
)
def test_wrong_facts_are_refused_by_name(facts, said):
    with pytest.raises(ValueError, match=said):
        checked_facts(facts)


def test_a_single_text_is_a_list_of_one():
    assert checked_facts({"authors": "Ada", "summary": None}) == {"authors": ["Ada"]}


def test_the_top_level_folder_is_the_one_of_the_package():
    from pathlib import Path

    import hf_mathrock.model_card

    link = Path(__file__).parents[2] / "model_card"
    assert link.is_symlink() and not link.readlink().is_absolute()
    assert link.resolve() == Path(hf_mathrock.model_card.__file__).parent.resolve()


def test_results_of_another_format_are_refused(measured, tmp_path):
    shutil.copytree(measured, tmp_path / "copy")
    changed(tmp_path / "copy", "results.json", lambda results: results.pop("sets"))
    with pytest.raises(ValueError, match="no `sets`"):
        card(tmp_path / "copy")
