"""Attacks on DP-SGD: a patient who is a canary, and what hundreds of trainings of a tiny critic prove of ε."""

import math
from functools import partial

import pytest
import torch
from private_sites import Patients, network_of, policy, public

from bundle.audit.lower_bound import epsilon_lower_bound
from bundle.losses import AdversarialLoss, SiteLoss
from bundle.site import Critic, PrivateCritic, PrivateTeacher
from bundle.site.patients import Patients as Units
from bundle.site.release import ReleaseGate

TRAININGS = 200
STEPS = 2
TEACHING = 6  # before a step of the critic, which takes of the same epsilon
CANARY = 0
DELTA = 1e-5
SIZE = 4
ENDS = [0, -1]


class WithoutThePatient(Units):
    """The same site with an empty record in the place of one patient: who is drawn else does not change."""

    def drawn(self, rate, source):
        return [one for one in super().drawn(rate, source) if one.index // 2 != CANARY]


def samples():
    """Eight patients; the canary's images have two pixels that nobody else's have, alike when flipped, and no more."""
    found = Patients("A", 16, size=SIZE)
    found.image[:, :, 0, ENDS] = 0.0
    found.image[2 * CANARY : 2 * CANARY + 2] = 0.0
    found.condition[2 * CANARY : 2 * CANARY + 2] = 0
    found.image[2 * CANARY : 2 * CANARY + 2, :, 0, ENDS] = 1.0
    return found


def linear():
    return torch.nn.Conv2d(3, 1, SIZE, bias=False)


def untrained(make, patients, number, epsilon, steps=STEPS):
    how = policy(epsilon=epsilon, patients_per_update=4, clip_norm=0.1, delta=DELTA)
    gate = ReleaseGate(how, "A", num_steps=steps, secret=number)
    torch.manual_seed(0)
    adversarial = SiteLoss(AdversarialLoss("hinge"), l1_weight=0.0)
    critic = Critic(make, partial(torch.optim.SGD, lr=0.1), adversarial)
    return PrivateCritic(critic, patients, gate)


def trained(make, units, number, epsilon):
    """A critic after its steps; the server sends the same blank images in every one."""
    private = untrained(make, units(samples()), number, epsilon)
    gate = private.gate
    blank = public(1)[:, :, :SIZE, :SIZE] * 0, torch.zeros(2, 1, SIZE, SIZE)
    for step in range(1, STEPS + 1):
        assert not gate.spending.prepare(step, STEPS)
        private.update(blank, blank, step)
    return private


def worst_case(private):
    """The attacker sees D's weights, and knows the two that only the canary moves."""
    return private.discriminator.weight[0, 2, 0, ENDS].sum().item()


def from_outside(private):
    """The attacker sees what D says of the canary's own image, as the generator's loss tells it."""
    image = samples().image[2 * CANARY : 2 * CANARY + 1]
    _, terms = private.gradient(torch.zeros(1, 2, SIZE, SIZE), image, image)
    return terms["adversarial"]


def table():
    """From every pixel of a condition to every pixel of an image."""
    network = torch.nn.Linear(2 * SIZE * SIZE, SIZE * SIZE, bias=False)
    torch.nn.init.zeros_(network.weight)
    return torch.nn.Sequential(torch.nn.Flatten(), network, torch.nn.Unflatten(1, (1, SIZE, SIZE)))


def taught(units, number, epsilon):
    """A teacher's weights as they would leave. The canary's label map has two pixels that nobody else's have."""
    marked = samples()
    marked.condition[:, 0, 0, ENDS] = 0
    marked.condition[2 * CANARY : 2 * CANARY + 2, 0, 0, ENDS] = 1
    marked.image[2 * CANARY : 2 * CANARY + 2] = 1.0
    private = untrained(linear, units(marked), number, epsilon, steps=1)
    teacher = PrivateTeacher(private, "A", table, partial(torch.optim.SGD, lr=0.1), TEACHING)
    teacher.prepare()
    return network_of(teacher)


def of_the_teacher(network):
    """The attacker has R, and knows the weights that only the canary moves."""
    return network[1].weight[:, [0, SIZE - 1]].sum().item()


def bounds(epsilon):
    """ε that each attack proves, over trainings whose noise and draws are all different."""
    worlds = list(enumerate((WithoutThePatient, Units)))

    def proved(attack, made):
        return epsilon_lower_bound(*([attack(one) for one in world] for world in made), DELTA, 0.99)

    def numbers(world):
        return [1 + number + TRAININGS * world for number in range(TRAININGS)]

    critics = [[trained(linear, units, number, epsilon) for number in numbers(world)] for world, units in worlds]
    teachers = [[taught(units, number, epsilon) for number in numbers(world)] for world, units in worlds]
    return proved(worst_case, critics), proved(from_outside, critics), proved(of_the_teacher, teachers)


@pytest.mark.canaries
@pytest.mark.parametrize("epsilon", [1.0, 16.0])
def test_no_canary_proves_more_than_the_accountant_says(epsilon):
    worst, outside, teacher = bounds(epsilon)
    print(f"epsilon {epsilon:g}: worst case {worst:.2f}, from outside {outside:.2f}, the teacher {teacher:.2f}")
    assert max(worst, outside, teacher) <= epsilon
    # an attack that sees nothing where there is much to see would prove nothing where it is refuted
    assert min(worst, teacher) > 0.5 or epsilon < 16


@pytest.mark.canaries
def test_the_attacks_see_when_the_noise_is_left_out(monkeypatch):
    """It is in the ledger, and not in the sum."""
    monkeypatch.setattr("bundle.site.noised_updates.add_noise", lambda values, std, source: values.float())
    worst, outside, teacher = bounds(1.0)
    print(f"no noise: worst case {worst:.2f}, from outside {outside:.2f}, the teacher {teacher:.2f}")
    assert min(worst, outside, teacher) > 1.0


def test_a_lower_bound_is_what_clopper_and_pearson_say():
    # told apart in all of 100 counted trainings of either kind, at 95 %: (1 - 0.025^(1/100)) and 0.025^(1/100)
    apart = epsilon_lower_bound(list(range(200)), list(range(1000, 1200)), 0.0)
    most = 1 - 0.025 ** (1 / 100)
    assert apart == pytest.approx(math.log((1 - most) / most), rel=1e-6)
    assert epsilon_lower_bound(list(range(1000, 1200)), list(range(200)), 0.0) == pytest.approx(apart)
    draws = torch.randn(2, 400, generator=torch.Generator().manual_seed(0)).tolist()
    assert epsilon_lower_bound(*draws, 0.0) <= 0.5
    with pytest.raises(ValueError, match="at least 4 trainings of each kind, got 3 and 4"):
        epsilon_lower_bound([1, 2, 3], [1, 2, 3, 4], 0.0)


@pytest.mark.long
def test_a_gaussian_is_not_told_apart_better_than_its_epsilon():
    from bundle.site.release import epsilon

    generator = torch.Generator().manual_seed(1)
    for noise in (0.5, 1.0):
        scores = [(torch.randn(2000, generator=generator) * noise + shift).tolist() for shift in (0.0, 1.0)]
        assert 0.3 < epsilon_lower_bound(*scores, 1e-5) <= epsilon(noise, 1, 1e-5)
