"""DICOM files as scanners write them, for tests: classic series, and enhanced multi-frame objects."""

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

AXIAL = ((1, 0, 0), (0, 1, 0))


def tilted(degrees):
    angle = np.radians(degrees)
    return ((1, 0, 0), (0, np.cos(angle), np.sin(angle)))


def decimals(values, digits=6):
    """As scanners and anonymisers round them."""
    return [f"{value:.{digits}f}" for value in values]


def base(array, sop_class, uid, series, axes):
    """A data set with everything that slices and frames share; `array` is rows × columns, or frames before them."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, uid
    dataset.PatientName, dataset.PatientID, dataset.Modality = "Doe^Jane", "7", "MR"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", series
    dataset.SeriesNumber, dataset.SeriesDescription = "5", "AX FLAIR"
    dataset.Rows, dataset.Columns = array.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    dataset.PixelData = array.astype(np.int16).tobytes()
    return dataset


def position(axes, origin, distance):
    return decimals(np.array(origin) + distance * np.cross(*axes))


def series_slices(volume, spacing=(0.5, 0.8, 2.0), origin=(-10, -20, 5), axes=AXIAL, series="1.2.3.4", start=1):
    """Data sets of a classic series; `volume` is slices × rows × columns, `spacing` that of columns, rows, slices."""
    slices = []
    for index, pixels in enumerate(volume):
        dataset = base(pixels, MRImageStorage, f"{series}.{index + 1}", series, axes)
        dataset.ImagePositionPatient = position(axes, origin, index * spacing[2])
        dataset.ImageOrientationPatient = decimals(np.ravel(axes))
        dataset.PixelSpacing = [str(spacing[1]), str(spacing[0])]
        dataset.SliceThickness, dataset.InstanceNumber = str(spacing[2]), str(index + start)
        slices.append(dataset)
    return slices


def write_slices(folder, slices, names="{:03d}.dcm"):
    """Write data sets, last slices first: the order of names says nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / names.format(len(slices) - index) for index in range(len(slices))]
    for path, dataset in zip(paths, slices, strict=True):
        dataset.save_as(path, enforce_file_format=True)
    return paths


def item(**attributes):
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def enhanced(volume, spacing=(0.5, 0.8, 2.0), origin=(-10, -20, 5), axes=AXIAL, rescale=None, echoes=(None,)):
    """An enhanced MR image (DICOM PS3.3 A.36): all slices in one file, stored last slice first.

    Args:
        rescale: slope and intercept by slice, or None.
        echoes: effective echo times: every slice is there once for each.
    """
    order = [(index, echo) for echo in echoes for index in reversed(range(len(volume)))]
    dataset = base(np.stack([volume[index] for index, _ in order]), EnhancedMRImageStorage, "1.2.9.1", "1.2.9", axes)
    dataset.NumberOfFrames, dataset.InstanceNumber = str(len(order)), "1"
    dataset.SharedFunctionalGroupsSequence = Sequence(
        [
            item(
                PixelMeasuresSequence=Sequence(
                    [item(PixelSpacing=[spacing[1], spacing[0]], SliceThickness=spacing[2])]
                ),
                PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=decimals(np.ravel(axes)))]),
            )
        ]
    )
    frames = []
    for index, echo in order:
        where = item(ImagePositionPatient=position(axes, origin, index * spacing[2]))
        frame = item(
            PlanePositionSequence=Sequence([where]),
            FrameContentSequence=Sequence([item(StackID="1", InStackPositionNumber=index + 1)]),
        )
        if rescale:
            slope, intercept = rescale[index]
            frame.PixelValueTransformationSequence = Sequence(
                [item(RescaleSlope=str(slope), RescaleIntercept=str(intercept), RescaleType="US")]
            )
        if echo is not None:
            frame.MREchoSequence = Sequence([item(EffectiveEchoTime=float(echo))])
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return dataset
