"""The overlay whose generator sees teachers' images, from its training to its images, and what it is refused for."""

from pathlib import Path

import pytest
import torch

from bundle.audit.audited_run import audited
from bundle.composition import stage_files
from bundle.data import load_datalist
from bundle.sharing import PackError, PackOptions, pack_bundle
from bundle.workflows.config_checks import ConfigError
from bundle.workflows.experiment import Experiment


def experiment(data, run_dir, sizes, settings=("asyndgan",), **other):
    sizes = sizes | {"stages": ["train", "generate"], "teacher_steps": 2, "num_steps": 2, "epoch_length": 1} | other
    given = {"overrides": sizes, "settings": list(settings), "config_files": ["guided"]}
    return Experiment("brats", str(data), "demo", str(run_dir), **given)


@pytest.fixture(scope="module")
def trained(phantom_dir, tmp_path_factory):
    from tiny import NETWORKS

    run = tmp_path_factory.mktemp("guided")
    sizes = NETWORKS | {"batch_size": 1, "copies": 2, "device": "cpu"}
    experiment(phantom_dir, run, sizes).run()
    return run, sizes


def test_it_trains_and_draws(trained):
    run, _ = trained
    weights = torch.load(run / "seed_0/asyndgan/gan/generator.pt", weights_only=True)
    assert next(iter(weights.values())).shape[1] == 3, "the tumour, the outline, and the teacher's image"
    found = load_datalist(run / "seed_0/asyndgan/synthetic", ["flair"], deep=True).training
    assert {item["site"] for item in found} == {"A", "B"}


def test_a_packed_generator_and_an_audit_of_it_have_no_teacher(trained, phantom_dir, tmp_path):
    run, sizes = trained
    with pytest.raises(PackError, match="generator_guide: this generator draws where there is a teacher's image"):
        pack_bundle(PackOptions("generator", run / "seed_0/asyndgan/gan/generator.pt", tmp_path, Path("LICENSE")))
    files = stage_files("train", "brats", "demo", ["guided"])
    given = sizes | {"teacher_steps": 2, "num_steps": 2, "epoch_length": 1}
    found = audited(files, str(phantom_dir), given, run_dir=str(run))
    with pytest.raises(ValueError, match=r"generator_guide: .* of held-out patients there is none"):
        found.generate()


def test_it_goes_on_from_no_earlier_training(trained, phantom_dir, tmp_path):
    run, sizes = trained
    other = experiment(phantom_dir, tmp_path, sizes, earlier=str(run / "seed_0/asyndgan"))
    with pytest.raises(ValueError, match="earlier: with generator_guide nothing reminds G"):
        other.run()


def test_it_is_refused_at_the_start_where_a_site_has_no_teacher(phantom_dir, tmp_path, tiny_sizes):
    with pytest.raises(ConfigError, match=r"generator_guide, setting asyndgan: no teacher at B \("):
        experiment(phantom_dir, tmp_path, tiny_sizes, release_policy={"B": "guarded"}).run()
    assert not list(Path(tmp_path).rglob("*.npz"))
