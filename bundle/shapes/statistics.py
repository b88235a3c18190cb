"""What a shape model knows of the conditions that it was made from, as a file."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from bundle.files import atomic_path
from bundle.shapes.moments import Moments

__all__ = ["ShapeStatistics", "read_statistics", "write_statistics"]

MAX_BYTES = 64 * 2**20
"""Unpacked. Those of a task have less than a thousandth of it."""


@dataclass(frozen=True)
class ShapeStatistics:
    """
    Attributes:
        model: name of the class that made them, and can draw from them.
        arguments: what it was made with.
        moments: by what they are of.
        about: what they are of, for JSON: numbers of patients and of conditions.
    """

    model: str
    arguments: Mapping[str, int]
    moments: Mapping[str, Moments]
    about: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, model: Any, vectors: Mapping[str, Mapping[str, Sequence[np.ndarray]]], counted: str, least: int
    ) -> ShapeStatistics:
        """
        Args:
            model: what draws from them; its attributes are the arguments that it was made with, ``components`` among
                them.
            vectors: by part and patient.
            counted: the part that has a vector for every condition.
            least: patients that every part has to have.

        Raises:
            TooFewPatients: see :class:`bundle.shapes.Moments`.
        """
        moments = {part: Moments.of(own, model.components, least) for part, own in vectors.items()}
        patients = vectors[counted]
        about = {"patients": len(patients), "conditions": sum(map(len, patients.values()))}
        return cls(type(model).__name__, dict(vars(model)), moments, about)


def write_statistics(path: str | PathLike, statistics: Mapping[str, ShapeStatistics]) -> None:
    """
    Args:
        path: ``.npz`` to write.
        statistics: by site, or by any other name of whose they are.
    """
    arrays: dict[str, Any] = {}
    about: dict[str, Any] = {}
    for style, own in statistics.items():
        texts = {"model": own.model, "arguments": dict(own.arguments), "about": dict(own.about)}
        about[style] = texts | {"moments": sorted(own.moments)}
        for part, moments in own.moments.items():
            arrays |= {f"{style}/{part}/{name}": array for name, array in moments.to_arrays().items()}
    text = np.frombuffer(json.dumps(about, sort_keys=True).encode(), dtype=np.uint8)
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, about=text, **arrays)


def read_statistics(path: str | PathLike) -> dict[str, ShapeStatistics]:
    """
    Args:
        path: file of :func:`write_statistics`.

    Raises:
        FileNotFoundError: without the file.
        ValueError: when it holds anything else; the message names it.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no statistics of shapes at {path}: asyndgan shapes writes them")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES} bytes when unpacked")
        with np.load(path, allow_pickle=False) as stored:
            about = json.loads(bytes(stored["about"]))
            return {style: _read(stored, style, own) for style, own in about.items()}
    except (KeyError, TypeError, AttributeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: expected statistics of shapes, as asyndgan shapes writes them ({error})") from error


def _read(stored: Any, style: str, own: Mapping[str, Any]) -> ShapeStatistics:
    moments = {
        part: Moments.from_arrays(
            {name: stored[f"{style}/{part}/{name}"] for name in ("mean", "components", "residual")}
        )
        for part in own["moments"]
    }
    arguments, about = ({str(key): int(value) for key, value in own[part].items()} for part in ("arguments", "about"))
    return ShapeStatistics(str(own["model"]), arguments, moments, about)
