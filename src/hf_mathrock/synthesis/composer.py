# SPDX-License-Identifier: Apache-2.0
"""Compose a piece of math rock or Midwest emo, or a calmer neighbour of them, from a seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import affect, guitars
from .arrangement import CONTOURS, TURNS, Arrangement, Harmony
from .chance import pick
from .guitars import Player
from .harmony import PROGRESSIONS, TUNINGS, colour_chord, lead_voices
from .lines import play_bass, play_melody
from .rhythm import Grid, draw_meters, draw_motif, play_drums, vary_motif
from .score import Bar, Chord, Instrument, Labels, Note, Piece, Section, Tone

TEMPO_RANGES = {"slow": (60.0, 95.0), "moderate": (95.0, 140.0), "fast": (140.0, 200.0)}
LEVEL_RANGES = {"low": (0.0, 0.22), "medium": (0.4, 0.6), "high": (0.78, 1.0)}
MODE_CHANCES: dict[str, dict[str, float]] = {
    "aggressive": {"minor": 5, "phrygian": 5, "dorian": 2, "mixolydian": 2, "major": 1},
    "atmospheric": {"major": 4, "lydian": 5, "mixolydian": 2, "dorian": 2, "minor": 1},
    "melancholic": {"minor": 6, "dorian": 4, "major": 2, "mixolydian": 1},
    "technical": {"major": 4, "lydian": 3, "mixolydian": 3, "dorian": 3, "minor": 2},
}
MOTIF_CHARACTER = {
    "aggressive": (0.8, 0.4),
    "atmospheric": (0.35, 0.1),
    "melancholic": (0.55, 0.2),
    "technical": (0.95, 0.7),
}
CHORD_SECONDS = {
    "aggressive": (1.4, 3.0),
    "atmospheric": (3.2, 5.5),
    "melancholic": (1.8, 3.2),
    "technical": (1.5, 3.0),
}
SHORTEST_SECTION_SECONDS = 8.0


def compose(
    seed: int,
    *,
    seconds: float = 30.0,
    bpm: float | None = None,
    vibe: str | None = None,
    intensity: str | None = None,
) -> Piece:
    """Compose one piece; the same arguments always give the same piece.

    BPM counts quarter notes in every meter: in 7/8 the quarter is two of the seven eighths, and beats are the starts
    of the groups of two or three. Tempo class, vibe and intensity are drawn independently, so any vibe comes at any
    tempo and any intensity. Times are exact; a renderer adds the human unevenness.

    Args:
        seed: Any non-negative integer.
        seconds: Wished length in seconds, 4 to 3600. Sections of 8 seconds or more are made of whole bars, so the piece
            is a few seconds longer or shorter: at most a bar, which lasts 6.5 s in 13/8 at 60 BPM.
        bpm: Quarters a minute in [60, 200]; `None` draws the tempo class, then a BPM within it.
        vibe: One of `affect.VIBES` for every section; `None` draws one, from which single sections may depart.
        intensity: One of `affect.INTENSITIES` for every section; `None` draws one, with louder and quieter sections.

    Raises:
        ValueError: An argument is outside these ranges.
    """
    _check(seed, seconds, bpm, vibe, intensity)
    rng = np.random.default_rng(seed)
    if bpm is None:
        low, high = TEMPO_RANGES[pick(rng, tuple(TEMPO_RANGES))]
        bpm = round(float(rng.uniform(low, high)), 2)
    home_vibe = vibe or pick(rng, affect.VIBES)
    home_intensity = intensity or pick(rng, affect.INTENSITIES)
    key, mode = int(rng.integers(12)), pick(rng, MODE_CHANCES[home_vibe])
    capo = pick(rng, (0, 0, 0, 2, 3))
    tuning = tuple(string + capo for string in pick(rng, tuple(TUNINGS.values())))

    count = max(1, round(seconds / rng.uniform(10.0, 15.0)))
    count = max(1, min(count, int(seconds / (SHORTEST_SECTION_SECONDS + 2))))
    piece = Piece(
        work_id=f"mathrock-{seed:08d}", seed=seed, bpm=bpm, key=key, mode=mode, duration=0.0, bars=[], sections=[],
        chords=[], tracks={"guitar_left": [], "guitar_right": [], "bass": [], "lead_guitar": [], "voice": []}, drums=[],
        labels=Labels([], home_vibe, home_intensity, affect.tempo_class(bpm), 0.0, 0.0),
    )  # fmt: skip
    plans: list[Arrangement] = []
    measured: list[affect.Features] = []
    for index in range(count):
        section_vibe, section_intensity = home_vibe, home_intensity
        if vibe is None and index and rng.random() < 0.25:
            section_vibe = pick(rng, affect.VIBES)
        if intensity is None and index and rng.random() < 0.3:
            section_intensity = pick(rng, affect.INTENSITIES)
        # A section may bring back an earlier one of its vibe: the same motif, chords and meters, played anew.
        former = next((p for p in plans if p.vibe == section_vibe and rng.random() < 0.4), None)
        level = float(rng.uniform(*LEVEL_RANGES[section_intensity]))
        end = seconds * (index + 1) / count
        plan = _plan(rng, piece, section_vibe, level, end, tuning, former)
        plans.append(plan)
        features = _play(piece, plan)
        measured.append(features)
        labels = _label(features, section_vibe, bpm)
        piece.sections.append(Section(plan.bars[0].start, plan.end, _section_name(index, count, labels), labels))
    piece.duration = plans[-1].end
    piece.tracks = {name: notes for name, notes in piece.tracks.items() if notes}
    _label_piece(piece, measured)
    return piece


def _check(seed: int, seconds: float, bpm: float | None, vibe: str | None, intensity: str | None) -> None:
    if seed < 0:
        raise ValueError(f"seed is {seed}, it must be 0 or more.")
    if not 4.0 <= seconds <= 3600.0:
        raise ValueError(f"seconds is {seconds}, allowed are 4 to 3600 (were milliseconds given?).")
    if bpm is not None and not 60.0 <= bpm <= 200.0:
        raise ValueError(f"bpm is {bpm}, allowed are 60 to 200 quarter notes a minute.")
    if vibe is not None and vibe not in affect.VIBES:
        raise ValueError(f"vibe is {vibe!r}, allowed are {', '.join(affect.VIBES)}.")
    if intensity is not None and intensity not in affect.INTENSITIES:
        raise ValueError(f"intensity is {intensity!r}, allowed are {', '.join(affect.INTENSITIES)}.")


def _plan(
    rng: np.random.Generator,
    piece: Piece,
    vibe: str,
    level: float,
    end: float,
    tuning: tuple[int, ...],
    former: Arrangement | None,
) -> Arrangement:
    """Lay out one section's bars, chords and motif, from the end of the last section to the bar line nearest `end`."""
    start = piece.bars[-1].end if piece.bars else 0.0
    step = 60.0 / piece.bpm / 4
    cycle = [(bar.meter, bar.grouping) for bar in former.bars] if former else draw_meters(rng, vibe, piece.bpm)
    bars: list[Grid] = []
    at = start
    shortest = min(SHORTEST_SECTION_SECONDS, end)
    while True:
        meter, grouping = cycle[len(bars) % len(cycle)]
        half_bar = sum(grouping) * step
        if bars and at + half_bar >= end and at - start >= shortest:
            break
        bars.append(Grid(at, meter, grouping, step))
        at = bars[-1].end
    activity, syncopation = MOTIF_CHARACTER[vibe]
    motif = former.motif if former else draw_motif(rng, piece.bpm, activity, syncopation)
    variation = vary_motif(rng, motif, piece.bpm, activity, syncopation)
    degrees = former.progression if former else pick(rng, PROGRESSIONS[piece.mode])
    return Arrangement(
        rng=rng,
        bpm=piece.bpm,
        key=piece.key,
        mode=piece.mode,
        vibe=vibe,
        level=level,
        bars=tuple(bars),
        progression=degrees,
        chords=tuple(_harmonise(rng, piece, vibe, bars, degrees, tuning)),
        motif=motif,
        variation=variation,
        contour=former.contour if former else pick(rng, CONTOURS),
        turns=former.turns if former else pick(rng, TURNS),
    )


def _harmonise(
    rng: np.random.Generator,
    piece: Piece,
    vibe: str,
    bars: Sequence[Grid],
    degrees: Sequence[int],
    tuning: tuple[int, ...],
) -> list[Harmony]:
    """Spread a progression over bars: whole bars per chord, or half a bar where bars are long."""
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
    colours = [colour_chord(rng, piece.key, piece.mode, degree, vibe) for degree in degrees]
    # Bright modes are voiced higher, as composers do.
    centre = 53.5 + 3.5 * affect.MODE_BRIGHTNESS[piece.mode] + 3 * rng.random()
    shapes = lead_voices(tuning, colours, centre)
    return [
        Harmony(start, end, *colours[i % len(degrees)], degrees[i % len(degrees)], shapes[i % len(degrees)])
        for i, (start, end) in enumerate(spans)
    ]


def _play(piece: Piece, plan: Arrangement) -> affect.Features:
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


def _label(features: affect.Features, vibe: str, bpm: float) -> Labels:
    return Labels(
        emotions=affect.nearest_emotions(features.valence, features.arousal, features.control),
        vibe=vibe,
        intensity=affect.intensity_class(features.intensity),
        tempo=affect.tempo_class(bpm),
        valence=features.valence,
        arousal=features.arousal,
    )


def _label_piece(piece: Piece, measured: Sequence[affect.Features]) -> None:
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


def _section_name(index: int, count: int, labels: Labels) -> str:
    if count > 2 and index == 0 and labels.intensity != "high":
        return "intro"
    if count > 2 and index == count - 1 and labels.intensity == "low":
        return "outro"
    if labels.vibe == "aggressive" and labels.intensity == "high":
        return "breakdown"
    return {"low": "verse", "medium": "verse" if index % 2 == 0 else "bridge", "high": "chorus"}[labels.intensity]
