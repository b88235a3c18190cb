"""Anatomy of a phantom brain: which tissue is where, drawn from smooth random fields. No intensities here.

Coordinates are millimetres from the centre of the head: x to the left, y to the back, z up (as in BraTS).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

# Half axes of the brain: half its width, length and height (adult means, about 140 x 170 x 130 mm)
HALF_AXES = (66.0, 83.0, 64.0)


@dataclass(frozen=True)
class Anatomy:
    """Tissue fractions of a phantom, float32 arrays (x, y, z) in 0..1, and its label map.

    Attributes:
        brain: bool mask.
        csf, grey, white: fractions; they sum to 1 in the brain.
        vessels: bright after contrast agent.
        oedema, core, rim: fractions of tumour tissue, over the others.
        seg: uint8, 0 background, 1 core, 2 oedema, 4 enhancing rim.
    """

    brain: np.ndarray
    csf: np.ndarray
    grey: np.ndarray
    white: np.ndarray
    vessels: np.ndarray
    oedema: np.ndarray
    core: np.ndarray
    rim: np.ndarray
    seg: np.ndarray


def smooth_field(
    rng: np.random.Generator, shape: tuple[int, ...], spacing: tuple[float, ...], millimetres: float
) -> np.ndarray:
    """White noise smoothed by a Gaussian of the given standard deviation in mm; float32, mean 0, deviation 1."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, [millimetres / step for step in spacing], mode="reflect", truncate=3)
    return (noise - noise.mean()) / (noise.std() + 1e-6)


def draw_anatomy(rng: np.random.Generator, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Anatomy:
    """Draw a brain with a tumour.

    Args:
        rng: source of every random draw.
        shape: voxels along x, y, z; each at least 8.
        spacing: voxel size in mm.
    """
    axes = [(np.arange(n, dtype=np.float32) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)

    def field(millimetres: float) -> np.ndarray:
        return smooth_field(rng, shape, spacing, millimetres)

    depth = _depth(rng, x, y, z, field)
    brain = _largest(depth > 0)
    centre, radius = _place_tumour(rng, depth, brain, axes)
    # Mass effect: tissue near the tumour came from nearer to its centre, so midline and ventricles bend away.
    push = [xi - ci for xi, ci in zip((x, y, z), centre, strict=True)]
    distance2 = sum(component**2 for component in push)
    pull = 0.4 * np.exp(-distance2 / (2 * (1.1 * radius) ** 2))
    px, py, pz = (xi - component * pull for xi, component in zip((x, y, z), push, strict=True))

    midline = np.abs(px + 1.5 * np.sin(py / 35 + rng.uniform(0, 6.3)))
    fissure = _below(midline, 1.2, 1.0) * _below(depth, rng.uniform(18, 24), 2.0)
    sulci, ribbon = _folds(depth, field, spacing)
    ventricles = _ventricles(rng, px, py, pz, field)
    nuclei = _nuclei(px, py, pz)
    csf = np.maximum.reduce([0.9 * sulci, 0.9 * fissure, ventricles])
    grey = np.maximum(ribbon, _below(midline, 5.0, 1.2) * _below(depth, 26, 2.0))
    grey = np.maximum(grey, 0.8 * nuclei) * (1 - csf)
    vessels = _below(midline, 1.6, 0.8) * _below(depth, 4, 1.5)

    labels = _tumour(rng, np.sqrt(distance2), radius, ventricles, ribbon, push, field)
    soft = [0.6 / step for step in spacing]
    parts, free = [], np.where(brain, 1.0, 0.0).astype(np.float32)
    for value in (4, 1, 2):
        part = np.minimum(ndimage.gaussian_filter((labels == value).astype(np.float32), soft), free)
        parts.append(part)
        free = free - part
    rim, core, oedema = parts
    seg = np.where(brain, labels, 0).astype(np.uint8)
    return Anatomy(brain, csf, grey, 1 - csf - grey, vessels, oedema, core, rim, seg)


def _below(value: np.ndarray, threshold: float, softness: float) -> np.ndarray:
    """1 where `value` is well below `threshold`, 0 well above; the edge stands for partial volume."""
    return 1 / (1 + np.exp(np.clip((value - threshold) / (softness / 2), -30, 30)))


def _largest(mask: np.ndarray) -> np.ndarray:
    parts, count = ndimage.label(mask)
    return mask if count < 2 else parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])


def _depth(rng: np.random.Generator, x, y, z, field) -> np.ndarray:
    """Approximate distance in mm below the surface of the brain, negative outside."""
    half = [axis * rng.uniform(0.95, 1.04) for axis in HALF_AXES]
    # Widest behind the middle, flatter below than above, with a notch where the hemispheres part.
    width = half[0] * (1 + 0.10 * np.tanh(y / 45) - 0.06 * np.clip(-y / 80, 0, 1) ** 2)
    height = half[2] * np.where(z < 0, 0.86, 1.0)
    radius = (np.abs(x / width) ** 2.2 + np.abs(y / half[1]) ** 2.2 + np.abs(z / height) ** 2.2) ** (1 / 2.2)
    notch = 5.5 * np.exp(-((x / 3.5) ** 2)) * np.clip(np.abs(y) / 70 + np.clip(z, 0, None) / 70, 0, 1)
    return (1 - radius) * 66 + 1.6 * field(14) - notch


def _folds(depth: np.ndarray, field, spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Sulci and cortex: sulci are the sheets where band-passed noise crosses zero, the cortex lies along them."""
    noise = field(4.5) - 0.6 * field(9.0)
    slope = np.sqrt(sum(g**2 for g in np.gradient(noise, *spacing))) + 0.03
    sheet = np.abs(noise) / slope
    reach = 20 + 4 * field(16)
    sulci = np.maximum(_below(sheet, 0.9, 0.9) * _below(depth, reach, 3), _below(depth, 1.0, 1.0))
    ribbon = np.maximum(_below(sheet, 4.0, 1.4) * _below(depth, reach + 4, 3), _below(depth, 4.5, 1.4))
    return sulci, ribbon


def _ventricles(rng: np.random.Generator, x, y, z, field) -> np.ndarray:
    size = rng.uniform(0.85, 1.3)
    wobble = 0.12 * field(8)
    # centre and half axes in mm in one hemisphere: frontal horn, body, occipital horn, temporal horn
    parts = [((9, -24, 5), (5, 15, 10)), ((9, 4, 13), (5.5, 24, 8)), ((18, 34, 4), (5.5, 17, 8)),
             ((28, 12, -14), (4, 17, 5))]  # fmt: skip
    result = _ellipsoid(x, y, z, (0, 3, -6), (2.2, 13, 10), wobble)
    for (cx, cy, cz), half in parts:
        # Horns lean outwards away from the middle.
        lean = cx + 0.12 * np.abs(y - cy)
        axes = [size * axis for axis in half]
        result = np.maximum(result, _ellipsoid(np.abs(x) - lean, y, z, (0, cy, cz), axes, wobble))
    return result


def _nuclei(x, y, z) -> np.ndarray:
    """Thalamus, putamen with pallidum, head of the caudate nucleus."""
    parts = [((11, 8, 0), (8, 14, 10)), ((25, -8, 0), (6, 17, 10)), ((14, -24, 3), (4, 9, 9))]
    return np.maximum.reduce([_ellipsoid(np.abs(x), y, z, centre, half, 0) for centre, half in parts])


def _ellipsoid(x, y, z, centre, half, wobble) -> np.ndarray:
    radius = np.sqrt(sum(((v - c) / h) ** 2 for v, c, h in zip((x, y, z), centre, half, strict=True)))
    return _below((radius + wobble - 1) * min(half), 0, 1.2)


def _place_tumour(rng: np.random.Generator, depth: np.ndarray, brain: np.ndarray, axes) -> tuple[list[float], float]:
    """Centre and mean radius in mm: small to large, anywhere but at the surface and far up or down."""
    radius = float(rng.uniform(15, 34))
    deep = brain & (depth > min(0.55 * radius + 6, 0.6 * float(depth.max())))
    index = rng.choice(np.flatnonzero(deep))
    return [float(axis[i]) for axis, i in zip(axes, np.unravel_index(index, depth.shape), strict=True)], radius


def _tumour(rng, distance, radius, ventricles, ribbon, push, field) -> np.ndarray:
    """Label map of the tumour: oedema follows white matter, the core is rounder, its rim thick in places."""
    lean = sum(component * w for component, w in zip(push, rng.normal(0, 0.25, 3), strict=True)) / radius
    coarse, fine = field(11), field(5)
    outer = distance / radius + lean + 0.24 * coarse + 0.09 * fine + 0.25 * ribbon + 0.6 * ventricles
    ratio = rng.uniform(0.42, 0.68)
    inner = distance / (ratio * radius) + 0.5 * lean + 0.20 * fine + 0.15 * coarse + 0.8 * ventricles
    thickness = np.clip(rng.uniform(0.2, 0.42) + 0.10 * field(7), 0.08, None)
    whole = _largest(outer < 1)
    labels = np.where(whole, 2, 0)
    # Millimetres, not shares: a thin rim would vanish between the voxels of a small tumour.
    rim = np.maximum(thickness, 2.6 / (ratio * radius))
    core = whole & (inner < 1)
    labels[core] = 4
    labels[core & (inner < 1 - rim)] = 1
    return labels
