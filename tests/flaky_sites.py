"""A federation whose sites fail where a test says so."""

from dataclasses import replace

from small_sites import sites as small_sites

from bundle.server import LocalFederation
from bundle.server.federation import Outcome


class FlakyFederation(LocalFederation):
    """
    Args:
        faults: by (site, step), what becomes of that exchange: "away", the batch does not reach the site; "lost", the
            site does the step, and its reply does not come back; "late", what comes back is its reply to the step
            before; or a function of the reply that corrupts it. Each happens once.
        away: by site, steps at which it can neither be reached for an exchange nor be opened; at each of them, always.
        infos: by site, a function of its SiteInfo that corrupts it.
    """

    def __init__(self, sites, faults=None, away=None, infos=None):
        super().__init__(sites)
        self.faults, self.away, self.infos = dict(faults or {}), away or {}, infos or {}
        self.opens, self.last = [], {}

    def open(self, step, sites=None, waiting=None):
        asked = sorted(self.sites if sites is None else sites)
        self.opens.append((step, asked))
        reached = [site for site in asked if step not in self.away.get(site, ())]
        infos = (
            super()
            .open(step, reached, {site: own for site, own in (waiting or {}).items() if site in reached})
            .messages
        )
        infos = {site: self.infos.get(site, lambda info: info)(info) for site, info in infos.items()}
        return Outcome(infos, {site: "out of reach" for site in asked if site not in reached})

    def step(self, batch):
        site = batch.site
        fault = self.faults.pop((site, batch.step), None)
        if fault == "away" or batch.step in self.away.get(site, ()):
            return Outcome(failures={site: "out of reach"})
        reply = self._from(self._sites[site].step(self._to(batch)))
        before, self.last[site] = self.last.get(site), reply
        if fault == "lost":
            return Outcome(failures={site: "no reply in time"})
        if fault == "late":
            return Outcome({site: before})
        return Outcome({site: fault(reply) if fault else reply})


def flaky(faults=None, away=None, infos=None, **kwargs):
    return FlakyFederation(small_sites(**kwargs), faults, away, infos)


def change(**fields):
    """A corruption: a message with other values; functions are called with the message."""
    return lambda message: replace(message, **{k: v(message) if callable(v) else v for k, v in fields.items()})
