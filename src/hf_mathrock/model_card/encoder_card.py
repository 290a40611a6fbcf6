# SPDX-License-Identifier: Apache-2.0
"""The card of an encoder, which has an embedding and no labels: the slots of its own template."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_mathrock.model_card.encoder import (
    describe_embedding,
    describe_encoder,
    describe_lengths,
    duration,
    embedding_size,
)
from hf_mathrock.model_card.metadata import card_data
from hf_mathrock.model_card.source import CardSource
from hf_mathrock.model_card.statements import citation, licence, provenance, said, training
from hf_mathrock.report.benchmark_table import probe_table

TEMPLATE = Path(__file__).with_name("template_encoder.md")


def render_encoder_card(source: CardSource) -> str:
    """The card, as Markdown with YAML at its top."""
    return TEMPLATE.read_text(encoding="utf-8").format(
        metadata=card_data(source).to_yaml(),
        name=source.name,
        summary=said(source, "summary", "what the model is for"),
        embedding=describe_embedding(source.config),
        embedding_size=embedding_size(source.config),
        num_parameters=f"{source.num_parameters:,}",
        size_mb=source.size_bytes / 1e6,
        architecture=describe_encoder(source.config),
        lengths=describe_lengths(source.config),
        model=source.repo or source.name,
        example=_example(source),
        training_data=said(source, "training_data", "what the model learned from"),
        training=training(source),
        figures=_figures(source),
        limits=_limits(source),
        citation=citation(source),
        licence=licence(source),
        provenance=provenance(source),
    )


def _example(source: CardSource) -> str:
    answer = source.example
    if answer is None:
        return "" if source.repo else f"\n\nHere `{source.name}` is the folder that this card lies in."
    name, numbers = answer["file"], answer.get("embedding") or []
    first = ", ".join(f"{number:.3f}" for number in numbers[:3])
    mode = f', heard in the mode "{answer["mode"]}"' if answer.get("mode") else ""
    text = (
        f"The embedding of [`{name}`]({name}){mode} begins with {first}" if numbers else f"[`{name}`]({name}) is silent"
    )
    return f"\n\n{text}; all of it is in [`example_output.json`](example_output.json)."


def _figures(source: CardSource) -> str:
    probes = (source.results or {}).get("probes") or []
    if not probes:
        return (
            "**Nothing was measured.** What this embedding knows of music, nobody knows; `hf-mathrock probe` measures "
            "it on songs with labels."
        )
    of_data: dict[str, list[Mapping[str, Any]]] = {}
    for entry in probes:
        of_data.setdefault(str(entry.get("data") or "data that nobody described"), []).append(entry)
    parts = [
        "How well a small model on top of the frozen embedding, or the nearest neighbours by it, tell what is known of "
        "a track. Columns are ways to describe the same tracks; the best of a row are bold."
    ]
    for data, entries in of_data.items():
        parts.append(f"**{data}**\n\n{probe_table(entries).strip()}")
    return "\n\n".join(parts)


def _limits(source: CardSource) -> str:
    limits = list(source.facts.get("limits") or ["The publisher has not said where the model fails."])
    if length := _trained_lengths(source):
        limits.append(f"It was trained on pieces of {length}, and has learned from no longer one, whatever it accepts.")
    limits.append("Noise and speech have an embedding like everything else; what they lie near to means nothing.")
    return "\n".join(f"- {limit.strip()}" for limit in limits)


def _trained_lengths(source: CardSource) -> str:
    """The lengths of the crops that the recipe drew, if it says so."""
    crops = (source.recipe or {}).get("pretraining") or {}
    if "max_seconds" not in crops:
        return ""
    shortest = f"{duration(crops['min_seconds'])} to " if "min_seconds" in crops else "up to "
    return shortest + duration(crops["max_seconds"])
