"""Phantom tiles of H&E stained tissue with the outlines of their nuclei: for tests and demonstrations without anybody's
data.

Images and annotations lie as those of Kumar et al. (MoNuSeg) do: one TIFF and one XML file of Aperio ImageScope for
each tile. Nuclei touch, overlap and leave the tile; colour, size and density differ by organ. The tiles look like
tissue at a glance and are no model of any organ.
"""

from __future__ import annotations

import csv
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.draw import polygon

from bundle.data.errors import DataError
from bundle.data.progress import progress
from bundle.files import atomic_path
from bundle.phantoms.anatomy import smooth_field

MIN_SIZE = 32
MICRONS_PER_PIXEL = 0.252
# The first that is no site lends its name and style to the tiles of no site
OTHER_ORGANS = ("bladder", "colon", "stomach")
# Tissue is drawn beyond the tile, so that its border cuts through nuclei. Pixels
MARGIN = 32
# Light that passes where there is no tissue, of 255
LAMP = 246.0


@dataclass(frozen=True)
class TileStyle:
    """How the tissue of an organ and its staining look.

    Attributes:
        haematoxylin, eosin: optical densities in red, green and blue of a stain of amount 1.
        nuclear_stain: mean amount of haematoxylin in nuclei.
        counterstain: mean amount of eosin in tissue.
        basophilia: amount of haematoxylin in cytoplasm.
        radius, radius_std: mean and standard deviation over nuclei of the radius in pixels.
        elongation: mean ratio of a nucleus' axes outside the stroma, at least 1.
        density: nuclei on 100 x 100 pixels.
        clusters: share of nuclei that are put against another one.
        vesicular: how pale the middle of nuclei is, 0..1.
        stroma, lumen: shares of the tile that are connective tissue and white.
        clear: how empty the cytoplasm is, 0..1.
        fibres: contrast of the stroma's fibres, 0..1.
        fibre_width: pixels.
    """

    haematoxylin: tuple[float, float, float]
    eosin: tuple[float, float, float]
    nuclear_stain: float
    counterstain: float
    basophilia: float
    radius: float
    radius_std: float
    elongation: float
    density: float
    clusters: float
    vesicular: float
    stroma: float
    lumen: float
    clear: float
    fibres: float
    fibre_width: float


TILE_STYLES = {
    "breast": TileStyle(
        haematoxylin=(0.66, 0.67, 0.33), eosin=(0.29, 0.78, 0.40), nuclear_stain=1.60, counterstain=0.46,
        basophilia=0.20, radius=9.0, radius_std=1.9, elongation=1.45, density=8.7, clusters=0.40, vesicular=0.35,
        stroma=0.50, lumen=0.03, clear=0.15, fibres=0.55, fibre_width=1.6,
    ),
    "kidney": TileStyle(
        haematoxylin=(0.58, 0.72, 0.43), eosin=(0.20, 0.80, 0.46), nuclear_stain=1.75, counterstain=0.55,
        basophilia=0.05, radius=7.6, radius_std=1.1, elongation=1.25, density=6.4, clusters=0.22, vesicular=0.15,
        stroma=0.26, lumen=0.04, clear=0.80, fibres=0.55, fibre_width=1.2,
    ),
    "liver": TileStyle(
        haematoxylin=(0.55, 0.72, 0.46), eosin=(0.19, 0.80, 0.58), nuclear_stain=1.35, counterstain=0.95,
        basophilia=0.12, radius=11.2, radius_std=2.3, elongation=1.30, density=7.4, clusters=0.30, vesicular=0.55,
        stroma=0.18, lumen=0.015, clear=0.05, fibres=0.45, fibre_width=2.4,
    ),
    "prostate": TileStyle(
        haematoxylin=(0.57, 0.73, 0.37), eosin=(0.16, 0.85, 0.42), nuclear_stain=1.25, counterstain=0.62,
        basophilia=0.18, radius=8.4, radius_std=1.1, elongation=1.15, density=10.4, clusters=0.50, vesicular=0.80,
        stroma=0.36, lumen=0.10, clear=0.35, fibres=0.70, fibre_width=2.0,
    ),
}  # fmt: skip

# Any other name gets a style between these.
_LOWEST = TileStyle(
    haematoxylin=(0.54, 0.66, 0.32), eosin=(0.15, 0.77, 0.40), nuclear_stain=1.2, counterstain=0.45,
    basophilia=0.05, radius=7.3, radius_std=1.0, elongation=1.1, density=6.0, clusters=0.3, vesicular=0.1,
    stroma=0.15, lumen=0.01, clear=0.0, fibres=0.3, fibre_width=1.2,
)  # fmt: skip
_HIGHEST = TileStyle(
    haematoxylin=(0.67, 0.73, 0.46), eosin=(0.29, 0.86, 0.58), nuclear_stain=1.8, counterstain=0.95,
    basophilia=0.25, radius=11.5, radius_std=2.2, elongation=1.6, density=9.0, clusters=0.5, vesicular=0.8,
    stroma=0.55, lumen=0.10, clear=0.9, fibres=0.7, fibre_width=2.4,
)  # fmt: skip


@dataclass(frozen=True)
class _Tissue:
    """What lies where, float32 arrays (y, x) over the tile and its margin.

    Attributes:
        stroma, lumen: 0..1.
        fibres: bands along `angle`, mean 0, standard deviation 1.
        angle: direction of the fibres in radians, from x towards y.
    """

    stroma: np.ndarray
    lumen: np.ndarray
    fibres: np.ndarray
    angle: np.ndarray


@dataclass(frozen=True)
class _Nucleus:
    """Centre, half axes in pixels and the first one's direction, and what deforms the ellipse.

    `waves` are amplitude and phase, (2, number), of the harmonics from the second on; `stain` is an amount of
    haematoxylin and `vesicular` as in :class:`TileStyle`.
    """

    x: float
    y: float
    a: float
    b: float
    angle: float
    waves: np.ndarray
    stain: float
    vesicular: float

    def reach(self, direction: Any) -> Any:
        """Pixels from the centre to the outline in the given directions (radians, from x towards y)."""
        turned = direction - self.angle
        ellipse = self.a * self.b / np.hypot(self.b * np.cos(turned), self.a * np.sin(turned))
        bumps = (amplitude * np.cos(k * turned + phase) for k, (amplitude, phase) in enumerate(self.waves.T, start=2))
        return ellipse * (1 + sum(bumps))

    def outline(self) -> np.ndarray:
        """Vertices (x, y) in pixels, about 1.5 pixels apart, rounded as they are written."""
        count = int(np.clip(2 * np.pi * np.sqrt(self.a * self.b) / 1.5, 12, 96))
        direction = np.arange(count) * (2 * np.pi / count)
        reach = self.reach(direction)
        vertices = np.stack([self.x + reach * np.cos(direction), self.y + reach * np.sin(direction)], axis=1)
        return np.round(vertices - MARGIN, 2)


def nuclei_phantom(seed: int | Sequence[int], style: str | TileStyle = "breast", size: int = 256) -> dict[str, Any]:
    """Draw a tile.

    Args:
        seed: anything that ``numpy.random.default_rng`` takes.
        style: a key of :data:`TILE_STYLES` (any other name gets a style drawn from the name), or a style.
        size: pixels along y and x, at least 32. Nuclei keep their size in pixels: a larger tile shows more of them.

    Returns:
        ``image``: uint8 (size, size, 3), red, green and blue;
        ``outlines``: float64 (vertices, 2) for each nucleus, x and y in pixels with two decimals, the centre of the
        first pixel being 0, 0; they may leave the tile. In drawing order: later nuclei lie over earlier ones;
        ``instances``: uint16 (size, size), 0 background, k where the k-th outline is the last that holds the centre of
        the pixel. There is at least one outline, and every one has pixels.

    Raises:
        DataError: `size` out of range.
    """
    size = _check_size(size)
    style = style if isinstance(style, TileStyle) else tile_style(style)
    rng = np.random.default_rng(seed)
    tissue = _draw_tissue(rng, style, size + 2 * MARGIN)
    nuclei = _place_nuclei(rng, style, tissue)
    haematoxylin, eosin = _stain_tissue(rng, style, tissue, nuclei)
    _stain_nuclei(rng, nuclei, haematoxylin, eosin)
    inside = slice(MARGIN, MARGIN + size)
    image = _scan(rng, style, haematoxylin, eosin)[inside, inside]
    outlines = [nucleus.outline() for nucleus in nuclei]
    # What the tile or later nuclei hide wholly is nothing that anybody could annotate.
    seen = np.unique(_fill(outlines, size))
    outlines = [outlines[k - 1] for k in seen[seen > 0]]
    return {"image": image, "outlines": outlines, "instances": _fill(outlines, size)}


def tile_style(site: str) -> TileStyle:
    """Style of a site: of :data:`TILE_STYLES` for the organs there, else drawn from the name."""
    if site in TILE_STYLES:
        return TILE_STYLES[site]
    rng = np.random.default_rng(zlib.crc32(site.encode()))
    drawn = {f.name: rng.uniform(getattr(_LOWEST, f.name), getattr(_HIGHEST, f.name)) for f in fields(TileStyle)}
    style: dict[str, Any] = {name: tuple(v.tolist()) if np.ndim(v) else float(v) for name, v in drawn.items()}
    return TileStyle(**style)


def write_nuclei_phantoms(
    output: str | os.PathLike,
    sites: Sequence[str] = ("breast", "kidney", "liver", "prostate"),
    cases_per_site: int = 4,
    test_cases_per_site: int = 2,
    size: int = 256,
    seed: int = 0,
    other_cases: int = 2,
) -> Path:
    """Write tiles in the layout of Kumar et al. and the table of their sites.

    ``OUTPUT/tissue_images/PhantomTile_breast_001.tif``, ``OUTPUT/annotations/PhantomTile_breast_001.xml`` and
    ``OUTPUT/cases.csv`` with the columns case, site, split. As in the published files, some regions have fewer than
    three vertices and are no nuclei. Cases that are there with the same seed and size are kept; each case appears whole
    or not at all: its annotation comes last. Cases of former calls that this one does not name are left on disk.

    Args:
        output: folder, created.
        sites: names of letters and digits; an organ each.
        cases_per_site: training cases of every site, at least 1.
        test_cases_per_site: test cases of every site, numbered after the training cases.
        size: pixels along y and x, see :func:`nuclei_phantom`.
        seed: a case depends on it, its site, its number and the size only.
        other_cases: test cases of an organ that no site has; their site is empty in the table.

    Returns:
        Path of ``cases.csv``.

    Raises:
        DataError: numbers or names out of range.
        OSError: the output cannot be written.
    """
    size = _check_size(size)
    if not sites or not all(site.isalnum() for site in sites) or len(set(sites)) != len(sites):
        raise DataError(f"sites are {list(sites)}, expected different names of letters and digits")
    if cases_per_site < 1 or test_cases_per_site < 0:
        raise DataError(f"cases per site: {cases_per_site} + {test_cases_per_site}, expected at least 1 + 0")
    if other_cases < 0:
        raise DataError(f"cases of another organ: {other_cases}, expected at least 0")
    other = next((organ for organ in OTHER_ORGANS if organ not in sites), "")
    if other_cases and not other:
        raise DataError(f"sites are {list(sites)}, expected one of {', '.join(OTHER_ORGANS)} left for other cases")
    output = Path(output)
    cases = [
        (site, number, site, "train" if number <= cases_per_site else "test")
        for site in sites
        for number in range(1, cases_per_site + test_cases_per_site + 1)
    ]
    cases += [(other, number, "", "test") for number in range(1, other_cases + 1)]
    rows = []
    for organ, number, site, split in progress(cases, "phantoms", len(cases)):
        case = f"PhantomTile_{organ}_{number:03d}"
        image, annotation = output / "tissue_images" / f"{case}.tif", output / "annotations" / f"{case}.xml"
        note = f"phantom seed={seed} site={organ} size={size}"
        if not _is_written(image, annotation, note):
            tile = nuclei_phantom((seed, zlib.crc32(organ.encode()), number), organ, size)
            # An annotation beside another seed's image would pass for a case.
            annotation.unlink(missing_ok=True)
            _write_image(image, tile["image"])
            _write_annotation(annotation, _with_stubs(tile["outlines"], number), note)
        rows.append((case, site, split))
    with atomic_path(output / "cases.csv") as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("case", "site", "split"), *rows])
    return output / "cases.csv"


def _check_size(size: int) -> int:
    if int(size) != size or size < MIN_SIZE:
        raise DataError(f"size of a tile is {size}, expected a whole number of at least {MIN_SIZE} pixels")
    return int(size)


def _above(value: np.ndarray, threshold: float, softness: float) -> np.ndarray:
    """0 where `value` is well below `threshold`, 1 well above."""
    return 1 / (1 + np.exp(np.clip((threshold - value) / softness, -30, 30)))


def _draw_tissue(rng: np.random.Generator, style: TileStyle, n: int) -> _Tissue:
    def field(pixels: float) -> np.ndarray:
        return smooth_field(rng, (n, n), (1.0, 1.0), pixels)

    # From the depth of the stroma to the middle of a lumen: epithelium lies between them.
    height = 0.95 * field(26) + 0.25 * field(9) + 0.05 * field(3)
    low, high = np.quantile(height, [style.stroma, 1 - style.lumen])
    stroma, lumen = 1 - _above(height, low, 0.12), _above(height, high, 0.025)
    # Fibres run where stretched noise is seen through bent coordinates.
    y, x = np.mgrid[:n, :n].astype(np.float32)
    turn = rng.uniform(0, np.pi)
    across = y * np.cos(turn) - x * np.sin(turn) + 16 * field(34) + 2.2 * field(9)
    along = x * np.cos(turn) + y * np.sin(turn) + 10 * field(34)
    noise = rng.standard_normal((n, n), dtype=np.float32)
    bands = [
        ndimage.gaussian_filter(noise, (width, 16 * width), mode="wrap")
        for width in (style.fibre_width, 3 * style.fibre_width)
    ]
    bands = 1.3 * bands[0] / bands[0].std() + bands[1] / bands[1].std()
    fibres = ndimage.map_coordinates(bands, [across, along], order=1, mode="grid-wrap")
    slope_y, slope_x = np.gradient(ndimage.gaussian_filter(across, 4))
    angle = np.arctan2(slope_y, slope_x) + np.pi / 2
    return _Tissue(stroma, lumen, (fibres - fibres.mean()) / fibres.std(), angle)


def _place_nuclei(rng: np.random.Generator, style: TileStyle, tissue: _Tissue) -> list[_Nucleus]:
    """Nuclei in drawing order. Single ones keep their distance, those of a cluster touch or overlap."""
    n = len(tissue.lumen)
    wanted = max(rng.poisson(style.density * n * n / 1e4), 1)
    nuclei: list[_Nucleus] = []
    placed = np.empty((wanted, 3))
    for _ in range(60 * wanted):
        if len(nuclei) == wanted:
            break
        radius = np.clip(rng.normal(style.radius, style.radius_std), 0.55 * style.radius, 1.8 * style.radius)
        in_cluster = bool(nuclei) and rng.random() < style.clusters
        if in_cluster:
            near = placed[rng.integers(len(nuclei))]
            distance, direction = rng.uniform(0.8, 1.1) * (near[2] + radius), rng.uniform(0, 2 * np.pi)
            x, y = near[0] + distance * np.cos(direction), near[1] + distance * np.sin(direction)
        else:
            # The first lies in the tile: none is empty.
            edge = 0 if nuclei else MARGIN
            x, y = rng.uniform(edge, n - edge, 2)
        row, column = int(np.floor(y)), int(np.floor(x))
        if not (0 <= row < n and 0 <= column < n) or tissue.lumen[row, column] > 0.3:
            continue
        stroma = tissue.stroma[row, column]
        # Connective tissue has fewer nuclei.
        if not in_cluster and rng.random() < 0.6 * stroma:
            continue
        others = placed[: len(nuclei)]
        room = np.hypot(others[:, 0] - x, others[:, 1] - y) / (others[:, 2] + radius)
        if room.size and room.min() < (0.78 if in_cluster else 1.15):
            continue
        placed[len(nuclei)] = x, y, radius
        nuclei.append(_draw_nucleus(rng, style, (x, y), radius, stroma, tissue.angle[row, column]))
    return nuclei


def _draw_nucleus(
    rng: np.random.Generator, style: TileStyle, centre: tuple[float, float], radius: float, stroma: float, angle: float
) -> _Nucleus:
    spindle = rng.random() < 0.75 * stroma
    if spindle:
        ratio, angle = rng.uniform(1.9, 3.2), angle + rng.normal(0, 0.15)
    else:
        ratio, angle = 1 + (style.elongation - 1) * rng.gamma(3, 1 / 3), rng.uniform(0, np.pi)
    ratio = min(ratio, 3.2)
    harmonics = np.arange(2, 7)
    waves = np.stack([rng.normal(0, 0.10, 5) / harmonics, rng.uniform(0, 2 * np.pi, 5)])
    # Some nuclei are dense and dark, as those of lymphocytes and of dying cells are.
    dense = spindle or rng.random() < 0.15
    stain = style.nuclear_stain * np.clip(rng.normal(1.3 if dense else 0.95, 0.17), 0.6, 1.7)
    vesicular = style.vesicular * (0.15 if dense else rng.uniform(0.6, 1.15))
    root = np.sqrt(ratio)
    return _Nucleus(*centre, radius * root, radius / root, angle, waves, stain, min(vesicular, 0.95))


def _stain_tissue(
    rng: np.random.Generator, style: TileStyle, tissue: _Tissue, nuclei: Sequence[_Nucleus]
) -> tuple[np.ndarray, np.ndarray]:
    """Amounts of haematoxylin and eosin, float32 (y, x), without nuclei."""
    n = len(tissue.lumen)

    def field(pixels: float) -> np.ndarray:
        return smooth_field(rng, (n, n), (1.0, 1.0), pixels)

    # Cells: what is nearer to their seed than to another. A seed lies beside the nucleus, not at its middle.
    middles = [(nucleus.y, nucleus.x) for nucleus in nuclei]
    seeds = np.array([*middles, *rng.uniform(0, n, (2 + len(middles) // 4, 2))])
    seeds = seeds + rng.normal(0, 0.45 * style.radius, seeds.shape)
    grid = np.mgrid[:n, :n].astype(np.float32) + np.stack([2.5 * field(6), 2.5 * field(6)])
    distance, nearest = cKDTree(seeds).query(np.moveaxis(grid, 0, -1), k=2)
    to_edge = distance[..., 1] - distance[..., 0]
    membrane = np.exp(-((to_edge / 2.6) ** 2)) * (0.6 + 0.4 * np.tanh(field(8)))
    tint = rng.normal(0, 1, len(seeds))[nearest[..., 0]]

    granules, flakes, clouds = field(1.0), field(2.2), field(16)
    vacuoles = np.clip(style.clear * (0.92 + 0.10 * tint + 0.10 * flakes + 0.18 * field(7)), 0, 0.97) * (1 - membrane)
    body = 0.85 * (1 + 0.10 * granules + 0.13 * flakes + 0.10 * clouds + 0.10 * tint) * (1 - vacuoles) + 0.35 * membrane
    fibres = style.fibres * np.tanh(tissue.fibres)
    # Where fibres part in cutting, light passes.
    cleft = 0.85 * _above(tissue.fibres, 1.9 - style.fibres, 0.12) * _above(clouds, 0.2, 0.3)
    ground = (1.05 - 0.6 * fibres + 0.05 * granules + 0.08 * clouds) * (1 - cleft)
    solid = 1 - 0.97 * tissue.lumen
    eosin = style.counterstain * (tissue.stroma * ground + (1 - tissue.stroma) * body) * solid
    bluish = style.basophilia * (1 + 0.25 * granules + 0.25 * flakes + 0.2 * clouds + 0.2 * tint) * (1 - 0.8 * vacuoles)
    haematoxylin = ((1 - tissue.stroma) * bluish + tissue.stroma * (0.3 * style.basophilia) * (1 - cleft)) * solid
    return np.clip(haematoxylin, 0, None), np.clip(eosin, 0.005, None)


def _stain_nuclei(
    rng: np.random.Generator, nuclei: Sequence[_Nucleus], haematoxylin: np.ndarray, eosin: np.ndarray
) -> None:
    """Add the nuclei to both stains, in place."""
    n = len(haematoxylin)
    fine, coarse = (smooth_field(rng, (n, n), (1.0, 1.0), pixels) for pixels in (0.9, 2.0))
    for nucleus in nuclei:
        reach = 1.4 * nucleus.a + 4
        top, left = (max(int(centre - reach), 0) for centre in (nucleus.y, nucleus.x))
        window = np.s_[top : int(nucleus.y + reach) + 1, left : int(nucleus.x + reach) + 1]
        rows, columns = np.indices(haematoxylin[window].shape)
        y, x = rows + top - nucleus.y, columns + left - nucleus.x
        outline = nucleus.reach(np.arctan2(y, x))
        distance = np.hypot(x, y)
        depth = (outline - distance) * np.sqrt(nucleus.b / nucleus.a)
        mask = _above(depth, 0.0, 0.35)
        pale = nucleus.vesicular * _above(depth, 2.4, 0.6)
        rim = np.exp(-(((depth - 1.3) / 1.1) ** 2)) * (0.12 + 0.35 * nucleus.vesicular)
        clumps = 0.16 * fine[window] + (0.13 + 0.30 * nucleus.vesicular) * coarse[window]
        chromatin = (1 - 0.62 * pale) * (1 + clumps) + rim
        for _ in range(rng.integers(0, 3) if nucleus.vesicular > 0.1 else 0):
            # A nucleolus, away from the rim
            far, direction = 0.45 * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
            dx, dy = (far * nucleus.reach(direction) * f(direction) for f in (np.cos, np.sin))
            width = rng.uniform(1.0, 1.7) * nucleus.b / 8
            chromatin += 0.75 * np.exp(-((x - dx) ** 2 + (y - dy) ** 2) / (2 * width**2))
        # Sections are thick: what lies below shows through a little.
        below = haematoxylin[window]
        stained = np.clip(nucleus.stain * chromatin, 0.1, None) + 0.22 * below
        haematoxylin[window] = below + mask * (stained - below)
        eosin[window] *= 1 - 0.4 * mask


def _scan(rng: np.random.Generator, style: TileStyle, haematoxylin: np.ndarray, eosin: np.ndarray) -> np.ndarray:
    """The image of stained tissue: Beer and Lambert's law, optics, sensor. uint8 (y, x, RGB)."""
    # Staining differs between slides.
    amounts = (rng.normal(1, 0.06) * haematoxylin, rng.normal(1, 0.06) * eosin)
    stains = (style.haematoxylin, style.eosin)
    density = sum(amount[..., None] * np.array(stain) for amount, stain in zip(amounts, stains, strict=True))
    image = LAMP * np.exp(-density)
    image = ndimage.gaussian_filter(image, (0.65, 0.65, 0))
    # Compression and interpolation leave the noise correlated.
    noise = ndimage.gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), (0.6, 0.6, 0))
    return np.clip(np.rint(image + 5.0 * noise), 0, 255).astype(np.uint8)


def _fill(outlines: Sequence[np.ndarray], size: int) -> np.ndarray:
    instances = np.zeros((size, size), np.uint16)
    for number, outline in enumerate(outlines, start=1):
        instances[polygon(outline[:, 1], outline[:, 0], instances.shape)] = number
    return instances


def _with_stubs(outlines: Sequence[np.ndarray], number: int) -> list[np.ndarray]:
    """In every third case, starting with the first, the outlines and two clicks that became regions of their own."""
    if number % 3 != 1 or not outlines:
        return list(outlines)
    return [outlines[0], outlines[-1][:2], *outlines[1:], outlines[0][:1]]


def _is_written(image: Path, annotation: Path, note: str) -> bool:
    try:
        root = ElementTree.parse(annotation).getroot()
    except (OSError, ElementTree.ParseError):
        return False
    found = root.find("Annotation")
    return image.is_file() and found is not None and found.get("Name") == note


def _write_image(path: Path, image: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(sitk.GetImageFromArray(image, isVector=True), str(temporary), useCompression=True)
        except RuntimeError as error:
            raise OSError(f"{path}: cannot be written: {error}") from error


def _write_annotation(path: Path, outlines: Sequence[np.ndarray], note: str) -> None:
    """Write regions as Aperio ImageScope does, in drawing order."""
    root = ElementTree.Element("Annotations", MicronsPerPixel=f"{MICRONS_PER_PIXEL:.6f}")
    annotation = ElementTree.SubElement(
        root, "Annotation", Id="1", Name=note, ReadOnly="0", Type="4", LineColor="65280", Visible="1", Selected="1"
    )
    regions = ElementTree.SubElement(annotation, "Regions")
    for number, outline in enumerate(outlines, start=1):
        x, y = outline.T
        area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
        length = np.hypot(*(outline - np.roll(outline, -1, axis=0)).T).sum()
        measures = {
            "Length": f"{length:.1f}",
            "Area": f"{area:.1f}",
            "LengthMicrons": f"{length * MICRONS_PER_PIXEL:.2f}",
            "AreaMicrons": f"{area * MICRONS_PER_PIXEL**2:.2f}",
        }
        identity = {"Id": str(number), "Type": "0", "Zoom": "1", "Selected": "0"}
        rest = {"Text": "", "NegativeROA": "0", "InputRegionId": "0", "Analyze": "1", "DisplayId": str(number)}
        region = ElementTree.SubElement(regions, "Region", {**identity, **measures, **rest})
        ElementTree.SubElement(region, "Attributes")
        vertices = ElementTree.SubElement(region, "Vertices")
        for vx, vy in outline:
            ElementTree.SubElement(vertices, "Vertex", X=f"{vx:.2f}", Y=f"{vy:.2f}", Z="0")
    ElementTree.indent(root, " ")
    with atomic_path(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="UTF-8", xml_declaration=True)
