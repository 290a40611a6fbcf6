# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from hf_mathrock.report import taggram as module
from hf_mathrock.report.sheet import SILENCE
from hf_mathrock.report.taggram import draw_taggram
from hf_mathrock.report.timeline import HEAT

ENVELOPE = (np.full(400, -0.5), np.full(400, 0.5))


def tagged(scores, *, hop=3.0, window=3.0, top_k=None, threshold=0.5, **facts):
    """A result of `music-tagging`: `scores` are one row per tag, a column per window, NaN where it is silent."""
    scores = np.asarray(scores, dtype=float)
    labels = [f"tag {number}" for number in range(len(scores))]
    heard = scores[:, np.isfinite(scores).all(axis=0)]
    means = heard.mean(axis=1) if heard.size else np.empty(0)
    starts = [hop * number for number in range(scores.shape[1])]
    return {
        "file": "song.mp3",
        "duration": starts[-1] + window,
        "sampling_rate": 44_100,
        "quality": [],
        "tags": [{"label": labels[row], "score": float(means[row])} for row in np.argsort(-means)[:top_k]],
        "taggram": {
            "labels": labels,
            "start": starts,
            "end": [start + window for start in starts],
            "scores": [[None if np.isnan(value) else float(value) for value in row] for row in scores],
        },
        "settings": {"task": "mood", "threshold": threshold},
    } | facts


@pytest.fixture
def drawn(monkeypatch):
    """What is handed on to the drawing, in order."""
    handed = []
    original = module.draw_timeline
    monkeypatch.setattr(
        module, "draw_timeline", lambda result, *rest, **more: handed.append(result) or original(result, *rest, **more)
    )
    return handed


def pixels(path, colour):
    """Rows and columns of a picture that have a colour."""
    return np.nonzero((np.abs(imread(path)[..., :3] - np.asarray(to_rgb(colour))) < 0.01).all(axis=-1))


def test_tags_stand_in_the_order_of_their_scores_and_active_ones_are_marked(drawn, tmp_path):
    draw_taggram(tagged([[0.1, 0.3], [0.9, 0.7], [0.4, 0.6]]), ENVELOPE, tmp_path / "a.png")
    assert [(entry["label"], entry["active"]) for entry in drawn[0]["mood"]] == [
        ("tag 1", True),
        ("tag 2", True),
        ("tag 0", False),
    ]
    assert [entry["score"] for entry in drawn[0]["mood"]] == pytest.approx([0.8, 0.5, 0.2])


def test_a_high_score_is_dark_where_and_when_it_was_heard(tmp_path):
    scores = np.zeros((2, 10))
    scores[1, 5:] = 1.0
    draw_taggram(tagged(scores), None, tmp_path / "a.png")
    rows, columns = pixels(tmp_path / "a.png", HEAT(1.0))
    in_map = columns < 1590  # right of it stands the scale
    left, right = columns[in_map].min(), columns[in_map].max()
    # The map spans 2.05 to 9.85 inches of 11.5; the tag sounds in the second half of the song.
    assert left == pytest.approx((2.05 + 9.85) / 2 * 160, abs=3) and right == pytest.approx(9.85 * 160, abs=3)
    assert np.ptp(rows[in_map]) < 100


def test_silent_windows_are_hatched_and_all_silence_is_said(tmp_path):
    scores = np.full((3, 8), 0.4)
    draw_taggram(tagged(scores), ENVELOPE, tmp_path / "heard.png")
    assert pixels(tmp_path / "heard.png", SILENCE)[0].size < 1000  # edges of letters
    scores[:, 3:5] = np.nan
    draw_taggram(tagged(scores), ENVELOPE, tmp_path / "partly.png")
    _, columns = pixels(tmp_path / "partly.png", SILENCE)
    # The map spans 2.05 to 9.85 inches for 8 windows.
    inside = (columns > (2.05 + 3 / 8 * 7.8) * 160) & (columns < (2.05 + 5 / 8 * 7.8) * 160)
    assert inside.sum() > 10_000 and (~inside).sum() < 1000
    draw_taggram(tagged(np.full((3, 8), np.nan), quality=["silent"]), ENVELOPE, tmp_path / "silent.png")
    assert imread(tmp_path / "silent.png").shape[1] == 1840


def test_fifty_tags_are_cut_to_the_best_and_all_can_be_asked_for(tmp_path):
    scores = np.random.default_rng(0).random((50, 4))
    draw_taggram(tagged(scores), ENVELOPE, tmp_path / "best.png")
    draw_taggram(tagged(scores), ENVELOPE, tmp_path / "all.png", max_rows=50)
    best, everything = (imread(tmp_path / name).shape[0] for name in ("best.png", "all.png"))
    assert everything - best == pytest.approx(30 * 0.245 * 160, abs=2)


def test_tags_that_were_cut_from_the_list_have_the_mean_of_their_windows(drawn, tmp_path):
    result = tagged([[0.1, 0.3], [0.9, 0.7], [0.4, 0.6]], top_k=1)
    result["tags"][0]["score"] = 0.95  # another aggregation than the mean
    draw_taggram(result, None, tmp_path / "a.png")
    assert [entry["score"] for entry in drawn[0]["mood"]] == pytest.approx([0.95, 0.5, 0.2])


def test_overlapping_windows_and_hours_of_them_fit(tmp_path):
    scores = np.random.default_rng(0).random((5, 7200))
    draw_taggram(tagged(scores, hop=1.5), None, tmp_path / "a.png")
    assert imread(tmp_path / "a.png").shape[1] == 1840


def test_thresholds_may_differ_from_tag_to_tag_or_be_absent(drawn, tmp_path):
    scores = [[0.3], [0.3]]
    for threshold, active in (([0.2, 0.4], [True, False]), (None, [False, False])):
        draw_taggram(tagged(scores, threshold=threshold), None, tmp_path / "a.png")
        assert [entry["active"] for entry in drawn.pop()["mood"]] == active


def test_a_result_with_segments_gives_the_map_of_one_of_its_tasks(make_result, drawn, tmp_path):
    result = make_result()
    draw_taggram(result, ENVELOPE, tmp_path / "first.png")
    draw_taggram(result, ENVELOPE, tmp_path / "vibe.png", task="vibe")
    assert [[key for key in ("emotion", "vibe", "tempo") if key in one] for one in drawn] == [["emotion"], ["vibe"]]
    assert drawn[1]["vibe"] == result["vibe"]
    only_classes = make_result(multi={})
    draw_taggram(only_classes, ENVELOPE, tmp_path / "classes.png")
    assert "vibe" in drawn[2]


@pytest.mark.parametrize(
    ("change", "task", "message"),
    [
        ({"taggram": None}, None, "return_taggram=True"),
        ({"taggram": "song.taggram.png"}, None, "return_segments=True"),
        ({}, "genre", "of 'mood'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_nothing_is_written(change, task, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        draw_taggram(tagged([[0.1]]) | change, None, tmp_path / "a.png", task=task)
    assert not list(tmp_path.iterdir())


def test_a_task_that_the_segments_lack_is_named(make_result, tmp_path):
    with pytest.raises(ValueError, match=r"no task 'genre'; its tasks are \['emotion', 'vibe', 'tempo'\]"):
        draw_taggram(make_result(), None, tmp_path / "a.png", task="genre")
