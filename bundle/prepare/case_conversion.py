"""One case of any layout to NIfTI: read, bring onto one grid, correct the bias field, write all or nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from bundle.data.geometry import correct_bias, isotropic_grid, resample
from bundle.data.one_grid import (
    IMAGE_HEADER,
    LABEL_ARRAY,
    check_headers,
    check_label_kept,
    onto_first,
    with_header_of_first,
)
from bundle.files import atomic_folder, write_json
from bundle.prepare.cases import SEG, CaseFiles
from bundle.prepare.missing_slices import check_label_inside
from bundle.prepare.volumes import write_nifti


@dataclass(frozen=True)
class ConvertOptions:
    """What happens to the voxels of a case.

    Attributes:
        n4: correct the bias field of every modality (not of the label).
        n4_shrink: see :func:`bundle.data.geometry.correct_bias`.
        resample: edge of the cubic voxels in mm, or None to keep the grid.
        trust: what is right where headers of a case disagree: ``"label-array"``, the arrays lie voxel on voxel and the
            header of the first modality is everybody's; ``"image-header"``, the headers, and all else is resampled onto
            the grid of the first modality (label: nearest neighbour). None refuses such a case.
    """

    n4: bool = False
    n4_shrink: int = 4
    resample: float | None = None
    trust: str | None = None

    @property
    def changes_voxels(self) -> bool:
        """Whether files cannot be used where they lie."""
        return self.n4 or self.resample is not None or self.trust is not None


def convert_case(
    case: CaseFiles,
    modalities: Sequence[str],
    output: Path,
    options: ConvertOptions,
    read: Callable[[CaseFiles, str], sitk.Image],
) -> bool:
    """Write ``OUTPUT/MODALITY.nii.gz`` for every modality and ``OUTPUT/seg.nii.gz``, on one grid, all or nothing.

    Args:
        case: sources of the case.
        modalities: which to convert; the first gives the grid for resampling.
        output: folder of this case. It is kept if it was converted from the same files with the same options.
        options: what happens to the voxels.
        read: reader of the layout.

    Returns:
        Whether anything was converted.

    Raises:
        DataError: an unreadable source, a label that goes on where the image ends, headers that disagree while
            `options` does not say which is right, or a label that is lost on another grid.
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
    volumes = {name: read(case, name) for name in (*modalities, SEG)}
    check_label_inside(volumes, SEG)
    volumes = _on_one_grid(volumes, options)
    with atomic_folder(output) as folder:
        for name, volume in volumes.items():
            corrected = correct_bias(volume, options.n4_shrink) if options.n4 and name != SEG else volume
            write_nifti(corrected, folder / f"{name}.nii.gz")
        write_json(folder / marker.name, record)
    return True


def _on_one_grid(volumes: dict[str, sitk.Image], options: ConvertOptions) -> dict[str, sitk.Image]:
    label = volumes[SEG]
    if options.trust is None:
        check_headers(volumes, only_same_shape=options.resample is not None)
    if options.trust == LABEL_ARRAY:
        volumes = with_header_of_first(volumes)
        label = volumes[SEG]
    elif options.trust == IMAGE_HEADER:
        volumes = onto_first(volumes, SEG)
    if options.resample is None:
        volumes = with_header_of_first(volumes)  # rounding apart, they have it
    else:
        grid = isotropic_grid(next(iter(volumes.values())), options.resample)
        volumes = {name: resample(volume, grid, label=name == SEG) for name, volume in volumes.items()}
    check_label_kept(label, volumes[SEG])
    return volumes


def _fingerprint(case: CaseFiles) -> str:
    """Digest of names, sizes and times of a case's sources: names alone could hold those of patients."""
    digest = hashlib.sha256()
    for path in (*case.images.values(), case.label):
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            stat = file.stat()
            digest.update(f"{file.name}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()
