# SPDX-License-Identifier: Apache-2.0
"""Labelled audio of whatever shape, as splits of rows that every other part of the package takes.

songs = load_labelled_audio("my_songs/")
songs["train"][0]["labels"], songs.tasks, songs.report
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from hf_mathrock.data.assembling import label_counts, label_sets, selected, with_our_columns
from hf_mathrock.data.audio_rows import audio_column_of, check_audio, identify
from hf_mathrock.data.columns import given_splits, group_columns, song_names
from hf_mathrock.data.encoding import encode_parts
from hf_mathrock.data.sources import Part, column_values, read_source
from hf_mathrock.data.splitting import (
    SPLITS,
    LeakWarning,
    assign_splits,
    checked_shares,
    content_ids,
    describe_leaks,
    find_leaks,
    link_groups,
    without_leaks,
)
from hf_mathrock.data.taxonomy import LabelColumns

__all__ = ["LeakWarning", "OnLeak", "content_ids", "load_labelled_audio"]

OnLeak = Literal["warn", "raise", "drop"]
_SHOWN = 5


def load_labelled_audio(
    source: Any,
    tasks: Sequence[Mapping[str, Any]] | None = None,
    *,
    corpus: str | None = None,
    columns: Mapping[str, str] | None = None,
    audio_column: str | None = None,
    group_by: str | Sequence[str] | None = None,
    shares: Mapping[str, float] | None = None,
    seed: int = 0,
    on_leak: OnLeak = "warn",
    max_broken: float = 0.05,
) -> Any:
    """Labelled audio as training, validation and test data, with its labels and files checked.

    No artist or work is in two splits, or it is said. No audio is decoded, but every file is opened, so that broken
    ones are known before training.

    Args:
        source: One of
            - a folder with `metadata.csv`, `.jsonl` or `.parquet`, or with such in `train/`, `validation/`, `test/`; or
              one of `train.csv`, ...; or without a table, where the audio lies in a sub-folder per label;
            - a `.csv`, `.tsv`, `.jsonl` or `.parquet` file with a column of paths, relative to its folder;
            - a folder that `save_to_disk` wrote, or the name of a data set on the Hub;
            - a `datasets.Dataset`, `DatasetDict`, `IterableDataset` or `IterableDatasetDict`;
            - a `.pyjama` or `.hdf5` file of such a pair.
        tasks: What the labels must fit, `model.config.tasks`. `None`: the tasks that the columns speak of, each with
            the labels found; columns of numbers, artists, titles and the like are passed over.
        corpus: `source` is a local copy of this corpus; see `hf_mathrock.data.corpora`.
        columns: Task → its column, where they are not called alike. Without `tasks` only these become tasks.
        audio_column: Column of the audio; default the one of type `Audio`, or `file_name`, `path`, `audio`, `file`.
        group_by: Columns whose equal values must not be in two splits. Default: those there are of artist, artist_id,
            work, work_id, group; or album where there is no artist. Equal recordings are always kept together.
        shares: Split → fraction of the songs, where no split is given or a part of it is missing; default 0.8, 0.1,
            0.1. `{"test": 1}` makes everything test data.
        seed: Of the split.
        on_leak: What to do about a given split with a group on both sides: a `LeakWarning`, an error, or "drop" the
            songs from the side that is trained on.
        max_broken: Fraction of recordings that may be missing or damaged; they are left out and listed in the report.
            Those that the reader of a corpus left out are listed, too, but do not count here.

    Returns:
        `LabelledAudio`; `IterableLabelledAudio` for what is streamed. A split stands in a column `split`, in folders or
        in a `DatasetDict`, and else is made by group, also where everything is called "train" (the Hub calls it so). To
        given training and test data without validation, the latter is cut from the training data by group.

    Raises:
        FileNotFoundError: There is no such source.
        ValueError: No rows, audio column, label column or known label; a label that the tasks do not have; too many
            broken recordings; leaks, with `on_leak="raise"`.

    A path in a table that was named itself may lead anywhere; in a folder, a saved data set or one of the Hub it must
    stay inside. URLs are never fetched.
    """
    try:
        import datasets

        from hf_mathrock.data.labelled_audio import LabelledAudio
    except ImportError:
        raise ImportError('Labelled audio needs datasets: pip install "hf-mathrock[train]"') from None
    if on_leak not in get_args(OnLeak):
        raise ValueError(f"`on_leak` is {on_leak!r}; allowed: {', '.join(get_args(OnLeak))}.")
    if not 0 <= max_broken <= 1:
        raise ValueError(f"`max_broken` is {max_broken}; it is a fraction of the recordings, from 0 to 1.")
    wanted = checked_shares(shares)
    if tasks is None and corpus is None:
        tasks = getattr(source, "tasks", None)  # LabelledAudio, once more
    if isinstance(source, (datasets.IterableDataset, datasets.IterableDatasetDict)):
        from hf_mathrock.data.streaming import stream_labelled_audio

        return stream_labelled_audio(
            source, tasks, columns=columns, audio_column=audio_column, group_by=group_by, shares=wanted, seed=seed
        )

    text_columns = [*(columns or {}).values(), *(task["name"] for task in tasks or ())]
    found = read_source(source, corpus, text_columns)
    parts = [part for part in found.parts if len(part.rows)]
    if not parts:
        raise ValueError(f"{found.name} is empty: {', '.join(part.place for part in found.parts)} has no rows.")
    audio_columns = [audio_column_of(part, audio_column) for part in parts]
    names = [song_names(part, column) for part, column in zip(parts, audio_columns, strict=True)]
    given = given_splits(parts, audio_columns)
    tying = group_columns(parts, group_by)
    tasks, labels = _labels(found.tasks if tasks is None else tasks, LabelColumns(parts, columns), parts, names)

    audio = [check_audio(*row) for row in zip(parts, audio_columns, names, strict=True)]
    broken = [entry for part in audio for entry in part.broken]
    _check_broken(broken, sum(map(len, names)), max_broken, found.name)
    identify(audio)
    usable = np.flatnonzero(np.concatenate([part.usable for part in audio]))

    def of_usable(columns_of_parts: Iterable[Sequence[Any]]) -> list[Any]:
        joined = [value for column in columns_of_parts for value in column]
        return [joined[row] for row in usable]

    ties = {name: of_usable(column_values(part.rows, name) for part in parts) for name in tying}
    groups = link_groups(ties, of_usable(part.contents for part in audio), of_usable(names))
    splits = None if given is None else of_usable(given)
    splits, how = _completed_splits(splits, groups, label_sets(tasks, labels, usable), wanted, seed)
    if how != "given" and not ties and len(set(splits)) > 1:
        warnings.warn(
            "there is no column of artists, works or groups, so each recording is a group of its own, and songs of one "
            "artist may be heard in training and in the test; name such a column by group_by=...",
            stacklevel=2,
        )
    stays, leaks, dropped = _treat_leaks(groups, splits, on_leak)

    group_of_row = dict(zip(usable.tolist(), groups, strict=True))
    whole, start = [], 0
    for part, column, checked, songs in zip(parts, audio_columns, audio, names, strict=True):
        here = range(start, start + len(songs))
        start += len(songs)
        part_labels = {name: values[here.start : here.stop] for name, values in labels.items()}
        part_groups = [group_of_row.get(row, "") for row in here]
        whole.append(with_our_columns(part, column, checked, tasks, part_labels, part_groups, songs))
    chosen = {name: np.flatnonzero(stays & (np.array(splits) == name)) for name in SPLITS}
    chosen = {name: index for name, index in chosen.items() if len(index)}
    seconds = np.concatenate([part.seconds for part in audio])[usable]
    report = {
        "source": found.name,
        "corpus": corpus,
        "split": how,
        "group_by": tying,
        "num_songs": {name: len(index) for name, index in chosen.items()},
        "num_groups": {name: len({groups[row] for row in index}) for name, index in chosen.items()},
        "seconds": {name: round(float(seconds[index].sum()), 3) for name, index in chosen.items()},
        **label_counts(tasks, labels, {name: usable[index] for name, index in chosen.items()}),
        "leaks": leaks,
        "dropped": dropped,
        "broken": [*found.broken, *broken],
    }
    _warn_of_one_class(tasks, report)
    return LabelledAudio({name: selected(whole, usable[index]) for name, index in chosen.items()}, tasks, report)


def _labels(
    tasks: Sequence[Mapping[str, Any]] | None, columns: LabelColumns, parts: Sequence[Part], names: list[list[str]]
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Complete tasks, and the labels of every row as `encode_parts` gives them."""
    from hf_mathrock.models.configuration_mathrock import MathRockConfig

    if tasks is None:
        complete = columns.infer()
    else:
        complete = MathRockConfig(tasks=[dict(task) for task in tasks]).tasks
        columns.find(complete)
    return complete, encode_parts(complete, parts, columns, names)


def _check_broken(broken: Sequence[Mapping[str, str]], num_rows: int, max_broken: float, source: str) -> None:
    """Say how many recordings cannot be read; too many are an error, and so is nothing but such."""
    if not broken:
        return
    first = "".join(f"\n  {entry['song']}: {entry['error']}" for entry in broken[:_SHOWN])
    more = f"\n  and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
    said = f"{len(broken)} of {num_rows} recordings of {source} cannot be read"
    if len(broken) == num_rows or len(broken) > max_broken * num_rows:
        advice = "" if len(broken) == num_rows else f", or raise max_broken (now {max_broken:g}) to go on without them"
        raise ValueError(f"{said}. Check that the paths and the folder are right{advice}. The first:{first}{more}")
    warnings.warn(f"{said} and are left out; report['broken'] lists them. The first:{first}{more}", stacklevel=3)


def _completed_splits(
    given: list[str] | None,
    groups: Sequence[str],
    label_sets: Sequence[Sequence[tuple[str, int]]],
    shares: Mapping[str, float],
    seed: int,
) -> tuple[list[str], str]:
    """A split for every row, and in words where it comes from."""
    if given is None:
        return assign_splits(groups, label_sets, shares, seed), "by group"
    wanted = {name: shares.get(name, 0.0) for name in ("train", "validation")}
    if "validation" in given or not {"train", "test"} <= set(given) or not all(wanted.values()):
        return given, "given"
    rows = [row for row, split in enumerate(given) if split == "train"]
    if len({groups[row] for row in rows}) < 2:
        return given, "given"
    wanted = {name: share / sum(wanted.values()) for name, share in wanted.items()}
    cut = assign_splits([groups[row] for row in rows], [label_sets[row] for row in rows], wanted, seed)
    completed = list(given)
    for row, split in zip(rows, cut, strict=True):
        completed[row] = split
    return completed, "given, validation taken from train by group"


def _treat_leaks(
    groups: Sequence[str], splits: Sequence[str], on_leak: OnLeak
) -> tuple[np.ndarray, list[dict[str, Any]], list[dict[str, Any]]]:
    """Which rows stay, the leaks that are left, and those that were dropped (`num_songs`: how many songs went)."""
    stays, leaks = np.ones(len(groups), bool), find_leaks(groups, splits)
    if not leaks:
        return stays, [], []
    said = describe_leaks(leaks)
    if on_leak == "raise":
        raise ValueError(f"{said}. Split by group instead, or call with on_leak='drop' to train without them.")
    if on_leak == "warn":
        warnings.warn(f"{said}; on_leak='drop' trains without them.", LeakWarning, stacklevel=3)
        return stays, leaks, []
    stays = np.array(without_leaks(groups, splits))
    gone = Counter(group for group, stay in zip(groups, stays, strict=True) if not stay)
    if lost := [name for name in SPLITS if name in splits and not (stays & (np.array(splits) == name)).any()]:
        raise ValueError(f"{said}. Without them nothing is left of {', '.join(lost)}; split the data by group instead.")
    return stays, [], [{**leak, "num_songs": gone[leak["group"]]} for leak in leaks]


def _warn_of_one_class(tasks: Sequence[Mapping[str, Any]], report: Mapping[str, Any]) -> None:
    """Say which tasks the training data cannot teach, all their songs having the same label."""
    for task in tasks:
        counts = report["label_counts"].get("train", {}).get(task["name"], {})
        seen = [label for label, count in counts.items() if count]
        if task["type"] == "single_label" and len(seen) == 1:
            warnings.warn(
                f"every training song with a known {task['name']} is {seen[0]!r}: one class alone teaches nothing.",
                stacklevel=3,
            )
