# SPDX-License-Identifier: Apache-2.0
"""From notes on paper to notes in the air: humanised timing, strums, tremolo, slides, and the rig's volume."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .amplifier import Amplifier, amplify
from .filters import decibels, loudness
from .score import Note, Tone
from .strings import NUM_LAYERS, StringTimbre, pluck

_LONGEST_RING = 4.0
_TREMOLO_HZ = 13.0
_REST_SECONDS = 0.6  # a tone's bus is only computed where it sounds; shorter rests do not split it


@dataclass(frozen=True, slots=True)
class Touch:
    """How loosely a player plays. Timing errors have zero mean, so written times stay the expected ones."""

    tuning_cents: float = 0.0
    string_cents: float = 0.0
    jitter_seconds: float = 0.0
    velocity_jitter: float = 0.0
    strum_seconds: float = 0.004


@dataclass(frozen=True, slots=True)
class Rig:
    """One player's instrument: strings, amplifier, hands."""

    strings: StringTimbre
    amplifier: Amplifier


def humanise(notes: list[Note], touch: Touch, bpm: float, rng: np.random.Generator) -> list[Note]:
    """Spread strums over the strings, repick tremolo, and loosen timing and velocity.

    A strum is every strummed note of one start: down-strokes run from the low string, up-strokes (every second strum)
    from the high one, centred on the written start and never wider than 20 ms in all. A tremolo note longer than
    0.2 s is repicked at the subdivision of the beat that lies nearest 13 strokes a second.
    """
    played: list[Note] = []
    strums: dict[int, list[Note]] = {}
    for note in notes:
        if note.technique == "tremolo" and note.duration >= 0.2:
            strokes_per_beat = max(1, round(_TREMOLO_HZ * 60.0 / bpm))
            stroke = 60.0 / bpm / strokes_per_beat
            count = max(1, round(note.duration / stroke))
            played += [
                replace(
                    note,
                    start=note.start + index * stroke,
                    duration=stroke * 1.2,
                    velocity=note.velocity * (0.92 if index % 2 else 1.0),
                )
                for index in range(count)
            ]
        elif note.technique == "strum":
            strums.setdefault(round(note.start * 500), []).append(note)
        else:
            played.append(note)
    for index, key in enumerate(sorted(strums)):
        chord = sorted(strums[key], key=lambda note: note.pitch, reverse=index % 2 == 1)
        gap = min(touch.strum_seconds, 0.02 / max(1, len(chord) - 1))
        middle = 0.5 * (len(chord) - 1)
        played += [replace(note, start=note.start + gap * (rank - middle)) for rank, note in enumerate(chord)]
    shifts = np.clip(rng.standard_normal(len(played)), -2, 2) * touch.jitter_seconds
    forces = np.exp(np.clip(rng.standard_normal(len(played)), -2, 2) * touch.velocity_jitter)
    return sorted(
        (
            replace(
                note,
                start=max(0.0, note.start + float(shift)),
                velocity=float(np.clip(note.velocity * force, 0.03, 1.0)),
            )
            for note, shift, force in zip(played, shifts, forces, strict=True)
        ),
        key=lambda note: note.start,
    )


def _spans(notes: list[Note], tail_seconds: float) -> list[list[Note]]:
    """Groups of notes between which a bus falls silent."""
    groups: list[list[Note]] = []
    silent_from = -1.0
    for note in notes:
        if not groups or note.start > silent_from + _REST_SECONDS:
            groups.append([])
        groups[-1].append(note)
        silent_from = max(silent_from, note.start + note.duration + tail_seconds)
    return groups


def _glide(audio: np.ndarray, sampling_rate: int, semitones: float = -2.0, seconds: float = 0.09) -> np.ndarray:
    """Read a note at a rate that rises to its pitch, as a finger sliding up to its fret does."""
    times = np.arange(audio.size) / sampling_rate
    rate = 2.0 ** (semitones / 12.0 * np.clip(1.0 - times / seconds, 0.0, 1.0))
    return np.interp(np.cumsum(rate) - rate[0], np.arange(audio.size), audio).astype(np.float32)


class StringPlayer:
    """Plays notes on one rig, keeping every note it has synthesised for the next time it is needed."""

    def __init__(self, rig: Rig, touch: Touch, sampling_rate: int, rng: np.random.Generator) -> None:
        self.rig, self.touch, self.sampling_rate, self.rng = rig, touch, sampling_rate, rng
        self._rung: dict[tuple[object, ...], np.ndarray] = {}

    def _ring(self, note: Note, seconds: float) -> np.ndarray:
        layer = min(NUM_LAYERS - 1, int(note.velocity * NUM_LAYERS))
        per_note = self.rig.amplifier.per_note
        key = (note.pitch, note.technique, layer, note.tone if per_note else None)
        sound = self._rung.get(key)
        needed = int(seconds * self.sampling_rate)
        if sound is None or sound.size < needed:
            cents = self.touch.tuning_cents + self.touch.string_cents * float(
                np.clip(self.rng.standard_normal(), -2, 2)
            )
            pitch = note.pitch + cents / 100.0
            velocity = (layer + 0.7) / NUM_LAYERS
            # Ring somewhat longer than asked, so that the next, slightly longer note finds it ready.
            sound = pluck(
                self.rig.strings, pitch, note.technique, velocity, 1.3 * seconds, self.sampling_rate, self.rng
            )
            if per_note:
                sound = amplify(sound, self.rig.amplifier, note.tone, self.sampling_rate)
                sound *= 0.1 / max(loudness(sound, self.sampling_rate), 1e-6)
            if note.technique == "slide":
                sound = _glide(sound, self.sampling_rate)
            self._rung[key] = sound
        return sound

    def _dry(self, notes: list[Note], num_samples: int) -> np.ndarray:
        """Strings alone, (samples,), from the start of the first note."""
        audio = np.zeros(num_samples, np.float32)
        origin = notes[0].start
        release = int(4.0 * self.rig.strings.release_seconds * self.sampling_rate)
        fade = np.exp(-4.0 * np.arange(release, dtype=np.float32) / release) * np.linspace(
            1.0, 0.0, release, dtype=np.float32
        )
        for note in notes:
            held = min(int(note.duration * self.sampling_rate), int(_LONGEST_RING * self.sampling_rate))
            begin = round((note.start - origin) * self.sampling_rate)
            end = min(num_samples, begin + held + release)
            sound = self._ring(note, (held + release + 2) / self.sampling_rate)
            gain = np.float32(note.velocity)
            body_end = min(end, begin + held)
            audio[begin:body_end] += gain * sound[: body_end - begin]
            if end > body_end:
                audio[body_end:end] += gain * fade[: end - body_end] * sound[held : held + end - body_end]
        return audio

    def play(self, notes: list[Note], num_samples: int, bpm: float) -> np.ndarray:
        """Render a track.

        Args:
            notes: The written notes.
            num_samples: Length of the piece.
            bpm: Tempo, for tremolo strokes.

        Returns:
            float32 samples, (num_samples,). Tones keep their order of loudness, clean below crunch below distorted, and
            a louder velocity is louder through any amount of distortion.
        """
        audio = np.zeros(num_samples, np.float32)
        amp = self.rig.amplifier
        tail_seconds = 4.0 * self.rig.strings.release_seconds + 3.0 * amp.echo_seconds + 0.05
        played = humanise(notes, self.touch, bpm, self.rng)
        levels_db: dict[Tone, float] = {"clean": amp.clean_level_db, "crunch": amp.crunch_level_db, "distorted": 0.0}
        for tone in ("clean", "crunch", "distorted"):
            toned = [note for note in played if note.tone == tone and note.start < num_samples / self.sampling_rate]
            spans = []
            for group in _spans(toned, tail_seconds):
                begin = round(group[0].start * self.sampling_rate)
                finish = max(note.start + note.duration for note in group) + tail_seconds
                end = min(num_samples, round(finish * self.sampling_rate))
                dry = self._dry(group, end - begin)
                wet = dry if amp.per_note else amplify(dry, amp, tone, self.sampling_rate)
                spans.append((begin, end, wet * self._hands(group, begin, end, tone)))
            # One gain a tone, so that spans keep their dynamics.
            level = max((loudness(span, self.sampling_rate) for _, _, span in spans), default=0.0)
            if level > 0.0:
                hardest = max(float(np.percentile([note.velocity for note in toned], 90)), 0.05)
                gain = np.float32(0.1 * decibels(levels_db[tone]) * hardest / level)
                for begin, end, span in spans:
                    audio[begin:end] += gain * span
        return audio

    def _hands(self, notes: list[Note], begin: int, end: int, tone: Tone) -> np.ndarray:
        """Volume that follows the playing: a driven stage levels velocities out, this brings them back."""
        strength = {"clean": 0.15, "crunch": 0.5, "distorted": 0.8}[tone]
        starts = np.array([note.start for note in notes]) * self.sampling_rate
        velocities = np.array([note.velocity for note in notes])
        reach = self.sampling_rate
        marks = np.arange(begin, end + reach // 4, reach // 4)
        low, high = np.searchsorted(starts, marks - reach), np.searchsorted(starts, marks + reach)
        total = np.concatenate([[0.0], np.cumsum(velocities)])
        counts = high - low
        means = np.where(counts > 0, (total[high] - total[low]) / np.maximum(counts, 1), velocities.mean())
        return (np.interp(np.arange(begin, end), marks, means) ** strength).astype(np.float32)
