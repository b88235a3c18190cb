"""Bundles packed from runs on phantoms: they answer as the project does, without it."""

import ast
import json
import sys
import zipfile
from pathlib import Path

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.data import DataLoader
from monai.utils import set_determinism
from PIL import Image

from bundle.data import load_datalist
from bundle.engines import PaddedInferer, write_png
from bundle.sharing.bundle_checks import check_bundle
from bundle.sharing.pack import importable_for_now
from bundle.transforms import ConditionFromLabeld, TernaryLabeld
from bundle.workflows.workflow import plain_errors


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch, request):
    """Another folder."""
    monkeypatch.chdir(tmp_path)
    yield
    set_determinism(None)


def run(folder, *configs, **overrides):
    files = [str(folder / "configs" / f"{name}.yaml") for name in configs]
    with importable_for_now(f"{folder.name}_code"):
        monai.bundle.run(config_file=files, bundle_root=str(folder), device="cpu", **overrides)


def read(path):
    return np.asarray(nib.load(path).dataobj if path.name.endswith(".nii.gz") else Image.open(path))


def labelled(folder, items):
    """A folder as the packed training and evaluation read it."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
        for item in items:
            source = item["image"] if name == "images" else item["label"]
            source = source[0] if isinstance(source, list) else source
            suffix = ".nii.gz" if source.endswith(".nii.gz") else ".png"
            (folder / name / f"{item['case']}{suffix}").symlink_to(source)
    return folder


@pytest.mark.parametrize(("kind", "suffix"), [("brats", "seg.nii.gz"), ("multi_organ", "nuclei.png")])
def test_a_packed_segmenter_finds_what_the_evaluation_found(
    kind, suffix, packed, request, phantom_dir, nuclei_dir, tmp_path
):
    run_folder = request.getfixturevalue("brain_run" if kind == "brats" else "nuclei_run")
    modalities = ["flair"] if kind == "brats" else ["red", "green", "blue"]
    items = load_datalist(phantom_dir if kind == "brats" else nuclei_dir, modalities).test
    data = labelled(tmp_path / "data", items)
    run(packed[kind], "inference", dataset_dir=str(data / "images"), output_dir=str(tmp_path / "out"))
    for item in items:
        found = tmp_path / "out" / f"{item['case']}_{suffix}"
        expected = run_folder / "evaluation" / "predictions" / f"{item['case']}.{suffix.partition('.')[2]}"
        np.testing.assert_array_equal(read(found), read(expected))
        assert len(np.unique(read(found))) > 1
        if kind == "brats":
            np.testing.assert_array_equal(nib.load(found).affine, nib.load(item["label"]).affine)


@pytest.mark.parametrize("kind", ["brats", "multi_organ"])
def test_a_packed_segmenter_scores_what_the_project_scored(kind, packed, request, phantom_dir, nuclei_dir, tmp_path):
    run_folder = request.getfixturevalue("brain_run" if kind == "brats" else "nuclei_run")
    modalities = ["flair"] if kind == "brats" else ["red", "green", "blue"]
    data = labelled(tmp_path / "data", load_datalist(phantom_dir if kind == "brats" else nuclei_dir, modalities).test)
    run(packed[kind], "train", "evaluate", dataset_dir=str(data), output_dir=str(tmp_path / "out"))
    text = (tmp_path / "out" / "metrics.csv").read_text(encoding="utf-8")
    dice = float(text.split("dice,")[1].split()[0])
    metrics = json.loads((run_folder / "evaluation" / "metrics.json").read_text(encoding="utf-8"))["metrics"]
    assert dice == pytest.approx(metrics["dice"]["mean"], abs=1e-4)
    metadata = json.loads((packed[kind] / "configs" / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["eval_metrics"]["dice"] == pytest.approx(metrics["dice"]["mean"], abs=1e-4)


@pytest.mark.parametrize("kind", ["brats", "multi_organ"])
@pytest.mark.parametrize("validated", [True, False])
def test_a_packed_segmenter_is_fine_tuned_as_monai_label_asks(
    kind, validated, packed, phantom_dir, nuclei_dir, tmp_path
):
    modalities = ["flair"] if kind == "brats" else ["red", "green", "blue"]
    items = load_datalist(phantom_dir if kind == "brats" else nuclei_dir, modalities).training
    pairs = [{"image": str(np.ravel(item["image"])[0]), "label": item["label"]} for item in items]
    overrides = {
        "train#trainer#max_epochs": 1,
        "train#dataset#data": pairs[:2],
        "validate#dataset#data": pairs[2:3] if validated else [],
        "ckpt_dir": str(tmp_path / "models"),
        "output_dir": str(tmp_path / "eval"),
        "samples_per_case": 2,
    }
    run(packed[kind], "train", **overrides)
    before = torch.load(packed[kind] / "models" / "model.pt", weights_only=True)
    after = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    moved = max(float((after[key] - before[key]).abs().max()) for key in before)
    assert 0 < moved < 0.01  # it has learned, and from the packed weights on


def test_a_generator_draws_on_the_grid_of_the_label_map_and_its_noise_is_seeded(packed, phantom_dir, tmp_path):
    item = load_datalist(phantom_dir, ["flair"]).training[0]
    label = nib.load(item["label"])
    inside = (np.asarray(nib.load(item["image"][0]).dataobj) > 0).astype(np.uint8)
    nib.save(nib.Nifti1Image(inside, label.affine), tmp_path / "outline.nii.gz")
    given = {"labels": item["label"], "outlines": str(tmp_path / "outline.nii.gz")}
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        run(packed["generator_brats"], "inference", **given, seed=seed, output_dir=str(tmp_path / name))
    name = f"{item['label'].rpartition('/')[2].removesuffix('.nii.gz')}_synthetic.nii.gz"
    one, again, other = (nib.load(tmp_path / folder / name) for folder in ("one", "again", "other"))
    assert one.shape == label.shape
    np.testing.assert_allclose(one.affine, label.affine)
    np.testing.assert_array_equal(one.get_fdata(), again.get_fdata())
    assert not np.array_equal(one.get_fdata(), other.get_fdata())
    assert -1 <= one.get_fdata().min() < one.get_fdata().max() <= 1


def test_a_generator_draws_what_the_project_draws(packed, nuclei_run, nuclei_dir, tmp_path):
    item = load_datalist(nuclei_dir, ["red", "green", "blue"]).training[0]
    run(packed["generator_multi_organ"], "inference", labels=item["label"], output_dir=str(tmp_path / "out"))
    (tile,) = (tmp_path / "out").iterdir()

    config = yaml.safe_load((nuclei_run / "gan" / "config.yaml").read_text(encoding="utf-8"))
    network = monai.bundle.ConfigParser(config).get_parsed_content("generator_def")()
    network.load_state_dict(torch.load(nuclei_run / "gan" / "generator.pt", weights_only=True))
    classes = TernaryLabeld(keys="label")({"label": torch.as_tensor(read_tile(item["label"]))})
    condition = ConditionFromLabeld(outline_key=None, num_classes=2)(classes)["condition"]
    with torch.no_grad():
        drawn = PaddedInferer(divisor=4)(condition[None].float().as_tensor(), network.eval())[0].numpy()
    write_png(tmp_path / "expected.png", (drawn + 1) * 127.5)
    difference = np.abs(read(tile).astype(int) - read(tmp_path / "expected.png"))
    assert difference.max() <= 1  # 127.5 may be rounded either way
    assert read(tile).shape == (90, 90, 3)
    assert read(tile).std() > 0


@pytest.mark.parametrize("kind", ["generator_brats", "generator_multi_organ"])
def test_a_generator_is_compared_with_real_images(kind, packed, phantom_dir, nuclei_dir, tmp_path):
    modalities = ["flair"] if kind == "generator_brats" else ["red", "green", "blue"]
    items = load_datalist(phantom_dir if kind == "generator_brats" else nuclei_dir, modalities).test
    data = labelled(tmp_path / "data", items)
    run(packed[kind], "inference", "evaluate", dataset_dir=str(data), output_dir=str(tmp_path / "out"))
    assert "ssim" in (tmp_path / "out" / "metrics.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["brats", "multi_organ", "generator_brats", "generator_multi_organ"])
def test_nothing_is_wrong_with_what_is_packed(kind, packed):
    assert check_bundle(packed[kind]) == []
    with zipfile.ZipFile(packed[kind].with_suffix(".zip")) as archive:
        inside = {name for name in archive.namelist() if not name.endswith("/")}
    there = {p.relative_to(packed[kind].parent).as_posix() for p in packed[kind].rglob("*") if p.is_file()}
    assert inside == there


def test_no_more_code_than_needed(packed):
    def modules(kind):
        return {path.name for path in packed[kind].rglob("*.py")} - {"__init__.py"}

    every = {"inputs.py", "plain_errors.py", "each_file.py", "named_compose.py", "source_name.py"}
    assert modules("multi_organ") == {"normalize_stains.py", "stain_strength.py"} | every
    transforms = {
        "background.py",
        "brain_outline.py",
        "grids.py",
        "whole_numbers.py",
        "scale_intensity.py",
        "group_labels.py",
        "check_same_shape.py",
        "check_one_grid.py",
    }
    assert modules("brats") == {"grid_writer.py"} | transforms | every
    assert modules("generator_multi_organ") == {
        *("resnet_generator.py", "weight_norms.py", "init.py", "condition.py", "ternary_label.py"),
        *every,
    }
    for path in packed["brats"].rglob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"))
    assert not any(name.startswith("asyndgan") for name in sys.modules)  # hosts find no trace of the checks


def test_pages_and_metadata_say_what_the_weights_are(packed):
    for kind, folder in packed.items():
        page = (folder / "docs" / "README.md").read_text(encoding="utf-8")
        heads = [line[3:] for line in page.splitlines() if line.startswith("## ")]
        order = ["Overview", "Data", "Configuration", "Performance", "Commands", "References", "License"]
        if kind.startswith("generator"):
            order = [*order[:2], "Attacks", *order[2:4], "Limitations", *order[4:]]
        assert heads == order
        assert "{" not in page.replace("{data_license", "")
        assert "not for clinical use" in page
        metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
        assert "2 sites (A, B)" in metadata["description"]
        if not kind.startswith("generator"):
            assert "7 synthetic images and no real one" in metadata["description"]
        assert metadata["eval_metrics"]["data"] in page


def test_the_labels_of_nuclei_are_made_as_the_project_makes_them(packed, nuclei_dir, monkeypatch):
    """MONAI's parts in the place of ours: the same classes, but of nuclei without an interior."""
    folder = packed["multi_organ"]
    parser = monai.bundle.ConfigParser(monai.bundle.ConfigParser.load_config_file(folder / "configs" / "train.yaml"))
    monkeypatch.syspath_prepend(folder)
    with importable_for_now(f"{folder.name}_code"):
        transforms = parser.get_parsed_content("train::deterministic_transforms")
    (made,) = [t for t in transforms if type(t).__name__ == "Lambdad" and t.keys == ("label",)]
    for item in load_datalist(nuclei_dir, ["red", "green", "blue"]).training:
        label = torch.as_tensor(read_tile(item["label"]))
        expected = torch.as_tensor(TernaryLabeld(keys="label")({"label": label})["label"])
        found = torch.as_tensor(made({"label": label})["label"])
        for number in torch.unique(label[label > 0]):
            inside = label == number
            assert (found[inside] == expected[inside]).all() or (found[inside] == 2).all()
        assert (found[label == 0] == 0).all()
        assert (found == 1).any()


def read_tile(path):
    return np.asarray(Image.open(path)).astype(np.int64).T[None]


def test_bundles_lie_beside_each_other_in_one_process(packed, phantom_dir, tmp_path):
    """As a host has them: both loaded, then both used."""
    with (
        importable_for_now(f"{packed['brats'].name}_code"),
        importable_for_now(f"{packed['generator_brats'].name}_code"),
    ):
        workflows = [
            monai.bundle.create_workflow(
                config_file=str(packed[kind] / "configs" / "inference.yaml"),
                workflow_type="inference",
                bundle_root=str(packed[kind]),
                device="cpu",
                logging_file=False,
                **{key: load_datalist(phantom_dir, ["flair"]).test[0]["label"] for key in keys},
            )
            for kind, keys in (("brats", ["datalist"]), ("generator_brats", ["labels", "outlines"]))
        ]
        for workflow in workflows:
            assert workflow.check_properties() == []
        items = [next(iter(DataLoader(workflow.dataset, batch_size=1))) for workflow in workflows]
    assert items[0]["image"].shape[1] == 1
    assert items[1]["image"].shape[1] == 2


STAGES = {
    "brats": [("inference",), ("train",), ("train", "evaluate")],
    "multi_organ": [("inference",), ("train",), ("train", "evaluate")],
    "generator_brats": [("inference",), ("inference", "evaluate")],
    "generator_multi_organ": [("inference",), ("inference", "evaluate")],
}


@pytest.mark.parametrize(("kind", "stages"), [(kind, stages) for kind in STAGES for stages in STAGES[kind]])
def test_an_empty_folder_is_no_success(kind, stages, packed, tmp_path):
    """Nor a folder whose name is wrong."""
    words = "nothing to (segment|draw|train on|score|compare), expected .*dataset_dir"
    for folder in (tmp_path, tmp_path / "not there"):
        with pytest.raises((ValueError, SystemExit), match=words), plain_errors():
            run(packed[kind], *stages, dataset_dir=str(folder), output_dir=str(tmp_path / "out"))


@pytest.mark.parametrize("kind", list(STAGES))
def test_monai_loads_the_network_with_its_weights_and_torchscript(kind, packed):
    """By the bundle's name alone, from another folder: the answers are the same."""
    folder = packed[kind]
    given = {"bundle_dir": folder.parent, "device": "cpu"}
    data = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))["network_data_format"]
    shape = data["inputs"]["image"]["num_channels"], *data["inputs"]["image"]["spatial_shape"]
    with importable_for_now(f"{folder.name}_code"):
        stages = ["inference"] if kind.startswith("generator") else ["inference", "train"]
        networks = [monai.bundle.load(folder.name, workflow_type=stage, **given) for stage in stages]
        scripted, metadata, _ = monai.bundle.load(folder.name, load_ts_module=True, **given)
    assert metadata["network_data_format"] == data
    answers = []
    for network in [*networks, scripted]:
        assert isinstance(network, torch.nn.Module)
        torch.manual_seed(0)  # of a generator's noise
        with torch.no_grad():
            answers.append(network.eval()(torch.ones(1, *shape)))
    for answer in answers[1:]:
        torch.testing.assert_close(answer, answers[0], atol=1e-4, rtol=0)
    state = torch.load(folder / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(value, state[key]) for key, value in networks[0].state_dict().items())


def phantom_files(kind, phantom_dir, nuclei_dir):
    brain = kind in ("brats", "generator_brats")
    modalities = ["flair"] if brain else ["red", "green", "blue"]
    items = load_datalist(phantom_dir if brain else nuclei_dir, modalities).training[:3]
    image = [str(np.ravel(item["image"])[0]) for item in items]
    return image, [item["label"] for item in items], ".nii.gz" if brain else ".png"


@pytest.mark.parametrize(("kind", "stages"), [(k, s) for k in STAGES for s in STAGES[k] if s != ("inference",)])
def test_images_and_labels_belong_together_by_name(kind, stages, packed, phantom_dir, nuclei_dir, tmp_path):
    """p1 and p10 sort otherwise with a suffix than without; a file that is forgotten on each side is named."""
    images, labels, suffix = phantom_files(kind, phantom_dir, nuclei_dir)
    folder = tmp_path / "own [2021]"  # glob would read the brackets
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number, image, label in zip((1, 2, 10), images, labels, strict=True):
        (folder / "images" / f"p{number}{suffix}").symlink_to(image)
        (folder / "labels" / f"p{number}_seg{suffix}").symlink_to(label)
    parser = monai.bundle.ConfigParser()
    parser.read_config([str(packed[kind] / "configs" / f"{stage}.yaml") for stage in stages])
    parser["bundle_root"], parser["dataset_dir"] = str(packed[kind]), str(folder)
    with importable_for_now(f"{packed[kind].name}_code"):
        items = parser.get_parsed_content("dataset::data" if kind.startswith("generator") else "items")
        pairs = [sorted(Path(path).name.partition(".")[0] for path in item.values()) for item in items]
        assert sorted(pairs) == [["p1", "p1_seg"], ["p10", "p10_seg"], ["p2", "p2_seg"]]
    (folder / "images" / f"p2{suffix}").rename(folder / "images" / f"p3{suffix}")
    with pytest.raises(ValueError, match=r"without a partner: .*(p2_seg.*p3|p3.*p2_seg)"), plain_errors():
        run(packed[kind], *stages, dataset_dir=str(folder), output_dir=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", list(STAGES))
def test_two_inputs_of_one_name_are_refused_before_any_is_read(kind, packed, tmp_path):
    generates = kind.startswith("generator")
    suffix = ".png" if "multi_organ" in kind else ".nii"
    files = [str(tmp_path / case / f"flair{suffix}") for case in ("a", "b")]
    given = {"labels": files, "outlines": files} if kind == "generator_brats" else {"labels": files}
    with pytest.raises(ValueError, match=r"a/flair.* b/flair|a/flair.*b/flair"), plain_errors():
        run(
            packed[kind],
            "inference",
            **(given if generates else {"datalist": files}),
            output_dir=str(tmp_path / "out"),
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", list(STAGES))
def test_an_unusable_file_is_named_and_the_others_are_done(kind, packed, phantom_dir, nuclei_dir, tmp_path, capsys):
    images, labels, suffix = phantom_files(kind, phantom_dir, nuclei_dir)
    generates = kind.startswith("generator")
    sources = labels if generates else images
    folder = tmp_path / "own"
    where = folder / "labels" if generates else folder
    where.mkdir(parents=True)
    (folder / "outlines").mkdir()
    (where / f"b{suffix}").symlink_to(sources[0])
    (where / f"d{suffix}").symlink_to(sources[1])
    for name in "abcd":
        (folder / "outlines" / f"{name}.nii.gz").symlink_to(images[0])
    (where / f"a{suffix}").write_bytes(b"no image")
    (where / f"c{suffix}").write_bytes(Path(sources[2]).read_bytes()[:200])
    with pytest.raises(SystemExit, match=r"2 of 4 files of (datalist|labels) could not be used"):
        run(packed[kind], "inference", dataset_dir=str(folder), output_dir=str(tmp_path / "out"))
    assert [path.name.split("_")[0] for path in sorted((tmp_path / "out").iterdir())] == ["b", "d"]
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert [f"own/labels/{name}" in line or f"own/{name}" in line for name, line in zip("ac", said, strict=True)]


def test_an_unusable_case_of_a_fine_tuning_is_named(packed, phantom_dir, tmp_path):
    data = labelled(tmp_path / "data", load_datalist(phantom_dir, ["flair"]).training)
    broken = sorted((data / "images").iterdir())[1]
    content = broken.read_bytes()
    broken.unlink()
    broken.write_bytes(content[: len(content) // 2])
    for stages in (("train",), ("train", "evaluate")):
        with pytest.raises(ValueError, match=f"{broken} .*cannot be used: Compressed file ended"), plain_errors():
            run(packed["brats"], *stages, dataset_dir=str(data), output_dir=str(tmp_path / "out"))


def test_labels_without_outlines_say_which_option_is_missing(packed, phantom_dir, tmp_path):
    label = load_datalist(phantom_dir, ["flair"]).training[0]["label"]
    with (
        pytest.raises(ValueError, match=f"outlines: no file was found, expected one for each of {label}"),
        plain_errors(),
    ):
        run(packed["generator_brats"], "inference", labels=label, output_dir=str(tmp_path / "out"))
