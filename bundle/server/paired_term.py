"""The paired term of sites whose teachers' images or weights are at the server: no gradient of it crosses."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import Compose

from bundle.seeding import draw
from bundle.server.conditions import read_taught_pairs
from bundle.server.teacher_networks import TeacherNetworks
from bundle.transforms import varied

__all__ = ["PairedTerm"]

logger = logging.getLogger(__name__)

_Pair = tuple[np.ndarray, np.ndarray]
"""A condition as it left its site, and the teacher's image of it."""


class PairedTerm:
    """
    weight · mean |G(x) − R(x)|, for the steps' conditions x of sites whose teacher R, or its images R(x), are at the
    server.

    Where it is R, it predicts an image for each condition of a step, of the server's own as well. Where it is images,
    those left their site once, with the conditions as they are. A step's conditions are such, randomly
    transformed: by (seed, site, step) alone, which the server knows, so it transforms a condition and its image alike,
    and compares what becomes of the condition with what the site issued. Where they differ, as in a training whose
    sites vary their samples otherwise, there is no such term, and the log says so.

    Args:
        conditions: file of the conditions that sites released (:func:`bundle.server.write_conditions`).
        images: file of their teachers' images (:func:`bundle.server.write_teacher_images`); there is none where no site
            has a teacher. Both are read when they are needed first.
        weight: λ, at least 0; 0 switches the term off.
        augmentation: random MONAI transforms of ``image`` and ``condition``: those of the sites' samples; None for
            none.
        seed: seed of the run.
        teachers: R of the sites that let out its weights; None for none.

    Raises:
        ValueError: for a weight below 0; when a file holds something else, or images that are not those of the
            conditions.
    """

    def __init__(
        self,
        conditions: str | PathLike,
        images: str | PathLike,
        weight: float = 10.0,
        augmentation: Compose | None = None,
        seed: int = 0,
        teachers: TeacherNetworks | None = None,
    ) -> None:
        if not weight >= 0:
            raise ValueError(f"paired_weight: expected a number of at least 0, got {weight!r}")
        self.weight = weight
        self.augmentation = augmentation
        self.seed = seed
        self.teachers = teachers
        self._files = Path(conditions), Path(images)
        self._pairs: dict[str, list[_Pair]] | None = None
        self._warned: set[str] = set()
        # G's input and its term ask for the same
        self._last: dict[str, tuple[tuple[int, int] | None, torch.Tensor | None, torch.Tensor | None]] = {}

    def any(self) -> bool:
        """Whether a teacher's images or weights are here."""
        return self._files[1].is_file() or (self.teachers is not None and self.teachers.any())

    def describe(self) -> str:
        """What is added to the losses of sites, in words; empty where no site has a teacher."""
        if not self.weight:
            return ""
        noised = self.teachers is not None and self.teachers.any()
        kinds = [" to a teacher"] * self._files[1].is_file() + [" to a teacher that learned with noise"] * noised
        return "".join(f" + {self.weight:g}·L1{kind}" for kind in kinds)

    def loss(
        self,
        site: str,
        step: int,
        conditions: torch.Tensor,
        images: torch.Tensor,
        channel_weights: torch.Tensor | None = None,
    ) -> torch.Tensor | None:
        """
        Args:
            site: whose conditions they are.
            step: from 1.
            conditions: B×X×H×W uint8, as the site issued them.
            images: B×C×H×W, what the generator made of them, of the channels that the site has.
            channel_weights: what each of these counts in the mean, C float32; None for 1.

        Returns:
            mean |G(x) − R(x)|, a float32 scalar without its weight; None where the site has no teacher.

        Raises:
            ValueError: when the teacher's images are of other channels than the site's.
        """
        if not self.weight:
            return None
        taught = self.taught(site, step, conditions, images.shape[1], images.device)
        if taught is None:
            return None
        if channel_weights is None:
            return F.l1_loss(images.float(), taught)
        return ((images.float() - taught).abs() * channel_weights.to(taught)[:, None, None]).mean()

    def taught(
        self, site: str, step: int, conditions: torch.Tensor, channels: int, device: torch.device
    ) -> torch.Tensor | None:
        """
        Args:
            site: whose conditions they are.
            step: from 1.
            conditions: B×X×H×W uint8, as the site issued them.
            channels: C of the images of the site.
            device: where they are wanted.

        Returns:
            R(x), B×C×H×W float32; None where the site has no teacher.

        Raises:
            ValueError: when the teacher's images are of other channels than the site's.
        """
        asked, of, taught = self._last.get(site, (None, None, None))
        if asked != (step, channels) or of is not conditions:
            shape = (len(conditions), channels, *conditions.shape[2:])
            if self.teachers is not None and site in self.teachers:
                taught = self._predicted(self.teachers, site, conditions, shape, device)
            else:
                taught = self._released(site, step, conditions, shape)
            self._last[site] = (step, channels), conditions, taught
        return None if taught is None else taught.to(device)

    def _predicted(
        self,
        teachers: TeacherNetworks,
        site: str,
        conditions: torch.Tensor,
        shape: Sequence[int],
        device: torch.device,
    ) -> torch.Tensor | None:
        try:
            taught = teachers.predict(site, conditions, shape[1], device)
        except ValueError as error:
            # weights that a site sent end no training of all
            self._warn(site, "%s: no paired term for site %s", error, site)
            return None
        if taught.shape == tuple(shape) and torch.isfinite(taught).all():
            return taught
        self._warn(site, "what the teacher of site %s predicts is no image, or not finite: no paired term for it", site)
        return None

    def _released(self, site: str, step: int, conditions: torch.Tensor, shape: Sequence[int]) -> torch.Tensor | None:
        pairs = self._of(site)
        if not pairs:
            return None
        first = (step - 1) * len(conditions)
        drawn = [self._drawn(pairs, site, first + place) for place in range(len(conditions))]
        expected = [sample["condition"] for sample in drawn]
        if not all(torch.equal(one, other) for one, other in zip(expected, conditions.cpu(), strict=True)):
            self._warn(
                site,
                "step %d: the conditions of site %s are not those that its teacher's images are of, randomly "
                "transformed: no paired term for them",
                step,
                site,
            )
            return None
        taught = torch.stack([sample["image"] for sample in drawn])
        if taught.shape != tuple(shape):
            raise ValueError(
                f"{self._files[1]}: the images of site {site} have {taught.shape[1]} channels, and the site has "
                f"{shape[1]} (modalities): was its data list changed? Remove the file, and {self._files[0]}"
            )
        return taught

    def _warn(self, site: str, *message: object) -> None:
        """Once a site."""
        if site not in self._warned:
            logger.warning(*message)
        self._warned.add(site)

    def _of(self, site: str) -> list[_Pair]:
        if self._pairs is None:
            self._pairs = self._read()
        return self._pairs.get(site, [])

    def _read(self) -> dict[str, list[_Pair]]:
        of_conditions, of_images = self._files
        if not of_images.is_file():
            return {}
        return read_taught_pairs(of_conditions, of_images)

    def _drawn(
        self, pairs: Sequence[tuple[np.ndarray, np.ndarray]], site: str, position: int
    ) -> dict[str, torch.Tensor]:
        index, seed = draw(self.seed, site, position, len(pairs))
        condition, image = pairs[index]
        sample = {"condition": torch.from_numpy(condition), "image": torch.from_numpy(image.astype(np.float32))}
        if self.augmentation is not None:
            sample = varied(self.augmentation, sample, seed)
        return sample
