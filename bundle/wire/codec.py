"""Messages ↔ bytes.

A message is one safetensors file (https://github.com/huggingface/safetensors): its tensors, and the other fields as
JSON in the header. The format holds no code, so decoding can run none. Where a tensor is stored otherwise than it is,
the header says so; where the whole is compressed, it is a Zstandard frame (RFC 8878), whose first bytes say so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch
import zstandard
from safetensors import SafetensorError
from safetensors.torch import load, save

from bundle.seeding import derive_seed
from bundle.text import shown
from bundle.wire.messages import MESSAGES, Message, check_fields
from bundle.wire.quantization import PRECISIONS, pack_mask, quantize, restore, restored_size
from bundle.wire.traffic import WireLedger

__all__ = ["MAX_BYTES", "MAX_HEADER_BYTES", "Codec", "WireLedger"]

MAX_BYTES = 2**27
"""What a compressed message may grow to where its sender is trusted: 500 float32 images of 256×256."""

MAX_HEADER_BYTES = 2**16
"""Names, numbers and shapes of a message: JSON takes many times its length in memory."""

_TO_SITES = ("OpenRequest", "SyntheticBatch", "ConditionRequest", "ScoreRequest", "RoundRequest")
# a frame's first bytes; in a safetensors file they would be part of a header's length of 4 GB
_ZSTD = zstandard.FRAME_HEADER
# by which a mask in bits grows, more than all else
_LARGEST_GROWTH = 8
_UNREADABLE = (LookupError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError, AssertionError)


@dataclass(frozen=True)
class Codec:
    """
    Encodes the messages of :mod:`bundle.wire.messages`, and nothing else.

    Floats are stored in the precision of their direction (:func:`bundle.wire.quantization.quantize` says what
    each costs), uint8 that is 0 and 1 only as bits, other uint8 as it is; strings, integers and losses stay exact. A
    message and the codec determine the bytes: what is random is drawn from (seed, message, site, step, field).
    Strings are :func:`bundle.text.is_text`, whoever sends them.

    Args:
        to_sites: precision of images: "float32" (exact), "float16" or "int8".
        from_sites: precision of image gradients, likewise.
        compression: of whole messages, where it makes them smaller: None or "zstd".
        level: of zstd, 1 (fast) to 22.
        seed: seed of the run, for the rounding to int8.

    Raises:
        ValueError: for any other precision, compression or level.
    """

    to_sites: str = "float32"
    from_sites: str = "float32"
    compression: str | None = None
    level: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for precision in (self.to_sites, self.from_sites):
            if precision not in PRECISIONS:
                raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
        if self.compression not in (None, "zstd"):
            raise ValueError(f"compression: expected None or zstd, got {self.compression!r}")
        if not 1 <= self.level <= 22:
            raise ValueError(f"level: expected 1 to 22, got {self.level}")

    @property
    def name(self) -> str:
        """How ``results.json`` calls it: ``"float32"``, ``"int8/int8+zstd"`` (to sites / from sites)."""
        exact = self.to_sites == self.from_sites == "float32"
        precision = "float32" if exact else f"{self.to_sites}/{self.from_sites}"
        return precision if self.compression is None else f"{precision}+{self.compression}"

    def encode(self, message: Message) -> bytes:
        """
        Args:
            message: an instance of one of the types in ``MESSAGES``, with tensors of floats, which become float32, and
                uint8.

        Raises:
            TypeError: for any other object or tensor.
            ValueError: when a field has a value of another type, or text that may not cross; when all but the tensors
                takes more than ``MAX_HEADER_BYTES``.
        """
        kind = type(message).__name__
        if MESSAGES.get(kind) is not type(message):
            raise TypeError(f"only messages cross between server and sites ({', '.join(MESSAGES)}), not {kind}")
        values = {field.name: getattr(message, field.name) for field in fields(message)}
        check_fields(type(message), values)
        tensors, encodings, size = {}, {}, 0
        for name in [name for name, value in values.items() if isinstance(value, torch.Tensor)]:
            array = _to_numpy(values.pop(name), f"{kind}.{name}")
            size += array.nbytes
            stored, encoding = self._store(array, message, name)
            tensors[name] = torch.from_numpy(stored)
            if encoding is not None:
                encodings[name] = encoding
        header = {"kind": kind} | ({"encodings": encodings} if encodings else {}) | values
        # one entry: safetensors writes several in an order that changes from call to call
        data = save(tensors, metadata={"message": json.dumps(header)})
        if _header_length(data) > MAX_HEADER_BYTES:
            raise ValueError(
                f"{kind}: expected at most {MAX_HEADER_BYTES} bytes beside the tensors, got {_header_length(data)}"
            )
        # what is larger is sent as it is: a receiver with no better limit could not tell it from a bomb
        if self.compression == "zstd" and size + len(data) <= MAX_BYTES:
            data = min(zstandard.ZstdCompressor(level=self.level, write_checksum=True).compress(data), data, key=len)
        return data

    def decode(self, data: bytes, limits: Mapping[str, int] | None = None) -> Message:
        """
        The message, whatever codec encoded it; float32 and uint8 tensors. Nothing in ``data`` is believed before it is
        checked, and no more memory is asked for than a few times the largest limit.

        Args:
            data: what :meth:`encode` returned, or anything else.
            limits: the types of message that may come, by name, with the bytes that the tensors of each may take when
                they are decoded (:class:`bundle.wire.Limits`). None where the sender is trusted: any type, and
                as much as ``MAX_BYTES`` or as so many bytes can hold without compression.

        Raises:
            ValueError: when ``data`` is not a message or larger than its limit: another type, missing or additional
                fields, values of another type, a name twice, not safetensors. The text is on one line, and short.
        """
        if limits is None:
            limits = dict.fromkeys(MESSAGES, max(MAX_BYTES, _LARGEST_GROWTH * len(data)))
        most = max(limits.values()) + MAX_HEADER_BYTES
        if len(data) > most:
            raise ValueError(f"expected a message of at most {most} bytes, got {len(data)}")
        try:
            if data[: len(_ZSTD)] == _ZSTD:
                data = _decompress(data, most)
            cls, values, encodings = _read_header(data, limits)
            stored = {name: tensor.numpy() for name, tensor in load(data).items()}
            unknown = set(encodings) - set(stored)
            if unknown or set(values) & set(stored):
                raise ValueError(f"the encoding of no tensor, or a field twice, among {sorted([*encodings, *values])}")
            size = sum(restored_size(array, encodings.get(name)) for name, array in stored.items())
            if size > limits[cls.__name__]:
                raise ValueError(f"tensors of {size} bytes, expected at most {limits[cls.__name__]}")
            values |= {name: torch.from_numpy(restore(a, encodings.get(name))) for name, a in stored.items()}
            check_fields(cls, values)
        # what json, safetensors and zstandard raise for bytes that are none of theirs; RuntimeError: nesting, shapes
        except (SafetensorError, zstandard.ZstdError, *_UNREADABLE) as error:
            # quoted and cut: the sender may have a say in its text, which ends in a log
            raise ValueError(f"not a message between server and site: {shown(repr(error))}") from None
        return cls(**values)

    def _store(self, array: np.ndarray, message: Message, field: str) -> tuple[np.ndarray, dict | None]:
        if array.dtype == np.uint8:
            return pack_mask(array)
        kind = type(message).__name__
        place = getattr(message, "step", getattr(message, "start", 0))
        precision = self.to_sites if kind in _TO_SITES else self.from_sites
        # they are images of float16 already, and stay what the site's ledger says
        precision = "float16" if kind == "TaughtBatch" else precision
        return quantize(array, precision, lambda: derive_seed(self.seed, "codec", kind, message.site, place, field))


def _to_numpy(tensor: torch.Tensor, name: str) -> np.ndarray:
    if not tensor.is_floating_point() and tensor.dtype != torch.uint8:
        raise TypeError(f"{name}: expected a tensor of floats or of uint8, got {tensor.dtype}")
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).contiguous().numpy()


def _header_length(data: bytes) -> int:
    """Of a safetensors file: its first 64 bits, little-endian."""
    return int.from_bytes(data[:8], "little")


def _read_header(data: bytes, limits: Mapping[str, int]) -> tuple[type[Message], dict, dict]:
    """The type of the message, its values but for the tensors, and the encodings of those."""
    length = _header_length(data)
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes, expected at most {MAX_HEADER_BYTES}")
    # load() leaves the metadata out; the header is JSON behind its length
    header = json.loads(data[8 : 8 + length], object_pairs_hook=_once)
    values = json.loads(header["__metadata__"]["message"], object_pairs_hook=_once)
    kind = values.pop("kind")
    if kind not in limits:
        raise ValueError(f"expected {' or '.join(sorted(limits))}, got another type of message")
    return MESSAGES[kind], values, values.pop("encodings", {})


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Of a name that stands twice, two readers may take different ones."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name that stands twice")
    return found


def _decompress(data: bytes, limit: int) -> bytes:
    size = zstandard.frame_content_size(data)
    # -1 is a frame that does not say; what says too little ends with an error, for its size is all the room it gets
    if not 0 < size <= limit:
        raise ValueError(f"a compressed message of {size} bytes, expected 1 to {limit}")
    return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
