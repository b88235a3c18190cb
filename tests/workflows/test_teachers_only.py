"""The setting teachers_only: a data set of what the sites' teachers predicted, by no generator."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bundle.data import load_datalist
from bundle.server import read_conditions, read_teacher_images, write_conditions
from bundle.workflows.config_checks import ConfigError
from bundle.workflows.experiment import Experiment


def experiment(data, run_dir, sizes, **other):
    sizes = sizes | {"stages": ["train", "generate"], "teacher_steps": 2, "num_steps": 1, "epoch_length": 1} | other
    return Experiment("brats", str(data), "demo", str(run_dir), overrides=sizes, settings=["teachers_only"])


def test_every_image_is_the_teachers_and_every_label_map_the_released_one(phantom_dir, tmp_path, tiny_sizes):
    experiment(phantom_dir, tmp_path, tiny_sizes).run()
    run = tmp_path / "seed_0"
    conditions = read_conditions(run / "asyndgan/gan/conditions.npz")
    taught = read_teacher_images(run / "asyndgan/gan/teacher.npz")
    folder = run / "teachers_only" / "synthetic"
    items = load_datalist(folder).training
    assert len(items) == sum(map(len, taught.values())) > 0
    left = {site: iter(zip(conditions[site], taught[site], strict=True)) for site in taught}
    for item in items:
        condition, image = next(left[item["site"]])
        found, label = (np.asarray(nib.load(item[key]).dataobj).squeeze() for key in ("image", "label"))
        assert np.array_equal(found, image[0].astype(np.float32))
        assert np.array_equal(label > 0, condition[:-1].any(axis=0))
    sheet = json.loads((folder / "data_sheet.json").read_text(encoding="utf-8"))
    assert "predicted by sites' teachers" in sheet["description"]


@pytest.mark.parametrize(
    ("policy", "who"), [("guarded", "A, B"), pytest.param({"B": "guarded"}, "B", marks=pytest.mark.long)]
)
def test_it_is_refused_at_the_start_where_a_site_has_no_teacher(phantom_dir, tmp_path, tiny_sizes, policy, who):
    with pytest.raises(ConfigError, match=rf"setting teachers_only: no teacher at {who} \("):
        experiment(phantom_dir, tmp_path, tiny_sizes, release_policy=policy).run()
    assert not list(Path(tmp_path).rglob("*.npz"))


def test_a_bank_that_no_teacher_has_seen_is_refused_at_the_start(phantom_dir, tmp_path, tiny_sizes):
    bank = tmp_path / "bank.npz"
    write_conditions(bank, {"public": [np.ones((2, tiny_sizes["image_size"], tiny_sizes["image_size"]), np.uint8)]})
    with pytest.raises(ConfigError, match=r"setting teachers_only: no teacher has predicted images .* condition_bank"):
        experiment(phantom_dir, tmp_path / "run", tiny_sizes, condition_bank=str(bank)).run()
    assert list(tmp_path.rglob("*.npz")) == [bank]


@pytest.mark.long
def test_teachers_whose_weights_left_draw_on_the_servers_own_label_maps(phantom_dir, tmp_path, tiny_sizes):
    size = tiny_sizes["image_size"]
    own = np.zeros((3, 2, size, size), np.uint8)
    own[:, 1, 2:-2, 2:-2] = 1
    for number in range(3):
        own[number, 0, 4 + number : 9, 4:9] = 1
    write_conditions(tmp_path / "bank.npz", {"public": list(own)})
    private = {"policy": "private", "mechanism": "dp_sgd", "teacher": True, "patients_per_update": 2, "max_noise": None}
    given = {"release_policy": private, "public_conditions": str(tmp_path / "bank.npz"), "private_teacher_steps": 2}
    experiment(phantom_dir, tmp_path / "run", tiny_sizes, **given).run()
    run = tmp_path / "run" / "seed_0"
    assert len(list((run / "asyndgan/gan/teachers").glob("*.safetensors"))) == 2
    items = load_datalist(run / "teachers_only" / "synthetic").training
    images = [np.asarray(nib.load(item["image"]).dataobj).squeeze() for item in items]
    assert len(images) == 3
    assert all(np.isfinite(image).all() for image in images)
    assert not np.array_equal(images[0], images[1])
