# SPDX-License-Identifier: Apache-2.0
"""The licence files of a published folder: that of the weights, and that of the code which travels with them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hf_mathrock.model_card.metadata import LICENCES
from hf_mathrock.model_card.statements import CODE_LICENCE

# What a conversion puts beside the weights of others, and whoever passes them on has to keep.
NOTICE = "LICENSE-weights.txt"
_TEXTS = Path(__file__).with_name("licences")


def write_licence(folder: Path, facts: Mapping[str, Any], holder: str) -> None:
    """Write `LICENSE`, and `LICENSE.code` where the code has another one.

    Args:
        folder: Of the model.
        facts: Those of the card; `licence` may be absent, then only the code has one.
        holder: Whose weights these are, where the licence has to name somebody.
    """
    code = (_TEXTS / f"{CODE_LICENCE}.txt").read_text(encoding="utf-8")
    name = facts.get("licence", CODE_LICENCE)
    if name.lower() == CODE_LICENCE:
        (folder / "LICENSE").write_text(code, encoding="utf-8")
        return
    text_file = _TEXTS / f"{name.lower()}.txt"
    if text_file.is_file():
        text = text_file.read_text(encoding="utf-8").format(holder=f"{datetime.now(UTC).year} {holder}")
    else:
        link = LICENCES.get(name.lower()) or facts["licence_link"]
        text = f"The weights in this repository are published by {holder} under {name}:\n{link}\n"
    (folder / "LICENSE").write_text(text, encoding="utf-8")
    (folder / "LICENSE.code").write_text(code, encoding="utf-8")
