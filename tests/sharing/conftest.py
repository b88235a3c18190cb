"""Runs to pack: as a stage leaves them, with weights that nobody has trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from bundle.sharing import PackOptions, pack_bundle
from bundle.workflows import DistributedGANWorkflow, SegmentationWorkflow

ROOT = Path(__file__).resolve().parents[2]


def make_run(task: str, data: Path, run_dir: Path, sizes: dict, **overrides) -> Path:
    """The folder of the setting asyndgan, with files as the stages write them; the evaluation has been run."""
    folder = run_dir / "seed_0" / "asyndgan"
    given = sizes | {"dataset_dir": str(data), "run_dir": str(run_dir), "amp": False, "logging_file": False} | overrides

    def workflow(kind, stage):
        return kind([str(ROOT / "configs" / f"{name}.yaml") for name in (stage, task, "demo")], **given)

    for part, kind, stage, network in (
        ("segmenter", SegmentationWorkflow, "segment", "segmenter_def"),
        ("gan", DistributedGANWorkflow, "train", "generator_def"),
    ):
        made = workflow(kind, stage)
        (folder / part).mkdir(parents=True)
        (folder / part / "config.yaml").write_text(yaml.safe_dump(made._plain_config()), encoding="utf-8")
        torch.manual_seed(3)
        name = network.removesuffix("_def")
        torch.save(made.make(network)().state_dict(), folder / part / f"{name}.pt")
    about = {"steps": 4, "training_images": 7, "sites": {"A": {}, "B": {}}, "losses": "vanilla adversarial + 100·L1"}
    for part in ("segmenter", "gan"):
        (folder / part / "record.json").write_text(json.dumps(about), encoding="utf-8")
    evaluation = workflow(SegmentationWorkflow, "evaluate")
    evaluation.initialize()
    evaluation.run()
    return folder


@pytest.fixture(scope="session")
def brain_run(phantom_dir, tiny_sizes, tmp_path_factory) -> Path:
    return make_run("brats", phantom_dir, tmp_path_factory.mktemp("brain_run"), tiny_sizes, generator_noise=2)


@pytest.fixture(scope="session")
def nuclei_run(nuclei_dir, tiny_sizes, tmp_path_factory) -> Path:
    found = {"marker_threshold": 0.68, "min_marker_pixels": 1, "marker_radius": 0, "min_nucleus_pixels": 3}
    folder = tmp_path_factory.mktemp("nuclei_run")
    return make_run("multi_organ", nuclei_dir, folder, tiny_sizes, generator_noise=0, **found)


@pytest.fixture(scope="session")
def packed(brain_run, nuclei_run, tmp_path_factory) -> dict[str, Path]:
    """All kinds of bundles, packed: read only, copy one to change it."""
    output = tmp_path_factory.mktemp("dist")
    license_file = output / "licence.txt"
    license_file.write_text("of phantoms: do as you like\n", encoding="utf-8")
    kinds = {
        "brats": ("brats", brain_run / "segmenter" / "segmenter.pt"),
        "multi_organ": ("multi_organ", nuclei_run / "segmenter" / "segmenter.pt"),
        "generator_brats": ("generator", brain_run / "gan" / "generator.pt"),
        "generator_multi_organ": ("generator", nuclei_run / "gan" / "generator.pt"),
    }
    return {
        name: pack_bundle(PackOptions(kind, weights, output, ROOT / "LICENSE", data_license=license_file))
        for name, (kind, weights) in kinds.items()
    }
