"""The wall between the server and the sites, and what may cross it."""

from bundle.federation.base import Federation, Outcome, SiteUnreachable
from bundle.federation.codec import Codec, WireLedger
from bundle.federation.conditions import (
    ConditionBank,
    ConditionCollector,
    PublicConditions,
    read_conditions,
    write_conditions,
)
from bundle.federation.limits import Limits
from bundle.federation.local import LocalFederation
from bundle.federation.roster import TooFewSites
from bundle.federation.site import Site, make_sites
from bundle.federation.site_store import SiteStore

__all__ = [
    "Codec",
    "ConditionBank",
    "ConditionCollector",
    "Federation",
    "Limits",
    "LocalFederation",
    "Outcome",
    "PublicConditions",
    "Site",
    "SiteStore",
    "SiteUnreachable",
    "TooFewSites",
    "WireLedger",
    "make_sites",
    "read_conditions",
    "write_conditions",
]
