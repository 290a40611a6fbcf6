# SPDX-License-Identifier: Apache-2.0
"""What something costs as it grows: time and memory against length, a curve for each way to do it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, NullLocator

from .figures import open_figure, plain_axis
from .timeline import OTHER_COLOURS

_MARKERS = "osD^vPX"


def draw_costs(
    curves: Mapping[str, Sequence[Mapping[str, Any]]], lengths: Mapping[str, float], path: str | os.PathLike[str]
) -> None:
    """Draws seconds and memory over length side by side, both axes logarithmic.

    Args:
        curves: Way to its points, by rising length: `audio_seconds`, `seconds` and `additional_bytes` of each.
        lengths: Names of the lengths on the axis, to seconds.
        path: Where the PNG goes.

    Raises:
        ValueError: There is no curve.
    """
    if not curves:
        raise ValueError("there is no curve to draw: nothing was measured")
    with open_figure(11.0, 4.6, path) as figure:
        left, right = figure.subplots(1, 2)
        panels = ((left, "time", "seconds", 1.0), (right, "memory beyond the model", "additional_bytes", 1e6))
        for axis, title, key, unit in panels:
            plain_axis(axis, title, "length of the track", "")
            for index, (name, points) in enumerate(curves.items()):
                axis.plot(
                    [point["audio_seconds"] for point in points],
                    [point[key] / unit for point in points],
                    color=OTHER_COLOURS[index % len(OTHER_COLOURS)],
                    marker=_MARKERS[index % len(_MARKERS)],
                    markersize=4,
                    linewidth=1.6,
                    label=name,
                )
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.xaxis.set_major_locator(FixedLocator(list(lengths.values())))
            axis.xaxis.set_major_formatter(FixedFormatter(list(lengths)))
            axis.xaxis.set_minor_locator(NullLocator())
            axis.tick_params(axis="x", rotation=45)
        left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} s"))
        right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g} MB"))
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
