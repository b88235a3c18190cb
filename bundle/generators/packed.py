"""A packed generator as a folder: what it draws, its network, and the shapes of its label maps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bundle.installation import config_dir
from bundle.shapes import ShapeStatistics, read_statistics

__all__ = [
    "GENERATOR_FILE",
    "NETWORK_FILE",
    "SHAPES_FILE",
    "SHEET_FILE",
    "ModelError",
    "PackedGenerator",
    "model_names",
    "read_model",
]

GENERATOR_FILE = Path("configs", "generator.json")
NETWORK_FILE = Path("models", "model.ts")
SHAPES_FILE = Path("models", "shapes.npz")
SHEET_FILE = Path("docs", "data_sheet.json")
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "task": str,
    "image_size": int,
    "channels": int,
    "noise": bool,
    "label_groups": dict,
    "modality": list,
    "suffix": str,
    "intensity_range": list,
}


class ModelError(ValueError):
    """A generator that is not there, or a folder that holds none; the message names what was expected."""


@dataclass(frozen=True)
class PackedGenerator:
    """
    Attributes:
        name: as it was asked for.
        folder: of the packed bundle.
        task: of the training.
        image_size: of the training's images, in pixels; label maps of organs are drawn of that size.
        channels: X of a condition.
        noise: whether the network draws noise.
        label_groups: label values by class.
        modality: names of the image's channels.
        suffix: of the files that its images are written as.
        intensity_range: what -1 and 1 are stored as.
    """

    name: str
    folder: Path
    task: str
    image_size: int
    channels: int
    noise: bool
    label_groups: Mapping[str, list[int]]
    modality: tuple[str, ...]
    suffix: str
    intensity_range: tuple[float, float]

    def shapes(self) -> dict[str, ShapeStatistics]:
        """
        What label maps are drawn from, by site and for all sites together.

        Raises:
            ModelError: the bundle has none.
            ValueError: they are no such statistics.
        """
        path = self.folder / SHAPES_FILE
        if not path.is_file():
            raise ModelError(
                f"{path}: this generator came without shapes of label maps, so nothing can be drawn from it but on "
                "label maps of your own, as its page says; asyndgan pack generator --shapes adds them"
            )
        return read_statistics(path)

    def network(self, device: torch.device | str = "cpu") -> torch.nn.Module:
        """
        G, from conditions B×X×H×W of 0 and 1 to images B×C×H×W in [-1, 1].

        Raises:
            ModelError: its weights are not there, or cannot be read.
        """
        path = self.folder / NETWORK_FILE
        if not path.is_file():
            raise ModelError(f"{path}: the weights of generator {self.name} are not there")
        try:
            return torch.jit.load(path, map_location=device).eval()
        except RuntimeError as error:
            raise ModelError(f"{path}: expected a network as TorchScript ({str(error).splitlines()[0]})") from error


def model_names() -> list[str]:
    """The generators that come with a checkout."""
    folder = config_dir().parent / "models"
    return sorted(path.parents[1].name for path in folder.glob(f"*/{GENERATOR_FILE}"))


def read_model(name: str | Path) -> PackedGenerator:
    """
    Args:
        name: one of :func:`model_names`, or the folder of a packed bundle.

    Raises:
        ModelError: there is none of that name (the message lists them) or in that folder.
    """
    known = str(name) in model_names()
    folder = config_dir().parent / "models" / str(name) if known else Path(name)
    path = folder / GENERATOR_FILE
    if not path.is_file():
        names = ", ".join(model_names()) or "none in this installation"
        raise ModelError(
            f"no generator {str(name)!r}: expected one of {names}, or the folder of a bundle of asyndgan pack generator"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _checked(str(name), folder, content)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{path}: {error}") from error


def _checked(name: str, folder: Path, content: Any) -> PackedGenerator:
    if not isinstance(content, dict):
        raise ValueError("expected a mapping")
    for field, kind in _FIELDS.items():
        if not isinstance(content.get(field), kind) or (kind is int and content[field] < 1):
            raise ValueError(f"{field}: expected {getattr(kind, '__name__', kind)}, got {content.get(field)!r}")
    own = {field: content[field] for field in _FIELDS}
    groups = {str(key): [int(value) for value in values] for key, values in own["label_groups"].items()}
    low, high = (float(value) for value in own["intensity_range"])
    modality = tuple(str(one) for one in own["modality"])
    about = own | {"label_groups": groups, "modality": modality, "intensity_range": (low, high)}
    return PackedGenerator(name, folder, **about)
