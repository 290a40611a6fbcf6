# SPDX-License-Identifier: Apache-2.0
"""From the notes of a section to its labels: rules, not listeners.

Nobody rated these pieces. Valence, arousal and control are weighted sums of nine features measured on the written
notes, and the emotions are the words whose published values lie nearest to that point. The directions of the weights
follow the literature; their sizes are ours, set so that generated music fills the space.

* Valence rises with the brightness of the mode (the strongest cue), tempo, register, consonance and a cleaner tone.
* Arousal rises with loudness, tempo, the rate of notes and staccato articulation.
* Control (what dominance says beyond valence and arousal) rises with a low register and a steady meter, and falls with
  a high register and with bars that change or limp.

The words' values are those of the NRC Valence, Arousal, Dominance Lexicon, version 1 (0 to 1, means of best-worst
scaling), transcribed to three decimals through public code that quotes them for these 28 words, not from the
lexicon's own file (which its author offers for research; commercial use needs his licence). Twenty-two of the 28 words
lie in the outer fifths of valence, so a word is placed by its rank among the 28 on each axis, scaled to [-1, 1]: the
published order is kept, the published spacing is not. Dominance enters as what a plane over valence and arousal leaves
unexplained. `neutral` falls near the middle of valence and at the bottom of arousal, where the lexicon has it.

Source:
    S. M. Mohammad, "Obtaining Reliable Human Ratings of Valence, Arousal, and Dominance for 20,000 English Words",
    ACL 2018. Directions: A. Gabrielsson and E. Lindström, "The role of structure in the musical expression of
    emotions", Handbook of Music and Emotion, 2010; T. Eerola, A. Friberg and R. Bresin, "Emotional expression in
    music: contribution, linearity, and additivity of primary musical cues", Frontiers in Psychology 4:487, 2013.
    Order of the modes: D. Temperley and D. Tan, "Emotional connotations of diatonic modes", Music Perception 30, 2013.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .score import Bar, Chord, DrumHit, Instrument, Note, Tone

EMOTIONS: tuple[str, ...] = (
    "admiration", "amusement", "anger", "annoyance", "approval", "caring", "confusion", "curiosity", "desire",
    "disappointment", "disapproval", "disgust", "embarrassment", "excitement", "fear", "gratitude", "grief", "joy",
    "love", "nervousness", "optimism", "pride", "realization", "relief", "remorse", "sadness", "surprise", "neutral",
)  # fmt: skip
VIBES: tuple[str, ...] = ("aggressive", "atmospheric", "melancholic", "technical")
INTENSITIES: tuple[str, ...] = ("low", "medium", "high")
TEMPOS: tuple[str, ...] = ("slow", "moderate", "fast")

SLOWEST_MODERATE_BPM, FASTEST_MODERATE_BPM = 95.0, 140.0
LOUDEST_LOW, LOUDEST_MEDIUM = 1 / 3, 2 / 3

# Published valence, arousal, dominance, in the order of `EMOTIONS`, from 0 to 1.
PUBLISHED_VALUES: tuple[tuple[float, float, float], ...] = (
    (0.969, 0.583, 0.726), (0.929, 0.837, 0.803), (0.167, 0.865, 0.657), (0.167, 0.718, 0.342),
    (0.854, 0.460, 0.889), (0.635, 0.469, 0.500), (0.255, 0.667, 0.277), (0.750, 0.755, 0.463),
    (0.896, 0.692, 0.647), (0.115, 0.490, 0.336), (0.085, 0.551, 0.367), (0.052, 0.775, 0.317),
    (0.143, 0.685, 0.226), (0.896, 0.684, 0.731), (0.073, 0.840, 0.293), (0.885, 0.441, 0.610),
    (0.070, 0.640, 0.474), (0.980, 0.824, 0.794), (1.000, 0.519, 0.673), (0.163, 0.915, 0.241),
    (0.949, 0.565, 0.814), (0.729, 0.634, 0.848), (0.554, 0.510, 0.836), (0.844, 0.278, 0.481),
    (0.103, 0.673, 0.377), (0.052, 0.288, 0.164), (0.875, 0.875, 0.562), (0.469, 0.184, 0.357),
)  # fmt: skip

MODE_BRIGHTNESS = {"major": 1.0, "lydian": 0.7, "mixolydian": 0.5, "dorian": -0.4, "minor": -0.8, "phrygian": -1.0}
CHORD_TENSION = {
    "power": 0.0, "maj": 0.0, "min": 0.15, "sus2": 0.25, "add9": 0.3, "sus4": 0.4, "minadd9": 0.5, "min7": 0.5,
    "maj7": 0.6,
}  # fmt: skip
DRIVE: dict[Tone, float] = {"clean": 0.0, "crunch": 0.5, "distorted": 1.0}
DRUM_WEIGHT = {
    "kick": 1.0, "snare": 1.0, "ghost": 0.2, "rim": 0.4, "hat_closed": 0.3, "hat_open": 0.7, "ride": 0.4, "crash": 1.5,
    "tom_high": 1.0, "tom_mid": 1.0, "tom_low": 1.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Features:
    """What is measured on the notes of a section; every value lies in [-1, 1] but `intensity`, in [0, 1]."""

    mode: float
    tempo: float
    staccato: float
    dissonance: float
    register: float
    density: float
    steadiness: float
    drive: float
    intensity: float

    @property
    def valence(self) -> float:
        """Weighted sum, in [-1, 1]."""
        return _clip(
            0.7 * self.mode + 0.25 * self.tempo + 0.15 * self.register - 0.2 * self.dissonance - 0.2 * self.drive
        )

    @property
    def arousal(self) -> float:
        """Weighted sum, in [-1, 1]."""
        loudness = 2 * self.intensity - 1
        return _clip(0.65 * loudness + 0.6 * self.tempo + 0.2 * self.density + 0.15 * self.staccato)

    @property
    def control(self) -> float:
        """Weighted sum, in [-1, 1]: low and steady against high and limping."""
        return _clip(-0.6 * self.register + 0.45 * self.steadiness)


def measure(
    bpm: float,
    mode: str,
    bars: Sequence[Bar],
    chords: Sequence[Chord],
    tracks: Mapping[Instrument, Sequence[Note]],
    drums: Sequence[DrumHit],
) -> Features:
    """Measure a stretch of music, which must hold at least one bar, one chord and one note.

    Args:
        bpm: Quarters a minute.
        mode: A key of `MODE_BRIGHTNESS`.
        bars: Bars of the stretch.
        chords: Chords of the stretch.
        tracks: Notes of the stretch by instrument.
        drums: Strokes of the stretch.
    """
    seconds = bars[-1].end - bars[0].start
    beats = seconds * bpm / 60
    guitars = [note for name, notes in tracks.items() if name.startswith("guitar") for note in notes]
    pitched = [note for notes in tracks.values() for note in notes]
    sounding = sum(note.duration for note in guitars) or 1.0
    drive = sum(DRIVE[note.tone] * note.duration for note in guitars) / sounding
    # The strokes of a tremolo are heard as one held note, not as many short ones.
    picked = [(name, note) for name, notes in tracks.items() for note in notes if note.technique != "tremolo"]
    strokes = len({(name, note.start) for name, note in picked})
    short = sum(n.technique == "palm_mute" or n.duration < 0.2 for _, n in picked) / max(1, len(picked))
    tension = sum(CHORD_TENSION[c.quality] * (c.end - c.start) for c in chords) / seconds
    changes = sum(a.meter != b.meter for a, b in zip(bars, bars[1:], strict=False)) / len(bars)
    odd = sum(bar.meter[0] % 2 == 1 and bar.meter[0] > 3 for bar in bars) / len(bars)
    velocities = [note.velocity for note in pitched] + [hit.velocity for hit in drums]
    return Features(
        mode=MODE_BRIGHTNESS[mode],
        # 0 half way, in octaves, between the slowest and the fastest tempo.
        tempo=_clip(math.log(bpm / math.sqrt(60 * 200)) / math.log(math.sqrt(200 / 60))),
        staccato=2 * short - 1,
        dissonance=_clip(tension / 0.3 - 1),
        register=_clip((sum(n.pitch for n in pitched) / len(pitched) - 54) / 10),
        density=_clip(math.log2(strokes / seconds / 12)),
        steadiness=1 - 2 * max(odd, min(1.0, 2 * changes)),
        drive=2 * drive - 1,
        intensity=intensity_score(
            drive=drive,
            drums_per_beat=sum(DRUM_WEIGHT[hit.kind] for hit in drums) / beats,
            strokes_per_beat=len({(name, note.start) for name, notes in tracks.items() for note in notes}) / beats,
            velocity=sum(velocities) / len(velocities),
        ),
    )


def intensity_score(drive: float, drums_per_beat: float, strokes_per_beat: float, velocity: float) -> float:
    """How hard a stretch is played, in [0, 1], whatever the tempo and the playback level.

    Args:
        drive: Mean distortion of the guitars: 0 clean, 1 distorted.
        drums_per_beat: Drum strokes a quarter, each weighted by `DRUM_WEIGHT`.
        strokes_per_beat: Notes or chords a quarter, all instruments together.
        velocity: Mean velocity of everything, in (0, 1].
    """
    return float(
        np.clip(
            0.15 * drive
            + 0.35 * np.clip((drums_per_beat - 1) / 3.5, 0, 1)
            + 0.05 * np.clip(strokes_per_beat / 10, 0, 1)
            + 0.45 * np.clip((velocity - 0.22) / 0.5, 0, 1),
            0,
            1,
        )
    )


def intensity_class(score: float) -> str:
    """`low` up to a third, `medium` up to two thirds, `high` above."""
    return INTENSITIES[int(score > LOUDEST_LOW) + int(score > LOUDEST_MEDIUM)]


def tempo_class(bpm: float) -> str:
    """`slow` below 95 quarters a minute, `moderate` from 95 to 140, `fast` above.

    >>> [tempo_class(bpm) for bpm in (94.9, 95.0, 140.0, 140.1)]
    ['slow', 'moderate', 'moderate', 'fast']
    """
    return TEMPOS[int(bpm >= SLOWEST_MODERATE_BPM) + int(bpm > FASTEST_MODERATE_BPM)]


def nearest_emotions(valence: float, arousal: float, control: float) -> list[str]:
    """The one to four words nearest to a point of the cube [-1, 1]^3, nearest first.

    The nearest word always counts, the next three while they are at most `MARGIN` farther than it.
    """
    distances = np.sqrt(((WORD_POINTS - (valence, arousal, control)) ** 2 * AXIS_WEIGHTS).sum(axis=1))
    order = np.argsort(distances, kind="stable")[:4]
    return [EMOTIONS[i] for i in order if distances[i] <= distances[order[0]] + MARGIN]


def _place_words() -> np.ndarray:
    """Rank-scaled valence, arousal and control of the words, `(28, 3)` in [-1, 1]."""
    values = np.array(PUBLISHED_VALUES)
    plane = np.column_stack([values[:, :2], np.ones(len(values))])
    # Dominance follows valence closely; only what a plane over valence and arousal leaves unexplained is a third axis.
    values[:, 2] -= plane @ np.linalg.lstsq(plane, values[:, 2], rcond=None)[0]
    # Mean of the ranks from below and from above, so that tied words stay tied.
    below = (values[:, None] > values[None]).sum(axis=1)
    above = (values[:, None] < values[None]).sum(axis=1)
    return (below - above) / (len(values) - 1)


def _clip(value: float) -> float:
    return min(1.0, max(-1.0, value))


WORD_POINTS = _place_words()
AXIS_WEIGHTS = np.array([1.0, 1.0, 0.5])
MARGIN = 0.25
