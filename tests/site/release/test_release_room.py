import subprocess
import sys
from pathlib import Path

import pytest
from test_architecture import imports

import bundle.site.release

ROOT = Path(__file__).resolve().parents[3]
PRIMITIVES = ["accountant", "chain", "digests", "ledger", "noise", "summary", "tally", "torn_lines"]


def test_the_primitives_know_nothing_of_the_bundle_but_its_files():
    allowed = ("bundle.files", "bundle.site.release")
    for name in PRIMITIVES:
        found = {i for i in imports(ROOT / f"bundle/site/release/{name}.py") if i.split(".")[0] == "bundle"}
        assert all(i.startswith(allowed) for i in found), name


def test_to_read_a_ledger_takes_no_torch():
    script = "import sys, bundle.site.release; print(*({'torch', 'opacus', 'fcntl', 'monai'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"fcntl"}  # tempfile and others may bring it


def test_all_that_is_promised_is_there():
    assert all(hasattr(bundle.site.release, name) for name in bundle.site.release.__all__)
    with pytest.raises(AttributeError, match=r"'bundle\.site\.release' has no attribute 'ledgers'"):
        bundle.site.release.ledgers  # noqa: B018
