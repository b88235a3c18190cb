"""The middle: the trainer of the generator, what it knows of the sites, and the conditions that it keeps."""

from bundle.server.conditions import (
    ConditionBank,
    ConditionCollector,
    PublicConditions,
    read_conditions,
    write_conditions,
)
from bundle.server.earlier import Continuation
from bundle.server.evaluation import FederatedEvaluation
from bundle.server.federation import Federation, Outcome, SequentialFederation, SiteUnreachable
from bundle.server.local_federation import LocalFederation, LocalScoring
from bundle.server.mixture import asked_sites, mixture_weights
from bundle.server.outputs import first_images, losses_by_tag, mean_losses
from bundle.server.paired_term import PairedTerm
from bundle.server.replay import Replay
from bundle.server.roster import TooFewSites
from bundle.server.taught_images import TaughtImages
from bundle.server.teacher_images import read_teacher_images, write_teacher_images
from bundle.server.teacher_networks import TeacherNetworks
from bundle.server.trainer import DistributedGanTrainer

__all__ = [
    "ConditionBank",
    "ConditionCollector",
    "Continuation",
    "DistributedGanTrainer",
    "FederatedEvaluation",
    "Federation",
    "LocalFederation",
    "LocalScoring",
    "Outcome",
    "PairedTerm",
    "PublicConditions",
    "Replay",
    "SequentialFederation",
    "SiteUnreachable",
    "TaughtImages",
    "TeacherNetworks",
    "TooFewSites",
    "asked_sites",
    "first_images",
    "losses_by_tag",
    "mean_losses",
    "mixture_weights",
    "read_conditions",
    "read_teacher_images",
    "write_conditions",
    "write_teacher_images",
]
