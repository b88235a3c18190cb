"""Federated averaging of the segmenter (McMahan et al. 2017, algorithm 1): what everybody knows, beside AsynDGAN.

Every site trains the segmenter of ``segment.yaml`` on its own images for some steps, by MONAI's
:class:`monai.fl.client.MonaiAlgo`; the weights are averaged in proportion to the sites' images, and the next round
starts from the average. Optimizers and schedules stay at the sites and go on from round to round, so a site alone
trains as it does without anybody, bit for bit. With ``proximal_mu`` above 0 it is FedProx.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol, Self

import torch
from ignite.engine import Engine, Events
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, WeightType
from monai.fl.utils.exchange_object import ExchangeObject
from torch.utils.tensorboard import SummaryWriter

from bundle.engines import AtomicCheckpointSaver, Progress, Resume, TrainingRecord
from bundle.files import save_torch
from bundle.losses import ProximalLoss
from bundle.settings import averaged_sites, kind_of

__all__ = [
    "AveragedSites",
    "AveragingSite",
    "average_segmenters",
    "averaging_site",
    "proximal_weight",
    "site_workflow",
    "weighted_average",
]

logger = logging.getLogger(__name__)

Weights = Mapping[str, torch.Tensor]


class Training(Protocol):
    """A :class:`bundle.workflows.SegmentationWorkflow` of ``segment.yaml``."""

    def make(self, key: str) -> Any: ...

    def again(self, overrides: Mapping[str, Any]) -> Self: ...

    def initialize(self) -> Any: ...


def weighted_average(weights: Mapping[str, Weights], num_samples: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """
    The mean of the sites' weights, each site counting as its samples do (McMahan et al. 2017, equation 1).

    It is summed in float64 and in the order of the sites' names: who answers first changes no bit, and the mean of one
    site is that site's.

    Args:
        weights: by site, tensors by name; names and shapes are the same at all sites.
        num_samples: by site, > 0.

    Returns:
        Tensors of the sites' dtypes; a tensor of whole numbers, such as a count of batches, is that of the first site.
    """
    sites = sorted(weights)
    total = sum(num_samples[site] for site in sites)
    mean = {}
    for name, first in weights[sites[0]].items():
        if not first.is_floating_point():
            mean[name] = first.clone()
            continue
        summed = torch.zeros(first.shape, dtype=torch.float64)
        for site in sites:
            summed += weights[site][name].double() * num_samples[site]
        mean[name] = (summed / total).to(first.dtype)
    return mean


class AveragingSite:
    """
    A site's half: its segmenter, trained on its images for the steps of a round at a time.

    Args:
        workflow: of :func:`site_workflow`.
        name: of the site.
        proximal_mu: weight of :class:`bundle.losses.ProximalLoss`; 0 for none.
    """

    def __init__(self, workflow: Training, name: str, proximal_mu: float = 0.0) -> None:
        for chatty in ("monai.fl", "monai.networks.utils"):  # several lines a round, of nothing that one would read
            logging.getLogger(chatty).setLevel(logging.WARNING)
        self._workflow = workflow
        self._algo = MonaiAlgo(
            bundle_root=str(workflow.make("bundle_root")),
            local_epochs=1,
            send_weight_diff=False,
            config_evaluate_filename=None,
            train_workflow=workflow,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a server could have sent the configs: they are this package's
            self._algo.initialize({ExtraItems.CLIENT_NAME: name})
        self._trainer = self._algo.trainer
        self._losses: list[float] = []
        self._trainer.add_event_handler(Events.ITERATION_COMPLETED, self._note_loss)
        if proximal_mu:
            loss = ProximalLoss(self._trainer.loss_function, self._trainer.network, proximal_mu)
            self._trainer.loss_function = loss
            self._trainer.add_event_handler(Events.STARTED, lambda: loss.anchor())

    @property
    def num_samples(self) -> int:
        return len(self._workflow.make("train::dataset"))

    def weights(self) -> dict[str, torch.Tensor]:
        """The segmenter's weights as they are, on the CPU."""
        return {name: value.clone() for name, value in self._algo.get_weights().weights.items()}

    def train(self, weights: Weights) -> tuple[dict[str, torch.Tensor], float]:
        """
        A round: from the averaged weights, the steps of an epoch.

        Returns:
            The weights then, and the mean loss of the steps.
        """
        self._losses.clear()
        self._algo.train(ExchangeObject(weights=dict(weights), weight_type=WeightType.WEIGHTS))
        return self.weights(), sum(self._losses) / len(self._losses)

    def state_dict(self) -> dict[str, Any]:
        """What goes on from round to round and is not averaged."""
        made = {name: self._workflow.make(name).state_dict() for name in ("optimizer", "lr_scheduler")}
        return made | {"trainer": dict(self._trainer.state_dict())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in ("optimizer", "lr_scheduler"):
            self._workflow.make(name).load_state_dict(state[name])
        self._trainer.load_state_dict(state["trainer"])

    def _note_loss(self, engine: Engine) -> None:
        self._losses.append(engine.state.output[0]["loss"])


class AveragedSites:
    """
    The sites of this process, and the weights that they agree on.

    Args:
        sites: by name.
    """

    def __init__(self, sites: Mapping[str, AveragingSite]) -> None:
        self.sites = dict(sorted(sites.items()))
        self.num_samples = {name: site.num_samples for name, site in self.sites.items()}
        # drawn from the seed and the role, so all begin with the same
        self.weights = next(iter(self.sites.values())).weights()

    def round(self, engine: Engine, batch: Any = None) -> dict[str, float]:
        """
        Every site trains from the weights agreed on, and the mean of theirs takes their place.

        Returns:
            The mean loss over the sites' samples, as the engine's output.
        """
        trained, losses = {}, {}
        for name, site in self.sites.items():
            trained[name], losses[name] = site.train(self.weights)
        self.weights = weighted_average(trained, self.num_samples)
        weighted = sum(losses[name] * count for name, count in self.num_samples.items())
        return {"loss": weighted / sum(self.num_samples.values())}

    @property
    def bytes_of_weights(self) -> int:
        """What the weights weigh on their way to a site, and back."""
        return sum(value.numel() * value.element_size() for value in self.weights.values())

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights, "sites": {name: site.state_dict() for name, site in self.sites.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weights = dict(state["weights"])
        for name, site in self.sites.items():
            site.load_state_dict(state["sites"][name])


def site_workflow(workflow: Training, site: str, number: int) -> Training:
    """
    The training of one site's segmenter, by the configs of the averaged one: its epochs are rounds, and of a step's
    images it takes its share.

    Args:
        workflow: of the averaged one.
        site: name of the site.
        number: of sites that average.
    """
    own = {
        "setting": f"real_subset/{site}",
        "output_dir": os.path.join(workflow.make("output_dir"), "sites", site),
        "in_rounds": True,
        "segmenter_epoch_length": workflow.make("averaging_steps"),
        "segmenter_batch_size": max(1, workflow.make("segmenter_batch_size") // number),
    }
    made = workflow.again(own)
    made.initialize()
    return made


def averaging_site(workflow: Training, site: str, number: int) -> AveragingSite:
    """A site's half, from the configs of the averaged segmenter; arguments as for :func:`site_workflow`."""
    return AveragingSite(site_workflow(workflow, site, number), site, proximal_weight(workflow))


def proximal_weight(workflow: Training) -> float:
    """μ of FedProx; 0 in settings that are not."""
    return workflow.make("proximal_mu") if kind_of(workflow.make("setting")).proximal else 0.0


def average_segmenters(workflow: Training) -> None:
    """
    Train the segmenter of a setting by federated averaging, all sites in this process. A run that stopped goes on from
    the last round that it finished.

    Args:
        workflow: of ``segment.yaml``, in a setting that averages.
    """
    setting, folder = workflow.make("setting"), workflow.make("fit::folder")
    members = averaged_sites(setting, workflow.make("datalist").sites)
    averaged = AveragedSites({site: averaging_site(workflow, site, len(members)) for site in members})
    steps = workflow.make("averaging_steps")
    rounds = workflow.make("segmenter_steps") // steps
    logger.info("%s: %d rounds of %d steps at %s", setting, rounds, steps, ", ".join(members))
    engine = Engine(averaged.round)
    events = SummaryWriter(os.path.join(folder, "events"))
    identity = workflow.make("checkpoint_identity")
    kept = {"averaged": averaged}
    total = rounds * len(members) * averaged.bytes_of_weights
    record = {
        **workflow.make("fit::about"),
        "training_images": sum(averaged.num_samples.values()),
        "steps": rounds * steps,
        "rounds": rounds,
        "local_steps": steps,
        "proximal_mu": proximal_weight(workflow),
        "num_samples": averaged.num_samples,
        "bytes_to_sites": total,
        "bytes_from_sites": total,
    }
    handlers: list[Any] = [
        Resume(os.path.join(workflow.make("checkpoint_dir"), "latest.pt"), kept, "cpu", identity),
        AtomicCheckpointSaver(workflow.make("checkpoint_dir"), kept, identity=identity),
        Progress(f"averaging {setting}", 1, lambda output: output),
        TrainingRecord(workflow.make("finished"), record),
    ]
    # the record comes last: it says that all is there
    engine.add_event_handler(
        Events.COMPLETED, lambda: save_torch(os.path.join(folder, "segmenter.pt"), dict(averaged.weights))
    )
    for handler in handlers:
        handler.attach(engine)
    write = partial(_write_loss, events=events, steps=steps)
    engine.add_event_handler(Events.ITERATION_COMPLETED, write)
    engine.run([None], max_epochs=rounds, epoch_length=1)
    events.close()


def _write_loss(engine: Engine, events: SummaryWriter, steps: int) -> None:
    events.add_scalar("loss", engine.state.output["loss"], engine.state.iteration * steps)
