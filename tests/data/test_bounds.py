"""Files from anybody: what a data list may name, how large, how deep; refused before it costs anything."""

import gzip
import json
import pickle
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from bundle.data.bounds import MAX_HEADER_BYTES, check_file, check_nifti
from bundle.data.datalist import load_datalist, write_datalist
from bundle.data.errors import DataError
from bundle.data.file_checks import decode_nifti
from bundle.data.itk_files import read_array
from bundle.data.json_files import MAX_DEPTH, read_json
from bundle.prepare.layouts import get_layout
from bundle.prepare.tables import read_table
from bundle.prepare.volumes import read_channel, read_volume


@pytest.fixture
def folder(tmp_path):
    """A data list of one case, one file per modality."""
    for name in ("image", "label"):
        nib.save(nib.Nifti1Image(np.ones((6, 5, 4), np.uint8), np.eye(4)), tmp_path / f"{name}.nii.gz")
    items = [{"image": ["image.nii.gz"], "label": "label.nii.gz", "case": "a", "site": "A"}]
    head = {"name": "t", "task": "brats", "layout": "brats", "modality": ("flair",), "labels": {0: "no", 1: "yes"}}
    write_datalist(tmp_path, training=items, **head)
    return tmp_path


def edit(folder, change):
    content = json.loads((folder / "datalist.json").read_text())
    change(content)
    (folder / "datalist.json").write_text(json.dumps(content))


def refused(call, *texts):
    """No more than a few MB are needed to say no, whatever a file claims."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as caught:
            call()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    for text in texts:
        assert text in str(caught.value)
    assert len(str(caught.value)) < 5000
    assert peak < 100e6


class Harmful:
    def __reduce__(self):
        return (print, ("harm",))


@pytest.mark.parametrize("field", ["label", "image"])
@pytest.mark.parametrize("name", ["passwd", "a.npy", "a.pkl", "a.npz", "a.json", "a.nii.gz.txt", "a.hdr", "a.mat"])
@pytest.mark.parametrize("deep", [True, False])
def test_only_images_may_be_named(folder, name, field, deep, capsys):
    (folder / name).write_bytes(pickle.dumps(Harmful()))
    edit(folder, lambda c: c["training"][0].update({field: [name] if field == "image" else name}))
    refused(lambda: load_datalist(folder, deep=deep), f"case a, {field}", f"{name}: of unknown kind", ".nii.gz")
    edit(folder, lambda c: c["training"][0].update({field: ["/etc/passwd"] if field == "image" else "/etc/passwd"}))
    refused(lambda: load_datalist(folder, deep=deep), "/etc/passwd: of unknown kind")
    assert "harm" not in capsys.readouterr().out


HEADERS = {
    "mhd": "NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = {}\n",
    "mha": "NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nelementdatafile:{}\n",
    "nhdr": "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: {}\n",
    "nrrd": "NRRD0004\r\ntype: uchar\r\ndimension: 3\r\nsizes: 2 2 2\r\nencoding: raw\r\nDatafile: {}\r\n\r\n",
}


@pytest.mark.parametrize("kind", HEADERS)
@pytest.mark.parametrize("target", ["/etc/passwd", "../pixels.raw", "sub/../../pixels.raw", "../%d.raw 1 2 1",
                                    "LIST\n../pixels.raw"])  # fmt: skip
@pytest.mark.parametrize("read", [read_volume, read_array, check_file])
def test_pixels_outside_of_the_folder(tmp_path, kind, target, read):
    (tmp_path / "pixels.raw").write_bytes(b"12345678")
    path = tmp_path / "case" / f"seg.{kind}"
    path.parent.mkdir()
    path.write_text(HEADERS[kind].format(target))
    refused(lambda: read(path), f"{path}: names ", "as its pixels, expected a file of its folder")


@pytest.mark.parametrize("kind", ["mhd", "nhdr"])
@pytest.mark.parametrize("place", ["pixels.raw", "sub/pixels.raw"])
def test_pixels_in_the_folder(tmp_path, kind, place):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_bytes(bytes(range(8)))
    (tmp_path / f"seg.{kind}").write_text(HEADERS[kind].format(place))
    assert sitk.GetArrayFromImage(read_volume(tmp_path / f"seg.{kind}")).ravel().tolist() == list(range(8))


@pytest.mark.parametrize("suffix", ["mha", "nrrd", "mhd", "nhdr"])
def test_volumes_with_their_own_pixels(tmp_path, suffix):
    sitk.WriteImage(
        sitk.GetImageFromArray(np.arange(8, dtype=np.int16).reshape(2, 2, 2)), tmp_path / f"a.{suffix}", True
    )
    assert read_array(tmp_path / f"a.{suffix}").ravel().tolist() == list(range(8))


def header(shape, dtype=np.uint8, offset=352, kind=nib.Nifti1Header):
    """Bytes of a NIfTI file up to its voxels, whatever the shape: nibabel would not write it without them."""
    written = kind()
    written.set_data_dtype(dtype)
    written["dim"] = [len(shape), *shape] + [1] * (7 - len(shape))
    written["vox_offset"], written["magic"] = offset, b"n+1" if kind is nib.Nifti1Header else b"n+2\0\r\n\032\n"
    return written.binaryblock + b"\0" * 4


@pytest.mark.parametrize(
    "line", ["NDims = 93", "NDims=1e1", "NDims = 0", "Name = " + "x" * 5000, "Offset =" + " 0" * 600]
)
def test_headers_that_overflow_metaio(tmp_path, line):
    """ITK's reader writes beyond its arrays for these, which ends the process or worse."""
    path = tmp_path / "a.mhd"
    path.write_text(f"{line}\n{HEADERS['mhd'].format('a.raw')}")
    (tmp_path / "a.raw").write_bytes(bytes(8))
    refused(lambda: read_volume(path), f"{path}: ")


def test_header_fields_that_are_no_text(tmp_path):
    path = tmp_path / "a.mhd"
    path.write_bytes(b"\xff\xfe = 1\n" + HEADERS["mhd"].format("a.raw").encode())
    (tmp_path / "a.raw").write_bytes(bytes(8))
    refused(lambda: read_volume(path), f"{path}: damaged")


HUGE = [
    ((30000, 30000, 3), np.uint8),
    ((32767,) * 7, np.float64),
    ((1000, 1000, 1000), np.float32),
    ((1000, 1000, 100, 10), np.uint8),
    ((-5, 5, 5), np.uint8),
    ((0, 5, 5), np.uint8),
]


@pytest.mark.parametrize(("shape", "dtype"), HUGE)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("read", [read_volume, decode_nifti, lambda path: read_channel(path, 0), check_file])
def test_headers_that_say_too_much(tmp_path, shape, dtype, suffix, read):
    path = tmp_path / f"a{suffix}"
    content = header(shape, dtype) + b"\0" * 1000
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    refused(lambda: read(path), f"{path}: ")


@pytest.mark.parametrize("read", [read_volume, decode_nifti, check_file])
def test_headers_that_say_more_than_the_file_can_hold(tmp_path, read):
    """150 MB by the header; deflate makes at most 1032 bytes of one."""
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(header((500, 500, 600)) + b"\0" * 1000))
    refused(lambda: read(path), "its header says 150000352 bytes")
    path.write_bytes(gzip.compress(header((6, 5, 4), offset=2**30)))
    refused(lambda: read(path), "the voxels from byte 1073741824 on")


def bomb(path, start, size):
    with gzip.open(path, "wb") as file:
        file.write(start)
        for _ in range(size // 2**20):
            file.write(bytes(2**20))


def test_bombs_behind_small_headers(folder):
    """24 MB of zeros in 24 kB, behind a header of 120 voxels."""
    bomb(folder / "label.nii.gz", header((6, 5, 4)), 24 * 2**20)
    refused(lambda: decode_nifti(folder / "label.nii.gz"), f"more than {MAX_HEADER_BYTES} bytes after its voxels")
    refused(lambda: load_datalist(folder), "case a, label", "bytes after its voxels")


def test_compressible_volumes_pass(tmp_path):
    """An empty label map shrinks by nearly as much as a bomb."""
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((240, 240, 155), np.uint8), np.eye(4)), path)
    assert check_nifti(path) == 352 + 240 * 240 * 155
    assert not decode_nifti(path).any()
    nib.save(nib.Nifti2Image(np.zeros((40, 40, 40), np.float64), np.eye(4)), path)
    assert check_nifti(path) == 544 + 40**3 * 8
    big_endian = nib.Nifti1Image(np.ones((4, 5, 6), ">i2"), np.eye(4), nib.Nifti1Header(endianness=">"))
    nib.save(big_endian, tmp_path / "b.nii")
    assert check_nifti(tmp_path / "b.nii") == (tmp_path / "b.nii").stat().st_size


def test_pictures_that_say_too_much(tmp_path):
    path = tmp_path / "a.png"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((8, 8), np.uint8)), path)
    content = bytearray(path.read_bytes())
    content[16:24] = (60000).to_bytes(4, "big") * 2
    path.write_bytes(content)
    refused(lambda: read_array(path), "a.png: ")


def nested(depth):
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (nested(100_000), "deeper than"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "deeper than"),
        (nested(MAX_DEPTH + 2), "deeper than"),
        ("[" + "7" * 10_000 + "]", "a number of 10000 digits"),
        ('{"numTraining": -' + "7" * 19 + "}", "a number of 19 digits"),
        ('{"a": 1', "corrupt JSON in line 1"),
        ("\ud800", "unreadable"),
    ],
    ids=range(7),
)
def test_json_of_anybody(tmp_path, content, text):
    path = tmp_path / "datalist.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    for read in (load_datalist, read_table, lambda path: read_json(path, "a list")):
        refused(lambda read=read: read(path), str(path), text)
    path.rename(tmp_path / "dataset.json")
    refused(lambda: get_layout("msd").discover(tmp_path, ("flair",)), "dataset.json", text)


def test_json_within_bounds(tmp_path):
    path = tmp_path / "a.json"
    for content in ([], nested(MAX_DEPTH), '{"a": -123456789012345678}', '\ufeff[1.5e300, "é"]'):
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        assert read_json(path, "a list") is not None


def test_json_files_of_bounded_size(tmp_path, monkeypatch):
    monkeypatch.setattr("bundle.data.json_files.MAX_BYTES", 1000)
    (tmp_path / "datalist.json").write_text(" " * 1001)
    refused(lambda: load_datalist(tmp_path), "has 1001 bytes, expected a data list of at most 1000")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c["labels"].update({str(v): "x" for v in range(1000)}), "labels has 1000 entries"),
        (lambda c: c["labels"].update({"9" * 5000: "x"}), "field labels"),
        (lambda c: c["labels"].update({"65536": "x"}), "at most 65535"),
        (lambda c: c["modality"].update({str(v): str(v) for v in range(300)}), "modality has 300 entries"),
        (lambda c: c["training"][0].update(intensity_range=[[0], 1]), "intensity_range is [[0], 1]"),
        (lambda c: c["training"][0].update(intensity_range=[1, -1]), "intensity_range is [1, -1]"),
        (lambda c: c["training"][0].update(intensity_range="01"), "intensity_range is '01'"),
        (lambda c: c["training"][0].update(label="x" * 300), "no such file"),
    ],
)
def test_fields_of_anybody(folder, change, text):
    edit(folder, change)
    refused(lambda: load_datalist(folder), text)


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret.nii.gz"])
@pytest.mark.parametrize("field", ["image", "label"])
def test_descriptions_name_files_of_their_folder(tmp_path, name, field):
    files = {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}
    modality = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    content = {"modality": modality, "training": [files | {field: name}]}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    cases, problems = get_layout("msd").discover(tmp_path, ("flair",))
    assert not cases
    assert "expected files of its folder" in problems[0]
