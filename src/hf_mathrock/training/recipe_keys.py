# SPDX-License-Identifier: Apache-2.0
"""What stands in a recipe by name: known keys, numbers where numbers belong, values set by a dotted path."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any


def check_keys(given: Mapping[str, Any], known: list[str], where: str) -> None:
    """Refuses a key that is not known, and names the nearest."""
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}."
            raise ValueError(f"Unknown key {key!r} in {where}; {hint}")


def options_of(made: type) -> list[str]:
    """Names of what a class is made with; a misspelt one would go unnoticed among its `kwargs`."""
    return [name for name in inspect.signature(made).parameters if name != "kwargs"]


def check_numbers(given: Mapping[str, Any], defaults: Mapping[str, Any], where: str) -> None:
    """Refuses anything else where the default is a number."""
    for key, value in given.items():
        default = defaults.get(key)
        if isinstance(default, (int, float)) and not isinstance(default, bool):
            wanted, named = (int, "a whole number") if key == "seed" else ((int, float), "a number")
            if not isinstance(value, wanted) or isinstance(value, bool):
                raise ValueError(f"`{where}{key}` is {value!r}; {named} is wanted.")


def set_value(settings: dict[str, Any], path: str, value: Any) -> None:
    """Sets the value at a dotted path, and makes the sections on the way."""
    *parents, last = path.split(".")
    for parent in parents:
        settings = settings.setdefault(parent, {})
        if not isinstance(settings, dict):
            raise ValueError(f"{path!r} cannot be set: {parent!r} is a single value in the recipe.")
    settings[last] = value
