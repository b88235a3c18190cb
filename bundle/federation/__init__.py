"""The wall between the server and the sites, and what may cross it."""

from bundle.federation.base import Federation
from bundle.federation.codec import Codec, WireLedger
from bundle.federation.conditions import ConditionBank, ConditionCollector, read_conditions
from bundle.federation.local import LocalFederation
from bundle.federation.site import Site, make_sites

__all__ = [
    "Codec",
    "ConditionBank",
    "ConditionCollector",
    "Federation",
    "LocalFederation",
    "Site",
    "WireLedger",
    "make_sites",
    "read_conditions",
]
