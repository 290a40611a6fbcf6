# SPDX-License-Identifier: Apache-2.0
"""Nothing that is published may say where on this machine it was made."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# A path from the root, a home or a drive: its folders go, its last part stays. A slash after a word, a colon or
# another slash belongs to an address, a fraction or a name on the Hub.
_PATH = re.compile(r"(?<![\w.:/~])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\'\"]+[/\\])+")
_TEXTS = (".py", ".json", ".jsonl", ".md", ".yaml", ".yml", ".txt", "")


def without_paths(value: Any) -> Any:
    """A JSON value with every absolute path in its texts, keys included, cut down to its last part."""
    if isinstance(value, dict):
        return {without_paths(key): without_paths(child) for key, child in value.items()}
    if isinstance(value, list):
        return [without_paths(child) for child in value]
    if not isinstance(value, str):
        return value
    if os.path.isabs(value) and "\n" not in value:
        return os.path.basename(os.path.normpath(value))  # also with spaces in its folders
    return _PATH.sub("", value)


def places_of_this_machine(*more: str | os.PathLike[str]) -> list[str]:
    """Folders that say who made something: home, working and temporary folder, the interpreter's, and more."""
    found = {Path.home(), Path.cwd(), Path(tempfile.gettempdir()), Path(sys.prefix)} | {Path(place) for place in more}
    both = {str(path) for place in found for path in (place.absolute(), place.resolve())}
    return sorted((place for place in both if len(Path(place).parts) > 1), key=len, reverse=True)


def check_no_paths(folder: Path, places: Iterable[str]) -> None:
    """Look into every text of a folder.

    Raises:
        ValueError: One names a place of this machine.
    """
    patterns = {place: re.compile(rf"(?<![\w.:/-]){re.escape(place)}(?![\w-])") for place in places}
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in _TEXTS):
        text = file.read_text(encoding="utf-8")
        for place, pattern in patterns.items():
            if pattern.search(text):
                raise ValueError(
                    f"{file.relative_to(folder)} names {place}, a folder of this machine, which is nobody else's "
                    "business. It probably stands in the recipe, the card or the config: write it without its folder."
                )
