# SPDX-License-Identifier: Apache-2.0
"""Tables of measured figures, from `results.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Metrics in the order of the table, how they are written, and to how many digits. `results.json` has more: `mean_score`
# mixes tasks and says nothing to a stranger.
METRICS = {
    "accuracy": ("accuracy", 2),
    "macro_f1": ("macro-F1", 2),
    "micro_f1": ("micro-F1", 2),
    "map": ("mAP", 2),
    "prior": ("mAP of random scores", 2),
    "roc_auc": ("ROC-AUC", 2),
    "acc1": ("Acc1", 2),
    "acc2": ("Acc2", 2),
    "ece": ("calibration error (ECE)", 3),
}


def split_metric(name: str, task_names: Sequence[str]) -> tuple[str, str] | None:
    """Task and metric of a flat name such as `tempo_macro_f1`; `None` for what is of no task."""
    for task in sorted(task_names, key=len, reverse=True):
        if name.startswith(f"{task}_"):
            return task, name[len(task) + 1 :]
    return None


def listed_metrics(results: Mapping[str, Any], task_names: Sequence[str]) -> list[tuple[str, str, str]]:
    """What was measured on any set: flat name, task and metric, by task and then in the order of `METRICS`."""
    found = {}
    for entry in results["sets"].values():
        for name, value in entry["metrics"].items():
            parts = split_metric(name, task_names)
            if value is None or parts is None or parts[1] not in METRICS:
                continue
            if parts[1] == "micro_f1" and f"{parts[0]}_accuracy" in entry["metrics"]:
                continue  # of one label per song it is the accuracy once more
            found[name] = parts
    order = list(METRICS)
    return [
        (name, task, metric)
        for name, (task, metric) in sorted(
            found.items(), key=lambda item: (list(task_names).index(item[1][0]), order.index(item[1][1]))
        )
    ]


def figure_table(results: Mapping[str, Any], task_names: Sequence[str]) -> str:
    """All sets side by side; with intervals, and with window level, where they were measured."""
    columns: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = []
    for name, entry in results["sets"].items():
        title = set_name(name)
        if entry.get("window_metrics"):
            columns.append((f"{title}, songs", entry["metrics"], entry.get("intervals") or {}))
            columns.append((f"{title}, single windows", entry["window_metrics"], {}))
        else:
            columns.append((title, entry["metrics"], entry.get("intervals") or {}))
    lines = [
        f"| | {' | '.join(title for title, _, _ in columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    for name, task, metric in listed_metrics(results, task_names):
        word, digits = METRICS[metric]
        cells = [_cell(values.get(name), intervals.get(name), digits) for _, values, intervals in columns]
        lines.append(f"| {task}: {word} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: float | None, interval: Sequence[float] | None, digits: int) -> str:
    if value is None:
        return "not measured"
    text = f"{value:.{digits}f}"
    if interval is None or None in interval:
        return text
    return f"{text} ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"


def set_name(name: str) -> str:
    """A set's key as words."""
    return name.replace("_", " ")


# The table of the README: the embedded checkpoint's sets, and what was aimed at on the set named.
SETS = {
    "unseen_seeds": "pieces of unseen seeds",
    "unseen_renderer": "the same composer through a renderer never trained on (FluidSynth, {soundfont})",
    "whole_pieces": "unseen pieces of 30 s with changing sections",
}
AIMS = {
    ("unseen_seeds", "tempo_macro_f1"): 0.93,
    ("unseen_seeds", "intensity_macro_f1"): 0.88,
    ("unseen_seeds", "vibe_macro_f1"): 0.85,
    ("unseen_renderer", "tempo_macro_f1"): 0.80,
    ("unseen_renderer", "intensity_macro_f1"): 0.70,
}
EMOTION_AIM = 3.0  # times the prior, on unseen seeds


def figures(results: Mapping[str, Any]) -> str:
    """Table of the embedded checkpoint's sets, with what was aimed at where it fell short."""
    lines = [
        "| heard | pieces | tempo F1 | intensity F1 | vibe F1 | emotion mAP (prior) |",
        "|---|---|---|---|---|---|",
    ]
    for name, title in SETS.items():
        if (entry := results["sets"].get(name)) is None:
            continue
        metrics = entry["metrics"]
        cells = [title.format(soundfont=results.get("soundfont", "")), str(entry["protocol"]["num"])]
        for task in ("tempo", "intensity", "vibe"):
            metric = f"{task}_macro_f1"
            interval = entry.get("intervals", {}).get(metric)
            cells.append(_against_aim(metrics[metric], AIMS.get((name, metric)), interval))
        ratio = metrics["emotion_map"] / metrics["emotion_prior"]
        cell = f"{metrics['emotion_map']:.2f} ({metrics['emotion_prior']:.2f}: {ratio:.1f}×)"
        cells.append(cell + (f", aim {EMOTION_AIM:g}×" if name == "unseen_seeds" and ratio < EMOTION_AIM else ""))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *(["", note] if (note := off_border(results)) else [])])


def off_border(results: Mapping[str, Any]) -> str:
    """What pieces close to a border between two tempo classes do to the accuracy, where that was measured."""
    seeds = results["sets"].get("unseen_seeds", {})
    if "tempo_accuracy_off_border" not in seeds:
        return ""
    return (
        f"Tempo accuracy on unseen seeds is {seeds['metrics']['tempo_accuracy']:.2f}, and "
        f"{seeds['tempo_accuracy_off_border']:.2f} over pieces more than 5 % away from 95 and 140 BPM."
    )


def _against_aim(value: float, aim: float | None, interval: Sequence[float] | None = None) -> str:
    said = [] if interval is None else [f"{interval[0]:.2f} to {interval[1]:.2f}"]
    if aim is None or value >= aim:
        figure = f"{value:.2f}"
    else:
        figure, said = f"{value:.3f}", [*said, f"aim {aim:.2f}"]
    return f"{figure} ({'; '.join(said)})" if said else figure


def calibration_note(results: Mapping[str, Any], calibration: Mapping[str, Any]) -> str:
    """What calibration did, and how far it carries to the renderer that was never trained on."""
    tasks = calibration["tasks"]
    moved = {name: entry for name, entry in tasks.items() if entry["temperature"] != 1}
    changes = ", ".join(
        f"from {entry['ece_before']:.3f} to {entry['ece_after']:.3f} for {name}" for name, entry in moved.items()
    )
    others = [f"{name} {entry['ece_after']:.3f}" for name, entry in tasks.items() if name not in moved]
    num = calibration["fitted_on"]["num_songs"]
    text = (
        f"In brackets the middle 95 % over pieces drawn again. Scores are calibrated on {num} more pieces: on those of "
        f"unseen seeds the calibration error (ECE) fell {changes}"
        + (f"; the others needed none ({', '.join(others)})." if others else ".")
    )
    if (other := results["sets"].get("unseen_renderer", {}).get("metrics")) is not None:
        errors = ", ".join(f"{name} {other[f'{name}_ece']:.2f}" for name in tasks if f"{name}_ece" in other)
        text += f" It does not carry over unharmed: through the other renderer the errors are {errors}."
    return text


def recordings(results: Mapping[str, Any]) -> str:
    """What the model says of real recordings, beside the tempo on which two beat trackers agree."""
    rows = results.get("recordings")
    if not rows:
        return ""
    lines = [
        "Real recordings, against the BPM on which two beat trackers (librosa, Essentia) agree within 4 %:",
        "",
        "| recording | trackers, BPM | agreed class | heard tempo | vibe | intensity |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        trackers = ", ".join(f"{bpm:.0f}" for bpm in row["trackers_bpm"].values())
        heard = [
            f"{label} {score:.2f}" for task in ("tempo", "vibe", "intensity") for label, score in [_best(row[task])]
        ]
        lines.append(f"| {' | '.join([row['file'], trackers, row['tempo_agreed'] or '(they differ)', *heard])} |")
    agreed = [row for row in rows if row["tempo_agreed"]]
    right = sum(_best(row["tempo"])[0] == row["tempo_agreed"] for row in agreed)
    lines += ["", f"The class agrees on {right} of the {len(agreed)} recordings on which the trackers do."]
    return "\n".join(lines)


def _best(scores: Mapping[str, float]) -> tuple[str, float]:
    return max(scores.items(), key=lambda item: item[1])
