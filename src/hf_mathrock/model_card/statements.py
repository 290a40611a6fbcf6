# SPDX-License-Identifier: Apache-2.0
"""Sentences that every card has: what the publisher said, how it was trained, whose it is, where figures come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_mathrock.model_card.metadata import LICENCES, base_models
from hf_mathrock.model_card.source import CardSource

CODE_LICENCE = "apache-2.0"
# Keys of the recipe's training section that a stranger wants to know, and how to say them.
TRAINING = {
    "tuning": "tuning",
    "num_train_epochs": "epochs",
    "max_steps": "steps",
    "learning_rate": "learning rate",
    "base_learning_rate": "learning rate for a batch of 1024",
    "backbone_learning_rate": "learning rate of the backbones",
    "per_device_train_batch_size": "batch size",
    "weight_decay": "weight decay",
    "task_weights": "weights of the tasks in the loss",
    "augment": "augmentation",
}


def said(source: CardSource, key: str, subject: str) -> str:
    """What the publisher said under a key of `CARD_KEYS`, or that nothing was said of the subject."""
    return source.facts.get(key) or f"The publisher has not said {subject}."


def training(source: CardSource) -> str:
    """The songs it was trained on and the recipe, as far as they are known."""
    parts = [_training_songs(source.songs)] if source.songs else []
    if source.recipe is None:
        return "\n\n".join([*parts, "The recipe of the training was not published."])
    recipe = source.recipe
    data, model, settings = recipe.get("data") or {}, recipe.get("model") or {}, recipe.get("training") or {}
    facts = []
    if isinstance(data.get("train"), Mapping) and "num" in data["train"]:
        facts.append(f"{data['train']['num']:,} generated pieces")
    begun = base_models(source) or ([model["pretrained"]] if model.get("pretrained") else [])
    facts.append(f"started from {' and '.join(begun)}" if begun else "started from random weights")
    for key, words in TRAINING.items():
        value = settings.get(key, data.get(key))
        if isinstance(value, Mapping):
            value = ", ".join(f"{name} {weight:g}" for name, weight in value.items())
        if value is not None:
            facts.append(f"{words} {f'{value:g}' if isinstance(value, (int, float)) else value}")
    facts.append(f"seed {recipe.get('seed', 0)}")
    parts.append("In short: " + "; ".join(facts) + ". [`recipe.json`](recipe.json) has every setting.")
    return "\n\n".join(parts)


def _training_songs(report: Mapping[str, Any]) -> str:
    """What a `LabelledAudio.report`, or that of tracks without labels, says of the songs and of their split."""
    groups, seconds = report.get("num_groups") or {}, report.get("seconds") or {}
    counts = []
    for split, num in (report.get("num_songs") or {}).items():
        of_groups = f" of {groups.get(split, 0):,} groups" if groups else ""
        hours = f" ({seconds[split] / 3600:.1f} hours)" if split in seconds else ""
        counts.append(f"{split} {num:,} songs{of_groups}{hours}")
    sources = report.get("source")
    named = ", ".join(map(str, sources)) if isinstance(sources, list) else sources
    facts = [f"{named}: {'; '.join(counts)}" if named else "; ".join(counts)]
    grouped, split = " and ".join(report.get("group_by") or []) or "song", str(report.get("split"))
    given = split.startswith("given") or not groups
    facts.append(f"the split was {split}" if given else f"the split keeps each {grouped} together")
    if "leaks" in report or groups:
        facts.append(groups_in_two_splits(report.get("leaks")))
    if broken := count(report.get("broken")):
        facts.append(broken_files(broken))
    if unfit := count(report.get("silent")) + count(report.get("short")):
        facts.append(f"{unfit} silent or too short ones left out")
    return "; ".join(facts) + "."


def broken_files(num: int) -> str:
    """How many files could not be read."""
    return f"{num} {'file' if num == 1 else 'files'} could not be read and left out"


def groups_in_two_splits(leaks: Any) -> str:
    """Whether splits share a group."""
    num = count(leaks)
    groups = "group is" if num == 1 else "groups are"
    return f"**{num} {groups} in more than one split, so figures flatter**" if num else "no group is in two splits"


def count(value: Any) -> int:
    """A number, or how many there are in a list."""
    return value if isinstance(value, int) else len(value or [])


def citation(source: CardSource) -> str:
    """Who made it, and how to cite it."""
    authors = source.facts.get("authors")
    lines = [
        f"Made by {', '.join(authors)}".rstrip(".") + "." if authors else "The publisher has not named the authors."
    ]
    if text := source.facts.get("citation"):
        lines.append(f"```bibtex\n{text}\n```" if text.startswith("@") else text)
    else:
        lines.append(f"Cite the model as `{source.repo or source.name}`, with the revision that you used.")
    return "\n\n".join(lines)


def licence(source: CardSource) -> str:
    """Of the weights, and of the code."""
    code = f"The code in this repository is part of hf-mathrock, under {CODE_LICENCE}"
    name = source.facts.get("licence")
    if name is None:
        return f"The publisher has not named a licence for the weights. {code} ([text](LICENSE))."
    link = LICENCES.get(name.lower()) or source.facts["licence_link"]
    if name.lower() == CODE_LICENCE:
        return f"Weights and code: [{name}]({link})."
    return f"Weights: [{name}]({link}). {code}."


def provenance(source: CardSource) -> str:
    """Where the card and its figures come from."""
    parts = ["Made by code from the files beside it"]
    if source.fingerprint:
        parts.append(f"fingerprint of the weights `{source.fingerprint}`")
    if versions := (source.results or {}).get("versions"):
        date = (source.results or {}).get("date")
        names = ", ".join(f"{package} {version}" for package, version in versions.items())
        parts.append(f"measured with {names}" + (f" on {date}" if date else ""))
    return "; ".join(parts) + "."
