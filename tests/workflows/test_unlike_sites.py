"""Hospitals with other modalities and other labels, from their data list to synthetic images and a segmenter."""

import json

import numpy as np
import pytest
import torch

from bundle.composition import stage_files
from bundle.data import DataError, load_datalist
from bundle.data.datalist import write_datalist
from bundle.installation import config_dir
from bundle.prepare.preparation import PrepareOptions, prepare
from bundle.workflows import DistributedGANWorkflow, SegmentationWorkflow
from bundle.workflows.experiment import Experiment

MODALITIES = ["flair", "t1ce"]
GROUPS = {"core": [1], "oedema": [2], "enhancing": [4]}


@pytest.fixture(scope="module")
def unlike_dir(phantom_dir, tmp_path_factory):
    """Site A as it is; site B without T1ce, and with the whole tumour alone, whatever its values are called."""
    folder = tmp_path_factory.mktemp("unlike")
    options = {"sites": "table", "table": phantom_dir / "cases.csv", "modalities": tuple(MODALITIES)}
    prepare(PrepareOptions("brats", phantom_dir, folder, lacks={"B": ["t1ce"]}, **options))
    found = load_datalist(folder)
    about = {name: getattr(found, name) for name in ("name", "task", "layout", "modality", "labels", "modalities")}
    test = [item | {"site": None} for item in found.test]
    groups = {"B": {value: tuple(GROUPS) for value in (1, 2, 4)}}
    write_datalist(folder, training=found.training, test=test, label_groups=groups, **about)
    return folder


def run(workflow, stage, dataset_dir, run_dir, **given):
    files = stage_files(stage, "brats", "demo", (), str(config_dir()))
    made = workflow(
        config_file=files, bundle_root=str(run_dir), dataset_dir=str(dataset_dir), run_dir=str(run_dir), **given
    )
    made.initialize()
    made.run()
    made.finalize()
    return made


@pytest.mark.parametrize("discriminator", ["patch", pytest.param("segmentation", marks=pytest.mark.long)])
def test_a_whole_run_with_a_site_of_fewer_modalities_and_of_the_whole_tumour_alone(
    unlike_dir, tmp_path, tiny_sizes, discriminator
):
    given = tiny_sizes | {"modalities": MODALITIES, "label_groups": GROUPS, "discriminator": discriminator}
    trained = run(DistributedGANWorkflow, "train", unlike_dir, tmp_path, **given)
    site = trained.make("federation_def").site("B")
    drawn = site.draw(1)
    assert (drawn["image"].shape[1], drawn["condition"].shape[1]) == (1, 4)
    tumour = drawn["condition"][:, :3].bool()
    assert torch.equal(tumour.any(dim=1), tumour.all(dim=1))  # which of them is unknown wherever there is any
    record = json.loads((tmp_path / "seed_0/asyndgan/gan/record.json").read_text(encoding="utf-8"))
    assert record["sites"]["B"]["modalities"] == "flair"

    run(DistributedGANWorkflow, "generate", unlike_dir, tmp_path, **given)
    written = load_datalist(tmp_path / "seed_0/asyndgan/synthetic", deep=True)
    released = np.load(tmp_path / "seed_0/asyndgan/gan/conditions.npz").files
    assert {item["site"] for item in written.training} == {"A", "B"}  # B's slices without a tumour are told apart
    assert len(written.training) < len(released)
    assert written.modality == tuple(MODALITIES)
    run(SegmentationWorkflow, "segment", unlike_dir, tmp_path, **given)
    scored = run(SegmentationWorkflow, "evaluate", unlike_dir, tmp_path, **given)
    assert scored.finished


def test_settings_that_such_sites_have_nothing_for_are_refused_at_the_start(unlike_dir, tmp_path, tiny_sizes):
    given = tiny_sizes | {"modalities": MODALITIES, "label_groups": GROUPS}

    def refused(text, settings, **other):
        with pytest.raises(DataError, match=text):
            Experiment("brats", str(unlike_dir), "demo", str(tmp_path), overrides=given | other, settings=settings)

    refused("setting real_all_filled, a segmenter of real images, needs labels", ["real_all_filled"])
    refused(r"the stage quality \(stages\) needs labels that tell all classes apart, but those of B", ["asyndgan"])
    refused("site B has none of the modalities asked for, t1ce", ["asyndgan"], modalities=["t1ce"])
    assert not any(tmp_path.iterdir())


def test_the_results_say_which_modalities_each_site_has(unlike_dir, tmp_path, tiny_sizes):
    given = tiny_sizes | {"modalities": MODALITIES, "label_groups": GROUPS, "stages": ["train", "generate"]}
    experiment = Experiment("brats", str(unlike_dir), "demo", str(tmp_path), overrides=given, settings=["asyndgan"])
    assert experiment.write_results()["modalities"] == {
        "all": MODALITIES,
        "by_site": {"A": MODALITIES, "B": ["flair"]},
    }
    given["modalities"] = ["flair"]  # which both have
    alike = Experiment("brats", str(unlike_dir), "demo", str(tmp_path), overrides=given, settings=["asyndgan"])
    assert "modalities" not in alike.write_results()
