# SPDX-License-Identifier: Apache-2.0
"""The checkpoints that ship in the wheel."""

from __future__ import annotations

from pathlib import Path

EMBEDDED = ("mathrock-tiny",)


def embedded_checkpoint(name: str = "mathrock-tiny") -> Path:
    """Folder of a checkpoint that ships with the package.

    Raises:
        ValueError: There is none of that name.
    """
    if name not in EMBEDDED:
        raise ValueError(f"No checkpoint {name!r} ships with hf-mathrock; there is: {', '.join(EMBEDDED)}.")
    return Path(__file__).parent / "checkpoints" / name
