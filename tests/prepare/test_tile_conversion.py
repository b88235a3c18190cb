"""One tile to image.png and instances.png: whole or not at all, and kept while nothing changed."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from bundle.data.errors import DataError
from bundle.data.tiles import MIN_NUCLEI, read_pixels
from bundle.phantoms.nuclei import write_nuclei_phantoms
from bundle.prepare.layouts import get_layout
from bundle.prepare.tile_conversion import convert_tile


@pytest.fixture
def case(tmp_path):
    """A phantom tile and its outlines."""
    source = tmp_path / "source"
    write_nuclei_phantoms(source, ("breast",), 1, 0, size=160, other_cases=0)
    (found,), problems = get_layout("multi_organ").discover(source, ("red", "green", "blue"))
    assert not problems
    return found


def test_what_is_written(case, tmp_path):
    record = convert_tile(case, tmp_path / "tiles" / "a")
    image, instances = (read_pixels(tmp_path / "tiles" / "a" / name) for name in ("image.png", "instances.png"))
    np.testing.assert_array_equal(image, read_pixels(case.images["red"]))
    assert (image.dtype, instances.dtype, instances.shape) == (np.uint8, np.uint16, image.shape[:2])
    count = record["counts"]["instances"]
    assert np.unique(instances).tolist() == list(range(count + 1))
    assert count > MIN_NUCLEI
    assert record["contrast"] > 1
    # The image is darker where it says that nuclei are.
    assert image[instances > 0, 0].mean() < image[instances == 0, 0].mean() - 30
    assert json.loads((tmp_path / "tiles/a/conversion.json").read_text(encoding="utf-8")) == record
    # Folders of patients would be named in paths.
    assert str(tmp_path) not in json.dumps(record)


def test_a_conversion_is_kept_until_something_changes(case, tmp_path):
    output = tmp_path / "a"

    def convert(**options):
        before = output.stat().st_ino if output.exists() else None
        convert_tile(case, output, **options)
        return output.stat().st_ino != before

    assert convert()
    assert not convert()
    assert convert(accept_mismatch=True)
    (output / "instances.png").unlink()
    assert convert(accept_mismatch=True)
    (output / "conversion.json").write_text("{", encoding="utf-8")
    assert convert()
    text = case.label.read_text(encoding="utf-8")
    case.label.write_text(text.replace("</Annotations>", "<!-- --></Annotations>"), encoding="utf-8")
    assert convert()


def test_an_interrupted_conversion_leaves_nothing(case, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    output = tmp_path / "tiles" / "a"
    with monkeypatch.context() as patch:
        patch.setattr("bundle.prepare.tile_conversion.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            convert_tile(case, output)
    assert list(output.parent.iterdir()) == []
    convert_tile(case, output)
    assert sorted(path.name for path in output.iterdir()) == ["conversion.json", "image.png", "instances.png"]


def test_a_mirrored_image_is_refused_unless_accepted(case, tmp_path):
    path = case.images["red"]
    mirrored = np.ascontiguousarray(read_pixels(path)[:, ::-1])
    sitk.WriteImage(sitk.GetImageFromArray(mirrored, isVector=True), str(path))
    with pytest.raises(DataError, match=r"another tile, mirrored, or a mask whose nuclei are 0\? --accept_mismatch"):
        convert_tile(case, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert convert_tile(case, tmp_path / "a", accept_mismatch=True)["contrast"] < 0.3
    with pytest.raises(DataError, match="another tile"):
        convert_tile(case, tmp_path / "a")
