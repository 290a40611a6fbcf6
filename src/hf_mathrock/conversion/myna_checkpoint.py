# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of the public Myna code as it lies on disk, and what it and its surroundings tell of its network."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from hf_mathrock.conversion.mathrock import read_state_dict
from hf_mathrock.conversion.report import CheckpointMismatch, first_line, stand_in

PATCH_EMBEDDINGS = ("to_patch_embedding", "to_patch_embedding_b")
_ANCHOR = "transformer.norm.weight"  # every version has it, at the end of its one transformer
_FILES = ("model.safetensors", "pytorch_model.bin")
_ENDINGS = (".safetensors", ".bin", ".pt", ".pth")
_SQUARE, _VERTICAL = (16, 16), (128, 2)
_HEAD_SIZE = 64  # of every published model; the tensors do not tell
_MAX_LAYERS = 200


@dataclass(frozen=True)
class MynaCheckpoint:
    """A checkpoint that was read.

    Attributes:
        path: Its file.
        tensors: By the names of the public code.
        prefix: What stood before all of these.
        settings: The `config.json` beside it; empty where there is none.
    """

    path: Path
    tensors: dict[str, torch.Tensor]
    prefix: str
    settings: Mapping[str, Any]

    @property
    def is_relative(self) -> bool:
        """Whether it is of the version with relative positions, which has a class token."""
        return "cls_token" in self.tensors or "y_pos_embedding" in self.tensors

    @property
    def is_hybrid(self) -> bool:
        """Whether it has two patch embeddings."""
        return f"{PATCH_EMBEDDINGS[1]}.2.weight" in self.tensors

    def matrix_shape(self, name: str, default: tuple[int, int]) -> tuple[int, int]:
        """The shape of a matrix; the default where there is none of that name."""
        tensor = self.tensors.get(name)
        if tensor is None or tensor.dim() != 2 or 0 in tensor.shape:
            return default
        return tensor.shape[0], tensor.shape[1]

    def num_layers(self) -> int:
        """Layers of the transformer, by the highest number in a name.

        Raises:
            ValueError: It is higher than any network's.
        """
        matches = (re.match(r"transformer\.layers\.(\d+)\.", name) for name in self.tensors)
        numbers = {match[1] for match in matches if match}
        # A file of some kilobytes could name millions.
        if any(len(number) > 4 or int(number) >= _MAX_LAYERS for number in numbers):
            raise ValueError(f"{self.path.name!r} is refused: it names layers beyond the {_MAX_LAYERS}th.")
        return max(map(int, numbers), default=0) + 1

    def num_heads(self, hidden_size: int) -> int:
        """Heads of attention: as `heads` in its `config.json` says, or of 64 channels each.

        Raises:
            ValueError: It cannot be known.
        """
        heads = self.settings.get("heads")
        if isinstance(heads, int) and not isinstance(heads, bool) and heads > 0 and hidden_size % heads == 0:
            return heads
        if hidden_size % _HEAD_SIZE:
            raise ValueError(
                f"{self.path.name!r}: tokens are {hidden_size} wide, no multiple of the {_HEAD_SIZE} of a head in the "
                "published models, and the tensors do not tell how many heads there are: write a config.json with "
                "`heads` beside it."
            )
        return hidden_size // _HEAD_SIZE

    def patch_sizes(self, given: Sequence[Sequence[int]] | None) -> tuple[list[tuple[int, int]], list[str]]:
        """Bins and frames of the patches of each embedding, and how they are known where nobody said.

        Raises:
            ValueError: They cannot be known, or do not fit the tensors.
        """
        stated, notes = (given, []) if given is not None else self._known_patch_sizes()
        sizes = [(int(bins), int(frames)) for bins, frames in stated]
        if len(sizes) != 1 + self.is_hybrid:
            raise ValueError(
                f"{self.path.name!r} has {'two patch embeddings' if self.is_hybrid else 'one patch embedding'}; "
                f"{len(sizes)} patch sizes were given: {', '.join(map(_by, sizes))}."
            )
        for size, name in zip(sizes, PATCH_EMBEDDINGS, strict=False):
            _, width = self.matrix_shape(f"{name}.2.weight", (0, math.prod(size)))
            if width != math.prod(size):
                raise ValueError(
                    f"{self.path.name!r}: patches of {name!r} hold {width} values; {_by(size)} are {math.prod(size)}."
                )
        return sizes, notes

    def _known_patch_sizes(self) -> tuple[list[Any], list[str]]:
        beside = [_pair(self.settings.get(name)) for name in ("patch_size", "additional_patch_size")]
        sizes = [size for size in beside[: 1 + self.is_hybrid] if size is not None]
        if len(sizes) == 1 + self.is_hybrid:
            return sizes, [f"patches of {' and '.join(map(_by, sizes))}, as config.json beside it says"]
        if self.is_hybrid:
            return [_SQUARE, _VERTICAL], ["patches of 16 x 16 and 128 x 2, as in the published hybrids"]
        for name in (self.path.stem, self.path.resolve().parent.name):
            if match := re.search(r"(?i)base|square|vertical", name):
                size = _VERTICAL if match[0].lower() == "vertical" else _SQUARE
                return [size], [f"patches of {_by(size)}, since {name!r} says {match[0]!r}"]
        if self.is_relative:
            return [_SQUARE], ["patches of 16 x 16, as in the published models with a class token"]
        raise ValueError(
            f"{self.path.name!r} does not tell its patches, since those of 16 x 16 and of 128 x 2 hold equally many "
            "values, and neither its name nor a config.json beside it does. Pass --patch-sizes 16x16 (myna-base) or "
            "--patch-sizes 128x2 (myna-vertical)."
        )

    def values(self, name: str) -> torch.Tensor:
        """A tensor in single precision.

        Raises:
            ValueError: It holds no numbers that training leaves behind.
        """
        tensor = self.tensors[name]
        if not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ValueError(f"{self.path.name!r}: {name!r} is of type {kind}; weights are floating-point numbers.")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{self.path.name!r} is damaged: {name!r} holds values that no training leaves behind.")
        return tensor.float()


def read_myna_checkpoint(source: Path) -> MynaCheckpoint:
    """Read a checkpoint.

    Args:
        source: Its file, or the folder of one.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointMismatch: It is of another network.
        ValueError: It is refused or unreadable.
    """
    path = _weights_file(source)
    tensors = _read_safetensors(path) if path.suffix == ".safetensors" else read_state_dict(path)
    anchors = [name for name in tensors if name == _ANCHOR or name.endswith(f".{_ANCHOR}")]
    if len(anchors) != 1:
        what = f"holds {len(anchors)} transformers" if anchors else f"none of its {len(tensors)} names is known"
        raise CheckpointMismatch(
            f"{path.name} is no checkpoint of Myna: {what}",
            [] if anchors else [_ANCHOR],
            anchors or list(tensors),
            [],
            "Is it the right file?",
        )
    prefix = anchors[0].removesuffix(_ANCHOR)
    stripped = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    if len(stripped) < len(tensors):
        raise ValueError(f"{path.name!r} holds tensors twice, with and without {prefix!r} before their names.")
    return MynaCheckpoint(path, stripped, prefix, _settings_beside(path))


def _weights_file(source: Path) -> Path:
    """The file of a source that may be a folder."""
    if not source.exists():
        raise FileNotFoundError(
            f"There is nothing at {os.fspath(source)!r}; expected a file that ends in {', '.join(_ENDINGS)}, or a "
            "folder with one."
        )
    if not source.is_dir():
        return source
    for name in _FILES:
        if (source / name).is_file():
            return source / name
    others = sorted(file.name for file in source.iterdir() if file.suffix in _ENDINGS)
    if len(others) == 1:
        return source / others[0]
    said = f"it holds {', '.join(others)}: name one" if others else "it holds none"
    raise ValueError(f"{os.fspath(source)!r} should hold one file of weights, such as {_FILES[0]}, but {said}.")


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        damage = f"is no .safetensors file, or is damaged: {first_line(error)}."
        raise ValueError(f"{path.name!r} {stand_in(path) or damage}") from error


def _settings_beside(path: Path) -> Mapping[str, Any]:
    file = path.parent / "config.json"
    if not file.is_file():
        return {}
    try:
        settings = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"config.json beside {path.name!r} is no JSON: {error}.") from error
    return settings if isinstance(settings, dict) else {}


def _pair(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = (value, value)
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(size, int) for size in value):
        return value[0], value[1]
    return None


def _by(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
