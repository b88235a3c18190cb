"""Messages ↔ bytes, and the count of them.

A message is one safetensors file (https://github.com/huggingface/safetensors): its tensors, and the other fields as
JSON in the header. The format holds no code, so decoding can run none.
"""

from __future__ import annotations

import json
from dataclasses import fields

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from bundle.federation.messages import MESSAGES, Message

__all__ = ["Codec", "WireLedger"]


class Codec:
    """
    Encodes the messages of :mod:`bundle.federation.messages`, and nothing else.

    Tensors keep their dtype: float32 images and gradients, uint8 conditions. The round trip is exact.
    """

    name = "float32"

    def encode(self, message: Message) -> bytes:
        """
        Args:
            message: an instance of one of the types in ``MESSAGES``.

        Raises:
            TypeError: for any other object.
        """
        kind = type(message).__name__
        if MESSAGES.get(kind) is not type(message):
            raise TypeError(f"only messages cross between server and sites ({', '.join(MESSAGES)}), not {kind}")
        values = {field.name: getattr(message, field.name) for field in fields(message)}
        tensors = {k: v.detach().cpu().contiguous() for k, v in values.items() if isinstance(v, torch.Tensor)}
        header = {"kind": kind} | {k: v for k, v in values.items() if k not in tensors}
        return save(tensors, metadata={"message": json.dumps(header)})

    def decode(self, data: bytes) -> Message:
        """
        Raises:
            ValueError: when ``data`` is not a message: unknown type, missing or additional fields, not safetensors.
        """
        try:
            tensors = load(data)
            # load() leaves the metadata out; the header is JSON behind its length, a 64-bit little-endian integer
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            values = json.loads(header["__metadata__"]["message"])
            cls = MESSAGES[values.pop("kind")]
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise ValueError(f"not a message between server and site: {error!r}") from error
        values |= tensors
        expected = {field.name for field in fields(cls)}
        if set(values) != expected:
            raise ValueError(f"{cls.__name__} has the fields {sorted(expected)}, not {sorted(values)}")
        return cls(**values)


class WireLedger:
    """Bytes per site and direction, as encoded, and the number of steps they were sent for."""

    def __init__(self) -> None:
        self.to_sites: dict[str, int] = {}
        self.from_sites: dict[str, int] = {}
        self.steps = 0

    def sent(self, site: str, size: int) -> None:
        self.to_sites[site] = self.to_sites.get(site, 0) + size

    def received(self, site: str, size: int) -> None:
        self.from_sites[site] = self.from_sites.get(site, 0) + size

    def state_dict(self) -> dict:
        return {"to_sites": dict(self.to_sites), "from_sites": dict(self.from_sites), "steps": self.steps}

    def load_state_dict(self, state: dict) -> None:
        self.to_sites, self.from_sites = dict(state["to_sites"]), dict(state["from_sites"])
        self.steps = state["steps"]

    def summary(self) -> dict:
        """The block ``wire`` of ``results.json``."""
        return {
            "bytes_to_sites": sum(self.to_sites.values()),
            "bytes_from_sites": sum(self.from_sites.values()),
            "steps": self.steps,
            "per_site": {
                site: {"to": self.to_sites.get(site, 0), "from": self.from_sites.get(site, 0)}
                for site in sorted(self.to_sites | self.from_sites)
            },
        }
