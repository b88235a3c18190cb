import numpy as np
import pytest
from pictures import check_png, has_colour

from bundle.report import drawing, loss_curves, losses


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_loss_curves(tmp_path, rng):
    steps = np.arange(300)
    noisy = rng.normal(size=300)
    noisy[7] = np.nan
    curves = {
        "AsynDGAN": {f"loss/{s}/{t}": (steps, noisy) for s in ("CS", "D$U") for t in ("adversarial", "l1")},
        "Syn-All": {"loss/all/l1": (steps[:1], noisy[:1]), "lr": (steps, noisy)},
        "Not started": {},
    }
    loss_curves(curves, tmp_path / "loss.png")
    pixels = check_png(tmp_path / "loss.png")
    assert has_colour(pixels, drawing.PALETTE[0])


@pytest.mark.parametrize("curves", [{}, {"a": {"loss/CS/l1": (np.array([1]), np.array([np.nan]))}}])
def test_loss_curves_without_values(tmp_path, curves):
    loss_curves(curves, tmp_path / "loss.png")
    check_png(tmp_path / "loss.png")


def test_smoothing_keeps_constants_and_means():
    np.testing.assert_allclose(losses._smooth(np.full(200, 3.0)), 3.0)
    ramp = np.arange(200.0)
    np.testing.assert_allclose(losses._smooth(ramp)[10:-10], ramp[10:-10])
    assert len(losses._smooth(np.arange(5.0))) == 5
