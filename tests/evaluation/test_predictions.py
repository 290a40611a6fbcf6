# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import numpy as np
import pytest

from hf_mathrock import pipeline
from hf_mathrock.data.content import content_id, songs_digest
from hf_mathrock.evaluation.predictions import active, predict


def window(mood, tempo=(0, 0, 0)):
    return {"mood": list(mood), "tempo": list(tempo)}


def song(name, windows, mood=(0.0, 1.0, 0.0, 0.0), tempo=1, **more):
    audio = {"path": name, "bytes": windows if isinstance(windows, bytes) else json.dumps(windows).encode()}
    return {"audio": audio, "labels": {"mood": list(mood), "tempo": tempo}, "song": name, **more}


def test_a_song_is_the_mean_of_its_sounding_windows(listener):
    heard = predict(listener(), [song("a.wav", [window([0, 0, 0, 0]), None, window([20, -20, 0, 0])])])
    scores = heard.song_scores()
    assert np.allclose(scores["mood"], [[0.75, 0.25, 0.5, 0.5]]) and np.allclose(scores["tempo"], 1 / 3)
    assert heard.window_starts.tolist() == [0.0, 10.0] and len(heard.window_scores()["mood"]) == 2


def test_temperature_and_vote_are_those_of_the_pipeline(listener):
    heard = predict(listener(), [song("a.wav", [window([2, -2, 0, 0]), window([2, 2, 0, 0])])])
    assert np.allclose(heard.song_scores({"mood": 2.0})["mood"][0, 0], 1 / (1 + np.exp(-1)))
    assert heard.song_scores(aggregation="vote")["mood"].tolist() == [[1, 0.5, 1, 1]]
    assert heard.song_scores(aggregation="vote", thresholds={"mood": [0.9] * 4})["mood"].tolist() == [[0, 0, 0, 0]]
    assert heard.song_scores(aggregation="max")["mood"][0, 1] == pytest.approx(1 / (1 + np.exp(-2)))


def test_mean_logits_are_averaged_before_the_sigmoid_and_the_softmax(listener):
    windows = [window([4, -60, 0, 0], [3, 0, 0]), window([0, 40, 0, 0], [0, 0, 0])]
    scores = predict(listener(), [song("a.wav", windows)]).song_scores({"tempo": 2.0}, aggregation="mean_logit")
    # Scores of -60 and 40 are 0 and 1 to the last digit: only from logits is their mean known.
    assert scores["mood"][0] == pytest.approx(1 / (1 + np.exp([-2.0, 10.0, 0.0, 0.0])))
    assert scores["tempo"][0] == pytest.approx(np.exp([0.75, 0, 0]) / np.exp([0.75, 0, 0]).sum())


def test_an_unknown_aggregation_is_refused(listener):
    heard = predict(listener(), [song("a.wav", [window([0, 0, 0, 0])])])
    with pytest.raises(ValueError, match="'median'; allowed: mean, max, vote, mean_logit"):
        heard.song_scores(aggregation="median")


def test_each_song_keeps_its_own_labels_though_some_cannot_be_read_or_are_silent(listener):
    heard = predict(
        listener(),
        [
            song("a.wav", [window([0, 0, 0, 0])], tempo=0, group="x", bpm=90.0),
            song("b.wav", b"no JSON", tempo=1),
            song("c.wav", [None, None], tempo=1),
            song("d.wav", [window([1, 1, 1, 1])], tempo=-100),
            song("e.wav", [window([2, 2, 2, 2])], tempo=2, group="x"),
        ],
    )
    assert heard.songs == ["a.wav", "d.wav", "e.wav"] and heard.labels["tempo"].tolist() == [0, -100, 2]
    assert heard.logits["mood"][:, 0].tolist() == [0, 1, 2]
    assert heard.silent == ["c.wav"] and heard.known("tempo").tolist() == [True, False, True]
    assert heard.broken == [
        {"song": "b.wav", "error": "cannot read 'b.wav': it is damaged"}
    ]  # and no path of a machine
    assert heard.groups == ["x", "song 3", "x"] and heard.bpm[0] == 90 and np.isnan(heard.bpm[1:]).all()


def test_excluded_songs_are_not_even_heard(listener, rows):
    songs = rows(6)
    pipe = listener()
    heard = predict(pipe, songs, exclude={content_id(songs[2]["audio"]), content_id(songs[5]["audio"])})
    assert heard.songs == [songs[number]["song"] for number in (0, 1, 3, 4)] and len(pipe.heard) == 4
    assert heard.excluded == [songs[2]["song"], songs[5]["song"]]


def test_progress_counts_every_song(listener, rows):
    seen = []
    predict(listener(), rows(4), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    predict(listener(), iter(rows(2)), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (2, None)


def test_a_selection_has_the_windows_of_its_songs(predictions):
    whole = predictions(12)
    chosen = whole.select([7, 2])
    assert chosen.songs == [whole.songs[7], whole.songs[2]]
    for task in ("mood", "tempo"):
        assert np.array_equal(chosen.song_scores()[task], whole.song_scores()[task][[7, 2]])
        assert np.array_equal(chosen.labels[task], whole.labels[task][[7, 2]])
    assert len(whole.select([])) == 0 and whole.select([]).song_scores()["mood"].shape == (0, 4)


def test_no_song_has_arrays_all_the_same(listener):
    nothing = predict(listener(), [])
    assert nothing.labels["mood"].shape == (0, 4) and nothing.logits["tempo"].shape == (0, 3)


def test_active_is_above_the_threshold_or_the_best(predictions):
    heard = predictions(5)
    scores = heard.song_scores()
    holds = active(heard.tasks, scores, {"mood": [0.0, 1.0, 0.5, 0.5]})
    assert holds["mood"][:, 0].all() and not holds["mood"][:, 1].any() and (holds["tempo"].sum(axis=1) == 1).all()


def test_a_real_pipeline_says_the_same_of_a_file(tiny_model, tmp_path):
    """Scores from `predict` are those that a user reads, temperature and all."""
    import soundfile

    from hf_mathrock import MathRockFeatureExtractor

    file = tmp_path / "song.wav"
    soundfile.write(file, np.sin(np.arange(8000 * 12) / 7) * 0.3, 8000)
    pipe = pipeline("mathrock-affect", model=tiny_model, feature_extractor=MathRockFeatureExtractor(), device="cpu")
    heard = predict(pipe, [{"audio": {"path": str(file), "bytes": None}, "labels": labels_of(tiny_model), "song": "s"}])
    said = {entry["label"]: entry["score"] for entry in pipe(str(file))["emotion"]}
    task = tiny_model.config.task("emotion")
    assert heard.song_scores()["emotion"][0] == pytest.approx([said[label] for label in task["labels"]], abs=1e-6)
    assert heard.content_ids == [content_id(file)] and heard.seconds == pytest.approx([12.0])


def labels_of(model):
    return {
        task["name"]: [0.0] * len(task["labels"]) if task["type"] == "multi_label" else 0 for task in model.config.tasks
    }


def test_a_recording_is_known_by_its_content(tmp_path):
    file, copy = tmp_path / "a.wav", tmp_path / "b.wav"
    file.write_bytes(b"music")
    copy.write_bytes(b"music")
    same = {content_id(audio) for audio in (file, str(copy), b"music", {"path": "x", "bytes": b"music"})}
    assert len(same) == 1 and content_id(b"Music") not in same
    assert content_id({"path": str(file), "bytes": None}) in same
    one, other = np.zeros(4, np.float32), np.ones(4, np.float32)
    assert content_id({"array": one, "sampling_rate": 8000}) != content_id({"array": other, "sampling_rate": 8000})
    assert content_id({"array": one, "sampling_rate": 8000}) != content_id({"array": one, "sampling_rate": 16_000})
    with pytest.raises(OSError, match="is no file"):
        content_id(tmp_path)
    with pytest.raises(TypeError, match="int is no recording"):
        content_id(3)


def test_the_digest_of_a_set_does_not_depend_on_its_order():
    assert songs_digest(["a", "b"]) == songs_digest(["b", "a"]) != songs_digest(["a", "c"])
