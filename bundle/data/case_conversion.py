"""One case of any layout to NIfTI: read, bring onto one grid, correct the bias field, write all or nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from bundle.data.convert import write_nifti
from bundle.data.geometry import check_same_grid, correct_bias, isotropic_grid, resample
from bundle.data.layouts.base import SEG, CaseFiles
from bundle.data.missing_slices import check_label_inside
from bundle.files import atomic_folder, write_json


@dataclass(frozen=True)
class ConvertOptions:
    """What happens to the voxels of a case.

    Attributes:
        n4: correct the bias field of every modality (not of the label).
        n4_shrink: see :func:`bundle.data.geometry.correct_bias`.
        resample: edge of the cubic voxels in mm, or None to keep the grid.
    """

    n4: bool = False
    n4_shrink: int = 4
    resample: float | None = None


def convert_case(
    case: CaseFiles,
    modalities: Sequence[str],
    output: Path,
    options: ConvertOptions,
    read: Callable[[CaseFiles, str], sitk.Image],
) -> bool:
    """Write ``OUTPUT/MODALITY.nii.gz`` for every modality and ``OUTPUT/seg.nii.gz``, all or nothing.

    Args:
        case: sources of the case.
        modalities: which to convert; the first gives the grid for resampling.
        output: folder of this case. It is kept if it was converted from the same files with the same options.
        options: what happens to the voxels.
        read: reader of the layout.

    Returns:
        Whether anything was converted.

    Raises:
        DataError: an unreadable source, a label that goes on where the image ends, or volumes that do not share a grid
            while `options` does not resample.
    """
    record = {"options": dataclasses.asdict(options), "modalities": list(modalities), "sources": _fingerprint(case)}
    marker = output / "conversion.json"
    names = [f"{modality}.nii.gz" for modality in (*modalities, SEG)]
    if marker.is_file() and all((output / name).is_file() for name in names):
        try:
            if json.loads(marker.read_text(encoding="utf-8")) == record:
                return False
        except ValueError:
            pass  # damaged: convert again
    volumes = {modality: read(case, modality) for modality in (*modalities, SEG)}
    check_label_inside(volumes, SEG)
    if options.resample is None:
        check_same_grid(volumes, case.case)
    else:
        grid = isotropic_grid(volumes[modalities[0]], options.resample)
        volumes = {name: resample(volume, grid, label=name == SEG) for name, volume in volumes.items()}
    with atomic_folder(output) as folder:
        for name, volume in volumes.items():
            corrected = correct_bias(volume, options.n4_shrink) if options.n4 and name != SEG else volume
            write_nifti(corrected, folder / f"{name}.nii.gz")
        write_json(folder / marker.name, record)
    return True


def _fingerprint(case: CaseFiles) -> str:
    """Digest of names, sizes and times of a case's sources: names alone could hold those of patients."""
    digest = hashlib.sha256()
    for path in (*case.images.values(), case.label):
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            stat = file.stat()
            digest.update(f"{file.name}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()
