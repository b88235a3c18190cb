#!/usr/bin/env python
"""Draw grey images of three hospitals, with masks, in the place of your own: images/, labels/ and cases.csv.

They look like X-rays of the chest at a glance and are no model of any. Label values: 1 is lung, 2 is heart.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image

# every hospital has a machine of its own: exposure, contrast, noise
HOSPITALS = {"North": (1.0, 1.0, 4.0), "South": (0.8, 1.3, 8.0), "West": (1.2, 0.8, 6.0)}


def ellipse(size: int, middle: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    """Whether a pixel lies in an ellipse; all in shares of the image's size, rows first. Bool, size x size."""
    rows, columns = np.mgrid[:size, :size] / size
    return ((rows - middle[0]) / radii[0]) ** 2 + ((columns - middle[1]) / radii[1]) ** 2 < 1


def draw(size: int, hospital: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image and its mask, uint8, size x size."""
    exposure, contrast, noise = HOSPITALS[hospital]
    width, height, shift = rng.normal(0.14, 0.01), rng.normal(0.28, 0.02), rng.normal(0, 0.02)
    lungs = ellipse(size, (0.48 + shift, 0.3), (height, width)) | ellipse(size, (0.48 + shift, 0.7), (height, width))
    heart = ellipse(size, (0.6 + shift, 0.55), (rng.normal(0.14, 0.01), rng.normal(0.12, 0.01)))
    light = 150.0 - 70 * contrast * lungs + 60 * contrast * (heart & ~lungs) + 20 * contrast * (heart & lungs)
    rows = np.arange(size) / size
    light += 15 * np.sin(2 * np.pi * (9 * rows[:, None] + 2 * np.abs(rows - 0.5)))  # ribs
    image = exposure * light + rng.normal(0, noise, (size, size))
    label = np.where(heart, 2, np.where(lungs, 1, 0)).astype(np.uint8)
    return np.clip(image, 1, 255).astype(np.uint8), label


def write_images(folder: Path, size: int, train: int, test: int, seed: int = 0) -> Path:
    """
    Write images of all hospitals.

    Args:
        folder: to write to.
        size: height and width in pixels.
        train, test: images of each hospital to train with, and to score with.
        seed: of all that is drawn.

    Returns:
        The table of the cases: case, site, split.
    """
    rng = np.random.default_rng(seed)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    table = folder / "cases.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "site", "split"])
        for hospital in HOSPITALS:
            for number in range(train + test):
                case = f"{hospital}_{number:03d}"
                image, label = draw(size, hospital, rng)
                Image.fromarray(image).save(folder / "images" / f"{case}.png")
                Image.fromarray(label).save(folder / "labels" / f"{case}.png")
                writer.writerow([case, hospital, "train" if number < train else "test"])
    return table


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder to write to")
    parser.add_argument("--size", type=int, default=128, help="height and width in pixels (default 128)")
    parser.add_argument("--train", type=int, default=12, help="images of each hospital to train with (default 12)")
    parser.add_argument("--test", type=int, default=4, help="images of each hospital to score with (default 4)")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    options = parser.parse_args(arguments)
    print(f"wrote {write_images(options.output, options.size, options.train, options.test, options.seed)}")


if __name__ == "__main__":
    main()
