"""Sites that fail, in every way that we thought of: what a training makes of it, and what it never does."""

import json
import logging
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from flaky_sites import FlakyFederation, change, flaky
from ignite.engine import Events
from monai.handlers import LrScheduleHandler, TensorBoardStatsHandler
from small_sites import federation, generator, sites

from bundle.engines import AtomicCheckpointSaver, LinearDecay, Progress, Resume, TrainingRecord
from bundle.server import DistributedGanTrainer, losses_by_tag, mean_losses
from bundle.server.roster import Roster, TooFewSites
from bundle.site.store import SiteStore

LENGTHS = {"A": 3, "B": 5, "C": 4}


def make(fed, network=None, steps=6, handlers=(), epoch_length=2, folder=None, **kwargs):
    """A trainer; with a folder one that can be resumed, by the handlers of our config."""
    torch.manual_seed(0)
    network = generator() if network is None else network()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.5, 0.999))
    handlers = list(handlers)
    if folder is not None:
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, LinearDecay(num_steps=6, constant=0.3))
        saved = {"generator": network, "optimizer": optimizer, "federation": fed, "lr_scheduler": scheduler}
        handlers += [
            Resume(str(folder / "latest.pt"), saved),
            LrScheduleHandler(scheduler, epoch_level=False, print_lr=False),
            AtomicCheckpointSaver(str(folder), saved),
            TrainingRecord(str(folder / "record.json")),
        ]
    trainer = DistributedGanTrainer(
        device="cpu",
        max_epochs=steps // epoch_length,
        epoch_length=epoch_length,
        federation=fed,
        generator=network,
        optimizer=optimizer,
        train_handlers=handlers,
        **{"rejoin_interval": 2} | kwargs,
    )
    trainer.logger.setLevel(logging.CRITICAL)
    return trainer


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def ends(trainer):
    """All weights of a run."""
    fed = trainer.federation
    return [weights(trainer.generator), *(weights(fed.site(name).critic.discriminator) for name in fed.sites)]


def equal(one, two):
    return all(torch.equal(a, b) for a, b in zip(ends(one), ends(two), strict=True))


def run(fed, **kwargs):
    trainer = make(fed, **kwargs)
    trainer.run()
    return trainer


def about(trainer, site):
    return {key: value for key, value in trainer.state.sites[site].items() if value != 0 and key != "policy"}


def test_nobody_fails():
    fed = flaky(lengths=LENGTHS)
    trainer = run(fed)
    assert equal(trainer, run(federation(lengths=LENGTHS)))
    assert fed.opens == [(1, ["A", "B", "C"])]
    assert all(about(trainer, s) == {"state": "present", "last_step": 6, "answered": 6} for s in "ABC")


def test_the_update_without_a_site_is_that_of_the_others_objective_alone():
    """By hand: one graph from the losses of A and C, with π of 3 and 4 samples, to the generator."""
    fed = flaky({("B", 1): "away"}, lengths=LENGTHS, l1_weight=10.0)
    trainer = make(fed, steps=2)
    twin = deepcopy(trainer.generator)
    gradients = []

    @trainer.on(Events.ITERATION_COMPLETED(once=1))
    def compare(engine):
        gradients.append(torch.cat([p.grad.flatten() for p in engine.generator.parameters()]))
        objective = 0.0
        for name, pi in {"A": 3 / 7, "C": 4 / 7}.items():
            site = fed.site(name)
            drawn = site.draw(1)  # the discriminators have made their first update, and only that
            x = drawn["condition"].float()
            logits, seen = site.critic.judge(x, twin(x))
            objective = objective + pi * site.critic.loss.generator(logits, twin(x), drawn["image"], seen)[0]
        objective.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in twin.parameters()]))
        assert set(engine.state.output[0]["losses"]) == set(engine.state.output[0]["images"]) == {"A", "C"}

    trainer.run()
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_a_site_that_is_gone_for_good_is_as_one_that_never_was(caplog):
    fed = flaky(away={"B": range(1, 100)}, lengths=LENGTHS)
    trainer = run(fed)
    alone = run(federation(lengths={"A": 3, "C": 4}))
    assert torch.equal(weights(trainer.generator), weights(alone.generator))
    assert about(trainer, "B") == {"state": "missing", "failures": 3}
    assert fed.opens == [(1, ["A", "B", "C"]), (3, ["B"]), (5, ["B"])]
    # said aloud once
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == [
        "step 1 goes without site B: out of reach"
    ]


def test_a_site_that_goes_and_comes_back(caplog):
    caplog.set_level(logging.INFO, "bundle")
    fed = flaky(away={"B": range(3, 7)}, lengths=LENGTHS)
    present = {}
    trainer = make(fed, steps=10)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: present.update({e.state.iteration: "".join(e.state.output[0]["losses"])})
    )
    trainer.run()
    assert [present[step] for step in range(1, 11)] == ["ABC"] * 2 + ["AC"] * 4 + ["ABC"] * 4
    assert fed.opens == [(1, ["A", "B", "C"]), (5, ["B"]), (7, ["B"])]
    assert about(trainer, "B") == {"state": "present", "last_step": 10, "answered": 6, "failures": 2}
    assert "step 3 goes without site B: out of reach" in caplog.text
    assert "step 7: site B is back, trained up to step 2" in caplog.text
    # its discriminator saw the steps that it took part in, no others, and was not sent back
    assert fed.site("B").trained == 10
    assert all(state["step"] == 6 for state in fed.site("B").critic.optimizer.state.values())


def corrupt_gradient(value):
    def corrupt(reply):
        reply.image_gradient[0, 0, 0, 0] = value
        return reply

    return corrupt


CORRUPT = {
    "nan": corrupt_gradient(float("nan")),
    "huge": corrupt_gradient(1e30),
    "shape": change(image_gradient=lambda reply: reply.image_gradient[:1]),
    "dtype": change(image_gradient=lambda reply: reply.image_gradient.double()),
    "step": change(step=99),
    "site": change(site="C"),
    "losses": change(losses={"l1": 1.0}),
    "condition of 7": change(conditions=lambda reply: reply.conditions * 0 + 7),
    "another size": change(conditions=lambda reply: reply.conditions[..., :4]),
    "nothing": lambda reply: None,
    "another message": lambda reply: reply.conditions,
}


@pytest.mark.parametrize("kind", CORRUPT)
def test_a_corrupt_reply_has_the_effect_of_none(kind):
    spoilt = run(flaky({("B", 2): CORRUPT[kind]}, lengths=LENGTHS), max_gradient_norm=100.0)
    lost = run(flaky({("B", 2): "lost"}, lengths=LENGTHS), max_gradient_norm=100.0)
    assert equal(spoilt, lost)
    assert not equal(spoilt, run(federation(lengths=LENGTHS)))
    expected = {"state": "present", "last_step": 6, "answered": 4, "failures": 1, "strikes": 1}
    assert about(spoilt, "B") == expected


def test_a_late_reply_is_dropped_and_no_strike(caplog):
    trainer = run(flaky({("B", 2): "late"}, lengths=LENGTHS), max_strikes=1)
    assert equal(trainer, run(flaky({("B", 2): "lost"}, lengths=LENGTHS)))
    expected = {"state": "present", "last_step": 6, "answered": 4, "failures": 1, "late": 1}
    assert about(trainer, "B") == expected
    assert "step 2 goes without site B: it answers step 1, not 2" in caplog.text


def test_answers_that_the_federation_dropped_are_counted(monkeypatch):
    fed = flaky(lengths=LENGTHS)
    openings, steps = {1: {"B": 1}}, {("A", 2): {"B": 2}, ("B", 2): {"C": 1}}
    whole_open, whole_step = fed.open, fed.step
    monkeypatch.setattr(fed, "open", lambda step, *of: replace(whole_open(step, *of), late=openings.get(step, {})))
    monkeypatch.setattr(fed, "step", lambda b: replace(whole_step(b), late=steps.get((b.site, b.step), {})))
    trainer = run(fed)
    assert {site: about["late"] for site, about in trainer.state.sites.items()} == {"A": 0, "B": 3, "C": 1}


def test_a_site_with_too_many_strikes_is_left_out_for_the_rest_of_the_run(caplog):
    bad = {("B", step): CORRUPT["nan"] for step in range(1, 20)}
    fed = flaky(bad, lengths=LENGTHS)
    trainer = run(fed, steps=10, max_strikes=2)
    assert about(trainer, "B") == {"state": "left out", "failures": 2, "strikes": 2}
    assert fed.opens == [(1, ["A", "B", "C"]), (3, ["B"])]
    assert fed.site("B").trained == 3
    assert "step 3: site B is left out for the rest of the run: strike 2 of 2: image gradient" in caplog.text


@pytest.mark.parametrize(
    "corrupt",
    [
        change(num_samples=0),
        change(num_samples=10**9, site="A"),
        change(step=7),
        change(trained=-1),
        change(conditions=lambda info: info.conditions[:, :1]),
        change(conditions=lambda info: info.conditions[:1]),
        change(conditions=lambda info: info.conditions * 2),
        lambda info: None,
    ],
)
def test_a_site_that_opens_with_nonsense_takes_no_part(corrupt):
    trainer = run(flaky(infos={"B": corrupt}, lengths=LENGTHS), max_strikes=1)
    assert about(trainer, "B") == {"state": "left out", "failures": 1, "strikes": 1}
    assert torch.equal(weights(trainer.generator), weights(run(federation(lengths={"A": 3, "C": 4})).generator))


def test_the_generator_knows_better_than_the_majority_how_many_channels_there_are():
    one = change(conditions=lambda info: info.conditions[:, :1])
    trainer = run(flaky(infos={"A": one, "B": one}, lengths=LENGTHS), condition_channels=2, max_strikes=1)
    assert {site: each["state"] for site, each in trainer.state.sites.items()} == {
        "A": "left out",
        "B": "left out",
        "C": "present",
    }


# too few


class Statistics(torch.nn.Module):
    """A generator with running statistics."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(2)
        self.net = generator()

    def forward(self, x):
        return self.net(self.norm(x))


@pytest.mark.parametrize(
    ("fault", "step"),
    [
        (fault, step)
        for fault in ("away", "lost", "late", corrupt_gradient(float("nan")))
        for step in (1, 4, 5)
        if (fault, step) != ("late", 1)  # there is no reply before the first
    ],
)
def test_a_step_with_too_few_sites_is_not_done_and_the_run_goes_on_with_it(tmp_path, fault, step):
    how = {"network": Statistics, "epoch_length": 3, "min_sites": 3}
    whole = run(federation(lengths=LENGTHS), folder=tmp_path / "whole", **how)
    cut = make(flaky({("B", step): fault}, lengths=LENGTHS), folder=tmp_path / "cut", **how)
    before = {}
    cut.add_event_handler(Events.ITERATION_STARTED, lambda e: before.update(deepcopy(e.generator.state_dict())))
    with pytest.raises(TooFewSites, match=rf"step {step} needs 3 of 3 sites and has 2; without B \(missing: .*goes on"):
        cut.run()
    assert cut.state.iteration == step - 1
    assert same_states(cut.generator.state_dict(), before)
    assert not (tmp_path / "cut/record.json").exists()
    # the same command: everything is made anew
    resumed = make(flaky(lengths=LENGTHS), folder=tmp_path / "cut", **how)
    steps = []
    resumed.add_event_handler(Events.ITERATION_COMPLETED, lambda e: steps.append(e.state.iteration))
    resumed.run()
    assert steps == list(range(step, 7))
    assert equal(whole, resumed)
    assert same_states(whole.generator.state_dict(), resumed.generator.state_dict())
    sites = json.loads((tmp_path / "cut/record.json").read_text(encoding="utf-8"))["sites"]
    counts = {"last_step": 6, "answered": 6, "failures": 0, "strikes": 0, "late": 0}
    assert sites["A"] == {"state": "present", "policy": "published"} | counts
    assert (sites["B"]["answered"], sites["B"]["failures"]) == (6, 1)


def same_states(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


class Apart(FlakyFederation):
    """Sites that the server's checkpoint does not hold, as behind a network."""

    def state_dict(self):
        return {"ledger": self.ledger.state_dict()}

    def load_state_dict(self, state):
        self.ledger.load_state_dict(state["ledger"])


@pytest.mark.parametrize("sites_too", [False, True])
def test_a_server_that_was_killed_and_sites_with_their_own_checkpoints_come_to_the_same_bits(tmp_path, sites_too):
    def members(folder):
        return sites(lengths=LENGTHS, store=lambda name: SiteStore(folder / name, interval=2))

    here = members(tmp_path / "sites")
    whole = run(Apart(members(tmp_path / "others")), folder=tmp_path / "whole", steps=8)
    cut = make(Apart(here), folder=tmp_path, steps=8)

    @cut.on(Events.ITERATION_STARTED(once=6))
    def kill(engine):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut.run()
    if sites_too:
        here = members(tmp_path / "sites")
    resumed = run(Apart(here), folder=tmp_path, steps=8)
    assert resumed.federation.opens == [(5, ["A", "B", "C"])]
    assert equal(whole, resumed)


def test_sites_with_their_own_checkpoints_stay_at_a_step_that_the_server_did_not_do(tmp_path):
    def members(folder):
        return sites(lengths=LENGTHS, store=lambda name: SiteStore(folder / name, interval=100))

    here = members(tmp_path / "sites")
    with pytest.raises(TooFewSites):
        run(Apart(here, {("B", 5): "away", ("C", 5): "lost"}), folder=tmp_path, min_sites=3)
    assert [site.trained for site in here] == [5, 4, 5]
    resumed = run(Apart(here), folder=tmp_path, min_sites=3)
    assert equal(resumed, run(federation(lengths=LENGTHS), folder=tmp_path / "whole"))


def test_a_run_whose_sites_do_not_open_does_not_begin():
    trainer = make(flaky(away={"A": range(1, 9), "C": range(1, 9)}, lengths=LENGTHS), min_sites=2)
    with pytest.raises(TooFewSites, match=r"step 1 needs 2 of 3 .*A \(missing: out of reach\), C \(missing: out of"):
        trainer.run()
    assert trainer.federation.site("B").trained == 0


def test_the_last_site_may_not_fail():
    trainer = make(flaky({("A", 2): CORRUPT["nan"]}, lengths={"A": 3}))
    with pytest.raises(TooFewSites, match=r"A \(missing: strike 1 of 3: image gradient that is not finite\)"):
        trainer.run()
    assert all(torch.isfinite(p).all() for p in trainer.generator.parameters())


def test_strikes_outlive_a_restart(tmp_path):
    bad = {("B", step): CORRUPT["nan"] for step in range(1, 20)}
    for attempt in (1, 2):
        fed = flaky(bad, lengths=LENGTHS)
        trainer = make(fed, folder=tmp_path, max_strikes=2, min_sites=3)
        with pytest.raises(TooFewSites, match=r"strike 2 of 2: .*cannot go on" if attempt == 2 else "strike 1 of 2"):
            trainer.run()
    fed = flaky(lengths=LENGTHS)
    trainer = make(fed, folder=tmp_path, max_strikes=2)
    trainer.run()
    assert about(trainer, "B")["state"] == "left out"
    assert fed.opens == [(1, ["A", "C"])]


def test_other_errors_end_a_run_without_a_checkpoint(tmp_path):
    trainer = make(federation(), folder=tmp_path)
    trainer.optimizer.step = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        trainer.run()
    assert list(tmp_path.iterdir()) == []


def test_more_sites_than_there_are_means_all_of_them():
    assert Roster("AB", min_sites=5).min_sites == 2


@pytest.mark.parametrize("name", ["min_sites", "rejoin_interval", "max_strikes"])
@pytest.mark.parametrize("value", [0, 1.5, True, None])
def test_numbers_of_the_roster_are_whole_numbers(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected a whole number of at least 1"):
        make(federation(), **{name: value})


@pytest.mark.parametrize("value", [0, -1.0, float("nan")])
def test_the_bound_of_gradients_is_a_positive_number(value):
    with pytest.raises(ValueError, match="max_gradient_norm: expected a number above 0"):
        make(federation(), max_gradient_norm=value)


# handlers


def test_progress_says_how_many_sites_there_are_and_who_is_missing(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("bundle.engines.handlers.sys.stderr.isatty", lambda: False, raising=False)
    caplog.set_level(logging.INFO, "bundle")
    fed = flaky(away={"B": range(3, 5), "C": range(4, 5)}, lengths=LENGTHS)
    stats = TensorBoardStatsHandler(log_dir=str(tmp_path), output_transform=losses_by_tag)
    run(fed, handlers=[stats, Progress("training", interval=1, output_transform=mean_losses)])
    lines = [r.message for r in caplog.records if r.name == "bundle.training"]
    assert [line.split(" · ")[3] for line in lines] == [
        "3/3 sites",
        "3/3 sites",
        "2/3 sites, without B",
        "1/3 sites, without B, C",
        "2/3 sites, without C",
        "3/3 sites",
    ]


def test_a_bar_shows_the_sites_too(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    run(flaky({("B", 6): "away"}, lengths=LENGTHS), handlers=[Progress("training", output_transform=mean_losses)])
    assert "sites=2/3 sites, without B" in capsys.readouterr().err
