"""Sites that lack some of the modalities: what a data list may say of it, and which settings it leaves."""

import json

import nibabel as nib
import numpy as np
import pytest

from bundle.data import (
    DataError,
    complete,
    items_by_site,
    load_datalist,
    names_by_site,
    segmenter_modalities,
    training_items,
    write_site_lists,
)
from bundle.data.datalist import write_datalist
from bundle.data.modalities import check_has

MODALITY = ("flair", "t1", "t2")
HAVE = {"B": ("flair", "t2"), "C": ("t2",)}
# who holds out what: a whole case, and one of its own two modalities
CASES = [("a1", "A", MODALITY), ("b1", "B", HAVE["B"]), ("c1", "C", HAVE["C"]), ("a2", "A", MODALITY)]
CASES += [("b2", "B", HAVE["B"]), ("c2", "C", MODALITY)]


def save(path, array):
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return str(path)


@pytest.fixture
def folder(tmp_path):
    """Three sites, of which A has all three modalities; a case is a file for each that is there."""
    rng = np.random.default_rng(0)
    items = []
    for case, site, names in CASES:
        images = [save(tmp_path / f"{case}_{name}.nii.gz", rng.normal(size=(6, 5, 4))) for name in names]
        label = save(tmp_path / f"{case}_seg.nii.gz", rng.integers(0, 3, (6, 5, 4)).astype(np.uint8))
        items.append({"image": images, "label": label, "case": case, "site": site})
    about = {"name": "t", "task": "brats", "layout": "brats", "labels": {0: "background", 1: "core", 2: "oedema"}}
    write_datalist(tmp_path, training=items[:3], test=items[3:], modality=MODALITY, modalities=HAVE, **about)
    return tmp_path


def edit(folder, change):
    path = folder / "datalist.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content))


def refused(folder, *texts, **options):
    with pytest.raises(DataError) as caught:
        load_datalist(folder, **options)
    for text in (str(folder), *texts):
        assert text in str(caught.value)


def test_items_have_what_their_site_has_in_the_order_asked_for_and_name_the_rest(folder):
    datalist = load_datalist(folder, ("t2", "flair", "t1"), deep=True)
    a, b, c = datalist.training
    assert (a["modality"], "absent" in a) == (("t2", "flair", "t1"), False)
    assert (b["modality"], b["absent"]) == (("t2", "flair"), ("t1",))
    assert [path.rpartition("_")[2] for path in b["image"]] == ["t2.nii.gz", "flair.nii.gz"]
    assert (c["modality"], c["absent"]) == (("t2",), ("flair", "t1"))
    assert [item["modality"] for item in datalist.test] == [
        ("t2", "flair", "t1"),
        ("t2", "flair"),
        ("t2", "flair", "t1"),
    ]
    assert datalist.modalities_of("A") == ("t2", "flair", "t1")
    assert datalist.modalities_of("B") == ("t2", "flair")


def test_who_lacks_nothing_of_what_is_asked_for_lacks_nothing(folder):
    datalist = load_datalist(folder, ["t2"])
    assert names_by_site(datalist, datalist.sites) == {}
    assert all("absent" not in item for item in datalist.training)
    assert complete(datalist, "anything") is datalist


def test_lists_of_single_sites_say_what_theirs_lacks_and_nothing_of_others(folder, tmp_path):
    whole = load_datalist(folder)
    for site, path in write_site_lists(whole, tmp_path / "sites", held_out=True).items():
        content = json.loads(path.read_text(encoding="utf-8"))
        assert content.get("modalities", {}) == {s: list(own) for s, own in HAVE.items() if s == site}
        own = load_datalist(path, deep=True)
        assert own.modalities_of(site) == whole.modalities_of(site)
        assert [item["image"] for item in own.training] == [item["image"] for item in whole.site_items(site)]


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        (lambda c: c["modalities"].pop("B"), ["case b1", "2 files, expected 3, one per modality"]),
        (lambda c: c["training"][1]["image"].pop(), ["case b1", "1 files, expected 2, one per modality"]),
        (lambda c: c["test"][1]["image"].pop(), ["case b2", "1 files, expected 2 or 3, one per modality"]),
        (lambda c: c["modalities"].update(B=["flair", "pd"]), ["modalities: site B", "'pd'", "some of flair, t1, t2"]),
        (lambda c: c["modalities"].update(B=[]), ["modalities: site B has []"]),
        (lambda c: c["modalities"].update(B=["t2", "t2"]), ["modalities: site B"]),
        (lambda c: c["modalities"].update(B="t2"), ["modalities: site B"]),
        (lambda c: c.update(modalities=["B"]), ["field modalities is a list, expected a dict"]),
        (lambda c: c["modality"].update({"1": "t1,t2"}), ["names without commas"]),
    ],
)
def test_what_a_list_may_not_say(folder, change, texts):
    edit(folder, change)
    refused(folder, *texts)


def test_a_site_with_none_of_those_asked_for_and_a_modality_that_no_list_knows(folder):
    refused(folder, "site C has none of the modalities asked for, flair, t1", "says t2", modalities=["flair", "t1"])
    refused(folder, "modalities flair, pd were asked for", "available: flair, t1, t2", modalities=["flair", "pd"])


def test_a_site_that_is_named_twice(folder):
    path = folder / "datalist.json"
    text = path.read_text(encoding="utf-8").replace('"C": [', '"B": [')
    path.write_text(text, encoding="utf-8")
    refused(folder, "'B' is named twice in one object")


@pytest.mark.parametrize(
    ("setting", "modalities"),
    [
        ("asyndgan", MODALITY),
        ("labels_only", MODALITY),
        ("real_all_filled", MODALITY),
        ("real_all_common", ("t2",)),
        ("real_subset/A", MODALITY),
        ("real_subset/B", ("flair", "t2")),
        ("real_subset_plus_asyndgan/B", ("flair", "t2")),
        ("leave_out/C", MODALITY),
    ],
)
def test_what_the_segmenter_of_a_setting_reads(folder, setting, modalities):
    datalist = load_datalist(folder, MODALITY)
    check_has(datalist, setting)
    assert segmenter_modalities(datalist, setting) == list(modalities)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("real_all", "needs all modalities, but site B has no t1, site C has no flair, t1; real_all_common"),
        ("fedavg", "needs all modalities, but site B has no t1"),
        ("syn_all", "one site that holds the images of all, needs every modality at every site, but site B has no t1"),
        ("syn_subset/C", "no site of C has flair, t1, and the generator would draw it"),
        ("leave_out/A", "no site of B, C has t1, and the generator would draw it"),
        ("leave_out_real_all/A", "needs all modalities, but site B has no t1"),
    ],
)
def test_settings_that_need_what_sites_lack(folder, setting, text):
    with pytest.raises(DataError, match=f"'t', setting {setting}.*{text}|'t': setting {setting}.*{text}"):
        check_has(load_datalist(folder, MODALITY), setting)


def test_sites_without_a_modality_in_common(folder):
    edit(folder, lambda c: c["modalities"].update(B=["flair", "t1"]))
    with pytest.raises(DataError, match="sites A, B, C have no modality in common"):
        check_has(load_datalist(folder, MODALITY), "real_all_common")


def test_trainings_are_refused_where_their_items_are_made(folder):
    datalist = load_datalist(folder, MODALITY)
    assert list(items_by_site(datalist, "asyndgan")) == ["A", "B", "C"]
    with pytest.raises(DataError, match="one site that holds the images of all"):
        items_by_site(datalist, "syn_all")
    with pytest.raises(DataError, match="needs all modalities"):
        training_items("real_all", str(folder), [], list(MODALITY))
    assert len(training_items("real_all_filled", str(folder), [], list(MODALITY))) == 3
