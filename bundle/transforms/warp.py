"""A smooth random warp that does not depend on how many pixels an image has."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from monai.utils import ensure_tuple_rep

__all__ = ["RandWarpd"]

WAVES = 32
"""Of which the elastic part is the sum: as good as Gaussian."""


class RandWarpd(Randomizable, MapTransform):
    """
    Warp 2-D images: turn, scale and shift them about their centre, and displace every point by a smooth random field.

    With one seed it is the same warp of the plane whatever the size of the image: resampled or padded images are warped
    alike. MONAI's ``Rand2DElasticd`` draws a lattice that depends on the size, so that every size has a warp of its
    own, and who sees many of them can average the warp away.

    The field is a sum of plane waves of random direction, phase and amplitude (a Gaussian field by its random Fourier
    features: Rahimi and Recht 2007), which is defined everywhere and draws the same numbers for every image.

    Args:
        keys: images C×H×W, of one H×W. Their type and dtype stay.
        unit: pixels that a length of 1 is; all lengths below are in it. The size of an image that is resampled; 1 for
            one that is cropped or padded.
        wavelength: least and largest length of a wave.
        magnitude: least and largest standard deviation of the displacement along each axis.
        rotate: largest turn either way, in radians.
        scale: largest relative change of size, for each axis.
        translate: largest shift either way, along each axis.
        mode: ``bilinear`` or ``nearest``, for all keys or each.
        padding_mode: ``border``, ``reflection`` or ``zeros``: what is beyond an image, for all keys or each.

    Example::

        warp = RandWarpd(["image", "condition"], unit=128, wavelength=(0.5, 1.0), magnitude=(0.01, 0.02),
                         mode=["bilinear", "nearest"])
        warped = warp.set_random_state(seed=1)({"image": image, "condition": condition})
    """

    def __init__(
        self,
        keys: KeysCollection,
        unit: float,
        wavelength: Sequence[float],
        magnitude: Sequence[float],
        rotate: float = 0.0,
        scale: float = 0.0,
        translate: float = 0.0,
        mode: str | Sequence[str] = "bilinear",
        padding_mode: str | Sequence[str] = "border",
    ) -> None:
        super().__init__(keys)
        self.unit = unit
        self.wavelength = tuple(wavelength)
        self.magnitude = tuple(magnitude)
        self.rotate, self.scale, self.translate = rotate, scale, translate
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        self.padding_mode = ensure_tuple_rep(padding_mode, len(self.keys))

    def randomize(self, data: object = None) -> None:
        angle = self.R.uniform(-self.rotate, self.rotate)
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        scale = torch.diag(torch.tensor(1 + self.R.uniform(-self.scale, self.scale, 2)).float())
        self._matrix = turn @ scale
        self._shift = torch.tensor(self.R.uniform(-self.translate, self.translate, 2)).float()
        direction, phase = self.R.uniform(0, 2 * math.pi, (2, WAVES))
        length = self.R.uniform(*self.wavelength, WAVES)
        waves = [[math.cos(d) / w, math.sin(d) / w] for d, w in zip(direction, length, strict=True)]
        self._waves = 2 * math.pi * torch.tensor(waves, dtype=torch.float32)
        self._phase = torch.tensor(phase).float()
        amplitude = self.R.uniform(*self.magnitude) * math.sqrt(2 / WAVES)
        self._amplitude = torch.tensor(self.R.normal(0, amplitude, (WAVES, 2))).float()

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        self.randomize()
        warped = dict(data)
        for key, mode, padding in zip(self.keys, self.mode, self.padding_mode, strict=True):
            image = torch.as_tensor(data[key])
            moved = torch.nn.functional.grid_sample(
                image.as_subclass(torch.Tensor).float()[None],
                self._grid(*image.shape[1:])[None],
                mode=mode,
                padding_mode=padding,
                align_corners=False,
            )
            warped[key] = moved[0].to(image.dtype)
        return warped

    def _grid(self, height: int, width: int) -> torch.Tensor:
        """H×W×2: where each pixel is taken from, as torch counts: -1 to 1 along the width, then along the height."""
        size = torch.tensor([height, width], dtype=torch.float32)
        rows, columns = (torch.arange(n) + 0.5 - n / 2 for n in (height, width))
        place = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1) / self.unit
        field = torch.cos(place @ self._waves.T + self._phase) @ self._amplitude
        source = (place @ self._matrix.T + self._shift + field) * self.unit
        return (2 * source / size).flip(-1)
