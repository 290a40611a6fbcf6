# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import warnings

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.image import imread

from hf_mathrock.report.figures import (
    draw_confusion,
    draw_evaluation,
    draw_label_bars,
    draw_precision_recall,
    draw_reliability,
)

CURVE = {"precision": [1.0, 0.8, 0.4], "recall": [0.0, 0.5, 1.0]}
BINS = {"low": [0.2, 0.8], "high": [0.3, 0.9], "confidence": [0.25, 0.85], "frequency": [0.1, 0.6], "count": [3, 9]}


@pytest.fixture
def axes(monkeypatch):
    """Axes of the figures that were drawn: what is on them can be asked."""
    drawn = []
    make = mpl.figure.Figure.add_subplot

    def remember(figure, *args, **kwargs):
        drawn.append(make(figure, *args, **kwargs))
        return drawn[-1]

    monkeypatch.setattr(mpl.figure.Figure, "add_subplot", remember)
    return drawn


def legend(axis: Axes):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def test_curves_are_drawn_where_precision_and_recall_are(axes, tmp_path):
    draw_precision_recall("mood", {"calm": CURVE}, {"calm": 0.76}, tmp_path / "curves.png")
    (line,) = axes[0].lines
    assert line.get_xdata().tolist() == CURVE["recall"] and line.get_ydata().tolist() == CURVE["precision"]
    assert legend(axes[0]) == ["calm (0.76)"]
    assert imread(tmp_path / "curves.png").ndim == 3


def test_of_many_labels_the_most_frequent_are_named(axes, tmp_path):
    names = [f"label {number}" for number in range(20)]
    support = {name: number for number, name in enumerate(names)}
    curves, precisions = dict.fromkeys(names, CURVE), dict.fromkeys(names, 0.5)
    draw_precision_recall("mood", curves, precisions, tmp_path / "curves.png", support=support)
    assert legend(axes[0])[:2] == ["label 19 (0.50)", "label 18 (0.50)"] and len(legend(axes[0])) == 6
    assert len(axes[0].lines) == 20 and "14 rarer labels" in axes[0].get_legend().get_title().get_text()


def test_rows_of_the_confusion_are_what_is_true(axes, tmp_path):
    draw_confusion("tempo", ["slow", "fast"], [[5, 1], [0, 4]], tmp_path / "confusion.png")
    (axis,) = axes
    assert axis.get_xlabel() == "heard" and axis.get_ylabel() == "true"
    written = {text.get_position(): text.get_text() for text in axis.texts}
    assert written == {(0, 0): "5", (1, 0): "1", (1, 1): "4"}  # a position is (column, row)
    assert np.allclose(axis.images[0].get_array(), [[5 / 6, 1 / 6], [0, 1]])


def test_a_class_that_no_song_has_divides_by_nothing(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_confusion("tempo", ["slow", "fast"], [[3, 0], [0, 0]], tmp_path / "confusion.png")


def test_reliability_shows_both_sides_of_a_calibration_and_fuller_bins_larger(axes, tmp_path):
    curves = {"uncalibrated": {**BINS, "ece": 0.21}, "calibrated": {**BINS, "frequency": [0.25, 0.8], "ece": 0.04}}
    draw_reliability("tempo", curves, tmp_path / "reliability.png")
    diagonal, before, after = ([line.get_xdata(), line.get_ydata()] for line in axes[0].lines)
    assert np.array_equal(diagonal, [[0, 1], [0, 1]])
    assert np.array_equal(before, [[0.25, 0.85], [0.1, 0.6]]) and np.array_equal(after, [[0.25, 0.85], [0.25, 0.8]])
    assert legend(axes[0]) == ["uncalibrated (ECE 0.210)", "calibrated (ECE 0.040)"]
    small, large = axes[0].collections[0].get_sizes()
    assert large > 2 * small


def test_bars_are_sorted_and_carry_interval_and_chance(axes, tmp_path):
    draw_label_bars(
        "mood",
        {"calm": 0.3, "angry": 0.8},
        tmp_path / "bars.png",
        intervals={"calm": [0.2, 0.5]},
        chance={"calm": 0.1, "angry": 0.4},
    )
    (axis,) = axes
    assert [bar.get_width() for bar in axis.patches] == [0.3, 0.8]  # from below
    assert [label.get_text() for label in axis.get_yticklabels()] == ["calm", "angry"]
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in axis.lines]
    assert ([0.2, 0.5], [0, 0]) in lines and ([0.1, 0.1], [-0.4, 0.4]) in lines and ([0.4, 0.4], [0.6, 1.4]) in lines


def test_names_of_labels_are_taken_literally(axes, tmp_path):
    names = {"$x^2": 0.5, "_hidden": 0.25, "a\x1bb": 0.1}
    curves = dict.fromkeys(names, CURVE)
    draw_precision_recall("$t$", curves, names, tmp_path / "curves.png")
    shown = [text.replace("\u200b", "").replace("\\$", "$") for text in legend(axes[0])]
    assert shown == ["$x^2 (0.50)", "_hidden (0.25)", "a\ufffdb (0.10)"]
    draw_label_bars("$t$", names, tmp_path / "bars.png")
    draw_confusion("$t$", list(names), np.eye(3), tmp_path / "confusion.png")


def test_nothing_to_draw_is_said_and_nothing_is_written(tmp_path):
    for draw in (
        lambda path: draw_precision_recall("mood", {}, {}, path),
        lambda path: draw_reliability("mood", {}, path),
        lambda path: draw_label_bars("mood", {}, path),
    ):
        with pytest.raises(ValueError, match="mood"):
            draw(tmp_path / "x.png")
    with pytest.raises(ValueError, match="2 labels need a matrix"):
        draw_confusion("tempo", ["slow", "fast"], [[1]], tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


def test_the_users_matplotlib_settings_neither_matter_nor_change(tmp_path):
    draw_label_bars("mood", {"calm": 0.3}, tmp_path / "one.png")
    with mpl.rc_context({"figure.facecolor": "black", "font.size": 30, "text.color": "red"}):
        draw_label_bars("mood", {"calm": 0.3}, tmp_path / "other.png")
        assert mpl.rcParams["font.size"] == 30
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()


def test_an_evaluation_has_a_picture_of_everything_that_is_known(tmp_path):
    tasks = [
        {"name": "mood", "labels": ["calm", "angry"]},
        {"name": "tempo", "labels": ["slow", "fast"]},
        {"name": "key", "labels": ["a", "b"]},
    ]
    entry = {
        "average_precision": {"mood": {"calm": 0.5}, "tempo": {"slow": 0.9, "fast": 0.8}, "key": {}},
        "support": {"mood": {"calm": 3, "angry": 0}},
        "confusion": {"tempo": [[2, 1], [0, 2]], "key": [[0, 0], [0, 0]]},
        "label_intervals": {"mood": {"calm": [0.2, 0.7]}},
        "chance": {"mood": {"calm": 0.3}},
    }
    both = {"precision_recall": {"slow": CURVE, "fast": CURVE}, "reliability": {"scores": BINS}}
    curves = {"mood": {"precision_recall": {"calm": CURVE}}, "tempo": both}
    drawn = draw_evaluation(tasks, entry, curves, tmp_path / "deep" / "figures")
    assert [path.name for path in drawn] == [
        "precision-recall-mood.png", "labels-mood.png",
        "precision-recall-tempo.png", "confusion-tempo.png", "reliability-tempo.png", "labels-tempo.png",
    ]  # fmt: skip
    assert all(imread(path).shape[0] > 100 for path in drawn)
