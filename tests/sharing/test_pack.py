"""What is packed, what is said of it, and what is refused."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser, ckpt_export, load, run, verify_net_in_out

from bundle.cli.main import main
from bundle.composition import with_bases
from bundle.sharing import PackError, PackOptions, pack_bundle
from bundle.sharing.bundle_checks import check_bundle
from bundle.sharing.code import Code, names_in
from bundle.sharing.configs import inference_config, segmenter_configs
from bundle.sharing.derive import packed_label_groups, restricted_transforms

ROOT = Path(__file__).resolve().parents[2]


def resolved_config(*names):
    parser = ConfigParser()
    parser.read_config(with_bases([ROOT / "configs" / f"{name}.yaml" for name in names]))
    return parser.get()


def test_the_repository_s_inference_is_that_of_its_task_and_profile():
    config = inference_config(resolved_config("evaluate", "brats", "small"))
    written = (ROOT / "configs" / "inference.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(written) == yaml.safe_load(config), "configs/inference.yaml is another than the task's"
    twin = (ROOT / "configs" / "inference.json").read_text(encoding="utf-8")
    assert json.loads(twin) == yaml.safe_load(written), "configs/inference.json is another than inference.yaml"


def test_the_repository_segments_a_volume_out_of_the_box(phantom_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = next(phantom_dir.rglob("*flair.nii.gz"))
    config = str(ROOT / "configs" / "inference.yaml")
    run(config_file=config, datalist=str(image), output_dir=str(tmp_path), device="cpu")
    (mask,) = tmp_path.glob("*_seg.nii.gz")
    found, given = nib.load(mask), nib.load(image)
    assert found.shape == given.shape
    np.testing.assert_allclose(found.affine, given.affine)
    assert set(np.unique(found.dataobj)) <= {0, 1}
    verify_net_in_out("network_def", str(ROOT / "configs" / "metadata.json"), config, device="cpu")


def test_the_repository_is_what_the_model_zoo_asks_of_a_bundle(tmp_path, monkeypatch):
    """What its verify_bundle does that needs no network."""
    monkeypatch.chdir(tmp_path)
    files = {
        "meta_file": str(ROOT / "configs" / "metadata.json"),
        "config_file": str(ROOT / "configs" / "inference.json"),
    }
    metadata = json.loads(Path(files["meta_file"]).read_text(encoding="utf-8"))
    assert metadata["version"] in metadata["changelog"]
    verify_net_in_out("network_def", **files, bundle_root=str(ROOT), device="cpu")
    weights = str(ROOT / "models" / "model.pt")
    ckpt_export("network_def", filepath="model.ts", ckpt_file=weights, **files, bundle_root=str(ROOT))
    network = load(ROOT.name, bundle_dir=ROOT.parent, workflow_type="inference", device="cpu")
    image = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(image), torch.jit.load("model.ts")(image), atol=1e-4, rtol=0)


def test_modalities_on_other_grids_are_refused_by_name(phantom_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    image = nib.load(next(phantom_dir.rglob("*flair.nii.gz")))
    nib.save(image, "flair.nii.gz")
    nib.save(nib.Nifti1Image(image.get_fdata(), np.diag([1, -1, 1, 1]) @ image.affine), "t1.nii.gz")
    config = str(ROOT / "configs" / "inference.yaml")
    with pytest.raises(SystemExit, match="1 of 1 files of datalist could not be used"):
        run(config_file=config, bundle_root=str(ROOT), datalist=[["flair.nii.gz", "t1.nii.gz"]], device="cpu")
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: headers differ in axes: flair.nii.gz has ")
    assert "t1.nii.gz has " in said


def test_weights_of_the_repository_are_small_and_licensed():
    files = list((ROOT / "models").iterdir())
    assert sum(file.stat().st_size for file in files) < 20e6
    text = (ROOT / "models" / "data_license.txt").read_text(encoding="utf-8")
    assert "Attribution 3.0" in text
    assert "NonCommercial-ShareAlike 4.0" in text
    for file in files:
        if file.suffix == ".pt":
            state = torch.load(file, weights_only=True)
            assert all(isinstance(value, torch.Tensor) for value in state.values())


def test_versions_are_the_pinned_ones(packed):
    pins = dict(
        line.split("==") for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").split() if "==" in line
    )
    for folder in packed.values():
        metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
        own = {"monai": "monai", "torch": "pytorch", "numpy": "numpy"}
        assert {name: pins[name] for name in own} == {name: metadata[f"{key}_version"] for name, key in own.items()}
        for name, version in metadata["required_packages_version"].items():
            assert pins[name] == version


def options(run_folder, output, **changes):
    weights = run_folder / "segmenter" / "segmenter.pt"
    license_file = run_folder / "licence.txt"
    license_file.write_text("of phantoms\n", encoding="utf-8")
    given = PackOptions("brats", weights, output, ROOT / "LICENSE", data_license=license_file)
    return replace(given, **changes)


@pytest.fixture
def copied(brain_run, tmp_path):
    return Path(shutil.copytree(brain_run, tmp_path / "run"))


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("segmenter/segmenter.pt", "no such file"),
        ("segmenter/config.yaml", "--training_config FILE"),
        ("segmenter/record.json", "--record FILE"),
        ("evaluation/metrics.json", "--metrics FILE"),
        ("evaluation/config.yaml", "--evaluation_config FILE"),
        ("gan/record.json", "record of the generator's training"),
    ],
)
def test_a_missing_file_is_named(copied, tmp_path, file, expected):
    (copied / file).unlink()
    with pytest.raises((PackError, FileNotFoundError), match=expected) as refusal:
        pack_bundle(options(copied, tmp_path / "dist"))
    assert file in str(refusal.value)
    assert not (tmp_path / "dist").exists()


def test_a_file_may_lie_elsewhere(copied, tmp_path):
    moved = (copied / "evaluation" / "metrics.json").rename(tmp_path / "scores.json")
    folder = pack_bundle(options(copied, tmp_path / "dist", files={"metrics": moved}))
    assert (folder / "models" / "model.ts").is_file()
    with pytest.raises(PackError, match="--overwrite"):
        pack_bundle(options(copied, tmp_path / "dist", files={"metrics": moved}))
    again = {"files": {"metrics": moved}, "overwrite": True, "version": "0.2.0", "changes": "More"}
    metadata = json.loads(
        (pack_bundle(options(copied, tmp_path / "dist", **again)) / "configs" / "metadata.json").read_text("utf-8")
    )
    assert metadata["changelog"] == {"0.2.0": "More", "0.1.0": "First version"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"kind": "multi_organ"}, "task is 'brats', expected 'multi_organ'"),
        ({"kind": "toy"}, "expected one of brats, multi_organ, generator"),
        ({"name": "scripts"}, "--name scripts"),
        ({"name": "a-b"}, "--name a-b"),
        ({"data_license": None}, "--data_license FILE"),
        ({"license": Path("nowhere")}, "nowhere: no such file"),
    ],
)
def test_what_cannot_be_packed_is_refused(copied, tmp_path, change, expected):
    with pytest.raises(PackError, match=expected):
        pack_bundle(options(copied, tmp_path / "dist", **change))


def test_weights_of_another_network_are_refused(copied, tmp_path):
    torch.save({"weight": torch.zeros(1)}, copied / "segmenter" / "segmenter.pt")
    with pytest.raises(PackError, match="weights of another network"):
        pack_bundle(options(copied, tmp_path / "dist"))
    assert not list((tmp_path / "dist").iterdir())


def test_code_is_found_from_what_configs_name():
    names = names_in({"a": [{"_target_": "bundle.transforms.BrainOutlined"}, "$bundle.seeding.seeded(1)"], "b": 2.0})
    assert names == {"bundle.transforms.BrainOutlined", "bundle.seeding.seeded"}
    code = Code(names, "mine_code")
    assert set(code.modules) == {
        *("bundle.transforms.background", "bundle.transforms.brain_outline", "bundle.transforms.source_name"),
        "bundle.seeding",
    }
    assert code.rewrite("bundle.transforms.BrainOutlined") == "mine_code.transforms.brain_outline.BrainOutlined"
    assert code.rewrite("monai.bundle.run") == "monai.bundle.run"
    assert "from mine_code.transforms.source_name import source_name" in code.modules["bundle.transforms.brain_outline"]
    assert {"scipy", "monai"} <= code.third_party
    with pytest.raises(PackError, match=r"bundle\.transforms\.Nothing"):
        Code({"bundle.transforms.Nothing"}, "mine_code")


def test_packed_code_runs_without_the_project(tmp_path, monkeypatch):
    Code({"bundle.networks.ResnetGenerator", "bundle.networks.load_weights"}, "alone_code").write(tmp_path)
    assert "bundle." not in "".join(path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.py"))
    monkeypatch.syspath_prepend(str(tmp_path))
    from alone_code.networks.resnet_generator import ResnetGenerator

    assert ResnetGenerator(1, 1, 4, 1).__module__ == "alone_code.networks.resnet_generator"
    for name in [name for name in sys.modules if name.startswith("alone_code")]:
        monkeypatch.delitem(sys.modules, name)


def test_transforms_for_some_keys():
    config = {
        "chain": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": ["image", "label"], "ensure_channel_first": True},
                {"_target_": "bundle.transforms.CheckSameShaped", "keys": ["image", "label"]},
                {"_target_": "Orientationd", "keys": "label", "axcodes": "RAS"},
                {"_target_": "Resized", "keys": ["label", "image"], "mode": ["nearest", "area"]},
            ],
        }
    }
    assert restricted_transforms(config, "chain", ["image"], {}) == [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "Resized", "keys": "image", "mode": "area"},
    ]
    with pytest.raises(PackError, match="no other with transforms"):
        restricted_transforms(config, "other", ["image"], {})


def test_stain_normalisation_goes_along_where_a_run_has_it():
    config = {
        **resolved_config("segment", "multi_organ", "small"),
        **resolved_config("evaluate", "multi_organ", "small"),
    }
    augmentation = "bundle.transforms.RandStainStrengthd"
    for enabled in (False, True):
        packed = segmenter_configs({**config, "normalize_stains": enabled})
        for name, augmented in (("inference.yaml", False), ("train.yaml", True)):
            names = names_in(yaml.safe_load(packed[name]))
            assert ("bundle.transforms.NormalizeStainsd" in names) == enabled
            assert (augmentation in names) == augmented


def test_masks_corrected_by_hand_are_labels():
    groups = {"core": 1, "edema": [2], "enhancing": [4]}
    assert packed_label_groups(groups) == {"core": [1], "edema": [2], "enhancing": [4, 3]}
    # what an index means to the data set comes first
    assert packed_label_groups({"edema": [2], "core": [1]}) == {"edema": [2], "core": [1]}


def test_checks_find_what_is_wrong(packed, tmp_path):
    folder = Path(shutil.copytree(packed["brats"], tmp_path / packed["brats"].name))
    metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    metadata["version"] = "9.9.9"
    del metadata["intended_use"]
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    assert any("intended_use is missing" in problem for problem in check_bundle(folder))
    metadata["intended_use"] = "none"
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    (folder / "models" / "model.ts").unlink()
    (folder / "extra.py").write_text("from bundle.files import digest\n", encoding="utf-8")
    problems = check_bundle(folder)
    for expected in ("changelog has no entry for version 9.9.9", "model.ts: missing", "extra.py:1: imports from"):
        assert any(expected in problem for problem in problems), problems
    (folder / "LICENSE").unlink()
    assert check_bundle(folder) == [f"{folder / 'LICENSE'}: missing, and necessary"]


def test_checks_find_weights_that_answer_otherwise(packed, tmp_path):
    folder = Path(shutil.copytree(packed["multi_organ"], tmp_path / packed["multi_organ"].name))
    state = torch.load(folder / "models" / "model.pt", weights_only=True)
    torch.save({key: value * 1.5 for key, value in state.items()}, folder / "models" / "model.pt")
    assert any("model.ts: differs" in problem for problem in check_bundle(folder))


def test_command_lines(packed, copied, tmp_path, capsys):
    weights = str(copied / "segmenter" / "segmenter.pt")
    assert main(["pack", "brats", "--weights", weights, "--output", str(tmp_path / "dist")]) == 2
    assert "--data_license FILE" in capsys.readouterr().err
    assert main(["check", str(packed["multi_organ"])]) == 0
    assert main(["check", str(tmp_path)]) == 1
    assert "configs/metadata.json: missing" in capsys.readouterr().out
