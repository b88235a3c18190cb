"""Checks of the files behind data-list items: headers (cheap) or every voxel (deep)."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from bundle.data.bounds import (
    NIFTI_SUFFIXES,
    VOLUME_SUFFIXES,
    check_file,
    check_nifti,
    check_size,
    has_suffix,
    unpack_nifti,
)
from bundle.data.errors import DataError
from bundle.data.geometry import image_affine
from bundle.data.itk_files import read_array
from bundle.data.one_grid import REMEDY, grid_problem
from bundle.data.progress import progress
from bundle.data.tiles import TILE_SUFFIXES, read_pixels
from bundle.data.voxels import channels_of, check_finite, check_labels, check_varied, copies, digest_of

# Decoded volumes of four modalities take some hundred MB a case, so more threads cost more than they bring.
MAX_THREADS = 4


def check_files(
    items: Sequence[Mapping[str, Any]],
    modality: Sequence[str],
    labels: Iterable[int],
    deep: bool = False,
    label_type: str = "classes",
) -> list[str]:
    """Check the image and label files of data-list items.

    Always: the files exist, headers of NIfTI, PNG and TIFF are readable, image and label have the same spatial shape
    and, in volumes, headers of one grid; volumes have three dimensions and one real number per voxel, a file with
    several channels has ``len(modality)`` of them, and no NIfTI file is shorter than its header says; images in PNG and
    TIFF have 8 bits. With `deep` every voxel is decoded: damaged and truncated files, label values outside `labels` (or
    that number no objects), volumes of one or two values, image values that are not finite, and a modality that is a
    copy of another are found.

    Args:
        items: dicts with ``image`` (a path, or one per modality), ``label`` (a path) and ``case``.
        modality: channel names of the image.
        labels: every label value that may occur.
        deep: decode every file.
        label_type: with ``"instances"`` label values are numbers of objects: any whole numbers, not all 0.

    Returns:
        One sentence for each problem, in the order of the items; empty if there is none.
    """
    allowed = None if label_type == "instances" else sorted(labels)

    def check(item: Mapping[str, Any]) -> list[str]:
        return _check_item(item, modality, allowed, deep)

    if not deep:
        return [problem for item in items for problem in check(item)]
    # Decompression releases the interpreter lock, so threads are enough.
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        return [p for found in progress(pool.map(check, items), "check files", len(items)) for p in found]


def find_copies(items: Sequence[Mapping[str, Any]], modality: Sequence[str]) -> dict[str, str]:
    """Cases of which one modality is a copy of another, and which; nothing else that is wrong is looked at.

    Args:
        items: as for :func:`check_files`.
        modality: channel names of the image.

    Returns:
        A phrase by case.
    """
    found = {}
    for item in progress(items, "compare modalities", len(items)) if len(modality) > 1 else []:
        single = not isinstance(item["image"], (list, tuple))
        try:
            arrays = [decode_image(path) for path in ([item["image"]] if single else item["image"])]
        except (DataError, OSError):
            continue
        if any(array is None for array in arrays):
            continue
        parts = channels_of(arrays[0], modality) if single else zip(modality, arrays, strict=True)
        copied = copies({name: digest_of(part) for name, part in parts})
        if copied:
            found[item["case"]] = copied[0]
    return found


def decode_nifti(path: str | os.PathLike) -> np.ndarray:
    """All voxels of a NIfTI file in its spatial axis order, with slope and intercept applied; checksums verified.

    Raises:
        DataError: the file is truncated, damaged, or no NIfTI file.
    """
    path = Path(path)
    try:
        if not has_suffix(path, (".nii.gz",)):
            check_nifti(path)
            return np.asanyarray(nib.load(path).dataobj)
        # nibabel stops reading before the checksum at the end of a .gz file: decompress it whole.
        content = unpack_nifti(path)
        return np.asanyarray(type(nib.load(path)).from_bytes(content).dataobj)
    except DataError:
        raise
    except Exception as error:  # nibabel, gzip and zlib raise a dozen types for damaged files
        raise DataError(f"{path}: unreadable or truncated, expected a whole NIfTI file ({_reason(error)})") from error


@dataclass(frozen=True)
class _Header:
    """Shape of an array, and of a volume the 4×4 matrix from voxel indices to millimetres."""

    shape: tuple[int, ...]
    affine: np.ndarray | None = None


def _check_item(item: Mapping[str, Any], modality: Sequence[str], labels: list[int] | None, deep: bool) -> list[str]:
    case, label = item["case"], item["label"]
    single = not isinstance(item["image"], (list, tuple))
    images = [item["image"]] if single else item["image"]
    channels = len(modality) if single else 1
    problems, headers, digests = [], {}, {}
    for number, (field, path) in enumerate([*(("image", path) for path in images), ("label", label)]):
        expected = channels if field == "image" else 1
        try:
            check_file(path)
            headers[path] = _header(path, expected, field)
            array = decode_image(path) if deep else None
        except DataError as error:
            problems.append(f"case {case}, {field}: {error}")
            continue
        if array is None:
            continue
        problems += check_finite(array, path, case)
        if field == "label":
            problems += check_labels(array, path, case, labels)
        elif (header := headers[path]) is not None and header.affine is not None:
            names = modality if single else [modality[number]]
            for name, part in channels_of(array, names):
                flat = check_varied(part, name, path, case)
                problems += flat
                if not flat:
                    digests[name] = digest_of(part)
    copied = [f"case {case}: {problem}" for problem in copies(digests)]
    return problems + copied + _check_grids(headers, images, label, case)


def _check_grids(headers: Mapping[str, _Header | None], images: Sequence[str], label: str, case: str) -> list[str]:
    """Image and label lie voxel on voxel, and so do the files of several modalities."""
    found = {path: headers.get(path) for path in (*images, label)}
    known = {path: header for path, header in found.items() if header is not None}
    if label in known:
        shapes = {path: header.shape[:3] for path, header in known.items()}
        problems = [
            f"case {case}: image {path} has shape {shapes[path]}, label {label} has {shapes[label]}; expected the same"
            for path in images
            if path in known and shapes[path] != shapes[label]
        ]
        if problems:
            return problems
    grids = {path: (header.shape[:3], header.affine) for path, header in known.items() if header.affine is not None}
    problem = grid_problem(grids) if len(grids) > 1 else None
    if problem:
        return [f"case {case}: {problem}"]
    affines = [grids[path][1] for path in images if path in grids]
    # MONAI reads the modalities of a case as channels of one image, and compares their headers to the last digits
    if not all(np.allclose(affine, affines[0]) for affine in affines):
        return [f"case {case}: headers of {', '.join(images)} differ by rounding, expected the same ({REMEDY})"]
    return []


def _header(path: str, channels: int, field: str) -> _Header | None:
    """From the header of a file; None for formats that are read only while decoding."""
    if has_suffix(path, TILE_SUFFIXES):
        return _Header(_picture_shape(path, channels, field))
    if not has_suffix(path, VOLUME_SUFFIXES):
        return None
    header = _nifti_header(path) if has_suffix(path, NIFTI_SUFFIXES) else _itk_header(path)
    _check_dimensions(header.shape, path, channels)
    return header


def _nifti_header(path: str) -> _Header:
    try:
        image = nib.load(path)
        shape, dtype = tuple(int(n) for n in image.shape), image.get_data_dtype()
        # nibabel clears the offset in the header that it returns: ask the array proxy.
        needed = image.dataobj.offset + int(np.prod(shape)) * dtype.itemsize
    except Exception as error:
        raise DataError(f"{path}: unreadable or truncated, expected a NIfTI header ({_reason(error)})") from error
    if dtype.kind not in "buif":
        found = "complex numbers" if dtype.kind == "c" else "colours (RGB)"
        raise DataError(f"{path}: holds {found}, expected one real number per voxel")
    if _stored_size(path) != needed % 2**32:
        # Legal for files of several gzip members or with trailing bytes; decoding tells those from truncated ones.
        decode_nifti(path)
    return _Header(shape, image.affine)


def _itk_header(path: str) -> _Header:
    reader = _read_header(path, "a volume's header")
    if reader.GetNumberOfComponents() != 1:
        raise DataError(f"{path}: has {reader.GetNumberOfComponents()} components, expected one real number per voxel")
    shape = tuple(reader.GetSize())
    return _Header(shape, image_affine(reader) if len(shape) == 3 else None)


def _read_header(path: str, expected: str) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise DataError(f"{path}: unreadable or truncated, expected {expected} ({_reason(error)})") from error
    return reader


def _check_dimensions(shape: tuple[int, ...], path: str, channels: int) -> None:
    if channels > 1:
        if len(shape) != 4 or shape[3] != channels:
            raise DataError(f"{path} has shape {shape}, expected four dimensions with {channels} channels last")
    # a last dimension of 1 is a channel
    elif len(shape) != 3 and (len(shape) != 4 or shape[3] != 1):
        hint = "one value per voxel, no channels and no frames" if len(shape) > 3 else "one slice is rows × columns × 1"
        raise DataError(f"{path}: has shape {shape}, expected three dimensions ({hint})")


def _picture_shape(path: str, channels: int, field: str) -> tuple[int, ...]:
    """Columns and rows of a PNG or TIFF file, from its header."""
    reader = _read_header(path, "a PNG or TIFF header")
    check_size(reader.GetSize(), path)
    if reader.GetNumberOfComponents() != channels:
        raise DataError(f"{path}: has {reader.GetNumberOfComponents()} channels, expected {channels}")
    if field == "image" and reader.GetPixelID() not in (sitk.sitkUInt8, sitk.sitkVectorUInt8):
        found = sitk.GetPixelIDValueAsString(reader.GetPixelID())
        raise DataError(f"{path}: has pixels of type {found}, expected 8-bit unsigned integer")
    return tuple(reader.GetSize())


def _stored_size(path: str) -> int:
    """Uncompressed size modulo 2^32: gzip keeps it in the last four bytes (RFC 1952), so nothing is decompressed."""
    if not has_suffix(path, (".nii.gz",)):
        return os.path.getsize(path) % 2**32
    with open(path, "rb") as file:
        if file.seek(0, os.SEEK_END) < 4:
            return -1
        file.seek(-4, os.SEEK_END)
        return struct.unpack("<I", file.read(4))[0]


def decode_image(path: str) -> np.ndarray:
    """All pixels or voxels of a file, channels last.

    Raises:
        DataError: the file is truncated, damaged, or of no format that is read.
    """
    if has_suffix(path, NIFTI_SUFFIXES):
        return decode_nifti(path)
    if has_suffix(path, TILE_SUFFIXES):
        return read_pixels(path)
    return read_array(path)


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
