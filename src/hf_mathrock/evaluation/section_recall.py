# SPDX-License-Identifier: Apache-2.0
"""Whether an encoder finds a section again: excerpts of generated pieces whose sections are known exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hf_mathrock.data.mel_cache import MelTrack

_MARGIN_SECONDS = 0.25  # kept from either end of a section, where the one before still rings


@dataclass(frozen=True)
class SectionExcerpts:
    """A stretch of every section of some pieces, in the order of the pieces and of their sections.

    Attributes:
        tracks: The stretches as tracks of their own, each with its own level.
        works: Work of each.
        takes: Take of each, int64.
        names: Section of each, `"A"` or `"B"`.
    """

    tracks: list[MelTrack]
    works: np.ndarray
    takes: np.ndarray
    names: np.ndarray

    def same_section(self) -> np.ndarray:
        """Which excerpts are of the same section of the same work, in whatever take, `(num, num)` booleans."""
        same = (self.works[:, None] == self.works) & (self.names[:, None] == self.names)
        np.fill_diagonal(same, False)
        return same


def section_excerpts(pieces: Sequence[MelTrack], extractor: Any, seconds: float, seed: int = 0) -> SectionExcerpts:
    """Cut an excerpt out of every section, from a place drawn by chance.

    Two occurrences of a section are so heard from different places, and no excerpt reaches into another section. A
    section that is shorter is taken whole.

    Args:
        pieces: Tracks with the facts of `facts_of_form`.
        extractor: The model's, for `frames_per_second` and `reference_of`.
        seconds: Length of an excerpt.
        seed: Of the places.

    Raises:
        ValueError: A piece has no sections among its facts.
    """
    rng = np.random.default_rng([seed, 0x5EC7])
    excerpts, works, takes, names = [], [], [], []
    for piece in pieces:
        if not piece.facts.get("sections"):
            raise ValueError(
                f"the facts of {piece.id!r} name no sections; generated pieces of `form_tracks` have them."
            )
        for number, section in enumerate(piece.facts["sections"]):
            start, end = section["start"] + _MARGIN_SECONDS, section["end"] - _MARGIN_SECONDS
            begin = start + float(rng.uniform()) * max(0.0, end - start - seconds)
            frames = [round(at * extractor.frames_per_second) for at in (begin, min(begin + seconds, end))]
            decibels = piece.decibels[frames[0] : frames[1]]
            reference = extractor.reference_of(np.asarray(decibels, np.float32))
            excerpts.append(replace(piece, id=f"{piece.id}/{number}", decibels=decibels, reference=reference))
            works.append(piece.work)
            takes.append(piece.facts["take"])
            names.append(section["name"])
    return SectionExcerpts(excerpts, np.array(works), np.array(takes), np.array(names))
