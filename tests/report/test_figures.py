import numpy as np
import pytest
from PIL import Image

from bundle.report import figures
from bundle.report.figures import (
    loss_curves,
    metric_boxplot,
    segmentation_panel,
    synthesis_grid,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def check_png(path, min_width=300):
    """The file is a whole PNG of sensible size, with something drawn; returns it as an RGB array."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        image.load()
        assert min_width <= image.width <= 3000
        assert 60 <= image.height <= 6000
        pixels = np.asarray(image.convert("RGB"))
    assert path.stat().st_size < 1_000_000
    assert (pixels[0, 0] == 255).all()
    assert pixels.std() > 0
    assert [p.name for p in path.parent.iterdir() if ".partial." in p.name] == []
    return pixels


def has_colour(pixels, colour):
    wanted = np.round(255 * np.array(figures.to_rgb(colour)))
    return bool((np.abs(pixels - wanted).max(-1) <= 2).sum() > 20)


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
    assert has_colour(pixels, figures.LABEL_COLOURS[max(labels - 2, 0)])


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


def test_condition_colours():
    condition = np.zeros((3, 2, 2))
    condition[2] = 1
    condition[0, 0, 0] = 1
    condition[2, 1, 1] = 0
    drawn = figures._condition_rgb(condition, outline=True)
    np.testing.assert_allclose(drawn[0, 0], figures.to_rgb(figures.LABEL_COLOURS[0]))
    np.testing.assert_allclose(drawn[0, 1], figures.OUTLINE_GREY)
    np.testing.assert_allclose(drawn[1, 1], 0)
    plain = figures._condition_rgb(condition, outline=False)
    np.testing.assert_allclose(plain[0, 1], figures.to_rgb(figures.LABEL_COLOURS[2]))


def test_objects_that_touch_are_outlined_apart():
    instances = np.array([[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 0, 2]])
    assert figures._separated(instances).astype(int).tolist() == [[1, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 1]]
    mask = np.array([[True, True], [False, True]])
    np.testing.assert_array_equal(figures._separated(mask), mask)


def test_images_are_scaled_clipped_and_survive_nan():
    drawn = figures._image_rgb(np.array([[-1.0, 0.0], [3.0, np.nan]]))
    np.testing.assert_allclose(drawn[..., 0], [[0, 0.5], [1, 0]])
    assert figures._image_rgb(np.stack([np.full((2, 2), v) for v in (-1, 0, 1)]))[0, 0].tolist() == [0, 0.5, 1]
    with pytest.raises(ValueError, match=r"\(2,\)"):
        figures._image_rgb(np.zeros(2))


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
    assert has_colour(pixels, figures.PALETTE[0])


@pytest.mark.parametrize("curves", [{}, {"a": {"loss/CS/l1": (np.array([1]), np.array([np.nan]))}}])
def test_loss_curves_without_values(tmp_path, curves):
    loss_curves(curves, tmp_path / "loss.png")
    check_png(tmp_path / "loss.png")


def test_smoothing_keeps_constants_and_means():
    np.testing.assert_allclose(figures._smooth(np.full(200, 3.0)), 3.0)
    ramp = np.arange(200.0)
    np.testing.assert_allclose(figures._smooth(ramp)[10:-10], ramp[10:-10])
    assert len(figures._smooth(np.arange(5.0))) == 5


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
    assert has_colour(pixels, figures.TRUTH_COLOUR)
    assert has_colour(pixels, figures.PREDICTION_COLOUR)


def test_segmentation_panel_names_what_does_not_fit(tmp_path):
    case = {"case": "c7", "image": np.zeros((8, 8)), "truth": np.zeros((8, 9), bool), "predictions": {}, "scores": {}}
    with pytest.raises(ValueError, match=r"c7.*reference"):
        segmentation_panel([case], tmp_path / "seg.png")
    assert list(tmp_path.iterdir()) == []
    segmentation_panel([], tmp_path / "empty.png")
    check_png(tmp_path / "empty.png")


def test_boxplot(tmp_path):
    results = {
        "settings": {
            "real_all": {"dice": {"per_case": {"a": [0.5, 0.7], "b": [0.9], "c": [None]}}},
            "real_subset/$": {"dice": {"per_case": {"a": [float("inf")]}}},
            "asyndgan": {"dice": {"per_case": {"a": [0.4]}}},
            "syn_all": None,
        }
    }
    metric_boxplot(results, "dice", tmp_path / "box.png")
    check_png(tmp_path / "box.png")
    assert figures._case_means(results["settings"]["real_all"]["dice"])[:2] == pytest.approx([0.6, 0.9])
    metric_boxplot({}, "hd95", tmp_path / "empty.png")
    check_png(tmp_path / "empty.png")


def test_large_figures_are_shrunk_without_losing_the_colours_that_mean_something(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(figures, "MAX_BYTES", 150_000)
    truth = np.zeros((128, 128), dtype=bool)
    truth[30:90, 30:90] = True
    case = {"case": "rgb", "image": rng.uniform(-1, 1, (3, 128, 128)), "truth": truth, "scores": {}}
    segmentation_panel([{**case, "predictions": {"asyndgan": np.roll(truth, 9, 0)}}], tmp_path / "seg.png")
    assert (tmp_path / "seg.png").stat().st_size < 150_000
    pixels = check_png(tmp_path / "seg.png")
    assert has_colour(pixels, figures.TRUTH_COLOUR)
    assert has_colour(pixels, figures.PREDICTION_COLOUR)


def test_pyplot_is_not_touched():
    import subprocess
    import sys

    code = "import sys, bundle.report; assert not {'matplotlib.pyplot', 'torch', 'monai'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
