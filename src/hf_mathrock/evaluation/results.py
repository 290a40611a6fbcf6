# SPDX-License-Identifier: Apache-2.0
"""`results.json`: which weights were measured, and what came out on each set of songs."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

DIGITS = 6
_PROBE = ("data", "task", "metric", "how")


def identity(pipe: Any) -> dict[str, Any]:
    """Which weights these are, what they were measured with, and when.

    Args:
        pipe: A `mathrock-affect` pipeline.

    Returns:
        `checkpoint`, `fingerprint`, `num_parameters`, `versions` and `date` (ISO, UTC).
    """
    import torch
    import transformers

    from hf_mathrock.version import __version__

    card = pipe.model_card
    return {
        "checkpoint": card["name"],
        "fingerprint": card["fingerprint"],
        "num_parameters": sum(parameter.numel() for parameter in pipe.model.parameters()),
        "versions": {
            "hf_mathrock": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "date": today(),
    }


def today() -> str:
    """The date in UTC, as ISO writes it."""
    return datetime.now(UTC).date().isoformat()


def add_sets(path: str | os.PathLike[str], header: Mapping[str, Any], sets: Mapping[str, Any]) -> dict[str, Any]:
    """Puts sets into a results file; those of other names stay if they are of the same weights.

    Args:
        path: The file; it is replaced as a whole or left as it was.
        header: As `identity` gives it, and whatever else stands beside the sets.
        sets: Set name to figures.

    Returns:
        What the file now holds.

    Raises:
        ValueError: The file is there and is no JSON object.
    """
    before = _of_the_same_weights(Path(path), header)
    merged = {**before, **header, "sets": {**before.get("sets", {}), **sets}}
    write_json(path, merged)
    return merged


def add_probes(
    path: str | os.PathLike[str], header: Mapping[str, Any], probes: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Puts figures of an encoder into a results file; others stay if they are of the same weights.

    Args:
        path: The file; it is replaced as a whole or left as it was.
        header: As `identity` gives it, and whatever else stands beside the figures.
        probes: Each with `data`, `task`, `metric` and `how`, which make it one and the same, and its figures.

    Returns:
        What the file now holds.

    Raises:
        ValueError: The file is there and is no JSON object.
    """
    before = _of_the_same_weights(Path(path), header)
    kept = {tuple(entry.get(part) for part in _PROBE): entry for entry in before.get("probes", [])}
    kept |= {tuple(entry.get(part) for part in _PROBE): plain(entry) for entry in probes}
    merged = {**before, **header, "probes": list(kept.values())}
    write_json(path, merged)
    return merged


def _of_the_same_weights(path: Path, header: Mapping[str, Any]) -> dict[str, Any]:
    """What a results file holds of these weights; nothing where there is no file."""
    if not path.exists():
        return {}
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} is no JSON ({error}); remove it, and it is written anew") from error
    if not isinstance(before, dict):
        raise ValueError(f"{path.name} holds no JSON object; remove it, and it is written anew")
    return before if before.get("fingerprint") == header["fingerprint"] else {}


def write_json(path: str | os.PathLike[str], value: Any, *, indent: int = 1) -> None:
    """Writes strict JSON: whole, or not at all."""
    path = Path(path)
    text = json.dumps(value, indent=indent, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """Figures as JSON has them: floats to six digits, arrays as lists, what is not a number as `None`."""
    if isinstance(value, Mapping):
        return {str(key): plain(child) for key, child in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(child) for child in value]
    if isinstance(value, float):
        return round(value, DIGITS) if math.isfinite(value) else None
    return value
