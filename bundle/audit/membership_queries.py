"""Membership inference through the wall: what a site's answer says of a candidate that is sent as a synthetic image."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch

from bundle.audit.candidates import Candidates
from bundle.audit.fresh_sites import renew_gate
from bundle.site.site import Site
from bundle.wire.fold_losses import of_all_folds
from bundle.wire.messages import SiteReply, SyntheticBatch

__all__ = ["ADVERSARIAL", "GRADIENT", "ask", "wall_scores"]

ADVERSARIAL = "adversarial loss"
GRADIENT = "image gradient"


def ask(site: Site, image: torch.Tensor, condition: torch.Tensor) -> SiteReply:
    """
    Send one image, in all places of a batch, for the conditions that the site issues next or, to a site that issues
    none, for its own. All that is said to a site is said here.

    Args:
        site: in the state that it is to answer from; it is a step further afterwards.
        image: C×H×W float32 in [-1, 1].
        condition: X×H×W uint8, that of the image.

    Raises:
        ValueError, ReleaseRefused: as :meth:`bundle.site.Site.step`.
    """
    info = site.open(site.trained + 1)
    images, own = (one.expand(info.batch_size, *one.shape).contiguous() for one in (image, condition))
    sent = {} if info.conditions.numel() else {"conditions": own}
    return site.step(SyntheticBatch(site.name, info.step, images, info.nonce, **sent))


def wall_scores(candidates: Candidates, sites: dict[str, Site], num_steps: int | None = None) -> dict[str, np.ndarray]:
    """
    Ask the site of every candidate once, from the state that the site is in now; it is put back each time.

    In a training a question is a step, after which D_j has changed; so these are as good as the first question of a
    server, and for more than one they are an upper bound. All candidates of a site meet the same issued conditions,
    which are not their own; where the site issues none, everyone is sent with its own: the worst case, a server that
    has the mask of whom it asks for.

    Args:
        candidates: the slices.
        sites: by name of the holder.
        num_steps: of the training, see :func:`bundle.audit.fresh_sites.renew_gate`.

    Returns:
        By what the score is computed from, N float64: :data:`ADVERSARIAL`, minus the scalar that the site returns: the
        lower, the more its D takes the candidate for real (not among them where a site withholds it).
        :data:`GRADIENT`, minus the L2 norm of the gradient: that of the non-saturating loss vanishes where D is
        certain. It is all that there is where scalars are withheld, and holds the gradients of L1 and perceptual terms
        as well.

    Raises:
        ValueError: naming a holder that is no site.
    """
    if missing := sorted(set(candidates.holders) - set(sites)):
        raise ValueError(f"no site {missing[0]}: there are {sorted(sites)}")
    before = {name: deepcopy(sites[name].state_dict()) for name in set(candidates.holders)}
    found: dict[str, list[float]] = {ADVERSARIAL: [], GRADIENT: []}
    for image, condition, holder in zip(candidates.images, candidates.conditions, candidates.holders, strict=True):
        site = sites[holder]
        renew_gate(site, num_steps, site.trained + 1)
        try:
            reply = ask(site, image, condition)
        finally:
            site.load_state_dict(deepcopy(before[holder]))
        losses = of_all_folds(reply.losses)
        if "adversarial" in losses:
            found[ADVERSARIAL].append(-losses["adversarial"])
        found[GRADIENT].append(-torch.linalg.vector_norm(reply.image_gradient.double()).item())
    return {name: np.array(scores) for name, scores in found.items() if len(scores) == len(candidates)}
