"""A fresh checkout: what make sets up and what git leaves alone, also where folders are links to a larger disk."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# as venv does: it makes no environment in a link
PYTHON = """#!/bin/sh
if [ "$1 $2" = "-m venv" ]; then
    if [ -L "$3" ]; then echo "Error: Unable to create directory '$3'" >&2; exit 1; fi
    mkdir -p "$3/bin"
    printf '#!/bin/sh\\necho "$@" >> "%s/calls"\\n' "$3" > "$3/bin/python"
    chmod +x "$3/bin/python"
    exit
fi
exec {python} "$@"
"""


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in ("Makefile", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    for name in ("requirements.txt", "pyproject.toml"):
        (folder / name).touch()
    stub = tmp_path / "python"
    stub.write_text(PYTHON.format(python=sys.executable), encoding="utf-8")
    stub.chmod(0o755)
    return folder, stub


@pytest.mark.parametrize("kind", ["nothing", "folder", "link", "link to nothing", "relative link"])
def test_setup_makes_the_environment_where_a_link_leads(kind, checkout, tmp_path):
    folder, stub = checkout
    venv, elsewhere = folder / ".venv", tmp_path / "large disk"
    if kind in ("link", "relative link"):
        elsewhere.mkdir()
    if kind == "folder":
        venv.mkdir()
    elif kind != "nothing":
        venv.symlink_to(os.path.relpath(elsewhere, folder) if kind == "relative link" else elsewhere)
    for _ in range(2):  # the second time nothing is left to do
        done = subprocess.run(["make", "setup", f"PYTHON={stub}"], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert (venv / ".installed").is_file()
    assert venv.is_symlink() == ("link" in kind)
    calls = (venv / "calls").read_text(encoding="utf-8").splitlines()
    assert [call.split()[-2:] for call in calls] == [["-r", "requirements.txt"], ["--editable", "."]]
    if "link" in kind:
        assert (elsewhere / "bin" / "python").is_file()


@pytest.mark.parametrize("name", [".venv", ".venv-bundles", ".venv-monailabel", "runs", "eval", "dist", "build"])
@pytest.mark.parametrize("is_link", [True, False])
def test_git_leaves_what_is_made_here_alone(name, is_link, checkout, tmp_path):
    folder, _ = checkout
    files = [".gitignore", "Makefile", "pyproject.toml", "requirements.txt"]
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    if is_link:
        (folder / name).symlink_to(tmp_path)
    else:
        (folder / name).mkdir()
        (folder / name / "file").touch()
    listed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"], cwd=folder, capture_output=True, text=True
    )
    assert sorted(listed.stdout.split()) == sorted(["??"] * len(files) + files)
