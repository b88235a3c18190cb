"""A labelled synthetic data set on disk, from a packed generator."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from monai.engines import SupervisedEvaluator
from torch.utils.data import DataLoader

from bundle.engines import (
    PaddedInferer,
    Progress,
    SeededBatch,
    SeededInferer,
    SyntheticWriter,
    write_nifti_slice,
    write_png,
)
from bundle.generators.dataset import DIVISOR, DrawnConditions
from bundle.generators.packed import SHEET_FILE, ModelError, PackedGenerator, read_model
from bundle.shapes import ALL

__all__ = ["generate"]

_WRITERS = {".nii.gz": write_nifti_slice, ".png": write_png}


def generate(
    model: str | Path = "brats",
    num: int = 100,
    output: str | Path = "synthetic",
    seed: int = 0,
    style: str = ALL,
    size: int | None = None,
    device: torch.device | str = "cpu",
    **controls: Any,
) -> Path:
    """
    Write a labelled synthetic data set: ``images/``, ``labels/`` and ``datalist.json``, as the stage ``generate`` does,
    and beside them the data sheet of the generator.

    Args:
        model: name of a generator that comes with this project, or the folder of a packed one.
        num: images.
        output: folder to write; it must not hold a data set.
        seed: which images: the same for the same seed, to rounding, wherever they are drawn.
        style: whose label maps they have: a site of the training, or ``all``.
        size: height and width, where the generator draws tiles; None for those of the training.
        device: where the network is called.
        controls: of the label maps: ``region_size`` (least and greatest share of an organ), ``density``.

    Returns:
        The folder.

    Raises:
        bundle.generators.ModelError: there is no such generator.
        ValueError: another style, size or control than it has.
        FileExistsError: ``output`` holds something.
    """
    packed, folder = read_model(model), Path(output)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"--output {folder}: expected a folder that is not there or empty")
    if packed.suffix not in _WRITERS:
        raise ModelError(f"{packed.folder}: images as {packed.suffix}, expected {' or '.join(_WRITERS)}")
    conditions = DrawnConditions(packed, num, seed, style, size, **controls)
    _evaluator(packed, conditions, folder, torch.device(device)).run()
    if (packed.folder / SHEET_FILE).is_file():
        shutil.copyfile(packed.folder / SHEET_FILE, folder / "generator_data_sheet.json")
    return folder


def _evaluator(
    packed: PackedGenerator, conditions: DrawnConditions, folder: Path, device: torch.device
) -> SupervisedEvaluator:
    writer = SyntheticWriter(
        str(folder),
        packed.label_groups,
        packed.modality,
        packed.task,
        _WRITERS[packed.suffix],
        packed.suffix,
        packed.intensity_range,
        reference=f"generator {packed.name}, seed {conditions.seed}",
    )
    return SupervisedEvaluator(
        device,
        DataLoader(conditions, batch_size=16),
        packed.network(device),
        inferer=SeededInferer(PaddedInferer(DIVISOR)),
        prepare_batch=SeededBatch(conditions.seed, packed.noise),
        to_kwargs={"dtype": torch.float32},
        val_handlers=[writer, Progress(f"generating {packed.name}")],
        amp=False,
    )
