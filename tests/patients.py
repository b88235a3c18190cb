"""Sites whose patients have several samples each, under policies with folds and a teacher."""

from __future__ import annotations

from functools import partial

import torch
from small_sites import RandomSamples, adam, discriminator, generator, members

from bundle.losses import AdversarialLoss, DiscriminatorAugmentation, SiteLoss
from bundle.site import Teacher
from bundle.site.release import ReleasePolicy
from bundle.wire.messages import SyntheticBatch

FOLDED = {"policy": "guarded", "folds": 3}


class Patients(RandomSamples):
    """Two samples of every patient."""

    def origin(self, index):
        return (f"p{index // 2}", index)


class Flip:
    """What happens to these samples when they are drawn, as a transform of MONAI's kind."""

    def set_random_state(self, seed):
        self.seed = seed
        return self

    def __call__(self, sample):
        return {key: value.flip(-1) if self.seed % 2 else value for key, value in sample.items()}


def with_noise(samples, patient):
    """The same samples, with noise in the place of one patient's images."""
    other = Patients("A", len(samples))
    own = [index for index in range(len(samples)) if samples.origin(index)[0] == patient]
    other.image[own] = torch.rand(len(own), *other.image.shape[1:], generator=torch.Generator().manual_seed(7)) * 2 - 1
    return other


def fast(parameters):
    return torch.optim.Adam(parameters, lr=0.02)


def teacher(steps=8, **kwargs):
    return partial(Teacher, **{"network": generator, "optimizer": adam, "num_steps": steps} | kwargs)


def make(samples, policy=None, secret=3, name="A", **kwargs):
    """The site of these samples, with a secret that is known where it has no ledger."""
    policy = ReleasePolicy.make(FOLDED if policy is None else policy)
    kwargs = {"batch_size": 2, "policy": policy, "teacher": teacher()} | kwargs
    augmentation = DiscriminatorAugmentation(brightness=0.5, contrast=0.5, translation=0.2)
    loss = SiteLoss(AdversarialLoss("hinge"), l1_weight=0.0)
    (site,) = members({name: samples}, discriminator, adam, loss, augmentation=augmentation, **kwargs)
    if site.gate._records._path is None:
        site.gate._records._secret = secret
    return site


def images(step):
    return torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(step)) * 2 - 1


def answers(site, first, last):
    """Replies to the same synthetic images, whatever the site's are."""
    replies, nonce = [], site.open(first).nonce
    for step in range(first, last + 1):
        replies.append(site.step(SyntheticBatch(site.name, step, images(step), nonce)))
        nonce = replies[-1].nonce
    return replies
