"""A hospital's held-out cases, on which segmenters of others are scored: :class:`ScoringSite`."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch

from bundle.networks.weights import read_weights
from bundle.site.release.score_gate import ScoreGate
from bundle.site.release.scores import Sums, releasable
from bundle.wire import guards
from bundle.wire.limits import Limits
from bundle.wire.messages import ScoreRequest, Scores
from bundle.wire.weights import largest_packed, pack_weights, packed_digest, unpack_weights

__all__ = ["ScoringSite"]

logger = logging.getLogger(__name__)


class ScoringSite:
    """
    Scores the segmenters that a server sends on the site's own held-out cases, and says what its rules let out: sums
    and counts over enough cases.

    The scores are those of ``evaluate.yaml``: the same evaluator, metrics and bits. Sites of one process and sites
    behind a network are this one class.

    MONAI has a place for this, ``monai.fl.client.MonaiAlgo.evaluate``, and FLARE two, ``FedEvalRecipe`` and its
    cross-site evaluation. None of them serves here. MonaiAlgo returns the metrics' means as its evaluator has them, of
    however few cases and without a count to pool them by, and passes over a tensor that is missing. FLARE's recipe has
    a script travel to the sites, and its cross-site workflow wants components and model files of its own there: the
    class lists of startup kits forbid both. What travels here are messages, by the road of the training.

    Args:
        evaluator: makes MONAI's evaluator, with a :class:`bundle.engines.CaseMetrics` among its handlers; called when
            there is something to score, and again after an evaluation that failed.
        network: ``state_dict`` of the network that it evaluates, of any weights.
        name: of the site.
        gate: the site's way out.
        cases: number of its held-out cases.
        min_cases: how many cases a sum is over at least.
        per_case: whether the scores of single cases leave as well, without their names.

    Raises:
        ValueError: ``min_cases`` is below 1.
    """

    def __init__(
        self,
        evaluator: Callable[[], Any],
        network: Mapping[str, torch.Tensor],
        name: str,
        gate: ScoreGate,
        cases: int,
        min_cases: int = 5,
        per_case: bool = False,
    ) -> None:
        if min_cases < 1:
            raise ValueError(f"min_cases: expected a whole number of at least 1, got {min_cases}")
        self.name = name
        self.gate = gate
        self.cases = cases
        self.min_cases = min_cases
        self.per_case = per_case
        self._make_evaluator = evaluator
        self._evaluator: Any = None
        self._network = network

    def requests(self, limits: Limits) -> dict[str, int]:
        """Bytes by type of what the server may send; see :meth:`bundle.wire.Limits.of_segmenter`."""
        return limits.of_segmenter(largest_packed(self._network))

    def score(self, request: ScoreRequest) -> Scores:
        """
        Score a segmenter, write down what leaves, and return it.

        Raises:
            Violation: the request is for another site.
            ReleaseRefused: too few held-out cases, weights of another network, or a release policy that lets no score
                out; in words that name nothing of the site's.
            DataError: a case that cannot be read.
            LedgerError, OSError: the release cannot be written down.
        """
        guards.check_request(request, self.name)
        self.gate.check(self.cases, self.min_cases)
        try:
            weights = unpack_weights(request.weights, self._network)
        except guards.Violation as error:
            self.gate.refuse("weights of another network", str(error))
        scores = self._scores(weights)
        sums = releasable(scores, self.min_cases)
        if not sums:
            self.gate.check(0, self.min_cases)
        values = _table(scores, sums) if self.per_case else torch.empty(0)
        digest = packed_digest(request.weights)
        self.gate.record_scores(sums, values, weights=digest, cases=self.cases, min_cases=self.min_cases)
        logger.info("site %s: scores of a segmenter: %d metrics, %d cases", self.name, len(sums), self.cases)
        return Scores(
            self.name,
            digest,
            counts={metric: about.count for metric, about in sums.items()},
            sums={metric: about.total for metric, about in sums.items()},
            squares={metric: about.squares for metric, about in sums.items()},
            values=values,
        )

    def would_say(self, path: str | os.PathLike) -> str:
        """
        What :meth:`score` would say of a segmenter, as JSON, for who runs the site.

        Args:
            path: its weights.

        Raises:
            FileNotFoundError, ValueError: there are no weights.
            ReleaseRefused: see :meth:`score`.
        """
        weights = read_weights(path, "expected weights of a segmenter, as segment.yaml writes them")
        said = self.score(ScoreRequest(self.name, pack_weights(weights)))
        return json.dumps(vars(said) | {"values": said.values.tolist()}, indent=1)

    def _scores(self, weights: Mapping[str, torch.Tensor]) -> dict[str, dict[str, float | None]]:
        """By metric and case."""
        evaluator, self._evaluator = self._evaluator or self._make_evaluator(), None
        evaluator.network.load_state_dict(dict(weights))
        evaluator.run()
        # one that failed in the middle goes on from there when it runs again: it is not kept
        self._evaluator = evaluator
        return {metric: about["per_case"] for metric, about in evaluator.state.case_metrics.items()}


def _table(scores: Mapping[str, Mapping[str, float | None]], sums: Mapping[str, Sums]) -> torch.Tensor:
    """M×N float32: scores of single cases, NaN where there is none."""
    rows = []
    for metric in sorted(sums):
        cases = scores[metric.partition("/")[0]]  # a group's, in the columns of all
        rows.append([_number(scores[metric].get(case)) for case in cases])
    return torch.tensor(rows, dtype=torch.float32)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
