"""Slides stained more strongly or more weakly, as laboratories differ."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_dst_type
from skimage.color import rgb_from_hed

from bundle.transforms.source_name import source_name

__all__ = ["RandStainStrengthd", "scale_stains"]


def scale_stains(
    image: torch.Tensor, strengths: Sequence[float], value_range: Sequence[float] = (0, 255)
) -> torch.Tensor:
    """
    Multiply the amounts of haematoxylin and of eosin in a tile.

    By the law of Beer and Lambert the absorbance of a pixel is the sum of what its stains absorb: it is taken apart
    into the two stains (Ruifrok and Johnston 2001, https://pubmed.ncbi.nlm.nih.gov/11531144/, in scikit-image's
    figures) and what is neither, which stays. Values outside the range are clipped.

    Args:
        image: RGB, 3×X×Y, any dtype.
        strengths: factors above 0 for haematoxylin and for eosin; (1, 1) leaves the tile as it is.
        value_range: values of the image for no light and for white.

    Returns:
        The tile, float32, 3×X×Y, in ``value_range``.

    Raises:
        ValueError: another shape.

    Example:
        >>> pink = torch.tensor([230.0, 150.0, 190.0]).reshape(3, 1, 1)
        >>> [round(value) for value in scale_stains(pink, (1.0, 2.0)).flatten().tolist()]
        [224, 101, 182]
    """
    if image.ndim != 3 or len(image) != 3:
        raise ValueError(f"expected RGB, 3×X×Y, got shape {tuple(image.shape)}")
    # scikit-image's separate_stains cuts negative amounts off, so that what it puts together again is another tile
    low, high = value_range
    values = torch.as_tensor(image, dtype=torch.float32)
    light = ((values - low) / (high - low)).clamp(0, 1)
    # one grey level is added so that black has a logarithm
    absorbance = -torch.log((255 * light + 1) / 256)
    scaled = torch.tensordot(_mixing(strengths).to(absorbance), absorbance, dims=1)
    light = ((256 * torch.exp(-scaled) - 1) / 255).clamp(0, 1)
    return low + (high - low) * light


def _mixing(strengths: Sequence[float]) -> torch.Tensor:
    """Matrix that scales the two stains in absorbances of red, green and blue; 3×3, float64."""
    stains = rgb_from_hed[:2] / np.linalg.norm(rgb_from_hed[:2], axis=1, keepdims=True)
    neither = np.cross(stains[0], stains[1])
    directions = np.column_stack([*stains, neither / np.linalg.norm(neither)])
    return torch.from_numpy(directions @ np.diag([*strengths, 1.0]) @ np.linalg.inv(directions))


class RandStainStrengthd(RandomizableTransform, MapTransform):
    """
    Stain a tile more strongly or more weakly by chance, haematoxylin and eosin each by a factor of its own.

    Segmenters of H&E meet laboratories that they were not trained on, and colours drawn in the space of the stains
    prepare them for it best (Tellez et al. 2019, https://doi.org/10.1016/j.media.2019.101544).

    Args:
        keys: RGB tiles, 3×X×Y, floating.
        prob: probability that a tile is stained anew.
        factor: the factors' logarithms are uniform between those of 1 / factor and factor.
        value_range: values of the image for no light and for white.
        allow_missing_keys: do not raise where a key is missing.

    Raises:
        ValueError: a factor below 1; naming the file, a tile that is not RGB.

    Example:
        >>> image = torch.zeros(3, 4, 4)
        >>> restain = RandStainStrengthd(keys="image", prob=1.0, factor=2.0).set_random_state(seed=0)
        >>> restain({"image": image})["image"].shape
        torch.Size([3, 4, 4])
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.5,
        factor: float = 1.5,
        value_range: Sequence[float] = (-1.0, 1.0),
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if not factor >= 1:
            raise ValueError(f"factor: expected at least 1, got {factor}")
        self.factor = float(factor)
        self.value_range = tuple(value_range)
        self.strengths = (1.0, 1.0)

    def randomize(self, data: Any = None) -> None:
        super().randomize(data)
        if self._do_transform:
            bound = math.log(self.factor)
            self.strengths = (math.exp(self.R.uniform(-bound, bound)), math.exp(self.R.uniform(-bound, bound)))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        self.randomize()
        if not self._do_transform:
            return item
        for key in self.key_iterator(item):
            try:
                scaled = scale_stains(item[key], self.strengths, self.value_range)
            except ValueError as error:
                raise ValueError(f"{source_name(item, key)}: '{key}': {error}") from error
            item[key], *_ = convert_to_dst_type(scaled, item[key], dtype=scaled.dtype)
        return item
