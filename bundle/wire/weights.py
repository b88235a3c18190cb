"""Weights of a network as bytes that hold no code, and what is checked of them before they are anybody's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from bundle.text import shown
from bundle.wire.guards import Violation, by

__all__ = ["check_weights", "largest_packed", "pack_weights", "packed_digest", "unpack_weights"]

_A_NAME = 512  # bytes that a tensor takes in the header, beside those of its name


def pack_weights(weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """
    Weights as one safetensors file (https://github.com/huggingface/safetensors), a message's field: every bit stays as
    it is, whatever precision a codec gives to images. The same weights give the same bytes.

    Args:
        weights: a ``state_dict``, on any device.

    Returns:
        The file's bytes, uint8.
    """
    held = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    return torch.frombuffer(bytearray(save(held)), dtype=torch.uint8)


def packed_digest(packed: torch.Tensor) -> str:
    """SHA-256 of packed weights, as 64 hexadecimal digits: by which server and sites name them."""
    return hashlib.sha256(packed.cpu().numpy().tobytes()).hexdigest()


def largest_packed(network: Mapping[str, torch.Tensor]) -> int:
    """Bytes that the packed weights of a network can take at most, from its ``state_dict``."""
    names = sum(len(json.dumps(name)) + _A_NAME for name in network)
    return 64 + names + sum(tensor.numel() * tensor.element_size() for tensor in network.values())


def unpack_weights(packed: torch.Tensor, network: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """
    The inverse of :func:`pack_weights`, for bytes from anywhere. Nothing of them is believed before it is compared with
    the network that the weights are for.

    Args:
        packed: the bytes.
        network: ``state_dict`` of that network.

    Raises:
        Violation: too many bytes, no safetensors file, or see :func:`check_weights`.
    """
    if not isinstance(packed, torch.Tensor) or packed.dtype != torch.uint8 or packed.ndim != 1:
        raise Violation("weights: expected the bytes of a safetensors file")
    most = largest_packed(network)
    if packed.numel() > most:
        raise Violation(f"weights of {packed.numel()} bytes, expected at most {most} for this network")
    try:
        weights = load(packed.cpu().numpy().tobytes())
    except (SafetensorError, LookupError, ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise Violation(f"weights: expected a safetensors file ({shown(type(error).__name__)})") from None
    check_weights(weights, network)
    return {name: weights[name] for name in network}


def check_weights(weights: Mapping[str, object], network: Mapping[str, torch.Tensor]) -> None:
    """
    Args:
        weights: by name, of whoever sent or wrote them.
        network: ``state_dict`` of the network that they are for.

    Raises:
        Violation: a name that the network does not have, one that is missing, another shape or dtype, or a number that
            is not finite. The message is short, whatever the names are.
    """
    absent, strange = network.keys() - weights.keys(), weights.keys() - network.keys()
    if absent or strange:
        first = sorted(map(str, absent or strange))[0]
        raise Violation(
            f"weights of another network: {'without' if absent else 'with'} {shown(first)[:80]!r} "
            f"({len(absent)} of its {len(network)} tensors are missing, {len(strange)} are none of it)"
        )
    for name, expected in network.items():
        found = weights[name]
        if not isinstance(found, torch.Tensor):
            raise Violation(f"weights of another network: {name} is a {type(found).__name__}, expected a tensor")
        if found.dtype != expected.dtype or found.shape != expected.shape:
            raise Violation(f"weights of another network: {name} is {_said(found)}, expected {_said(expected)}")
        if found.is_floating_point() and not torch.isfinite(found).all():
            raise Violation(f"weights: {name} has numbers that are not finite")


def _said(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {by(tensor.shape) or 'of no dimension'}"
