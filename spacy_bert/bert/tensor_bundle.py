"""A reader of TensorFlow's checkpoints (the "V2" format, tensor bundles) without TensorFlow.

`PREFIX.index` is a table in LevelDB's format: sorted keys in blocks, each key without what it
shares with the one before, each block with a checksum. The empty key holds a `BundleHeaderProto`;
every other key is the name of a tensor and holds a `BundleEntryProto`: type, shape, and where in
`PREFIX.data-00000-of-00001` (or more such files) its bytes are.

Source: tensorflow/core/protobuf/tensor_bundle.proto and tensorflow/core/lib/io/table_format.txt.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_MAGIC = 0xDB4775248B80FB57
_FOOTER_SIZE = 48
_TRAILER = struct.Struct("<BI")  # after each block: kind of compression, masked CRC-32C

# tensorflow/core/framework/types.proto -> how the bytes lie, what torch calls it. numpy has no
# bfloat16: its bytes are taken for integers.
_DTYPES = {
    1: ("<f4", torch.float32),
    2: ("<f8", torch.float64),
    3: ("<i4", torch.int32),
    9: ("<i8", torch.int64),
    14: ("<i2", torch.bfloat16),
    19: ("<f2", torch.float16),
}

# Field number -> values in the order of the message.
_Message: TypeAlias = "dict[int, list[int | bytes]]"


@dataclass(frozen=True)
class TensorInfo:
    """What the index says of one tensor.

    Attributes:
        dtype: None for a type that is not read (text, for one).
        layout: how numpy takes its bytes.
        shape: its sizes.
        shard: number of the data file.
        offset: first byte in it.
        size: bytes in it.
        sliced: whether it is kept in parts under other keys, as partitioned variables are.
    """

    dtype: torch.dtype | None
    layout: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    sliced: bool


class TensorBundle(Mapping[str, Tensor]):
    """The tensors of a checkpoint by name, read when asked for, memory-mapped.

    Attributes:
        index: the file `PREFIX.index`.
        info: type, shape and place of each tensor.
    """

    def __init__(self, prefix: str | Path) -> None:
        """Read the index.

        Args:
            prefix: path without `.index`, such as `uncased_L-12_H-768_A-12/bert_model.ckpt`.

        Raises:
            ValueError: if the index is missing, damaged or of another format; names the file.
        """
        self._prefix = Path(prefix)
        self.index = self._prefix.with_name(f"{self._prefix.name}.index")
        if not self.index.is_file():
            raise ValueError(f"{self.index}: not found; the index of a TensorFlow checkpoint")
        try:
            entries = dict(_read_table(self.index.read_bytes()))
            header = _read_message(entries.pop(b""))
            self._shards = _integer(header, 1, default=1)
            if _integer(header, 2):
                raise _Damage("written on a big-endian machine, which is not supported")
            self.info = {
                key.decode("utf8", "backslashreplace"): _read_entry(entries[key]) for key in entries
            }
        except _Damage as error:
            raise ValueError(f"{self.index}: {error}") from None
        except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:
            raise ValueError(
                f"{self.index}: damaged index of a TensorFlow checkpoint ({error!r})"
            ) from None
        self._data: dict[int, npt.NDArray[np.uint8]] = {}

    def __getitem__(self, name: str) -> Tensor:
        """One tensor, a copy-on-write view of the file.

        Raises:
            KeyError: if there is no tensor of that name.
            ValueError: if its type is not read, or its file is missing or truncated.
        """
        info = self.info[name]
        if info.sliced:
            raise ValueError(
                f"{self.index}: tensor {name!r} is a partitioned variable; save the checkpoint "
                "without a partitioner"
            )
        if info.dtype is None:
            raise ValueError(f"{self.index}: tensor {name!r} is of a type that is not read")
        if info.size != math.prod(info.shape) * info.dtype.itemsize:
            raise ValueError(
                f"{self.index}: tensor {name!r} has {info.size} bytes, which is not what shape "
                f"{info.shape} of {info.dtype} takes; the index is damaged"
            )
        data = self._shard(info.shard)
        if info.offset + info.size > len(data):
            raise ValueError(
                f"{self._shard_file(info.shard)}: truncated: has {len(data)} bytes, tensor "
                f"{name!r} ends at {info.offset + info.size}; fetch it again"
            )
        array = data[info.offset : info.offset + info.size].view(info.layout).reshape(info.shape)
        if not array.flags.aligned:
            array = array.copy()
        return torch.from_numpy(array).view(info.dtype)

    def __iter__(self) -> Iterator[str]:
        """The names, sorted as in the index."""
        return iter(self.info)

    def __len__(self) -> int:
        """How many tensors there are."""
        return len(self.info)

    def __contains__(self, name: object) -> bool:
        """Whether there is a tensor of that name; it is not read."""
        return name in self.info

    def _shard_file(self, number: int) -> Path:
        return self._prefix.with_name(
            f"{self._prefix.name}.data-{number:05d}-of-{self._shards:05d}"
        )

    def _shard(self, number: int) -> npt.NDArray[np.uint8]:
        if number not in self._data:
            file = self._shard_file(number)
            if not file.is_file():
                raise ValueError(f"{file}: not found; {self.index.name} says that it holds tensors")
            # An empty file cannot be mapped. Mapped copy-on-write, since torch knows no
            # read-only tensors.
            empty = file.stat().st_size == 0
            self._data[number] = np.asarray(
                np.empty(0, np.uint8) if empty else np.memmap(file, np.uint8, mode="c")
            )
        return self._data[number]


class _Damage(ValueError):
    """What is wrong with an index, in words for the user."""


class _Block(NamedTuple):
    """Where a block is in the file; its trailer comes after it."""

    offset: int
    size: int


def _read_table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a LevelDB table, in order."""
    if len(data) < _FOOTER_SIZE or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise _Damage("not the index of a TensorFlow checkpoint, or truncated; fetch it again")
    footer = data[-_FOOTER_SIZE:]
    position = 0
    for _ in range(2):  # where the metaindex is, which is empty
        _, position = _read_varint(footer, position)
    handle, _ = _read_handle(footer, position)
    for _, value in _read_block(data, handle):
        yield from _read_block(data, _read_handle(value, 0)[0])


def _read_block(data: bytes, block: _Block) -> Iterator[tuple[bytes, bytes]]:
    end = block.offset + block.size
    compression, checksum = _TRAILER.unpack(data[end : end + _TRAILER.size])
    if checksum != _masked_crc32c(data[block.offset : end + 1]):
        raise _Damage("damaged: the checksum of a block is wrong; fetch it again")
    if compression:
        raise _Damage("its blocks are compressed, which TensorFlow's checkpoints are not")
    content = data[block.offset : end]
    # The restart points, for binary search in the block, are not needed to read it through.
    (restarts,) = struct.unpack("<I", content[-4:])
    end_of_entries = len(content) - 4 * (restarts + 1)
    key = b""
    position = 0
    while position < end_of_entries:
        shared, position = _read_varint(content, position)
        added, position = _read_varint(content, position)
        size, position = _read_varint(content, position)
        key = key[:shared] + content[position : position + added]
        position += added
        yield key, content[position : position + size]
        position += size


def _read_handle(data: bytes, position: int) -> tuple[_Block, int]:
    offset, position = _read_varint(data, position)
    size, position = _read_varint(data, position)
    return _Block(offset, size), position


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """An unsigned integer, seven bits a byte, lowest first, and the position after it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _read_message(data: bytes) -> _Message:
    """A protocol buffer, without its schema."""
    fields: _Message = {}
    position = 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        value: int | bytes
        if tag & 7 == 0:
            value, position = _read_varint(data, position)
        else:
            if tag & 7 == 2:
                size, position = _read_varint(data, position)
            else:
                size = {1: 8, 5: 4}[tag & 7]
            value = data[position : position + size]
            position += size
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _read_entry(data: bytes) -> TensorInfo:
    """A `BundleEntryProto`."""
    entry = _read_message(data)
    shape = _read_message(_bytes(entry, 2))
    layout, dtype = _DTYPES.get(_integer(entry, 1), ("", None))
    return TensorInfo(
        dtype=dtype,
        layout=layout,
        shape=tuple(
            _integer(_read_message(size), 1) for size in shape.get(2, []) if isinstance(size, bytes)
        ),
        shard=_integer(entry, 3),
        offset=_integer(entry, 4),
        size=_integer(entry, 5),
        sliced=7 in entry,
    )


def _integer(message: _Message, field: int, *, default: int = 0) -> int:
    value = message.get(field, [default])[-1]
    if not isinstance(value, int):
        raise TypeError(f"field {field} is no integer")
    return value


def _bytes(message: _Message, field: int) -> bytes:
    value = message.get(field, [b""])[-1]
    if not isinstance(value, bytes):
        raise TypeError(f"field {field} is no message")
    return value


def _crc32c_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC32C = _crc32c_table()


def _masked_crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), rotated and shifted as LevelDB stores it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
