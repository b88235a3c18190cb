"""The gates of several sites, of the configs of a training."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping

from bundle.by_site import by_site
from bundle.site.release.gate import ReleaseGate
from bundle.site.release.policy import DEFAULT, POLICIES, ReleasePolicy
from bundle.site.release.secret import seeded_secret

__all__ = ["make_gates"]


def make_gates(
    sites: Collection[str],
    *,
    policy: ReleasePolicy | Mapping[str, ReleasePolicy] = POLICIES[DEFAULT],
    keep_conditions: bool | Mapping[str, bool] = True,
    ledger: Callable[[str], str | os.PathLike] | None = None,
    training: str = "",
    num_steps: int | None = None,
    repeatable_from: int | None = None,
) -> dict[str, ReleaseGate]:
    """
    The gates of sites in one process, by name of the site.

    Args:
        sites: names of the sites.
        policy: release policy of every site, or by name of the site.
        keep_conditions: of every site, or by name of the site.
        ledger: names the file of a site's release ledger from its name; None for none.
        repeatable_from: seed of a run in one process, from which the secrets of sites follow that have none yet, so
            that the run can be repeated; None between hospitals. A policy that is ``private``, or has secret weights,
            has its secret drawn in any case.

    Other arguments as for :class:`ReleaseGate`.

    Raises:
        ValueError: when ``policy`` or ``keep_conditions`` lacks a site or names one that there is not.
    """
    policies = by_site("policy", policy, sites)
    keep = by_site("keep_conditions", keep_conditions, sites)
    first = {
        name: None if repeatable_from is None else seeded_secret(repeatable_from, name)
        for name in sites
        if policies[name].repeatable
    }
    return {
        name: ReleaseGate(
            policies[name],
            name,
            ledger and ledger(name),
            training,
            num_steps,
            keep[name],
            first_secret=first.get(name),
        )
        for name in sites
    }
