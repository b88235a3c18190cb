import numpy as np
import pytest
from pictures import check_png, has_colour

from bundle.report import drawing, extremes_grid


def make_case(name, shape=(48, 40), **changes):
    truth = np.zeros(shape, dtype=bool)
    truth[10:30, 5:25] = True
    image = np.random.default_rng(0).uniform(-1, 1, shape)
    return {"case": name, "image": image, "truth": truth, "prediction": np.roll(truth, 3, 1), "score": 0.7} | changes


def test_extremes_grid(tmp_path):
    rows = [
        {"setting": "real_all", "worst": make_case("$a"), "median": make_case("b"), "best": make_case("c" * 60)},
        {
            "setting": "asyndgan",
            "worst": make_case("a", prediction=None, score=None),
            "best": make_case("tall", (60, 20)),
        },
        {"setting": "syn_all"},
    ]
    extremes_grid(rows, tmp_path / "extremes.png")
    pixels = check_png(tmp_path / "extremes.png")
    assert has_colour(pixels, drawing.TRUTH_COLOUR)
    assert has_colour(pixels, drawing.PREDICTION_COLOUR)
    extremes_grid([], tmp_path / "empty.png")
    check_png(tmp_path / "empty.png")


def test_a_mask_that_does_not_fit_is_named(tmp_path):
    row = {"setting": "real_all", "worst": make_case("c7", prediction=np.zeros((3, 3), bool))}
    with pytest.raises(ValueError, match=r"c7.*segmentation has shape \(3, 3\)"):
        extremes_grid([row], tmp_path / "extremes.png")
    assert list(tmp_path.iterdir()) == []
