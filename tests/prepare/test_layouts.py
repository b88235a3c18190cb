"""Layouts: cases as they lie on disk; conversion; grids; N4."""

import json
import os
from collections import Counter

import itk
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import enhanced, series_slices, write_slices

from bundle.data.datalist import load_datalist
from bundle.data.errors import DataError
from bundle.data.geometry import correct_bias, isotropic_grid, resample
from bundle.prepare.case_conversion import ConvertOptions, convert_case
from bundle.prepare.layouts import LAYOUTS, get_layout
from bundle.prepare.layouts.multi_organ import PUBLISHED
from bundle.prepare.layouts.naming import parse_name
from bundle.prepare.missing_slices import check_label_inside
from bundle.prepare.preparation import PrepareOptions, prepare
from bundle.prepare.volumes import as_label, read_volume, write_nifti


def save(path, array, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)


def ramp(shape=(6, 5, 4), dtype=np.int16):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def volume(array, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)):
    """SimpleITK image from an array in x, y, z order."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    return image


def test_registry():
    names = "brats tcga_lgg tcga_lgg_tif msd volumes nifti nnunet bids images multi_organ"
    assert list(LAYOUTS) == names.split()
    with pytest.raises(DataError, match="layout 'coco' is unknown, expected one of brats, tcga_lgg"):
        get_layout("coco")


def test_brats(tmp_path):
    for case, suffix in (("HGG/Brats18_CBICA_AAB_1", ".nii.gz"), ("LGG/Brats18_2013_2_1", ".nii"), ("own", ".nii.gz")):
        for name in ("flair", "t1", "t1ce", "t2", "seg"):
            save(tmp_path / case / f"{case.split('/')[-1]}_{name}{suffix}", ramp())
    layout = get_layout("brats")
    cases, problems = layout.discover(tmp_path, layout.modalities)
    assert not problems
    found = {case.case: (case.grade, case.institution, list(case.images)) for case in cases}
    modalities = ["flair", "t1", "t1ce", "t2"]
    assert found == {
        "own": (None, None, modalities),
        "Brats18_CBICA_AAB_1": ("HGG", "CBICA", modalities),
        "Brats18_2013_2_1": ("LGG", "2013", modalities),
    }
    (tmp_path / "own/own_t1ce.nii.gz").unlink()
    (tmp_path / "own/own_seg.nii.gz").unlink()
    cases, problems = layout.discover(tmp_path, layout.modalities)
    assert len(cases) == 2
    assert problems == [f"case folder {tmp_path / 'own'}: missing own_t1ce.nii.gz, own_seg.nii.gz (or .nii)"]
    with pytest.raises(DataError, match="no such folder"):
        layout.discover(tmp_path / "nothing", layout.modalities)


# Names as they are distributed; the last two words of a release are the value of the enhancing tumour and the suffix.
RELEASES = {
    "2018": ("HGG/Brats18_CBICA_AAB_1", "Brats18_CBICA_AAB_1_{}", "flair t1 t1ce t2 seg", 4, ".nii.gz"),
    "2019": ("LGG/BraTS19_TCIA10_103_1", "BraTS19_TCIA10_103_1_{}", "flair t1 t1ce t2 seg", 4, ".nii.gz"),
    "2020": ("BraTS20_Training_001", "BraTS20_Training_001_{}", "flair t1 t1ce t2 seg", 4, ".nii"),
    "2021": ("BraTS2021_00000", "BraTS2021_00000_{}", "flair t1 t1ce t2 seg", 4, ".nii.gz"),
    "2023": ("BraTS-GLI-00000-000", "BraTS-GLI-00000-000-{}", "t2f t1n t1c t2w seg", 3, ".nii.gz"),
    "2023 meningioma": ("BraTS-MEN-00004-000", "BraTS-MEN-00004-000-{}", "t2f t1n t1c t2w seg", 3, ".nii.gz"),
}


def write_release(source, release, flat=False, label=None):
    folder, pattern, words, enhancing, suffix = RELEASES[release]
    for word in words.split():
        array = (
            ramp() + len(word) + ord(word[-1])
            if word != "seg"
            else (ramp() % 3 == 1).astype(np.uint8) * (label or enhancing)
        )
        save(source / ("." if flat else folder) / f"{pattern.format(word)}{suffix}", array)
    return folder.split("/")[-1]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("flat", [False, True])
def test_releases_of_brats_by_their_own_names(tmp_path, release, flat):
    name = write_release(tmp_path / "in", release, flat)
    layout = get_layout("brats")
    (case,), problems = layout.discover(tmp_path / "in", ("t1ce", "flair"))
    assert not problems
    _, pattern, words, enhancing, suffix = RELEASES[release]
    found = {word: pattern.format(text) + suffix for word, text in
             zip(("flair", "t1", "t1ce", "t2"), words.split(), strict=False)}  # fmt: skip
    assert case.case == name
    assert {key: path.name for key, path in case.images.items()} == {key: found[key] for key in ("t1ce", "flair")}
    assert case.label.name == pattern.format("seg") + suffix
    summary = prepare(PrepareOptions("brats", tmp_path / "in", tmp_path / "out", sites="single", test_fraction=0))
    data = load_datalist(summary.path, deep=True)
    assert sorted(data.labels) == [0, 1, 2, enhancing]
    assert data.labels[enhancing] == "enhancing tumour"
    assert data.modality == ("flair", "t1", "t1ce", "t2")
    # The other release's value is refused, unless the user names it.
    other = 7 - enhancing
    write_release(tmp_path / "in", release, flat, label=other)
    options = {"sites": "single", "test_fraction": 0}
    with pytest.raises(DataError, match=f"holds the values {other}, expected only 0, 1, 2, {enhancing}"):
        prepare(PrepareOptions("brats", tmp_path / "in", tmp_path / "out", **options))
    prepare(PrepareOptions("brats", tmp_path / "in", tmp_path / "out", labels={0: "no", other: "yes"}, **options))


def test_releases_that_number_labels_differently_do_not_mix(tmp_path):
    for release in ("2021", "2023"):
        write_release(tmp_path / "in", release)
    options = {"sites": "single", "test_fraction": 0}
    with pytest.raises(DataError, match="BraTS-GLI-00000-000 and BraTS2021_00000 number their labels in two ways"):
        prepare(PrepareOptions("brats", tmp_path / "in", tmp_path / "out", **options))
    write_release(tmp_path / "in", "2021", label=3)
    labels = {0: "no", 1: "a", 2: "b", 3: "c"}
    prepare(PrepareOptions("brats", tmp_path / "in", tmp_path / "out", labels=labels, **options))


def test_the_label_map_with_a_foreign_name(tmp_path, caplog):
    """BraTS 2020, case 355: the one of all releases."""
    folder = tmp_path / "BraTS20_Training_355"
    for word in ("flair", "t1", "t1ce", "t2"):
        save(folder / f"BraTS20_Training_355_{word}.nii", ramp() + len(word) + ord(word[-1]))
    save(folder / "W39_1998.09.19_Segm.nii", ramp())
    layout = get_layout("brats")
    (case,), problems = layout.discover(tmp_path, layout.modalities)
    assert not problems
    assert case.label.name == "W39_1998.09.19_Segm.nii"
    assert "BraTS20_Training_355: its label map is W39_1998.09.19_Segm.nii" in caplog.text
    # Two of them, or none with seg in its name: nobody can tell.
    save(folder / "other_seg.nii.gz", ramp())
    assert "missing BraTS20_Training_355_seg.nii.gz" in layout.discover(tmp_path, layout.modalities)[1][0]
    (folder / "other_seg.nii.gz").unlink()
    (folder / "W39_1998.09.19_Segm.nii").rename(folder / "W39.nii")
    assert "missing BraTS20_Training_355_seg.nii.gz" in layout.discover(tmp_path, layout.modalities)[1][0]


def test_missing_files_are_named_as_the_release_names_them(tmp_path):
    write_release(tmp_path, "2023")
    (tmp_path / "BraTS-GLI-00000-000" / "BraTS-GLI-00000-000-t1c.nii.gz").unlink()
    save(tmp_path / "BraTS2021_00001_flair.nii.gz", ramp())
    layout = get_layout("brats")
    cases, problems = layout.discover(tmp_path, layout.modalities)
    assert not cases
    assert problems == [
        f"case folder {tmp_path / 'BraTS-GLI-00000-000'}: missing BraTS-GLI-00000-000-t1c.nii.gz (or .nii)",
        f"case BraTS2021_00001 in {tmp_path}: missing BraTS2021_00001_t1.nii.gz, BraTS2021_00001_t1ce.nii.gz, "
        "BraTS2021_00001_t2.nii.gz, BraTS2021_00001_seg.nii.gz (or .nii)",
    ]


def test_tcga_lgg(tmp_path):
    for name in ("flair", "seg"):
        save(tmp_path / f"TCGA_CS_4941/TCGA_CS_4941_{name}.nii.gz", ramp())
    # What prepare_data.py wrote into the source is no case.
    save(tmp_path / "out/x.nii.gz", ramp())
    (tmp_path / "out/datalist.json").write_text("{}")
    cases, problems = get_layout("tcga_lgg").discover(tmp_path, ("flair",))
    assert not problems
    assert [(case.case, case.patient, case.institution) for case in cases] == [("TCGA_CS_4941", "TCGA_CS_4941", "CS")]


@pytest.fixture
def slices(tmp_path):
    """A published case of 11 slices, whose channels tell the slice and the channel."""
    name = "TCGA_CS_4941_19960909"
    (tmp_path / name).mkdir()
    for number in range(1, 12):
        rgb = np.zeros((8, 6, 3), np.uint8)
        rgb[...] = [number, 100 + number, 200 + number]
        rgb[0, 1] = 0
        mask = np.zeros((8, 6), np.uint8)
        mask[number % 8, 2] = 255
        image = itk.image_from_array(rgb, is_vector=True)
        itk.imwrite(image, str(tmp_path / name / f"{name}_{number}.tif"))
        itk.imwrite(itk.image_from_array(mask), str(tmp_path / name / f"{name}_{number}_mask.tif"))
    return tmp_path / name


def test_tcga_lgg_tif(slices, tmp_path):
    layout = get_layout("tcga_lgg_tif")
    (case,), problems = layout.discover(tmp_path, ("flair", "t1ce"))
    assert not problems
    assert (case.patient, case.institution) == ("TCGA_CS_4941", "CS")
    output = tmp_path / "out" / "volumes" / case.case
    assert convert_case(case, ("flair", "t1ce"), output, ConvertOptions(), layout.read)
    flair = nib.load(output / "flair.nii.gz")
    assert flair.shape == (6, 8, 11)
    assert flair.get_data_dtype() == np.uint8
    assert np.asarray(flair.dataobj)[3, 3].tolist() == list(range(101, 112))
    assert np.asarray(flair.dataobj)[1, 0].tolist() == [0] * 11
    seg = np.asarray(nib.load(output / "seg.nii.gz").dataobj)
    assert np.argwhere(seg == 1).tolist() == [
        [2, n % 8, n - 1] for n in sorted(range(1, 12), key=lambda n: n % 8 * 99 + n)
    ]
    assert not convert_case(case, ("flair", "t1ce"), output, ConvertOptions(), layout.read)


def test_tcga_lgg_tif_bad(slices, tmp_path):
    layout = get_layout("tcga_lgg_tif")
    with pytest.raises(DataError, match="no t2, expected some of t1, flair, t1ce"):
        layout.discover(tmp_path, ("t2",))
    (case,), _ = layout.discover(tmp_path, ("flair",))
    path = slices / f"{slices.name}_4_mask.tif"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DataError, match=r"_4_mask\.tif: unreadable"):
        layout.read(case, "seg")
    itk.imwrite(itk.image_from_array(np.full((8, 6), 7, np.uint8)), str(path))
    with pytest.raises(DataError, match=r"_4_mask\.tif: expected a mask"):
        layout.read(case, "seg")
    path.unlink()
    (slices / f"{slices.name}_7.tif").unlink()
    _, problems = layout.discover(tmp_path, ("flair",))
    assert problems == [f"case folder {slices}: missing {slices.name}_7.tif, {slices.name}_4_mask.tif"]


@pytest.fixture
def msd(tmp_path):
    modality = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    training = []
    for name in ("BRATS_001", "BRATS_002"):
        save(tmp_path / f"imagesTr/{name}.nii.gz", ramp((6, 5, 4, 4), np.float32))
        save(tmp_path / f"labelsTr/{name}.nii.gz", (ramp() % 4).astype(np.uint8))
        training.append({"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"})
    (tmp_path / "imagesTr/._BRATS_001.nii.gz").write_bytes(b"x")
    training.append({"image": "./imagesTr/._BRATS_001.nii.gz", "label": "./labelsTr/._BRATS_001.nii.gz"})
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": modality, "training": training}))
    return tmp_path


def test_msd(msd):
    layout = get_layout("msd")
    cases, problems = layout.discover(msd, layout.modalities)
    assert not problems
    assert [case.case for case in cases] == ["BRATS_001", "BRATS_002"]
    t1ce = sitk.GetArrayFromImage(layout.read(cases[0], "t1ce")).T
    np.testing.assert_array_equal(t1ce, ramp((6, 5, 4, 4))[..., 2])
    assert layout.read(cases[0], "seg").GetPixelID() == sitk.sitkUInt8
    (msd / "labelsTr/BRATS_002.nii.gz").unlink()
    assert "BRATS_002.nii.gz" in layout.discover(msd, layout.modalities)[1][0]
    (msd / "dataset.json").write_text('{"modality": {"0": "CT"}}')
    with pytest.raises(DataError, match=r"dataset\.json: expected JSON with modality and training"):
        layout.discover(msd, layout.modalities)


@pytest.fixture
def hospital(tmp_path):
    """A case with a DICOM series, a MetaImage and an NRRD label on one grid."""
    spacing, origin = (0.5, 0.5, 2.0), (-10.0, -20.0, 5.0)
    write_slices(tmp_path / "p1" / "flair", series_slices(ramp().T, spacing))
    sitk.WriteImage(volume(ramp(dtype=np.float32), spacing, origin), str(tmp_path / "p1" / "p1_t2.mha"))
    sitk.WriteImage(volume((ramp() % 3).astype(np.int16), spacing, origin), str(tmp_path / "p1" / "seg.nrrd"))
    return tmp_path


def test_volumes(hospital, tmp_path):
    layout = get_layout("volumes")
    (case,), problems = layout.discover(hospital, ("t2", "flair"))
    assert not problems
    output = tmp_path / "out" / "volumes" / "p1"
    assert convert_case(case, ("t2", "flair"), output, ConvertOptions(), layout.read)
    for name, expected in (("flair", ramp()), ("t2", ramp()), ("seg", ramp() % 3)):
        image = nib.load(output / f"{name}.nii.gz")
        np.testing.assert_array_equal(np.asarray(image.dataobj), expected)
        np.testing.assert_allclose(image.affine, np.diag([-0.5, -0.5, 2, 1]) + np.array([[0, 0, 0, 10], [0, 0, 0, 20],
                                   [0, 0, 0, 5], [0, 0, 0, 0]]), atol=1e-5)  # fmt: skip
        assert b"Doe" not in image.header.binaryblock
        assert not image.header.extensions
    # The conversion is kept, until an option or a source changes.
    assert not convert_case(case, ("t2", "flair"), output, ConvertOptions(), layout.read)
    assert convert_case(case, ("t2", "flair"), output, ConvertOptions(resample=1.0), layout.read)
    assert nib.load(output / "seg.nii.gz").shape == (3, 2, 8)
    (output / "t2.nii.gz").unlink()
    assert convert_case(case, ("t2", "flair"), output, ConvertOptions(resample=1.0), layout.read)


def test_dicom_in_one_file_and_in_a_tree(hospital, tmp_path):
    folder = hospital / "p1" / "flair"
    (folder / "study" / "series").mkdir(parents=True)
    for path in folder.glob("*.dcm"):
        path.rename(folder / "study" / "series" / path.name)
    enhanced(ramp().T, (0.5, 0.5, 2.0)).save_as(hospital / "p1" / "t2.dcm", enforce_file_format=True)
    (hospital / "p1" / "p1_t2.mha").unlink()
    layout = get_layout("volumes")
    (case,), problems = layout.discover(hospital, ("t2", "flair"))
    assert not problems
    output = tmp_path / "out" / "volumes" / "p1"
    assert convert_case(case, ("t2", "flair"), output, ConvertOptions(), layout.read)
    for name in ("t2", "flair"):
        np.testing.assert_array_equal(np.asarray(nib.load(output / f"{name}.nii.gz").dataobj), ramp())
    # A changed file far below is a changed source.
    assert not convert_case(case, ("t2", "flair"), output, ConvertOptions(), layout.read)
    os.utime(next((folder / "study" / "series").iterdir()), (1, 1))
    assert convert_case(case, ("t2", "flair"), output, ConvertOptions(), layout.read)


@pytest.mark.parametrize("resample", [None, 3.0])
@pytest.mark.parametrize("absent", [[5], [0], [4, 5]])
def test_slices_that_only_the_label_has(tmp_path, absent, resample):
    """Numbered in order and evenly spaced: the series alone does not tell that its last slices are missing."""
    spacing = (0.5, 0.5, 2.0)
    whole = series_slices(ramp((4, 5, 6)).T, spacing)
    write_slices(tmp_path / "p1" / "flair", [d for n, d in enumerate(whole) if n not in absent])
    sitk.WriteImage(
        volume((ramp((4, 5, 6)) % 3).astype(np.uint8), spacing, (-10.0, -20.0, 5.0)), tmp_path / "p1/seg.nrrd"
    )
    layout = get_layout("volumes")
    (case,), _ = layout.discover(tmp_path, ("flair",))
    with pytest.raises(DataError, match=f"seg goes on for {len(absent)} slices? where flair ends"):
        convert_case(case, ("flair",), tmp_path / "out", ConvertOptions(resample=resample), layout.read)
    write_slices(tmp_path / "p1" / "t2", whole)  # the label was drawn on this one
    (case,), _ = layout.discover(tmp_path, ("flair", "t2"))
    assert convert_case(case, ("flair", "t2"), tmp_path / "out", ConvertOptions(resample=3.0), layout.read)


def test_labels_on_grids_of_their_own(tmp_path):
    """Resampling is for these: another spacing, half a voxel off, cut to what they show."""
    image = volume(ramp((8, 8, 6)))
    for spacing, origin, shape in (
        ((1.0, 1.0, 3.0), (0.0, 0.0, 0.0), (8, 8, 9)),
        ((1.0, 1.0, 1.0), (0.5, 0.0, 0.0), (8, 8, 9)),
        ((1.0, 1.0, 1.0), (2.0, 1.0, 2.0), (3, 3, 3)),
        ((1.0, 1.0, 1.0), (4.0, 0.0, 0.0), (8, 8, 6)),
    ):
        label = volume((ramp(shape) % 3).astype(np.uint8), spacing, origin)
        check_label_inside({"flair": image, "seg": label}, "seg")
    with pytest.raises(DataError, match="for 1 slice where"):
        check_label_inside({"flair": image, "seg": volume(ramp((3, 3, 3)), origin=(-1.0, 0.0, 0.0))}, "seg")


def test_killed_conversion_leaves_nothing(hospital, tmp_path, monkeypatch):
    layout = get_layout("volumes")
    (case,), _ = layout.discover(hospital, ("t2",))
    output = tmp_path / "out" / "p1"

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("bundle.prepare.case_conversion.write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        convert_case(case, ("t2",), output, ConvertOptions(), layout.read)
    assert list(output.parent.iterdir()) == []


def test_volumes_bad(hospital):
    layout = get_layout("volumes")
    with pytest.raises(DataError, match=r"--modalities .*p1, holds flair, p1_t2.mha, seg.nrrd"):
        layout.discover(hospital, ())
    _, problems = layout.discover(hospital, ("flair", "t1"))
    assert f"case folder {hospital / 'p1'}: missing t1.EXT" in problems[0]
    write_slices(hospital / "p1" / "flair", series_slices(ramp().T, series="1.2.9"), "{}.dcm")
    (case,), _ = layout.discover(hospital, ("flair",))
    with pytest.raises(DataError, match="flair: holds 2 DICOM series, expected exactly one"):
        layout.read(case, "flair")
    (hospital / "p1" / "t1").mkdir()
    (hospital / "p1" / "t1.nrrd").write_bytes(b"NRRD")
    _, problems = layout.discover(hospital, ("t1",))
    assert "t1.nrrd, t1; expected one t1" in problems[0]
    with pytest.raises(DataError, match=r"t1\.nrrd: unreadable"):
        read_volume(hospital / "p1" / "t1.nrrd")
    with pytest.raises(DataError, match="t1: holds 0 DICOM series"):
        read_volume(hospital / "p1" / "t1")


def test_grids():
    reference = volume(ramp(), (1.0, 1.0, 3.0))
    grid = isotropic_grid(reference, 1.5)
    assert grid.GetSize() == (4, 3, 8)
    np.testing.assert_allclose(grid.GetOrigin(), (0.25, 0.25, -0.75))
    same = isotropic_grid(volume(ramp()), 1.0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(resample(volume(ramp()), same)).T, ramp())
    labels = sitk.GetArrayFromImage(resample(volume((ramp() % 2 * 4).astype(np.uint8)), grid, label=True))
    assert set(np.unique(labels)) <= {0, 4}


def test_labels_must_be_whole_numbers():
    assert as_label(volume(np.full((2, 2, 2), 4.0)), "f").GetPixelID() == sitk.sitkUInt8
    with pytest.raises(DataError, match="f: label holds fractions"):
        as_label(volume(np.full((2, 2, 2), 0.5)), "f")
    with pytest.raises(DataError, match="f: label values run from -1 to -1"):
        as_label(volume(np.full((2, 2, 2), -1)), "f")


def test_n4_flattens_a_bias_field():
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in (32, 32, 16)], indexing="ij")
    inside = x**2 + y**2 + z**2 < 0.8
    rng = np.random.default_rng(0)
    tissue = np.where(z > 0, 100, 160) + rng.normal(0, 2, x.shape)
    biased = np.where(inside, tissue * np.exp(0.4 * x), 0).astype(np.float32)
    corrected = sitk.GetArrayFromImage(correct_bias(volume(biased), shrink=2)).T
    assert corrected.dtype == np.float32
    assert (corrected[~inside] == 0).all()

    def spread(image):
        return np.std(image[inside & (z > 0)]) / np.mean(image[inside & (z > 0)])

    assert spread(corrected) < 0.4 * spread(biased)
    with pytest.raises(DataError, match="positive intensities"):
        correct_bias(volume(np.zeros((8, 8, 8), np.float32)))


def test_write_nifti_is_atomic(tmp_path):
    with pytest.raises(OSError, match="cannot be written"):
        write_nifti(volume(ramp()), tmp_path / "a.unknown")
    assert list(tmp_path.iterdir()) == []


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def discover_tiles(folder):
    return get_layout("multi_organ").discover(folder, ("red", "green", "blue"))


@pytest.mark.parametrize(("images", "annotations"), [("tissue images", "Annotations"), ("Tissue_Images", "labels"),
                                                     ("images", "masks"), (".", ".")])  # fmt: skip
def test_multi_organ_folders(tmp_path, images, annotations):
    for name in ("TCGA-21-5784-01Z-00-DX1", "TCGA-AY-A8YK-01A-01-TS1", "PhantomTile_breast_001", "own"):
        touch(tmp_path / images / f"{name}.tif")
        touch(tmp_path / annotations / f"{name}.xml")
    touch(tmp_path / images / "._own.tif")
    touch(tmp_path / images / "Thumbs.db")
    cases, problems = discover_tiles(tmp_path)
    assert not problems
    assert [(case.case, case.patient, case.organ, case.split) for case in cases] == [
        ("PhantomTile_breast_001", "PhantomTile_breast_001", "breast", None),
        ("TCGA-21-5784-01Z-00-DX1", "TCGA-21-5784", "liver", "training"),
        ("TCGA-AY-A8YK-01A-01-TS1", "TCGA-AY-A8YK", "colon", "test"),
        ("own", "own", None, None),
    ]
    image = tmp_path / images / "own.tif"
    assert cases[-1].images == {"red": image, "green": image, "blue": image}
    assert cases[-1].label == tmp_path / annotations / "own.xml"


def test_multi_organ_missing_and_double_files(tmp_path):
    for name in ("images/a.tif", "images/b.png", "images/d.tif", "images/d.png", "annotations/b.npy",
                 "annotations/b.mat", "annotations/c.xml", "annotations/d.xml", "annotations/e.png"):  # fmt: skip
        touch(tmp_path / name)
    touch(tmp_path / "images/e.tif")
    cases, problems = discover_tiles(tmp_path)
    assert [case.case for case in cases] == ["e"]
    images, annotations = tmp_path / "images", tmp_path / "annotations"
    assert problems == [
        f"case a: its annotation is missing, expected {annotations / 'a.xml'} "
        "(or .geojson, .json, .png, .tif, .tiff, .npy, .npz, .mat)",
        f"case b: has 2 annotations, b.mat, b.npy in {annotations}; expected one",
        f"case c: its image is missing, expected {images / 'c.tif'} (or .png, .tiff, .jpg, .jpeg, .svs)",
        f"case d: has 2 images, d.png, d.tif in {images}; expected one",
    ]


@pytest.mark.parametrize(("image", "annotation", "together"), [
    ("a.ome.tif", "a.xml", True), ("a.ome.tif", "a.ome.geojson", True), ("a.OME.TIFF", "a.ome.tif", False),
    ("a.svs", "a.xml", True), ("a.jpg", "a.mat", True), ("a.JPEG", "a.png", False), ("a.png", "a.npz", True),
    ("a.tif", "a.json", False), ("b.1.tif", "b.1.xml", True)])  # fmt: skip
def test_multi_organ_pairs_by_name(tmp_path, image, annotation, together):
    for images, annotations in [("images", "annotations")] + [(".", ".")] * together:
        folder = tmp_path / f"{together}{images}"
        touch(folder / images / image)
        touch(folder / annotations / annotation)
        cases, problems = discover_tiles(folder)
        assert not problems
        assert [(case.case, case.images["red"].name, case.label.name) for case in cases] == [
            (image[:3] if image[0] == "b" else "a", image, annotation)
        ]


@pytest.mark.parametrize(("files", "words"), [
    (["images/images.npy", "masks/masks.npy"], "PanNuke and HoVer-Net"),
    (["images/a.ndpi", "masks/a.xml"], "a whole slide: export tiles"),
    (["images/a.bmp", "masks/a.xml"], "convert it to PNG or TIFF"),
    (["images/a.png", "masks/a.jpg"], "changes values: save the mask as PNG"),
    (["images/a.png", "masks/a.zip"], "ImageJ's regions of interest"),
    (["images/a.png", "masks/a.h5"], "an HDF5 file")])  # fmt: skip
def test_multi_organ_names_formats_that_it_does_not_read(tmp_path, files, words):
    for name in files:
        touch(tmp_path / name)
    cases, problems = discover_tiles(tmp_path)
    assert not cases
    assert any(words in problem for problem in problems)


def test_multi_organ_passes_over_what_belongs_to_no_tile(tmp_path):
    for name in ("images/a.png", "images/a.ndpi", "masks/a.xml", "masks/a.csv", "masks/cases.json", "masks/x.csv",
                 "masks/overlay.jpg"):  # fmt: skip
        touch(tmp_path / name)
    cases, problems = discover_tiles(tmp_path)
    assert ([case.label.name for case in cases], problems) == (["a.xml"], [])
    for name in ("b.tif", "b.xml", "datalist.json"):
        touch(tmp_path / "flat" / name)
    assert discover_tiles(tmp_path / "flat")[1] == []


def test_multi_organ_bad_folders(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        discover_tiles(tmp_path / "none")
    assert discover_tiles(tmp_path) == ([], [])
    touch(tmp_path / "images/a.tif")
    with pytest.raises(DataError, match="holds images, expected a folder annotations beside"):
        discover_tiles(tmp_path)
    touch(tmp_path / "Labels/a.xml")
    touch(tmp_path / "masks/a.png")
    with pytest.raises(DataError, match="holds Labels, masks, expected one of these"):
        discover_tiles(tmp_path)


def test_published_tiles():
    """Kumar et al. 2017: four organs with 4 + 2 tiles each, three more with 2 test tiles."""
    assert len(PUBLISHED) == 30
    assert Counter(PUBLISHED.values()) == {
        **{(organ, "training"): 4 for organ in ("breast", "liver", "kidney", "prostate")},
        **{(organ, "test"): 2 for organ in ("breast", "liver", "kidney", "prostate", "bladder", "colon", "stomach")},
    }
    assert PUBLISHED["TCGA-NH-A8F7-01A-01-TS1"] == ("colon", "test")
    patients = Counter(parse_name(case)[0] for case in PUBLISHED)
    assert set(patients.values()) == {1}
