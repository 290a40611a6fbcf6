# SPDX-License-Identifier: Apache-2.0
"""A checkpoint against labelled songs: which songs, what may not be measured on, and what came out."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_mathrock.data.content import content_id, songs_digest
from hf_mathrock.data.splitting import describe_leaks
from hf_mathrock.evaluation.measuring import measure
from hf_mathrock.evaluation.predictions import Predictions, Progress, predict
from hf_mathrock.evaluation.results import plain

ALL = "all"
MAX_LISTED = 100


@dataclass(frozen=True)
class Provenance:
    """Which songs a checkpoint has seen before, by content id.

    Attributes:
        trained_on: Songs it was trained on; `None`: it does not say.
        calibrated_on: Songs its temperatures and thresholds were fitted on.
        selected_on: Songs it was chosen by among the epochs of its training.
    """

    trained_on: frozenset[str] | None = None
    calibrated_on: frozenset[str] = frozenset()
    selected_on: frozenset[str] = frozenset()

    @classmethod
    def of_files(
        cls,
        training_songs: Mapping[str, Any] | None,
        calibration: Mapping[str, Any] | None,
        recipe: Mapping[str, Any] | None = None,
    ) -> Provenance:
        """From the content of `training_songs.json`, `calibration.json` and `recipe.json`, where there are any."""
        trained_on, selected_on = None, frozenset[str]()
        if training_songs is not None:
            trained_on = frozenset(training_songs.get("songs", ()))
            selected_on = frozenset(training_songs.get("selected_on", ()))
        elif recipe is not None and "seed" in ((recipe.get("data") or {}).get("train") or {}):
            trained_on = frozenset()  # generated pieces: nobody's songs
        calibrated_on = frozenset((calibration or {}).get("fitted_on", {}).get("songs", ()))
        return cls(trained_on, calibrated_on, selected_on)


@dataclass
class Evaluation:
    """What came out.

    Attributes:
        name: Of the set, in `results.json`.
        entry: Its figures, as `results.json` has them.
        predictions: What they were computed from.
        remarks: What a reader of the figures should know, a line each.
    """

    name: str
    entry: dict[str, Any]
    predictions: Predictions
    remarks: list[str] = field(default_factory=list)


class Rows:
    """The songs of one split or of several, one after another.

    Args:
        data: A `LabelledAudio`, or any mapping from split to rows.
        splits: Which of them, in order.
    """

    def __init__(self, data: Mapping[str, Any], splits: Sequence[str]) -> None:
        self._parts = [data[split] for split in splits]

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for part in self._parts:
            yield from part

    def num_songs(self) -> int | None:
        """How many there are; `None` for streams, which do not know."""
        if all(hasattr(part, "__len__") for part in self._parts):
            return sum(len(part) for part in self._parts)
        return None


def split_is_given(report: Mapping[str, Any]) -> bool:
    """Whether the test split of these data came with them, and was not made by group here."""
    return str(report.get("split")).startswith("given")


def chosen_splits(data: Mapping[str, Any], wanted: str | None = None) -> list[str]:
    """Splits to measure on.

    Args:
        data: A `LabelledAudio`, or any mapping from split to rows.
        wanted: A split, or "all"; `None`: test if there is one, else validation, else all.

    Raises:
        ValueError: There is no such split.
    """
    if wanted is None:
        return next(([split] for split in ("test", "validation") if split in data), list(data))
    if wanted == ALL:
        return list(data)
    if wanted not in data:
        raise ValueError(f"There is no split {wanted!r} in these data; there is {', '.join(data)}, and all.")
    return [wanted]


def trained_on_any(data: Mapping[str, Any], trained_on: Collection[str]) -> bool:
    """Whether a model was trained on any song of these data; stops at the first."""
    return any(_content(row) in trained_on for rows in data.values() for row in rows)


def _content(row: Mapping[str, Any]) -> str:
    try:
        return content_id(row["audio"])
    except (OSError, TypeError):
        return ""


def evaluate_labelled(
    pipe: Any,
    data: Any,
    splits: Sequence[str],
    *,
    provenance: Provenance | None = None,
    batch_size: int = 8,
    window_seconds: float | None = None,
    hop_seconds: float | None = None,
    aggregation: str = "mean",
    num_resamples: int = 1000,
    seed: int = 0,
    window_intervals: bool = False,
    max_broken: float = 0.05,
    progress: Progress | None = None,
) -> Evaluation:
    """Lets a checkpoint hear labelled songs and holds it against their labels.

    Args:
        pipe: A `mathrock-affect` pipeline.
        data: A `LabelledAudio`: a mapping from split to rows, with a `report`.
        splits: Those to measure on.
        provenance: Songs the checkpoint has seen: those it was calibrated on are passed over, and those it was trained
            on are counted.
        batch_size: Windows in a forward pass.
        window_seconds: Length of a window; default the model's.
        hop_seconds: Distance of two windows; default the model's.
        aggregation: From windows to songs.
        num_resamples: Of the bootstrap; 0: no intervals.
        seed: Of the bootstrap.
        window_intervals: Also measure the intervals of windows.
        max_broken: Share of songs that may be unreadable; one may be in any case.
        progress: Called with (songs done, songs in all).

    Raises:
        ValueError: Too many songs cannot be read, or none is left to measure on.
    """
    provenance = provenance or Provenance()
    rows = Rows(data, splits)
    predictions = predict(
        pipe,
        rows,
        exclude=provenance.calibrated_on,
        batch_size=batch_size,
        window_seconds=window_seconds,
        hop_seconds=hop_seconds,
        progress=None if progress is None else lambda done, _: progress(done, rows.num_songs()),
    )
    check_broken(predictions, max_broken)
    check_any_left(predictions)
    config = pipe.model.config
    figures = measure(
        predictions,
        temperatures=config.temperatures,
        thresholds=config.thresholds,
        aggregation=aggregation,
        num_resamples=num_resamples,
        seed=seed,
        window_intervals=window_intervals,
    )
    report = getattr(data, "report", {})
    name, title = set_name(report, splits)
    described = describe_data(predictions, report, splits, provenance.trained_on)
    remarks = remarks_on(predictions, provenance, all_broken(predictions, report))
    if described["leaks"]:
        remarks.append(describe_leaks(described["leaks"]))
    window_seconds, hop_seconds = pipe.feature_extractor.checked_grid(window_seconds, hop_seconds)
    entry = {
        "title": title,
        "data": described,
        "protocol": {
            "window_seconds": window_seconds,
            "hop_seconds": hop_seconds,
            "aggregation": aggregation,
            "num_resamples": num_resamples,
            "seed": seed,
            "temperatures": config.temperatures or {},
            "thresholds": config.thresholds or {},
        },
        **figures,
    }
    return Evaluation(name, plain(entry), predictions, remarks)


def set_name(report: Mapping[str, Any], splits: Sequence[str]) -> tuple[str, str]:
    """A set's name in `results.json` and what a person calls it, from the data's name and the splits."""
    source = printable_source(report)
    part = splits[0] if len(splits) == 1 else ALL
    stem = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in source)
    title = f"{source}, split {part}" if part != ALL else f"{source}, all splits"
    return f"{stem}_{part}", title


def printable_source(report: Mapping[str, Any]) -> str:
    """What the data are called: a corpus or Hub name, or of a path the last part, for results are passed on."""
    source = str(report.get("source") or report.get("corpus") or "songs")
    path = Path(source).expanduser()
    return path.resolve().name if path.exists() or path.is_absolute() else source


def describe_data(
    predictions: Predictions,
    report: Mapping[str, Any],
    splits: Sequence[str],
    trained_on: Collection[str] | None = None,
) -> dict[str, Any]:
    """The `data` of a set: which songs its figures are of."""
    leaks = [leak for leak in report.get("leaks", ()) if set(splits) & set(leak.get("splits", splits))]
    broken = all_broken(predictions, report)
    return {
        "source": printable_source(report),
        "corpus": report.get("corpus"),
        "split": splits[0] if len(splits) == 1 else ALL,
        "split_made": report.get("split"),
        "num_songs": len(predictions),
        "num_groups": len(set(predictions.groups)),
        "num_windows": len(predictions.window_songs),
        "seconds": float(predictions.seconds.sum()),
        "known": {task["name"]: int(predictions.known(task["name"]).sum()) for task in predictions.tasks},
        "songs_digest": songs_digest(predictions.content_ids),
        "trained_on": None if trained_on is None else sum(song in trained_on for song in predictions.content_ids),
        "left_out_as_calibrated": len(predictions.excluded),
        "num_silent": len(predictions.silent),
        "num_broken": len(broken),
        "leaks": leaks[:MAX_LISTED],
        "broken": broken[:MAX_LISTED],
    }


def all_broken(predictions: Predictions, report: Mapping[str, Any]) -> list[dict[str, str]]:
    """`{"song", "error"}` of what could not be read, by the loader of the data or later, without paths."""
    found = {entry["song"]: entry["error"] for entry in (*report.get("broken", ()), *predictions.broken)}
    return [{"song": song, "error": _without_path(error, song)} for song, error in found.items()]


def _without_path(error: str, song: str) -> str:
    """The message with the song's name where it quotes its path: results are passed on, and a path says too much."""
    return re.sub(rf"""(['"])(?:(?!\1).)*{re.escape(song)}\1""", lambda _: repr(song), error)


def remarks_on(
    predictions: Predictions, provenance: Provenance, broken: Sequence[Mapping[str, str]] | None = None
) -> list[str]:
    """What a reader of the figures should know, a line each; `broken`: if others than of the predictions."""
    broken = predictions.broken if broken is None else broken
    remarks = []
    if predictions.excluded:
        remarks.append(f"{_songs(len(predictions.excluded))} left out: the model was calibrated on them")
    if provenance.trained_on is not None:
        seen = sum(song in provenance.trained_on for song in predictions.content_ids)
        if seen:
            remarks.append(
                f"the model was trained on {seen} of these {len(predictions)} songs: "
                "the figures say how well it remembers, not how well it hears"
            )
    if chose := sum(song in provenance.selected_on for song in predictions.content_ids):
        remarks.append(f"{_songs(chose)} chose the model in its training: figures on them flatter it a little")
    if predictions.silent:
        remarks.append(f"{_songs(len(predictions.silent))} left out as silent: {_some(predictions.silent)}")
    if broken:
        listed = _some([entry["error"] for entry in broken], "; ")
        remarks.append(f"{_songs(len(broken))} left out as unreadable: {listed}")
    if doubled := len(predictions) - len(set(predictions.content_ids)):
        remarks.append(f"{_songs(doubled)} the same as others, byte by byte, and counted all the same")
    return remarks


def check_broken(predictions: Predictions, max_broken: float) -> None:
    """Refuses data of which too much cannot be read.

    Raises:
        ValueError: More than one song and more than this share of all.
    """
    broken = predictions.broken
    total = len(predictions) + len(predictions.silent) + len(broken)
    if len(broken) > max(1, max_broken * total):
        listed = _some([entry["error"] for entry in broken], "; ")
        raise ValueError(
            f"{len(broken)} of {total} songs cannot be read, more than `max_broken` ({max_broken:.0%}): {listed}"
        )


def check_any_left(predictions: Predictions) -> None:
    """Refuses data of which nothing is left.

    Raises:
        ValueError: No song is left; the message says where they went.
    """
    if len(predictions):
        return
    if predictions.excluded:
        raise ValueError(
            f"The model was calibrated on all {len(predictions.excluded)} songs, so no figure on them would mean "
            "anything; measure on others (another split, or --split all), or calibrate on others."
        )
    lost = f"{len(predictions.broken)} cannot be read, {len(predictions.silent)} are silent"
    raise ValueError(f"There is no song to measure on: {lost}.")


def _songs(num: int) -> str:
    return f"{num} song{'s' * (num != 1)}"


def _some(names: Sequence[str], separator: str = ", ", most: int = 3) -> str:
    more = f"{separator}and {len(names) - most} more" if len(names) > most else ""
    return separator.join(names[:most]) + more
