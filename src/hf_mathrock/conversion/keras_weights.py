# SPDX-License-Identifier: Apache-2.0
"""Weights of a Keras model in HDF5, as `model.save("x.h5")` and `model.save_weights("x.h5")` wrote them.

The file holds a group per layer, in it the layer's variables, one or more groups deep: `model_weights/conv2d/conv2d/
kernel:0`. HDF5 follows links into other files, and takes a dataset's values from wherever it says; only plain datasets
behind hard links are read, and the model's description, which may hold code, is not looked at.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hf_mathrock.conversion.report import first_line
from hf_mathrock.conversion.stored_tensor import StoredTensor

_MAX_NODES = 10_000  # a model of a hundred layers has some five hundred
_MAX_CHUNK = 2**25  # values; HDF5 holds a whole chunk in memory
_DAMAGE = (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError, MemoryError, UnicodeDecodeError)
# Deflate, shuffle and Fletcher-32: others make HDF5 look for a library to load.
_PLAIN_FILTERS = {1, 2, 3}


def is_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 does."""
    with path.open("rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def read_keras_weights(path: Path) -> dict[str, StoredTensor]:
    """Variables by `layer/variable`, such as "conv2d_1/kernel", unread; those of an optimiser are left out.

    Raises:
        ImportError: h5py is missing.
        ValueError: The file cannot be read, holds no weights, or takes them from elsewhere.
    """
    try:
        import h5py
    except ImportError:
        raise ImportError(
            f'Reading {path.name!r} needs h5py: pip install "hf-mathrock[convert]", or h5py alone.'
        ) from None
    try:
        with h5py.File(path, "r") as file:
            # A whole model has its weights in a group of that name, a file of weights alone at its top.
            root = _member(file, "model_weights", path) if "model_weights" in file else file
            tensors = _tensors(root, path)
    except _DAMAGE as error:
        if isinstance(error, ValueError) and str(error).startswith(repr(path.name)):
            raise
        raise ValueError(f"{path.name!r} is no readable HDF5 file: {first_line(error)}") from error
    if not tensors:
        raise ValueError(f"{path.name!r} holds no weights of a Keras model: there is no dataset in a group of a layer.")
    return tensors


def _tensors(root: Any, path: Path) -> dict[str, StoredTensor]:
    """Every dataset below a group, named by its layer (the first part of its path) and itself (the last)."""
    import h5py

    tensors: dict[str, StoredTensor] = {}
    waiting: list[tuple[tuple[str, ...], Any]] = [((), root)]
    visited = 0
    while waiting:
        parts, group = waiting.pop()
        for name in group:
            visited += 1
            if visited > _MAX_NODES or len(parts) > 8:
                raise ValueError(f"{path.name!r} holds groups without end; no Keras model is built so.")
            node, where = _member(group, name, path), (*parts, name)
            if isinstance(node, h5py.Group):
                waiting.append((where, node))
            elif isinstance(node, h5py.Dataset) and len(where) > 1:
                key = f"{where[0]}/{name.split(':')[0]}"
                if key in tensors:
                    raise ValueError(
                        f"{path.name!r} holds several variables {key!r}: it is not laid out as Keras 1 and 2 wrote it. "
                        "With Keras 3 save the whole model: model.save('x.h5')."
                    )
                tensors[key] = _stored(node, key, path)
    return tensors


def _member(group: Any, name: str, path: Path) -> Any:
    """What a hard link leads to."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(
            f"{path.name!r} is refused: {group.name.rstrip('/')}/{name} is a link to another place or file. The "
            "weights themselves must be in it."
        )
    return group[name]


def _stored(dataset: Any, key: str, path: Path) -> StoredTensor:
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{path.name!r} is refused: {key!r} takes its values from another file.")
    filters = dataset.id.get_create_plist()
    if any(filters.get_filter(number)[0] not in _PLAIN_FILTERS for number in range(filters.get_nfilters())):
        raise ValueError(f"{path.name!r} is refused: {key!r} is packed in a way that needs a further library.")
    if math.prod(dataset.chunks or ()) > _MAX_CHUNK:
        raise ValueError(
            f"{path.name!r} is refused: {key!r} is packed in one piece of {math.prod(dataset.chunks):,} values."
        )
    shape = tuple(int(size) for size in dataset.shape or ())
    return StoredTensor(shape, str(dataset.dtype.newbyteorder("=")), partial(_values, path, dataset.name, key))


def _values(path: Path, name: str, key: str) -> np.ndarray:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            values = np.asarray(file[name][()])
    except _DAMAGE as error:
        raise ValueError(f"{path.name!r} is damaged in {key!r}: {first_line(error)}") from error
    return values.astype(values.dtype.newbyteorder("<"), copy=False)
