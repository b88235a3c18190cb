"""The command that attacks a site, on untrained networks and on those of a run."""

import json

import pytest
from PIL import Image
from tiny import NETWORKS

from bundle.cli.main import main
from bundle.composition import stage_files
from bundle.installation import config_dir
from bundle.workflows import DistributedGANWorkflow

pytestmark = pytest.mark.long

SIZES = NETWORKS | {"batch_size": 2, "num_steps": 4, "epoch_length": 2, "device": "cpu"}


def audit(folder, phantom_dir, *more, policy="published"):
    words = ["audit", "readout", "--task", "brats", "--dataset_dir", str(phantom_dir), "--output", str(folder)]
    words += ["--images", "3", "--queries", "4", "--climb_queries", "2", "--match_steps", "2", *more]
    return main([*words, "--set", f"release_policy={policy}", *(f"{key}={value}" for key, value in SIZES.items())])


@pytest.mark.parametrize("discriminator", ["patch", "segmentation"])
def test_a_paired_loss_is_read_out_and_drawn(discriminator, tmp_path, phantom_dir, monkeypatch):
    # of one that segments, an image of one grey tells nothing: noise is what the attack has to begin from
    monkeypatch.setitem(SIZES, "discriminator", discriminator)
    assert audit(tmp_path, phantom_dir, "--site", "A", "--losses", "L1_100", "adversarial") == 0
    content = json.loads((tmp_path / "readout.json").read_text(encoding="utf-8"))
    assert (content["site"], len(content["steps"]), content["images"]) == ("A", 2, 3)
    assert len(set(content["cases"])) == 2  # all that the site has
    assert (content["networks"], content["release_policy"]) == ("untrained", "published")
    curve = content["losses"]["L1_100"]["methods"]["bisection from noise, rehearsed"]["curve"]
    assert curve[-1]["queries"] == 4
    assert curve[-1]["psnr"] > 20
    # whoever is shown in its place is somebody else
    others = content["baselines"]["other patient, condition fits best"]["case_each"]
    assert all(mine != other for mine, other in zip(content["cases"], others, strict=True))
    for name in ("readout.png", "readout_curves.png"):
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 200


def test_the_default_policy_leaves_the_adversarial_term_alone(tmp_path, phantom_dir, capsys):
    more = ("--site", "A", "--losses", "L1_10", "adversarial")
    assert audit(tmp_path, phantom_dir, *more, policy="{policy: guarded, max_releases: 5}") == 0
    content = json.loads((tmp_path / "readout.json").read_text(encoding="utf-8"))
    assert content["release_policy"] == "guarded (max_releases 5)"
    assert "no gradient of l1" in content["losses"]["L1_10"]["refused"]
    assert "L1_10: not attacked, the site refuses" in capsys.readouterr().err
    methods = content["losses"]["adversarial"]["methods"]
    assert methods["gradient matching, 4 queries"]["answered"] == [4, 4]
    assert (tmp_path / "readout_curves.png").is_file()


def test_networks_of_a_run_are_attacked_where_the_site_can_be_sent_back_to(tmp_path, phantom_dir):
    files = stage_files("train", "brats", "small")
    run = DistributedGANWorkflow(
        files,
        bundle_root=str(config_dir().parent),
        dataset_dir=str(phantom_dir),
        run_dir=str(tmp_path / "run"),
        output_dir=str(tmp_path / "run/seed_0/asyndgan"),
        logging_file=False,
        **SIZES,
        release_policy="published",
        l1_weight=10,
    )
    run.initialize()
    run.run()
    run.finalize()
    more = ("--run_dir", str(tmp_path / "run"), "--losses", "L1_100", "adversarial")
    assert audit(tmp_path / "audit", phantom_dir, "--site", "B", *more) == 0
    kept = json.loads((tmp_path / "run/seed_0/asyndgan/gan/audit.json").read_text(encoding="utf-8"))["readout"]
    assert kept["found"]["B"]["policy"] == "published"
    gain = kept["found"]["B"]["losses"]["L1_100"]["own"]
    assert gain["interval"][0] <= gain["gain"] <= gain["interval"][1]
    assert not any(name in json.dumps(kept) for name in ("Phantom", str(tmp_path)))
    content = json.loads((tmp_path / "audit/readout.json").read_text(encoding="utf-8"))
    assert content["networks"] == "trained to step 4"
    assert min(content["steps"]) >= 6
    assert content["learning_rates"] == [2e-4, 2e-4]  # the training's, which has fallen to 0 at its end
    methods = content["losses"]["L1_100"]["methods"]
    # no server knows the weights of a trained one
    assert set(methods) == {
        "bisection",
        "bisection around another patient",
        "bisection from noise",
        "bisection in pairs",
    }
    matched = content["losses"]["adversarial"]["methods"]["gradient matching, weights given, 1 query"]
    assert matched["answered"] == [1, 1]
    ledger = (tmp_path / "run/seed_0/asyndgan/gan/releases/B.jsonl").read_text(encoding="utf-8")
    assert ledger.count('"kind":"reply"') == SIZES["num_steps"]
    assert methods["bisection from noise"]["curve"][-1]["psnr"] > 20


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--site", "C"], "--site C: expected one of A, B"),
        (["--site", "A", "--run_dir", "nowhere"], "config.yaml is missing"),
    ],
)
def test_what_there_is_not_is_said(tmp_path, phantom_dir, capsys, words, message):
    assert audit(tmp_path, phantom_dir, *words) == 2
    assert message in capsys.readouterr().err
