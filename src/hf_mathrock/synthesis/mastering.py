# SPDX-License-Identifier: Apache-2.0
"""From the mix to the record: equaliser, bus compression, width and level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .filters import apply_fir, compress, decibels, limit, loudness, minimum_phase_fir

_EQ_HZ = (40.0, 120.0, 350.0, 1000.0, 2500.0, 6000.0, 12000.0)


@dataclass(frozen=True, slots=True)
class Master:
    """Settings of the mastering chain. `level_db` is the loudness of the loud parts in dB of full scale."""

    eq_db: tuple[float, ...] = (0.0,) * len(_EQ_HZ)
    ratio: float = 1.5
    threshold_db: float = -12.0
    release_seconds: float = 0.15
    width: float = 1.0
    level_db: float = -16.0
    inverted: bool = False


def draw_master(rng: np.random.Generator) -> Master:
    """Draw a master: tilt and bends of the spectrum, compression, stereo width (one in eight mono), level."""
    tilt = rng.uniform(-1.4, 2.4)
    bends = rng.normal(0.0, 2.0, len(_EQ_HZ))
    octaves = np.log2(np.array(_EQ_HZ) / 1000.0)
    eq_db = np.clip(tilt * octaves + bends, -12.0, 10.0)
    return Master(
        eq_db=tuple(float(gain) for gain in eq_db),
        ratio=float(rng.uniform(1.0, 3.0)),
        threshold_db=float(rng.uniform(-14.0, -4.0)),
        release_seconds=float(rng.uniform(0.06, 0.3)),
        width=0.0 if rng.random() < 0.125 else float(rng.uniform(0.4, 1.2)),
        level_db=float(rng.uniform(-30.0, -9.0)),
        inverted=bool(rng.random() < 0.5),
    )


def master(mix: np.ndarray, settings: Master, sampling_rate: int) -> np.ndarray:
    """Finish a mix.

    Args:
        mix: Samples, (2, samples), at any level.
        settings: What to do.
        sampling_rate: Samples per second.

    Returns:
        float32 samples, (2, samples), loud parts at `settings.level_db`, peaks within +-0.985.
    """
    # The threshold is relative to the loud parts, so that quiet sections stay quiet.
    mix = mix * np.float32(0.1 / max(loudness(mix, sampling_rate), 1e-6))
    response = minimum_phase_fir(_EQ_HZ, settings.eq_db, sampling_rate, 512)
    mix = apply_fir(mix, response)
    mix = compress(mix, sampling_rate, settings.threshold_db - 10.0, settings.ratio, 0.01, settings.release_seconds)
    middle, side = 0.5 * (mix[0] + mix[1]), 0.5 * np.float32(settings.width) * (mix[0] - mix[1])
    mix = np.stack([middle + side, middle - side])
    gain = decibels(settings.level_db) / max(loudness(mix, sampling_rate), 1e-6)
    return limit(mix * np.float32(-gain if settings.inverted else gain), sampling_rate)
