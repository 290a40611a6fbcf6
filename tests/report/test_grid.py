# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from hf_mathrock.report.grid import lay_on_grid


def window(start, end, **scores):
    return {"start": start, "end": end, "mood": [{"label": k, "score": v, "active": True} for k, v in scores.items()]}


def test_overlapping_windows_are_averaged_cell_by_cell():
    grid = lay_on_grid([window(0, 10, up=0.2), window(5, 15, up=0.6), window(10, 18.5, up=1.0)], ["mood"])
    np.testing.assert_allclose(grid.edges, [0, 5, 10, 15, 18.5])
    np.testing.assert_allclose(grid.scores["mood"], [[0.2, 0.4, 0.8, 1.0]])


def test_silence_does_not_pull_the_average_down_and_is_silent_only_where_nothing_else_is_heard():
    grid = lay_on_grid([window(0, 10, up=0.8), window(5, 15), window(10, 20)], ["mood"])
    np.testing.assert_allclose(grid.scores["mood"], [[0.8, 0.8, np.nan, np.nan]])
    assert grid.silent.tolist() == [False, False, True, True]


def test_a_gap_between_windows_is_neither_silent_nor_scored():
    grid = lay_on_grid([window(0, 5, up=0.5), window(10, 15, up=0.7)], ["mood"])
    np.testing.assert_allclose(grid.scores["mood"], [[0.5, np.nan, 0.7]])
    assert not grid.silent.any()


def test_labels_are_in_order_of_their_mean_score_whatever_the_windows_list_first():
    grid = lay_on_grid([window(0, 10, a=0.1, b=0.9), window(10, 20, b=0.5, a=0.6)], ["mood"])
    assert grid.labels["mood"] == ["b", "a"]
    np.testing.assert_allclose(grid.scores["mood"], [[0.9, 0.5], [0.1, 0.6]])


def test_a_label_that_top_k_left_out_of_a_window_is_unknown_there():
    grid = lay_on_grid([window(0, 10, a=0.9), window(10, 20, b=0.4)], ["mood"])
    np.testing.assert_allclose(grid.scores["mood"], [[0.9, np.nan], [np.nan, 0.4]])


def test_three_hours_fit_into_the_cells_and_keep_their_mean():
    windows = [window(5 * i, 5 * i + 10, up=(i % 100) / 100) for i in range(2160)]
    grid = lay_on_grid(windows, ["mood"], max_cells=600)
    assert grid.scores["mood"].shape == (1, 600)
    # 108 cells later the wave is where it was: nothing is shifted along the way.
    assert abs(grid.scores["mood"].mean() - 0.495) < 0.01
    assert np.isfinite(grid.scores["mood"]).all()


def test_no_segments_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match="return_segments=True"):
        lay_on_grid([], ["mood"])
