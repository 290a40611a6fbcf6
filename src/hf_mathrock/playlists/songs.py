# SPDX-License-Identifier: Apache-2.0
"""A library to choose from: embeddings, names, and what is known of artist, key and tempo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .vectors import as_vectors
from .whitening import Whitening

Key = tuple[int, str]  # pitch class (C = 0) and mode

# Steps on the circle of fifths from the major key on the same root to the mode with the same notes.
_FIFTHS = {
    "lydian": 1,
    "major": 0,
    "ionian": 0,
    "mixolydian": -1,
    "dorian": -2,
    "minor": -3,
    "aeolian": -3,
    "phrygian": -4,
    "locrian": -5,
}


@dataclass(eq=False)
class SongLibrary:
    """Songs that a playlist may be filled from.

    Args:
        embeddings: `(num_songs, embedding_size)`, all of one model and settings.
        names: Of the songs, no two alike: usually their paths.
        artists: `None` where unknown; such songs never count as repeats.
        keys: Pitch class and mode, `None` where unknown.
        tempos: Quarters a minute, `None` where unknown.

    Raises:
        ValueError: There is no song, an embedding is not finite, the lengths differ, a name stands twice, or a key or
            tempo makes no sense.
    """

    embeddings: np.ndarray
    names: Sequence[str]
    artists: Sequence[str | None] | None = None
    keys: Sequence[Key | None] | None = None
    tempos: Sequence[float | None] | None = None

    def __post_init__(self) -> None:
        self.names = list(self.names)
        self.embeddings = as_vectors(self.embeddings, "library", self.names)
        facts: dict[str, Sequence[Any] | None] = {
            "names": self.names,
            "artists": self.artists,
            "keys": self.keys,
            "tempos": self.tempos,
        }
        for what, values in facts.items():
            if values is not None and len(values) != len(self.embeddings):
                raise ValueError(f"library: {len(values)} {what} for {len(self.embeddings)} embeddings; give one each")
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise ValueError(
                f"library: {len(twice)} names stand more than once, {twice[0]!r} for one. A name must tell one song: "
                "use paths, not titles."
            )
        for key in self.keys or ():
            if key is not None and (not 0 <= key[0] <= 11 or key[1] not in _FIFTHS):
                raise ValueError(f"library: key {key!r}; it must be a pitch class 0-11 and one of {', '.join(_FIFTHS)}")
        for tempo in self.tempos or ():
            if tempo is not None and not 0 < tempo < 1000:
                raise ValueError(f"library: tempo {tempo!r}; it must be quarters a minute, above 0 and below 1000")

    def __len__(self) -> int:
        return len(self.embeddings)

    @cached_property
    def whitening(self) -> Whitening:
        """Measured on all its songs, once."""
        return Whitening.fit(self.embeddings)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.names)}

    def rows(self, names: Sequence[str]) -> np.ndarray:
        """Positions of songs by name.

        Raises:
            ValueError: A name is not in the library.
        """
        missing = [name for name in names if name not in self._row_of]
        if missing:
            raise ValueError(
                f"{len(missing)} songs are not in the library of {len(self)}, {missing[0]!r} for one. Embed them too, "
                "or write their names as the library has them."
            )
        return np.array([self._row_of[name] for name in names], dtype=int)

    def key_jump(self, one: int, other: int) -> float:
        """Steps on the circle of fifths between the keys of two songs, over 6: 0 the same notes, 1 the farthest.

        Modes with the same notes, such as C major and A minor, are 0 apart; so is a song whose key is unknown.
        """
        if self.keys is None or self.keys[one] is None or self.keys[other] is None:
            return 0.0
        steps = [(7 * key[0] + _FIFTHS[key[1]]) % 12 for key in (self.keys[one], self.keys[other]) if key]
        return min((steps[0] - steps[1]) % 12, (steps[1] - steps[0]) % 12) / 6

    def tempo_jump(self, one: int, other: int) -> float:
        """How far apart two tempos are, up to whole octaves: 0 the same or double, 1 half an octave.

        0 where a tempo is unknown.
        """
        if self.tempos is None or self.tempos[one] is None or self.tempos[other] is None:
            return 0.0
        octaves = float(np.log2(float(self.tempos[one]) / float(self.tempos[other])))  # type: ignore[arg-type]
        return 2 * abs(octaves - round(octaves))
