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

__all__ = ["check_shapes", "write_drawing_files"]


def check_shapes(shapes: Path | None, kind: str) -> None:
    """
    Raises:
        PackError: the file is none of shapes, or the bundle is no generator.
    """
    if shapes is None:
        return
    if not kind.startswith("generator"):
        raise PackError(f"--shapes {shapes}: a segmenter draws nothing; expected it with a generator")
    try:
        for statistics in read_statistics(shapes).values():
            model_of(statistics)
    except (ValueError, OSError) as error:
        raise PackError(f"--shapes {error}") from error


def write_drawing_files(folder: Path, config: Mapping[str, Any], shapes: Path | None) -> None:
    """
    Write ``configs/generator.json`` and, where they are given, ``models/shapes.npz``.

    Args:
        folder: of the bundle.
        config: resolved configuration of the generator's training.
        shapes: see :class:`bundle.sharing.PackOptions`.
    """
    # an organ's outline is a channel of its own
    outline = config["task"] == "brats"
    about = {
        "task": config["task"],
        "image_size": int(config["image_size"]),
        "channels": len(config["label_groups"]) + outline,
        "noise": int(config.get("generator_noise") or 0) > 0,
        "label_groups": {str(name): list(values) for name, values in config["label_groups"].items()},
        "modality": list(config["modalities"]),
        "suffix": config["image_suffix"],
        "intensity_range": [float(value) for value in config["image_range"]],
    }
    write_json(folder / GENERATOR_FILE, about)
    if shapes is not None:
        shutil.copyfile(shapes, folder / SHAPES_FILE)
