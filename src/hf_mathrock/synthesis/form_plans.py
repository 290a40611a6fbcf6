# SPDX-License-Identifier: Apache-2.0
"""Pieces of four sections composed to an explicit plan, so that some of their exact labels need the whole track.

Music of such a piece has two materials, A and B, that differ in vibe, motif, progression and texture. A design varies
one thing over the sections and holds the others still:

| design | what its classes are | materials | meters | keys | chance, and what a bag of sections allows |
|---|---|---|---|---|---|
| `form` | AABB, ABAB, ABBA | by the class | one | one | 1/3, 1/3 |
| `meter` | 4/4, 7/8, 4/4 to 7/8, 7/8 to 4/4 | ABAB or ABBA | by the class, at half time | one | 1/4, 3/4 |
| `home` | the key it begins and ends in, left for the two middle sections | AABB or ABAB | one | H W W H | 1/12, 1/2 |

The last column holds by construction. Within a design the classes that it sets apart have the same sections the same
number of times (in `meter`, both directions have A and B once in either meter; in `home`, A and B come once in either
key, and the away key lies as often above as below), only in another order. So whatever is computed from single sections
and averaged cannot tell them apart. A chunk that spans a boundary can: it hears what follows what. For `form` that is
closed too by the six-section `FORMS_OF_EQUAL_TRANSITIONS`, which also have the same neighbours equally often.

Nothing else tells the class: tempo, mode, key, vibes, levels, length and the recording are drawn apart from it. Labels
are balanced over consecutive seeds: exactly within blocks of three times their number of classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np

from . import affect
from .arrangement import CONTOURS, TURNS
from .chance import pick
from .composer import TEMPO_RANGES
from .harmony import MODES, PROGRESSIONS, TUNINGS
from .rhythm import GROUPINGS, Grid, Grouping, Meter, Motif, draw_motif
from .sections import MOTIF_CHARACTER

T = TypeVar("T")
Design = Literal["form", "meter", "home"]

DESIGNS: tuple[Design, ...] = get_args(Design)
FORMS = ("AABB", "ABAB", "ABBA")
FORMS_OF_EQUAL_TRANSITIONS = ("AABABB", "AABBAB", "ABAABB", "ABBAAB")
"""Three A and three B each, with AA, BA and BB once and AB twice."""
METERS: tuple[Meter, ...] = ((4, 4), (3, 4), (5, 4), (7, 8))
METER_CHANGES = ("4/4", "7/8", "4/4 to 7/8", "7/8 to 4/4")
AWAY_INTERVALS = (5, -5, 3, -3)
"""Semitones from the home key to the key of the middle sections; the other way round is as frequent."""
BAG_CEILINGS: dict[str, float] = {"form": 1 / 3, "meter_change": 3 / 4, "home_key": 1 / 2, "key_change": 1 / 2}
"""Best expected accuracy from sections whose order is not known."""

LARGEST_TRANSPOSITION = 3
LARGEST_SPEED_CHANGE = 0.08
SHORTEST_SECONDS, LONGEST_SECONDS = 32.0, 3600.0
_STRETCH = 0.1  # of the wished length, either way, lest the length tell meter and tempo


@dataclass(frozen=True, slots=True)
class Material:
    """What makes A another music than B."""

    vibe: str
    level: float
    progression: tuple[int, ...]
    motif: Motif
    contour: tuple[int, ...]
    turns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FormPlan:
    """All that is decided of a piece before a note is written.

    Attributes:
        seed: Seed of the work; `design` and `forms` belong to it.
        seconds: Wished length.
        take: Number of the performance, 0 for the first.
        design: What the sections vary.
        forms: Forms of which design `form` has one.
        label: Class of the design: a form, one of `METER_CHANGES`, or for `home` one of `AWAY_INTERVALS` as text.
        letters: Material of each section, `"ABAB"`.
        keys: Pitch class of each section's tonic, as played in this take.
        meters: Meter of each section.
        num_bars: Bars of each section.
        mode: Mode of the whole.
        bpm: Quarters a minute of this take.
        transposition: Semitones from the first take.
        speed: Tempo of this take over that of the first.
        tuning: Open strings of the guitars.
        materials: Those of A and B.
        groupings: How each meter is grouped.
    """

    seed: int
    seconds: float
    take: int
    design: Design
    forms: tuple[str, ...]
    label: str
    letters: str
    keys: tuple[int, ...]
    meters: tuple[Meter, ...]
    num_bars: tuple[int, ...]
    mode: str
    bpm: float
    transposition: int
    speed: float
    tuning: tuple[int, ...]
    materials: dict[str, Material]
    groupings: dict[Meter, Grouping]

    @property
    def work_id(self) -> str:
        """Name shared by all takes of the work."""
        layout = "" if self.forms == FORMS else f"{len(self.forms[0])}-"
        return f"{self.design}-{layout}{self.seconds:g}-{self.seed:08d}"

    @property
    def recording_seed(self) -> int:
        """Seed of the recording: another one for every take."""
        return int(np.random.default_rng([self.seed, self.take, 0xF0A5]).integers(2**31))

    def grids(self) -> list[list[Grid]]:
        """The bars of every section."""
        step, at = 15.0 / self.bpm, 0.0
        sections = []
        for meter, num_bars in zip(self.meters, self.num_bars, strict=True):
            bars = []
            for _ in range(num_bars):
                bars.append(Grid(at, meter, self.groupings[meter], step))
                at = bars[-1].end
            sections.append(bars)
        return sections


def plan_form(
    seed: int,
    *,
    seconds: float = 96.0,
    take: int = 0,
    design: Design | None = None,
    forms: Sequence[str] = FORMS,
) -> FormPlan:
    """Decide everything of a piece but its notes; the same arguments always give the same plan.

    Args:
        seed: Any non-negative integer. Runs of seeds have balanced labels.
        seconds: Wished length, 32 to 3600; the piece lasts up to 10 % and a few bars more or less, by chance.
        take: Performance of the work. Take 0 is the first; every other is transposed by -3 to 3 semitones and played
            at 0.92 to 1.08 of its tempo.
        design: What the sections vary; `None` goes round the three by seed.
        forms: Forms of design `form`, all with the same letters the same number of times.

    Raises:
        ValueError: An argument is outside these ranges.
    """
    forms = tuple(forms)
    _check(seed, seconds, take, design, forms)
    design = design or DESIGNS[seed % len(DESIGNS)]
    salt, index = DESIGNS.index(design), seed // len(DESIGNS)
    rng = np.random.default_rng([seed, salt, 0xF0A1])
    transposition, speed = 0, 1.0
    if take:
        chance = np.random.default_rng([seed, salt, take, 0xF0A2])
        transposition = int(chance.integers(-LARGEST_TRANSPOSITION, LARGEST_TRANSPOSITION + 1))
        speed = float(chance.uniform(1 - LARGEST_SPEED_CHANGE, 1 + LARGEST_SPEED_CHANGE))

    low, high = TEMPO_RANGES[_balanced(affect.TEMPOS, index, salt, 1)]
    bpm = float(rng.uniform(low, high))
    mode = _balanced(tuple(MODES), index, salt, 2)
    key = _balanced(range(12), index, salt, 3)
    meter = _balanced(METERS, index, salt, 4)
    if design == "form":
        label = letters = _balanced(forms, index, salt, 5)
    elif design == "meter":
        label, letters = _balanced(METER_CHANGES, index, salt, 5), pick(rng, ("ABAB", "ABBA"))
    else:
        label, letters = f"{_balanced(AWAY_INTERVALS, index, salt, 5):+d}", pick(rng, ("AABB", "ABAB"))
    keys, meters = [key] * len(letters), [meter] * len(letters)
    if design == "meter":
        first, second = label.split(" to ") if " to " in label else (label, label)
        meters = [_meter(first)] * 2 + [_meter(second)] * 2
    elif design == "home":
        keys[1] = keys[2] = (key + int(label)) % 12

    section_seconds = seconds * float(rng.uniform(1 - _STRETCH, 1 + _STRETCH)) / len(letters)
    num_bars = [max(2, round(section_seconds * bpm / 240 * unit / count)) for count, unit in meters]
    capo = pick(rng, (0, 0, 0, 2, 3))
    return FormPlan(
        seed=seed,
        seconds=float(seconds),
        take=take,
        design=design,
        forms=forms,
        label=label,
        letters=letters,
        keys=tuple((key + transposition) % 12 for key in keys),
        meters=tuple(meters),
        num_bars=tuple(num_bars),
        mode=mode,
        bpm=round(bpm * speed, 3),
        transposition=transposition,
        speed=speed,
        tuning=tuple(string + capo for string in pick(rng, tuple(TUNINGS.values()))),
        materials=_draw_materials(rng, mode, bpm),
        groupings={meter: pick(rng, GROUPINGS[meter]) for meter in dict.fromkeys(meters)},
    )


def _check(seed: int, seconds: float, take: int, design: str | None, forms: tuple[str, ...]) -> None:
    if seed < 0 or take < 0:
        raise ValueError(f"seed is {seed} and take is {take}; both must be 0 or more.")
    if not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
        raise ValueError(
            f"seconds is {seconds}, allowed are {SHORTEST_SECONDS:g} to {LONGEST_SECONDS:g}: "
            "four sections need eight seconds each."
        )
    if design is not None and design not in DESIGNS:
        raise ValueError(f"design is {design!r}, allowed are {', '.join(DESIGNS)}, or None for each in turn.")
    if not forms or len({"".join(sorted(form)) for form in forms}) != 1 or set("".join(forms)) != {"A", "B"}:
        raise ValueError(
            f"forms is {forms}; they must have the same numbers of A and of B, and no other letters, "
            "or the sections alone would tell them apart."
        )


def _balanced(options: Sequence[T], index: int, *salt: int) -> T:
    """One of the options: every run of as many indices as there are options has each once, in an order by chance."""
    block, place = divmod(index, len(options))
    return options[int(np.random.default_rng([block, 0xF0A0, *salt]).permutation(len(options))[place])]


def _draw_materials(rng: np.random.Generator, mode: str, bpm: float) -> dict[str, Material]:
    """A and B of a work: different vibes, progressions and contours, and motifs that differ."""
    vibes = rng.permutation(len(affect.VIBES))
    progressions = rng.permutation(len(PROGRESSIONS[mode]))
    contours, turns = rng.permutation(len(CONTOURS)), rng.permutation(len(TURNS))
    materials: dict[str, Material] = {}
    for number, letter in enumerate("AB"):
        vibe = affect.VIBES[vibes[number]]
        while True:
            motif = draw_motif(rng, bpm, *MOTIF_CHARACTER[vibe])
            if all(motif != other.motif for other in materials.values()):
                break
        materials[letter] = Material(
            vibe=vibe,
            level=float(rng.uniform(0.05, 0.95)),
            progression=PROGRESSIONS[mode][progressions[number]],
            motif=motif,
            contour=CONTOURS[contours[number]],
            turns=TURNS[turns[number]],
        )
    return materials


def _meter(name: str) -> Meter:
    count, unit = name.split("/")
    return int(count), int(unit)
