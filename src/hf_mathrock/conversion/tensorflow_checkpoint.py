# SPDX-License-Identifier: Apache-2.0
"""TensorFlow's checkpoints ("tensor bundles", format V2) read without TensorFlow, and without running anything.

A checkpoint of prefix P is `P.index`, a sorted table in LevelDB's format that says of each variable its type, shape,
place and checksum, and `P.data-00000-of-00001`, the bare values. The table's values are protocol buffers of a few
numbers. Nothing in either is code; the graph beside them, `P.meta`, is not needed and not looked at.

Source of the format: TensorFlow's `tensorflow/core/protobuf/tensor_bundle.proto` and LevelDB's `doc/table_format.md`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from hf_mathrock.conversion.report import stand_in
from hf_mathrock.conversion.stored_tensor import StoredTensor

_MAX_INDEX_BYTES = 2**22  # that of a thousand tensors has a hundred kilobytes
# A key repeats any part of the one before it and blocks may be named twice: a small table can claim endless entries.
_MAX_ENTRIES, _MAX_KEY_BYTES = 10_000, 1000
_TABLE_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_DTYPES = {1: "float32", 2: "float64", 3: "int32", 9: "int64", 19: "float16"}


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of some bytes.

    The register is linear in state and data, so that the data's parts run side by side from zero, and are put together
    by what that many zero bytes make of the state before them.
    """
    values = np.frombuffer(data, dtype=np.uint8)
    num_parts = max(1, min(4096, len(values) // 256))
    length = len(values) // num_parts
    # After the parts' registers stand those of the 32 single bits, which see zeros only.
    bits = np.left_shift(np.uint32(1), np.arange(32, dtype=np.uint32))
    states = np.concatenate([np.zeros(num_parts, dtype=np.uint32), bits])
    column = np.zeros(len(states), dtype=np.uint32)
    parts = values[: num_parts * length].reshape(num_parts, length)
    for position in range(length):
        column[:num_parts] = parts[:, position]
        states = _CRC_TABLE[(states ^ column) & 0xFF] ^ (states >> np.uint32(8))
    images = states[num_parts:]
    state = np.uint32(0xFFFFFFFF)
    for part in states[:num_parts]:
        state = np.bitwise_xor.reduce(images[(state & bits) != 0], initial=np.uint32(0)) ^ part
    for value in values[num_parts * length :]:
        state = _CRC_TABLE[(state ^ value) & 0xFF] ^ (state >> np.uint32(8))
    return int(state) ^ 0xFFFFFFFF


def _crc_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> np.uint32(1)) ^ np.uint32(0x82F63B78), table >> np.uint32(1))
    return table.astype(np.uint32)


_CRC_TABLE = _crc_table()


def masked_crc32c(data: bytes) -> int:
    """CRC-32C as TensorFlow and LevelDB store it."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def checkpoint_prefix(source: Path) -> str:
    """The prefix of the checkpoint that a folder holds, or that one of its files belongs to.

    Args:
        source: The folder, or its `.index`, `.meta` or `.data-…` file; names may begin with these, as musicnn's do.

    Raises:
        ValueError: There is no checkpoint, or more than one.
    """
    if not source.is_dir():
        for ending in (".index", ".meta", ".data-"):
            if ending in source.name:
                return f"{source.parent}/{source.name[: source.name.rindex(ending)]}"
        source = source.parent
    names = sorted(file.name.removesuffix(".index") for file in source.glob("*.index"))
    if len(names) == 1:
        return f"{source}/{names[0]}"
    if not names:
        raise ValueError(
            f"{str(source)!r} holds no TensorFlow checkpoint: expected a file whose name ends in .index and, beside "
            "it, one in .data-00000-of-00001."
        )
    raise ValueError(f"{str(source)!r} holds {len(names)} checkpoints; name one: {', '.join(names)}.index.")


def read_tensorflow_checkpoint(prefix: str) -> dict[str, StoredTensor]:
    """The variables of a checkpoint by name, unread.

    Args:
        prefix: Path of its files up to `.index`.

    Raises:
        FileNotFoundError: There is no index, or no data beside it.
        ValueError: The index is none or damaged, or of a kind that is not read here.
    """
    index = Path(f"{prefix}.index")
    if not index.is_file():
        raise FileNotFoundError(f"There is no file {str(index)!r}.")
    try:
        header, entries = _read_index(index)
        missing = [path for shard in range(header.num_shards) if not (path := header.data(prefix, shard)).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{missing[0].name!r}, the values of the checkpoint, is not beside {index.name!r}: fetch that file too."
            )
        return {name: _stored(name, entry, header.data(prefix, entry.shard)) for name, entry in entries.items()}
    except (IndexError, KeyError, struct.error, UnicodeDecodeError, OverflowError) as error:
        raise ValueError(f"{index.name!r} is damaged: {error}.") from error


@dataclass
class _Header:
    num_shards: int = 1
    big_endian: bool = False

    def data(self, prefix: str, shard: int) -> Path:
        return Path(f"{prefix}.data-{shard:05d}-of-{self.num_shards:05d}")


@dataclass
class _Entry:
    dtype: int = 0
    shape: list[int] = field(default_factory=list)
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc: int = 0
    is_sliced: bool = False


def _read_index(path: Path) -> tuple[_Header, dict[str, _Entry]]:
    if instead := stand_in(path):
        raise ValueError(f"{path.name!r} {instead}")
    if path.stat().st_size > _MAX_INDEX_BYTES:
        raise ValueError(f"{path.name!r} has {path.stat().st_size:,} bytes; no index of a checkpoint is that large.")
    table = path.read_bytes()
    if len(table) < _FOOTER_BYTES or struct.unpack("<Q", table[-8:])[0] != _TABLE_MAGIC:
        raise ValueError(f"{path.name!r} is no index of a TensorFlow checkpoint, or only the beginning of one.")
    _, position = _block_handle(table, len(table) - _FOOTER_BYTES)  # of the table's own statistics
    root, _ = _block_handle(table, position)
    header, entries = _Header(), {}
    handles = (_block_handle(value, 0)[0] for _, value in _not_endless(_block(table, *root, path.name), path.name))
    blocks = (_block(table, *handle, path.name) for handle in handles)
    for key, message in _not_endless(chain.from_iterable(blocks), path.name):
        if key == b"":
            header = _header(message)
        else:
            entries[key.decode()] = _entry(message)
    if header.big_endian:
        raise ValueError(f"{path.name!r} was written on a big-endian machine, which is not read here.")
    if not 0 < header.num_shards <= 1000:
        raise ValueError(f"{path.name!r} is damaged: it names {header.num_shards} files of values.")
    if elsewhere := [name for name, entry in entries.items() if entry.shard >= header.num_shards]:
        raise ValueError(f"{path.name!r} is damaged: {elsewhere[0]!r} lies in none of its files of values.")
    return header, entries


def _not_endless(entries: Iterable[tuple[bytes, bytes]], name: str) -> Iterator[tuple[bytes, bytes]]:
    for number, entry in enumerate(entries):
        if number == _MAX_ENTRIES:
            raise ValueError(f"{name!r} is refused: it lists more than {_MAX_ENTRIES:,} blocks or variables.")
        yield entry


def _stored(name: str, entry: _Entry, data: Path) -> StoredTensor:
    dtype = "a part of a variable" if entry.is_sliced else _DTYPES.get(entry.dtype, f"TensorFlow type {entry.dtype}")
    return StoredTensor(tuple(entry.shape), dtype, partial(_values, name, entry, data))


def _values(name: str, entry: _Entry, data: Path) -> np.ndarray:
    dtype = np.dtype(_DTYPES[entry.dtype]).newbyteorder("<")
    if entry.size != math.prod(entry.shape) * dtype.itemsize:
        raise ValueError(f"{data.name!r}: {name!r} claims shape {tuple(entry.shape)} and {entry.size} bytes.")
    if entry.offset + entry.size > data.stat().st_size:
        instead = stand_in(data)
        raise ValueError(f"{data.name!r} {instead or f'ends before {name!r} does: it is incomplete. Fetch it again.'}")
    with data.open("rb") as file:
        file.seek(entry.offset)
        content = file.read(entry.size)
    if masked_crc32c(content) != entry.crc:
        raise ValueError(f"{data.name!r} is damaged: the checksum of {name!r} is wrong. Fetch the file again.")
    return np.frombuffer(content, dtype=dtype).reshape(entry.shape)


# LevelDB's table: blocks of keys in order, each key without what it shares with the one before it.


def _block_handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    """`(offset, size)` of a block, and the position behind."""
    offset, position = _varint(data, position)
    size, position = _varint(data, position)
    return (offset, size), position


def _block(table: bytes, offset: int, size: int, name: str) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block."""
    block = table[offset : offset + size]
    if len(block) < size or offset + size + 5 > len(table) or size < 4:
        raise ValueError(f"{name!r} is damaged: it names a block outside itself.")
    compression, crc = struct.unpack_from("<BI", table, offset + size)
    if masked_crc32c(table[offset : offset + size + 1]) != crc:
        raise ValueError(f"{name!r} is damaged: a checksum is wrong. Fetch the file again.")
    if compression:
        raise ValueError(f"{name!r} is compressed, as TensorFlow itself writes none; it is not read here.")
    (num_restarts,) = struct.unpack("<I", block[-4:])
    end = size - 4 - 4 * num_restarts
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + unshared]
        if len(key) > _MAX_KEY_BYTES:
            raise ValueError(f"{name!r} is refused: it holds a name of more than {_MAX_KEY_BYTES:,} characters.")
        position += unshared
        yield key, block[position : position + length]
        position += length


# Protocol buffers: numbered fields, each a number or some bytes.


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number of up to 64 bits, and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise OverflowError("a number has more than 64 bits")


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        value: int | bytes
        if kind == 0:
            value, position = _varint(message, position)
        elif kind == 2:
            length, position = _varint(message, position)
            value, position = message[position : position + length], position + length
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value = int.from_bytes(message[position : position + size], "little")
            position += size
        else:
            raise IndexError(f"a field of unknown kind {kind}")
        yield number, value


def _numbers(message: bytes) -> dict[int, int]:
    return {number: value for number, value in _fields(message) if isinstance(value, int)}


def _header(message: bytes) -> _Header:
    values = _numbers(message)
    return _Header(values.get(1, 0), bool(values.get(2, 0)))


def _entry(message: bytes) -> _Entry:
    values = _numbers(message)
    entry = _Entry(values.get(1, 0), [], values.get(3, 0), values.get(4, 0), values.get(5, 0), values.get(6, 0))
    for number, value in _fields(message):
        if number == 2 and isinstance(value, bytes):
            entry.shape = [_numbers(size).get(1, 0) for inner, size in _fields(value) if isinstance(size, bytes)]
        entry.is_sliced |= number == 7
    return entry
