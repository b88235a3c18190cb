"""Slices of a DICOM series as a stack: one volume, evenly spaced, whole. No file is opened here."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from bundle.data.errors import DataError

# Scanners and anonymisers round positions to a few decimals, and ITK reports deviations of 1e-15 mm: only what would
# move voxels counts. dcm2niix warns at the same order of magnitude.
MAX_UNEVEN = 0.01
# Cosines are written with 5 to 6 decimals and are the same text in every slice of a stack.
MAX_TURNED = 1e-3
# Of a pixel, in plane, over the whole stack: NIfTI and ITK know no sheared volumes.
MAX_SHIFT = 0.5


@dataclass(frozen=True)
class Slice:
    """One slice: where it lies, and where its pixels are.

    Attributes:
        path: its file.
        index: its frame in the file, from 0.
        shape: rows and columns.
        position: centre of the first pixel in the patient, mm.
        axes: unit vectors along a row and along a column, 2×3.
        pixel: distance between rows and between columns, mm.
        uid: the image's own identifier.
        rescale: holds what turns stored values into the scanner's units (rescale or modality LUT), may be empty.
        number: its number in the series or stack, None if not said.
        expected: how many images the acquisition has, None if not said.
        thickness: distance to the next slice or thickness, mm; None if not said.
        tells: by what several images of one place may differ, e.g. ``{"echo time": 80.0}``.
    """

    path: Path
    index: int
    shape: tuple[int, int]
    position: np.ndarray
    axes: np.ndarray
    pixel: tuple[float, float]
    uid: str
    rescale: Dataset
    number: int | None = None
    expected: int | None = None
    thickness: float | None = None
    tells: Mapping[str, Hashable] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.path.name}, frame {self.index + 1}" if self.index else self.path.name


@dataclass(frozen=True)
class Stack:
    """Slices in the order of their positions, and the grid that they make up.

    Attributes:
        slices: along the third axis of `direction`.
        spacing: of columns, rows and slices, mm: SimpleITK's order.
        direction: 3×3, an axis a column, orthonormal.
        begins_late: the first number, where it leaves room for others and is not that of another echo or time point.
    """

    slices: list[Slice]
    spacing: tuple[float, float, float]
    direction: np.ndarray
    begins_late: int | None = None


def make_stack(slices: Sequence[Slice], where: Path) -> Stack:
    """Order slices and check that they are one whole volume.

    Args:
        slices: of one series, at least one, in any order.
        where: for messages.

    Raises:
        DataError: slices of different sizes or directions, several images of one place (echoes, time points, copies),
            uneven distances, slices that are missing by positions or by numbers, shifted in plane, or a single one
            whose thickness is not said.
    """
    _check_same(slices, where)
    x = _unit(slices[0].axes[0])
    z = _unit(np.cross(x, slices[0].axes[1]))
    direction = np.column_stack([x, np.cross(z, x), z])
    ordered = sorted(slices, key=lambda slice_: float(slice_.position @ z))
    places = np.array([slice_.position @ z for slice_ in ordered])
    _check_places(ordered, places, where)
    _check_numbers(ordered, where)
    offsets = np.array([slice_.position - ordered[0].position for slice_ in ordered])
    shift = np.linalg.norm(offsets - np.outer(places - places[0], z), axis=1).max()
    if shift > MAX_SHIFT * min(slices[0].pixel):
        raise DataError(
            f"{where}: slices of the DICOM series are shifted against each other by {shift:.2f} mm in plane (a tilted "
            "gantry?), expected a stack at right angles"
        )
    rows, columns = slices[0].pixel
    first = min((slice_.number for slice_ in ordered if slice_.number is not None), default=1)
    late = first if first > 1 and (first - 1) % len(ordered) else None
    return Stack(ordered, (columns, rows, _distance(ordered, places, where)), direction, late)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _check_same(slices: Sequence[Slice], where: Path) -> None:
    first = slices[0]
    for other in slices[1:]:
        same = {
            "size": (first.shape == other.shape, first.shape, other.shape),
            "pixel spacing": (np.allclose(first.pixel, other.pixel, rtol=MAX_TURNED, atol=0), first.pixel, other.pixel),
            "orientation": (
                np.allclose(first.axes, other.axes, rtol=0, atol=MAX_TURNED),
                first.axes.ravel().tolist(),
                other.axes.ravel().tolist(),
            ),
        }
        for what, (equal, one, two) in same.items():
            if not equal:
                raise DataError(
                    f"{where}: {what} is {one} in {first} and {two} in {other}; expected one stack of slices, and "
                    "localizers or other stacks in a folder of their own"
                )


def _check_places(ordered: Sequence[Slice], places: np.ndarray, where: Path) -> None:
    gaps = np.diff(places)
    apart = gaps[gaps > 1e-3]  # mm: no slices are nearer than that
    typical = float(np.median(apart)) if len(apart) else 0.0
    starts = np.flatnonzero(np.concatenate([[True], gaps > max(1e-3, MAX_UNEVEN * typical)]))
    ends = [*starts[1:], len(ordered)]
    groups = [list(ordered[int(start) : int(end)]) for start, end in zip(starts, ends, strict=True)]
    if len(groups) < len(ordered):
        raise DataError(f"{where}: {_describe_repeats(groups)}")
    if not len(gaps):
        return
    worst = int(np.argmax(np.abs(gaps - typical)))
    deviation = abs(gaps[worst] - typical) / typical
    if deviation > MAX_UNEVEN:
        steps = gaps[worst] / typical
        missing = round(steps) - 1 if abs(steps - round(steps)) < 0.1 else 0
        raise DataError(
            f"{where}: slices of the DICOM series are missing or unevenly spaced: {gaps[worst]:.4g} mm from "
            f"{ordered[worst]} to {ordered[worst + 1]}, {typical:.4g} mm between most ({deviation:.1%} off, expected "
            f"at most {MAX_UNEVEN:.0%})" + (f"; {missing} missing there" if missing > 0 else "")
        )


def _describe_repeats(groups: Sequence[Sequence[Slice]]) -> str:
    """What the images are that lie in one place."""
    several = [group for group in groups if len(group) > 1]
    for what in several[0][0].tells:
        values = [[slice_.tells[what] for slice_ in group] for group in several]
        if all(len(set(group)) == len(group) for group in values):
            found = sorted({str(value) for group in values for value in group})
            count = max(map(len, several))
            return (
                f"the DICOM series holds up to {count} images of each place, which differ in {what} "
                f"({', '.join(found[:8])}{', …' if len(found) > 8 else ''}); expected one volume: keep one {what}, "
                "dcm2niix separates them"
            )
    one, two = several[0][:2]
    kind = "the same image twice" if one.uid == two.uid else "slices twice, at the same position"
    return (
        f"the DICOM series holds {kind}: {one} and {two}"
        + (f", and so in {len(several) - 1} more places" if len(several) > 1 else "")
        + "; expected every slice once"
    )


def _check_numbers(ordered: Sequence[Slice], where: Path) -> None:
    """A slice that is missing at either end leaves no gap between positions, but may leave one between numbers."""
    expected = max((slice_.expected or 0 for slice_ in ordered), default=0)
    # A multiple: of several echoes or time points one was kept.
    if len(ordered) < expected and expected % len(ordered):
        raise DataError(
            f"{where}: holds {len(ordered)} slices of a DICOM series that says it has {expected} "
            "(ImagesInAcquisition); expected all of them"
        )
    numbers = [slice_.number for slice_ in ordered if slice_.number is not None]
    if len(set(numbers)) < len(ordered):
        return
    steps = set(np.diff(numbers).tolist())
    absent = sorted(set(range(min(numbers), max(numbers))) - set(numbers))
    # Numbers that only rise, or only fall, along evenly spaced positions leave no room for another slice.
    if absent and min(steps) < 0 < max(steps):
        raise DataError(
            f"{where}: slices of the DICOM series are missing: number {', '.join(map(str, absent[:8]))} of "
            f"{min(numbers)} to {max(numbers)} (InstanceNumber), and no gap between the others: at either end"
        )


def _distance(ordered: Sequence[Slice], places: np.ndarray, where: Path) -> float:
    if len(ordered) > 1:
        return float((places[-1] - places[0]) / (len(ordered) - 1))
    thickness = ordered[0].thickness
    if not thickness or thickness <= 0:
        raise DataError(f"{where}: one slice without SpacingBetweenSlices and SliceThickness, expected its thickness")
    return float(thickness)
