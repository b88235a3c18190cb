"""A site whose critic learns by DP-SGD, for tests: patients of two slices each."""

from functools import partial

import torch
from small_sites import RandomSamples, adam, discriminator, generator, members

from bundle.losses import AdversarialLoss, SiteLoss
from bundle.site import PrivateTeacher, SiteStore
from bundle.site.release import ReleasePolicy
from bundle.wire.messages import SyntheticBatch
from bundle.wire.weights import unpack_weights

POLICY = {"policy": "private", "mechanism": "dp_sgd", "epsilon": 4.0, "patients_per_update": 4, "max_noise": None}


class Patients(RandomSamples):
    def origin(self, index):
        return f"patient {index // 2:02d}", index


def policy(**changes):
    return ReleasePolicy.make(POLICY | changes)


def private_teacher(steps=5, network=generator, optimizer=adam, **kwargs):
    return partial(PrivateTeacher, network=network, optimizer=optimizer, num_steps=steps, **kwargs)


def private_site(samples=None, steps=6, updates=2, network=discriminator, ledger=None, store=None, seed=0, **changes):
    samples = Patients("A", 24) if samples is None else samples
    gates = {"num_steps": steps, "ledger": ledger}
    loss = SiteLoss(AdversarialLoss("hinge"), l1_weight=0.0)
    of_site = {"batch_size": 2, "updates": updates, "store": store, "seed": seed}
    of_site["private_teacher"] = changes.pop("private_teacher", private_teacher())
    gates["policy"] = policy(**changes)
    (site,) = members({"A": samples}, network, adam, loss, **gates, **of_site)
    return site


def public(step=1):
    drawn = torch.randint(0, 2, (2, 2, 8, 8), generator=torch.Generator().manual_seed(step), dtype=torch.uint8)
    drawn[:, 1] &= 1 - drawn[:, 0]
    return drawn


def synthetic(info, step, images=None):
    given = torch.full((2, 1, 8, 8), step / 10) if images is None else images
    return SyntheticBatch("A", step, given, info.nonce, conditions=public(step))


def train(site, steps, first=1):
    """Replies to steps from the first on."""
    info, replies = site.open(first), []
    for step in range(first, first + steps):
        info = site.step(synthetic(info, step))
        replies.append(info)
    return replies


PARTS = {"whole": (), "in parts": (3,)}
"""Steps of six after which a training stops and goes on in another process."""


def answers(folder, stops, ask=lambda site: [], **changes):
    """What a site of its own secret returns in six steps: of ``ask`` at each start, and its image gradients."""
    folder.mkdir()
    (folder / "A.secret").write_text("0" * 31 + "7\n", encoding="ascii")
    where = {
        "ledger": lambda name: folder / f"{name}.jsonl",
        "store": lambda name: SiteStore(folder / name, interval=1),
    }
    found, first = [], 1
    for last in (*stops, 6):
        site = private_site(**where, **changes)
        found += [*ask(site), *(reply.image_gradient for reply in train(site, last - first + 1, first))]
        first = last + 1
        site.gate.close()
    assert site.gate.epsilon <= 4.0
    return found


def recorded_draws(site):
    """Which patients are drawn, update by update, as they are."""
    seen, drawn = [], site.critic.patients.drawn

    def record(rate, source):
        seen.append(drawn(rate, source))
        return seen[-1]

    site.critic.patients.drawn = record
    return seen


def network_of(teacher):
    """R of a :class:`bundle.site.PrivateTeacher`, by the weights that leave."""
    teacher.prepare()
    network = teacher._begun().network
    network.load_state_dict(unpack_weights(teacher._packed, network.state_dict()))
    return network.eval()
