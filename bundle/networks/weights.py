"""Weights from files: tensors only, never pickled objects."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bundle.files import require_file

__all__ = ["load_weights", "read_weights"]


def read_weights(path: str | PathLike[str], expected: str) -> dict[str, Any]:
    """
    A ``state_dict`` from a file.

    Args:
        path: the file.
        expected: what it should be, for the messages.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {expected}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of torch, of zipfile, of pickle: whatever the file is
        raise ValueError(f"{path}: cannot be read as weights ({type(error).__name__}); {expected}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path}: holds a {type(state).__name__}; {expected}")
    return state


def load_weights(network: nn.Module, path: str | PathLike[str], hint: str) -> nn.Module:
    """
    A network with the weights that a stage has written, frozen and in evaluation mode.

    Args:
        network: the network; its weights are replaced.
        path: a ``state_dict`` of it.
        hint: which stage writes the file.

    Raises:
        FileNotFoundError: naming ``path`` and the hint.
        ValueError: a file of another kind, or weights of another network.
    """
    state = read_weights(require_file(path, hint), hint)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path}: weights of another network ({str(error).splitlines()[-1].strip()})") from error
    return network.requires_grad_(False).eval()
