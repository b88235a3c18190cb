"""Croissant metadata of a synthetic data set: what the specification asks for, and that the files are those."""

import json
import shutil
from datetime import date
from pathlib import Path

import pytest

from bundle.data import load_datalist
from bundle.files import digest
from bundle.sheet import write_data_set_sheet


@pytest.fixture
def synthetic(drawn, tmp_path):
    shutil.copytree(drawn, tmp_path / "run")
    return tmp_path / "run" / "seed_0" / "asyndgan" / "synthetic"


def check(folder: Path) -> dict:
    """https://docs.mlcommons.org/croissant/docs/croissant-spec.html, required properties, and the files themselves."""
    content = json.loads((folder / "croissant.json").read_text(encoding="utf-8"))
    required = ("@context", "@type", "conformsTo", "name", "description", "license", "url", "creator", "datePublished")
    assert all(content[name] for name in required)
    assert content["@type"] == "sc:Dataset"
    assert content["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert (content["@context"]["@vocab"], content["@context"]["conformsTo"]) == (
        "https://schema.org/",
        "dct:conformsTo",
    )
    date.fromisoformat(content["datePublished"])
    assert (folder / content["url"]).is_file()
    ids = [part["@id"] for part in content["distribution"] + content["recordSet"]]
    assert len(set(ids)) == len(ids)
    listed = set()
    for part in content["distribution"]:
        assert part["name"]
        assert part["encodingFormat"]
        if part["@type"] == "cr:FileObject":
            path = folder / part["contentUrl"]
            assert part["sha256"] == digest(path)
            assert part["contentSize"] == f"{path.stat().st_size} B"
            listed.add(path)
        else:
            assert part["@type"] == "cr:FileSet"
            found = set(folder.glob(part["includes"]))
            assert found
            listed |= found
    others = {folder / "README.md", folder / "croissant.json"}
    assert {path for path in folder.rglob("*") if path.is_file()} == listed | others
    (records,) = content["recordSet"]
    assert records["key"]["@id"] in {field["@id"] for field in records["field"]}
    items = json.loads((folder / "datalist.json").read_text(encoding="utf-8"))["training"]
    for field in records["field"]:
        assert field["source"]["fileObject"]["@id"] == "datalist.json"
        name = field["source"]["extract"]["jsonPath"].removeprefix("$.training[*].")
        assert all(isinstance(item[name], str) for item in items)
    return content


def test_what_is_required_is_there_and_every_file_is_listed(synthetic):
    content = check(synthetic)
    sets = {part["@id"]: part for part in content["distribution"] if part["@type"] == "cr:FileSet"}
    images = list(synthetic.glob(sets["images"]["includes"]))
    assert len(images) == len(load_datalist(synthetic).training)


def test_it_holds_after_the_sheet_was_written_again(synthetic):
    before = json.loads((synthetic / "croissant.json").read_text(encoding="utf-8"))
    (synthetic.parent / "gan" / "audit.json").write_text("{", encoding="utf-8")
    write_data_set_sheet(synthetic.parent)
    after = check(synthetic)
    assert after["distribution"][0] == before["distribution"][0]
    assert after["distribution"][1] != before["distribution"][1]
