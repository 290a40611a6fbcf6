# SPDX-License-Identifier: Apache-2.0
"""Figures of an encoder as a Markdown table: a row for each task, a column for each way to describe a track."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def probe_table(entries: Sequence[Mapping[str, Any]]) -> str:
    """The table of the `probes` of a `results.json`.

    Of a row the best mean is bold, as is every other that lies within one standard deviation of it, by its own or by
    the best one's.

    Args:
        entries: Each with `task`, `metric`, `how` (its column), `mean`, `sd` (or `None`), `num_seeds` and `num_test`;
            where known `chance`, `ceiling` (what is possible without the order of sections) and `higher_is_better`.

    Returns:
        Markdown, with a last line that says what the figures are.

    Raises:
        ValueError: There are no entries, or two are of one task, metric and way.
    """
    if not entries:
        raise ValueError("there are no figures to make a table of")
    hows = list(dict.fromkeys(entry["how"] for entry in entries))
    rows: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for entry in entries:
        row = rows.setdefault((entry["task"], entry["metric"]), {})
        if entry["how"] in row:
            raise ValueError(f"there are two figures of {entry['task']!r}, {entry['metric']!r}, {entry['how']!r}")
        row[entry["how"]] = entry
    with_ceiling = any(entry.get("ceiling") is not None for entry in entries)
    heads = ["task", "metric", *hows, "chance", *(["from single sections"] if with_ceiling else [])]
    lines = [_line(heads), _line(["---", "---", *["---:"] * (len(heads) - 2)])]
    for (task, metric), row in rows.items():
        first = next(iter(row.values()))
        best = _best(row)
        cells = [_cell(row[how], how in best) if how in row else "" for how in hows]
        known = [_number(first.get("chance")), *([_number(first.get("ceiling"))] if with_ceiling else [])]
        lines.append(_line([task, metric, *cells, *known]))
    seeds = sorted({entry["num_seeds"] for entry in entries})
    tested = sorted({entry["num_test"] for entry in entries})
    lines += ["", f"Mean ± standard deviation over {_span(seeds)} seeds; tested on {_span(tested)} items."]
    return "\n".join(lines) + "\n"


def _best(row: Mapping[str, Mapping[str, Any]]) -> set[str]:
    known = {how: entry for how, entry in row.items() if entry["mean"] is not None}
    if not known:
        return set()
    sign = 1 if next(iter(row.values())).get("higher_is_better", True) else -1
    winner = max(known, key=lambda how: sign * known[how]["mean"])
    top = known[winner]

    def near(entry: Mapping[str, Any]) -> bool:
        spread = max(top["sd"] or 0.0, entry["sd"] or 0.0)
        return abs(top["mean"] - entry["mean"]) <= spread

    return {how for how, entry in known.items() if near(entry)}


def _cell(entry: Mapping[str, Any], bold: bool) -> str:
    text = _number(entry["mean"])
    if text and entry["sd"] is not None:
        text += f" ± {entry['sd']:.3f}"
    return f"**{text}**" if bold else text


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _span(numbers: Sequence[int]) -> str:
    return f"{numbers[0]}" if numbers[0] == numbers[-1] else f"{numbers[0]} to {numbers[-1]}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
