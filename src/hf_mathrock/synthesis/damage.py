# SPDX-License-Identifier: Apache-2.0
"""What happens to a record on its way to the listener: hiss, hum, bandwidth, codecs."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import soundfile
from scipy import signal

from .filters import decibels, loudness, low_pass

Codec = Literal["none", "low_pass", "resampled", "mu_law", "eight_bit", "mp3", "vorbis"]

_BLOCK_SAMPLES = 1 << 16  # libsndfile's Vorbis encoder overruns its stack on one long write


@dataclass(frozen=True, slots=True)
class Damage:
    """Noise levels are dB against the loud parts, `None` for none. `hum_hz` is 50 or 60."""

    hiss_db: float | None = None
    hiss_slope: float = 0.0
    hum_db: float | None = None
    hum_hz: float = 50.0
    codec: Codec = "none"
    bandwidth_hz: float = 16000.0
    compression_level: float = 0.5


def draw_damage(rng: np.random.Generator) -> Damage:
    """Draw the damage: four takes in ten keep their bandwidth."""
    codecs: list[Codec] = ["none", "low_pass", "resampled", "mu_law", "eight_bit", "mp3", "vorbis"]
    codec = codecs[int(rng.choice(len(codecs), p=[0.42, 0.16, 0.16, 0.05, 0.05, 0.09, 0.07]))]
    return Damage(
        hiss_db=float(rng.uniform(-75, -32)) if rng.random() < 0.5 else None,
        hiss_slope=float(rng.uniform(0.0, 0.98)),
        hum_db=float(rng.uniform(-65, -36)) if rng.random() < 0.25 else None,
        hum_hz=float(rng.choice([50.0, 60.0])),
        codec=codec,
        bandwidth_hz=float(rng.choice([4000.0, 5500.0, 7500.0, 10000.0, 11000.0, 15000.0, 16000.0])),
        compression_level=float(rng.uniform(0.3, 1.0)),
    )


def encode_and_decode(
    audio: np.ndarray, sampling_rate: int, codec: Literal["mp3", "vorbis"], level: float
) -> np.ndarray:
    """Round trip through a lossy codec in memory; `level` is 0 (best) to 1 (smallest). Keeps length and alignment."""
    container, subtype = ("MP3", "MPEG_LAYER_III") if codec == "mp3" else ("OGG", "VORBIS")
    stream = io.BytesIO()
    with soundfile.SoundFile(
        stream, "w", sampling_rate, audio.shape[0], subtype=subtype, format=container, compression_level=level
    ) as sink:
        for begin in range(0, audio.shape[1], _BLOCK_SAMPLES):
            sink.write(audio[:, begin : begin + _BLOCK_SAMPLES].T)
    stream.seek(0)
    decoded = soundfile.read(stream, dtype="float32", always_2d=True)[0].T[:, : audio.shape[1]]
    restored = np.zeros_like(audio)
    restored[:, : decoded.shape[1]] = decoded
    return restored


def spoil(audio: np.ndarray, damage: Damage, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Apply the damage to (2, samples) and return float32 within +-1, of the same length."""
    level = loudness(audio, sampling_rate)
    num_samples = audio.shape[1]
    if damage.hiss_db is not None:
        hiss = rng.standard_normal(audio.shape, dtype=np.float32)
        hiss = signal.lfilter([math.sqrt(1.0 - damage.hiss_slope**2)], [1.0, -damage.hiss_slope], hiss, axis=-1)
        audio = audio + np.float32(level * decibels(damage.hiss_db)) * hiss.astype(np.float32)
    if damage.hum_db is not None:
        angle = 2.0 * np.pi * damage.hum_hz / sampling_rate * np.arange(num_samples)
        hum = np.sin(angle) + 0.5 * np.sin(2 * angle) + 0.4 * np.sin(3 * angle) + 0.2 * np.sin(5 * angle)
        audio = audio + (level * decibels(damage.hum_db) * hum).astype(np.float32)
    if damage.codec == "low_pass":
        audio = low_pass(audio, damage.bandwidth_hz, sampling_rate, order=8)
    elif damage.codec == "resampled":
        factor = max(2, round(sampling_rate / (2.2 * damage.bandwidth_hz)))
        fewer = signal.resample_poly(audio, 1, factor, axis=-1)
        audio = signal.resample_poly(fewer, factor, 1, axis=-1)[:, :num_samples]
    elif damage.codec == "mu_law":
        companded = np.sign(audio) * np.log1p(255.0 * np.abs(audio)) / math.log(256.0)
        companded = np.round(companded * 127.0) / 127.0
        audio = np.sign(companded) * np.expm1(np.abs(companded) * math.log(256.0)) / 255.0
        audio = low_pass(audio.astype(np.float32), damage.bandwidth_hz, sampling_rate, order=6)
    elif damage.codec == "eight_bit":
        loudest = max(float(np.abs(audio).max()), 1e-6)
        audio = np.round(audio / loudest * 127.0) / 127.0 * loudest
    elif damage.codec in ("mp3", "vorbis"):
        audio = encode_and_decode(audio, sampling_rate, damage.codec, damage.compression_level)
    return np.clip(audio, -1.0, 1.0).astype(np.float32, copy=False)
