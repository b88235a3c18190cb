"""Release policies from the command line to the table, on tiny phantoms."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from bundle.cli.main import main
from bundle.data import load_datalist, members_by_site
from bundle.report import markdown_table
from bundle.site.release import PolicyError, ReleaseRefused, policies_by_site, summarize, verify
from bundle.workflows import ConfigError
from bundle.workflows.experiment import Experiment

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
STAGES = ["train", "generate", "segment", "evaluate"]


def run(phantom_dir, folder, sizes, **overrides):
    overrides = sizes | {"stages": STAGES} | overrides
    experiment = Experiment(
        "brats",
        str(phantom_dir),
        profile="demo",
        run_dir=str(folder),
        config_dir=str(CONFIGS),
        settings=["asyndgan"],
        overrides=overrides,
    )
    return experiment.run()


def releases(folder):
    return sorted((folder / "seed_0/asyndgan/gan/releases").glob("*.jsonl"))


def test_every_table_says_what_the_policy_was(phantom_dir, tiny_sizes, tmp_path):
    results = run(phantom_dir, tmp_path, tiny_sizes, release_policy="guarded")
    assert results["policy"] == "guarded"
    assert results["losses"] == "vanilla adversarial"
    assert "Release policy: guarded." in markdown_table(results)
    ledgers = releases(tmp_path)
    assert [path.stem for path in ledgers] == ["A", "B"]
    for path in ledgers:
        assert verify(path).whole
        assert "guarded" in summarize(path)


@pytest.mark.long
def test_with_public_conditions_everything_is_made_of_the_servers(phantom_dir, tiny_sizes, tmp_path):
    bank = tmp_path / "bank.npz"
    words = ["--task", "brats", "--profile", "demo", "--dataset_dir", str(phantom_dir), "--output", str(bank)]
    assert main(["bank", *words, "--set", *(f"{key}={value}" for key, value in tiny_sizes.items())]) == 0
    policy = {"policy": "private", "epsilon": math.inf}
    results = run(phantom_dir, tmp_path / "run", tiny_sizes, release_policy=policy, public_conditions=str(bank))
    assert results["policy"] == "private (clip_norm 0.01, epsilon inf, delta 1e-05)"
    assert not (tmp_path / "run/seed_0/asyndgan/gan/conditions.npz").exists()
    items = json.loads((tmp_path / "run/seed_0/asyndgan/synthetic/datalist.json").read_text(encoding="utf-8"))
    assert {item["condition_source"] for item in items["training"]} == {"bank of the server"}
    for path in releases(tmp_path / "run"):
        assert "Conditions (label maps): none" in summarize(path)


def test_by_default_nobody_answers_for_whom_it_has_seen(phantom_dir, tiny_sizes, tmp_path):
    results = run(phantom_dir, tmp_path, tiny_sizes, discriminator_updates=4)
    assert results["policy"] == "out_of_fold"
    for path in releases(tmp_path):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        (folds,) = (line for line in lines if line["kind"] == "folds")
        assert (folds["count"], sorted(folds["patients"].values())) == (2, [0, 1])
        told = " ".join(summarize(path).split())
        assert "folds of patients: 3" in told
        assert "a teacher's images: yes" in told
    record = json.loads((tmp_path / "seed_0/asyndgan/gan/record.json").read_text(encoding="utf-8"))
    assert record["steps"] == 4
    assert record["losses"] == results["losses"] == "vanilla adversarial + 10·L1 to a teacher"
    files = [np.load(tmp_path / f"seed_0/asyndgan/gan/{name}.npz").files for name in ("conditions", "teacher")]
    assert files[0] == files[1]


@pytest.mark.long
def test_the_same_seed_gives_the_same_generator_under_the_default(phantom_dir, tiny_sizes, tmp_path):
    weights = []
    for folder in ("first", "second"):
        run(phantom_dir, tmp_path / folder, tiny_sizes | {"stages": ["train", "generate"]})
        weights.append(torch.load(tmp_path / folder / "seed_0/asyndgan/gan/generator.pt", weights_only=True))
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_a_loss_beyond_the_policy_is_refused_before_anything_is_trained(phantom_dir, tiny_sizes, tmp_path):
    with pytest.raises(ReleaseRefused, match=r"out_of_fold, returns no gradient of l1.*l1_weight to 0"):
        run(phantom_dir, tmp_path, tiny_sizes, l1_weight=10.0)
    assert not (tmp_path / "seed_0/asyndgan/gan/checkpoints").exists()


def test_what_could_not_be_generated_is_refused_before_anything_is_trained(phantom_dir, tiny_sizes, tmp_path):
    with pytest.raises(ConfigError, match=r"lets no conditions out.*public_conditions"):
        run(phantom_dir, tmp_path, tiny_sizes, release_policy="private")
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        run(phantom_dir, tmp_path, tiny_sizes, release_policy="private", public_conditions=str(tmp_path / "none.npz"))


def test_policies_of_settings(phantom_dir):
    data = load_datalist(phantom_dir)

    def policies(value, setting):
        found = policies_by_site(value, data.sites, members_by_site(data, setting))
        return {site: policy.name for site, policy in found.items()}

    mixed = {"A": "published", "B": "guarded"}
    assert policies(mixed, "asyndgan") == mixed
    assert policies(mixed, "syn_subset/B") == {"B": "guarded"}
    assert policies("private", "syn_all") == {"all": "private"}
    with pytest.raises(PolicyError, match="site all: it stands for A, B, whose release policies differ"):
        policies(mixed, "syn_all")
    with pytest.raises(ValueError, match="given for C, but the sites are A, B: there is no C"):
        policies({"C": "guarded"}, "asyndgan")
