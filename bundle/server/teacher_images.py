"""The images that sites' teachers predicted, as a file at the server."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from bundle.files import atomic_path

__all__ = ["read_teacher_images", "write_teacher_images"]

MAX_IMAGE_BYTES = 2**27
"""Of one image, unpacked: 64 channels of 1024×1024 in float16."""


def write_teacher_images(path: str | PathLike, images: Mapping[str, Sequence[np.ndarray]]) -> None:
    """
    Args:
        path: file to write: NumPy's ``.npz``, one array ``SITE/NUMBER`` for each image, numbered as its condition.
        images: C×H×W in [-1, 1] by site; stored as float16.
    """
    arrays: dict[str, Any] = {
        f"{site}/{number}": image.astype(np.float16)
        for site, found in images.items()
        for number, image in enumerate(found)
    }
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def read_teacher_images(path: str | PathLike) -> dict[str, list[np.ndarray]]:
    """
    What :func:`write_teacher_images` wrote: C×H×W float16 by site, in the order of their numbers.

    Raises:
        ValueError: when the file holds anything else.
    """
    images: dict[str, list[np.ndarray]] = {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            names = ((site, number, name) for name in stored.files for site, _, number in [name.rpartition("/")])
            for site, _, name in sorted((site, int(number), name) for site, number, name in names):
                image = stored[name]
                if image.dtype != np.float16 or image.ndim != 3 or not 0 < image.nbytes <= MAX_IMAGE_BYTES:
                    raise ValueError(f"{name} is {image.dtype} {image.shape}")
                # a NaN is within no bounds
                if not np.abs(image).max() <= 1:
                    raise ValueError(f"{name} has values beyond -1 and 1")
                images.setdefault(site, []).append(image)
    except (ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path}: expected NumPy's .npz of arrays SITE/NUMBER, each C×H×W float16 in [-1, 1] ({error})"
        ) from error
    return images
