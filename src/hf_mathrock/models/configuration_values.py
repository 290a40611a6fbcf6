# SPDX-License-Identifier: Apache-2.0
"""Whether single values of a configuration make sense: what a name and a default tell of what is allowed."""

from __future__ import annotations

import math
from typing import Any

# One per level, or as the block has it.
_MAY_BE_NONE = ("dilations", "strides")


def is_size(value: Any) -> bool:
    """Whether this is a whole number of at least 1."""
    return type(value) is int and value >= 1


def is_number(value: Any) -> bool:
    """Whether this is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_value(name: str, value: Any, default: Any, where: str, *, pairs: bool = False) -> None:
    """Refuse a value that no model can be built with, before torch says so in its own words.

    Args:
        name: Of the option; one with "dropout" in it lies in [0, 1), one that ends in "eps" is positive.
        value: What came.
        default: What the option is if nothing is said: its type tells what it may be, any other a size.
        where: How a message names the option, such as "`stages[2]['pool']`".
        pairs: Whether a size may also be one of bands and one of frames.

    Raises:
        ValueError: The value is not allowed.
    """
    if value is None and (default is None or name in _MAY_BE_NONE):
        return
    if isinstance(default, bool):
        allowed, fits = "true or false", isinstance(value, bool)
    elif "dropout" in name:
        allowed, fits = "a number in [0, 1)", is_number(value) and 0 <= value < 1
    elif name.endswith("eps"):
        allowed, fits = "a positive number", is_number(value) and value > 0
    elif isinstance(default, float):
        allowed, fits = "a number", is_number(value)
    elif isinstance(default, str):
        return  # a choice; whoever makes it knows what there is
    elif isinstance(default, list) or name in _MAY_BE_NONE:
        allowed = "a list of positive whole numbers"
        fits = isinstance(value, list | tuple) and len(value) > 0 and all(map(is_size, value))
    else:
        allowed, fits = "a positive whole number", is_size(value)
        if pairs and name in ("kernel_size", "stride", "pool"):
            allowed += ", or two: [bands, frames]"
            fits = fits or (isinstance(value, list | tuple) and len(value) == 2 and all(map(is_size, value)))
    if not fits:
        raise ValueError(f"{where} is {value!r}; it must be {allowed}.")
