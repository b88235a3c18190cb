"""What FLARE takes as a site's name and as a folder: refused before anything is started."""

from pathlib import Path

import pytest

pytest.importorskip("nvflare", reason="the extra `federation` is not installed")

from nvflare.apis.utils.format_check import name_check

from bundle.flare.kits import prepare_kit, provision
from bundle.flare.names import check_folder, check_site_names


@pytest.mark.parametrize("name", ["A", "size_01", "St-Mary", "TCGA-CS", "x" * 64, "2018"])
def test_names_that_flare_takes(name):
    check_site_names([name, "other"])
    assert name_check(name, "client")[0] is False


@pytest.mark.parametrize("name", ["St. Mary", "Köln", "server", "Server", "A B", "A.B", "", "x" * 65, "A\n", "Joe's"])
def test_names_that_it_does_not_are_named_with_the_rule(name, tmp_path):
    with pytest.raises(ValueError, match="letters A to Z, digits, '-' and '_', and not 'server'") as raised:
        check_site_names(["A", name])
    assert repr(name) in str(raised.value)
    with pytest.raises(ValueError, match="letters A to Z"):
        provision(tmp_path / "kits", [name], 8002)
    assert not (tmp_path / "kits").exists()


def test_a_name_that_two_sites_have_is_said_with_the_list():
    with pytest.raises(ValueError, match="two sites are called A, in A, A, B: expected a name of its own for each"):
        check_site_names(["B", "A", "A"])


def test_names_that_differ_in_capitals_only_would_share_a_folder_on_some_systems():
    with pytest.raises(ValueError, match="Mary and mary differ in capitals only"):
        check_site_names(["Mary", "mary"])


@pytest.mark.parametrize(
    "folder", ["/data/my run", "/it's", '/a"b', "/a\\b", "/exp#1", "/{site}", "/tab\tx", "/new\nline"]
)
def test_folders_that_flare_would_find_in_pieces_are_refused_by_name(folder):
    with pytest.raises(ValueError, match="FLARE cannot start a job there") as raised:
        check_folder(Path(folder), "--run_dir")
    assert f"--run_dir {folder!r}" in str(raised.value)


@pytest.mark.parametrize("folder", ["/data/run", "/Köln/run", "/a@b.c", "/a+b=c,d;e", "/$HOME/~x"])
def test_others_are_not(folder):
    check_folder(Path(folder), "--run_dir")


def test_a_kit_in_such_a_folder_is_not_prepared(tmp_path):
    (tmp_path / "my kit" / "local").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"the kit .*my kit.*: FLARE cannot start"):
        prepare_kit(tmp_path / "my kit")
    assert list((tmp_path / "my kit" / "local").iterdir()) == []
