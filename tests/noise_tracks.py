"""Tracks of noise, made on the spot; here, so that other processes can import them."""

import time
from functools import partial
from pathlib import Path

import numpy as np

from hf_mathrock.data.tracks import Track

RATE = 16_000


def noise(seed, seconds=4.0, marks=None):
    """Noise that swells, so that every moment has a level of its own."""
    if marks is not None:
        (Path(marks) / str(seed)).touch()
    samples = np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype(np.float32)
    return samples * np.linspace(0.01, 0.3, len(samples), dtype=np.float32)


def slow_noise(seed, seconds=4.0, marks=None):
    time.sleep(0.15)
    return noise(seed, seconds, marks)


def silence(seconds=4.0):
    return np.zeros(round(seconds * RATE), np.float32)


def noise_tracks(num, seconds=4.0, make=noise, **options):
    """Tracks of two to an artist; `seconds` is one length for all or a list."""
    lengths = seconds if isinstance(seconds, list) else [seconds] * num
    return [
        Track(
            f"noise {seed}",
            partial(make, seed, lengths[seed], **options),
            work=f"work {seed}",
            artist=f"artist {seed // 2}",
            album="noises",
            facts={"seed": seed, "tempo": np.float32(100 + seed)},
        )
        for seed in range(num)
    ]
