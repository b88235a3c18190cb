"""Sites that lack modalities: what travels, what it becomes a gradient of, and what is refused."""

from functools import partial

import pytest
import torch
from patients import Flip
from small_sites import RandomSamples, adam, generator, members

from bundle.losses import AdversarialLoss, SiteLoss
from bundle.server import ConditionCollector, DistributedGanTrainer, LocalFederation, PairedTerm, read_teacher_images
from bundle.server.channels import Channels
from bundle.server.mixture import asked_sites, mixture_weights
from bundle.site.release import POLICIES
from bundle.site.teacher import Teacher
from bundle.wire.guards import Violation
from bundle.wire.messages import SiteInfo

TASK = ("flair", "t1", "t2")
HAVE = {"B": ("flair", "t2"), "C": ("t1",)}
LENGTHS = {"A": 3, "B": 5, "C": 8}
SIZE = 8


def discriminator(in_channels):
    return torch.nn.Conv2d(in_channels, 1, 3, padding=1)


class Patients(RandomSamples):
    """A patient for each."""

    def origin(self, index):
        return f"patient {index}", index


def make_federation(have=HAVE, l1_weight=1.0, **kwargs):
    samples = {name: Patients(name, n, SIZE, len(have.get(name, TASK))) for name, n in LENGTHS.items()}
    makes = partial(discriminator, in_channels=2 + len(TASK))
    about = {"policy": POLICIES["published"], "batch_size": 2, "task": TASK, "modalities": have, **kwargs}
    return LocalFederation(members(samples, makes, adam, SiteLoss(AdversarialLoss(), l1_weight), **about))


def make_trainer(federation, **kwargs):
    torch.manual_seed(0)
    network = generator(len(TASK))
    trainer = DistributedGanTrainer(
        device="cpu",
        max_epochs=1,
        epoch_length=kwargs.pop("epoch_length", 1),
        federation=federation,
        generator=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        modalities=TASK,
        **kwargs,
    )
    return trainer, network


@pytest.mark.parametrize("mixture", ["proportional", "sum"])
def test_a_channels_gradient_is_the_mean_over_the_sites_that_have_it(mixture):
    """By hand: every site's gradient of its own channels, weighted for each channel by the sites that have it."""
    federation = make_federation()
    trainer, network = make_trainer(federation, mixture=mixture)
    before = [p.detach().clone() for p in network.parameters()]
    trainer.run()
    found = [old - new.detach() for old, new in zip(before, network.parameters(), strict=True)]

    twin = generator(len(TASK))
    twin.load_state_dict(dict(zip(network.state_dict(), before, strict=True)))
    total = 0.0
    for channel, name in enumerate(TASK):
        having = [site for site in LENGTHS if name in HAVE.get(site, TASK)]
        for site in having:
            own = HAVE.get(site, TASK)
            batch = federation.site(site).draw(1)
            images = twin(batch["condition"].float())
            seen = images[:, [TASK.index(one) for one in own]].detach()
            gradient, _ = federation.site(site).critic.gradient(batch["condition"].float(), seen, batch["image"])
            weight = 1 if mixture == "sum" else LENGTHS[site] / sum(LENGTHS[one] for one in having)
            total = total + weight * (gradient[:, own.index(name)] * images[:, channel]).sum()
    expected = torch.autograd.grad(total, list(twin.parameters()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_only_its_own_channels_travel_to_a_site_and_back():
    def bytes_of(have):
        federation = make_federation(have)
        make_trainer(federation)[0].run()
        return federation.ledger.summary()["per_site"]

    whole, lacking = bytes_of({}), bytes_of(HAVE)
    channel = 2 * SIZE * SIZE * 4  # of a batch, float32
    for site, own in {"A": TASK, **HAVE}.items():
        less = (len(TASK) - len(own)) * channel
        for way in ("to", "from"):
            # headers name shapes, and the site what it has, in some tens of bytes
            assert whole[site][way] - lacking[site][way] == pytest.approx(less, abs=40), (site, way)
    assert whole["A"] == lacking["A"]


def test_a_sites_discriminator_has_its_own_channels_only():
    federation = make_federation()
    channels = {name: federation.site(name).critic.discriminator.in_channels - 2 for name in federation.sites}
    assert channels == {"A": 3, "B": 2, "C": 1}


def test_sites_that_have_all_are_as_if_nobody_could_lack_any():
    def run(**kwargs):
        trainer, network = make_trainer(make_federation(**kwargs))
        trainer.run()
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    assert torch.equal(run(have={}), run(have={}, task=(), modalities=None))


def test_a_channel_that_no_site_of_the_step_has_gets_no_gradient():
    channels = Channels(TASK)
    for site, own in HAVE.items():
        channels.join(info(site, own), {"last_step": 0})
    gradients = {site: torch.ones(2, len(own), 4, 4) for site, own in HAVE.items()}
    alone = channels.weighted("B", gradients["B"], 1.0, {"B": 5})
    assert alone.amax(dim=(0, 2, 3)).tolist() == [1, 0, 1]
    counts = {"B": 5, "C": 8}
    both = [channels.weighted(site, gradients[site], mixture_weights(counts)[site], counts) for site in counts]
    assert [one.amax(dim=(0, 2, 3)).tolist() for one in both] == [pytest.approx([1, 0, 1]), pytest.approx([0, 1, 0])]


def test_over_all_draws_of_a_steps_sites_the_mean_is_that_of_all():
    """Two of three sites a step, drawn in every way with the chances of it: each channel's weights are as with all."""
    channels = Channels(TASK)
    for site, own in {"A": (), **HAVE}.items():
        channels.join(info(site, own), {"last_step": 0})
    gradients = {site: torch.ones(1, len(HAVE.get(site, TASK)), 1, 1) for site in LENGTHS}
    draws, total = 4000, dict.fromkeys(LENGTHS, torch.zeros(3))
    for step in range(draws):
        asked = asked_sites(LENGTHS, 2, 0, step)
        weights = mixture_weights({site: LENGTHS[site] for site in asked}, asked=asked)
        for site in asked:
            one = channels.weighted(site, gradients[site], weights[site], LENGTHS)
            total[site] = total[site] + one.flatten() / draws
    every = mixture_weights(LENGTHS)
    expected = [channels.weighted(site, gradients[site], every[site], LENGTHS) for site in LENGTHS]
    for site, one in zip(LENGTHS, expected, strict=True):
        torch.testing.assert_close(total[site], one.flatten(), atol=0.03, rtol=0)
    torch.testing.assert_close(sum(expected).flatten(), torch.ones(3))


def test_a_modality_that_no_site_has_is_refused_before_the_first_step():
    federation = make_federation({"A": ("flair",), "B": ("flair",), "C": ("t2",)})
    with pytest.raises(ValueError, match=r"no site of A, B, C has t1 .*in its data list"):
        make_trainer(federation)[0].run()
    assert federation.ledger.steps == 0


def test_while_one_is_missing_that_may_have_it_the_others_go_on(caplog):
    class Late(LocalFederation):
        def open(self, step, sites=None, waiting=None):
            outcome = super().open(step, sites, waiting)
            outcome.messages.pop("A", None)
            return outcome

    federation = make_federation({"B": ("flair", "t2"), "C": ("t2",)})
    trainer, _ = make_trainer(Late([federation.site(name) for name in federation.sites]))
    trainer.run()
    assert "no site of B, C has t1 (modalities): the generator does not learn it until one has" in caplog.text


def info(site, own):
    return SiteInfo(site, 3, 1, torch.empty(0, dtype=torch.uint8), 0, modalities=",".join(own))


@pytest.mark.parametrize("own", [("pd",), ("t2", "flair"), ("t1", "t1"), TASK, ("", "t1")])
def test_what_no_site_can_say_that_it_has(own):
    with pytest.raises(Violation, match="expected some of flair, t1, t2"):
        Channels(TASK).join(info("A", own), {"last_step": 0})


def test_a_site_that_comes_back_with_others_is_refused():
    channels, about = Channels(TASK), {"last_step": 0}
    channels.join(info("A", ("t1",)), about)
    channels.join(info("A", ("t1",)), about)
    with pytest.raises(Violation, match="comes back with flair, and had t1 before: its data list has changed"):
        channels.join(info("A", ("flair",)), about)
    # after a restart what it had is known from the checkpoint's record
    with pytest.raises(Violation, match="comes back with every modality, and had t1 before"):
        Channels(TASK).join(info("A", ()), about | {"last_step": 3})


def test_a_sites_own_checkpoint_is_of_its_modalities():
    state = make_federation().site("B").state_dict()
    other = make_federation({"B": ("flair", "t1")}).site("B")
    with pytest.raises(
        ValueError, match="site B: its checkpoint was made with flair, t2, and its data list says flair, t1"
    ):
        other.load_state_dict(state)


def taught(tmp_path, steps):
    """A training of sites with folds and teachers, of which B and C lack modalities."""
    network = partial(small_network, out_channels=len(TASK))
    teacher = partial(Teacher, network=network, optimizer=adam, num_steps=3)
    federation = make_federation(policy=POLICIES["out_of_fold"], teacher=teacher, l1_weight=0.0)
    files = tmp_path / "conditions.npz", tmp_path / "teacher.npz"
    collector = ConditionCollector(federation, *files[:1], images_path=files[1], image_channels=len(TASK))
    paired = PairedTerm(*files, weight=1.0, augmentation=Flip())
    trainer, _ = make_trainer(federation, paired=paired, train_handlers=[collector], epoch_length=steps)
    trainer.run()
    return trainer, read_teacher_images(files[1])


def small_network(out_channels):
    return torch.nn.Sequential(torch.nn.Conv2d(2, out_channels, 3, padding=1), torch.nn.Tanh())


@pytest.mark.parametrize("policy", ["published", "guarded"])
def test_sites_that_lack_modalities_take_part_under_a_policy_without_teachers(policy):
    trainer, _ = make_trainer(make_federation(policy=POLICIES[policy], l1_weight=0.0), epoch_length=2)
    trainer.run()
    assert {about["answered"] for about in trainer.state.sites.values()} == {2}


def test_a_teacher_predicts_what_its_site_has(tmp_path):
    trainer, images = taught(tmp_path, 2)
    assert {site: found[0].shape[0] for site, found in images.items()} == {"A": 3, "B": 2, "C": 1}
    assert {about["answered"] for about in trainer.state.sites.values()} == {2}
    assert all("paired" in losses for losses in trainer.state.output[0]["losses"].values())
    other = torch.rand(2, 3, SIZE, SIZE)
    with pytest.raises(ValueError, match=r"the images of site B have 2 channels, and the site has 3 .modalities."):
        trainer.paired.loss("B", 1, trainer.federation.site("B").draw(1)["condition"], other)


def test_the_paired_terms_of_a_channel_weigh_as_its_gradients_do():
    """Over the sites that have it, what a channel counts adds up to its share of a mean over all channels."""
    channels = Channels(TASK)
    for site in LENGTHS:
        channels.join(info(site, HAVE.get(site, ())), {"last_step": 0})
    weights = mixture_weights(LENGTHS)
    counted = torch.zeros(len(TASK))
    for site in LENGTHS:
        own = HAVE.get(site, TASK)
        shares = channels.shares(site, LENGTHS)
        for place, name in enumerate(own):
            counted[TASK.index(name)] += weights[site] * shares[place] / len(own)
    torch.testing.assert_close(counted, torch.full((3,), 1 / 3))
    assert Channels(TASK).shares("A", LENGTHS) is None


def test_the_ledger_of_a_site_says_what_it_told(tmp_path):
    federation = make_federation(ledger=lambda name: tmp_path / f"{name}.jsonl")
    make_trainer(federation)[0].run()
    assert '"modalities":"flair,t2"' in (tmp_path / "B.jsonl").read_text(encoding="utf-8").replace(" ", "")
    assert "modalities" not in (tmp_path / "A.jsonl").read_text(encoding="utf-8")
