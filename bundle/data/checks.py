"""Checks of the files behind data-list items: headers (cheap) or every voxel (deep)."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from bundle.data.bounds import NIFTI_SUFFIXES, check_file, check_nifti, check_size, has_suffix, unpack_nifti
from bundle.data.convert import read_array
from bundle.data.errors import DataError
from bundle.data.progress import progress
from bundle.data.tiles import TILE_SUFFIXES, read_pixels

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

    Always: the files exist, headers of NIfTI, PNG and TIFF are readable, image and label have the same spatial shape,
    a file with several channels has ``len(modality)`` of them, and no NIfTI file is shorter than its header says;
    images in PNG and TIFF have 8 bits. With `deep` every voxel is decoded: damaged and truncated files, label values
    outside `labels` (or that number no objects), and image values that are not finite are found.

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
        return _check_item(item, len(modality), allowed, deep)

    if not deep:
        return [problem for item in items for problem in check(item)]
    # Decompression releases the interpreter lock, so threads are enough.
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        return [p for found in progress(pool.map(check, items), "check files", len(items)) for p in found]


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


def _check_item(item: Mapping[str, Any], channels: int, labels: list[int] | None, deep: bool) -> list[str]:
    case, label = item["case"], item["label"]
    images = item["image"] if isinstance(item["image"], (list, tuple)) else [item["image"]]
    single = not isinstance(item["image"], (list, tuple))
    problems, shapes = [], {}
    for field, path in [*(("image", path) for path in images), ("label", label)]:
        try:
            check_file(path)
            if has_suffix(path, TILE_SUFFIXES):
                shapes[path] = _picture_shape(path, channels if single and field == "image" else 1, field)
            else:
                shapes[path] = _header_shape(path)
            array = _decode(path) if deep else None
            if array is not None:
                problems += _check_voxels(array, path, case)
                problems += _check_labels(array, path, case, labels) if field == "label" else []
        except DataError as error:
            problems.append(f"case {case}, {field}: {error}")
    expected = shapes.get(label)
    for path in images:
        shape = shapes.get(path)
        if shape is None:
            continue
        several = single and channels > 1 and not has_suffix(path, TILE_SUFFIXES)
        if several and (len(shape) != 4 or shape[3] != channels):
            problems.append(
                f"case {case}, image: {path} has shape {shape}, expected four dimensions with {channels} channels last"
            )
        elif expected is not None and shape[:3] != expected[:3]:
            problems.append(
                f"case {case}: image {path} has shape {shape[:3]}, label {label} has {expected[:3]}; expected the same"
            )
    return problems


def _header_shape(path: str) -> tuple[int, ...] | None:
    """Shape from the header; None for formats that are read only while decoding."""
    if not has_suffix(path, NIFTI_SUFFIXES):
        return None
    try:
        image = nib.load(path)
        shape = tuple(int(n) for n in image.shape)
        # nibabel clears the offset in the header that it returns: ask the array proxy.
        needed = image.dataobj.offset + int(np.prod(shape)) * image.get_data_dtype().itemsize
    except Exception as error:
        raise DataError(f"{path}: unreadable or truncated, expected a NIfTI header ({_reason(error)})") from error
    if _stored_size(path) != needed % 2**32:
        # Legal for files of several gzip members or with trailing bytes; decoding tells those from truncated ones.
        decode_nifti(path)
    return shape


def _picture_shape(path: str, channels: int, field: str) -> tuple[int, ...]:
    """Columns and rows of a PNG or TIFF file, from its header."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise DataError(f"{path}: unreadable or truncated, expected a PNG or TIFF header ({_reason(error)})") from error
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


def _decode(path: str) -> np.ndarray:
    if has_suffix(path, NIFTI_SUFFIXES):
        return decode_nifti(path)
    if has_suffix(path, TILE_SUFFIXES):
        return read_pixels(path)
    return read_array(path)


def _check_voxels(array: np.ndarray, path: str, case: str) -> list[str]:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return [f"case {case}: {path} holds values that are not finite, expected finite numbers only"]
    return []


def _check_labels(array: np.ndarray, path: str, case: str, labels: list[int] | None) -> list[str]:
    """`labels` are the values that may occur; None for instances."""
    if labels is None:
        whole = array.dtype.kind in "bui" or (np.isfinite(array).all() and (array == np.rint(array)).all())
        if not whole or array.min() < 0:
            return [f"case {case}: label {path} holds fractions or negative values, expected whole numbers from 0"]
        return [] if array.any() else [f"case {case}: label {path} holds no object, expected at least one"]
    outside = np.ones(array.shape, dtype=bool)
    for value in labels:
        outside &= array != value
    if not outside.any():
        return []
    found = ", ".join(f"{value:g}" for value in np.unique(array[outside])[:8])
    allowed = ", ".join(map(str, labels))
    return [f"case {case}: label {path} holds the values {found}, expected only {allowed}"]


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
