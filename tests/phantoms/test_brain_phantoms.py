"""Phantoms: what the data promise, and that they are the same for everybody with the seed."""

import csv
import os

import nibabel as nib
import numpy as np
import pytest

from bundle.data.datalist import load_datalist
from bundle.data.errors import DataError
from bundle.phantoms.brains import MODALITIES, STYLES, brain_phantom, site_style, write_brats_phantoms

SHAPE = (48, 48, 12)


@pytest.fixture(scope="module")
def phantom():
    return brain_phantom(1, "A", (64, 64, 16))


def test_arrays(phantom):
    assert set(phantom) == {*MODALITIES, "seg"}
    brain = phantom["t1"] > 0
    assert 0.2 < brain.mean() < 0.5
    for name in MODALITIES:
        assert phantom[name].dtype == np.int16
        assert phantom[name].shape == (64, 64, 16)
        np.testing.assert_array_equal(phantom[name] > 0, brain)
    assert phantom["seg"].dtype == np.uint8
    assert set(np.unique(phantom["seg"])) == {0, 1, 2, 4}
    assert not phantom["seg"][~brain].any()


def test_contrast_is_that_of_a_tumour(phantom):
    seg, healthy = phantom["seg"], (phantom["seg"] == 0) & (phantom["t1"] > 0)

    def mean(name, mask):
        return phantom[name][mask].mean()

    assert mean("flair", seg == 2) > 1.5 * mean("flair", healthy)
    assert mean("t1ce", seg == 4) > 1.3 * mean("t1ce", healthy)
    assert mean("t1ce", seg == 1) < mean("t1ce", healthy)
    assert mean("t1", seg == 2) < mean("t1", healthy)
    # Without contrast agent the rim is not bright.
    assert mean("t1", seg == 4) < mean("t1", healthy)


def test_seeds_and_styles():
    first = brain_phantom(3, "A", SHAPE)
    state = np.random.get_state()[1].copy()  # noqa: NPY002  the global state must not move
    again = brain_phantom(3, "A", SHAPE)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    other = brain_phantom(3, "B", SHAPE)
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    np.testing.assert_array_equal(first["seg"], other["seg"])
    assert not np.array_equal(first["t2"], other["t2"])
    assert not np.array_equal(first["seg"], brain_phantom(4, "A", SHAPE)["seg"])
    assert site_style("E") == site_style("E") != site_style("F")
    assert len(set(STYLES.values())) == 4


def test_every_phantom_has_brain_and_tumour():
    volumes = []
    for seed in range(12):
        seg = brain_phantom(seed, "A", SHAPE)["seg"]
        assert set(np.unique(seg)) >= {2, 4}
        volumes.append(np.count_nonzero(seg))
    assert max(volumes) > 4 * min(volumes)


def test_write(tmp_path):
    options = {"sites": ("A", "B"), "cases_per_site": 2, "test_cases_per_site": 1, "shape": (24, 24, 8)}
    table = write_brats_phantoms(tmp_path, **options)
    rows = list(csv.DictReader(table.open()))
    assert [(row["case"], row["site"], row["split"]) for row in rows][2:4] == [
        ("Phantom_A_003", "A", "test"),
        ("Phantom_B_001", "B", "train"),
    ]
    folder = tmp_path / "HGG" / "Phantom_B_001"
    assert sorted(os.listdir(folder)) == sorted(f"Phantom_B_001_{n}.nii.gz" for n in (*MODALITIES, "seg"))
    seg = folder / "Phantom_B_001_seg.nii.gz"
    assert nib.load(seg).shape == (24, 24, 8)
    # Whole cases are kept; damaged ones and those of another seed are written again.
    kept, content = (folder / "Phantom_B_001_t1.nii.gz").stat().st_mtime_ns, seg.read_bytes()
    broken = tmp_path / "HGG" / "Phantom_A_001" / "Phantom_A_001_t2.nii.gz"
    broken.unlink()
    write_brats_phantoms(tmp_path, **options)
    assert broken.is_file()
    assert (folder / "Phantom_B_001_t1.nii.gz").stat().st_mtime_ns == kept
    write_brats_phantoms(tmp_path, seed=1, **options)
    assert seg.read_bytes() != content


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (24, 24, 4)}, "expected three numbers of at least 8"),
        ({"cases_per_site": 0}, "expected at least 1"),
        ({"sites": ("A", "A")}, "expected different names"),
        ({"sites": ("A/B",)}, "expected different names"),
    ],
)
def test_bad_options(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        write_brats_phantoms(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_no_data_list_yet(tmp_path):
    with pytest.raises(DataError, match="no such data list"):
        load_datalist(tmp_path)
