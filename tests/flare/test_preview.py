"""What would leave a site, as a picture, from its startup kit."""

import json

import pytest
import yaml
from PIL import Image

from bundle.cli.main import main
from bundle.data import load_datalist, write_site_lists

SIZES = ["image_size=32", "teacher_channels=4", "teacher_steps=2", "generator_channels=4", "discriminator_channels=4"]


@pytest.fixture
def kit(phantom_dir, tmp_path):
    """As much of a site's kit as it takes."""
    pytest.importorskip("nvflare", reason="the extra `federation` is not installed")
    folder = tmp_path / "kit"
    for name in ("startup", "local"):
        (folder / name).mkdir(parents=True)
    (folder / "startup/fed_client.json").write_text(json.dumps({"client": {"fqsn": "A"}}), encoding="utf-8")
    lists = write_site_lists(load_datalist(phantom_dir), tmp_path / "lists")
    own = {"dataset_dir": str(lists["A"].parent), "checkpoint_dir": str(tmp_path / "kept"), "device": "cpu"}
    content = yaml.safe_dump(own | {"release_policy": "out_of_fold", "num_threads": 1})
    (folder / "local/site.yaml").write_text(content, encoding="utf-8")
    return folder


def test_a_picture_of_what_would_leave(kit, tmp_path, capsys):
    output = tmp_path / "preview.png"
    words = ["--task", "brats", "--profile", "demo", "--startup_kit", kit, "--output", output, "--images", "3"]
    assert main(["site", "preview", *map(str, words), "--set", *SIZES]) == 0
    said = capsys.readouterr().out
    assert "3 of 11 samples: under out_of_fold conditions and images of its teacher would leave" in said
    with Image.open(output) as picture:
        width, height = picture.size
    assert width / height == pytest.approx(5.5 / 5.8, abs=0.02), "three columns and rows, and a heading"
    lines = [json.loads(line) for line in (tmp_path / "kept/releases/A.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line["kind"] for line in lines} == {"start", "folds"}, "nothing left by being looked at"


def test_weights_of_a_teacher_are_told_of_and_cost_nothing_by_being_looked_at(kit, tmp_path, capsys):
    path = kit / "local/site.yaml"
    policy = {"policy": "private", "mechanism": "dp_sgd", "epsilon": 4, "patients_per_update": 2, "max_noise": None}
    own = yaml.safe_load(path.read_text(encoding="utf-8")) | {"release_policy": policy | {"teacher": True}}
    path.write_text(yaml.safe_dump(own), encoding="utf-8")
    output = tmp_path / "preview.png"
    words = ["--task", "brats", "--profile", "demo", "--startup_kit", kit, "--output", output, "--images", "2"]
    assert main(["site", "preview", *map(str, words), "--set", *SIZES]) == 0
    said = capsys.readouterr().out
    assert "no conditions and no image, and once the 113 weights of a teacher that is trained by 30 updates" in said
    assert not (tmp_path / "kept/releases/A.jsonl").exists()
