"""TIFF files: what the header says of the samples, and their decoding by ITK or tifffile.

ITK's libtiff decodes what its codecs and types cover, as ever and without another package; tifffile the rest (64 bits,
tiles of more than 8 bits, opacity in tiles, JPEG-2000, WebP, LZMA, Zstandard …), compressed files with imagecodecs
(``pip install 'asyndgan-bundle[tiff]'``). ITK alone would read tiles of 16 bits as 8, silently.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import tifffile

from bundle.data.errors import DataError

# It warns of what is raised here with the name of the file.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

# Little and big endian, 32-bit offsets and 64-bit ones.
SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# A tile has a million or a few. More is a slide, or a file made to fill the memory.
MAX_PIXELS = 2**26
_ITK_CODECS = (1, 2, 3, 4, 5, 7, 8, 32773, 32946)  # none, CCITT, LZW, JPEG, deflate, PackBits
_ITK_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32")
_COLOURS = ("MINISBLACK", "MINISWHITE", "RGB", "PALETTE", "YCBCR")


@dataclass(frozen=True)
class Picture:
    """An image as it is stored.

    Attributes:
        pixels: rows × columns, or rows × columns × samples; a palette is expanded to colours.
        opacity: what the file says of a fourth sample: ``"straight"``, ``"premultiplied"`` (colours are multiplied by
            it already), or None: no opacity.
        jpeg: stored with JPEG, which changes values.
    """

    pixels: np.ndarray
    opacity: str | None = None
    jpeg: bool = False


def check_size(path: str | os.PathLike, *shape: int) -> None:
    """Raise before memory is spent on it.

    Raises:
        DataError: more than :data:`MAX_PIXELS` pixels, or none.
    """
    if not 0 < np.prod(shape, dtype=object) <= MAX_PIXELS:
        raise DataError(
            f"{path}: has {' × '.join(map(str, shape))} pixels, expected a tile of at most {MAX_PIXELS:,}; cut tiles "
            "out of a whole slide with QuPath or OpenSlide"
        )


def read_itk(path: str | os.PathLike, kind: str) -> np.ndarray:
    """Pixels of one file of a known kind.

    Args:
        path: the file.
        kind: of ITK's readers, ``"PNG"`` or ``"TIFF"``.

    Raises:
        DataError: unreadable, truncated or too large.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(os.fspath(path))
    reader.SetImageIO(f"{kind}ImageIO")
    try:
        reader.ReadImageInformation()
        check_size(path, *reader.GetSize()[::-1])
        return sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[-1].strip()
        raise unreadable(path, reason) from error


def unreadable(path: str | os.PathLike, reason: object) -> DataError:
    """The error for a file that cannot be decoded."""
    return DataError(f"{path}: unreadable or truncated, expected a whole PNG, TIFF or JPEG file ({reason})")


def read_tiff(path: str | os.PathLike) -> Picture:
    """The one image of a TIFF file.

    Reduced copies are left out, of an Aperio ``.svs`` all but the first page; three grey pages of an OME-TIFF are red,
    green and blue.

    Raises:
        DataError: unreadable, truncated, too large, several images, colours that are no RGB, or a codec that is not
            installed.
    """
    try:
        with tifffile.TiffFile(path) as file:
            pages = _pages(file, path)
            for page in pages:
                _check(page, path, file.filehandle.size)
            first = pages[0]
            if len(pages) == 1 and _itk_decodes(first):
                pixels = _without_filler(read_itk(path, "TIFF"), first)
            else:
                pixels = np.dstack([_decode(page, path) for page in pages]) if len(pages) > 1 else _decode(first, path)
            opacity = {1: "premultiplied", 2: "straight"}.get(int(first.extrasamples[0]) if first.extrasamples else 0)
            return Picture(pixels, opacity, int(first.compression) in (6, 7))
    except DataError:
        raise
    except Exception as error:  # damaged files raise a dozen types
        raise unreadable(path, error) from error


def _pages(file: tifffile.TiffFile, path: str | os.PathLike) -> list[tifffile.TiffPage]:
    """One page, or the three that are the channels of a colour image."""
    pages = [page.aspage() for page in (file.pages[:1] if file.is_svs else file.pages)]
    pages = [page for page in pages if not page.is_reduced] or pages[:1]
    if not pages:
        raise unreadable(path, "it holds no image")
    channels = (file.is_ome or file.is_imagej) and len(pages) == 3 and all(page.samplesperpixel == 1 for page in pages)
    if len(pages) != 1 and not channels:
        raise DataError(f"{path}: holds {len(pages)} images, expected one image of rows, columns and channels")
    return pages


def _check(page: tifffile.TiffPage, path: str | os.PathLike, size: int) -> None:
    """What is known before anything is decoded."""
    check_size(path, page.imagelength, page.imagewidth)
    check_size(path, page.tilelength or 1, page.tilewidth or 1)
    if page.imagedepth != 1 or page.samplesperpixel > 8:
        raise DataError(
            f"{path}: has {page.imagedepth} slices of {page.samplesperpixel} samples, expected one image of rows, "
            "columns and channels"
        )
    if page.dtype is None:
        raise DataError(f"{path}: has pixels of {page.bitspersample} bits, expected 8, 16, 32 or 64")
    photometric = _name(page.photometric)
    if photometric not in _COLOURS:
        raise DataError(f"{path}: its colours are stored as {photometric}, expected RGB")
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    # Where parts are missing, tifffile would fill with zeros.
    if len(parts) < np.prod(page.chunked) or not all(0 < count <= size - offset for offset, count in parts):
        raise unreadable(path, "it ends before its pixels do")


def _itk_decodes(page: tifffile.TiffPage) -> bool:
    plain = not page.is_tiled and page.planarconfig == 1 and page.bitspersample == 8 * page.dtype.itemsize
    shown = page.bitspersample in (1, 8) and page.dtype.kind in "bu" and not page.extrasamples
    types = "bool" if page.bitspersample == 1 else page.dtype.name
    return page.compression in _ITK_CODECS and types in (*_ITK_TYPES, "bool") and (plain or shown)


def _without_filler(pixels: np.ndarray, page: tifffile.TiffPage) -> np.ndarray:
    """ITK shows some files (one bit, tiles, JPEG) as red, green, blue and an opaque fourth sample of its own.

    Then it turns what counts from white, as tifffile writes masks of type bool. Numbers are wanted as they are stored.
    """
    photometric = _name(page.photometric)
    if pixels.ndim != 3 or pixels.shape[2] <= page.samplesperpixel or photometric == "PALETTE":
        return pixels
    if photometric == "MINISWHITE":
        pixels = 255 - pixels
    return pixels[..., 0] if page.samplesperpixel == 1 else pixels[..., : page.samplesperpixel]


def _decode(page: tifffile.TiffPage, path: str | os.PathLike) -> np.ndarray:
    photometric = _name(page.photometric)
    if photometric == "YCBCR" and page.compression != 7:  # JPEG gives RGB
        raise DataError(f"{path}: its colours are stored as {photometric}, expected RGB")
    if page.compression != 1 and importlib.util.find_spec("imagecodecs") is None:
        raise DataError(
            f"{path}: is compressed with {_name(page.compression)}, which needs the package imagecodecs (pip install "
            "'asyndgan-bundle[tiff]'); or save it without compression"
        )
    pixels = page.asarray(maxworkers=1)
    if page.planarconfig == 2 and page.samplesperpixel > 1:
        pixels = np.moveaxis(pixels, 0, -1)
    return np.moveaxis(page.colormap[:, pixels], 0, -1) if photometric == "PALETTE" else pixels


def _name(value: object) -> str:
    """Of a value that tifffile knows, else the number."""
    return getattr(value, "name", str(value))
