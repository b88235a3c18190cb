"""Checkpoints that say what they are of, and that are whole or refused."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bundle.files import atomic_path, write_torch

__all__ = ["CheckpointError", "DamagedCheckpoint", "load_checkpoint", "previous_path", "save_checkpoint"]

IDENTITY, DIGEST = "identity", "digest"


class CheckpointError(ValueError):
    """A checkpoint that cannot be gone on from; the message names the file and what is wrong."""


class DamagedCheckpoint(CheckpointError):
    """It is not what was written."""


def previous_path(path: str | os.PathLike) -> Path:
    """Where :func:`save_checkpoint` keeps the checkpoint before: ``latest.previous.pt`` for ``latest.pt``."""
    return Path(path).with_suffix(f".previous{Path(path).suffix}")


def save_checkpoint(
    path: str | os.PathLike, state: Mapping[str, Any], identity: Mapping[str, Any], keep_previous: bool = False
) -> None:
    """
    Write a checkpoint; the file is there whole or as it was before.

    Args:
        path: the file: what ``torch.load`` reads, ``state`` with an ``identity`` and a ``digest`` beside.
        state: dictionaries, lists and tuples of tensors and plain values, by name.
        identity: what it is a checkpoint of, plain values by name: role, seed, configuration.
        keep_previous: whether the file that was there becomes :func:`previous_path`.

    Raises:
        OSError: when it cannot be written.
    """
    content = dict(state) | {IDENTITY: dict(identity)}
    with atomic_path(path) as temporary:
        write_torch(temporary, content | {DIGEST: _digest(content)})
        if keep_previous and Path(path).exists():
            os.replace(path, previous_path(path))


def load_checkpoint(
    path: str | os.PathLike, identity: Mapping[str, Any] | None = None, map_location: Any = "cpu"
) -> dict[str, Any]:
    """
    Args:
        path: a file of :func:`save_checkpoint`.
        identity: what it has to be a checkpoint of; None for whatever it is of.
        map_location: device for the tensors.

    Returns:
        The state, as it was saved.

    Raises:
        FileNotFoundError: when there is no such file.
        DamagedCheckpoint: when its content is not what its digest is of, or it has none.
        CheckpointError: when it is a checkpoint of something else.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # of whatever kind: torch raises half a dozen for a damaged file
        kind = type(error).__name__
        raise DamagedCheckpoint(f"the checkpoint {path} is damaged: it cannot be read ({kind})") from None
    if not isinstance(content, dict) or not isinstance(content.get(IDENTITY), dict) or DIGEST not in content:
        raise DamagedCheckpoint(
            f"the checkpoint {path} is damaged, or of another version: expected an identity and a digest in it"
        )
    digest = content.pop(DIGEST)
    try:
        whole = digest == _digest(content)
    except TypeError:
        whole = False
    if not whole:
        raise DamagedCheckpoint(f"the checkpoint {path} is damaged: its content is not what its digest says")
    found = content.pop(IDENTITY)
    if identity is None:
        return content
    if differing := [key for key in {**found, **identity} if found.get(key) != identity.get(key)]:
        said = "; ".join(f"{key} {found.get(key)!r}, expected {identity.get(key)!r}" for key in differing)
        raise CheckpointError(f"the checkpoint {path} is of another training: {said}")
    return content


def _digest(value: Any) -> str:
    digest = hashlib.sha256()
    _add(digest, value)
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    """Each part after its kind and length, so that no two contents give the same bytes."""
    if isinstance(value, torch.Tensor):
        # by way of bytes: numpy knows no bfloat16
        body = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(f"{value.dtype} {list(value.shape)} {body.nbytes}\n".encode())
        digest.update(body)
    elif isinstance(value, Mapping):
        digest.update(f"mapping {len(value)}\n".encode())
        for key, item in value.items():
            _add(digest, key)
            _add(digest, item)
    elif isinstance(value, list | tuple):
        digest.update(f"{'list' if isinstance(value, list) else 'tuple'} {len(value)}\n".encode())
        for item in value:
            _add(digest, item)
    elif value is None or isinstance(value, str | bytes | bool | int | float):
        body = repr(value).encode("utf-8", "backslashreplace")
        digest.update(f"{type(value).__name__} {len(body)}\n".encode() + body)
    else:
        raise TypeError(f"a checkpoint holds tensors and plain values, not a {type(value).__name__}")
