"""Which channels of the generator's images each site has, what travels of them, and what comes of their gradients."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from bundle.wire.guards import Violation
from bundle.wire.messages import SiteInfo

__all__ = ["Channels"]

logger = logging.getLogger(__name__)


class Channels:
    """
    The channels of sites that may lack modalities of the task (Chang et al. 2023, *Nature Communications*): a site is
    sent those it has, the weights π of a channel are over the sites that have it, and the gradient of the others is 0.

    Args:
        modalities: names of the channels of G's images, in their order; None where no site may lack any.
        mixture: see :func:`bundle.server.mixture_weights`.
    """

    def __init__(self, modalities: Sequence[str] | None = None, mixture: str = "proportional") -> None:
        self.modalities = tuple(modalities or ())
        self.mixture = mixture
        self._own: dict[str, list[int]] = {}  # of the sites that have said theirs; empty for all

    def join(self, info: SiteInfo, about: dict[str, Any]) -> None:
        """
        A site takes part with the modalities that it names.

        Args:
            info: what it said.
            about: its record in the roster, which keeps them: ``modalities``, where it lacks some.

        Raises:
            Violation: when they are none of the task's, or others than before.
        """
        names = info.modalities.split(",") if info.modalities else []
        in_order = [name for name in self.modalities if name in names]
        if names != in_order or len(names) == len(self.modalities) > 0:
            raise Violation(
                f"it names the modalities {info.modalities!r:.200}, expected some of {', '.join(self.modalities)}, in "
                "that order, and none of a site that has all (the list of a site says them, modalities)"
            )
        before = about.get("modalities", "")
        if (info.site in self._own or about["last_step"]) and before != info.modalities:
            raise Violation(
                f"it comes back with {info.modalities or 'every modality'}, and had {before or 'every modality'} "
                "before: its data list has changed (modalities)"
            )
        if names:
            about["modalities"] = info.modalities
        self._own[info.site] = [self.modalities.index(name) for name in names]

    def check(self, step: int, present: Collection[str], sites: Collection[str]) -> None:
        """
        Args:
            step: the step to come.
            present: the sites that take part.
            sites: all of the run.

        Raises:
            ValueError: before the first step, when no site has a modality, and none is missing that may have it.
        """
        own = [self._own[site] for site in sites if site in self._own]
        if not own or not all(own):
            return  # nobody is there, or one that has all
        had = {index for channels in own for index in channels}
        nobody = [name for index, name in enumerate(self.modalities) if index not in had]
        if not nobody:
            return
        told = f"no site of {', '.join(sorted(present))} has {', '.join(nobody)} (modalities)"
        if step == 1 and len(present) == len(sites):
            raise ValueError(f"{told}, in its data list, and the generator would draw it: leave it out of the job's")
        logger.warning("step %d: %s: the generator does not learn it until one has", step, told)

    def sent(self, site: str, images: torch.Tensor) -> torch.Tensor:
        """The channels of B×C×H×W images that a site has: those that travel to it."""
        own = self._own.get(site)
        return images[:, own] if own else images

    def weighted(
        self,
        site: str,
        gradient: torch.Tensor,
        weight: float,
        num_samples: Mapping[str, int],
    ) -> torch.Tensor:
        """
        The weighted gradient of all channels. With ``proportional`` weights a site's w_j counts in channel c
        w_j · Σ_i n_i / Σ_{i has c} n_i, over the sites that take part: so the weights of every channel add up to 1, or
        their mean over all draws of a step's sites does (:func:`bundle.server.asked_sites`).

        Args:
            site: that has answered.
            gradient: ∂L_j/∂ŷ, B×C_j×H×W, of the channels that the site has.
            weight: w_j, of :func:`bundle.server.mixture_weights`.
            num_samples: n_j of all sites that take part, but for those that were asked and have not answered.

        Returns:
            B×C×H×W, 0 in the channels that the site does not have.
        """
        if not any(self._own.get(one) for one in num_samples):
            return weight * gradient
        whole = gradient.new_zeros(len(gradient), len(self.modalities), *gradient.shape[2:])
        for place, channel in enumerate(self.own(site)):
            whole[:, channel] = weight * self._factor(channel, num_samples) * gradient[:, place]
        return whole

    def shares(self, site: str, num_samples: Mapping[str, int]) -> torch.Tensor | None:
        """
        What each channel of a site counts in a mean over its channels, so that the sum over sites weighs every channel
        as :meth:`weighted` does: C float32; None where no site lacks any.
        """
        if not any(self._own.get(one) for one in num_samples):
            return None
        own = self.own(site)
        return torch.tensor([self._factor(c, num_samples) * len(own) / len(self.modalities) for c in own])

    def own(self, site: str) -> Sequence[int]:
        """Numbers of the channels that a site has."""
        return self._own.get(site) or range(len(self.modalities))

    def _factor(self, channel: int, num_samples: Mapping[str, int]) -> float:
        if self.mixture == "sum":
            return 1.0
        having = sum(n for site, n in num_samples.items() if channel in self.own(site))
        return sum(num_samples.values()) / having
