# SPDX-License-Identifier: Apache-2.0
"""Named architectures of music taggers: what each name stands for when a configuration is made.

The eight of "Evaluation of CNN-based automatic music tagging models" (Won, Ferraro, Bogdanov, Serra, 2020) that are
chains of stages, with the sizes of its code (sota-music-tagging-models, MIT), and the hybrids of
`tagger_waveform_stages`. Where other descriptions of the same names differ, the code is followed: the short-chunk CNN
hears 3.69 s, the harmonic CNN has six harmonics and residual stages, and the FCN has five stages, not the four of Choi
et al. (2016).
"""

from __future__ import annotations

from typing import Any

from .tagger_waveform_stages import HYBRID_PRESETS

# 3^10 samples: a sample-level network divides by 3 ten times. The short-chunk networks kept the length, 3.69 s.
_SHORT_CHUNK = 59_049
_SHORT_CHUNK_CHANNELS = (128, 128, 256, 256, 256, 256, 512)
_SAMPLE_CHANNELS = (128, 128, 256, 256, 256, 256, 256, 256, 512)


def _mel(num_mel_bins: int) -> dict[str, Any]:
    """Decibels in HTK bands up to 8 kHz; with 128 of them, band 0 holds no bin of the transform and is silent."""
    return {"kind": "mel", "n_fft": 512, "hop_length": 256, "num_mel_bins": num_mel_bins, "max_frequency_hz": 8000.0}


def _conv2d(channels: int, pool: int | list[int]) -> dict[str, Any]:
    return {"block": "conv2d", "channels": channels, "pool": pool}


def _residual2d(channels: int, **options: Any) -> dict[str, Any]:
    return {"block": "residual2d", "channels": channels, **options}


def _sample_stages(block: str) -> list[dict[str, Any]]:
    """Ten divisions by 3, the first by a stride, and a last stage that only mixes channels."""
    return [
        {"block": block, "channels": 128, "kernel_size": 3, "stride": 3},
        *({"block": block, "channels": channels, "kernel_size": 3, "pool": 3} for channels in _SAMPLE_CHANNELS),
        {"block": block, "channels": 512, "kernel_size": 1},
    ]


def _linear_head() -> dict[str, Any]:
    return {"hidden": None, "dropout": 0.5}


def _hidden_head(size: int) -> dict[str, Any]:
    return {"hidden": size, "batch_norm": True, "activation": "relu", "dropout": 0.5}


def _preset(
    stages: list[dict[str, Any]],
    input_samples: int,
    feature: dict[str, Any],
    backend: dict[str, Any],
    head: dict[str, Any],
) -> dict[str, Any]:
    return {
        "sampling_rate": 16_000,
        "input_samples": input_samples,
        "feature": feature,
        "feature_batch_norm": feature["kind"] != "raw",
        "stages": stages,
        "collapse": {"kind": "squeeze"},
        "backend": backend,
        "head": head,
    }


# The fields of `MusicTaggerConfig` that each architecture stands for.
PRESETS: dict[str, dict[str, Any]] = {
    "fcn": _preset(
        [
            _conv2d(64, [2, 4]),
            _conv2d(128, [2, 4]),
            _conv2d(128, [2, 4]),
            _conv2d(128, [3, 5]),
            _conv2d(64, [4, 4]),
        ],
        464_000,
        _mel(96),
        {"kind": "none"},
        _linear_head(),
    ),
    "short_chunk": _preset(
        [_conv2d(channels, 2) for channels in _SHORT_CHUNK_CHANNELS],
        _SHORT_CHUNK,
        _mel(128),
        {"kind": "max"},
        _hidden_head(512),
    ),
    "short_chunk_res": _preset(
        [_residual2d(channels, stride=2) for channels in _SHORT_CHUNK_CHANNELS],
        _SHORT_CHUNK,
        _mel(128),
        {"kind": "max"},
        _hidden_head(512),
    ),
    "harmonic": _preset(
        [
            _conv2d(128, 2),
            *(_residual2d(128, pool=2) for _ in range(3)),
            _conv2d(256, 2),
            *(_residual2d(256, pool=[2, 3]) for _ in range(2)),
        ],
        80_000,
        {"kind": "harmonic", "n_fft": 512, "hop_length": 256, "num_harmonics": 6},
        {"kind": "max"},
        _hidden_head(256),
    ),
    "sample": _preset(
        _sample_stages("conv1d"),
        _SHORT_CHUNK,
        {"kind": "raw"},
        {"kind": "none"},
        _linear_head(),
    ),
    "sample_se": _preset(
        _sample_stages("residual_se1d"),
        _SHORT_CHUNK,
        {"kind": "raw"},
        {"kind": "none"},
        _hidden_head(512),
    ),
    "crnn": _preset(
        [_conv2d(64, 2), _conv2d(128, 3), _conv2d(128, 4), _conv2d(128, 4)],
        464_000,
        _mel(96),
        {"kind": "gru", "hidden_size": 32, "num_layers": 2},
        _linear_head(),
    ),
    # Post-norm as BERT, no positions; the head's hidden layer is BERT's pooler.
    "cnnsa": _preset(
        [_residual2d(channels, stride=2) for channels in (128, 128, 256)]
        + [_residual2d(256, stride=[2, 1]) for _ in range(4)],
        240_000,
        _mel(128),
        {
            "kind": "encoder",
            "num_layers": 2,
            "num_heads": 8,
            "intermediate_size": 1024,
            "norm": "post",
            "attention_dropout": 0.5,
            "hidden_dropout": 0.4,
            "layer_norm_eps": 1e-12,
        },
        {"hidden": 256, "batch_norm": False, "activation": "tanh", "dropout": 0.5},
    ),
    **HYBRID_PRESETS,
}
