"""A site as the server can play it."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import torch

from bundle.audit.site_queries import Asker
from bundle.site import Site
from bundle.site.release import ReleaseGate

__all__ = ["Rehearsal"]


class Rehearsal:
    """
    A site as the server can play it at its own place: the same discriminator and the same draws, with a guess in the
    place of the real image.

    A server knows all it takes: the configuration, and the seed of the run, from which the initial weights and the
    draws of the augmentation follow. It doesn't know the weights of a site that went back to a checkpoint of its own.

    Args:
        site: the site; it is copied.
        asker: how the site is asked.
    """

    def __init__(self, site: Site, asker: Asker) -> None:
        # the copy never sees the samples: the guess takes their place
        twin = deepcopy(site, {id(site.samples): None})
        blank = torch.zeros_like(site.draw(asker.step)["image"])
        self._guess = twin.samples = _GuessedSamples(len(site.samples), asker.conditions, blank)
        # nor has the server what is on the site's disk, or was drawn from its samples; the guess is deformed already
        twin.store = twin._drawn = None
        # it clips as the site does; noise it cannot know, and its own copy is not counted out
        free = {"max_issues": None, "max_releases": None, "scalar_losses": True}
        policy = replace(site.policy, **free, **({"epsilon": math.inf} if site.policy.private else {}))
        twin.gate = ReleaseGate(policy, site.name)
        self._asker = Asker(twin, asker.step, asker.conditions)

    def gradient(self, images: torch.Tensor) -> torch.Tensor:
        """
        Args:
            images: B×C×H×W float32 in [-1, 1].

        Returns:
            B×C×H×W: what the site would return for these images, if they were the real ones. An L1 or perceptual term
            is at its minimum there and contributes nothing: this is the adversarial part.
        """
        self._guess.images = images
        return self._asker.ask(images).image_gradient


class _GuessedSamples:
    """Always the same batch: see :class:`bundle.site.samples.Samples`."""

    def __init__(self, length: int, conditions: torch.Tensor, images: torch.Tensor) -> None:
        self.length = length
        self.conditions = conditions
        self.images = images

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        return {"condition": self.conditions[index], "image": self.images[index]}

    def batch(self, seed: int, name: str, first: int, count: int) -> dict:
        return {"condition": self.conditions, "image": self.images}

    def origin(self, index: int) -> tuple[int]:
        return (index,)
