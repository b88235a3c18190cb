"""The way out of a site for weights that were trained on its images: :class:`WeightsGate`."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from bundle.site.release.gate import ReleaseGate

__all__ = ["WeightsGate"]


class WeightsGate(ReleaseGate):
    """
    A :class:`ReleaseGate` that lets weights of a segmenter out, and keeps the same ledger.

    Nothing bounds what they tell of the images, so the owner has to have said that they may leave; a policy with a
    finite ε lets none out.
    """

    def check(self, allowed: bool) -> None:
        """
        Args:
            allowed: what the owner has said.

        Raises:
            ReleaseRefused: before anything is trained, when no weights may leave.
        """
        if not allowed:
            self.refuse("weights", "it lets no weights out that were trained on its images (allow_averaging)")
        if self.policy.epsilon is not None and self.policy.epsilon < math.inf:
            self.refuse("weights", f"its release policy, {self.policy.name}, lets no weights out")

    def record_weights(self, packed: torch.Tensor, losses: Mapping[str, float], round: int) -> None:
        """
        Write down weights that are about to leave.

        Args:
            packed: their bytes.
            losses: that leave with them.
            round: of the averaging.

        Raises:
            LedgerError, OSError: when the ledger cannot be written.
        """
        self.record("weights", {"weights of a segmenter": packed}, losses, round=round)
