# SPDX-License-Identifier: Apache-2.0
"""What is measured on: generated songs, and the embedded checkpoint."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
SAMPLING_RATE = 44_100
LONGEST_RENDERING_SECONDS = 60.0
_BLOCK_FRAMES = 1 << 16
_SUBTYPES = {"mp3": "MPEG_LAYER_III", "flac": "PCM_16"}


@functools.lru_cache(maxsize=1)
def _rendering(seconds: float, seed: int) -> np.ndarray:
    from hf_mathrock.synthesis.composer import compose
    from hf_mathrock.synthesis.renderer import render

    return np.ascontiguousarray(render(compose(seed, seconds=seconds), sampling_rate=SAMPLING_RATE).T)


def write_song(path: Path, seconds: float, *, seed: int = 0) -> Path:
    """Write a stereo song of exactly this length at 44.1 kHz, in blocks.

    Beyond `LONGEST_RENDERING_SECONDS` the piece starts again: what a sample is does not change what it costs.

    Args:
        path: `*.mp3` or `*.flac`.
        seconds: Length, 4 or more.
        seed: Of the composition.

    Returns:
        `path`.
    """
    import soundfile

    piece = _rendering(min(seconds, LONGEST_RENDERING_SECONDS), seed)
    kind = path.suffix[1:]
    remaining = round(seconds * SAMPLING_RATE)
    with soundfile.SoundFile(path, "w", SAMPLING_RATE, 2, subtype=_SUBTYPES[kind], format=kind.upper()) as sink:
        while remaining:
            for start in range(0, min(remaining, len(piece)), _BLOCK_FRAMES):
                sink.write(piece[start : min(start + _BLOCK_FRAMES, remaining)])
            remaining -= min(remaining, len(piece))
    return path


def checkpoint_folder(folder: Path) -> Path:
    """The embedded checkpoint; before it is trained, the same architecture with random weights, saved in `folder`."""
    from hf_mathrock import embedded_checkpoint

    embedded = embedded_checkpoint()
    if (embedded / "config.json").is_file():
        return embedded
    import yaml

    from hf_mathrock import MathRockConfig, MathRockFeatureExtractor, MathRockForAudioClassification

    untrained = folder / "untrained"
    recipe = yaml.safe_load((ROOT / "recipes" / f"{embedded.name}.yaml").read_text("utf-8"))
    MathRockForAudioClassification(MathRockConfig(**recipe["model"])).save_pretrained(untrained)
    MathRockFeatureExtractor(**recipe.get("extractor") or {}).save_pretrained(untrained)
    return untrained
