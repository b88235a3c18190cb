"""Slices that an image lacks and its label has: what resampling would hide."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import SimpleITK as sitk

from bundle.data.errors import DataError


def check_label_inside(volumes: Mapping[str, sitk.Image], label: str) -> None:
    """A label map that was drawn on a modality lies in it.

    A series without its last slice is evenly spaced and numbered without a gap; only the label map, drawn when it was
    whole, still has that slice. Labels on grids of their own say nothing, nor do such as were cut to what they show.

    Args:
        volumes: by name.
        label: which of them is the label map.

    Raises:
        DataError: the label map has the voxels of some modality, and goes on where all of those end.
    """
    beyond = {name: _beyond(volumes[label], volume) for name, volume in volumes.items() if name != label}
    drawn_on = {name: count for name, count in beyond.items() if count is not None}
    if drawn_on and min(drawn_on.values()) > 0:
        name, count = min(drawn_on.items(), key=lambda pair: pair[1])
        plural = "s" if count > 1 else ""
        raise DataError(
            f"{label} goes on for {count} slice{plural} where {name} ends (sizes {volumes[label].GetSize()} and "
            f"{volumes[name].GetSize()}, on the same voxels); expected the whole {name}: are its first or last slices "
            "missing?"
        )


def _beyond(label: sitk.Image, image: sitk.Image) -> int | None:
    """How many slices of voxels the label has outside of the image; None if their voxels do not lie on each other."""
    if label.GetSize() == image.GetSize():
        return 0  # nothing is missing; whether the headers agree is another question
    if not (
        np.allclose(label.GetSpacing(), image.GetSpacing(), rtol=1e-3, atol=0)
        and np.allclose(label.GetDirection(), image.GetDirection(), rtol=0, atol=1e-3)
    ):
        return None
    start = np.array(image.TransformPhysicalPointToContinuousIndex(label.GetOrigin()))
    if np.abs(start - np.rint(start)).max() > 0.1:
        return None
    end = np.rint(start) + label.GetSize()
    return int(np.maximum(0, -np.rint(start)).sum() + np.maximum(0, end - image.GetSize()).sum())
