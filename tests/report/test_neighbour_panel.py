import numpy as np
import pytest
from pictures import check_png
from PIL import Image

from bundle.report import neighbour_panel


def side(case, channels=1, **about):
    return {"case": case, "image": np.random.default_rng(0).uniform(-1, 1, (channels, 16, 16)), **about}


def example(kind, channels=1, other=True):
    found = {"kind": kind, "distance": 0.1, "between": 0.3 if other else None}
    return found | {
        "synthetic": side("CS_$x$_0", channels, slice=3),
        "nearest": side("a" * 60, channels, place=[0, 16]),
        "other": side("b", channels) if other else None,
    }


@pytest.mark.parametrize("channels", [1, 3])
def test_panel(channels, tmp_path):
    sizes = []
    for number, kinds in enumerate([["any patient"], ["any patient", "other patients"], ["any patient"] * 3]):
        path = tmp_path / f"{number}.png"
        neighbour_panel([example(kind, channels) for kind in kinds], path)
        with Image.open(path) as image:
            image.load()
            sizes.append(image.size)
    (width, height), (two_blocks, _), (_, three_rows) = sizes
    assert two_blocks > 1.8 * width
    assert three_rows > 2.4 * height


def test_the_three_images_stand_in_the_order_of_their_headings(tmp_path):
    shades = {"synthetic": -1.0, "nearest": 0.0, "other": 0.5}
    shown = example("any patient")
    for key, value in shades.items():
        shown[key] = side(key) | {"image": np.full((1, 16, 16), value)}
    neighbour_panel([shown], tmp_path / "panel.png")
    pixels = check_png(tmp_path / "panel.png")
    places = []
    for value in shades.values():
        grey = np.round(255 * (value + 1) / 2)
        _, columns = np.nonzero((np.abs(pixels - grey) <= 1).all(axis=-1))
        places.append(np.median(columns) / pixels.shape[1])
    np.testing.assert_allclose(places, [1 / 6, 1 / 2, 5 / 6], atol=0.05)


def test_a_real_image_without_another_patient_and_no_examples(tmp_path):
    neighbour_panel([example("other patients", other=False)], tmp_path / "one.png")
    neighbour_panel([], tmp_path / "none.png")
    assert {path.name for path in tmp_path.iterdir()} == {"one.png", "none.png"}


def test_an_unknown_kind(tmp_path):
    with pytest.raises(ValueError, match="kind 'all', expected one of any patient, other patients"):
        neighbour_panel([example("all")], tmp_path / "panel.png")
