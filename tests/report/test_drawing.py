import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from pictures import check_png, has_colour

from bundle.report import drawing, segmentation_panel


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_condition_colours():
    condition = np.zeros((3, 2, 2))
    condition[2] = 1
    condition[0, 0, 0] = 1
    condition[2, 1, 1] = 0
    drawn = drawing.condition_rgb(condition, outline=True)
    np.testing.assert_allclose(drawn[0, 0], to_rgb(drawing.LABEL_COLOURS[0]))
    np.testing.assert_allclose(drawn[0, 1], drawing.OUTLINE_GREY)
    np.testing.assert_allclose(drawn[1, 1], 0)
    plain = drawing.condition_rgb(condition, outline=False)
    np.testing.assert_allclose(plain[0, 1], to_rgb(drawing.LABEL_COLOURS[2]))


def test_images_are_scaled_clipped_and_survive_nan():
    drawn = drawing.image_rgb(np.array([[-1.0, 0.0], [3.0, np.nan]]))
    np.testing.assert_allclose(drawn[..., 0], [[0, 0.5], [1, 0]])
    assert drawing.image_rgb(np.stack([np.full((2, 2), v) for v in (-1, 0, 1)]))[0, 0].tolist() == [0, 0.5, 1]
    with pytest.raises(ValueError, match=r"\(2,\)"):
        drawing.image_rgb(np.zeros(2))


def test_large_figures_are_shrunk_without_losing_the_colours_that_mean_something(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(drawing, "MAX_BYTES", 150_000)
    truth = np.zeros((128, 128), dtype=bool)
    truth[30:90, 30:90] = True
    case = {"case": "rgb", "image": rng.uniform(-1, 1, (3, 128, 128)), "truth": truth, "scores": {}}
    segmentation_panel([{**case, "predictions": {"asyndgan": np.roll(truth, 9, 0)}}], tmp_path / "seg.png")
    assert (tmp_path / "seg.png").stat().st_size < 150_000
    pixels = check_png(tmp_path / "seg.png")
    assert has_colour(pixels, drawing.TRUTH_COLOUR)
    assert has_colour(pixels, drawing.PREDICTION_COLOUR)


def test_pyplot_is_not_touched():

    code = "import sys, bundle.report; assert not {'matplotlib.pyplot', 'torch', 'monai'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
