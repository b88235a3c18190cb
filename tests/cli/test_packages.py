"""What is installed is what there is."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_installed_is_what_there_is():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "bundle").rglob("__init__.py")}
    assert set(setuptools["packages"]) == found | {"bundle.configs"}
    assert setuptools["package-dir"] == {"bundle.configs": "configs"}
    others = {
        p.relative_to(ROOT) for p in (ROOT / "bundle").rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")
    }
    data = {name: globs for name, globs in setuptools["package-data"].items() if name != "bundle.configs"}
    folders = {ROOT.joinpath(*name.split(".")): globs for name, globs in data.items()}
    listed = {p.relative_to(ROOT) for folder, globs in folders.items() for one in globs for p in folder.glob(one)}
    assert others == listed, "files that setuptools leaves out"


def test_the_command_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"asyndgan": "bundle.cli.main:main"}
