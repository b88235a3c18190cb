"""Histology tiles: colours of any depth to 8-bit RGB, annotations of any kind to instance maps, and their match."""

import zlib

import numpy as np
import pytest
import scipy.io
import SimpleITK as sitk
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter

from bundle.data.errors import DataError
from bundle.data.tiles import MIN_NUCLEI, check_pair, read_picture, read_pixels, read_tile, stain_contrast
from bundle.prepare.annotations import read_annotation


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)


def save(path, pixels):
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=pixels.ndim == 3), str(path))
    return path


def fails(read, *texts):
    with pytest.raises(DataError) as caught:
        read()
    for text in texts:
        assert str(text) in str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_8_bits_are_taken_as_they_are(tmp_path, rgb, suffix):
    pixels, notes = read_tile(save(tmp_path / f"a{suffix}", rgb))
    np.testing.assert_array_equal(pixels, rgb)
    assert pixels.dtype == np.uint8
    assert notes == []


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits(tmp_path, rgb, suffix):
    path = tmp_path / f"a{suffix}"
    for factor in (257, 256):
        pixels, notes = read_tile(save(path, rgb.astype(np.uint16) * factor))
        np.testing.assert_array_equal(pixels, rgb)
        assert notes == ["16 to 8 bits"]
    wide = np.random.default_rng(1).integers(0, 65536, (9, 8, 3)).astype(np.uint16)
    wide[0, 0] = 0, 65535, 32768
    pixels, notes = read_tile(save(path, wide))
    assert pixels[0, 0].tolist() == [0, 255, 128]
    assert np.abs(pixels - wide / 257).max() <= 0.5
    pixels, notes = read_tile(save(path, rgb.astype(np.uint16)))
    np.testing.assert_array_equal(pixels, rgb)
    assert notes == ["8-bit values in 16 bits taken as they are"]
    fails(lambda: read_tile(save(path, rgb.astype(np.uint16) * 16)), path, "values up to 4080", "unknown")


LAYOUTS = [{}, {"tile": (16, 16)}, {"planarconfig": "separate"}, {"tile": (16, 16), "compression": "zlib"}]


def save_four(path, rgb, fourth, extrasamples, factor=1, **options):
    """Red, green, blue and a fourth channel, as PNG or TIFF; `extrasamples` is what the TIFF says of it."""
    pixels = np.dstack([rgb, fourth]).astype(np.uint16 if factor > 1 else np.uint8) * factor
    if path.suffix == ".png":
        return save(path, pixels)
    pixels = np.moveaxis(pixels, -1, 0) if "planarconfig" in options else pixels
    tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=[extrasamples], **options)
    return path


@pytest.mark.parametrize("factor", [1, 257])
@pytest.mark.parametrize("options", LAYOUTS)
@pytest.mark.parametrize(("name", "kind"), [("a.png", None), ("a.tif", "unassalpha"), ("a.tif", "assocalpha")])
def test_opacity_is_composed_over_white(tmp_path, rgb, name, kind, options, factor):
    path = tmp_path / name
    alpha = np.full((40, 60), 255, np.uint8)
    pixels, notes = read_tile(save_four(path, rgb, alpha, kind, factor, **options))
    np.testing.assert_array_equal(pixels, rgb)
    assert "opaque fourth channel dropped" in notes
    alpha[:, :20], alpha[:, 20:40] = 0, 51
    stored = np.rint(rgb * (alpha[..., None] / 255)).astype(np.uint8) if kind == "assocalpha" else rgb
    pixels, notes = read_tile(save_four(path, stored, alpha, kind, factor, **options))
    assert "transparent fourth channel composed over white" in notes
    assert (pixels[:, :20] == 255).all()
    np.testing.assert_array_equal(pixels[:, 40:], rgb[:, 40:])
    np.testing.assert_allclose(pixels[:, 20:40], 204 + rgb[:, 20:40] / 5, atol=1.0001)


@pytest.mark.parametrize("fourth", [0, 51, 255])
@pytest.mark.parametrize("factor", [1, 257])
@pytest.mark.parametrize("options", LAYOUTS)
def test_a_fourth_channel_of_no_stated_meaning_is_dropped(tmp_path, rgb, options, factor, fourth):
    fourth = np.full((40, 60), fourth, np.uint8)
    pixels, notes = read_tile(save_four(tmp_path / "a.tif", rgb, fourth, "unspecified", factor, **options))
    np.testing.assert_array_equal(pixels, rgb)
    assert "fourth channel that is no opacity dropped" in notes


@pytest.mark.parametrize("fill", [(255, 255, 255), (180, 150, 160), "transparent", "noise"])
def test_a_tile_without_contrast_is_refused(tmp_path, rgb, fill):
    path = tmp_path / "a.png"
    if fill == "transparent":
        save_four(path, rgb, np.zeros((40, 60)), None)
    elif fill == "noise":
        save(path, (rgb % 2 + np.array([200, 190, 195])).astype(np.uint8))
    else:
        save(path, np.full((40, 60, 3), fill, np.uint8) - (rgb % 200 == 0))
    fails(lambda: read_tile(path), path, "its pixels hardly differ", "expected stained tissue")


def test_jpeg(tmp_path, rgb):
    smooth = np.rint(gaussian_filter(rgb.astype(float), (4, 4, 0))).astype(np.uint8)
    for name in ("a.jpg", "a.JPEG", "a.png"):  # the content tells what it is
        path = tmp_path / name
        Image.fromarray(smooth).save(path, format="JPEG", quality=95)
        assert np.abs(read_tile(path)[0].astype(int) - smooth).max() < 16
    whole = path.read_bytes()
    for kept in (2, 20, len(whole) // 2, len(whole) - 20):
        path.write_bytes(whole[:kept])
        fails(lambda: read_tile(path), path, "unreadable or truncated")
    Image.fromarray(smooth).convert("CMYK").save(path, format="JPEG")
    fails(lambda: read_tile(path), path, "stored as CMYK")
    Image.fromarray(smooth[..., 0]).save(path, format="JPEG")
    fails(lambda: read_tile(path), path, "has one channel")
    fails(lambda: read_annotation(path, (40, 60), "i"), path, "stored with JPEG, which changes values")


def test_grey_images_are_read_as_pictures(tmp_path, rgb):
    for factor in (1, 257):
        grey = rgb[..., 0].astype(np.uint16 if factor > 1 else np.uint8) * factor
        for name in ("a.png", "a.tif"):
            picture = read_picture(save(tmp_path / name, grey))
            np.testing.assert_array_equal(picture.pixels, grey)
            assert (picture.pixels.dtype, picture.opacity, picture.jpeg) == (grey.dtype, None, False)


def test_a_png_of_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = (100_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    fails(lambda: read_picture(path), path, "has 100000 × 100000 pixels", "cut tiles out of a whole slide")


@pytest.mark.parametrize(("suffix", "note"), [(".png", "palette to RGB"), (".tif", "16 to 8 bits")])
def test_palettes_are_expanded(tmp_path, rgb, suffix, note):
    path = tmp_path / f"a{suffix}"
    indexed = Image.fromarray(rgb).quantize(16)
    indexed.save(path)
    pixels, notes = read_tile(path)
    np.testing.assert_array_equal(pixels, np.asarray(indexed.convert("RGB")))
    assert notes == [note]


def test_images_that_are_refused(tmp_path, rgb):
    grey = save(tmp_path / "grey.png", rgb[..., 0])
    fails(lambda: read_tile(grey), grey, "has one channel, expected a colour image")
    equal = save(tmp_path / "equal.tif", rgb[..., :1].repeat(3, axis=2))
    fails(lambda: read_tile(equal), equal, "its channels are equal")
    real = save(tmp_path / "real.tif", rgb.astype(np.float32))
    fails(lambda: read_tile(real), real, "float32, expected 8 or 16 bits")
    pages = tmp_path / "pages.tif"
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([rgb, rgb]), isVector=True), str(pages))
    fails(lambda: read_tile(pages), pages, "expected one image")
    fails(lambda: read_tile(tmp_path / "none.png"), "no such file")


@pytest.mark.parametrize("options", [{"suffix": ".png"}, {"suffix": ".tif", "compression": "raw"},
                                     {"suffix": ".tif", "compression": "tiff_lzw"},
                                     {"suffix": ".tif", "compression": "tiff_adobe_deflate"}])  # fmt: skip
def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path, rgb, options):
    path = tmp_path / f"a{options.pop('suffix')}"
    Image.fromarray(rgb).save(path, **options)
    whole = path.read_bytes()
    for kept in [*range(0, len(whole), len(whole) // 40), len(whole) - 1, len(whole) - 4]:
        path.write_bytes(whole[:kept])
        fails(lambda: read_pixels(path), path, "unreadable or truncated")


def test_a_truncated_tiff_whose_directory_comes_first_is_refused(tmp_path, rgb):
    """Strips after the directory, as scanners write them: libtiff itself would warn and give zeros."""
    strips = [zlib.compress(rgb[top : top + 10].tobytes()) for top in range(0, 40, 10)]
    head, entries = 8, 9
    data = head + 2 + entries * 12 + 4
    bits, offsets, sizes = data, data + 6, data + 22
    start = sizes + 16
    positions = [start + sum(map(len, strips[:index])) for index in range(4)]
    tags = [(256, 3, 1, 60), (257, 3, 1, 40), (258, 3, 3, bits), (259, 3, 1, 8), (262, 3, 1, 2), (273, 4, 4, offsets),
            (277, 3, 1, 3), (278, 3, 1, 10), (279, 4, 4, sizes)]  # fmt: skip
    content = b"II*\0" + np.uint32(head).tobytes() + np.uint16(entries).tobytes()
    for tag, kind, count, value in tags:
        content += np.array([tag, kind], np.uint16).tobytes() + np.array([count, value], np.uint32).tobytes()
    content += bytes(4) + np.full(3, 8, np.uint16).tobytes()
    content += np.array(positions, np.uint32).tobytes() + np.array([len(s) for s in strips], np.uint32).tobytes()
    content += b"".join(strips)
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    np.testing.assert_array_equal(read_pixels(path), rgb)
    for kept in (positions[3] + 1, positions[2] - 1, len(content) - 1, start):
        path.write_bytes(content[:kept])
        fails(lambda: read_pixels(path), path, "unreadable or truncated")


def labels():
    """Three nuclei: 1 and 3 touch; 3 is in two pieces."""
    values = np.zeros((40, 60), np.uint16)
    values[2:8, 2:8], values[20:30, 40:50], values[2:8, 8:12], values[35:38, 5:9] = 1, 300, 3, 3
    return values


def numbered():
    values = labels()
    return np.where(values == 300, 3, np.where(values == 3, 2, values))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy", "a.mat", "real.npy", "other.mat"])
def test_instance_maps_keep_their_objects(tmp_path, name):
    path = tmp_path / name
    if name == "a.mat":
        scipy.io.savemat(path, {"inst_map": labels().astype(float), "type_map": labels(), "inst_type": np.ones((3, 1))})
    elif name == "other.mat":
        scipy.io.savemat(path, {"nuclei": labels(), "n": 3, "names": np.array(["a"])})
    elif name.endswith(".npy"):
        np.save(path, labels().astype(np.float64 if name == "real.npy" else np.int32))
    else:
        save(path, labels())
    found = read_annotation(path, (40, 60), "i.tif")
    np.testing.assert_array_equal(found.instances, numbered())
    assert (found.instances.dtype, found.notes, found.counts) == (np.uint16, [], None)


@pytest.mark.parametrize("value", [1, 255])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
def test_masks_fall_into_connected_pieces(tmp_path, suffix, value):
    mask = (labels() > 0).astype(np.uint8) * value
    mask[30, 50] = value  # meets a nucleus at a corner only
    path = tmp_path / f"a{suffix}"
    np.save(path, mask) if suffix == ".npy" else save(path, mask)
    found = read_annotation(path, (40, 60), "i.tif")
    assert found.notes == ["mask: touching nuclei are one object"]
    assert found.instances.max() == 4
    assert found.instances[30, 50] not in (0, found.instances[29, 49])
    np.testing.assert_array_equal(found.instances > 0, mask > 0)


def test_masks_of_one_bit(tmp_path):
    for name in ("a.png", "a.tif"):
        Image.fromarray(labels() > 0).save(tmp_path / name)
        assert read_annotation(tmp_path / name, (40, 60), "i.tif").instances.max() == 3


def test_annotations_that_are_refused(tmp_path, rgb):
    def refused(values, *texts, shape=(40, 60)):
        path = tmp_path / "a.npy"
        np.save(path, values)
        fails(lambda: read_annotation(path, shape, "i.tif"), path, *texts)

    refused(labels(), "60×40 pixels, image i.tif has 40×60 pixels", "expected the same size", shape=(60, 40))
    refused(np.zeros((40, 60), int), "holds no nucleus")
    refused(labels().astype(int) - 1, "holds values from -1")
    refused(labels() / 2, "holds fractions")
    refused(np.full((40, 60), np.nan), "holds fractions")
    refused(labels()[None], "shape (1, 40, 60)")
    refused(np.full((40, 60), "a"), "expected 2-D whole numbers")
    refused(np.arange(70000).reshape(100, 700), "69999 objects, expected at most 65535", shape=(100, 700))
    refused(np.array([{}], dtype=object), "unreadable", "Python objects")
    colours = save(tmp_path / "c.png", rgb)
    fails(lambda: read_annotation(colours, (40, 60), "i"), colours, "(40, 60, 3), expected one channel")
    text = tmp_path / "a.csv"
    text.write_text("1", encoding="utf-8")
    fails(lambda: read_annotation(text, (40, 60), "i"), "of unknown kind, expected an annotation in .xml, .geojson")
    fails(lambda: read_annotation(tmp_path / "none.mat", (40, 60), "i"), "none.mat: no such file")


def test_maps_that_number_no_nuclei(tmp_path):
    """Kinds of nuclei, and masks with soft edges: each value lies in many pieces."""
    _, instances = tissue(0)
    for values in (np.where(instances > 0, instances % 3 + 1, 0), soft(instances > 0)):
        path = save(tmp_path / "a.png", values.astype(np.uint8))
        fails(
            lambda path=path: read_annotation(path, (200, 200), "i"), path, "pieces, expected a value for each nucleus"
        )
    halves = np.zeros((40, 60), np.uint8)
    halves[2:5, 2:5], halves[20:22, 2:5], halves[30:32, 30:32] = 1, 1, 2
    assert read_annotation(save(tmp_path / "b.png", halves), (40, 60), "i").instances.max() == 2


def soft(mask):
    return np.rint(255 * gaussian_filter(mask.astype(float), 1))


def test_mat_files_that_are_refused(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"a": labels(), "b": labels()})
    fails(lambda: read_annotation(path, (40, 60), "i"), path, "holds the 2-D variables a, b, expected inst_map")
    scipy.io.savemat(path, {"n": 3})
    fails(lambda: read_annotation(path, (40, 60), "i"), path, "(none)")
    path.write_bytes(path.read_bytes()[:150])
    fails(lambda: read_annotation(path, (40, 60), "i"), path, "unreadable")
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(600))
    fails(lambda: read_annotation(path, (40, 60), "i"), path, "unreadable")


def outlines(path, shift=0, number=8):
    boxes = [(4 + 7 * index + shift, 5 + 4 * index) for index in range(number)]
    regions = "".join(
        "<Region><Vertices>"
        + "".join(f'<Vertex X="{x + dx}" Y="{y + dy}"/>' for dx, dy in ((0, 0), (5, 0), (5, 3), (0, 3)))
        + "</Vertices></Region>"
        for x, y in boxes
    )
    path.write_text(f"<Annotations><Annotation><Regions>{regions}</Regions></Annotation></Annotations>")
    return path


def test_outlines_outside_of_the_tile(tmp_path):
    path = outlines(tmp_path / "a.xml")
    assert read_annotation(path, (40, 60), "i.tif").counts.instances == 8
    outlines(path, shift=-6)  # the first is cut through
    assert read_annotation(path, (40, 60), "i.tif").counts.clipped == 1
    outlines(path, shift=30)
    extents = "x runs from 34 to 88 and y from 5 to 36, expected 60×40 pixels; the annotation of another tile?"
    fails(lambda: read_annotation(path, (40, 60), "i.tif"), path, "4 of 8 regions lie outside of image i.tif", extents)
    outlines(path, number=0)
    fails(lambda: read_annotation(path, (40, 60), "i.tif"), path, "holds no nucleus")


def tissue(seed, count=MIN_NUCLEI + 5):
    """A tile whose nuclei take more red light, and its instance map."""
    rng = np.random.default_rng(seed)
    instances = np.zeros((200, 200), np.uint16)
    y, x = np.mgrid[:200, :200]
    while instances.max() < count:
        disc = (y - rng.uniform(0, 200)) ** 2 + (x - rng.uniform(0, 200)) ** 2 < 49
        if not instances[disc].any():
            instances[disc] = instances.max() + 1
    image = np.array([205, 150, 190]) - (instances > 0)[..., None] * np.array([60, 70, 30])
    return np.clip(image + rng.normal(0, 25, (200, 200, 3)), 0, 255).astype(np.uint8), instances


def test_annotated_nuclei_must_be_stained(tmp_path):
    image, instances = tissue(0)
    _, other = tissue(1)
    assert stain_contrast(image, instances) > 1
    check_pair(image, instances, tmp_path / "i.tif", tmp_path / "a.xml")
    for wrong in (other, instances.T):
        fails(lambda wrong=wrong: check_pair(image, wrong, tmp_path / "i.tif", tmp_path / "a.xml"),
              "a.xml: its nuclei are not darker", "i.tif", "--accept_mismatch")  # fmt: skip


def test_nothing_to_compare():
    image, instances = tissue(0)
    assert stain_contrast(image, np.zeros_like(instances)) is None
    assert stain_contrast(image, np.ones_like(instances)) is None
    assert stain_contrast(np.full_like(image, 200), instances) == 0
    contrast, notes = check_pair(255 - image, instances, "i", "a", accept_mismatch=True)
    assert (contrast < -1, notes) == (True, ["nuclei no darker than their surroundings, accepted"])


@pytest.mark.parametrize("count", [3, MIN_NUCLEI - 1, MIN_NUCLEI + 5])
def test_objects_that_are_lighter_than_what_is_around_them_are_refused(count):
    image, instances = tissue(0)
    instances = np.where(instances <= count, instances, 0)
    check_pair(image, instances, "i", "a")
    fails(lambda: check_pair(255 - image, instances, "i.tif", "a.png"),
          "a.png: its nuclei are not darker", "a mask whose nuclei are 0?", "--accept_mismatch")  # fmt: skip


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy", "a.mat"])
@pytest.mark.parametrize("pieces", [1, 2, 30])
def test_inverted_masks_are_refused(tmp_path, name, pieces):
    """Also where the background falls into pieces, so that none is large."""
    image, instances = tissue(0)
    mask = np.where(instances > 0, 0, 255).astype(np.uint8)
    if pieces > 1:
        mask[:, :: 200 // pieces] = 0
    path = tmp_path / name
    if name == "a.npy":
        np.save(path, mask)
    elif name == "a.mat":
        scipy.io.savemat(path, {"inst_map": mask})
    else:
        save(path, mask)
    found = read_annotation(path, (200, 200), "i.tif").instances
    fails(lambda: check_pair(image, found, "i.tif", path), path, "a mask whose nuclei are 0?")
    assert check_pair(image, found, "i.tif", path, accept_mismatch=True)[1][0].endswith(", accepted")


def test_objects_as_large_as_no_nucleus_are_refused():
    image, instances = tissue(0)
    y, x = np.mgrid[:200, :200]
    frame = np.where(instances > 0, instances, instances.max() + 1)
    fails(
        lambda: check_pair(image, frame, "i.tif", "a.xml"), "a.xml: one of its 26 nuclei covers", "% of i.tif: a frame"
    )
    small = np.where((x % 8 < 2) & (y % 8 < 2), 1 + y // 8 * 25 + x // 8, 0).astype(np.uint16)
    small[:60, :60] = 1
    fails(lambda: check_pair(image, small, "i", "a"), "times as large as their median", "a tissue's outline")
