import io
import os
import shutil
import subprocess
import sys

import pytest
import torch

from bundle.files import atomic_folder, atomic_path, below, digest, require_file, save_torch, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "new" / "file.json"
    write_json(target, {"old": 1})

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_json(target, {"new": 2})
    assert '"old"' in target.read_text(encoding="utf-8")
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
    assert (target / "a").read_text(encoding="utf-8") == "old"
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


def test_a_full_disk_is_named_with_the_file_that_had_no_place(tmp_path, monkeypatch):
    with pytest.raises(OSError, match=r"No space left on device: .*file\.json"), atomic_path(tmp_path / "file.json"):
        raise OSError(28, "No space left on device")
    with pytest.raises(OSError, match=r"No space left on device: .*folder"), atomic_folder(tmp_path / "folder"):
        raise OSError(28, "No space left on device")

    class FullDisk:
        def __init__(self, *_):
            self.file = io.BytesIO()

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def write(self, data):
            if self.file.tell() > 1000:
                raise OSError(28, "No space left on device")
            return self.file.write(data)

        def flush(self):
            pass

    monkeypatch.setattr("builtins.open", FullDisk)
    with pytest.raises(OSError, match=r"No space left on device: .*weights\.pt"):
        save_torch(tmp_path / "weights.pt", {"w": torch.zeros(10_000)})
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_equal_contents_are_equal_files_whatever_their_names(tmp_path):
    for name in ("a.pt", "b.pt"):
        save_torch(tmp_path / name, {"w": torch.arange(5)})
    assert digest(tmp_path / "a.pt") == digest(tmp_path / "b.pt")


def test_what_killed_processes_were_writing_is_removed_and_what_others_write_is_not(tmp_path):
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    dead = tmp_path / f".{finished.pid}.partial.latest.pt"
    alive = tmp_path / f".{os.getppid()}.partial.latest.pt"
    other = tmp_path / f".{finished.pid}.partial.other.pt"
    for path in (dead, alive, other):
        path.write_bytes(b"half")
    write_json(tmp_path / "latest.pt", {})
    assert sorted(tmp_path.iterdir()) == sorted([alive, other, tmp_path / "latest.pt"])


def test_the_former_folder_is_never_seen_half_removed(tmp_path, monkeypatch):
    target = tmp_path / "data"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("old")

    def look(path, **_):
        # whatever is being removed, the target is whole
        if target.exists():
            assert [p.name for p in target.iterdir()] in (["a"], ["b"])

    monkeypatch.setattr(shutil, "rmtree", look)
    with atomic_folder(target) as folder:
        (folder / "b").write_text("new")
    assert [p.name for p in target.iterdir()] == ["b"]


@pytest.mark.parametrize("part", ["", "/x", "..", "../x", "a/../../x", "a/..", "a\0b"])
def test_nothing_leads_out_of_the_folder_that_it_is_joined_to(tmp_path, part):
    for parts in ([part], ["seed_0", part], [part, "x"]):
        with pytest.raises(ValueError, match="cannot be a part of a path below"):
            below(tmp_path, *parts)


def test_names_and_relative_paths_are_joined(tmp_path):
    assert below(tmp_path, "seed_0", "real_subset/St. Mary") == str(tmp_path / "seed_0" / "real_subset" / "St. Mary")
    assert below("a#b", "..c") == os.path.join("a#b", "..c")
