"""Histology tiles: images of stained tissue as 8-bit RGB, and whether an annotation fits the image that it is with."""

from __future__ import annotations

import os

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import distance_transform_cdt

from bundle.data.errors import DataError

TILE_SUFFIXES = (".png", ".tif", ".tiff")
# How far around the nuclei their surroundings reach, in pixels: half a nucleus at 40x.
RING = 10
# See stain_contrast. Measured on the 30 tiles of Kumar et al. 2017 and all 900 pairs of an image and an annotation:
# the 30 right pairs have 0.84 to 2.94, the 870 wrong ones -0.09 to 0.07, the right ones mirrored or turned -0.06 to
# 0.11. Cut to 250×250 pixels, 427 right pairs have at least 0.53, and 1 of 427 wrong ones exceeds 0.3.
MIN_CONTRAST = 0.3
# With fewer nuclei the contrast says little: with 10 of a tile's nuclei drawn at random, some right pairs have 0.17 and
# some wrong ones 0.36.
MIN_NUCLEI = 20


def read_pixels(path: str | os.PathLike) -> np.ndarray:
    """Pixels of a PNG or TIFF file as stored: rows, columns and, where there are several, channels.

    Palettes are expanded to colours. ITK decodes tiled and planar TIFF to four channels, the last opaque. A file that
    is cut off anywhere raises: libtiff would fill with zeros, ITK asks it for every strip.

    Raises:
        DataError: no such file, unreadable or truncated.
    """
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such file")
    try:
        return sitk.GetArrayFromImage(sitk.ReadImage(os.fspath(path)))
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[-1].strip()
        raise DataError(f"{path}: unreadable or truncated, expected a whole PNG or TIFF file ({reason})") from error


def write_pixels(pixels: np.ndarray, path: str | os.PathLike) -> None:
    """Write what :func:`read_pixels` reads: rows × columns or rows × columns × channels, uint8 or uint16, as PNG.

    Raises:
        OSError: naming the file, which cannot be written.
    """
    try:
        sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=pixels.ndim == 3), os.fspath(path))
    except RuntimeError as error:
        raise OSError(f"{path}: cannot be written ({str(error).strip().splitlines()[-1].strip()})") from error


def read_tile(path: str | os.PathLike) -> tuple[np.ndarray, list[str]]:
    """An image of stained tissue.

    16 bits become 8 where the whole range is used, an opaque fourth channel is dropped, a transparent one is composed
    over white (the light of the microscope), a palette is expanded.

    Returns:
        uint8, rows × columns × 3 (red, green, blue); and what was converted, one phrase each.

    Raises:
        DataError: unreadable or truncated, grey, not one 2-D image, or of a bit depth that cannot be told.
    """
    pixels = read_pixels(path)
    notes = ["palette to RGB"] if _has_palette(path) else []
    if pixels.ndim == 2:
        raise DataError(f"{path}: has one channel, expected a colour image (red, green, blue)")
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise DataError(f"{path}: has shape {pixels.shape}, expected one image of rows, columns and 3 or 4 channels")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path}: has pixels of type {pixels.dtype}, expected 8 or 16 bits")
    colours = _to_8_bit(pixels[..., :3], path, notes)
    if (colours == colours[..., :1]).all():
        raise DataError(f"{path}: its channels are equal, expected a colour image and not a grey one")
    if pixels.shape[2] == 4:
        opaque = 255 if pixels[..., 3].max() <= 255 else 65535
        alpha = pixels[..., 3:] / opaque
        if (alpha == 1).all():
            notes.append("opaque fourth channel dropped")
        else:
            colours = np.rint(colours * alpha + 255 * (1 - alpha)).astype(np.uint8)
            notes.append("transparent fourth channel composed over white")
    return np.ascontiguousarray(colours), notes


def stain_contrast(image: np.ndarray, instances: np.ndarray) -> float | None:
    """How much more stain there is in the nuclei than around them.

    Haematoxylin takes red light, so the optical density of the red channel is compared between the pixels of nuclei
    and those within :data:`RING` pixels of one: the difference of the means in units of the mean standard deviation.
    An annotation of another tile gives about 0.

    Args:
        image: uint8, H×W×3.
        instances: H×W, 0 is background.

    Returns:
        The contrast, or None where there is nothing to compare: no nucleus, no surroundings, or flat colours.
    """
    nuclei = instances > 0
    around = ~nuclei & (distance_transform_cdt(~nuclei) <= RING) if nuclei.any() else ~nuclei
    if not nuclei.any() or not around.any():
        return None
    density = -np.log10((image[..., 0].astype(np.float32) + 1) / 256)
    inside, outside = density[nuclei].astype(np.float64), density[around].astype(np.float64)
    spread = np.sqrt((inside.var() + outside.var()) / 2)
    difference = inside.mean() - outside.mean()
    # Drawn images can be flat inside and outside.
    return float(difference / spread) if spread > 1e-6 else None


def check_pair(
    image: np.ndarray,
    instances: np.ndarray,
    image_path: str | os.PathLike,
    annotation_path: str | os.PathLike,
    accept_mismatch: bool = False,
) -> tuple[float | None, list[str]]:
    """The annotated nuclei must be stained, if there are at least :data:`MIN_NUCLEI`.

    Args:
        image, instances: see :func:`stain_contrast`.
        image_path, annotation_path: for the message.
        accept_mismatch: note it instead of raising.

    Returns:
        The contrast of :func:`stain_contrast`, and notes.

    Raises:
        DataError: the contrast is below :data:`MIN_CONTRAST`.
    """
    contrast = stain_contrast(image, instances)
    few = np.count_nonzero(np.unique(instances)) < MIN_NUCLEI
    if few or contrast is None or contrast >= MIN_CONTRAST:
        return contrast, []
    if accept_mismatch:
        return contrast, ["nuclei no darker than their surroundings, accepted"]
    raise DataError(
        f"{annotation_path}: its nuclei are not darker than their surroundings in {image_path} (contrast "
        f"{contrast:.2f}, expected at least {MIN_CONTRAST}): is it the annotation of another tile, or mirrored? "
        "--accept_mismatch takes it all the same"
    )


def _to_8_bit(pixels: np.ndarray, path: str | os.PathLike, notes: list[str]) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    high = int(pixels.max(initial=0))
    if high <= 255:
        notes.append("8-bit values in 16 bits taken as they are")
        return pixels.astype(np.uint8)
    low_byte = pixels & 255
    if not low_byte.any() or (low_byte == pixels >> 8).all():  # 8 bits times 256 (palettes of TIFF) or times 257
        notes.append("16 to 8 bits")
        return (pixels >> 8).astype(np.uint8)
    if high < 32768:
        raise DataError(
            f"{path}: has 16 bits and values up to {high}: how many bits count is unknown, expected values up to 255 "
            "or the whole range up to 65535"
        )
    notes.append("16 to 8 bits")
    return np.rint(pixels / 257).astype(np.uint8)


def _has_palette(path: str | os.PathLike) -> bool:
    """Whether a PNG file says so: colour type 3, byte 25 (https://www.w3.org/TR/png/#11IHDR)."""
    with open(path, "rb") as file:
        head = file.read(26)
    return head.startswith(b"\x89PNG") and head[25:26] == b"\x03"
