# SPDX-License-Identifier: Apache-2.0
"""A tensor in a file whose shape is known before any of it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a checkpoint, unread: a file can claim any size, and a converter knows which sizes it wants.

    Attributes:
        shape: Its shape.
        dtype: Its type as numpy calls it, or as the file does where numpy has none.
        read: Gives its values as a little-endian array of that shape; raises `ValueError` where they are damaged.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]

    @property
    def is_floating(self) -> bool:
        """Whether its values are floating-point numbers that numpy knows."""
        return self.dtype in ("float16", "float32", "float64")
