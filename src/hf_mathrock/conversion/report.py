# SPDX-License-Identifier: Apache-2.0
"""What every conversion says: what it did, or which tensors do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_NUM_NAMED = 8  # names of tensors that a message lists of each kind


class CheckpointMismatch(ValueError):
    """The tensors of a checkpoint are not those of the model. The message names a few, the attributes all.

    Attributes:
        missing: Names in the other project's spelling that the checkpoint lacks.
        unexpected: Names in it that belong to no part of the model.
        misshapen: `name (found shape) for (expected shape)` of those whose sizes differ.
    """

    def __init__(self, verdict: str, missing: list[str], unexpected: list[str], misshapen: list[str], advice: str):
        self.missing, self.unexpected, self.misshapen = missing, unexpected, misshapen
        kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        found = "; ".join(f"{len(names)} {kind}: {_enumerated(names)}" for kind, names in kinds if names)
        super().__init__(f"{verdict} ({found}). {advice}")


def _enumerated(names: Sequence[str]) -> str:
    more = len(names) - _NUM_NAMED
    return ", ".join(names[:_NUM_NAMED]) + (f" and {more} more" if more > 0 else "")


@dataclass
class ConversionReport:
    """What a conversion did.

    Attributes:
        source: Name of the file or folder read.
        out: Folder written.
        num_parameters: Of the model.
        num_tensors: Taken over from the checkpoint.
        notes: What a reader should know: old spellings met, tensors left out, where labels come from.
    """

    source: str
    out: str
    num_parameters: int
    num_tensors: int
    notes: list[str]


def stand_in(path: Path) -> str | None:
    """What lies in a checkpoint's place where it was not fetched, and what to do; `None`: nothing known."""
    with path.open("rb") as file:
        start = file.read(512).lstrip()
    if start.startswith(b"version https://git-lfs"):
        return "is no checkpoint but the Git LFS pointer to one: run `git lfs pull` where it was cloned."
    if start.startswith(b"<"):
        return "is no checkpoint but a web page saved in its place: download the file itself."
    return None


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
