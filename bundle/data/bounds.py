"""What a file may be before it is decoded: of which kind, how large, and where its pixels lie.

A data list, an archive or a header may come from anybody. Everything here looks at names and headers alone; a file that
says more than the bounds allow costs nothing.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib

from bundle.data.errors import DataError

MAX_VOXELS = 2**28
"""Voxels of one file, all channels together: 645³, or 2 GB as 64-bit numbers. BraTS has 9 million a volume."""

MAX_HEADER_BYTES = 2**24
"""Of a NIfTI file before its voxels (extensions), and of the text of an NRRD or MetaImage header."""

MAX_HEADER_LINE = 1024
"""Bytes of a line of such a text."""

MAX_DEFLATE = 1040
"""Bytes that one byte of a .gz file can become: 1032 by the format (RFC 1951), and a little."""

NIFTI_SUFFIXES = (".nii.gz", ".nii")
META_SUFFIXES = (".mha", ".mhd")
NRRD_SUFFIXES = (".nrrd", ".nhdr")
DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
PICTURE_SUFFIXES = (".png", ".tif", ".tiff")
DATA_SUFFIXES = (*NIFTI_SUFFIXES, *NRRD_SUFFIXES, *META_SUFFIXES, *PICTURE_SUFFIXES)
VOLUME_SUFFIXES = (*NIFTI_SUFFIXES, *NRRD_SUFFIXES, *META_SUFFIXES, *DICOM_SUFFIXES)
"""What a data list may name. Readers go by suffix, and some of other kinds run what a file says (pickled arrays)."""

# Every place where a header names the file of its pixels. MetaIO reads by key, NRRD by line.
_META_FILE = re.compile(rb"ElementDataFile\s*[=:][ \t]*([^\r\n]*)", re.IGNORECASE)
_META_DIMENSIONS = re.compile(rb"NDims\s*[=:]\s*(\S*)", re.IGNORECASE)
_NRRD_FILE = re.compile(rb"^data ?file:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


def has_suffix(path: str | os.PathLike, suffixes: Sequence[str]) -> bool:
    """Whether the file name ends in one of `suffixes`, whatever the case of its letters."""
    return os.fspath(path).lower().endswith(tuple(suffixes))


def lies_in(path: str | os.PathLike, folder: str | os.PathLike) -> bool:
    """Whether `path` is in `folder` or below, by its name: links are the user's own."""
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def check_size(shape: Sequence[int], path: str | os.PathLike) -> None:
    """
    Raises:
        DataError: a dimension below 1, or more than :data:`MAX_VOXELS` in all.
    """
    if min(shape, default=0) < 1 or math.prod(shape) > MAX_VOXELS:
        raise DataError(f"{path}: has shape {tuple(shape)}, expected at least 1 each and at most {MAX_VOXELS} voxels")


def check_file(path: str | os.PathLike) -> None:
    """Check what can be told before a reader opens a file of pixels.

    Raises:
        DataError: no such file, of a kind that is not in :data:`DATA_SUFFIXES`, with pixels outside of its own folder,
            or a header that says more than the bounds, or than the file can hold.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such file")
    if not has_suffix(path, DATA_SUFFIXES):
        raise DataError(f"{path}: of unknown kind, expected an image in {', '.join(DATA_SUFFIXES)}")
    if has_suffix(path, NIFTI_SUFFIXES):
        check_nifti(path)
    elif has_suffix(path, (*META_SUFFIXES, *NRRD_SUFFIXES)):
        _check_text_header(path)


def check_nifti(path: str | os.PathLike) -> int:
    """The bytes that a NIfTI file has once it is decompressed, by its header.

    Raises:
        DataError: no NIfTI header, more voxels than :data:`MAX_VOXELS`, or more than the file can hold.
    """
    path = Path(path)
    packed = has_suffix(path, (".gz",))
    try:
        with (gzip.open if packed else open)(path, "rb") as file:
            start = file.read(nib.Nifti2Header.template_dtype.itemsize)
        size = int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big")
        kind = nib.Nifti2Header if nib.Nifti2Header.sizeof_hdr in size else nib.Nifti1Header
        header = kind(start[: kind.template_dtype.itemsize])
        shape, offset = header.get_data_shape(), int(header["vox_offset"])
        needed = offset + math.prod(shape) * header.get_data_dtype().itemsize
    except Exception as error:  # nibabel, gzip and zlib raise a dozen types for damaged files
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"{path}: unreadable or truncated, expected a NIfTI header ({reason})") from error
    check_size(shape, path)
    stored = path.stat().st_size * (MAX_DEFLATE if packed else 1)
    if not 0 <= offset <= MAX_HEADER_BYTES or needed > stored:
        raise DataError(
            f"{path}: unreadable or truncated, its header says {needed} bytes with the voxels from byte {offset} on, "
            f"the file has {path.stat().st_size}"
        )
    return needed


def unpack_nifti(path: str | os.PathLike) -> bytes:
    """The content of a ``.nii.gz`` file, checksum verified, no more of it than its header says and some trailing bytes.

    Raises:
        DataError: see :func:`check_nifti`; damaged, shorter than the header says, or much longer.
    """
    path = Path(path)
    limit = check_nifti(path) + MAX_HEADER_BYTES
    try:
        with gzip.open(path, "rb") as file:
            # up to the end: the checksum is there
            content = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: unreadable or truncated, expected a whole NIfTI file ({error})") from error
    if len(content) > limit:
        raise DataError(f"{path}: has more than {MAX_HEADER_BYTES} bytes after its voxels, expected its end there")
    return content


def _check_text_header(path: Path) -> None:
    """Pixels of NRRD and MetaImage may lie in other files: such as are in the folder of the header, or below."""
    with open(path, "rb") as file:
        start = file.read(MAX_HEADER_BYTES)
    if has_suffix(path, META_SUFFIXES):
        text, pattern = start, _META_FILE
        _check_meta(path, start)
    else:
        text, pattern = re.split(rb"\r?\n\r?\n", start, maxsplit=1)[0], _NRRD_FILE
    for match in pattern.finditer(text):
        named = [match.group(1)]
        if named[0].split()[:1] == [b"LIST"]:
            named = text[match.end() :].splitlines()
        for name in (os.fsdecode(name.strip()) for name in named):
            if not lies_in(path.parent / name, path.parent):
                raise DataError(f"{path}: names {name} as its pixels, expected a file of its folder")


def _check_meta(path: Path, start: bytes) -> None:
    """MetaIO (of ITK 5.4) writes beyond its arrays where a header has more dimensions, or longer lines, than those."""
    end = _META_FILE.search(start)
    if end is None:
        raise DataError(f"{path}: unreadable, expected a MetaImage header with ElementDataFile")
    lines = start[: end.end()].splitlines()
    dimensions = [match.group(1) for line in lines for match in _META_DIMENSIONS.finditer(line)]
    if not dimensions or not set(dimensions) <= {b"2", b"3", b"4"}:
        raise DataError(f"{path}: unreadable, expected a MetaImage header with an NDims of 2, 3 or 4")
    if max(map(len, lines)) > MAX_HEADER_LINE:
        raise DataError(f"{path}: its header has lines of more than {MAX_HEADER_LINE} bytes, expected shorter ones")
