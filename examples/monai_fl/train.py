"""AsynDGAN's sites behind MONAI's federated interface, on the paper's toy mixture: a federation in one file.

    PYTHONPATH=. python examples/monai_fl/train.py --steps 1000

Whatever platform hosts a ``monai.fl.client.ClientAlgo`` can host a site: here three of them, each with draws of one
component, y_1 ~ N(-3, 2), y_2 ~ N(1, 1), y_3 ~ N(3, 0.5) (variances). The platform is this process: it calls
``initialize``, ``train`` and ``get_weights`` and hands over ``ExchangeObject``, which is all that a real one does. The
server's trainer knows none of it; it asks a federation, and :class:`HostedFederation` is one of forty lines.

What crosses is no weights: synthetic images one way, gradients with respect to them the other way. A platform that
averages, clips or filters weights has to leave them alone. Averaging the weights of a network is another thing, for
which MONAI has ``monai.fl.client.MonaiAlgo``.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from functools import partial

import torch
from monai.fl.utils.constants import ExtraItems

from bundle.losses import AdversarialLoss, SiteLoss
from bundle.networks import MLPDiscriminator, MLPGenerator
from bundle.seeding import draw
from bundle.server import DistributedGanTrainer, Federation, SequentialFederation, SiteUnreachable
from bundle.server.federation import Outcome
from bundle.site import Site, make_sites
from bundle.site.critic import Critic
from bundle.site.monai_fl import SiteAlgo, SiteRefusal, from_exchange, to_exchange
from bundle.site.release import POLICIES, make_gates
from bundle.wire import WireLedger
from bundle.wire.messages import ConditionBatch, ConditionRequest, SiteInfo, SiteReply, SyntheticBatch

MIXTURE = {"A": (-3.0, 2.0), "B": (1.0, 1.0), "C": (3.0, 0.5)}
SCALE = 10.0  # what an image value of 1 stands for


class Numbers:
    """A hospital's data: one component, as images of one pixel with its index, one-hot, as the condition."""

    def __init__(self, component: int, mean: float, variance: float, count: int = 500) -> None:
        noise = torch.randn(count, generator=torch.Generator().manual_seed(component))
        self.images = ((mean + variance**0.5 * noise) / SCALE).reshape(-1, 1, 1, 1)
        self.condition = torch.zeros(len(MIXTURE), 1, 1, dtype=torch.uint8)
        self.condition[component] = 1

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key) -> dict:
        return {"condition": self.condition, "image": self.images[key[0] if isinstance(key, tuple) else key]}

    def batch(self, seed: int, name: str, first: int, count: int) -> dict[str, torch.Tensor]:
        drawn = [self[draw(seed, name, first + place, len(self))] for place in range(count)]
        return {key: torch.stack([sample[key] for sample in drawn]) for key in ("condition", "image")}

    def origin(self, index: int) -> tuple[str | int, ...]:
        return ("draw", index)


class HostedFederation(SequentialFederation):
    """Sites that are reached by the methods of MONAI's ``ClientAlgo`` alone."""

    def __init__(self, algos: Mapping[str, SiteAlgo]) -> None:
        self.algos = dict(algos)
        self.ledger = WireLedger()

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(sorted(self.algos))

    def open(
        self, step: int, sites: Collection[str] | None = None, waiting: Mapping[str, int] | None = None
    ) -> Outcome:
        outcome = Outcome()
        for name in self.sites if sites is None else sorted(sites):
            algo = self.algos[name]
            algo.initialize({ExtraItems.CLIENT_NAME: name, "step": (waiting or {}).get(name, step)})
            outcome.messages[name] = from_exchange(algo.get_weights(), SiteInfo)
        return outcome

    def step(self, batch: SyntheticBatch) -> Outcome:
        name = batch.site
        try:
            self.algos[name].train(to_exchange(batch))
            return Outcome({name: from_exchange(self.algos[name].get_weights(), SiteReply)})
        except SiteRefusal as error:
            return Outcome(failures={name: str(error)})

    def conditions(self, request: ConditionRequest) -> ConditionBatch:
        places = {"start": request.start, "stop": request.stop}
        try:
            return from_exchange(self.algos[request.site].get_weights(places), ConditionBatch)
        except SiteRefusal as error:
            raise SiteUnreachable.no_conditions(request.site, str(error)) from None

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        pass


def hospitals() -> list[Site]:
    """Three sites that hold a component each, under ``guarded``: the default has folds of patients; here are none."""
    samples = {name: Numbers(place, *component) for place, (name, component) in enumerate(MIXTURE.items())}
    critic = partial(
        Critic,
        partial(MLPDiscriminator, len(MIXTURE) + 1, scale=SCALE),
        partial(torch.optim.Adam, lr=1e-3, betas=(0.5, 0.999)),
        SiteLoss(AdversarialLoss(), l1_weight=0.0),
    )
    gates = make_gates(samples, policy=POLICIES["guarded"])
    return make_sites(samples, critic=critic, gates=gates, batch_size=32)


def train(federation: Federation, steps: int) -> torch.nn.Module:
    """The generator of a training with whatever federation."""
    torch.manual_seed(0)
    generator = MLPGenerator(len(MIXTURE), 1, scale=SCALE)
    optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    trainer = DistributedGanTrainer("cpu", 1, steps, federation, generator, optimizer)
    trainer.run()
    return generator


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    steps = parser.parse_args(words).steps
    generator = train(HostedFederation({site.name: SiteAlgo(site) for site in hospitals()}), steps)
    for place, (name, (mean, variance)) in enumerate(MIXTURE.items()):
        condition = torch.zeros(2000, len(MIXTURE), 1, 1)
        condition[:, place] = 1
        with torch.no_grad():
            found = SCALE * generator(condition)
        spread, real = found.std().item(), variance**0.5
        print(f"{name}: mean {found.mean().item():.2f} of {mean:g}, standard deviation {spread:.2f} of {real:.2f}")


if __name__ == "__main__":
    main()
