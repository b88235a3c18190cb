"""DICOM as scanners and archives write it: what is read, and what is called by its name."""

import logging
import os
import shutil
import tracemalloc

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import AXIAL, decimals, enhanced, series_slices, tilted, write_slices
from pydicom.data import get_testdata_file
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    MediaStorageDirectoryStorage,
    RLELossless,
    SegmentationStorage,
)

from bundle.data.errors import DataError
from bundle.prepare.volumes import read_volume


def ramp(slices=6, rows=5, columns=4):
    return np.arange(slices * rows * columns).reshape(slices, rows, columns)


def pixels(image):
    return sitk.GetArrayFromImage(image)


def refused(path, *texts):
    with pytest.raises(DataError) as caught:
        read_volume(path)
    for text in texts:
        assert text in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("angle", [0, 7, 10, 33])
@pytest.mark.parametrize("distance", [0.7, 1.1, 1.2, 3.0, 3.3, 6.5])
def test_even_series(tmp_path, distance, angle):
    """Positions are decimals: evenly spaced slices are never exactly so in binary numbers, tilted ones less."""
    slices = series_slices(ramp(24), (0.5, 0.8, distance), axes=tilted(angle))
    write_slices(tmp_path, slices)
    image = read_volume(tmp_path)
    np.testing.assert_array_equal(pixels(image), ramp(24))
    np.testing.assert_allclose(image.GetSpacing(), (0.5, 0.8, distance), rtol=1e-5)
    np.testing.assert_allclose(image.GetOrigin(), (-10, -20, 5), atol=1e-6)
    for index in (0, 11, 23):
        expected = [float(value) for value in slices[index].ImagePositionPatient]
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((0, 0, index)), expected, atol=1e-4)
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((0, 1, 0)),
                               np.array([-10, -20, 5]) + 0.8 * np.array(tilted(angle)[1]), atol=1e-5)  # fmt: skip
    assert not image.GetMetaDataKeys()


def test_agrees_with_gdcm(tmp_path):
    """Order, geometry and rescaled values, against ITK's reader."""
    slices = series_slices(ramp(), axes=((0, 1, 0), (0, 0, -1)))
    for dataset in slices:
        dataset.RescaleSlope, dataset.RescaleIntercept = "0.5", "-3"
    write_slices(tmp_path, slices)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    expected, image = reader.Execute(), read_volume(tmp_path)
    np.testing.assert_array_equal(pixels(image), pixels(expected).astype(np.float32))
    np.testing.assert_allclose(image.GetDirection(), expected.GetDirection(), atol=1e-12)
    np.testing.assert_allclose(image.GetOrigin(), expected.GetOrigin())
    np.testing.assert_allclose(image.GetSpacing(), expected.GetSpacing())


def move(slices, index, distance):
    slices[index].ImagePositionPatient = decimals([-10, -20, 5 + distance])


@pytest.mark.parametrize(
    ("distance", "figure"),
    [(4.0, None), (4.01, None), (4.1, "5.0% off"), (4.5, "25.0% off"), (3.0, "50.0% off")],
)
def test_only_deviations_that_matter_are_refused(tmp_path, distance, figure):
    slices = series_slices(ramp())
    move(slices, 2, distance)
    write_slices(tmp_path, slices)
    if figure is None:
        assert read_volume(tmp_path).GetSize() == (4, 5, 6)
    else:
        refused(tmp_path, "missing or unevenly spaced", figure, "2 mm between most", "expected at most 1%")


@pytest.mark.parametrize("absent", [[1], [4], [2, 3]])
def test_missing_in_the_middle(tmp_path, absent):
    slices = [dataset for index, dataset in enumerate(series_slices(ramp(8))) if index not in absent]
    write_slices(tmp_path, slices)
    refused(tmp_path, f"{2 * (len(absent) + 1)} mm from", f"{len(absent)} missing there")


def number(slices, numbers):
    for dataset, value in zip(slices, numbers, strict=True):
        dataset.InstanceNumber = str(value)


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [
        ([1, 2, 3, 4, 5, 6], None),
        ([6, 5, 4, 3, 2, 1], None),
        ([25, 26, 27, 28, 29, 30], None),  # the second echo of two
        ([1, 3, 5, 7, 9, 11], None),  # every second image is of another echo
        ([1, 4, 2, 5, 3, 6], None),  # interleaved
        ([1, 2, 3, 5, 6, 7], None),  # another image was numbered in between: there is no room for a slice
        ([1, 5, 2, 6, 3, 7], "number 4 of 1 to 7"),  # interleaved, and the last slice is missing
        ([5, 2, 6, 3, 7, 1], "number 4 of 1 to 7"),
        ([1, 1, 1, 1, 1, 1], None),
    ],
)
def test_missing_at_an_end_by_numbers(tmp_path, numbers, missing):
    slices = series_slices(ramp())
    number(slices, numbers)
    write_slices(tmp_path, slices)
    if missing is None:
        assert read_volume(tmp_path).GetSize()[2] == 6
    else:
        refused(tmp_path, "missing", missing)


@pytest.mark.parametrize(("said", "whole"), [(6, True), (12, True), (7, False), (8, False), (4, True)])
def test_missing_at_an_end_by_the_count(tmp_path, said, whole):
    slices = series_slices(ramp())
    for dataset in slices:
        dataset.ImagesInAcquisition = str(said)
    write_slices(tmp_path, slices)
    if whole:
        assert read_volume(tmp_path).GetSize()[2] == 6
    else:
        refused(tmp_path, f"holds 6 slices of a DICOM series that says it has {said}")


def test_derived_images_are_not_counted(tmp_path):
    """Other planes of an acquisition carry its number of images."""
    slices = series_slices(ramp())
    for dataset in slices:
        dataset.ImagesInAcquisition, dataset.ImageType = "248", ["DERIVED", "SECONDARY", "REFORMATTED"]
    write_slices(tmp_path, slices)
    assert read_volume(tmp_path).GetSize()[2] == 6


def test_first_slice_missing_is_said(tmp_path, caplog):
    write_slices(tmp_path, series_slices(ramp(), start=2))
    assert read_volume(tmp_path).GetSize()[2] == 6
    assert "InstanceNumber begins with 2" in caplog.text


@pytest.mark.parametrize("place", [0, 3, 5])
@pytest.mark.parametrize("names", ["{:03d}.dcm", "IM{:04d}", "1.2.840.{}"])
@pytest.mark.parametrize("left", [0, 100, 200, -1, -30])
def test_truncated_file_is_named(tmp_path, place, names, left):
    paths = write_slices(tmp_path, series_slices(ramp()), names)
    paths[place].write_bytes(paths[place].read_bytes()[:left])
    refused(tmp_path, f"{paths[place]}: unreadable or truncated")


def test_all_damaged_files_are_named(tmp_path):
    paths = write_slices(tmp_path, series_slices(ramp()))
    for path in paths[:3]:
        path.write_bytes(b"\0" * 500)
    refused(tmp_path, "3 problems", *map(str, paths[:3]))


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm",
                                  "MR_small_jpeg_ls_lossless.dcm", "MR_small_implicit.dcm",
                                  "MR_small_bigendian.dcm"])  # fmt: skip
def test_published_files_of_all_transfer_syntaxes(tmp_path, name):
    path = tmp_path / name
    shutil.copy(get_testdata_file(name, download=False), path)
    expected = pixels(read_volume(get_testdata_file("MR_small.dcm", download=False)))
    assert expected.shape == (1, 64, 64)
    np.testing.assert_array_equal(pixels(read_volume(path)), expected)
    whole = path.read_bytes()
    for left in (300, len(whole) // 2, len(whole) - 300):
        path.write_bytes(whole[:left])
        refused(path, f"{path}: unreadable or truncated")


@pytest.mark.parametrize(
    "keyword", [b"\x20\x00\x37\x00DS", b"\x28\x00\x30\x00DS", b"\x08\x00\x16\x00UI", b"\x28\x00\x10\x00US"]
)
def test_damaged_elements_are_named_by_their_file(tmp_path, keyword):
    """pydicom decodes an element when it is asked for, and fails in a dozen ways."""
    path = write_slices(tmp_path, series_slices(ramp()))[2]
    content = path.read_bytes()
    assert content.count(keyword) == 1
    path.write_bytes(content.replace(keyword, keyword[:5] + b"\xff"))
    refused(tmp_path, str(path))


def test_published_truncated_file(tmp_path):
    refused(get_testdata_file("MR_truncated.dcm", download=False), "MR_truncated.dcm: unreadable or truncated")


def test_compressed_series(tmp_path):
    slices = series_slices(ramp())
    for dataset in slices:
        dataset.compress(RLELossless, generate_instance_uid=False)
    write_slices(tmp_path, slices)
    np.testing.assert_array_equal(pixels(read_volume(tmp_path)), ramp())


def test_slices_of_several_scales(tmp_path):
    """PET and Philips MR: every slice has a slope of its own."""
    slices = series_slices(ramp())
    for index, dataset in enumerate(slices):
        dataset.RescaleSlope, dataset.RescaleIntercept = str(1 + index), str(-index)
    write_slices(tmp_path, slices)
    scale = np.arange(6).reshape(6, 1, 1)
    np.testing.assert_array_equal(pixels(read_volume(tmp_path)), ramp() * (1.0 + scale) - scale)


@pytest.mark.parametrize("axes", [AXIAL, tilted(20), ((0, 1, 0), (0, 0, -1))])
@pytest.mark.parametrize("in_folder", [True, False])
def test_enhanced(tmp_path, axes, in_folder):
    """One file gives what the classic series gives, whatever the order of its frames."""
    write_slices(tmp_path / "classic", series_slices(ramp(), axes=axes))
    (tmp_path / "enhanced").mkdir()
    path = tmp_path / "enhanced" / "flair.dcm"
    enhanced(ramp(), axes=axes).save_as(path, enforce_file_format=True)
    image, expected = read_volume(path.parent if in_folder else path), read_volume(tmp_path / "classic")
    np.testing.assert_array_equal(pixels(image), ramp())
    for what in ("Spacing", "Origin", "Direction"):
        np.testing.assert_allclose(getattr(image, f"Get{what}")(), getattr(expected, f"Get{what}")(), atol=1e-9)


def test_enhanced_with_scales_of_frames(tmp_path):
    path = tmp_path / "flair.dcm"
    enhanced(ramp(), rescale=[(1 + k, -k) for k in range(6)]).save_as(path, enforce_file_format=True)
    scale = np.arange(6).reshape(6, 1, 1)
    np.testing.assert_array_equal(pixels(read_volume(path)), ramp() * (1.0 + scale) - scale)


def test_enhanced_that_is_not_whole(tmp_path):
    path = tmp_path / "flair.dcm"
    dataset = enhanced(ramp())
    del dataset.PerFrameFunctionalGroupsSequence[2]
    dataset.save_as(path, enforce_file_format=True)
    refused(path, "says where 5 of its 6 frames lie")
    dataset = enhanced(ramp())
    del dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence
    dataset.save_as(path, enforce_file_format=True)
    refused(path, "ImagePositionPatient is missing", "frame 3")
    enhanced(ramp()).save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes()[:-50])
    refused(path, f"{path}: unreadable or truncated")
    dataset = enhanced(ramp())
    dataset.PixelData, dataset.NumberOfFrames = dataset.PixelData[: 5 * 40], "5"
    del dataset.PerFrameFunctionalGroupsSequence[2]
    dataset.save_as(path, enforce_file_format=True)
    refused(path, "missing or unevenly spaced", "1 missing there")


def test_single_classic_file(tmp_path):
    (path,) = write_slices(tmp_path, series_slices(ramp(1)))
    assert read_volume(path).GetSize() == (4, 5, 1)
    assert read_volume(path).GetSpacing() == (0.5, 0.8, 2.0)
    (dataset,) = series_slices(ramp(1))
    del dataset.SliceThickness
    write_slices(tmp_path, [dataset])
    refused(path, "SliceThickness")


def echo_times(dataset, index):
    dataset.EchoTime = str((20, 80)[index])


def time_points(dataset, index):
    dataset.TemporalPositionIdentifier = str(index + 1)


def image_types(dataset, index):
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "MP"[index]]


def b_values(dataset, index):
    dataset.DiffusionBValue = (0.0, 1000.0)[index]


@pytest.mark.parametrize(
    ("change", "text"),
    [(echo_times, "echo time (20, 80)"), (time_points, "time point (1, 2)"), (b_values, "b-value (0.0, 1000.0)"),
     (image_types, "image type")],
)  # fmt: skip
def test_several_images_of_a_place_are_called_what_they_are(tmp_path, change, text):
    both = series_slices(ramp()), series_slices(ramp(), start=7)
    for index, slices in enumerate(both):
        for dataset in slices:
            change(dataset, index)
            dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID}.{index}"
    write_slices(tmp_path, [*both[0], *both[1]])
    refused(tmp_path, "2 images of each place, which differ in", text.split(" (")[0], text.split(" (")[-1])


def test_dual_echo_in_an_enhanced_file(tmp_path):
    enhanced(ramp(), echoes=(20, 80)).save_as(tmp_path / "flair.dcm", enforce_file_format=True)
    refused(tmp_path / "flair.dcm", "differ in echo time (20.0, 80.0)")


@pytest.mark.parametrize("which", [[0], [2, 5], range(6)])
def test_slices_twice(tmp_path, which):
    paths = write_slices(tmp_path, series_slices(ramp()))
    for index in which:
        shutil.copy(paths[index], paths[index].with_name(f"{paths[index].stem} (1).dcm"))
    first = paths[which[0]].stem
    refused(tmp_path, "the same image twice", f"{first} (1).dcm", f"{first}.dcm")
    again = series_slices(ramp())[which[0]]
    again.SOPInstanceUID = "1.9.9"
    shutil.rmtree(tmp_path)
    write_slices(tmp_path, [*series_slices(ramp()), again])
    refused(tmp_path, "slices twice, at the same position")


def colours(slices):
    for dataset in slices:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.PixelRepresentation, dataset.PixelData = 7, 0, b"\1" * 60


def without(keyword):
    return lambda slices: delattr(slices[3], keyword)


def put(keyword, value, index=3):
    return lambda slices: setattr(slices[index], keyword, value)


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        (colours, ["pixels of RGB (3 samples each)", "MONOCHROME2"]),
        (put("PhotometricInterpretation", "MONOCHROME1"), ["MONOCHROME1", "003.dcm"]),
        (put("ImageType", ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), ["mosaic"]),
        (without("PixelSpacing"), ["003.dcm", "PixelSpacing is missing", "expected 2 numbers"]),
        (without("ImagePositionPatient"), ["ImagePositionPatient is missing"]),
        (without("ImageOrientationPatient"), ["ImageOrientationPatient is missing"]),
        (put("PixelSpacing", ["0", "0"]), ["PixelSpacing is [0.0, 0.0]"]),
        (put("PixelSpacing", ["0.5"]), ["PixelSpacing is 0.5, expected 2 numbers"]),
        (put("PixelSpacing", ["0.8", "0.9"]), ["pixel spacing is (0.8, 0.5) in", "(0.8, 0.9) in 003.dcm"]),
        (put("ImageOrientationPatient", ["1", "0", "0", "0", "0", "1"]), ["orientation is", "003.dcm"]),
        (put("ImageOrientationPatient", ["1", "0", "0", "1", "0", "0"]), ["axes of length 1 at right angles"]),
    ],
)
def test_what_is_no_stack_of_grey_slices(tmp_path, change, texts):
    slices = series_slices(ramp())
    change(slices)
    write_slices(tmp_path, slices)
    refused(tmp_path, *texts)


def test_sizes_differ(tmp_path):
    write_slices(tmp_path, [*series_slices(ramp(3)), series_slices(ramp(4, 7, 4))[3]])
    refused(tmp_path, "size is (7, 4) in 001.dcm and (5, 4) in 002.dcm")


def test_tilted_gantry(tmp_path):
    slices = series_slices(ramp())
    for index, dataset in enumerate(slices):
        dataset.ImagePositionPatient = decimals([-10, -20 + index * 0.3, 5 + index * 2])
    write_slices(tmp_path, slices)
    refused(tmp_path, "shifted against each other by 1.50 mm in plane")


def test_folder_tree(tmp_path, caplog):
    """patient/study/series as archives export it, with what they put beside the images."""
    caplog.set_level(logging.INFO)
    write_slices(tmp_path / "patient" / "study" / "series", series_slices(ramp()))
    (tmp_path / "patient" / "LICENSE").write_text("CC BY")
    (tmp_path / ".hidden.dcm").write_text("no image")
    localizer = series_slices(ramp(1), series="1.2.8")
    localizer[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    write_slices(tmp_path / "patient" / "study" / "localizer", localizer)
    state = series_slices(ramp(1), series="1.2.7")[0]
    state.SOPClassUID = state.file_meta.MediaStorageSOPClassUID = GrayscaleSoftcopyPresentationStateStorage
    del state.PixelData, state.Rows
    state.save_as(tmp_path / "patient" / "state.dcm", enforce_file_format=True)
    index = series_slices(ramp(1))[0]
    del index.PixelData, index.SOPClassUID
    index.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    index.save_as(tmp_path / "DICOMDIR", implicit_vr=False, little_endian=True, enforce_file_format=False)
    np.testing.assert_array_equal(pixels(read_volume(tmp_path)), ramp())
    assert 'DICOM series 5 "AX FLAIR", 6 slices' in caplog.text
    assert "001.dcm (localizer)" in caplog.text
    assert "state.dcm (Grayscale Softcopy Presentation State Storage)" in caplog.text
    assert "DICOMDIR" not in caplog.text
    assert "Doe" not in caplog.text


def test_several_series_are_listed(tmp_path):
    write_slices(tmp_path / "study" / "a", series_slices(ramp()))
    other = series_slices(ramp(3), series="1.2.8")
    for dataset in other:
        dataset.SeriesDescription, dataset.SeriesNumber = "T2 \x1b[31m\n", "6"
    write_slices(tmp_path / "study" / "b", other)
    message = refused(tmp_path, "holds 2 DICOM series, expected exactly one", 'series 5 "AX FLAIR": 6 files in',
                      f"3 files in {tmp_path / 'study' / 'b'}")  # fmt: skip
    assert "\x1b" not in message


def test_no_image(tmp_path):
    refused(tmp_path, "holds 0 DICOM series")
    (dataset,) = series_slices(ramp(1))
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SegmentationStorage
    write_slices(tmp_path, [dataset])
    refused(tmp_path, "holds 0 DICOM series", "001.dcm (Segmentation Storage)")
    (tmp_path / "001.dcm").write_text("no DICOM")
    refused(tmp_path / "001.dcm", "001.dcm: unreadable or truncated")


def test_files_without_preamble(tmp_path):
    for path in write_slices(tmp_path, series_slices(ramp())):
        dataset = path.read_bytes()
        path.write_bytes(dataset[132:])
    np.testing.assert_array_equal(pixels(read_volume(tmp_path)), ramp())


def test_huge_claims_cost_nothing(tmp_path):
    slices = series_slices(ramp())
    for dataset in slices:
        dataset.Rows = dataset.Columns = 60000
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    write_slices(tmp_path, slices)
    refused(tmp_path, "has shape (6, 60000, 60000)", "voxels")


@pytest.mark.parametrize("start", [0, 132], ids=["preamble", "none"])
def test_deflated_files_are_named_and_not_inflated(tmp_path, start):
    slices = series_slices(ramp())
    slices[2].add_new(0x00091010, "OB", bytes(2**27))
    slices[2].file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    paths = write_slices(tmp_path, slices)
    paths[2].write_bytes(paths[2].read_bytes()[start:])
    assert paths[2].stat().st_size < 2**18
    tracemalloc.start()
    refused(tmp_path, f"{paths[2]}: unreadable or truncated", "deflated as a whole")
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_in_the_folder_is_no_file(tmp_path):
    write_slices(tmp_path, series_slices(ramp()))
    os.mkfifo(tmp_path / "pipe.dcm")
    np.testing.assert_array_equal(pixels(read_volume(tmp_path)), ramp())
