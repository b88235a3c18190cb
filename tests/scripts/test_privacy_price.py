import json

import pytest

from scripts import privacy_price


def run(folder, policy, dice, seeds=2):
    folder.mkdir(parents=True)
    std = 0.01 if seeds > 1 else None
    scores = {"mean": dice, "std": std, "per_seed": [dice] * seeds, "per_case": {"a": [dice] * seeds}}
    results = {"task": "brats", "seeds": list(range(seeds)), "policy": policy, "losses": "vanilla adversarial"}
    results |= {"settings": {"asyndgan": {"dice": scores}}, "train": {"asyndgan": {"steps": 300}}}
    results |= {"wire": {"bytes_to_sites": 1_000_000, "bytes_from_sites": 2_000_000}}
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return folder


def audit(folder, gains, aucs):
    folder.mkdir(parents=True)
    losses = {n: {"gain": {"own": g - 1, "oracle": g}, "oracle": {"psnr": 15 + g}} for n, g in gains.items()}
    losses["l1"] = {"refused": "not returned"}
    (folder / "readout.json").write_text(json.dumps({"losses": losses}), encoding="utf-8")
    attacks = {
        name: {"overall": {"auc": value, "interval": [value - 0.1, value + 0.1]}} for name, value in aucs.items()
    }
    (folder / "membership.json").write_text(json.dumps({"attacks": attacks}), encoding="utf-8")
    return folder


def test_the_strongest_attack_of_each_kind_counts_and_controls_do_not(tmp_path, capsys):
    rows = ["--row", run(tmp_path / "p", "published", 0.8)]
    rows += [audit(tmp_path / "ap", {"L1_10": 15.0, "adversarial": 0.1}, {"nearest": 0.6, "control, untrained": 0.9})]
    rows += ["--row", run(tmp_path / "g", "guarded", 0.6)]
    rows += [
        audit(
            tmp_path / "ag", {"adversarial": -0.2}, {"nearest": 0.5, "discriminator": 0.7, "released conditions": 1.0}
        )
    ]
    rows += ["--row", run(tmp_path / "x", "private (epsilon 1)", 0.2, seeds=1)]
    assert privacy_price.main([*map(str, rows), "--output", str(tmp_path / "out")]) == 0
    published, guarded, private = json.loads((tmp_path / "out/price.json").read_text(encoding="utf-8"))["rows"]
    assert (published["readout_loss"], published["readout_gain"]["oracle"]) == ("L1_10", 15.0)
    assert (published["auc_attack"], published["auc"]) == ("nearest", 0.6)
    assert (guarded["auc_attack"], guarded["readout_gain"]["oracle"]) == ("discriminator", -0.2)
    assert "readout_gain" not in private
    table = capsys.readouterr().out
    assert table == (tmp_path / "out/price.md").read_text(encoding="utf-8")
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    assert "0.600 ± 0.010 | 0.750 | -0.2 | 0.70 (0.60 to 0.80), discriminator | 1.00 | 3.00 MB" in lines[3]
    assert "0.200 | 0.250 | – | –" in lines[4]
    assert (tmp_path / "out/price.png").stat().st_size > 5000


@pytest.mark.parametrize("broken", ["no run", "no audit", "no scores"])
def test_what_is_missing_is_named(tmp_path, capsys, broken):
    folder = tmp_path / "p"
    if broken != "no run":
        run(folder, "published", 0.8)
    if broken == "no scores":
        (folder / "results.json").write_text('{"settings": {}}', encoding="utf-8")
    audits = [str(tmp_path)] if broken == "no audit" else []
    assert privacy_price.main(["--row", str(folder), *audits, "--output", str(tmp_path / "out")]) == 2
    assert {"no run": "results.json", "no audit": "readout.json", "no scores": "AsynDGAN"}[
        broken
    ] in capsys.readouterr().err
    assert not (tmp_path / "out/price.json").exists()
