# SPDX-License-Identifier: Apache-2.0
"""What an encoder's `config.json` says of it: its embedding, what it hears, how it knows places, how long a track."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_POSITIONS = {
    "alibi_2d": "Attention between two patches falls with their distance in time and in frequency (2-D ALiBi, slopes "
    "`{slopes}`), so that a passage means the same wherever it stands in a track.",
    "alibi_1d": "Attention between two patches falls with their distance in time (1-D ALiBi, slopes `{slopes}`), so "
    "that a passage means the same wherever it stands in a track; each row of the spectrogram has a learned vector.",
    "rope_2d": "Queries and keys turn with time and frequency (axial RoPE, base {rope_base:g}), so that only distances "
    "count.",
    "sincos_2d": "Fixed sines and cosines tell where a patch stands (2-D sin-cos), which is known for no longer pieces "
    "than it was trained on.",
    "none": "It does not know where a patch stands: to it a track is a bag of patches.",
}
_POOLINGS = {
    "cls": "the class token's state",
    "mean": "the mean state of all patches",
    "cls_mean": "the class token's state and the mean state of all patches, one after the other",
}
_DESCRIBED = (
    *("sampling_rate", "feature", "values", "decibel_factor", "top_db", "patch_sizes", "hidden_size", "pooling"),
    *("num_hidden_layers", "num_attention_heads", "position_embedding", "slopes", "rope_base", "max_tokens"),
    *("long_input", "patchout_seeds"),
)


def is_encoder(config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint gives embeddings and no labels."""
    (name, *_) = config.get("architectures") or [""]
    return config.get("model_type") == "myna" and not name.endswith("ForAudioClassification")


def embedding_size(config: Mapping[str, Any]) -> int:
    """Length of the embedding."""
    return config["hidden_size"] * len(config["patch_sizes"]) * (2 if config["pooling"] == "cls_mean" else 1)


def describe_encoder(config: Mapping[str, Any]) -> str:
    """The network and what it hears, in sentences.

    Raises:
        ValueError: The config was not saved by this package.
    """
    if missing := [name for name in _DESCRIBED if name not in config]:
        raise ValueError(f"config.json lacks {', '.join(missing)}; it was not saved by hf-mathrock.")
    second = _frames_per_second(config)
    sizes = [f"{bins} mel bands by {frames} frames ({frames / second:.2f} s)" for bins, frames in config["patch_sizes"]]
    return (
        f"A Myna encoder: {config['num_hidden_layers']} layers of attention with {config['num_attention_heads']} "
        f"heads, {config['hidden_size']} wide, over patches of {' and, by themselves, of '.join(sizes)}. "
        f"{describe_front_end(config)} {describe_positions(config)}"
    )


def describe_front_end(config: Mapping[str, Any]) -> str:
    """What it hears, a sentence."""
    feature, rate = config["feature"], config["sampling_rate"]
    if config["values"] == "power":
        unit = "as power, without a logarithm"
    else:
        times = "" if config["decibel_factor"] == 1 else f", times {config['decibel_factor']:g}"
        least = "" if config["top_db"] is None else f", down to -{config['top_db']:g}"
        unit = f"in decibels below the loudest moment of the track{times}{least}"
    return (
        f"It hears a spectrogram of {feature['num_mel_bins']} mel bands {unit}, a frame every "
        f"{1000 * feature['hop_length'] / rate:.1f} ms, of audio at {rate:,} Hz."
    )


def describe_positions(config: Mapping[str, Any]) -> str:
    """How it knows where a patch stands, a sentence."""
    return _POSITIONS[config["position_embedding"]].format(**config)


def describe_embedding(config: Mapping[str, Any]) -> str:
    """What the embedding is, a few words."""
    halves = "" if len(config["patch_sizes"]) == 1 else ", for each patch size, one after the other"
    return f"{embedding_size(config):,} numbers, {_POOLINGS[config['pooling']]} after the last layer{halves}"


def describe_lengths(config: Mapping[str, Any]) -> str:
    """Which tracks it hears, and how, in sentences."""
    second, most = _frames_per_second(config), config["max_tokens"]
    least = max(frames for _, frames in config["patch_sizes"])
    bands = config["feature"]["num_mel_bins"]
    tokens = max(bands // bins * second / frames for bins, frames in config["patch_sizes"])
    if config["long_input"] == "two_level":
        longer = 'longer tracks stretch by stretch, whose embeddings are averaged (`mode` is "two_level")'
    else:
        longer = (
            f"of longer tracks {most:,} patches drawn at random, {config['patchout_seeds']} times, whose embeddings "
            'are averaged (`mode` is "patchout")'
        )
    return (
        f"A track may have any length; one below {least / second:.2f} s is filled up with silence. Up to {most:,} "
        f'patches, {duration(most / tokens)}, are heard at once, all of them (`mode` is "whole"); {longer}.'
    )


def duration(seconds: float) -> str:
    """A length in words."""
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds / 60:.3g} minutes"


def _frames_per_second(config: Mapping[str, Any]) -> float:
    return config["sampling_rate"] / config["feature"]["hop_length"]
