import numpy as np
import pytest
from PIL import Image

from bundle.report import histogram_row

SETTINGS = ["syn_all", "syn_subset/1", "asyndgan"]


def make_panels(values):
    return {setting: {"component 1": values, "component 2": values + 3} for setting in SETTINGS}


def test_a_row_of_panels_with_the_same_axes(tmp_path):
    values = np.random.default_rng(0).normal(size=500)
    path = tmp_path / "new" / "row.png"
    histogram_row(make_panels(values), np.concatenate([values, values + 3]), path, scores={"asyndgan": 0.02})
    with Image.open(path) as image:
        assert image.width > 2 * image.height
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 10
    wide = tmp_path / "wide.png"
    histogram_row(make_panels(values) | {"syn_subset/2": {"component 2": values + 3}}, values, wide)
    with Image.open(wide) as image:
        assert image.width > 1100


def test_the_weights_of_the_data_are_shares(tmp_path):
    values = np.random.default_rng(0).normal(size=400)
    data = np.concatenate([values, values + 3])
    drawn = []
    for number, weights in enumerate([np.r_[np.ones(400), np.zeros(400)], np.r_[np.full(400, 9), np.zeros(400)], None]):
        histogram_row(make_panels(values), data, tmp_path / f"{number}.png", weights=weights)
        drawn.append((tmp_path / f"{number}.png").read_bytes())
    assert drawn[0] == drawn[1] != drawn[2]


def test_without_the_outline_the_data_are_not_drawn(tmp_path):
    values = np.random.default_rng(0).normal(size=400)
    data = np.concatenate([values, values + 3])
    histogram_row(make_panels(values), data, tmp_path / "a.png", outline=False)
    histogram_row(make_panels(values), np.concatenate([data, data]), tmp_path / "b.png", outline=False)
    histogram_row(make_panels(values), data, tmp_path / "c.png")
    drawn = [(tmp_path / f"{name}.png").read_bytes() for name in "abc"]
    assert drawn[0] == drawn[1] != drawn[2]


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="at least one panel"):
        histogram_row({}, np.ones(3), tmp_path / "a.png")
    with pytest.raises(ValueError, match="some data"):
        histogram_row(make_panels(np.ones(3)), np.array([]), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
