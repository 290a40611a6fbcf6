# SPDX-License-Identifier: Apache-2.0
"""Fills the card of a checkpoint from its `results.json`, `config.json` and `recipe.json`: measured figures only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).with_name("template.md")
SETS = {
    "unseen_seeds": "pieces of unseen seeds",
    "unseen_renderer": "the same composer through a renderer never trained on (FluidSynth, {soundfont})",
    "whole_pieces": "unseen pieces of 30 s with changing sections",
}
# What was aimed at, on the set named.
AIMS = {
    ("unseen_seeds", "tempo_macro_f1"): 0.93,
    ("unseen_seeds", "intensity_macro_f1"): 0.88,
    ("unseen_seeds", "vibe_macro_f1"): 0.85,
    ("unseen_renderer", "tempo_macro_f1"): 0.80,
    ("unseen_renderer", "intensity_macro_f1"): 0.70,
}
EMOTION_AIM = 3.0  # times the prior, on unseen seeds


def figures(results: dict[str, Any]) -> str:
    """Table of every set's figures, with what was aimed at where it fell short."""
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
            cells.append(_against_aim(metrics[f"{task}_macro_f1"], AIMS.get((name, f"{task}_macro_f1"))))
        ratio = metrics["emotion_map"] / metrics["emotion_prior"]
        cell = f"{metrics['emotion_map']:.2f} ({metrics['emotion_prior']:.2f}: {ratio:.1f}×)"
        cells.append(cell + (f", aim {EMOTION_AIM:g}×" if name == "unseen_seeds" and ratio < EMOTION_AIM else ""))
        lines.append(f"| {' | '.join(cells)} |")
    seeds = results["sets"].get("unseen_seeds")
    if seeds and "tempo_accuracy_off_border" in seeds:
        lines += [
            "",
            f"Tempo accuracy on unseen seeds is {seeds['metrics']['tempo_accuracy']:.2f}, and "
            f"{seeds['tempo_accuracy_off_border']:.2f} over pieces more than 5 % away from 95 and 140 BPM.",
        ]
    return "\n".join(lines)


def _against_aim(value: float, aim: float | None) -> str:
    return f"{value:.2f}" if aim is None or value >= aim else f"{value:.3f} (aim {aim:.2f})"


def recordings(results: dict[str, Any]) -> str:
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


def _best(scores: dict[str, float]) -> tuple[str, float]:
    return max(scores.items(), key=lambda item: item[1])


def card(checkpoint: Path) -> str:
    """The card of a checkpoint folder."""
    results = json.loads((checkpoint / "results.json").read_text())
    config = json.loads((checkpoint / "config.json").read_text())
    recipe = json.loads((checkpoint / "recipe.json").read_text())
    thresholds = (config.get("thresholds") or {}).get("emotion") or [0.5]
    return TEMPLATE.read_text().format(
        name=results["checkpoint"],
        num_parameters=f"{results['num_parameters']:,}",
        size_mb=(checkpoint / "model.safetensors").stat().st_size / 1e6,
        num_train=f"{recipe['data']['train']['num']:,}",
        seed=recipe["seed"],
        figures=figures(results),
        recordings=recordings(results),
        threshold=thresholds[0],
        fingerprint=results["fingerprint"],
    )


def fill(checkpoint: Path) -> Path:
    """Write the card into its checkpoint's folder."""
    path = checkpoint / "README.md"
    path.write_text(card(checkpoint))
    return path


if __name__ == "__main__":
    print(fill(Path(__file__).resolve().parents[1] / "src" / "hf_mathrock" / "checkpoints" / "mathrock-tiny"))
