"""What handlers make of a step's output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

__all__ = ["first_images", "losses_by_tag", "mean_losses"]


def losses_by_tag(output: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The output of a step as scalars: ``loss/SITE/TERM``, and ``seconds/PART`` of the server's time."""
    (about,) = output
    losses = {f"loss/{site}/{term}": v for site, terms in about["losses"].items() for term, v in terms.items()}
    losses |= {"replay": about["replay"]} if "replay" in about else {}
    return losses | {f"seconds/{part}": value for part, value in about.get("seconds", {}).items()}


def mean_losses(output: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The losses of a step by term, averaged over the sites that answered with it."""
    by_term: dict[str, list[float]] = {}
    for losses in output[0]["losses"].values():
        for term, value in losses.items():
            by_term.setdefault(term, []).append(value)
    return {term: sum(values) / len(values) for term, values in by_term.items()}


def first_images(output: Sequence[Mapping[str, Any]]) -> torch.Tensor:
    """
    The output of a step as one picture for TensorBoard: a row for every site that answered, its first condition beside
    what the generator made of it. Real images are none: the server has none.

    Returns:
        1×3×(S·H)×(2·W), float32 in [0, 1], of S sites. A condition's classes get brighter in the order of its channels;
        of an image that is neither grey nor RGB, the first channel is shown.
    """
    (about,) = output
    rows = []
    for site in sorted(about["images"]):
        condition, image = about["conditions"][site][0].cpu().float(), about["images"][site][0].cpu().float()
        brightness = torch.arange(len(condition), 0, -1).reshape(-1, 1, 1) / len(condition)
        shown = (condition * brightness).amax(dim=0, keepdim=True)
        image = ((image if len(image) == 3 else image[:1]) + 1) / 2
        rows.append(torch.cat([shown.expand(3, -1, -1), image.clamp(0, 1).expand(3, -1, -1)], dim=2))
    height, width = (max(row.shape[axis] for row in rows) for axis in (1, 2))
    padded = [torch.nn.functional.pad(r, (0, width - r.shape[2], 0, height - r.shape[1])) for r in rows]
    return torch.cat(padded, dim=1)[None]
