# SPDX-License-Identifier: Apache-2.0
"""Music written to a plan of four sections, its takes, its recording and its labels; the plans: `form_plans`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import RECIPE_VERSION, affect
from .arrangement import Arrangement
from .form_plans import BAG_CEILINGS, DESIGNS, FORMS, METER_CHANGES, Design, FormPlan, plan_form
from .renderer import render
from .rhythm import Meter, vary_motif
from .score import Labels, Piece, Section
from .sections import MOTIF_CHARACTER, harmonise, label_piece, label_section, play_section
from .variation import draw_variation, perform

__all__ = [
    "BAG_CEILINGS",
    "FORMS",
    "METER_CHANGES",
    "FormAudio",
    "FormPiece",
    "compose_form",
    "facts_of_form",
    "labels_of_form",
    "plan_form",
    "render_form",
    "take",
    "write_form",
]


@dataclass(frozen=True, slots=True)
class FormPiece:
    """A plan and the music written to it."""

    plan: FormPlan
    piece: Piece


@dataclass(frozen=True, slots=True)
class FormAudio:
    """One take of a work as a waveform when called; small and picklable, so that no file is needed.

    Args:
        seed: Seed of the work.
        seconds: Wished length in seconds.
        take: Number of the performance.
        design: See `plan_form`.
        forms: See `plan_form`.
        sampling_rate: Hz.
        recipe: What composer and renderer made of it, so that a cache notices when that changes.
    """

    seed: int
    seconds: float = 96.0
    take: int = 0
    design: Design | None = None
    forms: tuple[str, ...] = FORMS
    sampling_rate: int = 16_000
    recipe: int = RECIPE_VERSION

    def plan(self) -> FormPlan:
        """The plan of this take."""
        return plan_form(self.seed, seconds=self.seconds, take=self.take, design=self.design, forms=self.forms)

    def __call__(self) -> np.ndarray:
        """Compose and render: mono float32 `(num_samples,)`."""
        return render_form(write_form(self.plan()), self.sampling_rate)


def compose_form(
    seed: int,
    *,
    seconds: float = 96.0,
    take: int = 0,
    design: Design | None = None,
    forms: Sequence[str] = FORMS,
) -> FormPiece:
    """Plan and write one take of a work; arguments as those of `plan_form`."""
    return write_form(plan_form(seed, seconds=seconds, take=take, design=design, forms=forms))


def take(form: FormPiece, number: int) -> FormPiece:
    """Another performance of the same work.

    Its materials, plan and parts are those of the work; key and tempo are moved (take 0 is where they were), phrases
    end otherwise, sections are a little louder or quieter, and `render_form` records it with other players and desk.

    Args:
        form: Any take of the work.
        number: Which performance, 0 or more.
    """
    plan = form.plan
    return compose_form(plan.seed, seconds=plan.seconds, take=number, design=plan.design, forms=plan.forms)


def write_form(plan: FormPlan) -> FormPiece:
    """Write the notes of a plan; sections are named by their letters."""
    piece = _empty(plan)
    measured = []
    for index, (letter, section) in enumerate(zip(plan.letters, plan.grids(), strict=True)):
        material = plan.materials[letter]
        salt = DESIGNS.index(plan.design)
        # A letter's own stream, begun anew: whenever it returns, the same parts play the same figures.
        rng = np.random.default_rng([plan.seed, salt, ord(letter), 0xF0A3])
        chance = np.random.default_rng([plan.seed, salt, plan.take, index, 0xF0A4])
        activity, syncopation = MOTIF_CHARACTER[material.vibe]
        chords = harmonise(rng, plan.keys[index], plan.mode, material.vibe, section, material.progression, plan.tuning)
        arrangement = Arrangement(
            rng=rng,
            bpm=plan.bpm,
            key=plan.keys[index],
            mode=plan.mode,
            vibe=material.vibe,
            level=min(1.0, max(0.0, material.level + float(chance.uniform(-0.05, 0.05)))),
            bars=tuple(section),
            progression=material.progression,
            chords=tuple(chords),
            motif=material.motif,
            variation=vary_motif(chance, material.motif, plan.bpm, activity, syncopation),
            contour=material.contour,
            turns=material.turns,
        )
        features = play_section(piece, arrangement)
        measured.append(features)
        piece.sections[index].labels = label_section(features, material.vibe, plan.bpm)
    piece.tracks = {name: notes for name, notes in piece.tracks.items() if notes}
    label_piece(piece, measured)
    return FormPiece(plan, piece)


def render_form(form: FormPiece, sampling_rate: int = 16_000) -> np.ndarray:
    """The take's own recording, mono float32 `(num_samples,)`; its times are those of `facts_of_form`."""
    audio = render(form.piece, sampling_rate=sampling_rate, seed=form.plan.recording_seed)
    return audio.mean(axis=0, dtype=np.float32)


def labels_of_form(form: FormPiece | FormPlan) -> dict[str, Any]:
    """Exact labels of a take as it sounds; `None` where the design leaves a label open.

    Returns:
        `form`, `meter_change`, `home_key`, `away_key` (pitch classes) and `key_change` (`"+5"`), each for pieces of its
        design; `key` (pitch class; not of `home`, which has two), `mode`, `tonality` ("major" or "minor", the brighter
        and the darker modes), `tempo` (class), `bpm`, and `meter` ("7/8"; not of pieces that change it).
    """
    plan = form.plan if isinstance(form, FormPiece) else form
    home = plan.design == "home"
    return {
        "form": plan.label if plan.design == "form" else None,
        "meter_change": plan.label if plan.design == "meter" else None,
        "home_key": plan.keys[0] if home else None,
        "away_key": plan.keys[1] if home else None,
        "key_change": plan.label if home else None,
        "key": None if home else plan.keys[0],
        "mode": plan.mode,
        "tonality": "major" if affect.MODE_BRIGHTNESS[plan.mode] > 0 else "minor",
        "tempo": affect.tempo_class(plan.bpm),
        "bpm": plan.bpm,
        "meter": _name(plan.meters[0]) if len(set(plan.meters)) == 1 else None,
    }


def facts_of_form(form: FormPiece | FormPlan) -> dict[str, Any]:
    """Labels and sections of a take in values that JSON can hold; nothing is rendered, nor need notes be written.

    Returns:
        The `labels_of_form`; `design`, `seed`, `take`, `seconds`, `transposition`, `speed`, `recipe`; and `sections`,
        each with `start` and `end` (seconds in the audio of `render_form`), `name`, `key` and `meter`.
    """
    plan = form.plan if isinstance(form, FormPiece) else form
    heard = perform(_empty(plan), draw_variation(plan.recording_seed))
    return {
        **labels_of_form(plan),
        "design": plan.design,
        "seed": plan.seed,
        "take": plan.take,
        "seconds": plan.seconds,
        "transposition": plan.transposition,
        "speed": plan.speed,
        "recipe": RECIPE_VERSION,
        "sections": [
            {
                "start": round(section.start, 4),
                "end": round(section.end, 4),
                "name": section.name,
                "key": plan.keys[index],
                "meter": _name(plan.meters[index]),
            }
            for index, section in enumerate(heard.sections)
        ],
    }


def _empty(plan: FormPlan) -> Piece:
    """The piece with its sections, before any note."""
    tempo = affect.tempo_class(plan.bpm)
    grids = plan.grids()
    return Piece(
        work_id=plan.work_id,
        seed=plan.seed,
        bpm=plan.bpm,
        key=plan.keys[0],
        mode=plan.mode,
        duration=grids[-1][-1].end,
        bars=[],
        sections=[
            Section(
                bars[0].start, bars[-1].end, letter, Labels([], plan.materials[letter].vibe, "medium", tempo, 0.0, 0.0)
            )
            for letter, bars in zip(plan.letters, grids, strict=True)
        ],
        chords=[],
        tracks={"guitar_left": [], "guitar_right": [], "bass": [], "lead_guitar": [], "voice": []},
        drums=[],
        labels=Labels([], plan.materials["A"].vibe, "medium", tempo, 0.0, 0.0),
    )


def _name(meter: Meter) -> str:
    return f"{meter[0]}/{meter[1]}"
