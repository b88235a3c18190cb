"""The toy mixture of the paper on disk: numbers in the place of images.

    y = Σ_j 1{x = j} · y_j        (Chang et al. 2020, section 4.1)

One case per site: its image is a volume of 1×1×n_j numbers, its label as many indices of components, 1, 2, 3, ... A
number is a slice, as samplers of volumes see it, so everything that takes brains takes the toy.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from bundle.data.datalist import FILE_NAME, write_datalist
from bundle.data.errors import DataError
from bundle.data.schema import is_name
from bundle.files import atomic_folder

__all__ = ["MIXTURE", "Component", "write_mixture"]

MAX_DRAWS = 32767
"""Of a case: NIfTI-1 counts slices in 16 bits."""
SPREADS = ("variance", "std")


@dataclass(frozen=True)
class Component:
    """y_j ~ N(mean, spread): whether ``spread`` is a variance or a standard deviation is told with it."""

    mean: float
    spread: float


MIXTURE = (Component(-3, 2), Component(1, 1), Component(3, 0.5))
"""As published; the paper does not say what the second number is."""


def write_mixture(
    output: str | os.PathLike,
    components: Sequence[Component] = MIXTURE,
    spread: str = "variance",
    draws: int | Sequence[int] = 4000,
    test_draws: int = 10000,
    sites: Sequence[str] | None = None,
    seed: int = 0,
) -> Path:
    """Draw the mixture and write it with its data list: site j has draws of component j only.

    ``OUTPUT/draws/{train,test}_SITE.nii`` (float32), ``..._label.nii`` (uint8) and ``OUTPUT/datalist.json``, with the
    same sites in ``training`` and ``test``. What was there before is replaced, or kept where this fails.

    Args:
        output: folder, created; it becomes whole or stays as it was.
        components: one per site.
        spread: what the second number of a component is: ``"variance"`` or ``"std"``.
        draws: n_j, numbers for training at every site, or one number per site.
        test_draws: held-out numbers of every component.
        sites: names; None for "1", "2", ...
        seed: the draws of a site depend on it, the site's place and the split only.

    Returns:
        Path of ``datalist.json``.

    Raises:
        DataError: numbers or names out of range.
        OSError: the output cannot be written.
    """
    components = list(components)
    names = [str(place) for place in range(1, len(components) + 1)] if sites is None else list(sites)
    counts = [draws] * len(components) if isinstance(draws, int) else list(draws)
    _check(components, spread, names, counts, test_draws, seed)
    output = Path(output)
    if output.exists() and any(output.iterdir()) and not (output / FILE_NAME).is_file():
        raise DataError(f"{output} holds other files than a data list, expected a new folder or an earlier mixture")
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(output) as folder:
        (folder / "draws").mkdir()
        splits = {
            split: [
                _write_case(folder, split, site, place, component, spread, count, seed)
                for place, (site, component, count) in enumerate(zip(names, components, numbers, strict=True), start=1)
            ]
            for split, numbers in (("training", counts), ("test", [test_draws] * len(components)))
        }
        write_datalist(
            folder,
            name="toy mixture",
            task="gaussian",
            layout="draws",
            modality=["value"],
            labels={0: "none"} | {place: f"component {place}" for place in range(1, len(components) + 1)},
            site_rule={
                "rule": "one component each",
                "components": [[component.mean, component.spread] for component in components],
                "spread": spread,
                "draws": counts,
                "seed": seed,
            },
            training=splits["training"],
            test=splits["test"],
        )
    return output / FILE_NAME


def _check(
    components: Sequence[Component],
    spread: str,
    names: Sequence[str],
    counts: Sequence[int],
    test_draws: int,
    seed: int,
) -> None:
    if not 1 <= len(components) <= 255:
        raise DataError(f"there are {len(components)} components, expected 1 to 255")
    for place, component in enumerate(components, start=1):
        if not math.isfinite(component.mean) or not 0 < component.spread < math.inf:
            raise DataError(
                f"component {place} is N({component.mean}, {component.spread}), expected a finite mean and a spread "
                "above 0"
            )
    if spread not in SPREADS:
        raise DataError(f"spread is {spread!r}, expected one of {', '.join(SPREADS)}")
    if len(counts) != len(components) or len(names) != len(components):
        raise DataError(
            f"there are {len(components)} components, {len(counts)} numbers of draws and {len(names)} sites, "
            "expected as many of each"
        )
    if len(set(names)) != len(names) or not all(is_name(name) for name in names):
        raise DataError(f"sites are {list(names)}, expected different names of letters, digits, '_', '-', '.', ' '")
    for number in (*counts, test_draws):
        if not 1 <= number <= MAX_DRAWS:
            raise DataError(f"draws of a site: {number}, expected 1 to {MAX_DRAWS}")
    if seed < 0:
        raise DataError(f"seed is {seed}, expected 0 or more")


def _write_case(
    folder: Path, split: str, site: str, place: int, component: Component, spread: str, count: int, seed: int
) -> dict:
    deviation = math.sqrt(component.spread) if spread == "variance" else component.spread
    # a stream for each: more sites, or other numbers at one of them, leave the others' draws alone
    rng = np.random.default_rng((seed, zlib.crc32(split.encode()), place))
    values = rng.normal(component.mean, deviation, (1, 1, count)).astype(np.float32)
    case = f"{'train' if split == 'training' else 'test'}_{site}"
    paths = {"image": f"draws/{case}.nii", "label": f"draws/{case}_label.nii"}
    nib.save(nib.Nifti1Image(values, np.eye(4)), folder / paths["image"])
    nib.save(nib.Nifti1Image(np.full((1, 1, count), place, dtype=np.uint8), np.eye(4)), folder / paths["label"])
    return {**paths, "case": case, "site": site}
