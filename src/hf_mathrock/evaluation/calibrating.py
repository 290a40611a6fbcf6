# SPDX-License-Identifier: Apache-2.0
"""Calibrates a checkpoint on labelled songs, and writes what was found into its folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hf_mathrock.data.content import songs_digest
from hf_mathrock.evaluation.calibration import MIN_SONGS, Calibration, calibrate
from hf_mathrock.evaluation.division import halves, kept_apart
from hf_mathrock.evaluation.labelled import (
    Provenance,
    Rows,
    check_any_left,
    check_broken,
    describe_data,
    remarks_on,
    split_is_given,
    trained_on_any,
)
from hf_mathrock.evaluation.predictions import Predictions, Progress, predict
from hf_mathrock.evaluation.results import plain, today, write_json

CALIBRATION = "calibration.json"
# What describes the model before it was calibrated, and does not go into a copy.
_OUTDATED = ("results.json", "predictions.parquet", "windows.parquet", CALIBRATION)


@dataclass
class CalibrationRun:
    """What came out.

    Attributes:
        calibration: What was fitted, and what it changes.
        record: The content of `calibration.json`.
        remarks: What a reader of the figures should know, a line each.
    """

    calibration: Calibration
    record: dict[str, Any]
    remarks: list[str] = field(default_factory=list)


def calibrate_labelled(
    pipe: Any,
    data: Any,
    *,
    provenance: Provenance | None = None,
    earlier: Mapping[str, Any] | None = None,
    rule: str = "f1",
    report_share: float = 0.5,
    seed: int = 0,
    batch_size: int = 8,
    max_broken: float = 0.05,
    progress: Progress | None = None,
) -> CalibrationRun:
    """Fits temperatures and thresholds on some songs and reports on others.

    Where the data have a split of their own, or the model was trained on the one made by group, the validation songs
    are fitted on and the test songs reported on; else all songs are divided in two by group. Songs the model was
    trained on are left out: on them it is surer than it will ever be again.

    Args:
        pipe: A `mathrock-affect` pipeline.
        data: A `LabelledAudio`: a mapping from split to rows, with a `report`.
        provenance: Songs the checkpoint has seen.
        earlier: The `calibration.json` of the same weights, if any; tasks that cannot be fitted now keep what it gave
            them, and its songs are remembered.
        rule: "f1" or "precision:0.8".
        report_share: Where songs are divided, the share to report on.
        seed: Of the division.
        batch_size: Windows in a forward pass.
        max_broken: Share of songs that may be unreadable.
        progress: Called with (songs done, songs in all).

    Raises:
        ValueError: Too many songs cannot be read, or there are too few to divide, or no task can be calibrated.
    """
    provenance = provenance or Provenance()
    trained_on = provenance.trained_on or frozenset()
    report_of_data = getattr(data, "report", {})
    pools = _pools(data, split_is_given(report_of_data), trained_on)
    total = [Rows(data, pool).num_songs() for pool in pools]
    heard: list[Predictions] = []
    remarks: list[str] = []
    done = 0
    for pool in pools:
        predictions = predict(
            pipe,
            Rows(data, pool),
            exclude=trained_on,
            batch_size=batch_size,
            progress=_continued(progress, done, total),
        )
        done += sum(len(part) for part in (predictions.songs, predictions.silent, predictions.broken))
        done += len(predictions.excluded)
        if predictions.excluded and not len(predictions):
            raise ValueError(
                f"The model was trained on all {len(predictions.excluded)} songs of {', '.join(pool)}, of which it is "
                "surer than of any others; calibrate on songs it has not seen."
            )
        if predictions.excluded:
            remarks.append(
                f"{', '.join(pool)}: {len(predictions.excluded)} songs left out: the model was trained on them"
            )
            predictions.excluded.clear()
        check_broken(predictions, max_broken)
        check_any_left(predictions)
        remarks += [f"{', '.join(pool)}: {remark}" for remark in remarks_on(predictions, Provenance())]
        heard.append(predictions)
    if len(heard) == 2:
        fit, report = _separated(heard[0], heard[1], remarks)
        how = "validation and test split"
    else:
        chosen, others = halves(heard[0].groups, heard[0].content_ids, report_share, seed)
        fit, report = heard[0].select(chosen), heard[0].select(others)
        how = f"divided by group, {report_share:g} to report on"
    config = pipe.model.config
    calibration = calibrate(fit, report, temperatures=config.temperatures, thresholds=config.thresholds, rule=rule)
    if not calibration.tasks:
        raise ValueError(
            f"Nothing can be calibrated ({how}). {'; '.join(calibration.remarks)}. More songs are needed, of which "
            f"the model has learned nothing: {2 * MIN_SONGS} at least, half of them to fit on and half to report on."
        )
    kept, kept_songs = _kept(earlier, calibration, config.task_names, pipe.model_card["fingerprint"])
    songs = sorted(set(fit.content_ids) | kept_songs)
    described = describe_data(fit, report_of_data, [split for pool in pools[:1] for split in pool])
    record = calibration_record(pipe, calibration, report, songs, data=described, division=how, rule=rule, kept=kept)
    lead = f"fitted on {len(fit)} songs, reported on {len(report)} others ({how})"
    return CalibrationRun(calibration, record, [*remarks, lead, *calibration.remarks])


def calibration_record(
    pipe: Any,
    calibration: Calibration,
    report: Predictions,
    songs: Sequence[str],
    *,
    data: Mapping[str, Any],
    division: str,
    rule: str,
    kept: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of `calibration.json`.

    Args:
        pipe: The pipeline that was calibrated.
        calibration: What was found.
        report: The songs its figures are of.
        songs: Content ids of those fitted on.
        data: What these are, as `describe_data` says it.
        division: How they were kept apart from those reported on.
        rule: Of the thresholds.
        kept: Tasks of an earlier calibration that still holds.
    """
    record = {
        "date": today(),
        "fingerprint": pipe.model_card["fingerprint"],
        "data": data,
        "division": division,
        "fitted_on": {"num_songs": len(songs), "songs_digest": songs_digest(songs), "songs": list(songs)},
        "reported_on": {"num_songs": len(report), "songs_digest": songs_digest(report.content_ids)},
        "rule": rule.replace("=", ":"),
        "tasks": {**(kept or {}), **calibration.tasks},
        "remarks": calibration.remarks,
    }
    return plain(record)


def write_calibrated(
    run: CalibrationRun, pipe: Any, model: str, out: Path | None, beside: Mapping[str, Any] | None = None
) -> Path:
    """Writes temperatures and thresholds into a checkpoint's config, and `calibration.json` beside it.

    Args:
        run: What was found.
        pipe: The pipeline it was found with.
        model: Folder or Hub name of the checkpoint.
        out: Folder for a copy of the checkpoint; `None`: its own folder is changed.
        beside: Other JSON files by name, to be copied with a model of the Hub.

    Returns:
        The folder.

    Raises:
        ValueError: The folder for the copy is not empty, or there is no folder to change.
    """
    source = Path(model)
    folder = source if out is None else out
    if not (source / "config.json").is_file() and out is None:
        raise ValueError(f"{model!r} is no folder that could be changed; give one for a calibrated copy (--out DIR).")
    in_place = out is None or (out.exists() and source.exists() and out.resolve() == source.resolve())
    if in_place:
        _write_into(folder, run, pipe)
        return folder
    check_empty(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if (source / "config.json").is_file():
            for file in sorted(source.iterdir()):
                if file.is_file() and file.name not in _OUTDATED:
                    shutil.copyfile(file, folder / file.name)
        else:
            pipe.save_pretrained(folder)
            for name, content in (beside or {}).items():
                if content is not None:
                    write_json(folder / name, content)
        _write_into(folder, run, pipe)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # half a copy would pass for a model
        raise
    return folder


def _write_into(folder: Path, run: CalibrationRun, pipe: Any) -> None:
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    settings |= {"temperatures": run.calibration.temperatures, "thresholds": run.calibration.thresholds}
    type(pipe.model.config).from_dict(settings)  # refuses what the model could not load
    # In this order: a run that is stopped between the two leaves songs unmeasured, and none measured that were fitted.
    write_json(folder / CALIBRATION, run.record)
    write_json(folder / "config.json", settings, indent=2)


def check_empty(folder: Path) -> None:
    """Refuses a folder for a copy that holds something already.

    Raises:
        ValueError: It does, or it is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already, and not empty; give a new folder for the calibrated copy.")


def _pools(data: Mapping[str, Any], given: bool, trained_on: frozenset[str]) -> list[list[str]]:
    """Splits to fit on and splits to report on; or one list, of splits to divide."""
    of_training = "train" in data and bool(trained_on) and trained_on_any({"train": data["train"]}, trained_on)
    if {"validation", "test"} <= set(data) and (given or of_training):
        return [["validation"], ["test"]]
    held_out = [split for split in data if split != "train"]
    return [held_out if given and held_out else list(data)]


def _separated(fit: Predictions, report: Predictions, remarks: list[str]) -> tuple[Predictions, Predictions]:
    """Two given splits without songs to fit on that are of a group, or are a recording, to report on."""
    reported = np.repeat([False, True], [len(fit), len(report)])
    apart = kept_apart(fit.groups + report.groups, fit.content_ids + report.content_ids, reported)[: len(fit)]
    if not apart.any():
        raise ValueError(
            f"All {len(fit)} validation songs share a group or the recording itself with test songs, so there is none "
            "to fit on. Mend the split, or leave it out of the data so that one is made by group."
        )
    if not apart.all():
        remarks.append(f"{(~apart).sum()} validation songs left out: the test split has others of their groups")
    return fit.select(np.flatnonzero(apart)), report


def _kept(
    earlier: Mapping[str, Any] | None, calibration: Calibration, task_names: list[str], fingerprint: str
) -> tuple[dict[str, Any], set[str]]:
    """Entries of an earlier calibration of the same weights that still hold, and the songs they were fitted on."""
    if not earlier or earlier.get("fingerprint") != fingerprint:
        return {}, set()
    kept = {
        name: entry
        for name, entry in earlier.get("tasks", {}).items()
        if name in task_names and name not in calibration.tasks
    }
    return kept, set(earlier["fitted_on"]["songs"]) if kept else set()


def _continued(progress: Progress | None, before: int, totals: list[int | None]) -> Progress | None:
    if progress is None:
        return None
    total = None if None in totals else sum(number or 0 for number in totals)
    return lambda done, _: progress(before + done, total)
