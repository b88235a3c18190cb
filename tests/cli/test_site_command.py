"""At a hospital: what the command writes into a startup kit, and what a site reads of it."""

import json

import pytest
import yaml

from bundle.cli.main import main
from bundle.site.release import ReleaseLedger

pytest.importorskip("nvflare", reason="the extra `federation` is not installed")

from bundle.declarations.job import SERVER_KEYS, SITE_KEYS, JobError, read_local
from bundle.files import digest
from bundle.flare.kits import provision
from bundle.flare.own_files import SERVER_LINES, SITE_LINES, read_server, read_site
from bundle.text import SERVER


@pytest.fixture
def kits(tmp_path):
    return provision(tmp_path / "federation", ["A"], 8002)


def uncommented(path):
    """Every key of a file, the commented ones with the values that are shown for them."""
    lines = path.read_text(encoding="utf-8").splitlines()
    keys = SITE_KEYS | SERVER_KEYS
    return [line.removeprefix("# ") for line in lines if line.removeprefix("# ").partition(":")[0] in keys]


def test_a_site_begins_with_every_key_and_its_meaning(kits, tmp_path, capsys):
    given = ["--dataset_dir", tmp_path / "data", "--checkpoint_dir", tmp_path / "a: b", "--device", "cpu"]
    assert main(["site", "init", "--startup_kit", kits["A"], *given, "--release_policy", "{policy: private}"]) == 0
    path = kits["A"] / "local" / "site.yaml"
    assert f"wrote {path}" in capsys.readouterr().out
    local = read_site(path.parent)
    assert (local["dataset_dir"], local["checkpoint_dir"]) == (str(tmp_path / "data"), str(tmp_path / "a: b"))
    assert (local["device"], local["release_policy"]) == ("cpu", {"policy": "private"})
    rules = {"release_policy", "release_dir", "min_cases", "per_case", "allow_averaging"}
    assert set(local) == {"dataset_dir", "checkpoint_dir", "device", *rules}
    assert (local["min_cases"], local["per_case"], local["allow_averaging"]) == (5, False, False)
    # what is commented out may be taken in
    path.write_text("\n".join(uncommented(path)), encoding="utf-8")
    assert set(read_local(path, SITE_KEYS)) == SITE_KEYS == {line.key for line in SITE_LINES}
    assert (path.parent / "resources.json").is_file()


def test_what_a_site_still_has_to_say_is_named(kits, capsys):
    kit = kits["A"]
    assert main(["site", "init", "--startup_kit", kit]) == 0
    assert "fill it in" in capsys.readouterr().out
    with pytest.raises(JobError, match=r"site\.yaml: dataset_dir: expected a path"):
        read_site(kit / "local")
    path = kit / "local" / "site.yaml"
    path.write_text("dataset_dir: /data\ncheckpoint_dir: /checkpoints\n", encoding="utf-8")
    assert main(["site", "init", "--startup_kit", kit]) == 0
    assert "kept its own file" in capsys.readouterr().out
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["dataset_dir"] == "/data"
    assert main(["site", "init", "--startup_kit", kit, "--device", "cpu"]) == 2
    assert "site.yaml is there, and kept: set device in it" in capsys.readouterr().err


def test_a_server_begins_with_every_key(kits, tmp_path, capsys):
    assert main(["federate", "kits", kits[SERVER], kits["A"]]) == 0
    path = kits[SERVER] / "local" / "server.yaml"
    assert str(path) in capsys.readouterr().out
    path.write_text(
        "\n".join(line.replace("run_dir:", "run_dir: /run") for line in uncommented(path)), encoding="utf-8"
    )
    assert set(read_server(path.parent)) == SERVER_KEYS == {line.key for line in SERVER_LINES}
    assert (kits["A"] / "local" / "site.yaml").is_file()


def test_what_is_no_kit_of_a_site(kits, tmp_path, capsys):
    for folder in (kits[SERVER], tmp_path):
        assert main(["site", "init", "--startup_kit", folder]) == 2
        assert f"{folder}: expected the startup kit of a site" in capsys.readouterr().err
    assert main(["site", "init", "--startup_kit", kits["A"], "--release_policy", "open"]) == 2
    assert "release_policy: expected published, guarded, out_of_fold, private" in capsys.readouterr().err
    assert not (kits["A"] / "local" / "site.yaml").exists()
    assert main(["site", "check", "--startup_kit", tmp_path]) == 2
    assert "expected the startup kit of a site or the server" in capsys.readouterr().out


def test_the_ledger_of_a_kit_is_found(kits, tmp_path, capsys):
    kit = kits["A"]
    words = ["site", "ledger", "--startup_kit", kit]
    assert main(words) == 2
    assert "site.yaml is missing" in capsys.readouterr().err
    assert main(["site", "init", "--startup_kit", kit, "--checkpoint_dir", tmp_path / "checkpoints"]) == 0
    assert main(words) == 2
    assert "nothing has left the site yet" in capsys.readouterr().err
    with ReleaseLedger(tmp_path / "checkpoints" / "releases" / "A.jsonl", "A") as written:
        written.append("reply", step=1, parts=[])
    assert main(words) == 0
    assert "Chain: whole, 1 entr" in capsys.readouterr().out
    assert json.loads((kit / "startup" / "fed_client.json").read_text(encoding="utf-8"))["client"]["fqsn"] == "A"


def test_what_a_site_has_approved_is_shown_with_its_digest(kits, tmp_path, capsys):
    kit = kits["A"]
    assert main(["site", "init", "--startup_kit", kit]) == 0
    assert main(["site", "configs", "--startup_kit", kit]) == 0
    assert "holds no config" in capsys.readouterr().out
    folder = kit / "local" / "configs"
    folder.mkdir()
    (folder / "mine.yaml").write_text("generator_def: {_target_: hospital.Network}\n", encoding="utf-8")
    assert main(["site", "configs", "--startup_kit", kit]) == 0
    assert f"mine.yaml: sha256 {digest(folder / 'mine.yaml')}\n" in capsys.readouterr().out
    (folder / "open.yaml").write_text("gates: {_target_: hospital.Open}\n", encoding="utf-8")
    assert main(["site", "configs", "--startup_kit", kit]) == 1
    assert "refused in any job: " in capsys.readouterr().out
    own = {"dataset_dir": str(tmp_path), "checkpoint_dir": str(tmp_path / "kept"), "device": "cpu"}
    (kit / "local" / "site.yaml").write_text(yaml.safe_dump(own), encoding="utf-8")
    main(["site", "check", "--startup_kit", kit])
    assert "open.yaml: gates: it belongs to what stands between sites and server" in capsys.readouterr().out
    (folder / "open.yaml").unlink()
    main(["site", "check", "--startup_kit", kit])
    assert "approved mine.yaml" in capsys.readouterr().out
