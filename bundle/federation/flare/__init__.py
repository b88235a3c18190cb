"""The same sites behind NVIDIA FLARE: the only package that imports it.

FLARE's Collab API calls a method of an object at a site from the server. One method is published,
:meth:`FlareSite.receive`: bytes in, bytes out, both of them messages of :mod:`bundle.federation.messages`. FLARE starts
the processes, authenticates them (mutual TLS), and carries the bytes; what is asked and answered is decided here.
"""

from bundle.federation.flare.administrator import Administrator, NotAllowed, NotReachable
from bundle.federation.flare.federation import FlareFederation
from bundle.federation.flare.jobs import export_job, run_simulation
from bundle.federation.flare.kits import ADMINISTRATOR, CLASSES, prepare_kit, provision
from bundle.federation.flare.names import check_folder, check_site_names
from bundle.federation.flare.participant import LOCAL_FILES, SERVER
from bundle.federation.flare.participants import Participants
from bundle.federation.flare.preflight import check_kit
from bundle.federation.flare.server import RESULTS, FlareServer
from bundle.federation.flare.site import FlareSite
from bundle.federation.flare.supervisor import GivenUp, Policy, Supervisor

__all__ = [
    "ADMINISTRATOR",
    "CLASSES",
    "LOCAL_FILES",
    "RESULTS",
    "SERVER",
    "Administrator",
    "FlareFederation",
    "FlareServer",
    "FlareSite",
    "GivenUp",
    "NotAllowed",
    "NotReachable",
    "Participants",
    "Policy",
    "Supervisor",
    "check_folder",
    "check_kit",
    "check_site_names",
    "export_job",
    "prepare_kit",
    "provision",
    "run_simulation",
]
