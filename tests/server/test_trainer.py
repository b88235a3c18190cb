from copy import deepcopy

import pytest
import torch
from ignite.engine import Events
from monai.handlers import LrScheduleHandler, from_engine
from small_sites import federation, generator

from bundle.engines import AtomicCheckpointSaver, AutocastInferer, LinearDecay, Resume, num_epochs
from bundle.server import (
    DistributedGanTrainer,
    LocalFederation,
    first_images,
    losses_by_tag,
    mean_losses,
    mixture_weights,
)


def make(fed, network=None, steps=6, handlers=(), **kwargs):
    torch.manual_seed(0)
    network = generator() if network is None else network
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.5, 0.999))
    trainer = DistributedGanTrainer(
        device="cpu",
        max_epochs=steps // 2,
        epoch_length=2,
        federation=fed,
        generator=network,
        optimizer=optimizer,
        train_handlers=[handler(network, optimizer, fed) for handler in handlers],
        **kwargs,
    )
    return trainer, network


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def discriminators(fed):
    return [weights(fed.site(name).critic.discriminator) for name in fed.sites]


@pytest.mark.parametrize(
    ("lengths", "expected"), [({"A": 5, "B": 5}, {"A": 0.5, "B": 0.5}), ({"A": 1, "B": 99}, {"A": 0.01, "B": 0.99})]
)
def test_mixture_weights(lengths, expected):
    assert mixture_weights(lengths) == pytest.approx(expected)
    assert mixture_weights(lengths, "sum") == {"A": 1.0, "B": 1.0}
    with pytest.raises(ValueError, match="'proportional' or 'sum'"):
        mixture_weights(lengths, "mean")


@pytest.mark.parametrize(
    ("mixture", "class_weights"), [("proportional", None), ("sum", None), ("proportional", [9, 2, 1])]
)
def test_the_generators_gradient_is_that_of_the_weighted_objective(mixture, class_weights):
    """Two ways: through the wall by image gradients, and by one graph from the losses to the generator."""
    fed = federation(lengths={"A": 3, "B": 12}, l1_weight=10.0, class_weights=class_weights)
    trainer, network = make(fed, steps=2, mixture=mixture)
    trainer.state.max_epochs = 1
    twin, gradients = deepcopy(network), {}

    @trainer.on(Events.ITERATION_COMPLETED(once=1))
    def compare(engine):
        gradients["wall"] = torch.cat([p.grad.flatten() for p in network.parameters()])
        objective = 0.0
        for name, pi in mixture_weights({"A": 3, "B": 12}, mixture).items():
            site = fed.site(name)
            batch = site.draw(1)  # the discriminators have made their first update, and only that
            x = batch["condition"].float()
            synthetic = twin(x)
            logits, seen = site.critic.judge(x, synthetic)
            objective = objective + pi * site.critic.loss.generator(logits, synthetic, batch["image"], seen)[0]
        objective.backward()
        gradients["graph"] = torch.cat([p.grad.flatten() for p in twin.parameters()])

    trainer.run()
    torch.testing.assert_close(gradients["wall"], gradients["graph"], rtol=1e-4, atol=1e-6)


def test_a_step_is_one_exchange_with_every_site():
    calls = []

    class Counting(LocalFederation):
        def open(self, step, sites=None, waiting=None):
            calls.append(("open", step, list(sites or self.sites)))
            return super().open(step, sites, waiting)

        def step(self, batch):
            calls.append((batch.site, batch.step))
            return super().step(batch)

    plain = federation()
    trainer, _ = make(Counting([plain.site(name) for name in plain.sites]), steps=4)
    trainer.run()
    assert calls == [("open", 1, ["A", "B"])] + [(site, step) for step in range(1, 5) for site in "BA"]


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not():
    def run(seed):
        fed = federation(seed=seed)
        trainer, network = make(fed, seed=seed)
        trainer.run()
        return weights(network), *discriminators(fed)

    first, second, other = run(0), run(0), run(1)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], other[0])


class Dropout(torch.nn.Module):
    """A generator with a random layer."""

    def __init__(self):
        super().__init__()
        self.net = generator()

    def forward(self, x):
        return torch.nn.functional.dropout(self.net(x), 0.5, self.training)


@pytest.mark.parametrize("make_generator", [generator, Dropout])
def test_a_resumed_training_ends_with_the_bits_of_an_uninterrupted_one(tmp_path, make_generator):
    schedule = LinearDecay(num_steps=6, constant=0.3)

    def handlers(folder):
        def resume(network, optimizer, fed):
            scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
            saved = {"generator": network, "optimizer": optimizer, "federation": fed, "lr_scheduler": scheduler}
            resume.saved = saved
            return Resume(str(folder / "latest.pt"), saved)

        return (
            resume,
            lambda *_: LrScheduleHandler(resume.saved["lr_scheduler"], epoch_level=False, print_lr=False),
            lambda *_: AtomicCheckpointSaver(str(folder), resume.saved),
        )

    def run(folder, steps):
        fed = federation(schedule=schedule)
        torch.manual_seed(3)
        trainer, network = make(fed, make_generator(), steps=steps, handlers=handlers(folder))
        torch.rand(steps)  # the global random state counts for nothing
        trainer.run()
        return trainer, weights(network), *discriminators(fed)

    whole = run(tmp_path / "whole", 6)
    run(tmp_path / "cut", 2)
    resumed = run(tmp_path / "cut", 6)
    assert resumed[0].state.iteration == 6
    assert all(torch.equal(a, b) for a, b in zip(whole[1:], resumed[1:], strict=True))


def test_a_generator_whose_images_are_not_finite_stops_before_any_site_sees_them():
    fed = federation()
    trainer, network = make(fed)
    torch.nn.init.constant_(next(network.parameters()), float("nan"))
    with pytest.raises(FloatingPointError, match="step 1: the generator's images are not finite"):
        trainer.run()
    assert fed.ledger.messages_to_sites == 0


def test_bfloat16_is_near_float32_and_outputs_stay_float32():
    ends = []
    for amp in (False, True):
        inferer = AutocastInferer(amp=amp)
        fed = federation(inferer=inferer)
        trainer, network = make(fed, inferer=inferer)
        trainer.run()
        assert trainer.state.output[0]["images"]["A"].dtype == torch.float32
        assert all(p.dtype == torch.float32 for p in network.parameters())
        ends.append(weights(network))
    assert 0 < (ends[0] - ends[1]).abs().max() < 0.01


def test_a_wrong_mixture_is_refused_before_anything_is_asked_of_a_site():
    with pytest.raises(ValueError, match="'proportional' or 'sum'"):
        make(federation(), mixture="mean")


@pytest.mark.parametrize(("steps", "length", "epochs"), [(50, 50, 1), (100, 50, 2), (3, 1, 3)])
def test_epochs_hold_all_steps(steps, length, epochs):
    assert num_epochs(steps, length) == epochs


def test_steps_that_the_schedule_does_not_know_are_refused():
    with pytest.raises(ValueError, match="101 steps do not fill epochs of 50"):
        num_epochs(101, 50)


@pytest.mark.parametrize("steps", [0, -1, 1.5, "many", True, None])
def test_steps_are_whole_numbers(steps):
    with pytest.raises(ValueError, match=r"number of steps: expected a whole number of at least 1, got"):
        num_epochs(steps, 50)


def test_linear_decay():
    factors = [LinearDecay(10, 0.5)(done) for done in range(11)]
    assert factors[:6] == [1.0] * 6
    assert factors[6:] == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0])


def test_losses_are_reported_by_site_and_term():
    output = {"losses": {"A": {"l1": 1.0, "adversarial": 2.0}, "B": {"l1": 3.0, "adversarial": 4.0}}}
    assert losses_by_tag([output])["loss/B/l1"] == 3.0
    assert len(losses_by_tag([output])) == 4
    assert losses_by_tag([output | {"seconds": {"sites": 0.5}}])["seconds/sites"] == 0.5
    assert mean_losses([output]) == {"l1": 2.0, "adversarial": 3.0}
    output["losses"]["C"] = {"adversarial": 9.0}  # a site without the L1 term
    assert mean_losses([output]) == {"l1": 2.0, "adversarial": 5.0}


def test_the_output_of_a_step_has_the_loss_where_monais_handlers_look_for_it():
    trainer, _ = make(federation(), steps=2)
    trainer.run()
    loss = from_engine(["loss"], first=True)(trainer.state.output)
    assert loss == pytest.approx(mean_losses(trainer.state.output)["adversarial"], abs=1.0)
    assert isinstance(float(loss), float)


def test_the_first_images_of_every_site_in_one_picture():
    large = {"conditions": torch.zeros(2, 2, 4, 6), "images": torch.full((2, 1, 4, 6), -1.0)}
    large["conditions"][0, 1] = 1  # the outline
    large["conditions"][0, 0, 0, 0] = 1  # a tumour in it
    small = {"conditions": torch.zeros(1, 2, 2, 2), "images": torch.ones(1, 3, 2, 2)}
    small["images"][0, 2] = 3.0  # out of range
    picture = first_images([{key: {"B": small[key], "A": large[key]} for key in large}])
    assert picture.shape == (1, 3, 8, 12)
    grey, red, _, blue = picture.mean(dim=1)[0], *picture[0]
    assert grey[0, 0] == 1
    assert grey[3, 5] == 0.5
    assert (grey[:4, 6:] == 0).all()
    assert (red[4:6, 2:4] == 1).all()
    assert blue.max() == 1
    assert (grey[6:] == 0).all()
    assert (grey[:, 4:][4:] == 0).all()


def test_the_time_of_a_step_is_counted_where_it_goes(monkeypatch):
    """With a clock that a handler, the federation and the optimiser move."""
    now, fed = [0.0], federation()
    trainer, _ = make(fed, steps=4)
    monkeypatch.setattr(trainer._laps, "_now", lambda: now[0])

    def takes(owner, name, seconds):
        inner = getattr(owner, name)

        def slow(*args, **kwargs):
            now[0] += seconds
            return inner(*args, **kwargs)

        monkeypatch.setattr(owner, name, slow)

    takes(fed, "open", 64.0)
    takes(fed, "step", 2.0)  # for each of two sites
    takes(trainer, "_generate", 0.5)  # likewise
    takes(trainer.optimizer, "step", 2.0)
    found = []

    @trainer.on(Events.ITERATION_COMPLETED)
    def handler(engine):
        found.append(engine.state.output[0]["seconds"])
        now[0] += 16.0

    trainer.run()
    assert found[0] == {"other": 0.0, "sites": 68.0, "generator": 3.0}
    assert found[1:] == [{"other": 16.0, "sites": 4.0, "generator": 3.0}] * 3
