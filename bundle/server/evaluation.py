"""Segmenters scored at the sites that hold the cases, and what the sites said: :class:`FederatedEvaluation`."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from bundle.files import write_json
from bundle.networks.weights import read_weights
from bundle.server.federation import Outcome
from bundle.text import refusals
from bundle.wire.codec import WireLedger
from bundle.wire.guards import Violation, check_scores
from bundle.wire.messages import ScoreRequest, Scores
from bundle.wire.weights import check_weights, largest_packed, pack_weights, packed_digest

__all__ = ["RESULTS_FILE", "FederatedEvaluation", "ScoringFederation", "matrix", "pooled", "read_segmenter"]

logger = logging.getLogger(__name__)

RESULTS_FILE = "federated_evaluation.json"
"""Name of what an evaluation leaves in the folder of a run."""
_ROOM = 2**20  # of what torch writes around the tensors
_MODEL = Path("models", "model.pt")
"""Where a bundle that ``asyndgan pack`` wrote has its weights."""


class ScoringFederation(Protocol):
    """Sites that score, as the server sees them, whatever lies between."""

    ledger: WireLedger

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of all the sites that are asked, sorted."""

    def ask(self, requests: Mapping[str, ScoreRequest]) -> Outcome:
        """:class:`bundle.wire.messages.Scores` by site; a site that fails is no error here."""


class FederatedEvaluation:
    """
    Sends segmenters to sites, one after the other and each to all, and keeps what comes back.

    ``federated_evaluation.json``::

        {"task": "brats", "metrics": ["dice", ...], "key_metric": "dice", "units": {...}, "sites": ["A", "B"],
         "segmenters": {NAME: {
            "weights": SHA-256,
            "sites": {"A": {"dice": {"count": 7, "sum": 5.1, "sum_of_squares": 3.9}, ...}},
            "failures": {"B": "refused: too few held-out cases to let scores of them out (min_cases)"},
            "per_case": {"A": {"dice": [0.7, ...]}},         of sites whose owner lets them out, null for none
            "pooled": {"dice": {"count": 7, "mean": 0.73, "std": 0.1}}}},
         "wire": {...}}

    A segmenter whose file cannot be sent has a ``failure`` and nothing else. Until all are scored, those that are stand
    in ``federated_evaluation.partial.json``.

    Args:
        federation: the sites.
        network: ``state_dict`` of the segmenter's network, from the configs.
        metrics: names of the metrics that the configs have.
        path: the file to write.
        about: what else to write.
    """

    def __init__(
        self,
        federation: ScoringFederation,
        network: Mapping[str, torch.Tensor],
        metrics: Collection[str],
        path: str | os.PathLike,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.federation = federation
        self.network = network
        self.metrics = frozenset(metrics)
        self.path = path
        self.about = dict(about or {})
        self.done = 0

    def run(self, segmenters: Mapping[str, str | os.PathLike]) -> dict[str, Any]:
        """
        Args:
            segmenters: files of weights, or folders of packed bundles, by name.

        Returns:
            What was written.

        Raises:
            ValueError: there are no segmenters.
        """
        if not segmenters:
            raise ValueError("there are no segmenters to score")
        found: dict[str, Any] = {}
        partial = Path(self.path).with_suffix(".partial.json")
        results: dict[str, Any] = {}
        for name, path in segmenters.items():
            logger.info("segmenter %d of %d: %s", len(found) + 1, len(segmenters), name)
            found[name] = self._one(path)
            self.done = len(found)
            results = self.about | {
                "sites": list(self.federation.sites),
                "segmenters": found,
                "wire": self.federation.ledger.summary(),
            }
            write_json(partial, results)
        os.replace(partial, self.path)
        return results

    def _one(self, path: str | os.PathLike) -> dict[str, Any]:
        try:
            packed = pack_weights(read_segmenter(path, self.network))
        except (ValueError, OSError) as error:  # the other segmenters are scored
            logger.error("%s", error)
            return {"failure": str(error)}
        digest = packed_digest(packed)
        outcome = self.federation.ask({site: ScoreRequest(site, packed) for site in self.federation.sites})
        failures = dict(outcome.failures)
        answers: dict[str, Scores] = {}
        for site, said in outcome.messages.items():
            try:
                check_scores(said, site, digest, self.metrics)
                answers[site] = said
            except Violation as error:
                failures[site] = str(error)
        for site, reason in sorted(failures.items()):
            logger.warning("site %s: %s", site, reason)
        sums = {site: _sums(answers[site]) for site in sorted(answers)}
        per_case = {site: _values(answers[site]) for site in sorted(answers) if answers[site].values.numel()}
        found = {"weights": digest, "sites": sums, "failures": dict(sorted(failures.items())), "pooled": pooled(sums)}
        return found | ({"per_case": per_case} if per_case else {})


def read_segmenter(path: str | os.PathLike, network: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """
    Weights of a segmenter from a file, or from the folder of a packed bundle.

    Args:
        path: of either.
        network: ``state_dict`` of the network that they are for.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a file that is too large, or of another kind, or weights of another network.
    """
    file = Path(path) / _MODEL if Path(path).is_dir() else Path(path)
    expected = "expected the weights of a segmenter, segmenter.pt of a run or the folder of a packed bundle"
    most = 2 * largest_packed(network) + _ROOM
    if file.is_file() and file.stat().st_size > most:
        raise ValueError(f"{file}: {file.stat().st_size} bytes, expected at most {most}; {expected}")
    weights = read_weights(file, expected)
    try:
        check_weights(weights, network)
    except Violation as error:
        raise ValueError(f"{file}: {error}") from error
    return weights


def pooled(sums: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float | None]]:
    """
    Mean and standard deviation over the cases of all sites, of every metric.

    Args:
        sums: by site and metric: ``count``, ``sum`` and ``sum_of_squares``.

    Returns:
        By metric: ``count``, ``mean`` and ``std``, with n - 1; None for one case.
    """
    found: dict[str, dict[str, float | None]] = {}
    for metric in sorted({metric for its in sums.values() for metric in its}):
        parts = [its[metric] for its in sums.values() if metric in its]
        count, total, squares = (math.fsum(part[what] for part in parts) for what in ("count", "sum", "sum_of_squares"))
        spread = None if count < 2 else math.sqrt(max(0.0, squares - total * total / count) / (count - 1))
        found[metric] = {"count": int(count), "mean": total / count, "std": spread}
    return found


def matrix(results: Mapping[str, Any], metric: str) -> str:
    """
    The means of a metric as a table of text: a row for each segmenter, a column for each site and one for all cases.

    Args:
        results: content of ``federated_evaluation.json``.
        metric: a name of it.
    """
    sites = results["sites"]
    rows = [["trained at / scored at", *sites, "all cases"]]
    for name, about in results["segmenters"].items():
        scored, over_all = about.get("sites", {}), about.get("pooled", {}).get(metric)
        means = [_mean(scored[site][metric]) if metric in scored.get(site, {}) else "-" for site in sites]
        rows.append([name, *means, "-" if over_all is None else f"{over_all['mean']:.3f} (n={over_all['count']})"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([metric, *lines, *refusals(results["segmenters"])])


def _mean(sums: Mapping[str, float]) -> str:
    return f"{sums['sum'] / sums['count']:.3f} (n={sums['count']})"


def _sums(said: Scores) -> dict[str, dict[str, float]]:
    return {
        metric: {"count": said.counts[metric], "sum": said.sums[metric], "sum_of_squares": said.squares[metric]}
        for metric in sorted(said.counts)
    }


def _values(said: Scores) -> dict[str, list[float | None]]:
    rows = zip(sorted(said.counts), said.values.tolist(), strict=True)
    return {metric: [value if math.isfinite(value) else None for value in row] for metric, row in rows}
