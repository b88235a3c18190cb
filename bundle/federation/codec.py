"""Messages ↔ bytes.

A message is one safetensors file (https://github.com/huggingface/safetensors): its tensors, and the other fields as
JSON in the header. The format holds no code, so decoding can run none. Where a tensor is stored otherwise than it is,
the header says so; where the whole is compressed, it is a Zstandard frame (RFC 8878), whose first bytes say so.
"""

from __future__ import annotations

import json
import types
import typing
from dataclasses import dataclass, fields

import numpy as np
import torch
import zstandard
from safetensors import SafetensorError
from safetensors.torch import load, save

from bundle.federation.ledger import WireLedger
from bundle.federation.messages import MESSAGES, Message
from bundle.federation.quantization import PRECISIONS, pack_mask, quantize, restore, restored_size
from bundle.seeding import derive_seed

__all__ = ["MAX_BYTES", "MAX_HEADER_BYTES", "Codec", "WireLedger", "check_limit"]

MAX_BYTES = 2**27
"""What a compressed message may grow to unless its receiver says otherwise: 500 float32 images of 256×256."""

MAX_HEADER_BYTES = 2**16
"""Names, numbers and shapes of a message: JSON takes many times its length in memory."""

_TO_SITES = ("OpenRequest", "SyntheticBatch", "ConditionRequest")
# a frame's first bytes; in a safetensors file they would be part of a header's length of 4 GB
_ZSTD = zstandard.FRAME_HEADER
# by which a mask in bits grows, more than all else
_LARGEST_GROWTH = 8
_UNREADABLE = (LookupError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError, AssertionError)


@dataclass(frozen=True)
class Codec:
    """
    Encodes the messages of :mod:`bundle.federation.messages`, and nothing else.

    Floats are stored in the precision of their direction (:func:`bundle.federation.quantization.quantize` says what
    each costs), uint8 that is 0 and 1 only as bits, other uint8 as it is; strings, integers and losses stay exact. A
    message and the codec determine the bytes: what is random is drawn from (seed, message, site, step, field).

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
            ValueError: when all but the tensors takes more than ``MAX_HEADER_BYTES``.
        """
        kind = type(message).__name__
        if MESSAGES.get(kind) is not type(message):
            raise TypeError(f"only messages cross between server and sites ({', '.join(MESSAGES)}), not {kind}")
        values = {field.name: getattr(message, field.name) for field in fields(message)}
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

    def decode(self, data: bytes, max_bytes: int | None = None) -> Message:
        """
        The message, whatever codec encoded it; float32 and uint8 tensors. Nothing in ``data`` is believed before it is
        checked, and no more memory is asked for than a few times the limit.

        Args:
            data: what :meth:`encode` returned, or anything else.
            max_bytes: the limit on the received bytes, on the decompressed ones and on the tensors: those of the
                largest message expected, and ``MAX_HEADER_BYTES``. None, where the sender is trusted with
                ``MAX_BYTES``: that, or what as many bytes can hold without compression.

        Raises:
            ValueError: when ``data`` is not a message or larger than the limit: unknown type, missing or additional
                fields, values of another type, not safetensors.
        """
        limit = max(MAX_BYTES, _LARGEST_GROWTH * len(data)) if max_bytes is None else max_bytes
        if len(data) > limit:
            raise ValueError(f"expected a message of at most {limit} bytes, got {len(data)}")
        try:
            if data[: len(_ZSTD)] == _ZSTD:
                data = _decompress(data, limit)
            if _header_length(data) > MAX_HEADER_BYTES:
                raise ValueError(f"a header of {_header_length(data)} bytes, expected at most {MAX_HEADER_BYTES}")
            # load() leaves the metadata out; the header is JSON behind its length
            header = json.loads(data[8 : 8 + _header_length(data)])
            values = json.loads(header["__metadata__"]["message"])
            cls = MESSAGES[values.pop("kind")]
            encodings = values.pop("encodings", {})
            stored = {name: tensor.numpy() for name, tensor in load(data).items()}
            unknown = set(encodings) - set(stored)
            if unknown or set(values) & set(stored):
                raise ValueError(f"the encoding of no tensor, or a field twice, among {sorted([*encodings, *values])}")
            size = sum(restored_size(array, encodings.get(name)) for name, array in stored.items())
            if size > limit:
                raise ValueError(f"tensors of {size} bytes, expected at most {limit}")
            values |= {name: torch.from_numpy(restore(a, encodings.get(name))) for name, a in stored.items()}
            _check_fields(cls, values)
        # what json, safetensors and zstandard raise for bytes that are none of theirs; RuntimeError: nesting, shapes
        except (SafetensorError, zstandard.ZstdError, *_UNREADABLE) as error:
            # quoted and cut: the sender may have a say in its text, which ends in a log
            raise ValueError(f"not a message between server and site: {error!r:.300}") from error
        return cls(**values)

    def _store(self, array: np.ndarray, message: Message, field: str) -> tuple[np.ndarray, dict | None]:
        if array.dtype == np.uint8:
            return pack_mask(array)
        kind = type(message).__name__
        place = getattr(message, "step", getattr(message, "start", 0))
        precision = self.to_sites if kind in _TO_SITES else self.from_sites
        return quantize(array, precision, lambda: derive_seed(self.seed, "codec", kind, message.site, place, field))


def check_limit(max_message_bytes: int) -> int:
    """
    Returns:
        ``max_message_bytes``, what a participant takes at most, for :meth:`Codec.decode`.

    Raises:
        ValueError: when it is not a whole number of at least ``MAX_HEADER_BYTES``.
    """
    value = max_message_bytes
    if not isinstance(value, int) or isinstance(value, bool) or value < MAX_HEADER_BYTES:
        raise ValueError(
            f"max_message_bytes: expected a whole number of at least {MAX_HEADER_BYTES}, got {value!r:.40}"
        )
    return value


def _to_numpy(tensor: torch.Tensor, name: str) -> np.ndarray:
    if not tensor.is_floating_point() and tensor.dtype != torch.uint8:
        raise TypeError(f"{name}: expected a tensor of floats or of uint8, got {tensor.dtype}")
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).contiguous().numpy()


def _header_length(data: bytes) -> int:
    """Of a safetensors file: its first 64 bits, little-endian."""
    return int.from_bytes(data[:8], "little")


def _decompress(data: bytes, limit: int) -> bytes:
    size = zstandard.frame_content_size(data)
    # -1 is a frame that does not say; what says too little ends with an error, for its size is all the room it gets
    if not 0 < size <= limit:
        raise ValueError(f"a compressed message of {size} bytes, expected 1 to {limit}")
    return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)


def _check_fields(cls: type[Message], values: dict) -> None:
    expected = typing.get_type_hints(cls)
    if set(values) != set(expected):
        raise ValueError(f"{cls.__name__} has the fields {sorted(expected)}, not {sorted(values)}")
    for name, hint in expected.items():
        if not _fits(values[name], hint):
            raise ValueError(f"{cls.__name__}.{name}: expected {hint}, got {type(values[name]).__name__}")


def _fits(value: object, hint: object) -> bool:
    if isinstance(hint, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is dict:
        key, item = typing.get_args(hint)
        return isinstance(value, dict) and all(_fits(k, key) and _fits(v, item) for k, v in value.items())
    if hint is int:
        # seeds and counters take 64 bits
        return type(value) is int and abs(value) < 2**63
    if hint is float:
        return type(value) in (int, float)
    return isinstance(value, hint)
