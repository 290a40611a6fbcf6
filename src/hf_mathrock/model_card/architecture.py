# SPDX-License-Identifier: Apache-2.0
"""What kind of network a checkpoint is, in a few sentences read off its `config.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from hf_mathrock.model_card.encoder import describe_encoder, is_encoder

# What the families go by.
TITLES = {
    "mathrock": "MathRock",
    "myna": "Myna",
    "music_tagger": "music tagger",
    "musicnn": "musicnn",
    "music_tagging_transformer": "Music Tagging Transformer",
}
_COMPRESSIONS = {"db": "in decibels", "log10": "under a logarithm", "ln": "under a logarithm"}
_BACKENDS = {
    "none": "What is left is the embedding.",
    "max": "The maximum over time is the embedding.",
    "mean": "The mean over time is the embedding.",
    "gru": "A recurrent network (GRU) over time gives the embedding.",
    "encoder": "A Transformer encoder over time gives the embedding, at its class token.",
    "temporal": "Convolutions over time and a learnt pooling (AutoPool) give the embedding.",
}


def describe_architecture(config: Mapping[str, Any]) -> str:
    """The network in sentences; nothing is said that the config does not say."""
    describe = {
        "mathrock": _mathrock,
        "myna": describe_encoder,
        "music_tagger": _music_tagger,
        "musicnn": _musicnn,
        "music_tagging_transformer": _transformer,
    }.get(str(config.get("model_type")))
    return "" if describe is None else describe(config)


def architecture_tags(config: Mapping[str, Any]) -> list[str]:
    """Words to find the model by on the Hub, beside its tasks' names."""
    if config.get("model_type") not in TITLES or config["model_type"] == "mathrock":
        return []
    if is_encoder(config):
        return ["music-embedding", "feature-extraction", "myna"]
    kind = config.get("architecture") or config.get("variant") or config["model_type"]
    return list(dict.fromkeys(["music-tagging", str(config["model_type"]), str(kind)]))


def _mathrock(config: Mapping[str, Any]) -> str:
    parts = ["A MathRock model: WavLM hears the waveform, CLAP's audio tower its mel spectrogram"]
    if size := config.get("hidden_size"):
        parts.append(f"both are fused to an embedding of {size} numbers, and each task has a small head on it")
    return "; ".join(parts) + "."


def _music_tagger(config: Mapping[str, Any]) -> str:
    # Of equal stages in a row their number is said, as "3 of res".
    runs = [(block, len(list(run))) for block, run in groupby(stage["block"] for stage in config.get("stages") or [])]
    stages = ", ".join(f"`{block}`" if num == 1 else f"{num} of `{block}`" for block, num in runs)
    backend = _BACKENDS.get((config.get("backend") or {}).get("kind", ""), "")
    sentences = [
        f"A music tagger of the architecture `{config.get('architecture')}`. It hears {_heard(config)}.",
        f"Its stages: {stages}." if stages else "",
        backend,
    ]
    return " ".join(filter(None, sentences))


def _musicnn(config: Mapping[str, Any]) -> str:
    if config.get("variant") == "vgg":
        text = "The vgg that was published beside musicnn: a stack of 3 x 3 convolutions with max pooling."
    else:
        text = (
            "musicnn: filters as wide as a timbre and filters as long as a rhythm side by side, three dense "
            "convolutions over time, then maximum and mean of all of them."
        )
    return f"{text} It hears {_heard(config)}."


def _transformer(config: Mapping[str, Any]) -> str:
    convolutions = len(config.get("conv_pools") or [])
    return (
        f"A Music Tagging Transformer: {convolutions} residual convolutions, then {config.get('num_hidden_layers')} "
        f"layers of attention with {config.get('num_attention_heads')} heads, {config.get('hidden_size')} wide. It "
        f"hears {_heard(config)}."
    )


def _heard(config: Mapping[str, Any]) -> str:
    feature, rate = config.get("feature") or {}, config.get("sampling_rate")
    if feature.get("kind", "raw") == "raw":
        return f"the waveform at {_thousands(rate)} Hz"
    frame = 1000 * feature["hop_length"] / rate if rate else 0
    under = _COMPRESSIONS.get(feature.get("compression", ""), "")
    if feature["kind"] == "harmonic":
        bands = f"the first {feature['num_harmonics']} harmonics of all notes"
    else:
        bands = f"a spectrogram of {feature['num_mel_bins']} mel bands"
    return f"{bands} {under}, a frame every {frame:.1f} ms, of audio at {_thousands(rate)} Hz"


def _thousands(number: Any) -> str:
    return f"{number:,}" if isinstance(number, int) else str(number)


def listening_grid(extractor: Mapping[str, Any]) -> tuple[float, float]:
    """Length of a window and distance of two, in seconds, from a `preprocessor_config.json`.

    Raises:
        ValueError: It does not say.
    """
    window = extractor.get("window_seconds")
    if window is None and extractor.get("window_samples") and extractor.get("sampling_rate"):
        window = extractor["window_samples"] / extractor["sampling_rate"]
    if window is None:
        raise ValueError("preprocessor_config.json does not say how long a window is; it is of another package.")
    hop = extractor.get("hop_seconds")
    return float(window), float(window if hop is None else min(hop, window))


def usage_task(config: Mapping[str, Any]) -> str:
    """The pipeline that a checkpoint is used by: the first that its config names."""
    names: Sequence[str] = list(config.get("custom_pipelines") or {})
    return names[0] if names else "mathrock-affect"
