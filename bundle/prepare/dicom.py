"""DICOM series to volumes: classic (a file a slice) and enhanced (many frames in a file), compressed or not.

Headers are read by pydicom, pixels by it or, where they are compressed, by GDCM. A folder is searched with its
subfolders, as archives export patient/study/series; which series was taken is logged.
"""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.pixels import apply_modality_lut, iter_pixels
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage

from bundle.data.bounds import DICOM_SUFFIXES, check_size
from bundle.data.errors import DataError
from bundle.prepare.dicom_stack import Slice, Stack, make_stack

# What is said of a series
SHOWN = ("SeriesNumber", "SeriesDescription", "ImageType", "SOPInstanceUID")
# What several images of one place differ by, and the attributes that say so, of classic and of enhanced objects
TELLS = {
    "echo time": ("EffectiveEchoTime", "EchoTime"),
    "b-value": ("DiffusionBValue",),
    "diffusion direction": ("DiffusionGradientOrientation",),
    "time point": ("TemporalPositionIndex", "TemporalPositionIdentifier", "TemporalPositionTimeOffset"),
    "inversion time": ("InversionTime",),
    "image type": ("FrameType", "ImageType"),
    "acquisition": ("AcquisitionNumber", "FrameAcquisitionNumber"),
    "acquisition time": ("FrameAcquisitionDateTime", "AcquisitionTime"),
}

logger = logging.getLogger(__name__)


def read_dicom(path: str | os.PathLike) -> sitk.Image:
    """The DICOM series of a folder, or of a file, as a float32 volume in its rescaled units, slices by position.

    Localizers and what is no image (reports, presentation states, segmentations) are left out, and named in the log.

    Args:
        path: a folder, searched with its subfolders; or one file.

    Raises:
        DataError: no series or several; a file that is unreadable or truncated, by name; colours; a geometry that is
            not said (PixelSpacing, position, orientation); and see :func:`bundle.prepare.dicom_stack.make_stack`.
    """
    path = Path(path)
    headers = _headers(path)
    (files,) = _choose_series(headers, path)
    slices = [slice_ for file, header in files for slice_ in _checked_slices(file, header)]
    stack = make_stack(slices, path)
    first = stack.slices[0]
    check_size((len(slices), *first.shape), path)
    image = sitk.GetImageFromArray(_pixels(stack))
    image.SetSpacing(stack.spacing)
    image.SetOrigin(first.position.tolist())
    image.SetDirection(stack.direction.ravel().tolist())
    logger.info("%s: %s, %d slices", path, _series_name(files[0][1]), len(slices))
    if stack.begins_late is not None:
        logger.warning("%s: InstanceNumber begins with %d: is a slice missing at an end?", path, stack.begins_late)
    return image


def _headers(path: Path) -> list[tuple[Path, Dataset]]:
    """Headers of all DICOM files, in the order of their names.

    Raises:
        DataError: naming all files that are, or by their names should be, DICOM and cannot be read.
    """
    files = [path]
    if path.is_dir():
        names = (Path(folder) / name for folder, _, names in os.walk(path) for name in names if name[0] != ".")
        files = sorted(file for file in names if file.is_file())
    headers, unreadable, others = [], [], []
    for file in files:
        try:
            headers.append((file, _header(file)))
        except InvalidDicomError:
            others.append(file)
        except Exception as error:  # pydicom raises a dozen types for damaged files
            unreadable.append((file, _reason(error)))
    kinds = {_kind(file) for file, _ in headers} | set(DICOM_SUFFIXES)
    for file in others:
        if file == path or _kind(file) in kinds:
            try:
                headers.append((file, _header(file, preamble=False)))
            except Exception as error:
                unreadable.append((file, _reason(error)))
    if unreadable:
        problems = [f"{file}: unreadable or truncated, expected a DICOM file ({why})" for file, why in unreadable]
        raise DataError(problems[0]) if len(problems) == 1 else DataError.listing(str(path), problems)
    return [(file, header) for file, header in headers if not _is_index(header)]


def _header(file: Path, preamble: bool = True) -> Dataset:
    """The header of a file; some old archives leave the first 132 bytes, the preamble, away."""
    _refuse_deflated(file, preamble)
    header = dcmread(file, stop_before_pixels=True, force=not preamble)
    if preamble and _is_index(header):
        return header
    needed = ["SOPClassUID", "SeriesInstanceUID"] + ["Rows", "Columns"] * _is_image(header)
    absent = [keyword for keyword in needed if keyword not in header]
    if absent:
        raise EOFError(f"its header has no {', '.join(absent)}")
    # pydicom decodes an element when it is asked for: now, while the file can be named
    for keyword in (*needed, *SHOWN):
        header.get(keyword)
    return header


def _refuse_deflated(file: Path, preamble: bool) -> None:
    """pydicom inflates such a file in one go, whatever it comes to: a thousand times its size at worst."""
    with open(file, "rb") as opened:
        read_preamble(opened, force=not preamble)
        if _read_file_meta_info(opened).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            raise ValueError("deflated as a whole, which is not read: save it as Explicit VR Little Endian")


def _kind(file: Path) -> str:
    """The suffix; numbers, and parts of identifiers, are none."""
    suffix = file.suffix.lower()
    return "" if suffix[1:].isdigit() else suffix


def _is_index(header: Dataset) -> bool:
    return header.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage


def _is_image(header: Dataset) -> bool:
    return _class_name(header).endswith("Image Storage")


def _class_name(header: Dataset) -> str:
    return UID(str(header.get("SOPClassUID", ""))).name


def _choose_series(headers: Sequence[tuple[Path, Dataset]], path: Path) -> list[list[tuple[Path, Dataset]]]:
    """The files of the only series, localizers apart, in a list of one."""
    by_series, left_out = defaultdict(list), []
    for file, header in headers:
        if _is_image(header):
            by_series[header.SeriesInstanceUID].append((file, header))
        else:
            left_out.append(f"{file} ({_class_name(header)})")
    series = list(by_series.values())
    if len(series) > 1:
        series = [files for files in series if not _is_localizer(files)]
        left_out += [f"{file} (localizer)" for files in by_series.values() if _is_localizer(files) for file, _ in files]
    if len(series) != 1:
        found = "".join(f"\n  - {_series_name(f[0][1])}: {len(f)} files in {f[0][0].parent}" for f in series)
        others = f"; also {', '.join(left_out[:8])}" if left_out else ""
        raise DataError(
            f"{path}: holds {len(series)} DICOM series, expected exactly one in the folder of a modality{others}{found}"
        )
    if left_out:
        more = f" and {len(left_out) - 20} more" if len(left_out) > 20 else ""
        logger.warning("%s: not used: %s%s", path, ", ".join(left_out[:20]), more)
    return series


def _is_localizer(files: Sequence[tuple[Path, Dataset]]) -> bool:
    return all("LOCALIZER" in _image_type(header) for _, header in files)


def _image_type(header: Dataset) -> str:
    return str(header.get("ImageType", "")).upper()


def _series_name(header: Dataset) -> str:
    description = re.sub(r"[^\w .,+*/()-]+", " ", str(header.get("SeriesDescription", "")))[:64]
    number = header.get("SeriesNumber") or "without number"
    return f"DICOM series {number}" + (f' "{description}"' if description else "")


def _checked_slices(file: Path, header: Dataset) -> list[Slice]:
    try:
        return list(_slices(file, header))
    except DataError:
        raise
    except Exception as error:  # an element that pydicom cannot decode
        raise DataError(f"{file}: damaged, expected the header of a DICOM image ({_reason(error)})") from error


def _slices(file: Path, header: Dataset) -> Iterator[Slice]:
    """The slices of a file: one, or one for each frame."""
    photometric, samples = header.get("PhotometricInterpretation"), header.get("SamplesPerPixel")
    if photometric != "MONOCHROME2" or samples != 1:
        raise DataError(
            f"{file}: has pixels of {photometric} ({samples} samples each), expected grey values (MONOCHROME2) of a "
            "scan and not colours or a picture of them"
        )
    if "MOSAIC" in _image_type(header):
        raise DataError(
            f"{file}: its slices are tiles of one image (a mosaic), expected an image a slice; dcm2niix unpacks it"
        )
    frames = int(header.get("NumberOfFrames") or 1)
    described = header.get("PerFrameFunctionalGroupsSequence")
    if (frames > 1 or described) and len(described or ()) != frames:
        raise DataError(f"{file}: says where {len(described or ())} of its {frames} frames lie, expected all of them")
    for index in range(frames):
        groups = [described[index]] if described else []
        groups += list(header.get("SharedFunctionalGroupsSequence") or ()) if described else []
        # Every functional group is a sequence of one item.
        sources = [element.value[0] for group in groups for element in group if element.VR == "SQ" and element.value]
        yield _slice(file, index, header, [*sources, header])


def _slice(file: Path, index: int, header: Dataset, sources: Sequence[Dataset]) -> Slice:
    def numbers(keyword: str, count: int) -> np.ndarray:
        value = _find(sources, keyword)
        try:
            found = np.array(value, dtype=np.float64).reshape(count)
            valid = bool(np.isfinite(found).all())
        except (TypeError, ValueError):
            valid = False
        if not valid:
            raise DataError(
                f"{file}: {keyword} is {'missing' if value is None else value}, expected {count} numbers"
                + (f" for frame {index + 1}" if index else "")
            )
        return found

    axes, pixel = numbers("ImageOrientationPatient", 6).reshape(2, 3), numbers("PixelSpacing", 2)
    lengths = np.linalg.norm(axes, axis=1)
    if (pixel <= 0).any() or np.abs(lengths - 1).max() > 0.01 or abs(axes[0] @ axes[1]) > 0.01:
        raise DataError(
            f"{file}: PixelSpacing is {pixel.tolist()} and ImageOrientationPatient {axes.ravel().tolist()}, expected "
            "distances above 0 and axes of length 1 at right angles"
        )
    thickness = _find(sources, "SpacingBetweenSlices", "SliceThickness")
    return Slice(
        path=file,
        index=index,
        shape=(int(header.Rows), int(header.Columns)),
        position=numbers("ImagePositionPatient", 3),
        axes=axes,
        pixel=(float(pixel[0]), float(pixel[1])),
        uid=f"{header.get('SOPInstanceUID', file)}.{index}",
        rescale=next((s for s in sources if "RescaleSlope" in s or "ModalityLUTSequence" in s), Dataset()),
        number=_whole(_find(sources, "InStackPositionNumber", "InstanceNumber")),
        # images derived from an acquisition, such as other planes, are of another number
        expected=None if "DERIVED" in _image_type(header) else _whole(_find(sources, "ImagesInAcquisition")),
        thickness=None if thickness is None else float(thickness),
        tells={what: str(_find(sources, *keywords)) for what, keywords in TELLS.items()},
    )


def _find(sources: Sequence[Dataset], *keywords: str) -> Any:
    """The value of the first of `keywords` that any of `sources` has; None if there is none, or it is empty."""
    found = (source.get(keyword) for keyword in keywords for source in sources if keyword in source)
    return next((value for value in found if value not in (None, "")), None)


def _whole(value: Any) -> int | None:
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError):
        return None


def _pixels(stack: Stack) -> np.ndarray:
    """float32, slices × rows × columns, in the scanner's units."""
    array = np.empty((len(stack.slices), *stack.slices[0].shape), dtype=np.float32)
    by_file: defaultdict[Path, dict] = defaultdict(dict)
    for place, slice_ in enumerate(stack.slices):
        by_file[slice_.path][slice_.index] = (place, slice_)
    for file, frames in by_file.items():
        try:
            for index, values in zip(frames, iter_pixels(file, indices=list(frames)), strict=True):
                place, slice_ = frames[index]
                array[place] = apply_modality_lut(values, slice_.rescale)
        except Exception as error:  # of pydicom and of every decoder
            raise DataError(
                f"{file}: unreadable or truncated, expected the pixels of a DICOM image ({_reason(error)})"
            ) from error
    return array


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
