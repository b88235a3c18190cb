"""One look for slides that were stained in different laboratories."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.apps.pathology.transforms.stain.array import ExtractHEStains, NormalizeHEStains
from monai.config import KeysCollection
from monai.data import MetaTensor, get_track_meta
from monai.transforms import MapTransform
from monai.utils import convert_to_numpy, convert_to_tensor

from bundle.transforms.source_name import source_name

__all__ = ["NormalizeStainsd"]

logger = logging.getLogger(__name__)

# Two stains whose directions of absorbance are closer than this (the sine of the angle) are one: there is nothing to
# take apart. MONAI's reference stains have 0.37.
MIN_SINE = 0.02


class NormalizeStainsd(MapTransform):
    """
    Bring the haematoxylin and the eosin of a tile to reference colours, by MONAI's ``NormalizeHEStains``.

    Macenko et al. 2009, "A method for normalizing histology slides for quantitative analysis",
    https://doi.org/10.1109/ISBI.2009.5193250: the directions of the two stains in the space of absorbances and their
    99th percentiles of concentration are estimated from the tile, and replaced by those of a reference.

    MONAI's transform wants X×Y×3 and writes zeros where it divided by nothing; here, channels come first, and a tile
    without two stains to estimate stops the run. MONAI 1.6 also takes haematoxylin for eosin and the reverse, since
    https://github.com/Project-MONAI/MONAI/pull/8551: it orders the two as if their absorbances were colours, and
    nuclei come out pink in blue tissue. Here, haematoxylin is the one that absorbs more red light, as in MONAI's own
    reference stains.

    An item with an intensity range passes as it is: it is a synthetic image, and the generator has learned from
    normalised ones.

    Args:
        keys: RGB tiles, 3×X×Y, any dtype, 0 to 255; become float32, whole numbers 0 to 255, MetaTensors.
        enabled: False: everything passes as it is.
        required: False: a tile whose stains cannot be estimated, such as a white one, passes with its colours as they
            are, with a warning that names it.
        range_key: where a synthetic image has its range of intensities.
        allow_missing_keys: do not raise where a key is missing.
        options: the other arguments of MONAI's ``NormalizeHEStains``: ``tli``, ``alpha``, ``beta``, ``target_he``,
            ``max_cref``.

    Raises:
        ValueError: naming the file: another shape, values that are not between 0 and 255, or, where they are required,
            stains that cannot be estimated: a tile that is white, of one colour, or of shades of one.

    Example:
        >>> image = torch.randint(40, 230, (3, 16, 16), generator=torch.Generator().manual_seed(0))
        >>> normalized = NormalizeStainsd(keys="image")({"image": image})["image"]
        >>> normalized.shape, normalized.dtype
        (torch.Size([3, 16, 16]), torch.float32)
        >>> NormalizeStainsd(keys="image", enabled=False)({"image": image})["image"] is image
        True
    """

    def __init__(
        self,
        keys: KeysCollection,
        enabled: bool = True,
        required: bool = True,
        range_key: Hashable = "intensity_range",
        allow_missing_keys: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.enabled = enabled
        self.required = required
        self.range_key = range_key
        self.normalize = NormalizeHEStains(**options)
        given = {name: options[name] for name in ("tli", "alpha", "beta") if name in options}
        self.normalize.stain_extractor = _TwoStains(**given)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        if not self.enabled or item.get(self.range_key) is not None:
            return item
        for key in self.key_iterator(item):
            image = item[key]
            try:
                normalized = self._normalized(convert_to_numpy(image))
            except ValueError as error:
                message = f"{source_name(item, key)}: '{key}': {error}"
                if self.required or not isinstance(error, _StainsUnknown):
                    raise ValueError(message) from error
                logger.warning("%s; its colours stay as they are", message)
                normalized = np.asarray(convert_to_numpy(image), dtype=np.float32)
            result = convert_to_tensor(torch.from_numpy(normalized), track_meta=get_track_meta())
            if isinstance(result, MetaTensor) and isinstance(image, MetaTensor):
                result.copy_meta_from(image)
            item[key] = result
        return item

    def _normalized(self, image: np.ndarray) -> np.ndarray:
        if image.ndim != 3 or len(image) != 3:
            raise ValueError(f"expected RGB, 3×X×Y, got shape {image.shape}")
        if not (image.min() >= 0 and image.max() <= 255):  # written so that nan fails as well
            raise ValueError(f"expected values from 0 to 255, got {image.min():g} to {image.max():g}")
        try:
            # What divides by nothing or makes a nan stops here: MONAI would write it as 0.
            with np.errstate(divide="raise", invalid="raise"):
                normalized = self.normalize(np.ascontiguousarray(image.transpose(1, 2, 0)))
        except (FloatingPointError, np.linalg.LinAlgError, ValueError) as error:
            raise _StainsUnknown(f"expected a tile with two stains, they cannot be estimated: {error}") from error
        return np.ascontiguousarray(normalized.transpose(2, 0, 1), dtype=np.float32)


class _StainsUnknown(ValueError):
    """There is nothing to tell the two stains of a tile by."""


class _TwoStains(ExtractHEStains):
    """MONAI's, with haematoxylin first, refusing two directions that are one."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        stains = super().__call__(image)
        if stains[0, 0] < stains[0, 1]:
            stains = stains[:, ::-1]
        sine = np.linalg.norm(np.cross(stains[:, 0], stains[:, 1]))
        if not sine > MIN_SINE:
            raise ValueError("all pixels have shades of one colour")
        return stains
