"""Images with labels from a packed generator: the same by seed and number, whatever asks for them."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch

import bundle
from bundle.cli.main import main
from bundle.data import load_datalist
from bundle.generators import ModelError, SyntheticDataset, generate, model_names, read_model
from bundle.installation import config_dir
from bundle.shapes import OrganWithRegions, write_statistics
from bundle.sheet import NOBODY, check_sheet


class Paints(torch.nn.Module):
    """Grey organs, bright regions, and noise where it is asked for."""

    def __init__(self, noise: bool):
        super().__init__()
        self.noise = noise

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        image = x[:, 1:] + x[:, :1] - 1.0
        if self.noise:
            image = image + 0.1 * torch.rand_like(image)
        return image.clamp(-1.0, 1.0)


def conditions(patients=6):
    rng = np.random.default_rng(0)
    rows, columns = (np.mgrid[:32, :32] + 0.5) / 32 - 0.5
    found = {}
    for patient in range(patients):
        for _ in range(4):
            one = np.zeros((2, 32, 32), np.uint8)
            one[1] = (rows / rng.uniform(0.3, 0.4)) ** 2 + (columns / rng.uniform(0.3, 0.4)) ** 2 <= 1
            one[0] = np.hypot(rows - rng.uniform(-0.1, 0.1), columns - rng.uniform(-0.1, 0.1)) <= rng.uniform(0.06, 0.1)
            found.setdefault(str(patient), []).append(one)
    return found


def write_model(folder, noise=False, **changes):
    about = {
        "task": "brats",
        "image_size": 32,
        "channels": 2,
        "noise": noise,
        "label_groups": {"whole tumor": [4, 1]},
        "modality": ["flair"],
        "suffix": ".nii.gz",
        "intensity_range": [-1.0, 1.0],
    }
    for part in ("configs", "models"):
        (folder / part).mkdir(parents=True)
    (folder / "configs" / "generator.json").write_text(json.dumps(about | changes), encoding="utf-8")
    torch.jit.save(torch.jit.script(Paints(noise)), folder / "models" / "model.ts")
    statistics = OrganWithRegions(1).fit(conditions())
    write_statistics(folder / "models" / "shapes.npz", {"all": statistics, "A": statistics})
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "quiet")


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "noisy", noise=True)


def test_an_item_is_an_image_and_its_label(model):
    dataset = bundle.SyntheticDataset(model, num=5)
    assert len(dataset) == 5
    item = dataset[3]
    assert (item["image"].shape, item["image"].dtype) == ((1, 32, 32), torch.float32)
    assert (item["label"].shape, item["label"].dtype) == ((1, 32, 32), torch.uint8)
    assert torch.equal(item["label"] > 0, item["image"] == 1), "the label is where the generator drew what it names"
    with pytest.raises(IndexError):
        dataset[5]


@pytest.mark.parametrize("which", ["model", "noisy"])
def test_files_and_items_are_the_same_images(which, request, tmp_path):
    folder = request.getfixturevalue(which)
    dataset = SyntheticDataset(folder, num=20, seed=3)
    written = bundle.generate(folder, num=20, output=tmp_path / "out", seed=3)
    items = load_datalist(written, ["flair"]).training
    assert len(items) == 20
    for index in (0, 7, 19):
        image = nib.load(items[index]["image"]).get_fdata()[..., 0]
        label = nib.load(items[index]["label"]).get_fdata()[..., 0]
        assert np.allclose(image, dataset[index]["image"][0], atol=1e-6)
        assert (label == 4 * dataset[index]["label"][0].numpy()).all(), "in the label values of the real data"


def test_images_depend_on_seed_and_number_alone(noisy):
    few, many, other = (SyntheticDataset(noisy, num=n, seed=s) for n, s in ((2, 0), (9, 0), (2, 1)))
    assert torch.equal(few[1]["image"], many[1]["image"])
    assert not torch.equal(few[1]["image"], other[1]["image"])
    assert not torch.equal(few[0]["image"], few[1]["image"])


def test_a_transform_is_applied_to_an_item(model):
    dataset = SyntheticDataset(model, num=1, transform=lambda item: item["image"].shape)
    assert dataset[0] == (1, 32, 32)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"style": "B"}, "no shapes of 'B', expected one of A, all"),
        ({"size": 48}, "draws images of 32 pixels, got 48"),
        ({"density": 3.0}, "have no control density"),
        ({"region_size": (0.5, 0.9)}, "the range of the training images"),
        ({"num": 0}, "at least one label map"),
    ],
)
def test_what_it_cannot_draw_is_refused_before_anything_is(model, tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        generate(model, output=tmp_path / "out", **{"num": 2, **options})
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_as_it_is(model, tmp_path):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError, match="not there or empty"):
        generate(model, num=1, output=tmp_path)


@pytest.mark.parametrize("lacking", ["models/shapes.npz", "models/model.ts", "configs/generator.json"])
def test_a_model_that_lacks_a_file_says_which(tmp_path, lacking):
    folder = write_model(tmp_path / "m")
    (folder / lacking).unlink()
    with pytest.raises(ModelError, match=r"shapes of label maps|weights of generator|no generator"):
        SyntheticDataset(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"channels": 0}, "channels: expected int, got 0"),
        ({"task": None}, "task: expected str, got None"),
        ({"label_groups": {"a": "b"}}, "invalid literal"),
        ({"intensity_range": [1]}, "expected 2"),
        ({"suffix": ".exe"}, r"images as .exe, expected .nii.gz or .png"),
        ({"channels": 3}, "label maps of 2 channels, its network takes 3"),
    ],
)
def test_a_model_that_says_what_cannot_be_is_refused_by_its_field(tmp_path, changes, said):
    folder = write_model(tmp_path / "m", **changes)
    with pytest.raises(ValueError, match=said):
        generate(folder, num=1, output=tmp_path / "out")


def test_a_network_that_is_none_is_refused(tmp_path):
    folder = write_model(tmp_path / "m")
    (folder / "models" / "model.ts").write_bytes(b"no network")
    with pytest.raises(ModelError, match="expected a network as TorchScript"):
        SyntheticDataset(folder)


def test_an_unknown_name_lists_those_that_there_are():
    with pytest.raises(
        ModelError, match="no generator 'nobody': expected one of " + (", ".join(model_names()) or "none")
    ):
        read_model("nobody")


def test_the_command_needs_nothing_of_a_run(model, tmp_path, capsys):
    output = tmp_path / "out"
    assert main(["generate", "--model", str(model), "--num", "3", "--output", str(output)]) == 0
    assert "wrote 3 images with labels" in capsys.readouterr().out
    assert len(load_datalist(output, ["flair"]).training) == 3
    with pytest.raises(SystemExit):
        main(["generate"])
    assert "required: --task, --dataset_dir" in capsys.readouterr().err


def test_the_generators_that_come_along_are_small_and_draw(tmp_path):
    folder = config_dir().parent / "models"
    assert model_names() == ["brats"]
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 25 * 2**20
    dataset = SyntheticDataset("brats", num=3, region_size=(0.03, 0.1))
    for item in (dataset[index] for index in range(3)):
        assert item["label"].any()
        inside, outside = (item["image"][item["label"] == value].mean() for value in (1, 0))
        assert inside > outside + 0.3, "FLAIR shows tumours bright"
    # the same images everywhere
    means = [SyntheticDataset("brats", num=3)[index]["image"].mean().item() for index in range(3)]
    assert means == pytest.approx([-0.83008, -0.84254, -0.96309], abs=1e-3)


def test_what_comes_along_says_what_it_is(tmp_path):
    folder = read_model("brats").folder
    sheet = json.loads((folder / "docs" / "data_sheet.json").read_text(encoding="utf-8"))
    assert check_sheet(sheet) == []
    assert NOBODY not in (folder / "docs" / "README.md").read_text(encoding="utf-8"), "it was attacked"
