"""Sites whose labels tell less apart than the task's classes."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch

from bundle.data import DataError, complete, fitting, load_datalist, write_site_lists
from bundle.data.datalist import write_datalist
from bundle.data.modalities import check_has
from bundle.transforms import ConditionFromLabeld, GroupLabelsd

GROUPS = {"core": [1], "oedema": [2], "enhancing": [4]}
OWN = {"B": {1: tuple(GROUPS)}}


@pytest.fixture
def folder(tmp_path):
    """Site A with the labels of all, site B with the whole tumour alone, as its value 1."""
    rng = np.random.default_rng(0)
    items = []
    for case, site, highest in (("a1", "A", 3), ("b1", "B", 2), ("a2", "A", 3)):
        paths = {part: tmp_path / f"{case}_{part}.nii.gz" for part in ("flair", "seg")}
        nib.save(nib.Nifti1Image(rng.normal(size=(6, 5, 4)), np.eye(4)), paths["flair"])
        nib.save(nib.Nifti1Image(rng.integers(0, highest, (6, 5, 4)).astype(np.uint8), np.eye(4)), paths["seg"])
        items.append({"image": str(paths["flair"]), "label": str(paths["seg"]), "case": case, "site": site})
    labels = {0: "background", 1: "core", 2: "oedema", 4: "enhancing"}
    about = {"name": "t", "task": "brats", "layout": "brats", "modality": ["flair"], "labels": labels}
    write_datalist(tmp_path, training=items[:2], test=items[2:], label_groups=OWN, **about)
    return tmp_path


def edit(folder, change):
    path = folder / "datalist.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content))


def test_items_of_the_site_say_what_its_values_may_be_and_its_own_list_does(folder, tmp_path):
    datalist = fitting(load_datalist(folder, deep=True), GROUPS)
    a, b = datalist.training
    assert "label_groups" not in a
    assert b["label_groups"] == OWN["B"]
    lists = write_site_lists(datalist, tmp_path / "sites")
    assert "label_groups" not in json.loads(lists["A"].read_text(encoding="utf-8"))
    assert load_datalist(lists["B"]).label_groups == OWN


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c["label_groups"].update(B={"7": ["core"]}), "label_groups: site B has .*label values 1, 2, 4"),
        (lambda c: c["label_groups"].update(B={"0": ["core"]}), "label_groups: site B"),
        (lambda c: c["label_groups"].update(B={"1": []}), "label_groups: site B"),
        (lambda c: c["label_groups"].update(B=["core"]), "label_groups: site B"),
        (lambda c: c["label_groups"].update(B={}), "label_groups: site B"),
        (
            lambda c: c["label_groups"].update(A=c["label_groups"]["B"]),
            "test case 'a2' is of site A, which has labels of",
        ),
        (lambda c: c.update(label_type="instances"), "expected none where labels number objects"),
    ],
)
def test_what_a_list_may_not_say(folder, change, text):
    edit(folder, change)
    with pytest.raises(DataError, match=text):
        load_datalist(folder)


@pytest.mark.parametrize(
    ("own", "text"),
    [
        ({"1": ["core", "tumour"]}, "site B: tumour are no classes of the job, expected core, oedema, enhancing"),
        ({"1": ["core"]}, "none of its label values may be oedema, enhancing.*would pass for absent"),
    ],
)
def test_labels_that_do_not_fit_the_job(folder, own, text):
    edit(folder, lambda c: c["label_groups"].update(B=own))
    with pytest.raises(DataError, match=f"(?s)'t': field label_groups does not fit.*{text}"):
        fitting(load_datalist(folder), GROUPS)


@pytest.mark.parametrize("setting", ["real_all", "real_subset/B", "real_all_filled", "fedavg"])
def test_a_segmenter_of_real_images_needs_labels_that_tell_all_apart(folder, setting):
    with pytest.raises(DataError, match=r"a segmenter of real images, needs labels that tell .* those of B do not"):
        check_has(load_datalist(folder), setting)
    check_has(load_datalist(folder), "real_subset/A")
    check_has(load_datalist(folder), "asyndgan")


def test_what_needs_every_class_is_refused(folder):
    with pytest.raises(DataError, match="image quality needs labels that tell all classes apart, but those of B"):
        complete(load_datalist(folder), "image quality")


def condition_of(label, own=None):
    item = {"label": torch.tensor([[label]]), "outline": torch.tensor([[[1] * len(label)]])}
    item |= {} if own is None else {"label_groups": own}
    return ConditionFromLabeld(num_classes=3)(GroupLabelsd("label", GROUPS)(item))["condition"][:, 0].T.tolist()


def test_a_voxel_that_may_be_several_is_neither_one_of_them_nor_background():
    assert condition_of([0, 1, 2, 4]) == [[0, 0, 0, 1], [1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1]]
    assert condition_of([0, 1], OWN["B"]) == [[0, 0, 0, 1], [1, 1, 1, 1]]
    # values of its own, of which one is known and two sets are not
    own = {1: ("oedema",), 2: ("core", "enhancing"), 4: ("oedema", "core")}
    assert condition_of([1, 2, 4], own) == [[0, 1, 0, 1], [1, 0, 1, 1], [1, 1, 0, 1]]


def test_a_value_that_the_site_has_not_named_is_refused():
    with pytest.raises(ValueError, match=r"holds the value\(s\) 2; expected 0, \{1:"):
        condition_of([0, 1, 2], OWN["B"])
