"""Images as the sites' teachers predicted them, with no generator: what they alone are worth."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bundle.server.conditions import read_taught_pairs
from bundle.server.teacher_networks import TeacherNetworks

__all__ = ["TaughtImages"]


class TaughtImages(nn.Module):
    """
    In the place of a generator: for a condition that a site released, the image that its teacher released with it; for
    any other, the mean of what the teachers predict whose weights are at the server. It has no weights of its own.

    The control of a generator that learns from teachers: what it is worth beyond them.

    Args:
        conditions: file of the conditions that sites released (:func:`bundle.server.write_conditions`).
        images: file of their teachers' images (:func:`bundle.server.write_teacher_images`), if there are any.
        teachers: R of the sites that let out its weights; None for none.

    Input B×X×H×W of 0 and 1; output B×C×H×W float32 in [-1, 1].

    ``channels`` is C.

    Raises:
        ValueError: when no site has a teacher, or the images are not those of the conditions; when it is called with a
            condition that no site released and there are no weights.
    """

    def __init__(
        self, conditions: str | PathLike, images: str | PathLike, teachers: TeacherNetworks | None = None
    ) -> None:
        super().__init__()
        self._teachers = teachers
        self._sites = [] if teachers is None else teachers.sites()
        self._known: dict[bytes, np.ndarray] = {}
        if Path(images).is_file():
            for pairs in read_taught_pairs(conditions, images).values():
                self._known |= {_key(condition): image for condition, image in pairs}
        if not self._known and not self._sites:
            raise ValueError(
                f"{images}: no site has a teacher whose images or weights are here (release_policy, field teacher)"
            )

    @property
    def channels(self) -> int:
        one = next(iter(self._known.values()), None)
        if one is not None:
            return len(one)
        assert self._teachers is not None
        return self._teachers.image_channels

    def knows(self, condition: np.ndarray) -> bool:
        """Whether there is an image of this condition, X×H×W."""
        return bool(self._sites) or _key(condition) in self._known

    def forward(self, condition: torch.Tensor) -> torch.Tensor:
        return torch.stack([self._image(one).to(condition.device) for one in condition])

    def _image(self, condition: torch.Tensor) -> torch.Tensor:
        known = self._known.get(_key(condition.detach().cpu().numpy()))
        if known is not None:
            return torch.from_numpy(known.astype(np.float32))
        if self._teachers is None or not self._sites:
            raise ValueError("no teacher's image of this condition: it is none that a site with a teacher released")
        each = [
            self._teachers.predict(site, condition[None], self._teachers.image_channels, condition.device)[0]
            for site in self._sites
        ]
        return torch.stack(each).mean(dim=0)


def _key(condition: np.ndarray) -> bytes:
    return np.asarray(condition.shape, np.int64).tobytes() + np.packbits(condition > 0).tobytes()
