"""The way out of a site for scores of segmenters: :class:`ScoreGate`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from bundle.site.release.digests import tensor_digest
from bundle.site.release.gate import ReleaseGate
from bundle.site.release.released import parts
from bundle.site.release.scores import Sums

__all__ = ["ScoreGate"]


class ScoreGate(ReleaseGate):
    """
    A :class:`ReleaseGate` that lets scores of held-out cases out, and keeps the same ledger.

    A policy with a finite ε lets none out: no noise covers them.
    """

    def check(self, cases: int, min_cases: int) -> None:
        """
        Before a segmenter is scored, and when nothing is left of its scores.

        Args:
            cases: that have a score.
            min_cases: that a sum has to be over at least.

        Raises:
            ReleaseRefused: when there are too few, or the policy forbids it.
        """
        if self.policy.epsilon is not None and self.policy.epsilon < math.inf:
            self.refuse("scores", f"its release policy, {self.policy.name}, lets no scores out")
        if cases < min_cases:
            self.refuse("scores of too few cases", "too few held-out cases to let scores of them out (min_cases)")

    def record_scores(self, sums: Mapping[str, Sums], values: torch.Tensor, **about: Any) -> None:
        """
        Write down scores of a segmenter that are about to leave.

        Args:
            sums: by metric.
            values: scores of single cases; empty where none leave.
            about: what else is to be said of them, plain values.

        Raises:
            LedgerError, OSError: when the ledger cannot be written.
        """
        held = {"scores of single cases": values} if values.numel() else {}
        numbers = {metric: [own.count, own.total, own.squares] for metric, own in sums.items()}
        summed = {"what": "sums of scores", "names": sorted(sums), "bytes": 24 * len(sums)}
        digest = tensor_digest(*held.values(), numbers)
        self._records.write_release("scores", digest=digest, parts=[summed, *parts(held, {}, "")], **about)
        self._records.refusals.write_due(self._records.write)
