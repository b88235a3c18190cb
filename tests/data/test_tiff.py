"""TIFF in the ways that it is written: same numbers, or a refusal that names what is not read."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from bundle.data import tiff
from bundle.data.errors import DataError
from bundle.data.tiles import read_picture, read_tile

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (48, 80, 3)).astype(np.uint8)
LABELS = RNG.integers(0, 3000, (48, 80))
CODECS = [None, "zlib", "lzw", "packbits", "lzma", "zstd", "jpeg2000", "webp", "png"]


def fails(path, *texts):
    with pytest.raises(DataError) as caught:
        read_picture(path)
    for text in (path, *texts):
        assert str(text) in str(caught.value)


@pytest.mark.parametrize("layout", [{}, {"tile": (16, 32)}, {"rowsperstrip": 7}])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i2", "i4", "i8", "f2", "f4", "f8", ">u2", ">i8", "?"])
@pytest.mark.parametrize("codec", [None, "zlib"])
def test_label_maps_keep_their_numbers(tmp_path, dtype, layout, codec):
    path = tmp_path / "a.tif"
    values = (LABELS % 128 if dtype in ("u1", "f2") else LABELS).astype(dtype)
    tifffile.imwrite(path, values, compression=codec, **layout)
    found = read_picture(path).pixels
    # ITK shows one bit as black and white.
    np.testing.assert_array_equal(found > 0 if dtype == "?" else found, values)


@pytest.mark.parametrize("layout", [{}, {"tile": (16, 32)}, {"planarconfig": "separate"}])
@pytest.mark.parametrize("codec", CODECS)
def test_colours_of_every_codec(tmp_path, codec, layout):
    if codec == "webp" and "planarconfig" in layout:
        pytest.skip("WebP has no single channels")
    path = tmp_path / "a.tif"
    options = {"compressionargs": {"lossless": True}} if codec == "webp" else {}
    pixels = np.moveaxis(RGB, -1, 0) if "planarconfig" in layout else RGB
    tifffile.imwrite(path, pixels, photometric="rgb", compression=codec, **options, **layout)
    np.testing.assert_array_equal(read_tile(path)[0], RGB)


def test_codecs_that_are_not_installed_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff.importlib.util, "find_spec", lambda name: None)
    path = tmp_path / "a.tif"
    for codec, name in (("jpeg2000", "JPEG2000"), ("zstd", "ZSTD"), ("lzma", "LZMA"), ("webp", "WEBP")):
        tifffile.imwrite(path, RGB, photometric="rgb", compression=codec)
        fails(path, f"is compressed with {name}, which needs the package imagecodecs", "asyndgan-bundle[tiff]")
    for codec in (None, "zlib", "lzw", "packbits"):  # ITK has these
        tifffile.imwrite(path, RGB, photometric="rgb", compression=codec)
        np.testing.assert_array_equal(read_picture(path).pixels, RGB)


@pytest.mark.parametrize("layout", [{}, {"tile": (16, 32)}])
@pytest.mark.parametrize("codec", [None, "zlib", "lzma", "zstd", "jpeg2000"])
def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path, codec, layout):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, LABELS.astype(np.int64 if codec != "jpeg2000" else np.uint16), compression=codec, **layout)
    whole = path.read_bytes()
    for kept in [*range(0, len(whole), len(whole) // 12), len(whole) - 1]:
        path.write_bytes(whole[:kept])
        fails(path, "unreadable or truncated")


def test_palettes_in_tiles_are_expanded(tmp_path):
    path = tmp_path / "a.tif"
    colours = RNG.integers(0, 256, (3, 256)).astype(np.uint16) * 257
    for layout in ({}, {"tile": (16, 16)}):
        tifffile.imwrite(path, RGB[..., 0], photometric="palette", colormap=colours, **layout)
        np.testing.assert_array_equal(read_tile(path)[0], (colours >> 8).T[RGB[..., 0]])


@pytest.mark.parametrize("reduced", [False, True])
def test_one_image_and_its_reduced_copies(tmp_path, reduced):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(RGB, photometric="rgb")
        file.write(RGB[::2, ::2], photometric="rgb", subfiletype=1 if reduced else 0)
    if reduced:
        np.testing.assert_array_equal(read_picture(path).pixels, RGB)
    else:
        fails(path, "holds 2 images, expected one image")


@pytest.mark.parametrize("axes", ["YXS", "SYX", "CYX"])
def test_ome_tiff(tmp_path, axes):
    path = tmp_path / "a.ome.tif"
    pixels = RGB if axes == "YXS" else np.moveaxis(RGB, -1, 0)
    photometric = "minisblack" if axes == "CYX" else "rgb"
    tifffile.imwrite(path, pixels, photometric=photometric, metadata={"axes": axes})
    np.testing.assert_array_equal(read_tile(path)[0], RGB)
    tifffile.imwrite(path, np.zeros((5, 8, 8), np.uint8), photometric="minisblack", metadata={"axes": "ZYX"})
    fails(path, "holds 5 images, expected one image")


def test_svs(tmp_path):
    """The first page is the slide; a thumbnail, a label and other levels follow."""
    path = tmp_path / "a.svs"
    with tifffile.TiffWriter(path) as file:
        for index, pixels in enumerate((RGB, RGB[::4, ::4], RGB[::8, ::8])):
            description = f"Aperio Image Library v12.0\r\n{index}" if not index else "Aperio Image Library"
            file.write(pixels, photometric="rgb", compression="jpeg2000", tile=(16, 16), description=description,
                       metadata=None)  # fmt: skip
    np.testing.assert_array_equal(read_tile(path)[0], RGB)


@pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}, {"rowsperstrip": 7}])
def test_missing_tiles_are_not_filled_with_zeros(tmp_path, layout):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, LABELS, **layout)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["ImageLength"].overwrite(480, dtype="I")
    fails(path, "unreadable or truncated")


@pytest.mark.parametrize("kind", ["CMYK", "LAB"])
def test_colours_that_are_not_rgb_are_named(tmp_path, kind):
    path = tmp_path / "a.tif"
    Image.fromarray(RGB).convert(kind).save(path)
    fails(path, "its colours are stored as", "expected RGB")


@pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}])
def test_sizes_are_checked_before_anything_is_decoded(tmp_path, layout):
    path = tmp_path / "a.tif"
    for tag, size in (("ImageWidth", 10**7), ("ImageLength", 2**31)):
        tifffile.imwrite(path, LABELS, **layout)
        with tifffile.TiffFile(path, mode="r+") as file:
            file.pages[0].tags[tag].overwrite(size, dtype="I")
        fails(path, f"{size}", f"expected a tile of at most {tiff.MAX_PIXELS:,}")
