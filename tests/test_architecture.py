"""The rooms of the house: who may import whom, and what may never stand in the code."""

import ast
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "bundle").rglob("*.py"))


def imports(path):
    """Names of all modules that a file imports, wherever in the file, relative ones resolved."""
    package = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level]) + "." if node.level else ""
            module = f"{base}{node.module or ''}".rstrip(".")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room(path):
    return path.relative_to(ROOT / "bundle").parts[0]


def offenders(rooms, forbidden, but=None):
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in MODULES
        if room(path) in rooms and path.relative_to(ROOT / "bundle").parent.as_posix() != but
        for name in imports(path)
        if any(name == f or name.startswith(f + ".") for f in forbidden)
    ]


def test_there_is_something_to_check():
    assert {"federation", "engines", "data", "report"} <= {room(path) for path in MODULES}
    assert "bundle.federation.codec" in set(imports(ROOT / "bundle/federation/local.py"))


def test_only_one_package_knows_the_network():
    rooms = {room(path) for path in MODULES}
    assert offenders(rooms, ["nvflare"], but="federation/flare") == []
    assert offenders(rooms - {"federation"}, ["bundle.federation.flare"]) == []


def test_the_servers_side_and_the_wall_know_no_data():
    assert offenders(["federation", "engines"], ["bundle.data"]) == []


def test_the_parts_know_nothing_of_the_whole():
    parts = ["networks", "losses", "metrics", "transforms", "report"]
    assert offenders(parts, ["bundle.federation", "bundle.engines", "bundle.workflows"]) == []


def test_what_scores_synthetic_data_knows_neither_engine_nor_workflow():
    assert offenders(["quality"], ["bundle.engines", "bundle.workflows"]) == []


def test_the_federation_knows_neither_engine_nor_workflow():
    assert offenders(["federation", "data"], ["bundle.engines", "bundle.workflows"]) == []


def test_what_holds_a_site_to_its_policy_knows_no_wall_and_nothing_runs_an_attack():
    room_of_attacks = ["bundle.privacy.attacks"]
    forbidden = ["bundle.data", "bundle.federation", "bundle.engines", "bundle.workflows", *room_of_attacks]
    assert offenders(["privacy"], forbidden, but="privacy/attacks") == []
    assert offenders({room(path) for path in MODULES} - {"privacy"}, room_of_attacks) == []


def test_sharing_works_on_files_and_nothing_waits_for_it():
    others = {room(path) for path in MODULES} - {"sharing"}
    assert offenders(others, ["bundle.sharing"]) == []
    forbidden = ["bundle.data", "bundle.engines", "bundle.federation", "bundle.losses", "bundle.report"]
    assert offenders(["sharing"], forbidden) == []


def test_the_package_does_not_import_the_scripts():
    assert offenders({room(path) for path in MODULES}, ["scripts"]) == []


def test_no_pickle_and_no_weights_that_could_run_code():
    for path in MODULES + sorted((ROOT / "scripts").glob("*.py")):
        names = set(imports(path))
        assert not names & {"pickle", "dill", "cloudpickle", "joblib"}, path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load", "numpy.load"):
                arguments = {k.arg: ast.unparse(k.value) for k in node.keywords}
                if ast.unparse(node.func) == "torch.load":
                    assert arguments.get("weights_only") == "True", f"{path}: {ast.unparse(node)}"
                else:
                    assert arguments.get("allow_pickle", "False") == "False", f"{path}: {ast.unparse(node)}"


def test_words_of_the_house():
    """A hospital is a site; other systems' words for it would make two of one thing."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.arg):
                name = (node.arg if isinstance(node, ast.arg) else node.name).lower()
                assert not {"client", "worker", "clients", "workers"} & set(name.split("_")), f"{path}: {name}"


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_numbers_in_configs_are_numbers(config):
    """YAML 1.1 as PyYAML reads it takes 2e-4 for a string."""

    def values(content):
        if isinstance(content, dict):
            for value in content.values():
                yield from values(value)
        elif isinstance(content, list):
            for value in content:
                yield from values(value)
        else:
            yield content

    for value in values(yaml.safe_load(config.read_text(encoding="utf-8"))):
        if isinstance(value, str):
            with pytest.raises(ValueError):
                float(value)


def test_versions_agree():
    """Pinned packages, the bundle's metadata and what runs here are the same."""
    import json
    import re
    from importlib.metadata import version

    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE))
    metadata = json.loads((ROOT / "configs" / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["monai_version"] == pins["monai"]
    assert metadata["pytorch_version"] == pins["torch"]
    assert metadata["numpy_version"] == pins["numpy"]
    for package, pinned in metadata["required_packages_version"].items():
        assert pins[package] == pinned
    for package, pinned in pins.items():
        assert version(package).split("+")[0] == pinned
