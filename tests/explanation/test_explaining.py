# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hf_mathrock import (
    MusicTaggingFeatureExtractor,
    MusicTaggingTransformerConfig,
    MusicTaggingTransformerForAudioClassification,
)
from hf_mathrock.explanation import BASELINES, explain


def test_a_known_reason_is_found_in_its_second_and_at_its_frequencies(known_pipe, make_sound):
    found = explain(known_pipe, make_sound(), ["third second", "low notes"], width=0.2, bands=6, baseline="silence")
    assert found.labels == ["third second", "low notes"] and found.tasks == ["tag", "tag"]
    assert found.share_between("third second", 2.0, 3.0) > 0.9
    # The tone lasts for the whole window, so that no second says more than another.
    assert found.share_between("low notes", 2.0, 3.0) == pytest.approx(0.25, abs=0.05)
    assert found.bands is not None and found.bands.values[1].argmax() == 1
    assert found.method == "occlusion" and "silence" in found.baseline


@pytest.mark.parametrize("baseline", BASELINES)
def test_what_stands_out_of_its_surroundings_is_found_by_every_baseline(known_pipe, make_sound, baseline):
    sound = make_sound(quiet=[(0, 2), (3, 4)])
    found = explain(known_pipe, sound, "third second", width=1.0, step=0.25, baseline=baseline)
    assert found.times[found.values[0].argmax()].tolist() == [2.0, 3.0]


def test_the_probabilities_are_the_models_own(known_pipe, make_sound):
    sound = make_sound()
    found = explain(known_pipe, sound, ["low notes", "tempo/fast", "anything"])
    inputs = known_pipe.feature_extractor(sound)
    logits = known_pipe.model(inputs["input_values"], inputs["attention_mask"]).task_logits
    expected = [torch.sigmoid(logits["tag"])[0, 1], logits["tempo"].softmax(dim=1)[0, 1], 1 / (1 + np.e)]
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)


def test_the_most_probable_tags_of_the_first_task_of_several_labels_are_explained(known_pipe, make_sound):
    found = explain(known_pipe, make_sound(), top_k=2)
    assert set(found.tasks) == {"tag"} and len(found.labels) == 2
    assert found.probabilities[0] >= found.probabilities[1]
    assert explain(known_pipe, make_sound(), task="tempo").tasks == ["tempo", "tempo"]


def test_of_a_long_recording_the_window_where_the_tag_is_most_probable_is_explained(known_pipe, make_sound):
    sound = make_sound(12.0, quiet=[(2, 3), (10, 11)])
    found = explain(known_pipe, sound, "third second", width=0.2, baseline="silence")
    assert (found.start, found.end, found.duration) == (4.0, 8.0, 12.0)
    assert found.times.min() == 4.0 and found.times.max() == 8.0
    assert found.share_between("third second", 6.0, 7.0) > 0.9
    assert explain(known_pipe, sound, "third second", start=1.5).start == 1.5


def test_the_whole_recording_can_be_explained(known_pipe, make_sound):
    found = explain(
        known_pipe, make_sound(12.0, quiet=[(4, 8.1)]), "third second", whole=True, width=0.2, baseline="silence"
    )
    assert (found.start, found.end) == (0.0, 12.0)
    assert found.share_between("third second", 2, 3) + found.share_between("third second", 10, 11) > 0.9
    # Silence was not heard, and so has no times.
    assert not ((found.times[:, 0] > 4.3) & (found.times[:, 1] < 7.7)).any()


def test_a_stretch_longer_than_all_that_sounds_is_refused(known_pipe, make_sound):
    sound = make_sound(40.0, quiet=[(1, 39)])
    with pytest.raises(ValueError, match="no stretch of 10 s was heard by half.*shorter `width`"):
        explain(known_pipe, sound, "third second", whole=True, width=10.0)


def test_the_same_input_gives_the_same_result(known_pipe, make_sound):
    for baseline in BASELINES:
        first, second = (explain(known_pipe, make_sound(), baseline=baseline, bands=3).to_dict() for _ in range(2))
        assert first == second


def test_the_result_is_plain_json(known_pipe, make_sound):
    record = explain(known_pipe, make_sound(), bands=3).to_dict()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert len(record["values"]) == len(record["labels"]) == 3
    assert {len(row) for row in record["values"]} == {len(record["times"])}
    assert record["times"][0] == {"start": 0.0, "end": 0.4} and record["model"] == {"name": "known", "fingerprint": "0"}
    assert record["settings"]["width"] == 0.4 and len(record["bands"]["edges_hz"]) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ["third secnd"]}, "did you mean 'third second'"),
        ({"labels": ["slow"]}, "say tempo/slow or pace/slow"),
        ({"labels": []}, "name at least one"),
        ({"task": "mood"}, "mood"),
        ({"method": "gradient"}, "auto, contribution, occlusion"),
        ({"method": "contribution"}, "use method='occlusion'"),
        ({"baseline": "zeros"}, "silence"),
        ({"top_k": 0}, "at least 1"),
        ({"bands": 1}, "at least 2"),
        ({"batch_size": 0}, "at least 1"),
        ({"start": -1}, "from 0 on"),
        ({"start": 0, "whole": True}, "one of the two"),
        ({"start": 99}, "no audio 99.0 s into it"),
        ({"width": 3}, "at most 2.00 s"),
        ({"width": 1, "step": 2}, "never be taken away"),
    ],
)
def test_a_wrong_option_is_refused_and_says_what_is_allowed(known_pipe, make_sound, options, message):
    with pytest.raises((ValueError, KeyError), match=message):
        explain(known_pipe, make_sound(), **options)


def test_silence_has_no_tags_to_explain(known_pipe, make_sound):
    with pytest.raises(ValueError, match="silent"):
        explain(known_pipe, make_sound(4.0, quiet=[(0, 4)]))
    with pytest.raises(ValueError, match="only silence at 4 s"):
        explain(known_pipe, make_sound(8.0, quiet=[(4, 8)]), start=4)


def test_a_model_that_gives_no_numbers_is_called_broken(known_pipe, make_sound):
    known_pipe.model.forward = lambda **_: SimpleNamespace(
        task_logits={"tag": torch.full((1, 3), torch.nan), "tempo": torch.zeros(1, 2), "pace": torch.zeros(1, 2)}
    )
    with pytest.raises(RuntimeError, match="non-finite logits for 'tag'"):
        explain(known_pipe, make_sound())


def test_contributions_are_read_off_in_one_pass_and_chosen_by_auto(known_pipe, make_sound):
    calls = []

    def tag_contributions(input_values, attention_mask):
        calls.append(input_values.shape)
        probabilities = torch.linspace(0, 1, 7 * 8).reshape(1, 7, 8)
        starts = torch.arange(8) * 0.49
        return SimpleNamespace(probabilities=probabilities, token_seconds=torch.stack([starts, starts + 0.49], dim=1))

    known_pipe.model.tag_contributions = tag_contributions
    known_pipe.model.base_model = SimpleNamespace(encoder=object())
    found = explain(known_pipe, make_sound(11.0), "low notes", start=4)
    assert found.method == "contribution" and calls == [(1, 32_000)]
    # Eight moments of 0.49 s leave a rest of 0.08 s, which belongs to the last.
    np.testing.assert_allclose(found.times[[0, -1]], [[4.0, 4.49], [7.43, 8.0]], atol=1e-6)
    np.testing.assert_allclose(found.values[0], np.linspace(0, 1, 56)[8:16])
    whole = explain(known_pipe, make_sound(11.0), "low notes", whole=True)
    # The last window lasts three seconds: what is behind its end is a repetition.
    assert len(whole.times) == 8 + 8 + 7 and whole.times.max() == 11.0
    assert explain(known_pipe, make_sound(), "low notes", width=0.5).method == "occlusion"
    with pytest.raises(ValueError, match="options of method='occlusion'"):
        explain(known_pipe, make_sound(), method="contribution", width=0.5)


def test_a_real_transformer_explains_itself_by_its_own_contributions(make_sound):
    torch.manual_seed(0)
    config = MusicTaggingTransformerConfig(
        sampling_rate=8000, input_samples=16_000, conv_channels=4, hidden_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_labels=4, feature={"max_frequency_hz": 4000.0},
    )  # fmt: skip
    pipe = SimpleNamespace(
        model=MusicTaggingTransformerForAudioClassification(config).eval(),
        feature_extractor=MusicTaggingFeatureExtractor.for_config(config),
        model_card={},
    )
    sound = make_sound(4.0)
    found = explain(pipe, sound, ["LABEL_2"], start=2.0)
    expected = pipe.model.tag_contributions(input_values=torch.from_numpy(sound["array"][16_000:])[None])
    np.testing.assert_allclose(found.values[0], expected.probabilities[0, 2], atol=1e-6)
    assert found.method == "contribution" and found.times[0, 0] == 2.0 and found.times[-1, 1] == 4.0
    assert explain(pipe, sound, ["LABEL_2"], method="occlusion").method == "occlusion"
