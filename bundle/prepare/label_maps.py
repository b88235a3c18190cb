"""Masks and instance maps from image files, NumPy and MATLAB files: one 2-D array, of any type, not yet checked.

=============================  =======================================================================================
``.png``, ``.tif``, ``.tiff``  one channel
``.npy``, ``.npz``             2-D; ``.npz``: the array ``inst_map``, or the only one
``.mat``                       up to version 7: the 2-D variable ``inst_map``, sparse or not, or the only one
=============================  =======================================================================================

Also in ``.npy`` and ``.npz``: a tile of HoVer-Net, H×W×2 (instances, types) or H×W×4 or 5 (red, green, blue, instances,
types), and one of PanNuke, H×W×6 (instances by type, then background). Names are compared without case and
underscores.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import scipy.io
import scipy.sparse

from bundle.data.errors import DataError
from bundle.data.tiff import MAX_PIXELS, check_size
from bundle.data.tiles import read_picture

MAX_BYTES = 8 * MAX_PIXELS
# Of MATLAB files: types of numbers, and classes of arrays that hold numbers.
_TYPES = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13}
_NUMERIC = range(5, 16)
_SPARSE = 5
_COMPRESSED = 15


def read_picture_map(path: Path) -> np.ndarray:
    """A map from a PNG or TIFF file.

    Raises:
        DataError: unreadable, several channels, or stored with JPEG.
    """
    picture = read_picture(path)
    if picture.jpeg:
        raise DataError(f"{path}: is stored with JPEG, which changes values, expected whole numbers; save it as PNG")
    if picture.pixels.ndim != 2:
        raise DataError(
            f"{path}: has shape {picture.pixels.shape}, expected one channel: a mask, or a number for each nucleus "
            "(colours, also those of a palette, number nothing)"
        )
    return picture.pixels


def read_npy(path: Path) -> np.ndarray:
    """A map from a NumPy file; its header is checked before its numbers are read.

    Raises:
        DataError: unreadable, truncated, too large, objects, or a stack of tiles.
    """
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # damaged headers raise a dozen types
        raise DataError(f"{path}: unreadable or truncated, expected an array of numbers ({error})") from error
    return _plane(values, path)


def read_npz(path: Path) -> np.ndarray:
    """A map from an archive of NumPy files; what it unpacks to is checked before it is unpacked.

    Raises:
        DataError: unreadable, too large, no array called ``inst_map`` and several others.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {Path(entry.filename).stem: entry.file_size for entry in archive.infolist()}
        name = _choose(list(sizes), path, "arrays")
        if sizes[name] > MAX_BYTES:
            raise DataError(f"{path}: unpacks to {sizes[name]:,} bytes, expected at most {MAX_BYTES:,}")
        with np.load(path, allow_pickle=False) as arrays:
            values = arrays[name]
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise a dozen types
        raise DataError(f"{path}: unreadable or truncated, expected arrays of numbers ({error})") from error
    return _plane(values, path)


def read_mat(path: Path) -> np.ndarray:
    """A map from a MATLAB file; sizes are checked before the numbers are unpacked.

    Raises:
        DataError: unreadable, of version 7.3, too large, no 2-D variable called ``inst_map`` and several others.
    """
    with open(path, "rb") as file:
        if file.read(10) == b"MATLAB 7.3":
            raise DataError(f"{path}: unreadable, of MATLAB 7.3 (HDF5); save it with -v7")
    try:
        _check_elements(path)
        shapes = {
            name: shape
            for name, shape, kind in scipy.io.whosmat(path)
            if kind not in ("char", "cell", "struct", "object", "function", "opaque") and len(shape) == 2
            and min(shape) > 1
        }  # fmt: skip
        name = _choose(list(shapes), path, "2-D variables")
        check_size(path, *shapes[name])
        values = scipy.io.loadmat(path, variable_names=[name])[name]
        if scipy.sparse.issparse(values):
            values.check_format(full_check=True)  # a wrong index would write beside the array
            values = values.toarray()
    except DataError:
        raise
    except Exception as error:  # damaged files raise a dozen types
        raise DataError(f"{path}: unreadable, expected a MATLAB file up to version 7 ({error})") from error
    return values


MAP_READERS: dict[str, Callable[[Path], np.ndarray]] = {
    ".png": read_picture_map,
    ".tif": read_picture_map,
    ".tiff": read_picture_map,
    ".npy": read_npy,
    ".npz": read_npz,
    ".mat": read_mat,
}


def _choose(names: Sequence[str], path: Path, what: str) -> str:
    wanted = [name for name in names if name.lower().replace("_", "") == "instmap"] or names
    if len(wanted) != 1:
        raise DataError(
            f"{path}: holds the {what} {', '.join(sorted(names)[:20]) or '(none)'}, expected inst_map or a single one"
        )
    return wanted[0]


def _plane(values: np.ndarray, path: Path) -> np.ndarray:
    """The map of an array, which can hold a tile as HoVer-Net and PanNuke have it."""
    if values.nbytes > MAX_BYTES:
        raise DataError(f"{path}: has shape {values.shape}, {values.nbytes:,} bytes, expected at most {MAX_BYTES:,}")
    if values.ndim == 4:
        raise DataError(
            f"{path}: holds a stack of {len(values)} tiles, as PanNuke's folds do; save the map of each tile as "
            f"an .npy file of its own, shape {values.shape[1:]}"
        )
    if values.ndim != 3 or values.shape[2] not in (2, 4, 5, 6):
        return np.asarray(values)
    if values.shape[2] < 6:
        return np.asarray(values[..., 0 if values.shape[2] == 2 else 3])
    return _pannuke(np.asarray(values), path)


def _pannuke(values: np.ndarray, path: Path) -> np.ndarray:
    if not np.isin(values[..., 5], (0, 1)).all():
        raise DataError(f"{path}: has shape {values.shape}, expected background, 0 and 1, in the last channel")
    instances = np.zeros(values.shape[:2], np.float64)
    for channel in np.moveaxis(values[..., :5], -1, 0):
        # Numbers may begin anew in every channel.
        instances = np.where(channel > 0, channel + instances.max(), instances)
    return instances


def _check_elements(path: Path) -> None:
    """Bound what the elements of a version 5 file unpack to, and look at the types that they say: SciPy looks up
    whatever number stands there, and crashes. The format is MathWorks' "MAT-File Format", Level 5.
    """
    with open(path, "rb") as file:
        order = {b"IM": "<", b"MI": ">"}.get(file.read(128)[126:128])
        total = 0
        while order and len(tag := file.read(8)) == 8:
            kind, length = (int(value) for value in np.frombuffer(tag, f"{order}u4"))
            content = file.read(length)
            if kind == _COMPRESSED:
                content = zlib.decompressobj().decompress(content, MAX_BYTES + 1 - total)[8:]
            total += len(content)
            if total > MAX_BYTES - 8:
                raise DataError(f"{path}: unpacks to more than {MAX_BYTES:,} bytes, expected a tile's map")
            _check_parts(content, order)


def _check_parts(content: bytes, order: str) -> None:
    """Of a matrix: flags, size, name, numbers; a small part holds its length in the upper half of its type."""
    kinds: list[int] = []
    position = 0
    while position + 8 <= len(content):
        kind, length = (int(value) for value in np.frombuffer(content, f"{order}u4", 2, position))
        small = kind >> 16
        kinds.append(kind & 0xFFFF)
        position += 8 if small else 8 + -(-length // 8) * 8
        if small > 4 or position > len(content):
            raise ValueError("an element is longer than what holds it")
    flags = int(np.frombuffer(content, f"{order}u4", 1, 8)[0]) if len(content) >= 16 else 0
    if (flags & 0xFF) not in _NUMERIC:
        return  # text, cells and structures are not read
    numbers = kinds[3:]
    if flags & 0x800 or len(numbers) != (3 if flags & 0xFF == _SPARSE else 1) or not set(numbers) <= _TYPES:
        raise ValueError(f"elements of types {kinds[:8]}, expected real numbers")
