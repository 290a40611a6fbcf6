# SPDX-License-Identifier: Apache-2.0
"""Compose a piece of math rock or Midwest emo, or a calmer neighbour of them, from a seed."""

from __future__ import annotations

import numpy as np

from . import affect
from .arrangement import CONTOURS, TURNS, Arrangement
from .chance import pick
from .harmony import PROGRESSIONS, TUNINGS
from .rhythm import Grid, draw_meters, draw_motif, vary_motif
from .score import Labels, Piece, Section
from .sections import MOTIF_CHARACTER, harmonise, label_piece, label_section, play_section

TEMPO_RANGES = {"slow": (60.0, 95.0), "moderate": (95.0, 140.0), "fast": (140.0, 200.0)}
LEVEL_RANGES = {"low": (0.0, 0.22), "medium": (0.4, 0.6), "high": (0.78, 1.0)}
MODE_CHANCES: dict[str, dict[str, float]] = {
    "aggressive": {"minor": 5, "phrygian": 5, "dorian": 2, "mixolydian": 2, "major": 1},
    "atmospheric": {"major": 4, "lydian": 5, "mixolydian": 2, "dorian": 2, "minor": 1},
    "melancholic": {"minor": 6, "dorian": 4, "major": 2, "mixolydian": 1},
    "technical": {"major": 4, "lydian": 3, "mixolydian": 3, "dorian": 3, "minor": 2},
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
        features = play_section(piece, plan)
        measured.append(features)
        labels = label_section(features, section_vibe, bpm)
        piece.sections.append(Section(plan.bars[0].start, plan.end, _section_name(index, count, labels), labels))
    piece.duration = plans[-1].end
    piece.tracks = {name: notes for name, notes in piece.tracks.items() if notes}
    label_piece(piece, measured)
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
        chords=tuple(harmonise(rng, piece.key, piece.mode, vibe, bars, degrees, tuning)),
        motif=motif,
        variation=variation,
        contour=former.contour if former else pick(rng, CONTOURS),
        turns=former.turns if former else pick(rng, TURNS),
    )


def _section_name(index: int, count: int, labels: Labels) -> str:
    if count > 2 and index == 0 and labels.intensity != "high":
        return "intro"
    if count > 2 and index == count - 1 and labels.intensity == "low":
        return "outro"
    if labels.vibe == "aggressive" and labels.intensity == "high":
        return "breakdown"
    return {"low": "verse", "medium": "verse" if index % 2 == 0 else "bridge", "high": "chorus"}[labels.intensity]
