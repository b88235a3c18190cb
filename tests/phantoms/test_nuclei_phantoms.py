"""Phantom tiles: what images, outlines and files promise, and that they are the same for everybody with the seed."""

import csv
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage
from skimage.draw import polygon

import bundle.phantoms.nuclei as module
from bundle.data.errors import DataError
from bundle.phantoms.nuclei import TILE_STYLES, nuclei_phantom, tile_style, write_nuclei_phantoms
from scripts import make_phantoms

SMALL = {"sites": ("breast", "kidney"), "cases_per_site": 1, "test_cases_per_site": 1, "size": 64, "other_cases": 1}


@pytest.fixture(scope="module")
def tile():
    return nuclei_phantom(1, "breast", 192)


@pytest.fixture(scope="module")
def many():
    """Tiles of each organ."""
    return {organ: [nuclei_phantom((7, number), organ, 192) for number in range(3)] for organ in TILE_STYLES}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    write_nuclei_phantoms(folder, **SMALL)
    return folder


def regions(path):
    """Vertices (x, y) of each region, read without the code that wrote them."""
    return [
        np.array([(float(vertex.get("X")), float(vertex.get("Y"))) for vertex in region.iter("Vertex")])
        for region in ElementTree.parse(path).getroot().iter("Region")
    ]


def drawn(outlines, size):
    instances = np.zeros((size, size), int)
    for number, outline in enumerate(outlines, start=1):
        rows, columns = polygon(outline[:, 1], outline[:, 0], (size, size))
        instances[rows, columns] = number
    return instances


def test_arrays(tile):
    assert (tile["image"].shape, tile["image"].dtype) == ((192, 192, 3), np.uint8)
    assert (tile["instances"].shape, tile["instances"].dtype) == ((192, 192), np.uint16)
    np.testing.assert_array_equal(np.unique(tile["instances"]), np.arange(len(tile["outlines"]) + 1))
    for outline in tile["outlines"]:
        assert (outline.ndim, outline.shape[1], outline.dtype) == (2, 2, np.float64)
        assert len(outline) >= 12
        np.testing.assert_array_equal(outline, np.round(outline, 2))
    np.testing.assert_array_equal(tile["instances"], drawn(tile["outlines"], 192))


def test_seeds_and_styles():
    first = nuclei_phantom((3, 1), "liver", 64)
    state = np.random.get_state()[1].copy()  # noqa: NPY002  the global state must not move
    again = nuclei_phantom((3, 1), "liver", 64)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    np.testing.assert_array_equal(first["image"], again["image"])
    np.testing.assert_array_equal(first["instances"], again["instances"])
    assert not np.array_equal(first["image"], nuclei_phantom((3, 2), "liver", 64)["image"])
    assert not np.array_equal(first["image"], nuclei_phantom((3, 1), "breast", 64)["image"])
    np.testing.assert_array_equal(first["image"], nuclei_phantom((3, 1), TILE_STYLES["liver"], 64)["image"])
    assert tile_style("bladder") == tile_style("bladder") != tile_style("colon")
    assert len(set(TILE_STYLES.values())) == 4


def test_no_tile_is_empty():
    assert all(nuclei_phantom(seed, "kidney", 32)["outlines"] for seed in range(25))


def test_nuclei_are_darker_than_their_surroundings(many):
    for organ, tiles in many.items():
        for tile in tiles:
            mask = tile["instances"] > 0
            around = ndimage.binary_dilation(mask, iterations=6) & ~ndimage.binary_dilation(mask, iterations=2)
            red = tile["image"][..., 0].astype(float)
            assert red[mask].mean() < red[around].mean() - 40, organ
            # Haematoxylin leaves blue, eosin leaves red.
            inside, outside = (tile["image"][where].mean(0) for where in (mask, ~mask))
            assert inside[2] / inside[0] > outside[2] / outside[0], organ


def test_some_nuclei_touch_overlap_and_leave_the_tile(many):
    for organ, tiles in many.items():
        touching = overlapping = leaving = 0
        for tile in tiles:
            instances = tile["instances"].astype(int)
            for a, b in ((instances[1:], instances[:-1]), (instances[:, 1:], instances[:, :-1])):
                touching += np.count_nonzero((a != b) & (a > 0) & (b > 0))
            alone = sum(len(polygon(o[:, 1], o[:, 0], instances.shape)[0]) for o in tile["outlines"])
            overlapping += alone - np.count_nonzero(instances)
            leaving += sum(o.min() < -0.5 or o.max() > 191.5 for o in tile["outlines"])
        assert min(touching, overlapping, leaving) > 0, organ


def test_styles_differ_as_declared(many):
    def radius(tile):
        return np.sqrt(np.bincount(tile["instances"].ravel())[1:] / np.pi)

    density = {organ: np.mean([len(tile["outlines"]) for tile in tiles]) for organ, tiles in many.items()}
    size = {organ: np.mean(np.concatenate([radius(tile) for tile in tiles])) for organ, tiles in many.items()}
    for measured, declared in ((density, "density"), (size, "radius")):
        expected = sorted(TILE_STYLES, key=lambda organ: getattr(TILE_STYLES[organ], declared))
        assert sorted(measured, key=measured.get) == expected, measured
    colour = {organ: np.mean([tile["image"].mean((0, 1)) for tile in tiles], axis=0) for organ, tiles in many.items()}
    # Kidney is clear, liver is red, breast is blue
    assert max(colour, key=lambda organ: colour[organ].sum()) == "kidney"
    assert max(colour, key=lambda organ: colour[organ][0] / colour[organ][2]) == "liver"
    assert min(colour, key=lambda organ: colour[organ][0] / colour[organ][2]) == "breast"
    organs = list(colour)
    for k, organ in enumerate(organs):
        assert all(np.abs(colour[organ] - colour[other]).max() > 8 for other in organs[:k])


def test_a_small_crop_shows_several_nuclei(many):
    for organ, tiles in many.items():
        crops = [
            tile["instances"][y : y + 64, x : x + 64] for tile in tiles for y in (0, 64, 128) for x in (0, 64, 128)
        ]
        assert np.median([len(np.unique(crop)) - 1 for crop in crops]) >= 3, organ


def test_written_files(written):
    rows = list(csv.DictReader((written / "cases.csv").open()))
    assert [(row["case"], row["site"], row["split"]) for row in rows] == [
        ("PhantomTile_breast_001", "breast", "train"),
        ("PhantomTile_breast_002", "breast", "test"),
        ("PhantomTile_kidney_001", "kidney", "train"),
        ("PhantomTile_kidney_002", "kidney", "test"),
        ("PhantomTile_bladder_001", "", "test"),
    ]
    short = 0
    for row in rows:
        image = sitk.ReadImage(str(written / "tissue_images" / f"{row['case']}.tif"))
        assert (image.GetSize(), image.GetPixelIDTypeAsString()) == ((64, 64), "vector of 8-bit unsigned integer")
        found = regions(written / "annotations" / f"{row['case']}.xml")
        short += sum(len(region) < 3 for region in found)
        assert sum(len(region) >= 3 for region in found) >= 2
    assert 0 < short < len(rows) * 2
    assert sorted(path.name for path in written.iterdir()) == ["annotations", "cases.csv", "tissue_images"]
    for folder in ("annotations", "tissue_images"):
        assert sorted(path.stem for path in (written / folder).iterdir()) == sorted(row["case"] for row in rows)


def test_annotation_is_that_of_imagescope(written):
    root = ElementTree.parse(written / "annotations" / "PhantomTile_breast_001.xml").getroot()
    assert (root.tag, float(root.get("MicronsPerPixel"))) == ("Annotations", 0.252)
    first = root.find("Annotation/Regions/Region")
    assert (first.get("Id"), set(first.find("Vertices/Vertex").keys())) == ("1", {"X", "Y", "Z"})
    x, y = regions(written / "annotations" / "PhantomTile_breast_001.xml")[0].T
    # The sum over trapezia; a region's area is that of its polygon, also where it leaves the tile.
    area = abs(np.sum((np.roll(x, -1) - x) * (np.roll(y, -1) + y)) / 2)
    assert float(first.get("Area")) == pytest.approx(area, abs=0.06)
    assert float(first.get("AreaMicrons")) == pytest.approx(area * 0.252**2, abs=0.006)


def test_annotations_give_the_instances(written, monkeypatch, tmp_path):
    tiles = []
    monkeypatch.setattr(module, "nuclei_phantom", lambda *a: tiles.append(nuclei_phantom(*a)) or tiles[-1])
    table = write_nuclei_phantoms(tmp_path, **SMALL)
    cases = [row["case"] for row in csv.DictReader(table.open())]
    for case, tile in zip(cases, tiles, strict=True):
        found = regions(tmp_path / "annotations" / f"{case}.xml")
        np.testing.assert_array_equal(drawn([r for r in found if len(r) > 2], 64), tile["instances"])
        image = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "tissue_images" / f"{case}.tif")))
        np.testing.assert_array_equal(image, tile["image"])
        # The same bytes everywhere
        for name in (f"annotations/{case}.xml", f"tissue_images/{case}.tif"):
            assert (tmp_path / name).read_bytes() == (written / name).read_bytes()


def test_a_case_does_not_depend_on_others(written, tmp_path):
    options = {**SMALL, "sites": ("kidney", "E"), "cases_per_site": 2, "test_cases_per_site": 0}
    write_nuclei_phantoms(tmp_path, **options)
    for name in ("kidney_001", "kidney_002", "bladder_001"):
        for path in (f"annotations/PhantomTile_{name}.xml", f"tissue_images/PhantomTile_{name}.tif"):
            assert (tmp_path / path).read_bytes() == (written / path).read_bytes()


def test_whole_cases_are_kept(tmp_path):
    options = {**SMALL, "sites": ("liver",), "test_cases_per_site": 2, "other_cases": 0}
    write_nuclei_phantoms(tmp_path, **options)
    images, annotations = (sorted((tmp_path / name).iterdir()) for name in ("tissue_images", "annotations"))
    kept, content = images[0].stat().st_mtime_ns, images[0].read_bytes()
    images[1].unlink()
    annotations[2].write_text("<Annotations", encoding="utf-8")
    write_nuclei_phantoms(tmp_path, **options)
    assert images[1].is_file()
    assert regions(annotations[2])
    assert images[0].stat().st_mtime_ns == kept
    write_nuclei_phantoms(tmp_path, seed=1, **options)
    assert images[0].read_bytes() != content
    write_nuclei_phantoms(tmp_path, **{**options, "size": 48})
    assert sitk.ReadImage(str(images[0])).GetSize() == (48, 48)


def test_no_annotation_without_its_image(tmp_path, monkeypatch):
    """A run that stops between the two files leaves no case of mixed seeds."""
    options = {**SMALL, "sites": ("liver",), "test_cases_per_site": 0, "other_cases": 0}
    write_nuclei_phantoms(tmp_path, **options)

    def fail(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_annotation", fail)
        with pytest.raises(OSError, match="no space"):
            write_nuclei_phantoms(tmp_path, seed=1, **options)
    assert not list((tmp_path / "annotations").iterdir())
    write_nuclei_phantoms(tmp_path, **options)
    image = sitk.ReadImage(str(tmp_path / "tissue_images" / "PhantomTile_liver_001.tif"))
    expected = nuclei_phantom((0, zlib.crc32(b"liver"), 1), "liver", 64)["image"]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 31}, "whole number of at least 32"),
        ({"size": 64.5}, "whole number of at least 32"),
        ({"cases_per_site": 0}, "expected at least 1"),
        ({"test_cases_per_site": -1}, "expected at least 1"),
        ({"other_cases": -1}, "expected at least 0"),
        ({"sites": ()}, "expected different names"),
        ({"sites": ("breast", "breast")}, "expected different names"),
        ({"sites": ("breast/kidney",)}, "expected different names"),
        ({"sites": ("bladder", "colon", "stomach")}, "left for other cases"),
    ],
)
def test_bad_options(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        write_nuclei_phantoms(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_as_a_program(tmp_path, capsys):
    options = "--sites kidney --cases_per_site 1 --test_cases_per_site 0 --other_cases 1 --size"
    assert make_phantoms.main(["nuclei", str(tmp_path), *options.split(), "48"]) == 0
    assert (tmp_path / "annotations" / "PhantomTile_bladder_001.xml").is_file()
    assert make_phantoms.main(["nuclei", str(tmp_path), *options.split(), "8"]) == 2
    assert "at least 32 pixels" in capsys.readouterr().err
    for arguments in (
        [str(tmp_path)],
        ["nuclei", str(tmp_path), "--cases", "1"],
        ["brains", str(tmp_path), "--si", "A"],
    ):
        with pytest.raises(SystemExit, match="2"):
            make_phantoms.main(arguments)
