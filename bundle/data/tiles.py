"""Histology tiles: images of stained tissue as 8-bit RGB, and whether an annotation fits the image that it is with."""

from __future__ import annotations

import os

import numpy as np
import SimpleITK as sitk
from PIL import Image
from scipy.ndimage import distance_transform_cdt

from bundle.data.errors import DataError
from bundle.data.tiff import SIGNATURES, Picture, check_size, read_itk, read_tiff, unreadable

# What training reads, and masks.
TILE_SUFFIXES = (".png", ".tif", ".tiff")
# What is converted.
SOURCE_SUFFIXES = (*TILE_SUFFIXES, ".jpg", ".jpeg", ".svs")
_SLIDE = "a whole slide: export tiles of it as TIFF or PNG with QuPath or OpenSlide"
_OTHER = "an image in a format that is not read: convert it to PNG or TIFF"
_STACK = (
    "a NumPy array, as PanNuke and HoVer-Net have them: save each tile as a PNG file, and its map as an .npy file of "
    "the same name"
)
# What is not read, and what to do.
FOREIGN_TILES = {
    **dict.fromkeys((".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".czi", ".isyntax", ".dcm"), _SLIDE),
    **dict.fromkeys((".bmp", ".gif", ".webp", ".jp2", ".j2k", ".jxl"), _OTHER),
    **dict.fromkeys((".npy", ".npz"), _STACK),
}
# How far around the nuclei their surroundings reach, in pixels: half a nucleus at 40x.
RING = 10
# See stain_contrast. Measured on the 30 tiles of Kumar et al. 2017 and all 900 pairs of an image and an annotation:
# the 30 right pairs have 0.84 to 2.94, the 870 wrong ones -0.09 to 0.07, the right ones mirrored or turned -0.06 to
# 0.11. Cut to 250×250 pixels, 427 right pairs have at least 0.53, and 1 of 427 wrong ones exceeds 0.3.
MIN_CONTRAST = 0.3
# With fewer nuclei the contrast says little: with 10 of a tile's nuclei drawn at random, some right pairs have 0.17 and
# some wrong ones 0.36.
MIN_NUCLEI = 20
# Share of a tile that one nucleus may cover, and how often the median area of the nuclei of a tile its largest may
# have: at most 0.5 % and 11 times on the 30 tiles.
MAX_SHARE = 0.5
MAX_TIMES = 50
# Standard deviation of the channel that varies most, in grey levels. Empty glass has more, by the noise of the camera.
MIN_SPREAD = 1.0


def read_picture(path: str | os.PathLike) -> Picture:
    """An image from a PNG, TIFF or JPEG file, whatever its name ends in; grey ones, too.

    Palettes are expanded to colours. A file that is cut off anywhere raises.

    Raises:
        DataError: no such file, unreadable, truncated or too large.
    """
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such file")
    with open(path, "rb") as file:
        head = file.read(8)
    if head.startswith(SIGNATURES):
        return read_tiff(path)
    if head.startswith(b"\xff\xd8"):
        return _read_jpeg(path)
    if head.startswith(b"\x89PNG"):
        pixels = read_itk(path, "PNG")
        return Picture(pixels, "straight" if pixels.ndim == 3 and pixels.shape[2] in (2, 4) else None)
    raise unreadable(path, f"it begins with {head[:4]!r}")


def read_pixels(path: str | os.PathLike) -> np.ndarray:
    """Pixels of :func:`read_picture`: rows, columns and, where there are several, channels."""
    return read_picture(path).pixels


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

    16 bits become 8 where the whole range is used, a palette is expanded. A fourth channel is opacity only if the file
    says so: PNG does, TIFF by its tag ExtraSamples. Then it is composed over white (the light of the microscope), else
    it is dropped.

    Returns:
        uint8, rows × columns × 3 (red, green, blue); and what was converted, one phrase each.

    Raises:
        DataError: unreadable, truncated or too large, grey, not one 2-D image, of a bit depth that cannot be told, or
            without contrast.
    """
    picture = read_picture(path)
    pixels, notes = picture.pixels, ["palette to RGB"] if _has_palette(path) else []
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
        colours = _over_white(colours, pixels[..., 3:], picture.opacity, notes)
    spread = float(colours.std(axis=(0, 1)).max())
    if spread < MIN_SPREAD:
        raise DataError(
            f"{path}: its pixels hardly differ (standard deviation {spread:.2f} of 255), expected stained tissue"
        )
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
        The contrast, or None where there is nothing to compare: no nucleus, or no surroundings.
    """
    nuclei = instances > 0
    around = ~nuclei & (distance_transform_cdt(~nuclei) <= RING) if nuclei.any() else ~nuclei
    if not nuclei.any() or not around.any():
        return None
    density = -np.log10((image[..., 0].astype(np.float32) + 1) / 256)
    inside, outside = density[nuclei].astype(np.float64), density[around].astype(np.float64)
    spread = np.sqrt((inside.var() + outside.var()) / 2)
    # Drawn images can be flat inside and outside: a difference there is not divided by zero.
    return float((inside.mean() - outside.mean()) / max(spread, 1e-3))


def check_pair(
    image: np.ndarray,
    instances: np.ndarray,
    image_path: str | os.PathLike,
    annotation_path: str | os.PathLike,
    accept_mismatch: bool = False,
) -> tuple[float | None, list[str]]:
    """Annotated nuclei must have the size of nuclei and be stained.

    Fewer than :data:`MIN_NUCLEI` say little about stain: they must only not be clearly lighter than their surroundings,
    as what is left is where 0 marks the nuclei.

    Args:
        image, instances: see :func:`stain_contrast`.
        image_path, annotation_path: for the message.
        accept_mismatch: note it instead of raising.

    Returns:
        The contrast of :func:`stain_contrast`, and notes.

    Raises:
        DataError: an object as large as no nucleus, or the contrast is below :data:`MIN_CONTRAST` (a few nuclei: below
            its negative).
    """
    contrast = stain_contrast(image, instances)
    note = _too_large(instances)
    if note:
        problem = f"{note} of {image_path}: a frame, a tissue's outline, or a mask whose nuclei are 0?"
    else:
        few = np.count_nonzero(np.unique(instances)) < MIN_NUCLEI
        least = -MIN_CONTRAST if few else MIN_CONTRAST
        if contrast is None or contrast >= least:
            return contrast, []
        note = "nuclei no darker than their surroundings"
        problem = (
            f"its nuclei are not darker than their surroundings in {image_path} (contrast {contrast:.2f}, expected at "
            f"least {least}): is it the annotation of another tile, mirrored, or a mask whose nuclei are 0?"
        )
    if accept_mismatch:
        return contrast, [f"{note}, accepted"]
    raise DataError(f"{annotation_path}: {problem} --accept_mismatch takes it all the same")


def _too_large(instances: np.ndarray) -> str | None:
    """What is said of the largest object if it has not the size of a nucleus."""
    areas = np.bincount(instances.ravel())[1:]
    share, times = areas.max(initial=0) / instances.size, areas.max(initial=0) / max(np.median(areas), 1)
    if share > MAX_SHARE:
        return f"one of its {len(areas)} nuclei covers {share:.0%}"
    if len(areas) >= MIN_NUCLEI and times > MAX_TIMES:
        return f"one of its {len(areas)} nuclei is {times:.0f} times as large as their median, {share:.0%}"
    return None


def _over_white(colours: np.ndarray, opacity: np.ndarray, kind: str | None, notes: list[str]) -> np.ndarray:
    if kind is None:
        notes.append("fourth channel that is no opacity dropped")
        return colours
    alpha = opacity / (255 if opacity.max() <= 255 else 65535)
    if (alpha == 1).all():
        notes.append("opaque fourth channel dropped")
        return colours
    notes.append("transparent fourth channel composed over white")
    lit = colours if kind == "premultiplied" else colours * alpha
    return np.rint(np.minimum(lit + 255 * (1 - alpha), 255)).astype(np.uint8)


def _read_jpeg(path: str | os.PathLike) -> Picture:
    try:
        with Image.open(path, formats=("JPEG",)) as image:
            check_size(path, image.height, image.width)
            if image.mode not in ("L", "RGB"):
                raise DataError(f"{path}: its colours are stored as {image.mode}, expected RGB")
            return Picture(np.asarray(image), jpeg=True)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise error if isinstance(error, DataError) else unreadable(path, error) from error


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
