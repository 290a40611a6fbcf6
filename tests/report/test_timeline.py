# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import warnings

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.image import imread

from hf_mathrock.report import sheet, timeline
from hf_mathrock.report.timeline import HEAT, RED, draw_timeline

ENVELOPE = (np.full(400, -0.5), np.full(400, 0.5))


@pytest.fixture
def texts(monkeypatch):
    """Everything written into the picture, in order; what is taken out again for want of room is listed too."""
    written = []
    original = sheet.write
    for module in (sheet, timeline):
        monkeypatch.setattr(
            module,
            "write",
            lambda where, x, y, text, **style: written.append(text) or original(where, x, y, text, **style),
        )
    return written


def has_colour(picture, colour, tolerance=0.02):
    return bool((np.abs(picture[..., :3] - np.asarray(mpl.colors.to_rgb(colour))) < tolerance).all(axis=-1).any())


def test_the_picture_names_the_file_its_length_its_tasks_and_its_leading_labels(make_result, tmp_path, texts):
    result = make_result(quality=["clipped", "dc_removed"])
    draw_timeline(result, ENVELOPE, tmp_path / "song.png")
    first = [entry["label"] for entry in result["emotion"][:3]]
    assert texts[0] == "clipped   ·   dc removed   ·   0:29"
    assert texts[1] == "song.mp3"
    assert texts[2].startswith(", ".join(first) + "   ·   ")
    assert {"waveform", "vibe", "tempo", "emotion score", *first} <= set(texts)


def test_a_high_score_is_dark_and_a_sure_class_is_vivid(make_result, tmp_path):
    result = make_result(duration=10, single={"vibe": ["aggressive", "technical"]})
    for part in (result, *result["segments"]):
        part["emotion"] = [{"label": "anger", "score": 1.0, "active": True}]
        part["vibe"] = [{"label": "aggressive", "score": 1.0, "active": True}]
    draw_timeline(result, None, tmp_path / "sure.png")
    sure = imread(tmp_path / "sure.png")
    assert has_colour(sure, HEAT(1.0)) and has_colour(sure, RED)
    for part in (result, *result["segments"]):
        part["vibe"][0]["score"] = 0.4
    draw_timeline(result, None, tmp_path / "unsure.png")
    assert not has_colour(imread(tmp_path / "unsure.png"), RED)


@pytest.mark.parametrize("duration", [0.1, 9.1, 240.0, 10812.0])
def test_any_duration_gives_one_wide_picture(make_result, tmp_path, duration):
    draw_timeline(make_result(duration), ENVELOPE, tmp_path / "song.png")
    height, width, _ = imread(tmp_path / "song.png").shape
    assert width == 1840 and 500 < height < 1200


def test_silence_is_said_and_hatched(make_result, tmp_path, texts):
    draw_timeline(make_result(silent=[(0, 99)], quality=["silent"]), ENVELOPE, tmp_path / "song.png")
    assert "nothing to hear" in texts
    assert texts.count("silent") >= 3
    assert has_colour(imread(tmp_path / "song.png"), sheet.SILENCE)


def test_a_silent_stretch_is_marked_in_every_strip(make_result, tmp_path, texts):
    draw_timeline(make_result(duration=120, silent=[(40, 80)]), ENVELOPE, tmp_path / "song.png")
    assert texts.count("silent") == 2  # vibe and tempo


@pytest.mark.parametrize(
    "tasks",
    [
        {"multi": {}, "single": {"meter": ["4/4", "7/8", "11/8"]}},
        {"multi": {"genre": ["post-rock"]}, "single": {}},
        {"multi": {"genre": ["a name far too long for the margin of any picture", "b"], "mood": ["up", "down"]}},
    ],
)
def test_any_set_of_tasks_can_be_drawn(make_result, tmp_path, texts, tasks):
    result = make_result(**tasks)
    draw_timeline(result, ENVELOPE, tmp_path / "song.png")
    strips = list(tasks.get("single", {"vibe": 0, "tempo": 0})) + list(tasks["multi"])[1:]
    assert set(strips) <= set(texts)


def test_a_class_too_short_to_be_named_in_its_strip_is_explained_below(make_result, tmp_path, texts):
    result = make_result(duration=10812, multi={}, single={"vibe": ["aggressive", "technical"]})
    for number, segment in enumerate(result["segments"]):
        label = "aggressive" if number == 1000 else "technical"
        segment["vibe"] = [{"label": label, "score": 0.9, "active": True}]
    draw_timeline(result, None, tmp_path / "song.png")
    assert texts[-1] == "aggressive"


def test_a_file_name_is_taken_literally(make_result, tmp_path):
    # Mathematics, markup, a line break, a byte that is not UTF-8, a script without a font, and no end of it.
    name = "$\\frac{1}$ [b]\n\udcff 日本 " + "x" * 150 + ".flac"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_timeline(make_result(file=name), ENVELOPE, tmp_path / "song.png")
    assert imread(tmp_path / "song.png").shape[1] == 1840


def test_the_same_result_gives_the_same_bytes_whatever_the_users_settings(make_result, tmp_path):
    draw_timeline(make_result(), ENVELOPE, tmp_path / "a.png")
    with mpl.rc_context({"font.size": 40, "axes.facecolor": "black", "figure.dpi": 10}):
        draw_timeline(make_result(), ENVELOPE, tmp_path / "b.png")
        assert mpl.rcParams["font.size"] == 40
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_result_without_segments_is_refused_and_nothing_is_written(make_result, tmp_path):
    result = make_result()
    del result["segments"]
    with pytest.raises(ValueError, match="return_segments=True"):
        draw_timeline(result, ENVELOPE, tmp_path / "song.png")
    assert not list(tmp_path.iterdir())
