import os

import pytest

from bundle.files import atomic_folder, atomic_path, digest, require_file, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "new" / "file.json"
    write_json(target, {"old": 1})

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_json(target, {"new": 2})
    assert '"old"' in target.read_text()
    assert list(target.parent.iterdir()) == [target]


def test_the_temporary_name_keeps_the_suffixes_that_writers_of_images_go_by(tmp_path):
    with atomic_path(tmp_path / "volume.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["volume.nii.gz"]


def test_a_folder_is_replaced_only_when_the_new_one_is_whole(tmp_path):
    target = tmp_path / "data"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(target) as folder:  # noqa: PT012
        (folder / "a").write_text("new")
        raise RuntimeError("killed")
    assert (target / "a").read_text() == "old"
    with atomic_folder(target) as folder:
        (folder / "b").write_text("new")
    assert [p.name for p in target.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_digest_is_sha256(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert digest(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_missing_file_is_named_with_what_writes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"generator\.pt is missing: train\.yaml writes it"):
        require_file(tmp_path / "generator.pt", "train.yaml writes it")
