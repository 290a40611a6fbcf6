# SPDX-License-Identifier: Apache-2.0
"""Lists, dicts and arrays out of pickle files that strangers published, without running what a pickle may hold.

`pickle.load` calls any function that a file names. Here only the handful of names that stand for a NumPy array are
known, and even these lead to stand-ins that note what they are given: no array is made until its type and size have
been checked, and any other name is an error. Nor can a small file fill the memory: values that a file names again and
again are not multiplied, and Python's own reader takes the place of the one in C, which makes room for as many values
as the file claims.

Source: "Restricting Globals" in the documentation of Python's `pickle`, and the pickled form of NumPy's arrays.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

_ARRAY_MAKERS = {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")}
_PLAIN_KINDS = "biufSU"


def read_pickle(path: Path) -> Any:
    """What a pickle of Python 2 or 3 holds, of lists, tuples, dicts, numbers, texts and arrays.

    Args:
        path: The file. Texts of Python 2 are read as Latin-1, so they come as `str`.

    Returns:
        The value; arrays as `numpy.ndarray`, those of objects as lists.

    Raises:
        ValueError: The file is damaged, or holds or calls anything else.
    """
    return _read(path, path.read_bytes())


def read_npy(path: Path) -> Any:
    """An array of numbers or texts from an `.npy` file, or a list where it holds Python objects.

    Raises:
        ValueError: The file is no such file, or is damaged.
    """
    try:
        with path.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            first = version == (1, 0)
            header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
            _, _, dtype = header(stream)
            if dtype.hasobject:
                return _read(path, stream.read())
            stream.seek(0)
            return np.lib.format.read_array(stream, allow_pickle=False)
    except (ValueError, MemoryError) as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path} is no array in NumPy's format: {error}. Take the file as published.") from error


def _read(path: Path, content: bytes) -> Any:
    class _Type:
        """Stands for `numpy.dtype`."""

        name: Any
        order: Any = "="

        def __setstate__(self, state: Any) -> None:
            self.order = _text(state[1])
            if state[2] is not None or state[3] is not None or state[4] is not None:
                raise ValueError("an array with fields")

    class _Array:
        """Stands for an array that is filled by its state."""

        state: Any = None

        def __setstate__(self, state: Any) -> None:
            self.state = state

        def value(self) -> Any:
            _, shape, kind, by_columns, data = self.state
            if not isinstance(kind, _Type):
                raise ValueError("an array without a type")
            if kind.name.startswith("O"):
                return [filled(entry) for entry in data]
            dtype = np.dtype(kind.name).newbyteorder("=" if kind.order == "|" else kind.order)
            if dtype.kind not in _PLAIN_KINDS:
                raise ValueError(f"an array of type {kind.name!r}")
            flat = np.frombuffer(data if isinstance(data, bytes) else data.encode("latin-1"), dtype)
            return flat.reshape(shape, order="F" if by_columns else "C")

    def make_type(name: Any, *_: Any) -> _Type:
        made = _Type()
        made.name = _text(name)
        return made

    def make_array(*_: Any) -> _Array:
        return _Array()

    def encoded(text: str, _: Any = None) -> bytes:
        return text.encode("latin-1")  # bytes, as Python 3 writes them into old formats

    class _Unpickler(pickle._Unpickler):
        # A bytearray is filled with as many zeros as the file claims, before any of it is read.
        dispatch = {code: load for code, load in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]}

        def find_class(self, module: str, name: str) -> Any:
            if (module, name) in _ARRAY_MAKERS:
                return make_array
            if (module, name) == ("numpy", "ndarray"):
                return _Array
            if (module, name) == ("numpy", "dtype"):
                return make_type
            if (module, name) == ("_codecs", "encode"):
                return encoded
            raise ValueError(f"it names {module}.{name}")

    num_left = len(content)  # every value takes a byte at least, unless the same list is named many times

    def filled(value: Any) -> Any:
        nonlocal num_left
        num_left -= 1
        if num_left < 0:
            raise ValueError("it names the same values over and over")
        if isinstance(value, _Array):
            return value.value()
        if isinstance(value, dict):
            return {key: filled(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [filled(entry) for entry in value]
        if value is None or isinstance(value, (str, bytes, int, float)):
            return value
        raise ValueError(f"a {type(value).__name__}")

    try:
        return filled(_Unpickler(io.BytesIO(content), encoding="latin-1").load())
    except Exception as error:  # whatever a crafted or broken file provokes
        raise ValueError(
            f"{path} cannot be read as lists, dicts and arrays: {str(error) or type(error).__name__}. Take the file as "
            "published; nothing else in a pickle is opened here, since it could run any program."
        ) from error


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
