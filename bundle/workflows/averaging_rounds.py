"""
Federated averaging with a wall between: a site that trains when it is asked, and a server that asks and averages.

What is trained and how it is averaged is :mod:`bundle.workflows.averaging`, and so are the bits. FLARE's own FedAvg
recipe has a script and aggregators of its own travel to the sites, which their class list forbids; here weights travel
as messages, by the road of the training of the generator.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from bundle.files import save_torch, write_json
from bundle.server import Outcome, TooFewSites
from bundle.site.release import WeightsGate
from bundle.wire import Limits, WireLedger, guards
from bundle.wire.guards import Violation, check_round
from bundle.wire.messages import RoundReply, RoundRequest
from bundle.wire.weights import largest_packed, pack_weights, unpack_weights
from bundle.workflows.averaging import AveragingSite, averaging_site, weighted_average
from bundle.workflows.scoring import participant_workflow

__all__ = [
    "Averaging",
    "AveragingFederation",
    "ReleasingSite",
    "average_over",
    "make_releasing_site",
]

logger = logging.getLogger(__name__)


class ReleasingSite:
    """
    An :class:`AveragingSite` whose weights leave only if its owner has said so.

    Args:
        site: what trains.
        name: of the site.
        gate: its way out.
        allowed: whether weights may leave.
    """

    def __init__(self, site: AveragingSite, name: str, gate: WeightsGate, allowed: bool) -> None:
        self.name = name
        self.gate = gate
        self._site = site
        self._allowed = allowed
        self._network = site.weights()

    def requests(self, limits: Limits) -> dict[str, int]:
        """Bytes by type of what the server may send; see :meth:`bundle.wire.Limits.of_segmenter`."""
        return limits.of_segmenter(largest_packed(self._network))

    def train_round(self, request: RoundRequest) -> RoundReply:
        """
        Train from the weights in the request, write down what leaves, and return it.

        Raises:
            Violation: the request is for another site.
            ReleaseRefused: weights may not leave, or those of the request are of another network.
            LedgerError, OSError: the release cannot be written down.
        """
        guards.check_request(request, self.name)
        self.gate.check(self._allowed)
        try:
            weights = unpack_weights(request.weights, self._network)
        except Violation as error:
            self.gate.refuse("weights of another network", str(error))
        trained, loss = self._site.train(weights)
        packed, losses = pack_weights(trained), self.gate.losses({"loss": loss})
        self.gate.record_weights(packed, losses, request.round)
        return RoundReply(self.name, request.round, packed, self.gate.num_samples(self._site.num_samples), losses)


class AveragingFederation(Protocol):
    """Sites that average, as the server sees them, whatever lies between."""

    ledger: WireLedger

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of all the sites that are asked, sorted."""

    def ask(self, requests: Mapping[str, RoundRequest]) -> Outcome:
        """:class:`bundle.wire.messages.RoundReply` by site; a site that fails is no error here."""


class Averaging:
    """
    The server's half: rounds of asking all sites and averaging what they answer.

    Args:
        federation: the sites.
        weights: to begin with, a ``state_dict``.
        min_sites: how many have to answer a round.
    """

    def __init__(self, federation: AveragingFederation, weights: Mapping[str, torch.Tensor], min_sites: int) -> None:
        self.federation = federation
        self.weights = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
        self.min_sites = min(min_sites, len(federation.sites))
        self.done = 0
        self.num_samples: dict[str, int] = {}
        self.sites: dict[str, dict[str, Any]] = {
            site: {"state": "present", "answered": 0, "failures": 0} for site in federation.sites
        }

    def round(self) -> None:
        """
        One round: every site trains from the weights agreed on, and the mean of theirs takes their place.

        Raises:
            TooFewSites: fewer than ``min_sites`` answered as they should; the weights are those before.
        """
        number, packed = self.done + 1, pack_weights(self.weights)
        requests = {site: RoundRequest(site, number, packed) for site in self.federation.sites}
        outcome = self.federation.ask(requests)
        failures, answers, trained = dict(outcome.failures), {}, {}
        for site, reply in outcome.messages.items():
            try:
                check_round(reply, requests[site])
                trained[site] = unpack_weights(reply.weights, self.weights)
                answers[site] = reply
            except Violation as error:
                failures[site] = str(error)
        self._note(answers, failures, number)
        if len(answers) < self.min_sites:
            said = "; ".join(f"{site}: {reason}" for site, reason in sorted(failures.items()))
            raise TooFewSites(
                f"round {number}: {len(answers)} of at least {self.min_sites} sites answered (min_sites): {said}"
            )
        counts = {site: answers[site].num_samples for site in answers}
        self.weights = weighted_average(trained, counts)
        self.num_samples |= counts
        self.done = number
        losses = [f"{site} {reply.losses['loss']:.4g}" for site, reply in sorted(answers.items()) if reply.losses]
        logger.info("round %d is averaged over %s · loss %s", number, ", ".join(sorted(answers)), ", ".join(losses))

    def _note(self, answers: Mapping[str, RoundReply], failures: Mapping[str, str], number: int) -> None:
        for site, about in self.sites.items():
            if site in answers:
                about |= {"state": "present", "answered": about["answered"] + 1}
            else:
                reason = failures.get(site, "did not answer")
                about |= {"state": "missing", "failures": about["failures"] + 1, "last_failure": reason}
                logger.warning("round %d goes on without site %s: %s", number, site, reason)


def make_releasing_site(
    files: Iterable[str], site: str, given: Mapping[str, Any]
) -> tuple[ReleasingSite, dict[str, int]]:
    """
    Args:
        files: paths of the configs of ``average.yaml``.
        site: name of the site.
        given: values by key, those of the job and of the site itself.

    Returns:
        The site, and the bytes by type of what it may be sent.

    Raises:
        ValueError, OSError: what the configs, the data list or the release policy refuse.
    """
    workflow = participant_workflow(files, site, given)
    trained = averaging_site(workflow, site, len(workflow.make("site_names") or [site]))
    made = ReleasingSite(trained, site, workflow.make("gate"), workflow.make("allow_averaging"))
    return made, made.requests(workflow.make("limits"))


def average_over(averaging: Averaging, rounds: int, folder: Path, about: Mapping[str, Any]) -> list[Path]:
    """
    Do all rounds, and write what ``segment.yaml`` writes of a segmenter: ``segmenter.pt``, and ``record.json`` last.

    Args:
        averaging: the server's half, at its start.
        rounds: number of rounds.
        folder: to write to.
        about: what else the record says.

    Raises:
        TooFewSites: see :meth:`Averaging.round`.
    """
    since = time.monotonic()
    while averaging.done < rounds:
        averaging.round()
    seconds = time.monotonic() - since
    wire = averaging.federation.ledger.summary()
    record = {
        **about,
        "training_images": sum(averaging.num_samples.values()),
        "rounds": rounds,
        "num_samples": dict(sorted(averaging.num_samples.items())),
        "bytes_to_sites": wire["bytes_to_sites"],
        "bytes_from_sites": wire["bytes_from_sites"],
        "sites": averaging.sites,
        "seconds": round(seconds, 3),
        "seconds_per_step": seconds / max(1, about["steps"]),
    }
    files = [folder / "segmenter.pt", folder / "record.json"]
    save_torch(files[0], averaging.weights)
    write_json(files[1], record)
    return files
