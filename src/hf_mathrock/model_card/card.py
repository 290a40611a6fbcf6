# SPDX-License-Identifier: Apache-2.0
"""The text of a card: the template's slots, one function each. What nobody measured or said is stated as such."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_mathrock.model_card.architecture import describe_architecture, listening_grid, usage_task
from hf_mathrock.model_card.encoder import is_encoder
from hf_mathrock.model_card.encoder_card import render_encoder_card
from hf_mathrock.model_card.figures import figure_table, off_border, recordings, set_name
from hf_mathrock.model_card.metadata import card_data
from hf_mathrock.model_card.source import CardSource, read_source
from hf_mathrock.model_card.statements import (
    broken_files,
    citation,
    count,
    groups_in_two_splits,
    licence,
    provenance,
    said,
    training,
)

TEMPLATE = Path(__file__).with_name("template.md")
AGGREGATIONS = {
    "mean": "windows averaged",
    "max": "each label's best window",
    "vote": "a vote of the windows",
    "mean_logit": "logits of the windows averaged",
}
NUM_TAGS_SHOWN = 5


def write_card(
    folder: str | Path,
    *,
    repo: str | None = None,
    facts: Mapping[str, Any] | None = None,
    fingerprint: str | None = None,
) -> Path:
    """Write the card of a checkpoint into its folder; the arguments are those of `read_source`."""
    path = Path(folder) / "README.md"
    path.write_text(render_card(read_source(folder, repo=repo, facts=facts, fingerprint=fingerprint)), encoding="utf-8")
    return path


def render_card(source: CardSource) -> str:
    """The card, as Markdown with YAML at its top."""
    if is_encoder(source.config):
        return render_encoder_card(source)
    window_seconds, hop_seconds = listening_grid(source.extractor)
    return TEMPLATE.read_text(encoding="utf-8").format(
        metadata=card_data(source).to_yaml(),
        name=source.name,
        summary=said(source, "summary", "what the model is for"),
        tasks=_tasks(source),
        num_parameters=f"{source.num_parameters:,}",
        size_mb=source.size_bytes / 1e6,
        window_seconds=window_seconds,
        hop_seconds=hop_seconds,
        architecture=describe_architecture(source.config),
        task=usage_task(source.config),
        model=source.repo or source.name,
        example=_example(source),
        training_data=said(source, "training_data", "what the model learned from"),
        labels=said(source, "labels", "who or what gave the labels"),
        training=training(source),
        figures=_figures(source),
        thresholds=_thresholds(source),
        calibration=_calibration(source),
        limits=_limits(source),
        citation=citation(source),
        licence=licence(source),
        provenance=provenance(source),
    )


def _tasks(source: CardSource) -> str:
    lines = []
    for task in source.config["tasks"]:
        kind = "any number of" if task["type"] == "multi_label" else "one of"
        lines.append(f"- **{task['name']}**, {kind}: {', '.join(task['labels'])}")
    return "\n".join(lines)


def _example(source: CardSource) -> str:
    if source.example is None:
        return "" if source.repo else f"\n\nHere `{source.name}` is the folder that this card lies in."
    best = [(f"{task} ", entries[0]) for task in source.task_names if (entries := source.example.get(task))]
    best += [("", entry) for entry in source.example.get("tags", [])[:NUM_TAGS_SHOWN]]
    heard = ", ".join(f"{task}*{entry['label']}* ({entry['score']:.2f})" for task, entry in best)
    name = source.example["file"]
    text = f"For [`{name}`]({name}) the answer is {heard or 'nothing'}; all of it is in [`example_output.json`]"
    return f"\n\n{text}(example_output.json)."


def _figures(source: CardSource) -> str:
    results = source.results
    if results is None or not results.get("sets"):
        return "**Nothing was measured.** How good this model is, nobody knows; measure it on songs of your own first."
    parts = ["\n".join(_set_described(source, name) for name in results["sets"])]
    parts.append(figure_table(results, source.task_names))
    if note := off_border(results):
        parts.append(note)
    parts.append(_how_to_read(results))
    if (left_out := _left_out(results)) is not None:
        parts.append(left_out)
    if rows := recordings(results):
        parts.append(rows)
    return "\n\n".join(parts)


def _set_described(source: CardSource, name: str) -> str:
    assert source.results is not None
    entry = source.results["sets"][name]
    data, protocol = entry.get("data") or {}, entry.get("protocol") or {}
    title = entry.get("title")
    facts = [title] if title and title.lower() != set_name(name) else []
    num, groups = data.get("num_songs", protocol.get("num")), data.get("num_groups")
    if num is not None:
        facts.append(f"{num:,} songs" + (f" of {groups:,} groups" if groups and groups != num else ""))
    if data.get("seconds"):
        facts.append(f"{data['seconds'] / 3600:.1f} hours" if data["seconds"] > 3600 else f"{data['seconds']:.0f} s")
    elif protocol.get("seconds"):
        facts.append(f"{protocol['seconds']:g} s each")
    if protocol.get("renderer"):
        with_what = f"FluidSynth with {source.results.get('soundfont') or 'a SoundFont'}"
        player = "hf-mathrock" if protocol["renderer"] == "own" else with_what
        facts.append(f"generated from seed {protocol['seed']:,} on and played by {player}")
    else:
        facts += _songs_described(data, title)
    return f"- **{set_name(name)}**: {'; '.join(facts + _warnings(source, data)) or 'not described'}."


def _songs_described(data: Mapping[str, Any], title: str | None) -> list[str]:
    facts = []
    origin = str(data.get("source") or "") + (f", split {data['split']}" if data.get("split") else "")
    if data.get("source") and title != origin:
        facts.append(f"from {origin}")
    if isinstance(known := data.get("known"), Mapping):
        facts.append("labels known: " + ", ".join(f"{task} {num:,}" for task, num in known.items()))
    if (broken := data.get("num_broken", count(data.get("broken")))) > 0:
        facts.append(broken_files(broken))
    if "leaks" in data:
        facts.append(groups_in_two_splits(data["leaks"]))
    return facts


def _warnings(source: CardSource, data: Mapping[str, Any]) -> list[str]:
    """What makes figures look better than they are."""
    fitted = ((source.calibration or {}).get("fitted_on") or {}).get("songs_digest")
    warnings = []
    if data.get("trained_on"):
        warnings.append(f"**{data['trained_on']:,} of them were trained on, so figures flatter**")
    if fitted is not None and fitted == data.get("songs_digest"):
        warnings.append("**thresholds and temperatures were fitted on these songs, so figures flatter**")
    return warnings


def _how_to_read(results: Mapping[str, Any]) -> str:
    entries = results["sets"].values()
    text = (
        "F1 is the mean over the classes of a task, mAP the mean average precision over labels; random scores reach "
        "the share of songs that have a label. Figures are of whole songs"
    )
    ways = {(entry.get("protocol") or {}).get("aggregation", "mean") for entry in entries}
    text += f", {' or '.join(AGGREGATIONS.get(way, way) for way in sorted(ways))}"
    text += ", and of single windows where it says so." if any(e.get("window_metrics") for e in entries) else "."
    if any(entry.get("intervals") for entry in entries):
        return f"{text} In brackets: the middle 95 % over songs drawn again at random (bootstrap)."
    return f"{text} How far chance alone could move them was not measured."


def _left_out(results: Mapping[str, Any]) -> str | None:
    lines = []
    for name, entry in results["sets"].items():
        for task, labels in (entry.get("left_out") or {}).items():
            if labels:
                lines.append(f"{', '.join(labels)} ({task}, {set_name(name)})")
    return f"Without any example, so left out of the means: {'; '.join(lines)}." if lines else None


def _thresholds(source: CardSource) -> str:
    thresholds = source.config.get("thresholds") or {}
    parts, single = [], []
    for task in source.config["tasks"]:
        name, labels = task["name"], task["labels"]
        if task["type"] != "multi_label":
            single.append(f"**{name}**")
            continue
        values = thresholds.get(name) or [0.5] * len(labels)
        if len(set(values)) == 1:
            chosen = "" if thresholds.get(name) else " (the default)"
            parts.append(f"- **{name}**: every label from a score of {values[0]:g} on{chosen}.")
        else:
            each = ", ".join(f"{label} {value:.2f}" for label, value in zip(labels, values, strict=True))
            parts.append(f"- **{name}**: each label from a score of its own on: {each}.")
    if single:
        parts.append(f"- {', '.join(single)}: the label with the highest score.")
    return "\n".join(parts)


def _calibration(source: CardSource) -> str:
    late = measured_before(source)
    return _fitted(source) + (f"\n\n{late}" if late else "")


def _fitted(source: CardSource) -> str:
    calibration = source.calibration
    if calibration is None:
        if source.config.get("temperatures"):
            return "Scores are divided by temperatures of unknown origin; whether they are calibrated was not measured."
        return "Scores are **not calibrated**: 0.8 does not mean that the label is right in 80 of 100 cases."
    fitted, reported = calibration.get("fitted_on") or {}, calibration.get("reported_on") or {}
    lines = [
        f"A temperature for each task was fitted on {fitted.get('num_songs', 'an unknown number of')} songs"
        + (f", and what follows was measured on {reported['num_songs']} others." if reported.get("num_songs") else "."),
        "",
        "| | temperature | calibration error (ECE) before | after | Brier score before | after |",
        "|---|---|---|---|---|---|",
    ]
    for name, task in calibration["tasks"].items():
        cells = [f"{task['temperature']:.2f}"]
        for key in ("ece_before", "ece_after", "brier_before", "brier_after"):
            cells.append("not measured" if task.get(key) is None else f"{task[key]:.3f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if rule := calibration.get("rule"):
        words = {"f1": "each has the best F1 on those songs"}.get(rule) or (
            f"each is the lowest with a precision of {rule.partition(':')[2]} on those songs"
        )
        lines += ["", f"The thresholds above were chosen with them: {words}."]
    return "\n".join(lines)


def measured_before(source: CardSource) -> str:
    """A sentence, where figures are of other thresholds or temperatures than the model has now."""
    config, results = source.config, source.results or {}
    for entry in results.get("sets", {}).values():
        protocol = entry.get("protocol") or {}
        for key in ("thresholds", "temperatures"):
            if key in protocol and (protocol[key] or {}) != (config.get(key) or {}):
                return f"Some figures above were measured with other {key} than the model has now."
    return ""


def _limits(source: CardSource) -> str:
    limits = source.facts.get("limits") or ["The publisher has not said where the model fails."]
    limits = [*limits, "Silence is not scored. Everything else is, speech and noise too: do not believe that."]
    return "\n".join(f"- {limit.strip()}" for limit in limits)
