# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.image import imread

from hf_mathrock.report import explanation, sheet
from hf_mathrock.report.explanation import EVIDENCE, draw_explanation
from hf_mathrock.report.timeline import HEAT

ENVELOPE = (np.full(200, -0.5), np.full(200, 0.5))


@pytest.fixture
def texts(monkeypatch):
    """Everything written into the picture, in order."""
    written = []
    original = sheet.write

    def write(where, x, y, text, **style):
        written.append(text)
        return original(where, x, y, text, **style)

    monkeypatch.setattr(sheet, "write", write)
    return written


@pytest.fixture
def make_record():
    """Makes an explanation as `Explanation.to_dict` gives it: stretches of a second, half overlapping."""

    def make(values, start=12.0, method="occlusion", bands=None, labels=None, duration=200.0):
        values = np.asarray(values, dtype=float)
        begins = start + 0.5 * np.arange(values.shape[1])
        record = {
            "file": "folder/so $ng.mp3",
            "duration": duration,
            "start": start,
            "end": float(begins[-1] + 1),
            "method": method,
            "baseline": "in words",
            "labels": labels or [f"tag {row}" for row in range(len(values))],
            "tasks": ["first", "second", "third"][: len(values)],
            "probabilities": [0.75] * len(values),
            "times": [{"start": begin, "end": begin + 1} for begin in begins.tolist()],
            "values": values.tolist(),
            "model": {"name": "a model"},
            "settings": {"whole": False, "width": 1.0, "baseline": "noise"} if method == "occlusion" else {},
        }
        if bands is not None:
            record["bands"] = {"edges_hz": [[0, 300], [300, 8000]], "values": bands}
        return record

    return make


def shows(picture, colour, tolerance=0.02):
    return bool((np.abs(picture[..., :3] - np.asarray(mpl.colors.to_rgb(colour))) < tolerance).all(axis=-1).any())


def test_the_picture_names_the_file_the_part_the_method_the_tags_and_their_probabilities(make_record, tmp_path, texts):
    draw_explanation(make_record([[0.1, 0.2, 0.3], [0, 0, 0]]), ENVELOPE, tmp_path / "x.png")
    assert "so $ng.mp3" in texts and "3:20" in texts
    assert "12.0 s to 14.0 s   ·   1 s at a time replaced by steady noise   ·   a model" in texts
    assert {"tag 0", "tag 1", "0.75", "waveform", "for / against"} <= set(texts)


def test_what_speaks_for_a_tag_is_red_and_what_speaks_against_it_blue(make_record, tmp_path):
    draw_explanation(make_record([[0.5, 0.5, 0.5]]), None, tmp_path / "for.png")
    draw_explanation(make_record([[-0.5, -0.5, -0.5]]), None, tmp_path / "against.png")
    # The scale shows both colours; only a row has as much of one of them.
    shares = {}
    for name in ("for.png", "against.png"):
        colours = imread(tmp_path / name)[..., :3]
        shares[name] = [(np.abs(colours - EVIDENCE(end)[:3]).max(axis=-1) < 0.02).mean() for end in (0.0, 1.0)]
    assert shares["for.png"][1] > 0.1 > shares["for.png"][0]
    assert shares["against.png"][0] > 0.1 > shares["against.png"][1]


def test_all_rows_of_an_occlusion_share_a_scale_and_rows_of_a_contribution_have_their_own(make_record, tmp_path):
    values = [[0.9, 0.1, 0.1, 0.1], [0.0002, 0.0001, 0.0001, 0.0001]]
    draw_explanation(make_record(values[1:]), None, tmp_path / "occlusion.png")
    draw_explanation(make_record(values, method="contribution"), None, tmp_path / "contribution.png")
    assert not shows(imread(tmp_path / "occlusion.png"), HEAT(1.0))
    picture = imread(tmp_path / "contribution.png")
    lowest_row = picture[round(picture.shape[0] * 0.62) : round(picture.shape[0] * 0.7), :1500]
    assert shows(lowest_row, HEAT(1.0)) and shows(lowest_row, HEAT(0.0))


def test_what_was_not_heard_is_hatched(make_record, tmp_path):
    record = make_record([[0.1] * 9])
    draw_explanation(record, ENVELOPE, tmp_path / "heard.png")
    del record["times"][2:6], record["values"][0][2:6]
    draw_explanation(record, ENVELOPE, tmp_path / "gap.png")
    assert not shows(imread(tmp_path / "heard.png"), sheet.SILENCE, 0.004)
    assert shows(imread(tmp_path / "gap.png"), sheet.SILENCE, 0.004)


def test_bands_stand_below_with_their_frequencies(make_record, tmp_path, texts):
    draw_explanation(make_record([[0.1, 0.2]]), ENVELOPE, tmp_path / "without.png")
    count = texts.count("tag 0")
    draw_explanation(make_record([[0.1, 0.2]], bands=[[0.0, 0.3]]), ENVELOPE, tmp_path / "with.png")
    assert texts.count("tag 0") == 3 * count
    assert imread(tmp_path / "with.png").shape[0] > imread(tmp_path / "without.png").shape[0] + 100
    assert [explanation._frequency(hertz) for hertz in (0, 300, 8000)] == ["0 Hz", "300 Hz", "8.0 kHz"]


def test_labels_that_two_tasks_share_are_told_apart(make_record, tmp_path, texts):
    draw_explanation(make_record([[0.1], [0.2]], labels=["slow", "slow"]), None, tmp_path / "x.png")
    assert {"slow (first)", "slow (second)"} <= set(texts)


def test_a_row_without_any_difference_and_a_lone_stretch_can_be_drawn(make_record, tmp_path):
    for method in ("occlusion", "contribution"):
        draw_explanation(make_record([[0.0]], method=method), ENVELOPE, tmp_path / f"{method}.png")
        assert imread(tmp_path / f"{method}.png").shape[1] == 1840


def test_an_explanation_of_nothing_is_refused_and_nothing_is_written(make_record, tmp_path):
    record = make_record([[0.1]]) | {"labels": []}
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_explanation(record, ENVELOPE, tmp_path / "x.png")
    assert not list(tmp_path.iterdir())
