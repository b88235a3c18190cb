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
    listed = {p.relative_to(ROOT) for p in (ROOT / "bundle" / "sharing").glob("templates/*")}
    assert setuptools["package-data"]["bundle.sharing"] == ["templates/*"]
    assert setuptools["package-data"]["bundle"] == ["py.typed"]
    assert others == listed | {Path("bundle/py.typed")}, "files that setuptools leaves out"


def test_the_command_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"asyndgan": "bundle.cli.main:main"}
