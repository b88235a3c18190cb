"""Packed bundles in an environment that has only what their metadata name: `make test-bundles`."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(os.environ.get("BUNDLES_PYTHON", ROOT / ".venv-bundles" / "bin" / "python"))

pytestmark = pytest.mark.bundles

ANSWER = """
import sys, numpy, onnxruntime
image = numpy.load(sys.argv[2])
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
numpy.save(sys.argv[3], session.run(None, {session.get_inputs()[0].name: image})[0])
"""


def command(folder, *arguments, cwd, module="monai.bundle"):
    """Run a command of the environment elsewhere; nothing of this repository can be imported there."""
    given = [str(PYTHON), "-m", module, *map(str, arguments)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(given, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def configs(folder, *names):
    return str([str(folder / "configs" / f"{name}.yaml") for name in names])


@pytest.fixture(scope="module")
def labelled(phantom_dir, nuclei_dir, tmp_path_factory):
    """Folders of images and labels of the same names, by task."""
    from bundle.data import load_datalist

    folders = {}
    for task, source, modalities in (
        ("brats", phantom_dir, ["flair"]),
        ("multi_organ", nuclei_dir, ["red", "green", "blue"]),
    ):
        folders[task] = tmp_path_factory.mktemp(task)
        suffix = ".nii.gz" if task == "brats" else ".png"
        datalist = load_datalist(source, modalities)
        for item in datalist.training + datalist.test:  # so many that each of two processes has one to validate on
            image = str(np.ravel(item["image"])[0])
            for name, path in (("images", image), ("labels", item["label"]), ("outlines", image)):
                (folders[task] / name).mkdir(exist_ok=True)
                (folders[task] / name / f"{item['case']}{suffix}").symlink_to(path)
    return folders


def test_the_environment_is_what_metadata_name(packed):
    listed = command(None, "list", "--format", "json", cwd=ROOT.parent, module="pip")
    found = {package["name"].lower(): package["version"].split("+")[0] for package in json.loads(listed)}
    assert "nvflare" not in found
    for folder in packed.values():
        metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
        for name, version in metadata["required_packages_version"].items():
            assert found[name.lower()] == version


@pytest.mark.parametrize("kind", ["brats", "multi_organ", "generator_brats", "generator_multi_organ"])
def test_inference_and_evaluation_run_elsewhere(kind, packed, labelled, tmp_path):
    folder, data = packed[kind], labelled[kind.removeprefix("generator_")]
    generates = kind.startswith("generator")
    given = ("--bundle_root", folder, "--device", "cpu")
    where = data if generates else data / "images"
    out = tmp_path / "out"
    command(
        folder,
        *("run", "--config_file", configs(folder, "inference"), *given),
        *("--dataset_dir", where, "--output_dir", out),
        cwd=tmp_path,
    )
    assert len(list(out.iterdir())) == len(list((data / "images").iterdir()))
    stage = "inference" if generates else "train"
    command(
        folder,
        *("run", "--config_file", configs(folder, stage, "evaluate"), *given),
        *("--dataset_dir", data, "--output_dir", tmp_path / "scores"),
        cwd=tmp_path,
    )
    assert (tmp_path / "scores" / "metrics.csv").is_file()


@pytest.mark.parametrize("kind", ["brats", "multi_organ", "generator_brats", "generator_multi_organ"])
def test_exports_answer_as_the_weights_do(kind, packed, tmp_path):
    folder = packed[kind]
    known = (
        "--config_file",
        folder / "configs" / "inference.yaml",
        "--meta_file",
        folder / "configs" / "metadata.json",
    )
    weights = ("--ckpt_file", folder / "models" / "model.pt", "--bundle_root", folder)
    command(folder, "verify_net_in_out", "network_def", *known, "--bundle_root", folder, cwd=tmp_path)
    command(folder, "ckpt_export", "network_def", "--filepath", tmp_path / "model.ts", *known, *weights, cwd=tmp_path)
    command(folder, "onnx_export", "network_def", "--filepath", tmp_path / "model.onnx", *known, *weights, cwd=tmp_path)
    metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    image = metadata["network_data_format"]["inputs"]["image"]
    generator = torch.Generator().manual_seed(0)
    given = torch.rand(1, image["num_channels"], *image["spatial_shape"], generator=generator)
    np.save(tmp_path / "given.npy", given.numpy())
    (tmp_path / "answer.py").write_text(ANSWER, encoding="utf-8")
    command(folder, "model.onnx", "given.npy", "answer.npy", cwd=tmp_path, module="answer")
    scripted = torch.jit.load(folder / "models" / "model.ts").eval()
    again = torch.jit.load(tmp_path / "model.ts").eval()
    answers = []
    for network in (scripted, again):
        torch.manual_seed(0)
        with torch.no_grad():
            answers.append(network(given).numpy())
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)
    if kind != "generator_brats":  # it draws noise
        np.testing.assert_allclose(np.load(tmp_path / "answer.npy"), answers[0], atol=1e-4)


@pytest.mark.parametrize("kind", ["brats", "multi_organ"])
def test_two_processes_fine_tune_together(kind, packed, labelled, tmp_path):
    folder = packed[kind]
    command(
        folder,
        *("--standalone", "--nproc_per_node=2", "-m", "monai.bundle", "run"),
        *("--config_file", configs(folder, "train", "multi_gpu_train"), "--bundle_root", folder),
        *("--dataset_dir", labelled[kind], "--epochs", 1, "--samples_per_case", 2, "--cases_per_step", 1),
        *("--ckpt_dir", tmp_path / "models", "--output_dir", tmp_path / "eval"),
        *("--pretrained", folder / "models" / "model.pt"),
        cwd=tmp_path,
        module="torch.distributed.run",
    )
    tuned = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    before = torch.load(folder / "models" / "model.pt", weights_only=True)
    assert set(tuned) == set(before)
    assert any(not torch.equal(tuned[key], before[key]) for key in before)
