# SPDX-License-Identifier: Apache-2.0
"""Tags of a piece, or of a moment of it, as its score says them: what plays, how, how fast, how loud.

Nobody listened. Each tag is a rule on the notes, strokes, bars and sections of a `Piece`, so it is exactly known, and
for a window of a piece it says what is played in that window. Instruments that play in every piece (a bass, a kick
drum) are no tags: there would be nothing to learn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .affect import MODE_BRIGHTNESS, tempo_class
from .score import Bar, DrumHit, Note, Piece

SHORTEST_SOUND_SECONDS = 0.25
"""Notes count from here on, all of them together: what is cut off at the edge of a window tells a listener nothing."""
SHORTEST_STROKE_SECONDS = 0.05
"""A stroke on the kit counts where this much of it lies within."""
SHORTEST_STRETCH_SECONDS = 2.0
"""A section or a bar counts from here on, or where it fills half of a window or lies in it by half."""
FEWEST_OVERLAPS = 3
"""An arpeggio rings over itself; this often, lest two notes that happen to touch are one."""


@dataclass(frozen=True)
class _Stretch:
    """What is played between two times."""

    notes: dict[str, list[Note]]
    strokes: list[DrumHit]
    bars: list[Bar]
    intensities: set[str]
    piece: Piece
    start: float
    end: float

    def lasts(self, chosen: Callable[[str, Note], bool]) -> bool:
        """Whether such notes sound for long enough to be heard."""
        seconds = sum(
            min(note.start + note.duration, self.end) - max(note.start, self.start)
            for instrument, notes in self.notes.items()
            for note in notes
            if chosen(instrument, note)
        )
        return seconds >= SHORTEST_SOUND_SECONDS

    def strikes(self, *kinds: str) -> bool:
        return any(stroke.kind in kinds for stroke in self.strokes)

    def arpeggio(self) -> bool:
        """A guitar that plucks its strings one after the other, and lets them ring."""
        overlaps = 0
        for instrument, notes in self.notes.items():
            if not instrument.startswith("guitar"):
                continue
            plucked = [note for note in notes if note.technique == "pluck"]
            overlaps += sum(
                one.start + 1e-6 < other.start < one.start + one.duration - 1e-6
                for one, other in zip(plucked, plucked[1:], strict=False)
            )
        return overlaps >= FEWEST_OVERLAPS

    def power_chords(self) -> bool:
        """Root, fifth and octave, struck at once by a guitar."""
        for instrument, notes in self.notes.items():
            if instrument.startswith("guitar"):
                struck: dict[int, set[int]] = {}
                for note in notes:
                    if note.technique in ("pluck", "strum"):
                        struck.setdefault(round(note.start * 1e4), set()).add(note.pitch)
                if any(pitches == {min(pitches) + step for step in (0, 7, 12)} for pitches in struck.values()):
                    return True
        return False


def _guitar(instrument: str, note: Note) -> bool:
    return "guitar" in instrument


def _tone(tone: str) -> Callable[[_Stretch], bool]:
    return lambda at: at.lasts(lambda instrument, note: _guitar(instrument, note) and note.tone == tone)


def _technique(technique: str) -> Callable[[_Stretch], bool]:
    return lambda at: at.lasts(lambda instrument, note: _guitar(instrument, note) and note.technique == technique)


def _plays(wanted: str) -> Callable[[_Stretch], bool]:
    return lambda at: at.lasts(lambda instrument, note: instrument == wanted)


def _struck(*kinds: str) -> Callable[[_Stretch], bool]:
    return lambda at: at.strikes(*kinds)


def _tempo(name: str) -> Callable[[_Stretch], bool]:
    return lambda at: tempo_class(at.piece.bpm) == name


_RULES: dict[str, Callable[[_Stretch], bool]] = {
    # What plays.
    "clean guitar": _tone("clean"),
    "crunch guitar": _tone("crunch"),
    "distorted guitar": _tone("distorted"),
    "lead guitar": _plays("lead_guitar"),
    "voice": _plays("voice"),
    "distorted bass": lambda at: at.lasts(lambda instrument, note: instrument == "bass" and note.tone == "distorted"),
    "closed hi-hat": _struck("hat_closed"),
    "open hi-hat": _struck("hat_open"),
    "ride cymbal": _struck("ride"),
    "crash cymbal": _struck("crash"),
    "cross-stick": _struck("rim"),
    "toms": _struck("tom_high", "tom_mid", "tom_low"),
    # How.
    "arpeggio": _Stretch.arpeggio,
    "ghost notes": _struck("ghost"),
    "harmonics": _technique("harmonic"),
    "palm mute": _technique("palm_mute"),
    "power chords": _Stretch.power_chords,
    "slide": _technique("slide"),
    "strumming": _technique("strum"),
    "tapping": _technique("tap"),
    "tremolo picking": _technique("tremolo"),
    # In what time.
    "slow": _tempo("slow"),
    "moderate": _tempo("moderate"),
    "fast": _tempo("fast"),
    "odd meter": lambda at: any(bar.meter[0] % 2 == 1 and bar.meter[0] > 3 for bar in at.bars),
    "triple meter": lambda at: any(bar.meter in ((3, 4), (6, 8)) for bar in at.bars),
    "meter change": lambda at: len({bar.meter for bar in at.bars}) > 1,
    # In what mode, and how loud.
    "major": lambda at: MODE_BRIGHTNESS[at.piece.mode] > 0,
    "minor": lambda at: MODE_BRIGHTNESS[at.piece.mode] < 0,
    "loud": lambda at: "high" in at.intensities,
    "quiet": lambda at: "low" in at.intensities,
}

TAGS: tuple[str, ...] = tuple(_RULES)
"""All tags, in the order in which `tags_between` names them.

"major" are major, lydian and mixolydian, "minor" are minor, dorian and phrygian. Odd meters count five, seven, nine,
eleven or thirteen. Loud and quiet are the section's intensity: how hard it is played, whatever the playback level.
"""


def tag_task() -> dict[str, Any]:
    """The task "tag" of these tags, an entry of a config's `tasks`."""
    return {"name": "tag", "type": "multi_label", "labels": list(TAGS)}


def tags_between(piece: Piece, start: float, end: float) -> list[str]:
    """The tags of a stretch of a piece.

    Args:
        piece: As it is heard: of a rendered piece what `perform` gives, whose times are those of the audio.
        start: Seconds from the beginning of the piece.
        end: Seconds, after `start`.

    Returns:
        Those of `TAGS` that hold, in their order. What lies at the edge counts by what is heard of it within.

    Raises:
        ValueError: Nothing lies between the two times.
    """
    if not max(start, 0.0) < min(end, piece.duration):
        raise ValueError(
            f"Nothing of {piece.work_id!r} lies between {start:g} and {end:g} s; it lasts {piece.duration:g} s."
        )
    start, end = max(start, 0.0), min(end, piece.duration)

    def counts(one: Any) -> bool:
        """Whether enough of a bar or section lies within."""
        within = min(one.end, end) - max(one.start, start)
        enough = min(SHORTEST_STRETCH_SECONDS, 0.5 * (end - start), 0.5 * (one.end - one.start))
        return within >= enough - 1e-6

    stretch = _Stretch(
        notes={
            instrument: [note for note in notes if note.start < end and note.start + note.duration > start]
            for instrument, notes in piece.tracks.items()
        },
        strokes=[stroke for stroke in piece.drums if start <= stroke.start <= end - SHORTEST_STROKE_SECONDS],
        bars=[bar for bar in piece.bars if counts(bar)],
        intensities={section.labels.intensity for section in piece.sections if counts(section)},
        piece=piece,
        start=start,
        end=end,
    )
    return [tag for tag, rule in _RULES.items() if rule(stretch)]


def piece_tags(piece: Piece) -> list[str]:
    """The tags of a whole piece: of anything in it."""
    return tags_between(piece, 0.0, piece.duration)
