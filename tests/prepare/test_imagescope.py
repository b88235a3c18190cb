"""ImageScope XML: what is read, and which pixels an outline covers."""

import numpy as np
import pytest
from skimage.measure import find_contours

from bundle.data.errors import DataError
from bundle.prepare.annotations import MARKUP
from bundle.prepare.markup import read_markup
from bundle.prepare.outlines import fill_regions, number_instances


def region(vertices, name=1, negative=0):
    points = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in vertices)
    return f'<Region Id="{name}" NegativeROA="{negative}"><Attributes/><Vertices>{points}</Vertices></Region>'


def box(left, top, right, bottom, **attributes):
    """Outline around the pixels left..right, top..bottom, at half-integers."""
    x0, y0, x1, y1 = left - 0.5, top - 0.5, right + 0.5, bottom + 0.5
    return region([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], **attributes)


def write(path, *layers, head='<?xml version="1.0" encoding="UTF-8"?>'):
    """A file of layers, each a list of regions."""
    text = "".join(f"<Annotation><Regions>{''.join(regions)}</Regions></Annotation>" for regions in layers)
    path.write_text(f'{head}<Annotations MicronsPerPixel="0.25">{text}</Annotations>', encoding="utf-8")
    return path


def fill(path, shape=(20, 30)):
    return fill_regions(read_markup(path, MARKUP), shape, path)


def fails(path, *texts):
    with pytest.raises(DataError) as caught:
        read_markup(path, MARKUP)
    for text in (str(path), *texts):
        assert text in str(caught.value)


def test_x_runs_along_columns_and_layers_are_read_in_order(tmp_path):
    path = write(tmp_path / "a.xml", [box(2, 3, 10, 5, name=7)], [box(20, 0, 21, 1, name=9), box(0, 19, 29, 19)])
    regions = read_markup(path, MARKUP)
    assert [found.name for found in regions] == ["7", "9", "1"]
    assert regions[0].vertices.tolist() == [[1.5, 2.5], [10.5, 2.5], [10.5, 5.5], [1.5, 5.5]]
    instances, counts = fill(path)
    expected = np.zeros((20, 30), np.uint16)
    expected[3:6, 2:11], expected[0:2, 20:22], expected[19] = 1, 2, 3
    np.testing.assert_array_equal(instances, expected)
    assert instances.dtype == np.uint16
    assert (counts.regions, counts.instances, counts.clipped, counts.overlapping) == (3, 3, 0, 0)


def test_contours_of_a_shape_give_the_shape_back(tmp_path):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:60, :70]
    for _ in range(20):
        cy, cx, ry, rx = rng.uniform(20, 40), rng.uniform(20, 50), rng.uniform(3, 14), rng.uniform(3, 14)
        shape = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1
        contour = find_contours(shape.astype(float), 0.5)[0]
        instances, _ = fill(write(tmp_path / "a.xml", [region(contour[:, ::-1])]), (60, 70))
        np.testing.assert_array_equal(instances > 0, shape)


def test_area_is_that_of_the_polygon(tmp_path):
    """The number of pixels against the shoelace formula: they agree up to the pixels on the outline."""
    angles = np.linspace(0, 2 * np.pi, 80, endpoint=False)
    radius = 60 + 15 * np.sin(5 * angles)
    x, y = 100 + radius * np.cos(angles), 90 + radius * np.sin(angles)
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    instances, _ = fill(write(tmp_path / "a.xml", [region(zip(x, y, strict=True))]), (180, 200))
    assert np.count_nonzero(instances) == pytest.approx(area, rel=0.005)


def test_counts(tmp_path):
    regions = [
        box(0, 0, 4, 4),
        region([(1, 1), (3, 3)]),  # skipped
        region([]),  # skipped
        box(3, 3, 8, 8),  # overwrites the first in part
        box(15, 15, 16, 16),  # vanishes below the next
        box(14, 14, 18, 18),
        box(25, 10, 40, 12),  # clipped
        region([(10.2, 1.2), (10.6, 1.2), (10.4, 1.6)]),  # empty: between the pixel centres
        box(100, 100, 110, 110),  # clipped and empty
    ]
    instances, counts = fill(write(tmp_path / "a.xml", regions))
    assert vars(counts) == {"regions": 9, "skipped": 2, "ambiguous": 0, "frames": 0, "clipped": 2, "empty": 2,
                            "overlapping": 4, "vanished": 1, "negative": 0, "instances": 4}  # fmt: skip
    assert np.unique(instances).tolist() == [0, 1, 2, 3, 4]
    assert (instances[3, 3], instances[2, 2]) == (2, 1)
    assert (np.count_nonzero(instances == 1), np.count_nonzero(instances == 2)) == (25 - 4, 36)
    assert np.count_nonzero(instances == 4) == 5 * 3


def test_negative_regions_are_cut_out_wherever_they_stand(tmp_path):
    hole, whole = box(5, 5, 8, 8, negative=1), box(2, 2, 12, 12)
    for regions in ([hole, whole], [whole, hole]):
        instances, counts = fill(write(tmp_path / "a.xml", regions))
        assert np.count_nonzero(instances) == 121 - 16
        assert (counts.negative, counts.instances, counts.overlapping) == (1, 1, 0)
    _, counts = fill(write(tmp_path / "a.xml", [box(5, 5, 8, 8), box(4, 4, 9, 9, negative=1)]))
    assert (counts.instances, counts.vanished) == (0, 1)


@pytest.mark.parametrize(
    ("vertex", "text"),
    [
        ('X="1"', "Y is missing"),
        ('X="nan" Y="1"', "X is 'nan'"),
        ('X="1" Y="inf"', "Y is 'inf'"),
        ('X="1e300" Y="1"', "X is '1e300'"),
        ('X="1,5" Y="1"', "X is '1,5'"),
    ],
)
def test_bad_coordinates_name_the_region(tmp_path, vertex, text):
    path = write(tmp_path / "a.xml", [box(1, 1, 2, 2), region([], name=41)])
    content = path.read_text(encoding="utf-8")
    start = content.rindex("</Vertices>")
    path.write_text(content[:start] + f"<Vertex {vertex}/>" + content[start:], encoding="utf-8")
    fails(path, "region 41, vertex 1", text, "expected a pixel coordinate")


def test_document_types_are_refused(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("1", encoding="utf-8")
    external = f'<!DOCTYPE Annotations [<!ENTITY e SYSTEM "{secret.as_uri()}">]>'
    bomb = '<!DOCTYPE Annotations [<!ENTITY a "1111111111"><!ENTITY b "&a;&a;&a;&a;">]>'
    for head in (external, bomb, '<!DOCTYPE Annotations SYSTEM "http://example.invalid/a.dtd">'):
        fails(write(tmp_path / "a.xml", [box(1, 1, 2, 2)], head=head), "document type", "'Annotations'")


def test_bad_files(tmp_path):
    path = write(tmp_path / "a.xml", [box(1, 1, 2, 2)])
    whole = path.read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:cut])
        fails(path, "corrupt XML")
    path.write_bytes(whole.replace(b"UTF-8", b"klingon"))
    fails(path, "corrupt XML")
    path.write_bytes(b"<svg></svg>")
    fails(path, "the root element is svg, expected annotations of ImageScope or ASAP")
    fails(tmp_path / "none.xml", "unreadable")


def test_numbers_have_no_gaps():
    values = np.array([[0, 900, 7], [7, 0, 12]])
    assert number_instances(values, "f").tolist() == [[0, 3, 1], [1, 0, 2]]
    assert number_instances(np.array([[5, 5]]), "f").tolist() == [[1, 1]]
    assert number_instances(np.arange(65536).reshape(256, 256), "f").max() == 65535
    with pytest.raises(DataError, match="f: holds 65536 objects, expected at most 65535"):
        number_instances(np.arange(65537)[None], "f")
