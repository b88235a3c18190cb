"""Phantom brains in BraTS layout: for tests and demonstrations without anybody's data.

Skull-stripped, four modalities, a tumour with the labels of BraTS; contrast, noise and sharpness differ by site.
They look like brains at a glance and are no model of disease.
"""

from __future__ import annotations

import csv
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from scipy import ndimage

from bundle.data.errors import DataError
from bundle.data.progress import progress
from bundle.files import atomic_folder, atomic_path
from bundle.phantoms.anatomy import Anatomy, draw_anatomy, smooth_field

MODALITIES = ("flair", "t1", "t1ce", "t2")
FIELD_OF_VIEW = (160.0, 192.0, 136.0)
MIN_SIZE = 8

# Signal of tissues, 1 = bright. Order: CSF, grey, white, vessels, oedema, core, rim
TISSUES = ("csf", "grey", "white", "vessels", "oedema", "core", "rim")
SIGNAL = {
    "flair": (0.16, 0.56, 0.44, 0.40, 0.98, 0.66, 0.84),
    "t1": (0.20, 0.52, 0.76, 0.50, 0.44, 0.30, 0.46),
    "t1ce": (0.20, 0.50, 0.70, 0.95, 0.42, 0.24, 1.10),
    "t2": (1.00, 0.56, 0.40, 0.45, 0.84, 0.92, 0.66),
}


@dataclass(frozen=True)
class Style:
    """How the scanners of a site differ.

    Attributes:
        gain: stored integer that a signal of 1 becomes.
        gamma: exponent on the signal: below 1 flattens the contrast of bright tissue, above 1 raises it.
        noise: standard deviation, as a share of the signal's range.
        blur: standard deviation in mm within a slice.
        bias: amplitude of the smooth bias field.
        offset: signal of the darkest tissue, as a share of the range.
    """

    gain: float
    gamma: float
    noise: float
    blur: float
    bias: float
    offset: float


STYLES = {
    "A": Style(gain=1000, gamma=1.0, noise=0.025, blur=0.7, bias=0.05, offset=0.0),
    "B": Style(gain=450, gamma=0.75, noise=0.05, blur=1.0, bias=0.12, offset=0.06),
    "C": Style(gain=1600, gamma=1.35, noise=0.035, blur=1.5, bias=0.08, offset=0.03),
    "D": Style(gain=700, gamma=0.9, noise=0.075, blur=0.5, bias=0.18, offset=0.12),
}


def brain_phantom(
    seed: int | Sequence[int],
    style: str | Style = "A",
    shape: tuple[int, int, int] = (96, 96, 24),
    spacing: tuple[float, float, float] | None = None,
) -> dict[str, np.ndarray]:
    """Draw a phantom.

    Args:
        seed: anything that ``numpy.random.default_rng`` takes; the same seed gives the same anatomy in every style.
        style: a key of :data:`STYLES` (any other name gets a style drawn from the name), or a style.
        shape: voxels along x (right to left), y (front to back) and z (bottom to top), each at least 8.
        spacing: voxel size in mm; None fits a field of view of 160 x 192 x 136 mm.

    Returns:
        ``flair``, ``t1``, ``t1ce``, ``t2``: int16 of the given shape, 0 outside the brain and at least 1 inside;
        ``seg``: uint8 with 0 background, 1 core, 2 oedema, 4 enhancing rim.

    Raises:
        DataError: `shape` or `spacing` out of range.
    """
    shape, spacing = _check_grid(shape, spacing)
    style = style if isinstance(style, Style) else site_style(style)
    # Two streams, so that a style with other draws leaves the anatomy alone.
    anatomy_seed, image_seed = np.random.SeedSequence(seed).spawn(2)
    anatomy = draw_anatomy(np.random.default_rng(anatomy_seed), shape, spacing)
    rng = np.random.default_rng(image_seed)
    images = {name: _render(rng, anatomy, SIGNAL[name], style, spacing) for name in MODALITIES}
    return {**images, "seg": anatomy.seg}


def site_style(site: str) -> Style:
    """Style of a site: of :data:`STYLES` for A to D, else drawn from the name."""
    if site in STYLES:
        return STYLES[site]
    low, high = (np.array([400, 0.75, 0.02, 0.5, 0.05, 0.0]), np.array([1600, 1.35, 0.07, 1.5, 0.18, 0.12]))
    return Style(*np.random.default_rng(zlib.crc32(site.encode())).uniform(low, high).tolist())


def write_brats_phantoms(
    output: str | os.PathLike,
    sites: Sequence[str] = ("A", "B", "C", "D"),
    cases_per_site: int = 6,
    test_cases_per_site: int = 2,
    shape: tuple[int, int, int] = (96, 96, 24),
    seed: int = 0,
) -> Path:
    """Write phantoms in BraTS layout and the table of their sites.

    ``OUTPUT/HGG/Phantom_A_001/Phantom_A_001_{flair,t1,t1ce,t2,seg}.nii.gz`` and ``OUTPUT/cases.csv`` with the columns
    case, site, split. Cases that are there with the same seed and shape are kept; each case appears whole or not at
    all. Cases of former calls that this one does not name are left on disk.

    Args:
        output: folder, created.
        sites: names of letters and digits.
        cases_per_site: training cases of every site, at least 1.
        test_cases_per_site: test cases of every site, numbered after the training cases.
        shape: voxels, see :func:`brain_phantom`.
        seed: a case depends on it, its site and its number only.

    Returns:
        Path of ``cases.csv``.

    Raises:
        DataError: numbers or names out of range.
        OSError: the output cannot be written.
    """
    shape, spacing = _check_grid(shape, None)
    if not sites or not all(site.isalnum() for site in sites) or len(set(sites)) != len(sites):
        raise DataError(f"sites are {list(sites)}, expected different names of letters and digits")
    if cases_per_site < 1 or test_cases_per_site < 0:
        raise DataError(f"cases per site: {cases_per_site} + {test_cases_per_site}, expected at least 1 + 0")
    output = Path(output)
    rows = [
        (f"Phantom_{site}_{number:03d}", site, "train" if number <= cases_per_site else "test", number)
        for site in sites
        for number in range(1, cases_per_site + test_cases_per_site + 1)
    ]
    for case, site, _, number in progress(rows, "phantoms", len(rows)):
        note = f"phantom seed={seed} site={site}"
        if not _is_written(output / "HGG" / case, shape, note):
            volumes = brain_phantom((seed, zlib.crc32(site.encode()), number), site, shape, spacing)
            _write_case(output / "HGG" / case, volumes, spacing, note)
    with atomic_path(output / "cases.csv") as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("case", "site", "split"), *(row[:3] for row in rows)])
    return output / "cases.csv"


def _check_grid(shape, spacing) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    shape = tuple(int(n) for n in shape)
    if len(shape) != 3 or min(shape) < MIN_SIZE:
        raise DataError(f"shape of a phantom is {shape}, expected three numbers of at least {MIN_SIZE}")
    spacing = tuple(float(s) for s in spacing or (f / n for f, n in zip(FIELD_OF_VIEW, shape, strict=True)))
    if len(spacing) != 3 or min(spacing) <= 0:
        raise DataError(f"spacing of a phantom is {spacing}, expected three positive numbers")
    return shape, spacing


def _render(
    rng: np.random.Generator, anatomy: Anatomy, signal: tuple[float, ...], style: Style, spacing: tuple[float, ...]
) -> np.ndarray:
    shape = anatomy.brain.shape
    level = dict(zip(TISSUES, signal, strict=True))
    healthy = sum(level[name] * getattr(anatomy, name) for name in ("csf", "grey", "white"))
    healthy = healthy + (level["vessels"] - healthy) * anatomy.vessels
    tumour = anatomy.oedema + anatomy.core + anatomy.rim
    # Diseased tissue is uneven: oedema fades, necrosis has clots and fluid.
    mottle = 1 + 0.07 * smooth_field(rng, shape, spacing, 4)
    sick = mottle * sum(level[name] * getattr(anatomy, name) for name in ("oedema", "core", "rim"))
    image = healthy * (1 - tumour) + sick
    image = image * (1 + 0.025 * smooth_field(rng, shape, spacing, 6))
    image = style.offset + (1 - style.offset) * np.clip(image, 0, None) ** style.gamma
    image = image * (1 + style.bias * smooth_field(rng, shape, spacing, 45))
    # Blurring weighs brain only: the border keeps its sharp edge, as after skull-stripping.
    sigma = (style.blur / spacing[0], style.blur / spacing[1], 0)
    weight = ndimage.gaussian_filter(anatomy.brain.astype(np.float32), sigma)
    image = ndimage.gaussian_filter(image * anatomy.brain, sigma) / np.maximum(weight, 1e-3)
    # Magnitude of a complex signal: Rician noise (Gudbjartsson & Patz 1995), correlated as after interpolation
    real, imaginary = (smooth_field(rng, shape, spacing, 0.45 * spacing[0]) for _ in range(2))
    image = np.hypot(image + style.noise * real, style.noise * imaginary)
    return np.where(anatomy.brain, np.clip(np.rint(style.gain * image), 1, 32767), 0).astype(np.int16)


def _is_written(folder: Path, shape: tuple[int, ...], note: str) -> bool:
    try:
        headers = [nib.load(folder / f"{folder.name}_{name}.nii.gz").header for name in (*MODALITIES, "seg")]
    except (OSError, ImageFileError):
        return False
    return all(header.get_data_shape() == shape and _note(header) == note for header in headers)


def _note(header: nib.Nifti1Header) -> str:
    return bytes(header["descrip"]).rstrip(b"\0").decode("latin-1")


def _write_case(folder: Path, volumes: dict[str, np.ndarray], spacing: tuple[float, ...], note: str) -> None:
    # Array axes run to the left and to the back, NIfTI's world to the right and to the front.
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    with atomic_folder(folder) as temporary:
        for name, volume in volumes.items():
            image = nib.Nifti1Image(volume, affine)
            image.header["descrip"] = note.encode()[:79]
            image.header.set_xyzt_units("mm")
            nib.save(image, temporary / f"{folder.name}_{name}.nii.gz")
