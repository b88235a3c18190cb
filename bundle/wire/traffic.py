"""The count of what was sent."""

from __future__ import annotations

__all__ = ["WireLedger"]


class WireLedger:
    """
    Bytes per site and direction as sent, that is after compression, and the number of steps they were sent for.

    A site is known from its first message on; the total of one that has not sent or been sent any is 0.
    """

    def __init__(self) -> None:
        self.to_sites: dict[str, int] = {}
        self.from_sites: dict[str, int] = {}
        self.messages_to_sites = 0
        self.messages_from_sites = 0
        self.steps = 0

    def sent(self, site: str, size: int) -> None:
        """Count a message of ``size`` bytes from the server to a site."""
        self.to_sites[site] = self.to_sites.get(site, 0) + size
        self.messages_to_sites += 1

    def received(self, site: str, size: int) -> None:
        """Count a message of ``size`` bytes from a site to the server."""
        self.from_sites[site] = self.from_sites.get(site, 0) + size
        self.messages_from_sites += 1

    def state_dict(self) -> dict:
        return {
            "to_sites": dict(self.to_sites),
            "from_sites": dict(self.from_sites),
            "messages_to_sites": self.messages_to_sites,
            "messages_from_sites": self.messages_from_sites,
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state; the first checkpoints counted no messages, and go on from 0."""
        self.to_sites, self.from_sites = dict(state["to_sites"]), dict(state["from_sites"])
        self.messages_to_sites = state.get("messages_to_sites", 0)
        self.messages_from_sites = state.get("messages_from_sites", 0)
        self.steps = state["steps"]

    def summary(self) -> dict:
        """The block ``wire`` of ``results.json``."""
        return {
            "bytes_to_sites": sum(self.to_sites.values()),
            "bytes_from_sites": sum(self.from_sites.values()),
            "messages_to_sites": self.messages_to_sites,
            "messages_from_sites": self.messages_from_sites,
            "steps": self.steps,
            "per_site": {
                site: {"to": self.to_sites.get(site, 0), "from": self.from_sites.get(site, 0)}
                for site in sorted(self.to_sites | self.from_sites)
            },
        }
