# SPDX-License-Identifier: Apache-2.0
"""A drum kit, from worn acoustic shells to a drum machine: one-shots placed at their strokes.

Shells are a membrane that falls in pitch plus stick and wires; metals are clusters of inharmonic partials over filtered
noise; a machine's hats are the classic six square waves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import signal

from .filters import low_pass
from .partials import sum_partials
from .score import DrumHit, DrumKind

_CHOKES: dict[str, tuple[str, ...]] = {"hat_open": ("hat_closed", "hat_open")}
_LEVELS: dict[str, float] = {
    "kick": 1.0, "snare": 0.85, "ghost": 0.5, "rim": 0.5, "hat_closed": 0.33, "hat_open": 0.38, "ride": 0.36,
    "crash": 0.62, "tom_high": 0.75, "tom_mid": 0.78, "tom_low": 0.82,
}  # fmt: skip
_PANS: dict[str, float] = {
    "kick": 0.0, "snare": 0.05, "ghost": 0.05, "rim": 0.08, "hat_closed": 0.45, "hat_open": 0.45, "ride": -0.5,
    "crash": -0.35, "tom_high": 0.3, "tom_mid": -0.05, "tom_low": -0.4,
}  # fmt: skip
_NUM_LAYERS = 3


@dataclass(frozen=True, slots=True)
class Kit:
    """Sizes, tunings and materials; times are time constants in seconds."""

    machine: bool = False
    kick_hz: float = 52.0
    kick_sweep: float = 3.0
    kick_seconds: float = 0.11
    kick_click: float = 0.5
    snare_hz: float = 190.0
    snare_seconds: float = 0.06
    wires_seconds: float = 0.09
    wires_hz: float = 3500.0
    wires_level: float = 0.8
    hat_hz: float = 7500.0
    hat_closed_seconds: float = 0.022
    hat_open_seconds: float = 0.22
    ride_seconds: float = 0.5
    ride_ping: float = 0.5
    crash_seconds: float = 0.6
    tom_hz: float = 95.0
    tom_seconds: float = 0.16
    width: float = 0.7
    squash: float = 0.0
    balance_db: tuple[float, float, float] = (0.0, 0.0, 0.0)


def draw_kit(rng: np.random.Generator) -> Kit:
    """Draw a kit: one in four is a machine."""
    machine = bool(rng.random() < 0.25)

    def log_uniform(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    return Kit(
        machine=machine,
        kick_hz=log_uniform(42, 95),
        kick_sweep=log_uniform(1.5, 6.0),
        kick_seconds=log_uniform(0.15, 0.4) if machine else log_uniform(0.06, 0.2),
        kick_click=float(rng.uniform(0.1, 1.5)),
        snare_hz=log_uniform(150, 290),
        snare_seconds=log_uniform(0.03, 0.11),
        wires_seconds=log_uniform(0.045, 0.16),
        wires_hz=log_uniform(1800, 6000),
        wires_level=float(rng.uniform(0.5, 1.2)),
        hat_hz=log_uniform(4500, 9000),
        hat_closed_seconds=log_uniform(0.012, 0.045),
        hat_open_seconds=log_uniform(0.12, 0.4),
        ride_seconds=log_uniform(0.25, 0.9),
        ride_ping=float(rng.uniform(0.2, 0.9)),
        crash_seconds=log_uniform(0.3, 1.1),
        tom_hz=log_uniform(75, 130),
        tom_seconds=log_uniform(0.08, 0.3),
        width=float(rng.uniform(0.0, 1.0)),
        squash=float(rng.uniform(0.0, 1.5)) if rng.random() < 0.5 else 0.0,
        balance_db=(float(rng.normal(0, 1.5)), float(rng.normal(0, 1.5)), float(rng.normal(0, 2.0))),
    )


class Drummer:
    """Strikes one kit, keeping its one-shots."""

    def __init__(self, kit: Kit, sampling_rate: int, rng: np.random.Generator) -> None:
        self.kit, self.sampling_rate, self.rng = kit, sampling_rate, rng
        self._shots: dict[tuple[str, int, int], np.ndarray] = {}

    def play(self, hits: list[DrumHit], num_samples: int, jitter_seconds: float, velocity_jitter: float) -> np.ndarray:
        """Render the drum track.

        Args:
            hits: The strokes, in time order.
            num_samples: Length of the piece.
            jitter_seconds: Standard deviation of each stroke's timing error; errors have zero mean.
            velocity_jitter: Standard deviation of each stroke's log gain.

        Returns:
            float32 samples, (2, num_samples), left and right as the audience sees the kit.
        """
        audio = np.zeros((2, num_samples), np.float32)
        rate = self.sampling_rate
        for index, hit in enumerate(hits):
            shift, force = np.clip(self.rng.standard_normal(2), -2, 2)
            begin = round(max(0.0, hit.start + shift * jitter_seconds) * rate)
            if begin >= num_samples:
                continue
            velocity = float(np.clip(hit.velocity * np.exp(force * velocity_jitter), 0.03, 1.0))
            shot = self._shot(hit.kind, velocity, index % 2)
            length = min(shot.size, num_samples - begin)
            choked_by = _CHOKES.get(hit.kind, ())
            choke = next((later.start for later in hits[index + 1 : index + 24] if later.kind in choked_by), None)
            body = shot[:length]
            if choke is not None and (held := int((choke - hit.start) * rate)) < length:
                fade = np.exp(-np.arange(length - held, dtype=np.float32) / (0.012 * rate))
                body = np.concatenate([shot[:held], shot[held:length] * fade])
            angle = 0.25 * np.pi * (1.0 + self.kit.width * _PANS[hit.kind])
            gain = velocity**1.15 * _LEVELS[hit.kind] * self._balance(hit.kind)
            audio[0, begin : begin + length] += np.float32(gain * np.cos(angle)) * body
            audio[1, begin : begin + length] += np.float32(gain * np.sin(angle)) * body
        if self.kit.squash:
            drive = np.float32(1.0 + self.kit.squash)
            audio = np.tanh(drive * audio) / np.float32(np.sqrt(drive))
        return audio

    def _balance(self, kind: DrumKind) -> float:
        group = 0 if kind == "kick" else 2 if kind in ("hat_closed", "hat_open", "ride", "crash") else 1
        return float(10.0 ** (np.clip(self.kit.balance_db[group], -4, 4) / 20.0))

    def _shot(self, kind: DrumKind, velocity: float, take: int) -> np.ndarray:
        layer = min(_NUM_LAYERS - 1, int(velocity * _NUM_LAYERS))
        key = (kind, layer, 0 if self.kit.machine else take)
        if key not in self._shots:
            strength = 0.35 + 0.65 * (layer + 0.7) / _NUM_LAYERS
            # A soft stroke excites fewer highs.
            shot = low_pass(self._synthesise(kind, strength), 2500.0 + 16000.0 * strength**2, self.sampling_rate)
            shot[: min(24, shot.size)] *= np.linspace(0.0, 1.0, min(24, shot.size), dtype=np.float32)
            fade = min(shot.size, int(0.02 * self.sampling_rate))
            shot[-fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
            self._shots[key] = (shot / max(float(np.abs(shot).max()), 1e-9) * 0.9).astype(np.float32)
        return self._shots[key]

    def _synthesise(self, kind: DrumKind, strength: float) -> np.ndarray:
        kit = self.kit
        if kind == "kick":
            body = self._membrane(kit.kick_hz, kit.kick_sweep, kit.kick_seconds)
            return body + self._noise(0.006, 2500.0, body.size, kit.kick_click * strength, band=True)
        if kind in ("snare", "ghost"):
            shell = self._shell(strength)
            return shell if kind == "snare" else shell * np.exp(-np.arange(shell.size) / (0.08 * self.sampling_rate))
        if kind == "rim":
            size = int(0.12 * self.sampling_rate)
            modes = np.array([430.0, 1720.0, 2600.0]) * kit.snare_hz / 190.0
            return self._modes(modes, np.array([0.5, 1.0, 0.4]), np.full(3, 1 / 0.012), size) + self._noise(
                0.004, 3000.0, size, 0.4, band=True
            )
        if kind in ("hat_closed", "hat_open"):
            return self._hat(kit.hat_closed_seconds if kind == "hat_closed" else kit.hat_open_seconds, strength)
        if kind == "ride":
            return self._metal(kit.ride_seconds, 320.0, 9000.0, kit.ride_ping, strength, 4000.0)
        if kind == "crash":
            return self._metal(kit.crash_seconds, 500.0, 12000.0, 0.0, strength, 2500.0)
        step = {"tom_high": 1.75, "tom_mid": 1.3, "tom_low": 0.95}[kind]
        body = self._membrane(kit.tom_hz * step, 1.4, kit.tom_seconds)
        return body + self._noise(0.012, 1800.0, body.size, 0.25 * strength, band=True)

    def _membrane(self, frequency_hz: float, sweep: float, seconds: float) -> np.ndarray:
        """A head struck hard: the pitch falls from `sweep` times its rest within about 30 ms, with a second mode."""
        times = np.arange(int(5.0 * seconds * self.sampling_rate)) / self.sampling_rate
        fall = 0.022
        cycles = frequency_hz * (times + (sweep - 1.0) * fall * (1.0 - np.exp(-times / fall)))
        envelope = np.exp(-times / seconds)
        second = 0.0 if self.kit.machine else 0.3 * np.sin(2 * np.pi * 1.59 * cycles) * envelope**2.5
        return (np.sin(2 * np.pi * cycles) * envelope + second).astype(np.float32)

    def _shell(self, strength: float) -> np.ndarray:
        kit = self.kit
        size = int(max(6.0 * kit.wires_seconds, 0.25) * self.sampling_rate)
        ratios = np.array([1.0, 1.78]) if kit.machine else np.array([1.0, 1.59, 2.14, 2.3, 2.65, 2.92])
        jitter = 1.0 + 0.01 * self.rng.standard_normal(ratios.size)
        amplitudes = 1.0 / np.arange(1, ratios.size + 1)
        rates = np.arange(1, ratios.size + 1) ** 0.5 / kit.snare_seconds
        shell = self._modes(kit.snare_hz * ratios * jitter, amplitudes, rates, size)
        wires = self._noise(kit.wires_seconds * (0.6 + 0.4 * strength), kit.wires_hz, size, kit.wires_level * strength)
        stick = self._noise(0.005, 4500.0, size, 0.6 * strength, band=True)
        return shell + wires + stick

    def _hat(self, seconds: float, strength: float) -> np.ndarray:
        rate = self.sampling_rate
        size = int(6.0 * seconds * rate)
        times = np.arange(size) / rate
        envelope = np.exp(-times / seconds).astype(np.float32)
        if self.kit.machine:
            tones = np.array([205.3, 304.4, 369.6, 522.7, 540.0, 800.0]) * self.kit.hat_hz / 5000.0
            sound = np.sign(np.sin(2 * np.pi * tones[:, None] * times)).sum(axis=0).astype(np.float32)
        else:
            sound = self.rng.standard_normal(size).astype(np.float32)
            count = 40
            frequencies = np.exp(self.rng.uniform(np.log(self.kit.hat_hz * 0.45), np.log(14000.0), count))
            sound += 1.2 * self._modes(frequencies, self.rng.uniform(0.1, 0.5, count), np.zeros(count), size)
        corner = min(self.kit.hat_hz * (0.7 + 0.3 * strength), 0.42 * rate)
        sections = signal.butter(3, corner, "high", fs=rate, output="sos")
        return signal.sosfilt(sections, sound).astype(np.float32) * envelope

    def _metal(
        self, seconds: float, low: float, high: float, ping: float, strength: float, bright: float
    ) -> np.ndarray:
        """A cymbal: 240 partials, the high ones dying first, under a wash of noise."""
        rate = self.sampling_rate
        size = int(min(4.5 * seconds, 3.0) * rate)
        count = 240
        frequencies = np.exp(self.rng.uniform(np.log(low), np.log(high), count))
        amplitudes = self.rng.uniform(0.2, 1.0, count) * np.exp(-np.abs(np.log(frequencies / bright)) * 0.7)
        rates = (0.6 + (frequencies / 7000.0) ** 0.7) / seconds
        sound = self._modes(frequencies, amplitudes, rates, size, random_phase=True)
        sound /= max(float(np.abs(sound).max()), 1e-9)
        wash = self._noise(seconds * 0.55, bright, size, (1.5 if ping == 0.0 else 0.4) * strength)
        sound = sound + wash
        if ping:
            sound += ping * self._modes(
                np.array([0.62, 1.0, 1.37]) * bright, np.array([0.5, 1.0, 0.6]), np.full(3, 28.0), size
            )
            sound += self._noise(0.004, 6000.0, size, 0.5 * strength, band=True)
        return sound

    def _modes(
        self, frequencies: np.ndarray, amplitudes: np.ndarray, rates: np.ndarray, size: int, random_phase: bool = False
    ) -> np.ndarray:
        phases = self.rng.uniform(0, 2 * np.pi, frequencies.size) if random_phase else None
        return sum_partials(frequencies, amplitudes, rates, size, self.sampling_rate, phases)

    def _noise(self, seconds: float, cutoff_hz: float, size: int, level: float, band: bool = False) -> np.ndarray:
        """A burst of noise that peaks near `level`, above `cutoff_hz`, or in an octave and a half around it."""
        rate = self.sampling_rate
        burst = min(size, int(8.0 * seconds * rate) + 1)
        noise = self.rng.standard_normal(burst)
        if band:
            edges = [cutoff_hz / 1.7, min(cutoff_hz * 1.7, 0.45 * rate)]
            corners = signal.butter(1, edges, "band", fs=rate)
        else:
            corners = signal.butter(1, min(cutoff_hz, 0.42 * rate), "high", fs=rate)
        shaped = signal.lfilter(*corners, noise) * np.exp(-np.arange(burst) / (seconds * rate))
        sound = np.zeros(size, np.float32)
        sound[:burst] = level * shaped / max(float(np.abs(shaped).max()), 1e-9)
        return sound
