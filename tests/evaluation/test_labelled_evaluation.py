# SPDX-License-Identifier: Apache-2.0
"""Which songs a figure is of, and which it must not be of."""

from __future__ import annotations

import json

import pytest

from hf_mathrock.data.content import content_id, songs_digest
from hf_mathrock.evaluation.labelled import (
    Provenance,
    chosen_splits,
    evaluate_labelled,
    set_name,
    trained_on_any,
)
from hf_mathrock.evaluation.results import add_sets, identity, plain, write_json

QUICK = {"num_resamples": 20}


def ids(songs):
    return [content_id(song["audio"]) for song in songs]


def test_the_test_split_comes_first_then_validation_then_all():
    assert chosen_splits({"train": 1, "validation": 1, "test": 1}) == ["test"]
    assert chosen_splits({"train": 1, "validation": 1}) == ["validation"]
    assert chosen_splits({"train": 1}) == ["train"]
    assert chosen_splits({"train": 1, "test": 1}, "all") == ["train", "test"]
    assert chosen_splits({"train": 1, "test": 1}, "train") == ["train"]
    with pytest.raises(ValueError, match="no split 'tset' in these data; there is train, test, and all"):
        chosen_splits({"train": 1, "test": 1}, "tset")


def test_a_set_says_which_songs_its_figures_are_of(listener, rows, labelled):
    songs = rows(30, songs_per_group=3)
    songs[4]["audio"]["bytes"] = b"[null]"
    songs[5]["audio"]["bytes"] = b"no JSON"
    data = labelled(
        {"train": rows(5, seed=1), "test": songs},
        source="/home/somebody/My Songs!",
        leaks=[
            {"group": "toe", "splits": ["train", "test"], "num_songs": 2},
            {"group": "tricot", "splits": ["train", "validation"], "num_songs": 2},
        ],
    )
    evaluation = evaluate_labelled(listener(), data, ["test"], **QUICK)
    described = evaluation.entry["data"]
    assert evaluation.name == "My_Songs__test" and evaluation.entry["title"] == "My Songs!, split test"
    assert described["source"] == "My Songs!" and "/home" not in json.dumps(evaluation.entry)
    assert described["num_songs"] == 28 and described["num_groups"] == 10 and described["num_silent"] == 1
    assert described["known"] == {"mood": 28, "tempo": 28} and described["split"] == "test"
    assert described["broken"] == [
        {"song": songs[5]["song"], "error": f"cannot read {songs[5]['song']!r}: it is damaged"}
    ]
    assert described["songs_digest"] == songs_digest(ids(songs[:4] + songs[6:]))
    assert [leak["group"] for leak in described["leaks"]] == ["toe"]
    assert described["seconds"] == evaluation.predictions.seconds.sum()
    text = "\n".join(evaluation.remarks)
    assert "1 song left out as silent" in text and "1 song left out as unreadable" in text and "'toe'" in text
    assert "tricot" not in text
    assert evaluation.entry["protocol"]["window_seconds"] == 10.0
    write_free_of_nan = json.dumps(evaluation.entry, allow_nan=False)
    assert '"mood_map"' in write_free_of_nan


def test_songs_of_the_calibration_are_passed_over_and_counted(listener, rows, labelled):
    songs = rows(30)
    provenance = Provenance(calibrated_on=frozenset(ids(songs[:12])))
    pipe = listener()
    evaluation = evaluate_labelled(pipe, labelled({"test": songs}), ["test"], provenance=provenance, **QUICK)
    assert evaluation.entry["data"]["num_songs"] == 18 == len(pipe.heard)
    assert evaluation.entry["data"]["left_out_as_calibrated"] == 12
    assert evaluation.remarks == ["12 songs left out: the model was calibrated on them"]
    assert not set(evaluation.predictions.content_ids) & provenance.calibrated_on


def test_nothing_but_songs_of_the_calibration_is_refused(listener, rows, labelled):
    songs = rows(6)
    with pytest.raises(ValueError, match="calibrated on all 6 songs"):
        evaluate_labelled(
            listener(), labelled({"test": songs}), ["test"], provenance=Provenance(calibrated_on=frozenset(ids(songs)))
        )


def test_songs_of_the_training_are_counted_and_measured(listener, rows, labelled):
    songs = rows(30)
    data = labelled({"test": songs})
    seen = evaluate_labelled(listener(), data, ["test"], provenance=Provenance(frozenset(ids(songs[:7]))), **QUICK)
    assert seen.entry["data"]["trained_on"] == 7 and seen.entry["data"]["num_songs"] == 30
    assert "trained on 7 of these 30 songs" in seen.remarks[0]
    unseen = evaluate_labelled(listener(), data, ["test"], provenance=Provenance(frozenset()), **QUICK)
    assert unseen.entry["data"]["trained_on"] == 0 and unseen.remarks == []
    assert evaluate_labelled(listener(), data, ["test"], **QUICK).entry["data"]["trained_on"] is None


def test_the_files_beside_the_weights_say_what_was_seen():
    found = Provenance.of_files({"songs": ["a"]}, {"fitted_on": {"songs": ["b"]}})
    assert found == Provenance(frozenset("a"), frozenset("b"))
    assert Provenance.of_files(None, None) == Provenance(None, frozenset())
    generated = {"data": {"train": {"num": 5, "seed": 3}}}
    assert Provenance.of_files(None, None, generated).trained_on == frozenset()
    assert Provenance.of_files(None, None, {"data": {"source": "songs", "train": None}}).trained_on is None
    assert Provenance.of_files({"songs": ["a"]}, None, generated).trained_on == {"a"}


def test_one_known_song_is_enough_to_say_that_data_were_trained_on(rows, labelled, tmp_path):
    songs = rows(5)
    songs[0]["audio"] = {"path": str(tmp_path / "absent.wav"), "bytes": None}
    data = labelled({"train": songs, "test": rows(3, seed=1)})
    assert trained_on_any(data, frozenset(ids(songs[3:4])))
    assert not trained_on_any(data, frozenset({"0" * 32}))


def test_broken_songs_are_tolerated_up_to_the_limit(listener, rows, labelled):
    songs = rows(20)
    for song in songs[:3]:
        song["audio"]["bytes"] = song["song"].encode()
    with pytest.raises(ValueError, match=r"3 of 20 songs cannot be read, more than `max_broken` \(10%\).*damaged"):
        evaluate_labelled(listener(), labelled({"test": songs}), ["test"], max_broken=0.1)
    assert (
        len(evaluate_labelled(listener(), labelled({"test": songs}), ["test"], max_broken=0.15, **QUICK).predictions)
        == 17
    )
    # One in a handful is no share.
    few = evaluate_labelled(listener(), labelled({"test": songs[2:6]}), ["test"], max_broken=0.0, **QUICK)
    assert few.entry["data"]["num_broken"] == 1


def test_no_song_left_is_said(listener, rows, labelled):
    songs = [{**song, "audio": {"path": "a", "bytes": b"[null]"}} for song in rows(2)]
    with pytest.raises(ValueError, match="0 cannot be read, 2 are silent"):
        evaluate_labelled(listener(), labelled({"test": songs}), ["test"])


def test_several_splits_are_heard_as_one(listener, rows, labelled):
    data = labelled({"train": rows(6), "test": rows(5, seed=1)}, source="org/name")
    evaluation = evaluate_labelled(listener(), data, ["train", "test"], **QUICK)
    assert evaluation.name == "org_name_all" and len(evaluation.predictions) == 11
    assert set_name({"source": None, "corpus": "gtzan"}, ["test"]) == ("gtzan_test", "gtzan, split test")


def test_the_models_calibration_is_used_and_recorded(listener, rows, labelled):
    data = labelled({"test": rows(60, temperature=3.0)})
    plainly = evaluate_labelled(listener(), data, ["test"], **QUICK).entry
    setting = {"temperatures": {"tempo": 3.0, "mood": 3.0}, "thresholds": {"mood": [0.9] * 4}}
    calibrated = evaluate_labelled(listener(**setting), data, ["test"], **QUICK).entry
    assert calibrated["metrics"]["tempo_ece"] < plainly["metrics"]["tempo_ece"]
    assert calibrated["metrics"]["mood_macro_f1"] < plainly["metrics"]["mood_macro_f1"]
    assert calibrated["protocol"]["temperatures"] == {"tempo": 3.0, "mood": 3.0}
    assert plainly["protocol"]["temperatures"] == {}


def test_sets_of_the_same_weights_stay_and_those_of_others_go(listener, tmp_path):
    path = tmp_path / "deep" / "results.json"
    header = identity(listener())
    assert header["checkpoint"] == "listener" and set(header["versions"]) == {"hf_mathrock", "torch", "transformers"}
    add_sets(path, {**header, "soundfont": "x"}, {"one": {"metrics": {"a": 1.0}}})
    add_sets(path, header, {"two": {"metrics": {"a": 2.0}}})
    stored = json.loads(path.read_text())
    assert set(stored["sets"]) == {"one", "two"} and stored["soundfont"] == "x"
    add_sets(path, header, {"two": {"metrics": {"a": 3.0}}})
    assert json.loads(path.read_text())["sets"]["two"]["metrics"]["a"] == 3.0
    add_sets(path, {**header, "fingerprint": "other weights"}, {"three": {}})
    assert set(json.loads(path.read_text())["sets"]) == {"three"}


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_results_file_that_is_none_is_not_overwritten(tmp_path, listener, content):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="results.json (is no JSON|holds no JSON object).*remove it"):
        add_sets(path, identity(listener()), {})
    assert path.read_text() == content


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1} and [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_what_is_no_number_is_null():
    assert plain({"a": float("nan"), "b": (1, 0.12345678), "c": {"d": "x"}}) == {
        "a": None, "b": [1, 0.123457], "c": {"d": "x"},
    }  # fmt: skip
