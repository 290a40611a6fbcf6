# SPDX-License-Identifier: Apache-2.0
"""How close estimated keys are to the true ones: the weighted score, in both of its versions, and accuracy.

A key is a number from 0 to 23, `tonic + 12 * is_minor` with C as tonic 0, or a name such as "F# minor"; names of one
sound ("Gb minor") are one key.

    same key                                               1.0
    a perfect fifth above the reference, of the same mode  0.5
    a perfect fifth below, of the same mode                0   `weighted_score`; 0.5 `mirex_score`
    the relative key                                       0.3
    the parallel key                                       0.2
    any other                                              0

Source:
    Without falling fifths it is `mir_eval.key.weighted_score` (mir_eval 0.8), which JukeMIR and Myna report; with them
    the task "Audio Key Detection" of MIREX since 2017. Figures of one are no figures of the other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from hf_mathrock.metrics.validation import UNKNOWN

NUM_KEYS = 24
_STEPS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_NAME = re.compile(r"([a-g])(#|b)?\s+(major|minor)", re.IGNORECASE)


def key_number(name: str) -> int:
    """The number of a key in words.

    Raises:
        ValueError: It is not a tonic and "major" or "minor".

    Example:
        >>> key_number("C major"), key_number("Gb minor"), key_number("F# minor")
        (0, 18, 18)
    """
    match = _NAME.fullmatch(str(name).strip())
    if match is None:
        raise ValueError(
            f"{name!r} is no key; a key is a tonic and a mode, such as 'F# minor' or 'Bb major'. Other modes, and "
            "pieces of several keys, have no place in this score: leave them out, or give -100."
        )
    sign = {"#": 1, "b": -1}.get((match[2] or "").lower(), 0)
    return (_STEPS[match[1].lower()] + sign) % 12 + 12 * (match[3].lower() == "minor")


def validate(reference: Any, estimated: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both as numbers, `(num_songs,)` int64.

    Raises:
        ValueError: Other shapes, or a value that is no key; an unknown reference is -100. The message names the row.
    """
    pair = []
    for side, keys, allowed in (("reference", reference, {UNKNOWN}), ("estimate", estimated, set())):
        numbers = _numbers(keys)
        if numbers.ndim != 1:
            raise ValueError(f"the {side}s have the shape {numbers.shape}; one key for each song is needed.")
        wrong = [row for row, key in enumerate(numbers) if not (key in allowed or 0 <= key < NUM_KEYS)]
        if wrong:
            raise ValueError(
                f"row {wrong[0]} has the {side} {numbers[wrong[0]]}; a key is a number from 0 to 23 (tonic, and 12 "
                f"more for minor){', or -100 where unknown' if allowed else ''}."
            )
        pair.append(numbers)
    if len(pair[0]) != len(pair[1]):
        raise ValueError(
            f"there are {len(pair[0])} references and {len(pair[1])} estimates; one of each per song is needed. Was a "
            "song left out of one of them?"
        )
    return pair[0], pair[1]


def _numbers(keys: Any) -> np.ndarray:
    if isinstance(keys, Sequence) and not isinstance(keys, str):
        keys = [key_number(key) if isinstance(key, str) else key for key in keys]
    given = np.asarray(keys)
    if given.dtype.kind in "US":
        given = np.array([key_number(str(key)) for key in given.ravel()]).reshape(given.shape)
    # A number that is not whole becomes one that is no key, and is refused by its row.
    return np.where(np.isfinite(given) & (given == np.floor(given)), given, -1).astype(np.int64)


def score_table(descending_fifths: bool = False) -> np.ndarray:
    """The score of every pair, `(24, 24)`: rows are references, columns estimates."""
    key = np.arange(NUM_KEYS)
    tonic, minor = key % 12, key >= 12
    rise = (tonic[None, :] - tonic[:, None]) % 12
    same_mode = minor[:, None] == minor[None, :]
    table = np.zeros((NUM_KEYS, NUM_KEYS))
    table[same_mode & (rise == 0)] = 1.0
    table[same_mode & (rise == 7)] = 0.5
    if descending_fifths:
        table[same_mode & (rise == 5)] = 0.5
    # The relative minor lies 9 semitones above its major, the relative major 3 above its minor.
    relative = ~same_mode & (rise == np.where(minor[:, None], 3, 9))
    table[relative] = 0.3
    table[~same_mode & (rise == 0)] = 0.2
    return table


def weighted_score(reference: Any, estimated: Any) -> float:
    """Mean score in [0, 1], fifths above only, as JukeMIR and Myna report it; NaN where no key is known."""
    return _mean_score(reference, estimated, False)


def mirex_score(reference: Any, estimated: Any) -> float:
    """Mean score in [0, 1], fifths above and below, as MIREX counts since 2017; NaN where no key is known."""
    return _mean_score(reference, estimated, True)


def _mean_score(reference: Any, estimated: Any, descending_fifths: bool) -> float:
    reference, estimated = validate(reference, estimated)
    known = reference != UNKNOWN
    scores = score_table(descending_fifths)[reference[known], estimated[known]]
    return float(scores.mean()) if known.any() else float("nan")


def evaluate(reference: Any, estimated: Any) -> dict[str, float]:
    """Both scores, and accuracy.

    Args:
        reference: `(num_songs,)` keys, -100 where unknown.
        estimated: The same of the estimates.

    Returns:
        `weighted_score`, `mirex_score` and `accuracy` in [0, 1]; empty where no key is known.

    Raises:
        ValueError: As `validate`.

    Example:
        >>> evaluate(["C major", "A minor"], ["F major", "C major"])
        {'weighted_score': 0.15, 'mirex_score': 0.4, 'accuracy': 0.0}
    """
    reference, estimated = validate(reference, estimated)
    known = reference != UNKNOWN
    if not known.any():
        return {}
    return {
        "weighted_score": weighted_score(reference, estimated),
        "mirex_score": mirex_score(reference, estimated),
        "accuracy": float((reference[known] == estimated[known]).mean()),
    }
