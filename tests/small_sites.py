"""Small sites for tests: random images, a discriminator of two layers."""

import copy
from functools import partial

import torch

from bundle.losses import AdversarialLoss, SiteLoss
from bundle.seeding import draw
from bundle.server import LocalFederation
from bundle.site import Critic, make_sites
from bundle.site.release import POLICIES, make_gates


class Drawn:
    """Samples that can be had by draw, in batches."""

    def batch(self, seed, name, first, count):
        chosen = [self[draw(seed, name, first + place, len(self))] for place in range(count)]
        return {key: torch.stack([sample[key] for sample in chosen]) for key in ("condition", "image")}

    def origin(self, index):
        return ("patient", index)

    def changed(self, change):
        """As a data set does it, for samples that lie in two tensors."""
        other = copy.copy(self)
        pairs = [change(i, {"condition": self.condition[i], "image": self.image[i]}) for i in range(len(self))]
        for key in ("condition", "image"):
            setattr(other, key, torch.stack([pair[key] for pair in pairs]))
        return other


class RandomSamples(Drawn):
    """Samples that depend on the name of their site; a draw with an odd seed is flipped."""

    def __init__(self, name, length, size=8, channels=1):
        generator = torch.Generator().manual_seed(sum(name.encode()))
        self.condition = torch.randint(0, 2, (length, 2, size, size), generator=generator, dtype=torch.uint8)
        self.image = torch.rand(length, channels, size, size, generator=generator) * 2 - 1

    def __len__(self):
        return len(self.image)

    def __getitem__(self, key):
        index, seed = key if isinstance(key, tuple) else (key, 0)
        sample = {"condition": self.condition[index], "image": self.image[index]}
        return {k: v.flip(-1) for k, v in sample.items()} if seed % 2 else sample


def discriminator(channels=1):
    return torch.nn.Sequential(
        torch.nn.Conv2d(2 + channels, 4, 3, padding=1), torch.nn.LeakyReLU(0.2), torch.nn.Conv2d(4, 1, 3, padding=1)
    )


def generator(channels=1):
    return torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, padding=1),
        torch.nn.Tanh(),
        torch.nn.Conv2d(4, channels, 3, padding=1),
        torch.nn.Tanh(),
    )


def adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-3, betas=(0.5, 0.999))


GATES = ("policy", "keep_conditions", "ledger", "num_steps")
SITES = (
    *("deform", "store", "seed", "batch_size", "updates", "teacher", "private_teacher", "shapes", "waits"),
    *("task", "modalities"),
)


def members(samples, network, optimizer, loss, **kwargs):
    """Sites of critics and gates that have all arguments in common; the gates' and the sites' are theirs."""
    gates, own = ({key: kwargs.pop(key) for key in keys if key in kwargs} for keys in (GATES, SITES))
    # folds need patients, and these samples are of nobody
    gates.setdefault("policy", POLICIES["guarded"])
    gates = make_gates(samples, training=f"seed {own.get('seed', 0)}", **gates)
    return make_sites(samples, critic=partial(Critic, network, optimizer, loss, **kwargs), gates=gates, **own)


def sites(lengths=None, batch_size=2, l1_weight=1.0, policy=POLICIES["published"], class_weights=None, **kwargs):
    lengths = {"B": 5, "A": 3} if lengths is None else lengths
    samples = {name: RandomSamples(name, length) for name, length in lengths.items()}
    loss = SiteLoss(AdversarialLoss(), l1_weight=l1_weight, class_weights=class_weights)
    return members(samples, discriminator, adam, loss, batch_size=batch_size, policy=policy, **kwargs)


def federation(**kwargs):
    return LocalFederation(sites(**kwargs))


class ThresholdSegmenter(torch.nn.Module):
    """Segments what is brighter than the middle of the range: two logits from one channel."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(50.0))

    def forward(self, x):
        return torch.cat([-self.scale * x, self.scale * x], dim=1)
