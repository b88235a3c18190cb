"""What the tests of figures share."""

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image


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
    wanted = np.round(255 * np.array(to_rgb(colour)))
    return bool((np.abs(pixels - wanted).max(-1) <= 2).sum() > 20)
