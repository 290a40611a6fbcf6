# SPDX-License-Identifier: Apache-2.0
"""The table of an encoder's figures."""

from __future__ import annotations

import pytest

from hf_mathrock.report.benchmark_table import probe_table


def entry(task: str, how: str, mean: float, sd: float | None = 0.01, **more) -> dict:
    known = {"metric": "accuracy", "num_seeds": 3, "num_test": 60, "chance": 0.25, "ceiling": None}
    return {"task": task, "how": how, "mean": mean, "sd": sd, **known, **more}


def test_a_row_for_each_task_and_a_column_for_each_way_with_the_best_in_bold() -> None:
    table = probe_table(
        [
            entry("form", "whole track", 0.8, ceiling=1 / 3),
            entry("form", "chunk mean", 0.3, ceiling=1 / 3),
            entry("key", "whole track", 0.5, sd=None, num_test=90),
        ]
    )
    lines = table.splitlines()
    assert lines[0] == "| task | metric | whole track | chunk mean | chance | from single sections |"
    assert lines[2] == "| form | accuracy | **0.800 ± 0.010** | 0.300 ± 0.010 | 0.250 | 0.333 |"
    assert lines[3] == "| key | accuracy | **0.500** |  | 0.250 |  |"
    assert lines[-1] == "Mean ± standard deviation over 3 seeds; tested on 60 to 90 items."


def test_what_lies_within_the_spread_of_the_best_is_bold_too() -> None:
    table = probe_table([entry("form", "a", 0.50, 0.02), entry("form", "b", 0.49, 0.001), entry("form", "c", 0.45)])
    assert (
        table.splitlines()[2] == "| form | accuracy | **0.500 ± 0.020** | **0.490 ± 0.001** | 0.450 ± 0.010 | 0.250 |"
    )


def test_where_less_is_better_the_least_is_bold() -> None:
    rows = [entry("error", how, mean, higher_is_better=False) for how, mean in (("a", 0.9), ("b", 0.1))]
    assert "0.900 ± 0.010 | **0.100" in probe_table(rows)


def test_no_figures_and_two_of_one_cell_are_refused() -> None:
    with pytest.raises(ValueError, match="no figures"):
        probe_table([])
    with pytest.raises(ValueError, match="two figures of 'form'"):
        probe_table([entry("form", "a", 0.5), entry("form", "a", 0.6)])
