"""One scan under the names of two patients is found, and two patients are not taken for one."""

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, zoom

from bundle.files import write_json
from bundle.prepare.preparation import PrepareOptions, prepare
from bundle.prepare.same_scan import ALIKE, find_same_scans, fingerprint


def scan(seed, shape=(64, 48, 20)):
    """A head, at the same place in all scans, with a texture of its own."""
    rng = np.random.default_rng(seed)
    texture = gaussian_filter(rng.standard_normal(shape), 2)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    head = sum(axis**2 for axis in axes[:2]) < 0.7
    return np.where(head, np.maximum(100 + 40 * texture / texture.std(), 1), 0)


CHANGES = {
    "scaled": lambda image: 3 * image + 40,
    "gamma": lambda image: (image / image.max()) ** 1.5,
    "noise": lambda image: image + np.random.default_rng(9).normal(0, 8, image.shape),
    "fewer pixels": lambda image: zoom(image, (0.7, 0.7) + (1,) * (image.ndim - 2), order=1),
    "more pixels": lambda image: zoom(image, (1.5, 1.5) + (1,) * (image.ndim - 2), order=1),
    "bias": lambda image: image * np.linspace(0.8, 1.2, image.shape[0]).reshape(-1, *[1] * (image.ndim - 1)),
    "mirrored": lambda image: image[::-1],
    "turned by half": lambda image: image[::-1, ::-1],
}


def items(folder, images, patients=None):
    found = []
    for number, image in enumerate(images):
        path = folder / f"{number}.nii.gz"
        nib.save(nib.Nifti1Image(np.ascontiguousarray(image, dtype=np.float32), np.eye(4)), path)
        patient = patients[number] if patients else f"patient {number}"
        found.append({"image": [str(path)], "case": f"case {number}", "patient": patient})
    return found


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_found_whatever_was_done_to_it(tmp_path, change):
    images = [scan(0), scan(1), CHANGES[change](scan(0)), scan(2)]
    (pair,) = find_same_scans(items(tmp_path, images), ["flair"])
    assert pair[:2] == ("case 0", "case 2")
    assert ALIKE <= pair.correlation <= 1 + 1e-5


def test_heads_of_one_place_and_size_are_no_copies(tmp_path):
    assert find_same_scans(items(tmp_path, [scan(seed) for seed in range(8)]), ["flair"]) == []


def test_scans_of_one_patient_are_no_finding(tmp_path):
    assert find_same_scans(items(tmp_path, [scan(0), scan(0)], ["A", "A"]), ["flair"]) == []


def test_all_copies_are_named_the_most_alike_first(tmp_path):
    images = [scan(0), CHANGES["noise"](scan(0)), scan(0)]
    pairs = find_same_scans(items(tmp_path, images), ["flair"])
    assert pairs[0][:2] == ("case 0", "case 2")
    assert len(pairs) == 3


def test_a_fingerprint_has_no_scale_and_an_image_of_one_value_none():
    image = scan(0)
    torch.testing.assert_close(fingerprint(image), fingerprint(7 * image - 3), rtol=0, atol=1e-5)
    assert fingerprint(image).norm() == pytest.approx(1)
    assert fingerprint(np.full((5, 5), 3)).abs().max() == 0


def test_pictures_and_files_of_several_channels(tmp_path):
    pictures = [scan(seed)[:, :, 3] for seed in (0, 1)]
    assert fingerprint(pictures[0]).shape == (64, 64)
    assert float((fingerprint(pictures[0]) * fingerprint(pictures[1])).sum()) < ALIKE
    several = items(tmp_path, [np.stack([scan(seed), scan(5)], -1) for seed in (0, 1, 0)])
    several = [item | {"image": item["image"][0]} for item in several]
    (pair,) = find_same_scans(several, ["flair", "t1"])
    assert pair[:2] == ("case 0", "case 2")


def test_preparation_names_them_and_a_table_settles_it(tmp_path):
    for number, seed in enumerate((0, 1, 0)):
        folder = tmp_path / "source" / f"case{number}"
        folder.mkdir(parents=True)
        nib.save(nib.Nifti1Image(scan(seed).astype(np.float32), np.eye(4)), folder / f"case{number}_flair.nii.gz")
        label = (scan(seed) > 120).astype(np.uint8)
        nib.save(nib.Nifti1Image(label, np.eye(4)), folder / f"case{number}_seg.nii.gz")
    options = {"layout": "tcga_lgg", "source": tmp_path / "source", "output": tmp_path / "out", "sites": "single"}
    (warning,) = [text for text in prepare(PrepareOptions(**options, test_fraction=0)).warnings if "one scan" in text]
    assert "case0 and case2 (1.00)" in warning
    assert "column patient" in warning
    table = tmp_path / "table.json"
    write_json(table, [{"case": f"case{n}", "patient": p, "site": "A"} for n, p in enumerate("XYX")])
    found = prepare(PrepareOptions(**options, table=table, test_fraction=0))
    assert not [text for text in found.warnings if "one scan" in text]
