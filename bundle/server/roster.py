"""The server's account of its sites: who takes part, who is missing and why, who is left out."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from bundle.engines.checkpoint_handlers import StoppedAtStep

__all__ = ["ReleasesEnded", "Roster", "TooFewSites"]

logger = logging.getLogger(__name__)

PRESENT, MISSING, LEFT_OUT, ENDED = "present", "missing", "left out", "ended"
COUNTS = ("last_step", "answered", "failures", "strikes", "late")


class TooFewSites(StoppedAtStep):
    """Too few sites answered for a step to be done; the message says which, who is missing, and why."""


class ReleasesEnded(TooFewSites):
    """So many sites have spent their budget that no further step can be done: the training is at its end."""


class Roster:
    """
    Who takes part in a run.

    A site is ``present``; ``missing`` after it failed in a step, until it has been asked to open again; ``left out``
    for the rest of the run, after ``max_strikes`` strikes; or ``ended``, when it has said that it will release nothing
    more. A strike is an answer that no site which computes what it should could have given; being out of reach or late
    is none.

    Args:
        sites: names of all sites of the run.
        min_sites: how many must answer for a step to be done; more than there are means all of them.
        rejoin_interval: steps after which a missing site is asked to open again.
        max_strikes: strikes at which a site is left out.

    ``record`` holds, by site: ``state``; ``last_step``, the last that the site took part in; ``answered``, the number
    of steps that it took part in; ``failures``, how often it did not answer or not as it should, ``strikes`` and
    ``late`` among them; ``policy``, its release policy in words, once it has said so. Plain strings and integers: a
    checkpoint and a JSON file take it as it is. Where a step asks some of the sites, also ``waits``: the step that the
    conditions, which the site issued last, were issued for.

    Raises:
        ValueError: when one of the numbers is not a whole number of at least 1.
    """

    def __init__(
        self, sites: Iterable[str], min_sites: int = 1, rejoin_interval: int = 10, max_strikes: int = 3
    ) -> None:
        numbers = {"min_sites": min_sites, "rejoin_interval": rejoin_interval, "max_strikes": max_strikes}
        for name, value in numbers.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name}: expected a whole number of at least 1, got {value!r}")
        self.record: dict[str, dict[str, Any]] = {
            site: {"state": MISSING} | dict.fromkeys(COUNTS, 0) for site in sorted(sites)
        }
        self.min_sites = min(min_sites, len(self.record))
        self.rejoin_interval = rejoin_interval
        self.max_strikes = max_strikes
        self._reasons: dict[str, str] = {}
        self._next_open: dict[str, int] = {}
        self._waiting: dict[str, int] = {}  # who took part when the checkpoint was written, and waits to be asked

    def start(self, step: int, record: Mapping[str, Mapping[str, Any]]) -> None:
        """
        Begin or go on at a step: whoever is not left out is asked to open.

        Args:
            step: the next step.
            record: ``record`` of the run so far, from a checkpoint.
        """
        for site, about in self.record.items():
            about.update(record.get(site, {}))
            if about["state"] == PRESENT and "waits" in about:
                self._waiting[site] = about["waits"]
            about["state"] = LEFT_OUT if about["strikes"] >= self.max_strikes else MISSING
            self._next_open[site] = step
            self._reasons.setdefault(site, f"{about['strikes']} strikes" if about["strikes"] else "not asked yet")

    @property
    def present(self) -> list[str]:
        return [site for site, about in self.record.items() if about["state"] == PRESENT]

    def due(self, step: int) -> list[str]:
        """Missing sites that are to be asked to open for this step, sorted."""
        missing = (site for site, about in self.record.items() if about["state"] == MISSING)
        return [site for site in missing if self._next_open[site] <= step]

    def opening(self, sites: Iterable[str], step: int) -> dict[str, int]:
        """
        The step that each of these sites is asked to open for: the present one, or that of the conditions which it had
        issued when the run was interrupted, so that the very same are waited with.
        """
        return {site: self._waiting.pop(site, step) for site in sites}

    def waits(self, site: str, step: int) -> None:
        """A site has issued conditions for this step, and waits to be asked."""
        self.record[site]["waits"] = step

    def opened(self, site: str, step: int, trained: int, policy: str = "") -> None:
        """A site takes part from this step on; its discriminator has seen the steps up to ``trained``."""
        about = self.record[site]
        about |= {"policy": policy} if policy else {}
        if about["last_step"] or about["failures"]:
            logger.info("step %d: site %s is back, trained up to step %d", step, site, trained)
        about["state"] = PRESENT

    def answered(self, site: str, step: int) -> None:
        """A site took part in a step."""
        about = self.record[site]
        about["last_step"] = step
        about["answered"] += 1

    def failed(self, site: str, step: int, reason: str) -> None:
        """A site did not answer, or not so that the answer could be used."""
        about = self.record[site]
        about["failures"] += 1
        # one that stays away is asked again and again: that it has failed is news once
        level = logging.WARNING if about["state"] == PRESENT or self._reasons.get(site) != reason else logging.DEBUG
        about["state"] = MISSING
        self._reasons[site] = reason
        self._next_open[site] = step + self.rejoin_interval
        logger.log(level, "step %d goes without site %s: %s", step, site, reason)

    def ended(self, site: str, step: int, reason: str) -> None:
        """A site will release nothing more."""
        self.failed(site, step, reason)
        self.record[site]["state"] = ENDED

    def late(self, site: str, step: int, reason: str) -> None:
        """A site answered an earlier step."""
        self.record[site]["late"] += 1
        self.failed(site, step, reason)

    def dropped(self, counts: Mapping[str, int]) -> None:
        """Answers of sites, by number, that came when nobody waited for them any more."""
        for site, count in counts.items():
            self.record[site]["late"] += count

    def struck(self, site: str, step: int, reason: str) -> None:
        """A site answered what cannot be: a strike."""
        about = self.record[site]
        about["strikes"] += 1
        self.failed(site, step, f"strike {about['strikes']} of {self.max_strikes}: {reason}")
        if about["strikes"] >= self.max_strikes:
            about["state"] = LEFT_OUT
            logger.error("step %d: site %s is left out for the rest of the run: %s", step, site, self._reasons[site])

    def require(self, step: int, asked: Collection[str] | None = None) -> None:
        """
        Args:
            step: the step.
            asked: the sites that it asked, of which ``min_sites`` must still be present, or all if they are fewer; None
                before it asks.

        Raises:
            TooFewSites: when fewer than ``min_sites`` are present.
            ReleasesEnded: when so few would be even if all that are missing came back, and would not be if some had not
                ended.
        """
        present = self.present if asked is None else [site for site in self.present if site in asked]
        needed = self.min_sites if asked is None else min(self.min_sites, len(asked))
        if len(present) >= needed:
            return
        absent = [f"{s} ({a['state']}: {self._reasons[s]})" for s, a in self.record.items() if a["state"] != PRESENT]
        could = sum(about["state"] in (PRESENT, MISSING) for about in self.record.values())
        ended = sum(about["state"] == ENDED for about in self.record.values())
        enough = could >= self.min_sites
        of = len(self.record if asked is None else asked)
        over = not enough and could + ended >= self.min_sites
        raise (ReleasesEnded if over else TooFewSites)(
            f"step {step} needs {needed} of {of} sites and has {len(present)}; without "
            f"{', '.join(absent)}. Nothing of the step was done. "
            + (
                "When those that are missing answer again, the same command goes on with it"
                if enough
                else "With so many left out or ended this run cannot go on"
            )
        )
