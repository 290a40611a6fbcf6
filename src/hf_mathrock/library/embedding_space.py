# SPDX-License-Identifier: Apache-2.0
"""Whether two sets of embeddings may be compared, and if not, what differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Space = Mapping[str, Any]
_NAMED_AT_MOST = 4
_ABSENT = "nothing"


class MixedSpacesError(ValueError):
    """Embeddings of different models or settings came together."""


def differences(one: Space, other: Space) -> list[str]:
    """What differs between two spaces, in words; nothing: their embeddings may be compared.

    A model's name is for people and does not count. A revision counts where both have one: a folder has none, and then
    the weights' fingerprint decides.

    Args:
        one: As `MusicEmbeddingPipeline.space` gives it, or as it was stored.
        other: Likewise.

    Example:
        >>> differences({"fingerprint": "a", "how": "whole"}, {"fingerprint": "a", "how": "chunks", "chunk_seconds": 3})
        ['chunk_seconds (nothing and 3.0)', "how ('whole' and 'chunks')"]
    """
    first, second = _flat(one), _flat(other)
    if first.get("revision") is None or second.get("revision") is None:
        first.pop("revision", None)
        second.pop("revision", None)
    found = []
    for name in sorted((first.keys() | second.keys()) - {"model"}):
        values = [_shown(side, name) for side in (first, second)]
        if values[0] != values[1]:
            found.append(f"{name} ({values[0]} and {values[1]})")
    # Which weights is told first.
    return sorted(found, key=lambda line: not line.startswith(("fingerprint", "revision", "model_type")))


def check_same_space(one: Space, other: Space, first: str, second: str) -> None:
    """Refuses to bring two spaces together.

    Args:
        one: A space.
        other: Another.
        first: What the one belongs to, for the message.
        second: What the other belongs to.

    Raises:
        MixedSpacesError: They differ; the message says in what.
    """
    found = differences(one, other)
    if found:
        more = f" and {len(found) - _NAMED_AT_MOST} more" if len(found) > _NAMED_AT_MOST else ""
        raise MixedSpacesError(
            f"embeddings of {first} and of {second} cannot be compared, they differ in "
            f"{', '.join(found[:_NAMED_AT_MOST])}{more}; embed both with the same model, revision and settings"
        )


def _shown(values: Mapping[str, Any], name: str) -> str:
    return repr(values[name]) if name in values else _ABSENT


def _flat(space: Space, prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in space.items():
        if isinstance(value, Mapping):
            values |= _flat(value, f"{prefix}{name}.")
        else:
            values[prefix + name] = float(value) if type(value) is int else value
    return values
