"""What a packed generator needs to be drawn from by ``asyndgan generate --model``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.files import write_json
from bundle.generators.packed import GENERATOR_FILE, SHAPES_FILE
from bundle.shapes import model_of, read_statistics
from bundle.sharing.errors import PackError

__all__ = ["check_shapes", "keep_drawing_files", "write_drawing_files"]


def check_shapes(shapes: Path | None, kind: str, drawing_only: bool = False) -> None:
    """
    Raises:
        PackError: the file is none of shapes, or the bundle is no generator; there is none, and nothing else would be
            packed to use the generator by.
    """
    if shapes is None:
        if drawing_only:
            raise PackError("--drawing_only: expected --shapes FILE as well, for label maps to draw on")
        return
    if not kind.startswith("generator"):
        raise PackError(f"--shapes {shapes}: a segmenter draws nothing; expected it with a generator")
    try:
        for statistics in read_statistics(shapes).values():
            model_of(statistics)
    except (ValueError, OSError) as error:
        raise PackError(f"--shapes {error}") from error


def write_drawing_files(
    folder: Path, fields: Mapping[str, Any], config: Mapping[str, Any], shapes: Path | None
) -> None:
    """
    Write ``configs/generator.json`` and, where they are given, ``models/shapes.npz``.

    Args:
        folder: of the bundle.
        fields: of :func:`bundle.sharing.facts.describe`.
        config: resolved configuration of the generator's training.
        shapes: see :class:`bundle.sharing.PackOptions`.
    """
    about = {
        "task": config["task"],
        "image_size": fields["image_size"],
        "channels": fields["condition_channels"],
        "noise": int(config.get("generator_noise") or 0) > 0,
        "label_groups": {str(name): list(values) for name, values in config["label_groups"].items()},
        "modality": list(config["modalities"]),
        "suffix": config["image_suffix"],
        "intensity_range": [float(value) for value in config["image_range"]],
    }
    write_json(folder / GENERATOR_FILE, about)
    if shapes is not None:
        shutil.copyfile(shapes, folder / SHAPES_FILE)


def keep_drawing_files(folder: Path, package: str) -> None:
    """Remove the code of a bundle, and the configs that name it."""
    shutil.rmtree(folder / package)
    for path in (folder / "configs").iterdir():
        if path.name != GENERATOR_FILE.name:
            path.unlink()
