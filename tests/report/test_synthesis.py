import numpy as np
import pytest
from pictures import check_png, has_colour

from bundle.report import drawing, synthesis_grid


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def sample(rng, channels, labels, size=32):
    condition = np.zeros((labels, size, size))
    condition[-1, 4:-4, 4:-4] = 1
    condition[:-1, 10:20, 10:20] = 1
    images = rng.uniform(-1, 1, (2, channels, size, size))
    return {"condition": condition, "synthetic": images[0], "real": images[1]}


@pytest.mark.parametrize(("channels", "labels"), [(1, 2), (3, 1), (4, 4)])
def test_synthesis_grid(tmp_path, rng, channels, labels):
    rows = [{"site": s, "samples": [sample(rng, channels, labels) for _ in range(2)]} for s in ("CS", "a $x$ <site>")]
    names = [f"label_{n}$" for n in range(labels)]
    synthesis_grid(rows, tmp_path / "grid.png", labels=names, outline=labels > 1)
    pixels = check_png(tmp_path / "grid.png")
    assert has_colour(pixels, drawing.LABEL_COLOURS[max(labels - 2, 0)])


def test_synthesis_grid_with_gaps(tmp_path, rng):
    partial = {"condition": sample(rng, 1, 2)["condition"], "real": None}
    rows = [
        {"site": "one", "samples": [sample(rng, 1, 2)] * 5},
        {"site": "two", "samples": [partial]},
        {"site": "none", "samples": []},
    ]
    synthesis_grid(rows, tmp_path / "grid.png")
    check_png(tmp_path / "grid.png")
    synthesis_grid([], tmp_path / "empty.png")
    check_png(tmp_path / "empty.png")


def test_without_real_images_they_are_not_even_looked_at(tmp_path, rng):
    rows = [{"site": "CS", "samples": [sample(rng, 1, 2)] * 2}]
    synthesis_grid(rows, tmp_path / "grid.png", real=False)
    for one in rows[0]["samples"]:
        one["real"] = "no image"
    synthesis_grid(rows, tmp_path / "again.png", real=False)
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "grid.png").read_bytes()
    with pytest.raises(ValueError):
        synthesis_grid(rows, tmp_path / "grid.png")
