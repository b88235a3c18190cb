"""What the trainer knows of the sites: a federation, whatever lies between."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from bundle.federation.codec import WireLedger
from bundle.federation.messages import ConditionBatch, ConditionRequest, SiteInfo, SiteReply, SyntheticBatch

__all__ = ["Federation"]


class Federation(ABC):
    """
    The sites, as the server sees them.

    ``state_dict`` / ``load_state_dict`` belong to the server's checkpoint: a federation that holds its sites in the
    same process stores them in it whole, one behind a network stores what it needs to tell its sites which of their own
    checkpoints to go back to.
    """

    ledger: WireLedger

    @property
    @abstractmethod
    def sites(self) -> tuple[str, ...]:
        """Names of the sites, sorted."""

    @abstractmethod
    def open(self, step: int) -> dict[str, SiteInfo]:
        """Ask every site to take part from ``step`` (from 1) on; by site: n_j and the conditions of that step."""

    @abstractmethod
    def exchange(self, batches: Mapping[str, SyntheticBatch]) -> dict[str, SiteReply]:
        """One step: to each site its own synthetic batch and no other; the replies by site."""

    @abstractmethod
    def conditions(self, request: ConditionRequest) -> ConditionBatch:
        """Conditions of one site, for generation."""

    @abstractmethod
    def state_dict(self) -> dict: ...

    @abstractmethod
    def load_state_dict(self, state: dict) -> None: ...
