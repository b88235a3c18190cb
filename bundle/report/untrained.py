"""Whether a setting's segmenter is far from what more steps would give: then nothing is said of its ratio to others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .formats import as_number, listed
from .names import display_name

LEARNED = 1 / 3
"""Share of its first training loss that a segmenter has to lose. A learning rate that ends at 0 flattens every curve,
also that of 20 steps, which lose a fifth."""
FALLING = 0.1
"""A loss that falls by more than this share within the last fifth of the steps has not come to its end."""


def summarize_loss(losses: Sequence[float] | np.ndarray) -> dict[str, float] | None:
    """
    What is kept of a training's loss: the mean of its first hundredth, and of each half of the last fifth.

    Args:
        losses: one for each step, in order.

    Returns:
        ``{"first", "before_last", "last"}``; None for fewer than 2 steps, or where one of the means is not finite.
    """
    values = np.asarray(losses, dtype=float)
    if len(values) < 2:
        return None
    fifth = values[-max(2, len(values) // 5) :]
    halves = np.array_split(fifth, 2)
    parts = {"first": values[: max(1, len(values) // 100)], "before_last": halves[0], "last": halves[1]}
    means = {name: float(part.mean()) for name, part in parts.items()}
    return means if all(np.isfinite(value) for value in means.values()) else None


def is_untrained(results: Mapping[str, Any], setting: str) -> bool:
    """
    Whether some seed's segmenter of a setting has lost less than :data:`LEARNED` of its first loss, or whether its loss
    fell by more than :data:`FALLING` at the end. False where ``results`` do not say.
    """
    scores = (results.get("settings") or {}).get(setting) or {}
    return any(_unfinished(loss) for loss in scores.get("segmenter_loss") or [])


def _unfinished(loss: Mapping[str, Any] | None) -> bool:
    first, before, last = (as_number((loss or {}).get(name)) for name in ("first", "before_last", "last"))
    if not all(map(math.isfinite, (first, before, last))):
        return False
    return last > (1 - LEARNED) * first or last < (1 - FALLING) * before


def untrained_settings(results: Mapping[str, Any]) -> list[str]:
    """The settings whose segmenters are untrained."""
    return [setting for setting in results.get("settings") or {} if is_untrained(results, setting)]


def warning(results: Mapping[str, Any]) -> str:
    """One sentence about untrained segmenters, and what is left out for them; empty without any."""
    names = [display_name(setting) for setting in untrained_settings(results)]
    if not names:
        return ""
    return (
        f"Not trained to the end: {listed(names)}. More steps (segmenter_steps) would change these scores, so no ratio "
        "to them and no p is given."
    )
