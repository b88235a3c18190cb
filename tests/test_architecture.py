"""The rooms of the house: who may import whom, and what may never stand in the code."""

import ast
import json
import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

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


# From the ground up. A room imports from the floors below it, and from rooms beside it on its floor in no case.
FLOORS = [
    [
        "by_site",
        "checkpoints",
        "composition",
        "config_files",
        "files",
        "inputs",
        "installation",
        "plain_errors",
        "seeding",
        "settings",
        "text",
        "threads",
        "timing",
    ],
    ["declarations", "metrics", "transforms"],
    ["networks"],
    ["losses"],
    ["engines", "evaluation", "shapes"],
    ["data"],
    ["phantoms"],
    ["prepare"],
    ["wire"],
    ["site"],
    ["server"],
    ["report"],
    ["generators"],
    ["sheet"],
    ["workflows"],
    ["flare"],
    ["sharing"],
    ["audit"],
    ["cli"],
]
FLOOR = {name: number for number, floor in enumerate(FLOORS) for name in floor}
NAMES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES}


def room(path):
    """The folder of a module, or the name of one that stands in none."""
    return path.relative_to(ROOT / "bundle").with_suffix("").parts[0]


def modules_imported(path):
    """Modules of the package that a file imports."""
    found = {name for name in imports(path) if name in NAMES}
    # `from bundle.data import checks` imports the module, and names the room on the way
    return found - {name for name in found if any(other.startswith(name + ".") for other in found)}


def offenders(rooms, forbidden, but=None):
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in MODULES
        if room(path) in rooms and path.stem != but
        for name in imports(path)
        if any(name == f or name.startswith(f + ".") for f in forbidden)
    ]


def test_there_is_something_to_check():
    assert "bundle.wire.codec" in modules_imported(ROOT / "bundle/server/local_federation.py")
    assert "bundle.workflows" in modules_imported(ROOT / "bundle/flare/participant.py")


def test_every_room_is_on_the_list_and_the_tests_mirror_them():
    assert {room(path) for path in MODULES} - {"__init__"} == set(FLOOR)
    others = {"scripts", "examples", "label"}
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.rglob("test_*.py"))}
    assert folders - others <= set(FLOOR)


def test_no_import_goes_up():
    wrong = []
    for path in MODULES:
        here = room(path)
        for name in modules_imported(path) - {"bundle"}:
            there = name.split(".")[1]
            if here not in ("__init__", there) and FLOOR[there] >= FLOOR[here] > 0:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_no_circle():
    """A room's ``__init__`` collects what its modules export: what imports from it imports from them."""
    below = {name: modules_imported(path) - {name} for name, path in NAMES.items() if path.name != "__init__.py"}
    while free := [name for name, needed in below.items() if not needed & below.keys()]:
        for name in free:
            del below[name]
    assert sorted(below) == []


def test_only_one_room_knows_the_network():
    assert offenders({room(path) for path in MODULES} - {"flare"}, ["nvflare"]) == []


def test_the_middle_sees_no_data_and_no_site_but_in_one_process():
    assert offenders(["server"], ["bundle.data", "bundle.site", "bundle.prepare"], but="local_federation") == []
    assert offenders(["wire"], ["bundle.data"]) == []


def test_the_parts_know_nothing_of_the_whole():
    parts = ["networks", "losses", "metrics", "transforms", "report"]
    rooms = ["wire", "site", "server", "engines", "workflows", "flare", "data"]
    assert offenders(parts, [f"bundle.{name}" for name in rooms]) == []


def test_what_scores_synthetic_data_knows_neither_engine_nor_workflow():
    assert offenders(["evaluation"], ["bundle.engines", "bundle.workflows"]) == []


def test_what_holds_a_site_to_its_policy_sees_none_of_its_data():
    found = [line for line in offenders(["site"], ["bundle.data", "bundle.wire"]) if "site/release/" in line]
    assert found == []


def test_sharing_works_on_files():
    forbidden = ["bundle.data", "bundle.engines", "bundle.server", "bundle.site", "bundle.losses", "bundle.report"]
    assert offenders(["sharing"], forbidden) == []


def test_nothing_waits_for_the_command():
    assert offenders({room(path) for path in MODULES} - {"cli"}, ["bundle.cli"]) == []


def test_the_package_does_not_import_the_scripts():
    assert offenders({room(path) for path in MODULES}, ["scripts"]) == []


def test_no_pickle_and_no_weights_that_could_run_code():
    for path in MODULES + sorted((ROOT / "scripts").rglob("*.py")):
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


PINS = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE))
LOWEST = dict(
    re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "requirements-lowest.txt").read_text(encoding="utf-8"), re.MULTILINE)
)


def test_versions_agree():
    """The bundle's metadata name the pinned packages."""
    metadata = json.loads((ROOT / "configs" / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["monai_version"] == PINS["monai"]
    assert metadata["pytorch_version"] == PINS["torch"]
    assert metadata["numpy_version"] == PINS["numpy"]
    for package, pinned in metadata["required_packages_version"].items():
        assert PINS[package] == pinned


@pytest.mark.skipif(not Path(sys.prefix, ".installed").exists(), reason="not the environment that make installs")
def test_what_runs_here_is_pinned():
    for package, pinned in PINS.items():
        assert version(package).split("+")[0] == pinned


def test_pins_and_lowest_versions_are_in_their_ranges():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for requirement in map(
        Requirement, [*project["dependencies"], *(name for extra in extras.values() for name in extra)]
    ):
        lowest = LOWEST[canonicalize_name(requirement.name)]
        assert lowest in requirement.specifier
        assert Version(lowest) == min(Version(each.version) for each in requirement.specifier if each.operator == ">=")
        pinned = {canonicalize_name(name): pin for name, pin in PINS.items()}.get(canonicalize_name(requirement.name))
        assert pinned is None or pinned in requirement.specifier
