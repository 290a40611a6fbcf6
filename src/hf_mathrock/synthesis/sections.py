# SPDX-License-Identifier: Apache-2.0
"""One section of a piece: its chords, the parts that are played, and the labels that follow from what was written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import affect, guitars
from .arrangement import Arrangement, Harmony
from .chance import pick
from .guitars import Player
from .harmony import colour_chord, lead_voices
from .lines import play_bass, play_melody
from .rhythm import Grid, play_drums
from .score import Bar, Chord, Instrument, Labels, Note, Piece, Tone

MOTIF_CHARACTER = {
    "aggressive": (0.8, 0.4),
    "atmospheric": (0.35, 0.1),
    "melancholic": (0.55, 0.2),
    "technical": (0.95, 0.7),
}
"""Activity and syncopation of a vibe's motif, as `rhythm.draw_motif` takes them."""
CHORD_SECONDS = {
    "aggressive": (1.4, 3.0),
    "atmospheric": (3.2, 5.5),
    "melancholic": (1.8, 3.2),
    "technical": (1.5, 3.0),
}


def harmonise(
    rng: np.random.Generator,
    key: int,
    mode: str,
    vibe: str,
    bars: Sequence[Grid],
    degrees: Sequence[int],
    tuning: tuple[int, ...],
) -> list[Harmony]:
    """Spread a progression over bars: whole bars per chord, or half a bar where bars are long.

    Args:
        rng: Source of randomness.
        key: Pitch class of the tonic.
        mode: A key of `harmony.MODES`.
        vibe: Character of the section.
        bars: Its bars.
        degrees: The progression in scale degrees, gone round as often as needed.
        tuning: Open strings of the guitars, low to high.
    """
    target = rng.uniform(*CHORD_SECONDS[vibe])
    lengths = [bar.end - bar.start for bar in bars]
    mean = sum(lengths) / len(lengths)
    spans: list[tuple[float, float]] = []
    if mean > 1.6 * target:
        for bar in bars:
            middle = bar.time(bar.group_steps[(len(bar.grouping) + 1) // 2])
            spans += [(bar.start, middle), (middle, bar.end)]
    else:
        together = max(1, round(target / mean))
        for i in range(0, len(bars), together):
            spans.append((bars[i].start, bars[min(i + together, len(bars)) - 1].end))
    colours = [colour_chord(rng, key, mode, degree, vibe) for degree in degrees]
    # Bright modes are voiced higher, as composers do.
    centre = 53.5 + 3.5 * affect.MODE_BRIGHTNESS[mode] + 3 * rng.random()
    shapes = lead_voices(tuning, colours, centre)
    return [
        Harmony(start, end, *colours[i % len(degrees)], degrees[i % len(degrees)], shapes[i % len(degrees)])
        for i, (start, end) in enumerate(spans)
    ]


def play_section(piece: Piece, plan: Arrangement) -> affect.Features:
    """Write every part of a section into the piece and measure what was written."""
    rng = plan.rng
    left, right = _guitar_parts(plan)
    unison = left is guitars.unison_riff or right is guitars.unison_riff
    tracks: dict[Instrument, list[Note]] = {
        "guitar_left": left(plan, _tone(plan)),
        "guitar_right": right(plan, _tone(plan)),
        "bass": play_bass(plan, unison),
    }
    draw = rng.random()
    sings = {"melancholic": 0.8, "atmospheric": 0.35, "aggressive": 0.25, "technical": 0.2}[plan.vibe]
    leads = {"melancholic": 0.1, "atmospheric": 0.35, "aggressive": 0.2, "technical": 0.3}[plan.vibe]
    if draw < sings:
        tracks["voice"] = play_melody(plan, "voice", "clean")
    elif draw < sings + leads:
        tracks["lead_guitar"] = play_melody(plan, "lead_guitar", _tone(plan))
    drums = play_drums(rng, plan.bars, plan.motif, plan.variation, plan.vibe, plan.level, plan.bpm)
    bars = [Bar(g.start, g.end, g.meter, [g.time(s) for s in g.group_steps]) for g in plan.bars]
    chords = [Chord(c.start, c.end, c.root, c.quality) for c in plan.chords]
    piece.bars += bars
    piece.chords += chords
    piece.drums += drums
    for name, notes in tracks.items():
        piece.tracks[name] += notes
    return affect.measure(piece.bpm, piece.mode, bars, chords, tracks, drums)


def _guitar_parts(plan: Arrangement) -> tuple[Player, Player]:
    """Which two parts the guitars play, by vibe and level."""
    quiet, loud = plan.level < 0.33, plan.level > 0.66
    choices: dict[tuple[Player, Player], float]
    if plan.vibe == "aggressive":
        choices = {(guitars.chug, guitars.accent_chords): 3, (guitars.chug, guitars.chug): 2}
        if loud:
            choices[(guitars.chug, guitars.tremolo)] = 2
    elif plan.vibe == "atmospheric":
        choices = {(guitars.sustain, guitars.tremolo): 4}
        if not loud:
            choices[(guitars.sustain, guitars.answer)] = 2
    elif plan.vibe == "melancholic":
        choices = {(guitars.arpeggiate, guitars.answer): 2, (guitars.arpeggiate, guitars.sustain): 2}
        if not quiet:
            choices = {(guitars.arpeggiate, guitars.strum): 3, (guitars.arpeggiate, guitars.answer): 1}
        if loud:
            choices = {(guitars.arpeggiate, guitars.strum): 1}
    else:
        choices = {(guitars.tap, guitars.tap): 3, (guitars.tap, guitars.unison_riff): 3}
        if not quiet:
            choices[(guitars.tap, guitars.strum)] = 2
    return pick(plan.rng, choices)


def _tone(plan: Arrangement) -> Tone:
    """Amplifier setting of one guitar: mostly cleaner when quiet, and a notch dirtier for an aggressive section.

    Mostly, not always: were the setting the intensity, a listener would need nothing else to tell it, and would be lost
    where another band's amplifiers sound different.
    """
    dirt = plan.level + (0.08 if plan.vibe == "aggressive" else 0.0) + plan.rng.uniform(-0.36, 0.36)
    return "clean" if dirt < 0.33 else "crunch" if dirt < 0.72 else "distorted"


def label_section(features: affect.Features, vibe: str, bpm: float) -> Labels:
    """Labels of a section from what `play_section` measured."""
    return Labels(
        emotions=affect.nearest_emotions(features.valence, features.arousal, features.control),
        vibe=vibe,
        intensity=affect.intensity_class(features.intensity),
        tempo=affect.tempo_class(bpm),
        valence=features.valence,
        arousal=features.arousal,
    )


def label_piece(piece: Piece, measured: Sequence[affect.Features]) -> None:
    """Labels of the whole from its sections, weighted by duration, and the sentences that explain them."""
    weights = np.array([section.end - section.start for section in piece.sections]) / piece.duration
    valence, arousal, control, intensity = (
        float(weights @ [getattr(features, name) for features in measured])
        for name in ("valence", "arousal", "control", "intensity")
    )
    shares = {
        v: float(sum(w for w, s in zip(weights, piece.sections, strict=True) if s.labels.vibe == v))
        for v in affect.VIBES
    }
    piece.labels = Labels(
        emotions=affect.nearest_emotions(valence, arousal, control),
        vibe=max(shares, key=lambda v: shares[v]),
        intensity=affect.intensity_class(intensity),
        tempo=affect.tempo_class(piece.bpm),
        valence=valence,
        arousal=arousal,
    )
    piece.rules = {
        "emotion": f"{', '.join(piece.labels.emotions)}: the words nearest to valence {valence:.2f}, "
        f"arousal {arousal:.2f}, control {control:.2f} "
        f"({piece.mode} mode, {piece.bpm:g} BPM, intensity {intensity:.2f}).",
        "vibe": f"{piece.labels.vibe}: it fills {100 * shares[piece.labels.vibe]:.0f} % of the piece.",
        "intensity": f"{piece.labels.intensity}: the score is {intensity:.2f}, low ends at 0.33 and medium at 0.67.",
        "tempo": f"{piece.labels.tempo}: {piece.bpm:g} quarters a minute, moderate is 95 to 140.",
    }
