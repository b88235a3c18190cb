import numpy as np
import pytest
from pictures import check_png, has_colour

from bundle.report import drawing, segmentation_panel


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(48, 48), (1, 48, 40), (3, 40, 48)])
def test_segmentation_panel(tmp_path, rng, shape):
    truth = np.zeros(shape[-2:], dtype=bool)
    truth[0:20, 10:30] = True  # touches the edge
    cases = [
        {
            "case": "evil $\\frac{ <case>",
            "image": rng.uniform(-1, 1, shape),
            "truth": truth,
            "predictions": {"real_all": np.roll(truth, 3, 1), "asyndgan": np.zeros_like(truth)},
            "scores": {"real_all": 0.8, "asyndgan": float("nan")},
        },
        {
            "case": "no truth, one setting",
            "image": rng.uniform(-1, 1, shape),
            "truth": np.zeros_like(truth),
            "predictions": {"syn_all": None, "real_subset/CS": np.ones_like(truth)},
            "scores": {},
        },
        {"case": "bare", "image": rng.uniform(-1, 1, shape), "truth": truth, "predictions": {}, "scores": {}},
    ]
    segmentation_panel(cases, tmp_path / "seg.png")
    pixels = check_png(tmp_path / "seg.png")
    assert has_colour(pixels, drawing.TRUTH_COLOUR)
    assert has_colour(pixels, drawing.PREDICTION_COLOUR)


def test_segmentation_panel_names_what_does_not_fit(tmp_path):
    case = {"case": "c7", "image": np.zeros((8, 8)), "truth": np.zeros((8, 9), bool), "predictions": {}, "scores": {}}
    with pytest.raises(ValueError, match=r"c7.*reference"):
        segmentation_panel([case], tmp_path / "seg.png")
    assert list(tmp_path.iterdir()) == []
    segmentation_panel([], tmp_path / "empty.png")
    check_png(tmp_path / "empty.png")
