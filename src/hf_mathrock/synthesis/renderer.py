# SPDX-License-Identifier: Apache-2.0
"""Plays a composed piece: players, amplifiers, kit, voice, desk, room, master."""

from __future__ import annotations

import functools

import numpy as np
from threadpoolctl import ThreadpoolController

from .damage import spoil
from .filters import decibels, loudness
from .mastering import master
from .percussion import Drummer
from .players import StringPlayer
from .room import reverberate
from .score import Piece
from .variation import Variation, draw_variation, perform
from .voice import sing

_ROOM_SENDS = {"guitar_left": 1.0, "guitar_right": 1.0, "bass": 0.15, "lead_guitar": 1.3, "voice": 1.4, "drums": 1.0}
_FADE_SECONDS = 0.05
_DRUM_RMS = 0.1  # of the loud parts of a kit struck at full velocity; the other players use the same reference


def render(
    piece: Piece, *, sampling_rate: int = 44_100, seed: int | None = None, variation: Variation | None = None
) -> np.ndarray:
    """Play a piece as a band would record it.

    Args:
        piece: The music.
        sampling_rate: Samples per second, 8000 to 192000.
        seed: Draws the recording and its chance events; `None` takes the piece's own seed.
        variation: A recording to use in place of the drawn one; its times are those of `perform(piece, variation)`.

    Returns:
        float32 samples, (2, num_samples), within +-1, where num_samples is the performed duration times the rate. On
        one machine the same piece, seed, rate and variation give the same samples, bit for bit, however many threads.

    Raises:
        ValueError: `sampling_rate` is out of range, or the piece has no duration.
    """
    if not 8000 <= sampling_rate <= 192_000:
        raise ValueError(f"sampling_rate is {sampling_rate}; it must lie in 8000 to 192000 Hz (kHz given for Hz?)")
    if not piece.duration > 0:
        raise ValueError(f"piece {piece.work_id!r} lasts {piece.duration} s; there is nothing to render")
    seed = piece.seed if seed is None else seed
    variation = draw_variation(seed) if variation is None else variation
    # How a matrix product is shared among threads decides how its sums are rounded.
    with _thread_pools().limit(limits=1, user_api="blas"):
        return _record(perform(piece, variation), variation, sampling_rate, seed)


@functools.cache
def _thread_pools() -> ThreadpoolController:
    return ThreadpoolController()  # searching the loaded libraries takes milliseconds


def _record(piece: Piece, variation: Variation, sampling_rate: int, seed: int) -> np.ndarray:
    num_samples = round(piece.duration * sampling_rate)
    # One stream of chance for each player: a note more on one track leaves the others as they were.
    streams = dict(
        zip(
            (*_ROOM_SENDS, "room", "damage"),
            np.random.default_rng([seed, 0x5EED]).spawn(len(_ROOM_SENDS) + 2),
            strict=True,
        )
    )
    mix = np.zeros((2, num_samples), np.float32)
    send = np.zeros(num_samples, np.float32)
    for instrument, notes in piece.tracks.items():
        if not notes:
            continue
        if instrument == "voice":
            stem = sing(
                notes, variation.singer, num_samples, sampling_rate, streams["voice"], variation.touch.tuning_cents
            )
        else:
            player = StringPlayer(variation.rig(instrument), variation.touch, sampling_rate, streams[instrument])
            stem = player.play(notes, num_samples, piece.bpm)
        stem *= np.float32(decibels(variation.balance_db[instrument]))
        angle = 0.25 * np.pi * (1.0 + variation.pans[instrument])
        mix[0] += np.float32(np.cos(angle)) * stem
        mix[1] += np.float32(np.sin(angle)) * stem
        send += np.float32(_ROOM_SENDS[instrument]) * stem
    if piece.drums:
        drummer = Drummer(variation.kit, sampling_rate, streams["drums"])
        stem = drummer.play(piece.drums, num_samples, variation.touch.jitter_seconds, variation.touch.velocity_jitter)
        hardest = float(np.percentile([hit.velocity for hit in piece.drums], 90))
        level = decibels(variation.balance_db["drums"]) * _DRUM_RMS * hardest
        stem *= np.float32(level / max(loudness(stem, sampling_rate), 1e-6))
        mix += stem
        send += stem.mean(axis=0)
    if variation.room.level:
        mix += reverberate(send, variation.room, sampling_rate, streams["room"])
    # The last chord still rings where the piece ends; cut dry, it would end in a click.
    fade = min(num_samples, round(_FADE_SECONDS * sampling_rate))
    mix[:, num_samples - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    finished = master(mix, variation.master, sampling_rate)
    return spoil(finished, variation.damage, sampling_rate, streams["damage"])
