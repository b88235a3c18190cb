"""The same nuclei in every format are the same instance map; what is no nucleus is left out or refused."""

import json

import numpy as np
import pytest
import scipy.io
import scipy.sparse
import SimpleITK as sitk
import tifffile
from skimage.measure import find_contours

from bundle.data.errors import DataError
from bundle.prepare.annotations import read_annotation

SHAPE = (60, 90)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
CENTRES = [(12 + 20 * column, 12 + 18 * row) for row in range(3) for column in range(4)]


def discs():
    """Twelve nuclei, numbered by row and column."""
    instances = np.zeros(SHAPE, np.uint16)
    for number, (x, y) in enumerate(CENTRES, start=1):
        instances[((X - x) / 7) ** 2 + ((Y - y) / 6) ** 2 < 1] = number
    return instances


def contours(offset=0.0):
    """Outlines (x, y) of the nuclei; `offset` is where the first pixel's centre lies."""
    for number in range(1, len(CENTRES) + 1):
        yield find_contours((discs() == number).astype(float), 0.5)[0][:, ::-1] + offset


def xml_region(points, kind=0, number=1, **more):
    vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in points)
    extra = "".join(f' {key}="{value}"' for key, value in more.items())
    return f'<Region Id="{number}" Type="{kind}" NegativeROA="0"{extra}><Vertices>{vertices}</Vertices></Region>'


def xml(*layers, extra=""):
    """ImageScope XML of layers: a list of regions each, or a pair of its name and such a list."""
    text = ""
    for layer in layers:
        name, regions = layer if isinstance(layer, tuple) else ("", layer)
        attributes = f'<Attributes><Attribute Name="{name}" Id="0" Value=""/></Attributes>'
        text += f'<Annotation Id="1" Name="">{attributes}<Regions>{"".join(regions)}</Regions></Annotation>'
    return f'<?xml version="1.0"?><Annotations MicronsPerPixel="0.25">{text}{extra}</Annotations>'


def nuclei_xml():
    return [xml_region(points, number=number) for number, points in enumerate(contours(), start=1)]


def asap(kind="Polygon", group="Nuclei", more=""):
    text = ""
    for points in contours(0.5):
        listed = [f'<Coordinate Order="{o}" X="{x}" Y="{y}"/>' for o, (x, y) in enumerate(points)]
        text += f'<Annotation Name="A" Type="{kind}" PartOfGroup="{group}"><Coordinates>{"".join(listed[::-1])}'
        text += "</Coordinates></Annotation>"
    groups = '<AnnotationGroups><Group Name="Nuclei" PartOfGroup="None"><Attributes/></Group></AnnotationGroups>'
    return f"<ASAP_Annotations><Annotations>{text}{more}</Annotations>{groups}</ASAP_Annotations>"


def feature(rings, kind="Polygon", **more):
    return {"type": "Feature", "id": "1", "geometry": {"type": kind, "coordinates": rings}, "properties": {}} | more


def features():
    return [feature([points.tolist()]) for points in contours(0.5)]


def collection(items):
    return json.dumps({"type": "FeatureCollection", "features": items})


def cells():
    """QuPath's cells: the outline of the cell, and that of its nucleus."""
    square = [[[0, 0], [90, 0], [90, 60], [0, 60], [0, 0]]]
    return collection([feature(square) | {"nucleusGeometry": f["geometry"]} for f in features()])


def pannuke():
    planes = np.zeros((*SHAPE, 6))
    for number in range(1, 13):  # numbers begin anew in every channel
        planes[discs() == number, (number - 1) // 4] = (number - 1) % 4 + 1
    planes[..., 5] = discs() == 0
    return planes


def lower(text):
    return text.replace("?xml", "?XML").lower()


def prefixed(text):
    text = text.replace("</", "</a:").replace("<", "<a:").replace("<a:/a:", "</a:").replace("<a:?", "<?")
    return text.replace("<a:Annotations", '<a:Annotations xmlns:a="http://aperio"', 1)


TEXTS = {
    "a.xml": lambda: xml(nuclei_xml()),
    "layers.xml": lambda: xml(("Epithelial", nuclei_xml()[:5]), ("Lymphocyte", nuclei_xml()[5:])),
    "lower.xml": lambda: lower(xml(nuclei_xml())),
    "prefix.xml": lambda: prefixed(xml(nuclei_xml())),
    "namespace.xml": lambda: xml(nuclei_xml()).replace("<Annotations", '<Annotations xmlns="http://aperio"', 1),
    "asap.xml": asap,
    "spline.xml": lambda: asap("Spline"),
    "a.geojson": lambda: collection(features()),
    "a.json": lambda: collection(features()),
    "list.json": lambda: json.dumps(features()),
    "multi.geojson": lambda: collection([feature([f["geometry"]["coordinates"]], "MultiPolygon") for f in features()]),
    "cells.geojson": cells,
}
MAPS = {
    "a.npy": discs,
    "planes.npy": lambda: np.dstack([discs(), discs() % 3]),
    "patch4.npy": lambda: np.dstack([np.zeros((*SHAPE, 3)), discs()]),
    "patch5.npy": lambda: np.dstack([np.zeros((*SHAPE, 3)), discs(), discs() % 3]).astype(np.int32),
    "pannuke.npy": pannuke,
}


def save(path, name):
    if name in TEXTS:
        path.write_text(TEXTS[name](), encoding="utf-8")
    elif name in MAPS:
        np.save(path, MAPS[name]())
    elif name.endswith(".npz"):
        np.savez_compressed(path, **{"one.npz": {"x": discs()}, "a.npz": {"inst_map": discs(), "type_map": discs() % 3},
                                     "letters.npz": {"Inst_Map": discs(), "b": discs()}}[name])  # fmt: skip
    elif name.endswith(".mat"):
        content = {"sparse.mat": {"inst_map": scipy.sparse.csc_matrix(discs().astype(float))},
                   "letters.mat": {"Inst_map": discs(), "Class_map": discs() % 3},
                   "camel.mat": {"InstMap": discs(), "TypeMap": discs() % 3, "names": "text", "n": 12}}  # fmt: skip
        scipy.io.savemat(path, content[name], do_compression=name == "letters.mat")
    elif name == "i8.tif":
        tifffile.imwrite(path, discs().astype(np.int64), compression="zstd", tile=(16, 16))
    elif name == "f8.tif":
        tifffile.imwrite(path, discs().astype(np.float64), compression="lzma")
    else:
        sitk.WriteImage(sitk.GetImageFromArray(discs()), str(path))
    return path


FORMATS = [*TEXTS, *MAPS, "one.npz", "a.npz", "letters.npz", "sparse.mat", "letters.mat", "camel.mat", "i8.tif",
           "f8.tif", "a.png", "a.PNG"]  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_map(tmp_path, name):
    found = read_annotation(save(tmp_path / name, name), SHAPE, "i.tif")
    np.testing.assert_array_equal(found.instances, discs())
    assert found.instances.dtype == np.uint16


def read(tmp_path, text, name="a.xml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_annotation(path, SHAPE, "i.tif")


def fails(tmp_path, text, *words, name="a.xml"):
    with pytest.raises(DataError) as caught:
        read(tmp_path, text, name)
    for word in (str(tmp_path / name), *words):
        assert word in str(caught.value)


def corners(left, top, right, bottom):
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


FRAME = corners(0, 0, 89, 59)
# Freehand around half of the nuclei.
TUMOUR = [(1, 1), (45, 3), (88, 1), (89, 38), (40, 36), (2, 38)]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("own_layer", [True, False])
@pytest.mark.parametrize("extra", [(FRAME, 1), (FRAME, 0), (FRAME + FRAME[:1], 1), (TUMOUR, 0), (TUMOUR, 2)])
def test_frames_and_outlines_of_tissue_are_left_out(tmp_path, extra, own_layer, first):
    points, kind = extra
    extra = [xml_region(points, kind, 99)]
    parts = [extra, nuclei_xml()] if first else [nuclei_xml(), extra]
    found = read(tmp_path, xml(*parts) if own_layer else xml(parts[0] + parts[1]))
    np.testing.assert_array_equal(found.instances, discs())
    assert (found.counts.frames, found.counts.instances, found.counts.vanished) == (1, 12, 0)


@pytest.mark.parametrize("parent", [[FRAME], [TUMOUR], [FRAME, corners(88, 58, 89, 59)]])
def test_the_parent_of_detections_is_left_out(tmp_path, parent):
    rings = [[list(point) for point in [*ring, ring[0]]] for ring in parent]
    found = read(tmp_path, collection([feature(rings), *features()]), "a.geojson")
    np.testing.assert_array_equal(found.instances, discs())
    assert found.counts.frames == 1


def test_a_rectangle_in_asap_is_left_out(tmp_path):
    points = "".join(f'<Coordinate Order="{o}" X="{x}" Y="{y}"/>' for o, (x, y) in enumerate(corners(1, 1, 9, 4)))
    box = f'<Annotation Name="B" Type="Rectangle" PartOfGroup="None"><Coordinates>{points}</Coordinates></Annotation>'
    found = read(tmp_path, asap(more=box))
    np.testing.assert_array_equal(found.instances, discs())
    assert found.counts.frames == 1


@pytest.mark.parametrize("where", ["layer", "Name", "Text", "geojson", "asap"])
def test_ambiguous_areas_are_left_out(tmp_path, where):
    area = corners(0, 45, 89, 59)
    if where == "geojson":
        ring = [list(point) for point in [*area, area[0]]]
        extra = feature([ring], properties={"classification": {"name": "Ambiguous"}})
        found = read(tmp_path, collection([*features(), extra]), "a.geojson")
    elif where == "asap":
        points = "".join(f'<Coordinate X="{x}" Y="{y}"/>' for x, y in area)
        extra = f'<Annotation Type="Polygon" PartOfGroup="ambiguous"><Coordinates>{points}</Coordinates></Annotation>'
        found = read(tmp_path, asap(more=extra))
    elif where == "layer":  # as MoNuSAC has it
        found = read(tmp_path, xml(("Epithelial", nuclei_xml()), ("Ambiguous", [xml_region(area)])))
    elif where == "Name":
        layer = f'<Annotation Name="ambiguous areas"><Regions>{xml_region(area)}</Regions></Annotation>'
        found = read(tmp_path, xml(nuclei_xml(), extra=layer))
    else:
        found = read(tmp_path, xml([*nuclei_xml(), xml_region(area, Text="Ambiguous")]))
    np.testing.assert_array_equal(found.instances, discs())
    assert found.counts.ambiguous == 1


@pytest.mark.parametrize("points", [2, 4])
def test_ellipses_are_filled(tmp_path, points):
    """By two corners of their extent, or all four."""
    boxes = [corners(x - 7, y - 6, x + 7, y + 6) for x, y in CENTRES]
    found = read(tmp_path, xml([xml_region(box[:: 2 if points == 2 else 1], 2) for box in boxes]))
    exact = np.zeros(SHAPE, np.uint16)
    for number, (x, y) in enumerate(CENTRES, start=1):
        exact[((X - x) / 7) ** 2 + ((Y - y) / 6) ** 2 <= 1] = number
    assert found.counts.skipped == 0
    assert np.count_nonzero(found.instances != exact) <= 0.04 * np.count_nonzero(exact)
    assert found.instances[exact == 0].sum() == 0


def test_arrows_and_points_have_no_inside(tmp_path):
    found = read(tmp_path, xml([*nuclei_xml(), xml_region([(1, 1), (9, 9)], 3)]))
    assert (found.counts.skipped, found.counts.instances) == (1, 12)
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [3, 4]}}
    line = {"type": "Feature", "geometry": {"type": "LineString", "coordinates": [[3, 4], [5, 6], [7, 7]]}}
    found = read(tmp_path, collection([*features(), point, line]), "a.geojson")
    assert (found.counts.skipped, found.counts.instances) == (2, 12)
    dot = '<Annotation Type="Dot"><Coordinates><Coordinate X="1" Y="1"/></Coordinates></Annotation>'
    assert read(tmp_path, asap(more=dot)).counts.skipped == 1


def test_files_of_rectangles_only_are_refused(tmp_path):
    boxes = [xml_region(corners(x - 3, y - 3, x + 3, y + 3), 1) for x, y in CENTRES]
    fails(tmp_path, xml(boxes), "holds 12 rectangles or frames and no nucleus")


def test_nuclei_that_contain_another_are_kept(tmp_path):
    """Two on top of each other, and every nucleus outlined twice, are nuclei still."""
    inner = [xml_region(corners(10, 10, 14, 14), 0)]
    assert read(tmp_path, xml(nuclei_xml() + inner)).counts.instances == 13
    found = read(tmp_path, xml(nuclei_xml() * 2))
    assert (found.counts.frames, found.counts.vanished) == (0, 12)
    np.testing.assert_array_equal(found.instances, discs())


def test_most_nuclei_may_not_vanish(tmp_path):
    inside = [xml_region(corners(x - 1, y - 1, x + 1, y + 1)) for x, y in CENTRES]
    below = [xml_region(corners(x + 2, y - 1, x + 4, y + 1)) for x, y in CENTRES]
    fails(tmp_path, xml(inside + below + nuclei_xml()), "24 of 36 regions vanish below later ones")


def test_rings_are_holes_and_further_pieces(tmp_path):
    outer, hole = corners(10, 10, 20, 20), corners(13, 13, 17, 17)
    rings = [[[x + 0.5, y + 0.5] for x, y in [*ring, ring[0]]] for ring in (outer, hole)]
    found = read(tmp_path, collection([feature(rings)]), "a.geojson").instances
    assert (found[15, 15], found[11, 11], found[10, 15]) == (0, 1, 1)
    piece = [[x + 40, y] for x, y in rings[0]]
    found = read(tmp_path, collection([feature([rings, [piece]], "MultiPolygon")]), "a.geojson").instances
    assert (found[15, 15], found[11, 11], found[15, 55], found.max()) == (0, 1, 1, 1)


def test_outlines_that_cross_themselves_are_filled_on_both_sides(tmp_path):
    bow = [(10, 10), (30, 30), (30, 10), (10, 30)]
    for text, name in ((xml([xml_region(bow)]), "a.xml"), (collection([feature([[*bow, bow[0]]])]), "a.geojson")):
        found = read(tmp_path, text, name).instances
        assert (found[20, 13], found[20, 27], found[12, 20], found.max()) == (1, 1, 0, 1)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.xml", '<OME xmlns="http://www.openmicroscopy.org/"/>', "the root element is OME"),
        ("a.xml", "<annotation><object><bndbox/></object></annotation>", "the root element is annotation"),
        ("a.xml", "<annotations><version>1.1</version><image id='0'/></annotations>", "XML of CVAT"),
        ("a.xml", "<annotations><ndpviewstate id='1'/></annotations>", "XML of NDP.view"),
        ("a.xml", "<Annotations>" + "<a>" * 100_000, "nested deeper than 32"),
        ("a.xml", '<ASAP_Annotations><Annotations><Annotation Name="N"><Coordinates><Coordinate X="nan" Y="1"/>',
         "annotation N, coordinate 1: X is 'nan'"),
        ("a.geojson", '{"type": "FeatureCollection"}', "holds no features"),
        ("a.json", '{"mag": 40, "nuc": {}}', "JSON of HoVer-Net"),
        ("a.json", '{"images": [], "annotations": [], "categories": []}', "JSON of COCO"),
        ("a.json", '{"shapes": [], "imagePath": "a"}', "JSON of LabelMe"),
        ("a.json", '[{"case": "a", "site": "b"}]', "feature 1 has no geometry"),
        ("a.json", "3", "holds no features"),
        ("a.json", "[3]", "feature 1 is no object"),
        ("a.json", '{"type": ', "unreadable or corrupt"),
        ("a.json", "", "unreadable or corrupt"),
        ("a.json", "\x00\ufffe", "unreadable or corrupt"),
        ("a.json", "[" * 1_000_000, "nested too deeply"),
        ("a.json", "[" + "9" * 5000 + "]", "unreadable or corrupt"),
        ("a.json", '{"type": "Feature", "geometry": null}', "feature 1 has no geometry"),
        ("a.json", '{"type": "Feature"}', "feature 1 has no geometry"),
        ("a.json", '{"type": "Feature", "geometry": {}}', "feature 1 is a None, expected a Polygon"),
        ("a.json", '{"type": "Feature", "geometry": {"type": "GeometryCollection", "geometries": []}}',
         "is a GeometryCollection"),
    ],
)  # fmt: skip
def test_files_that_hold_no_outlines_are_refused(tmp_path, name, text, words):
    fails(tmp_path, text, words, name=name)


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "1e9", "1e999", "-1e300", '"a"', "null", "[]", "{}", "true, [1]",
                                 "1" * 400])  # fmt: skip
@pytest.mark.parametrize("kind", ["Polygon", "MultiPolygon"])
def test_coordinates_that_are_no_positions_are_refused(tmp_path, kind, bad):
    ring = f"[[1, 2], [3, {bad}], [5, 1], [1, 2]]" if bad != "true, [1]" else "[[1, 2], [3], true]"
    rings = f"[{ring}]" if kind == "Polygon" else f"[[{ring}]]"
    text = f'{{"type": "Feature", "geometry": {{"type": "{kind}", "coordinates": {rings}}}}}'
    fails(tmp_path, text, "feature 1 has coordinates that are no positions", name="a.geojson")


@pytest.mark.parametrize("ring", ['["12", "34", "56", "78"]', "[[1], [2], [3], [4], [5], [6]]", '"12345678"',
                                  '[["1", "2"], ["9", "2"], ["9", "9"]]', "[[true, 1], [9, true], [9, 9]]",
                                  "[[[1, 2], [3, 4]], [[5, 6], [7, 8]], [[1, 1], [1, 2]]]"])  # fmt: skip
def test_what_could_be_taken_for_positions_is_refused(tmp_path, ring):
    text = f'{{"type": "Feature", "geometry": {{"type": "Polygon", "coordinates": [{ring}]}}}}'
    fails(tmp_path, text, "feature 1 has coordinates that are no positions", name="a.geojson")


@pytest.mark.parametrize("coordinates", ["null", "3", "[3]", "[[3]]", '"abc"', "{}", '{"a": 1}'])
def test_coordinates_of_another_structure_are_refused(tmp_path, coordinates):
    text = f'{{"type": "Feature", "geometry": {{"type": "Polygon", "coordinates": {coordinates}}}}}'
    fails(tmp_path, text, "", name="a.geojson")


@pytest.mark.parametrize("name", ["a.xml", "a.geojson"])
def test_large_files_and_many_regions_are_refused(tmp_path, monkeypatch, name):
    text = xml([xml_region([])] * 70_000) if name == "a.xml" else collection([feature([])] * 70_000)
    fails(tmp_path, text, "65535", name=name)
    monkeypatch.setattr("bundle.prepare.outlines.MAX_BYTES", 1000)
    fails(tmp_path, text, "expected at most 1,000: the annotation of a whole slide?", name=name)
