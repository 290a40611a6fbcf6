# SPDX-License-Identifier: Apache-2.0
"""The single-line parts: bass, and the melody that a voice sings or a lead guitar plays."""

from __future__ import annotations

from .arrangement import RANGES, Arrangement
from .chance import pick
from .guitars import riff_line, riff_root
from .harmony import QUALITIES, into_range
from .score import Instrument, Note, Technique, Tone

# Relative lengths of the notes of a two-bar phrase, for phrases that pass quickly and for those that take their time.
SHORT_PHRASES = ((3, 1, 4), (2, 1, 1, 4), (2, 2, 1, 3), (1, 1, 2, 4), (4, 2, 2), (3, 3, 2))
LONG_PHRASES = ((1, 1, 2, 1, 1, 4), (2, 1, 1, 2, 2, 4), (1, 2, 1, 1, 1, 2, 4), (3, 1, 2, 1, 1, 4), (2, 2, 1, 1, 2, 4))
LONG_PHRASE_SECONDS = 4.5

# Semitones above the melody's centre: an arch, a fall, two waves.
CONTOURS = ((0, 4, 7, 9, 7, 4, 2), (7, 4, 5, 2, 4, 2, 0), (0, 5, 2, 7, 5, 9, 7), (2, 7, 9, 4, 7, 2, 0))


def play_bass(plan: Arrangement, unison: bool) -> list[Note]:
    """The bass part of a section.

    Args:
        plan: The section.
        unison: Double the guitars' riff instead of walking on the chord roots.
    """
    low, high = RANGES["bass"]
    tone: Tone = "distorted" if plan.vibe == "aggressive" and plan.level > 0.66 else "clean"
    if unison:
        return [
            Note(start, length, into_range(pitch, low, low + 20), plan.velocity(accent), "pluck", tone)
            for start, length, pitch, accent in riff_line(plan)
        ]
    notes: list[Note] = []
    for index, bar in enumerate(plan.bars):
        groups, accents = bar.group_steps, plan.accents(index)
        if plan.vibe == "atmospheric" and plan.level < 0.66:
            onsets = [step for step in groups if step == 0 or _chord_starts(plan, bar.time(step))]
        elif plan.vibe == "melancholic":
            onsets = groups if index % 2 else [step for step in groups if step == 0 or plan.level > 0.3]
        elif plan.vibe == "aggressive" or plan.level > 0.66:
            onsets = sorted({*accents, *range(0, bar.num_steps, 2)})
        else:
            onsets = accents
        for step, after in zip(onsets, [*onsets[1:], bar.num_steps], strict=True):
            start = bar.time(step)
            chord = plan.chord_at(start)
            turning = plan.vibe == "aggressive" and step in accents
            root = riff_root(plan, accents.index(step), start) if turning else chord.root
            pitch = into_range(root, low, low + 12)
            following = plan.chord_at(bar.time(after))
            if after == bar.num_steps and following.root != chord.root and len(onsets) > 2:
                pitch = _approach(plan, pitch, into_range(following.root, low, low + 12))
            length = (after - step) * bar.step * (0.7 if plan.vibe == "technical" else 0.95)
            notes.append(Note(start, length, pitch, plan.velocity(0.9 if step in groups else 0.75), "pluck", tone))
    return notes


def play_melody(plan: Arrangement, instrument: Instrument, tone: Tone) -> list[Note]:
    """A melody of two-bar phrases: a motif, its answer, the motif again, a close; each ends in a rest to breathe.

    The contour is kept and moved with the harmony, so a phrase is recognised when it returns; strong notes are chord
    tones, the last of the section is the tonic or its fifth.
    """
    low, high = RANGES[instrument]
    centre = {"voice": 60, "lead_guitar": 72}.get(instrument, 60) + pick(plan.rng, (-3, 0, 3, 5))
    technique: Technique = "sung" if instrument == "voice" else "pluck"
    phrases = LONG_PHRASES if 2 * (plan.bars[0].end - plan.bars[0].start) > LONG_PHRASE_SECONDS else SHORT_PHRASES
    rhythms = {"a": pick(plan.rng, phrases), "b": pick(plan.rng, phrases)}
    contours = {"a": pick(plan.rng, CONTOURS), "b": pick(plan.rng, CONTOURS)}
    notes: list[Note] = []
    pairs = [plan.bars[i : i + 2] for i in range(0, len(plan.bars), 2)]
    for number, bars in enumerate(pairs):
        name = "aaba"[number % 4]
        rhythm, contour = rhythms[name], contours[name]
        # Counted in eighths: the voice fills about two thirds of the phrase and rests for the remainder.
        eighths = sum(bar.num_steps for bar in bars) // 2
        unit = max(1, round(eighths * 0.65 / sum(rhythm)))
        at = 0
        for count, length in enumerate(rhythm):
            if at + length * unit > eighths:
                break
            start = bars[0].time(2 * at)
            sounding = length * unit * 2 * bars[0].step * 0.92
            pitch = _nearest(plan, centre + contour[count], start, strong=count == 0 or count == len(rhythm) - 1)
            velocity = plan.velocity(0.95 if count == 0 else 0.82)
            notes.append(Note(start, sounding, into_range(pitch, low, high), velocity, technique, tone))
            at += length * unit
    if notes:
        close = min((plan.scale[0], plan.scale[4]), key=lambda pc: abs((notes[-1].pitch - pc + 6) % 12 - 6))
        notes[-1].pitch = into_range(notes[-1].pitch + (close - notes[-1].pitch + 6) % 12 - 6, low, high)
    return notes


def _chord_starts(plan: Arrangement, time: float) -> bool:
    return any(abs(chord.start - time) < 1e-6 for chord in plan.chords)


def _approach(plan: Arrangement, pitch: int, target: int) -> int:
    """A scale note next to the target, on the side the bass comes from."""
    low, high = RANGES["bass"]
    steps = (-1, -2) if pitch <= target else (1, 2)
    return next((target + s for s in steps if (target + s) % 12 in plan.scale and low <= target + s <= high), pitch)


def _nearest(plan: Arrangement, target: int, time: float, strong: bool) -> int:
    """The pitch nearest a target among the chord's notes (strong) or the scale's."""
    chord = plan.chord_at(time)
    allowed = {(chord.root + interval) % 12 for interval in QUALITIES[chord.quality]} if strong else set(plan.scale)
    return min((p for p in range(target - 7, target + 8) if p % 12 in allowed), key=lambda p: abs(p - target))
