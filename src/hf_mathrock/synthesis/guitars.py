# SPDX-License-Identifier: Apache-2.0
"""What the two guitars can play over an arrangement: strummed chords, arpeggios, taps, chugs, tremolo, unison riffs.

Each function returns one section of one guitar, in time order.
"""

from __future__ import annotations

from collections.abc import Callable

from .arrangement import RANGES, Arrangement
from .chance import pick
from .harmony import into_range, power_chord, scale_pitch
from .score import Note, Technique, Tone

Player = Callable[[Arrangement, Tone], list[Note]]

# Strokes of a tremolo last about this long, in seconds: 9 to 13 a second.
TREMOLO_STROKE_SECONDS = 0.11
LOWEST, HIGHEST = RANGES["guitar_left"]


def strum(plan: Arrangement, tone: Tone) -> list[Note]:
    """Open-tuning chords on the motif, ringing until the next stroke; distorted, the lowest three strings."""
    notes: list[Note] = []
    strokes = [(bar.time(step), step in bar.group_steps) for i, bar in enumerate(plan.bars) for step in plan.accents(i)]
    ends = [start for start, _ in strokes[1:]] + [plan.end]
    for (start, strong), end in zip(strokes, ends, strict=True):
        shape = plan.chord_at(start).shape
        # Six distorted strings blur into noise; players thin the chord out.
        shape = shape[:3] if tone == "distorted" else shape if strong else shape[1:]
        velocity = plan.velocity(0.95 if strong else 0.75)
        notes += [Note(start, end - start, pitch, velocity, "strum", tone) for pitch in shape]
    return notes


def sustain(plan: Arrangement, tone: Tone) -> list[Note]:
    """One wide chord for each harmony, left to ring, renewed at every second bar."""
    starts = sorted({c.start for c in plan.chords} | {bar.start for bar in plan.bars[::2]})
    notes: list[Note] = []
    for start, end in zip(starts, [*starts[1:], plan.end], strict=True):
        shape = plan.chord_at(start).shape
        shape = shape[:4] if tone == "distorted" else shape
        notes += [Note(start, end - start, pitch, plan.velocity(0.8), "strum", tone) for pitch in shape]
    return notes


def arpeggiate(plan: Arrangement, tone: Tone) -> list[Note]:
    """Fingerpicked eighths through the chord, the same order each bar, its tail turned in every fourth bar."""
    order = pick(plan.rng, ((0, 2, 1, 3, 2, 4, 3, 1), (0, 1, 2, 3, 4, 3, 2, 1), (0, 3, 1, 2, 4, 2, 3, 1)))
    turned = order[:4] + order[4:][::-1]
    notes: list[Note] = []
    for index, bar in enumerate(plan.bars):
        for count, step in enumerate(range(0, bar.num_steps, 2)):
            start = bar.time(step)
            chord = plan.chord_at(start)
            string = (turned if index % 4 == 3 else order)[count % 8]
            pitch = chord.shape[string % len(chord.shape)]
            ring = min(4 * bar.step, max(chord.end, start + 2 * bar.step) - start)
            velocity = plan.velocity(0.85 if step in bar.group_steps else 0.68)
            notes.append(Note(start, ring, pitch, velocity, "pluck", tone))
    return notes


def tap(plan: Arrangement, tone: Tone) -> list[Note]:
    """Two-handed tapping: a figure of short notes over two octaves of the chord, in the shortest playable subdivision.

    The figure restarts with each bar; the last bar of a phrase leaves out what the varied motif leaves out.
    """
    length = pick(plan.rng, (4, 5, 6, 8))
    figure = [int(plan.rng.integers(0, 6)) for _ in range(length)]
    figure = [f if i == 0 or f != figure[i - 1] else (f + 2) % 6 for i, f in enumerate(figure)]
    notes: list[Note] = []
    for index, bar in enumerate(plan.bars):
        sparse = index % 4 == 3
        accents = set(plan.accents(index))
        for count, step in enumerate(range(0, bar.num_steps, plan.unit)):
            if sparse and step % 4 and step not in accents:
                continue
            start = bar.time(step)
            shape = plan.chord_at(start).shape
            ladder = sorted(
                {into_range(p + 12, 55, HIGHEST) for p in shape} | {into_range(p + 24, 60, 84) for p in shape}
            )
            pitch = ladder[figure[count % length] % len(ladder)]
            velocity = plan.velocity(0.95 if step in accents else 0.72)
            notes.append(Note(start, 0.85 * plan.unit * bar.step, pitch, velocity, "tap", tone))
    return notes


def chug(plan: Arrangement, tone: Tone) -> list[Note]:
    """A riff: palm-muted low roots between power chords that ring on the motif's accents."""
    rests = {step for step in range(64) if plan.rng.random() < 0.12}
    unit = plan.unit if plan.level > 0.33 else 2
    notes: list[Note] = []
    for index, bar in enumerate(plan.bars):
        accents = plan.accents(index)
        for step in range(0, bar.num_steps, unit):
            start = bar.time(step)
            turned = riff_root(plan, accents.index(step), start) if step in accents else plan.chord_at(start).root
            low, fifth = power_chord(turned)
            if step in accents:
                length = min([a for a in accents if a > step] + [bar.num_steps, step + 3]) - step
                velocity = plan.velocity(1.0)
                notes += [Note(start, length * bar.step, p, velocity, "pluck", tone) for p in (low, fifth, low + 12)]
            elif step not in rests:
                notes.append(Note(start, 0.6 * unit * bar.step, low, plan.velocity(0.8), "palm_mute", tone))
    return notes


def accent_chords(plan: Arrangement, tone: Tone) -> list[Note]:
    """Power chords an octave up, short, on the motif's accents only."""
    notes: list[Note] = []
    for index, bar in enumerate(plan.bars):
        accents = plan.accents(index)
        for count, (step, after) in enumerate(zip(accents, [*accents[1:], bar.num_steps], strict=True)):
            start = bar.time(step)
            low, fifth = power_chord(riff_root(plan, count, start), lowest=45)
            length = min(after - step, 3) * bar.step * 0.9
            notes += [Note(start, length, p, plan.velocity(0.9), "strum", tone) for p in (low, fifth, low + 12)]
    return notes


def tremolo(plan: Arrangement, tone: Tone) -> list[Note]:
    """A tremolo-picked upper voice that swells through each chord; every stroke is a note of its own."""
    stroke_steps = 1.0 / max(1, round(plan.bars[0].step / TREMOLO_STROKE_SECONDS))
    previous = pick(plan.rng, (67, 71, 74))
    pitches: dict[float, int] = {}
    for chord in plan.chords:
        tones = [p for base in chord.shape for p in (base, base + 12, base + 24) if 62 <= p <= 84]
        previous = min(tones, key=lambda p: abs(p - previous) + 0.01 * p)
        pitches[chord.start] = previous
    notes: list[Note] = []
    for bar in plan.bars:
        for stroke in range(round(bar.num_steps / stroke_steps)):
            start = bar.time(stroke * stroke_steps)
            chord = plan.chord_at(start)
            swell = 0.6 + 0.4 * (start - chord.start) / (chord.end - chord.start)
            velocity = plan.velocity(swell)
            notes.append(Note(start, stroke_steps * bar.step, pitches[chord.start], velocity, "tremolo", tone))
    return notes


def answer(plan: Arrangement, tone: Tone) -> list[Note]:
    """Two or three high harmonics or slid notes in the second half of every other bar, where the voice breathes."""
    technique: Technique = pick(plan.rng, ("harmonic", "slide", "pluck"))
    strings = [int(plan.rng.integers(0, 6)) for _ in range(3)]
    notes: list[Note] = []
    for bar in plan.bars[1::2]:
        middle = bar.group_steps[len(bar.grouping) // 2]
        steps = range(middle, bar.num_steps, 4)[:3]
        for string, step in zip(strings, steps, strict=False):
            start = bar.time(step)
            shape = plan.chord_at(start).shape
            pitch = into_range(shape[string % len(shape)] + 12, 60, 84)
            notes.append(Note(start, min(6 * bar.step, plan.end - start), pitch, plan.velocity(0.75), technique, tone))
    return notes


def unison_riff(plan: Arrangement, tone: Tone) -> list[Note]:
    """A single-line riff on the motif, in scale steps above each chord's root, doubled by the bass."""
    return [
        Note(start, length, into_range(pitch, 40, 64), plan.velocity(accent), "pluck", tone)
        for start, length, pitch, accent in riff_line(plan)
    ]


def riff_root(plan: Arrangement, count: int, time: float) -> int:
    """Pitch class under accent number `count` of a bar: the chord's root, or the turn that the riff takes from it."""
    degree = plan.chord_at(time).degree + plan.turns[count % len(plan.turns)]
    return scale_pitch(plan.key, plan.mode, degree, 2) % 12


def riff_line(plan: Arrangement) -> list[tuple[float, float, int, float]]:
    """Start, duration, pitch and accent of the unison riff; the same arrangement gives every player the same line."""
    line: list[tuple[float, float, int, float]] = []
    for index, bar in enumerate(plan.bars):
        onsets = plan.accents(index)
        for count, (step, after) in enumerate(zip(onsets, [*onsets[1:], bar.num_steps], strict=True)):
            start = bar.time(step)
            degree = plan.chord_at(start).degree + plan.contour[count % len(plan.contour)]
            pitch = scale_pitch(plan.key, plan.mode, degree, 2)
            line.append((start, 0.8 * (after - step) * bar.step, pitch, 0.95 if step in bar.group_steps else 0.8))
    return line
