"""What a site does under each policy, through the wall."""

import json
import math
from collections import Counter

import pytest
import torch
from monai.transforms import Compose, RandAffined
from small_sites import RandomSamples, adam, discriminator, generator, members, sites

from bundle.losses import AdversarialLoss, SiteLoss
from bundle.server import DistributedGanTrainer, LocalFederation, PublicConditions, write_conditions
from bundle.site.release import POLICIES, ReleasePolicy, ReleaseRefused, summarize, verify
from bundle.site.store import SiteStore
from bundle.wire.messages import ConditionRequest, SyntheticBatch

DEFORM = Compose(
    [
        RandAffined(
            ["condition", "image"],
            prob=1.0,
            rotate_range=[(0.4, 0.6)],
            mode=["nearest", "bilinear"],
            padding_mode="border",
        )
    ]
)


def made(policy, l1_weight=0.0, lengths=None, **kwargs):
    policy = policy if isinstance(policy, str) else {"policy": "guarded"} | policy
    return sites(lengths or {"A": 5}, l1_weight=l1_weight, policy=ReleasePolicy.make(policy), **kwargs)


def train(federation, steps, seed=0, **kwargs):
    torch.manual_seed(seed)
    network = generator()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    trainer = DistributedGanTrainer("cpu", 1, steps, federation, network, optimizer, **kwargs)
    trainer.run()
    return trainer


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def batch(info, images=None, **kwargs):
    return SyntheticBatch("A", info.step, torch.zeros(2, 1, 8, 8) if images is None else images, info.nonce, **kwargs)


def bank(path, count=6):
    write_conditions(path, {"public": [c.numpy() for c in RandomSamples("public", count).condition]})
    return PublicConditions(path)


def test_a_paired_loss_is_refused_when_the_site_is_made(tmp_path):
    with pytest.raises(ReleaseRefused, match="guarded, returns no gradient of l1"):
        made("guarded", l1_weight=10.0, ledger=lambda name: tmp_path / f"{name}.jsonl")
    assert "l1" in (tmp_path / "A.jsonl").read_text(encoding="utf-8")


def test_guards_cost_an_ordinary_training_nothing():
    ends = [train(LocalFederation(made(policy, num_steps=30)), 30) for policy in ("published", "guarded")]
    assert torch.equal(weights(ends[0].generator), weights(ends[1].generator))
    assert ends[1].state.sites["A"]["policy"] == "guarded"


def test_a_server_that_asks_twice_for_the_same_conditions_is_refused_and_the_discriminator_untouched():
    (site,) = made("guarded")
    info = site.open(1)
    first = site.step(batch(info))
    again = site.step(batch(info, torch.ones(2, 1, 8, 8)))
    assert torch.equal(first.image_gradient, again.image_gradient), "the very answer that was given, whatever is asked"
    before = weights(site.critic.discriminator)
    for nonce in (info.nonce, "", "f" * 16):
        with pytest.raises(ReleaseRefused, match="nonce"):
            site.step(SyntheticBatch("A", 2, torch.zeros(2, 1, 8, 8), nonce))
    assert torch.equal(weights(site.critic.discriminator), before)
    assert site.trained == 1


def test_going_back_is_counted_and_comes_to_an_end():
    (site,) = made({"max_issues": 6}, lengths={"A": 2})
    asked = []

    def go_back():  # step 1 again and again, from the initial weights each time
        for step in (1, 2):
            site.step(batch(site.open(step)))
        asked.append(site.trained)
        go_back()

    with pytest.raises(ReleaseRefused, match="max_issues") as refused:
        go_back()
    assert refused.value.final
    assert 1 <= len(asked) <= 6


def test_with_public_conditions_no_label_map_leaves(tmp_path):
    (site,) = made("private", num_steps=4, ledger=lambda name: tmp_path / f"{name}.jsonl")
    info = site.open(1)
    assert not info.conditions.numel()
    assert (info.num_samples, info.batch_size) == (1, 2)
    public = bank(tmp_path / "bank.npz").batch(0, "A", 1, 2)
    with pytest.raises(ValueError, match="conditions"):
        site.step(batch(info))
    reply = site.step(batch(info, conditions=public))
    assert not reply.conditions.numel()
    assert reply.losses == {}
    with pytest.raises(ReleaseRefused, match="lets no conditions out"):
        site.conditions(ConditionRequest("A", 0, 5))
    lines = [json.loads(line) for line in (tmp_path / "A.jsonl").read_text(encoding="utf-8").splitlines()]
    assert not any(part["what"] == "conditions" for line in lines for part in line.get("parts", ()))
    assert not any(line.get("samples") for line in lines)


def test_a_generator_learns_from_sites_that_keep_their_conditions(tmp_path):
    policy = {"policy": "private", "epsilon": math.inf, "clip_norm": 10.0, "secret_weights": False}
    wall = LocalFederation(made(policy, lengths={"A": 5, "B": 4}, num_steps=8))
    trainer = train(wall, 8, public_conditions=bank(tmp_path / "bank.npz"))
    assert trainer.state.iteration == 8
    assert [about["answered"] for about in trainer.state.sites.values()] == [8, 8]
    assert math.isnan(trainer.state.output[0]["loss"])
    again = LocalFederation(made(policy, lengths={"A": 5, "B": 4}, num_steps=8))
    same = train(again, 8, public_conditions=bank(tmp_path / "bank.npz"))
    assert torch.equal(weights(trainer.generator), weights(same.generator)), "without noise all is drawn from the seed"


def test_a_server_without_conditions_of_its_own_says_so(caplog):
    with pytest.raises(RuntimeError, match="issues no conditions, and there are no public_conditions"):
        train(LocalFederation(made("private", num_steps=4)), 4)


def test_the_discriminator_sees_real_pairs_that_fit_and_synthetic_pairs_of_the_servers(tmp_path):
    seen = []
    (site,) = made({"policy": "private", "epsilon": math.inf}, num_steps=4)
    inferer = site.critic.inferer
    site.critic.inferer = lambda pair, network: seen.append(pair.detach().clone()) or inferer(pair, network)
    public = bank(tmp_path / "bank.npz").batch(0, "A", 1, 2)
    site.step(batch(site.open(1), conditions=public))
    real, fake, judged = seen
    drawn = site.draw(1)
    assert torch.equal(real, torch.cat([drawn["condition"].float(), drawn["image"]], dim=1))
    assert torch.equal(fake[:, :2], public.float())
    assert torch.equal(judged[:, :2], public.float())


def test_public_conditions_are_a_function_of_seed_site_and_step(tmp_path):
    ours = bank(tmp_path / "bank.npz")
    assert torch.equal(ours.batch(0, "A", 3, 2), bank(tmp_path / "bank.npz").batch(0, "A", 3, 2))
    assert not torch.equal(ours.batch(0, "A", 3, 4), ours.batch(0, "B", 3, 4))
    lap = torch.cat([ours.batch(0, "A", step, 2) for step in (1, 2, 3)])
    assert len({c.numpy().tobytes() for c in lap}) == 6, "every one once before any twice"


def deformed(tmp_path, **kwargs):
    policy = {"conditions": "deformed"} | kwargs.pop("policy", {})
    return made(policy, deform=DEFORM, ledger=lambda name: tmp_path / f"{name}.jsonl", **kwargs)[0]


def test_deformed_conditions_fit_their_images_and_are_none_of_the_samples(tmp_path):
    site = deformed(tmp_path)
    info = site.open(1)
    known = {c.numpy().tobytes() for sample in RandomSamples("A", 5).condition for c in (sample, sample.flip(-1))}
    assert not {c.numpy().tobytes() for c in info.conditions} & known
    assert set(info.conditions.unique().tolist()) <= {0, 1}
    assert torch.equal(site.draw(1)["condition"], info.conditions)
    kept = site.conditions(ConditionRequest("A", 0, 5)).conditions
    assert len(kept) == 5
    assert not {c.numpy().tobytes() for c in kept} & known
    site.step(batch(info))
    other = deformed(tmp_path / "another site")
    assert not torch.equal(other.open(1).conditions, info.conditions), "the server knows the seed of the run, not this"


def test_every_sample_is_deformed_in_one_way_whatever_is_asked(tmp_path):
    """Many jobs, seeds, steps and requests: nobody gets a second deformation to average the first one away with."""
    seen = set()
    for seed in range(4):
        site = deformed(tmp_path, seed=seed)
        for step in (1, 2, 3, 1, 100):
            seen |= {condition.numpy().tobytes() for condition in site.open(step).conditions}
        kept = site.conditions(ConditionRequest("A", 0, 5)).conditions
        site.gate.close()
    # that of generation, and mirrored as a draw may have it
    assert seen == {c.numpy().tobytes() for condition in kept for c in (condition, condition.flip(-1))}


def test_a_checkpoint_holds_nothing_of_the_secret(tmp_path):
    site = deformed(tmp_path)
    site.step(batch(site.open(1)))
    assert str(site.gate.secret) not in str(site.state_dict())
    assert "secret" not in site.state_dict()


def test_a_policy_that_deforms_needs_to_know_how():
    with pytest.raises(ValueError, match="condition_deformation"):
        made({"conditions": "deformed"})


def test_secret_weights_are_not_those_of_the_seed():
    first, second, known, again = (
        weights(made({"secret_weights": secret})[0].critic.discriminator) for secret in (True, True, False, False)
    )
    assert torch.equal(known, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, known)


def test_a_rounded_number_of_samples_is_all_that_is_released():
    (site,) = made({"num_samples": "rounded"}, lengths={"A": 23})
    assert site.open(1).num_samples == 20
    assert len(site.conditions(ConditionRequest("A", 0, 64)).conditions) == 20


def test_a_training_ends_where_the_last_budget_ends(tmp_path, caplog):
    policies = {
        site: ReleasePolicy.make({"policy": "guarded", "max_releases": most}) for site, most in (("A", 5), ("B", 3))
    }
    samples = {name: RandomSamples(name, 4) for name in policies}
    loss = SiteLoss(AdversarialLoss(), l1_weight=0)
    wall = LocalFederation(members(samples, discriminator, adam, loss, batch_size=2, policy=policies))
    trainer = train(wall, 12, rejoin_interval=1)
    assert trainer.state.iteration == 5
    assert [about["answered"] for about in trainer.state.sites.values()] == [5, 3]
    assert {about["state"] for about in trainer.state.sites.values()} == {"ended"}
    assert "the training ends after step 5" in caplog.text


def test_a_finished_training_leaves_a_ledger_that_verifies_and_reads(tmp_path):
    policy = {"policy": "private", "epsilon": 3.0}
    wall = LocalFederation(made(policy, num_steps=6, ledger=lambda name: tmp_path / f"{name}.jsonl"))
    train(wall, 6, public_conditions=bank(tmp_path / "bank.npz"))
    state = verify(tmp_path / "A.jsonl")
    assert state.whole
    lines = [json.loads(line) for line in (tmp_path / "A.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["kind"] for line in lines] == ["start", "open"] + ["reply"] * 6
    assert lines[-1]["epsilon"] <= 3.0 + 1e-6
    page = summarize(tmp_path / "A.jsonl")
    assert "private" in page
    assert len(page.splitlines()) <= 60


def test_conditions_that_leave_before_the_first_step_are_in_the_ledger(tmp_path):
    (site,) = made("guarded", ledger=lambda name: tmp_path / f"{name}.jsonl")
    site.conditions(ConditionRequest("A", 0, 3))
    lines = [json.loads(line) for line in (tmp_path / "A.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["kind"] for line in lines] == ["start", "conditions"]
    assert lines[1]["parts"][0]["shape"] == [3, 2, 8, 8]
    assert len(set(lines[1]["samples"])) == 3


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (-5, 0), (-(10**9), 10**9), (2, 1), (0, 0), (0.0, 3), (True, 3)])
def test_conditions_are_asked_for_by_places_that_there_are(start, stop, tmp_path):
    (site,) = made("guarded", ledger=lambda name: tmp_path / f"{name}.jsonl")
    with pytest.raises(ValueError, match=r"start is|stop is"):
        site.conditions(ConditionRequest("A", start, stop))
    assert b'"kind":"conditions"' not in (tmp_path / "A.jsonl").read_bytes()


@pytest.mark.parametrize(("said", "given"), [("exact", 23), ("rounded", 20), (7, 7), (1, 1)])
def test_no_more_conditions_leave_than_the_site_says_samples(said, given):
    (site,) = made({"num_samples": said}, lengths={"A": 23})
    for start in (0, 1, given - 1, given, 22, 23, 10**9):
        conditions = site.conditions(ConditionRequest("A", start, start + 64)).conditions
        assert len(conditions) == max(0, given - start)


def test_a_number_of_samples_above_the_true_one_is_not_shown_to_be_wrong():
    (site,) = made({"num_samples": 1000}, lengths={"A": 7})
    for start in (0, 6, 7, 999):
        with pytest.raises(ReleaseRefused, match="num_samples"):
            site.conditions(ConditionRequest("A", start, start + 1))


def answers(site, steps):
    """How many steps a site answers before it refuses, for max_issues and nothing else."""
    info = None
    for step in range(1, steps + 1):
        try:
            info = info or site.open(1)
            info = site.step(SyntheticBatch("A", step, torch.zeros(2, 1, *info.conditions.shape[2:]), info.nonce))
        except ReleaseRefused:
            break
    site.gate.close()
    return 0 if info is None else site.trained


def test_a_sample_is_counted_whatever_a_job_changes(tmp_path):
    """Seeds, sizes, and whether samples were asked for in steps or for generation."""
    given = Counter()

    def site(seed, size=8, **kwargs):
        (found,) = made({"max_issues": 4}, seed=seed, ledger=lambda name: tmp_path / f"{name}.jsonl", **kwargs)
        found.samples = RandomSamples("A", 5, size=size)
        return found

    assert len(site(0).conditions(ConditionRequest("A", 0, 5)).conditions) == 5
    total = 0
    for seed, size in ((0, 8), (0, 8), (1, 8), (0, 9), (0, 16), (2, 12)):
        total += answers(site(seed, size), 50)
    assert 0 < total <= (5 * 4 - 5) / 2
    with pytest.raises(ReleaseRefused, match="max_issues"):
        site(0).conditions(ConditionRequest("A", 0, 5))
    for entry in (json.loads(line) for line in (tmp_path / "A.jsonl").read_text(encoding="utf-8").splitlines()):
        given.update(entry.get("samples", ()))
    assert len(given) == 5
    assert max(given.values()) <= 4


@pytest.mark.parametrize("policy", ["published", "guarded", {"policy": "private", "epsilon": math.inf}])
def test_a_training_ends_at_its_end(policy, tmp_path):
    public = bank(tmp_path / "bank.npz").batch(0, "A", 1, 2)
    (site,) = made(policy, num_steps=3)
    own = {} if site.policy.conditions != "public" else {"conditions": public}
    info = site.open(1)
    for _ in range(3):
        last, nonce = info.conditions, info.nonce
        info = site.step(SyntheticBatch("A", site.trained + 1, torch.zeros(2, 1, 8, 8), nonce, **own))
    # nothing is issued for a step that there is not
    assert torch.equal(info.conditions, last)
    assert info.nonce == ""
    before = weights(site.critic.discriminator)
    for step in (4, 5, 10**6):
        with pytest.raises(ReleaseRefused, match="the training ends with step 3"):
            site.open(step)
        for waiting in (info.nonce, nonce):
            with pytest.raises(ReleaseRefused, match="the training ends with step 3"):
                site.step(SyntheticBatch("A", step, torch.zeros(2, 1, 8, 8), waiting, **own))
    assert torch.equal(weights(site.critic.discriminator), before)
    assert site.step(SyntheticBatch("A", 3, torch.zeros(2, 1, 8, 8), nonce, **own)).step == 3


def test_every_refusal_is_counted_once(tmp_path, monkeypatch):
    (site,) = made("guarded", num_steps=5, ledger=lambda name: tmp_path / f"{name}.jsonl", keep_conditions=False)
    info = site.open(1)
    zeros = torch.zeros(2, 1, 8, 8)
    refused = [
        lambda: site.open(0),
        lambda: site.open(6),
        lambda: site.open("1"),
        lambda: site.step(SyntheticBatch("B", 1, zeros, info.nonce)),
        lambda: site.step(SyntheticBatch("A", 0, zeros, info.nonce)),
        lambda: site.step(SyntheticBatch("A", 1, zeros * 3 + 3, info.nonce)),
        lambda: site.step(SyntheticBatch("A", 1, zeros[:1], info.nonce)),
        lambda: site.step(SyntheticBatch("A", 1, zeros, "no such nonce")),
        lambda: site.step(None),
        lambda: site.conditions(ConditionRequest("A", -1, 3)),
        lambda: site.conditions(ConditionRequest("A", 0, 3)),
        lambda: site.conditions(ConditionRequest("B", 0, 3)),
    ]
    for number, ask in enumerate(refused * 3, 1):
        with pytest.raises((ValueError, TypeError, ReleaseRefused)):
            ask()
        assert site.gate.refused == number
    monkeypatch.setattr(site.critic.loss, "generator", None)
    with pytest.raises(TypeError):
        site.step(batch(info))
    site.gate.close()
    lines = [json.loads(line) for line in (tmp_path / "A.jsonl").read_text(encoding="utf-8").splitlines()]
    counts = [line["count"] for line in lines if line["kind"] == "refusal"]
    assert sum(counts) == site.gate.refused == 3 * len(refused) + 1
    assert len(counts) < 12


def test_an_answer_that_a_new_process_gives_again_is_counted_once_and_at_all(tmp_path):
    policy = {"policy": "private", "epsilon": 3.0}
    public = bank(tmp_path / "bank.npz").batch(0, "A", 1, 2)
    how = {"num_steps": 6, "ledger": lambda name: tmp_path / f"{name}.jsonl"}
    (site,) = made(policy, **how)
    info = site.open(1)
    first = site.step(batch(info, conditions=public))
    state = site.state_dict()
    site.gate.close()
    (other,) = made(policy, **how)
    other.load_state_dict(state)
    again = other.step(batch(other.open(1), torch.ones(2, 1, 8, 8), conditions=public))
    assert torch.equal(first.image_gradient, again.image_gradient)
    lines = [json.loads(line) for line in (tmp_path / "A.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["kind"] for line in lines] == ["start", "open", "reply", "start", "open", "repeated reply"]
    (reply,) = [line for line in lines if line["kind"] == "reply"]
    assert 0 < other.gate.epsilon == pytest.approx(reply["epsilon"])
    # a ledger that does not know of it counts it, with the noise that is in it
    (third,) = made(policy, num_steps=6, ledger=lambda name: tmp_path / f"other_{name}.jsonl")
    third.load_state_dict(state)
    third.step(batch(third.open(1), conditions=public))
    assert third.gate.epsilon == pytest.approx(reply["epsilon"])


def test_no_checkpoint_holds_an_answer_that_is_not_in_the_ledger(tmp_path, monkeypatch):
    policy = {"policy": "private", "epsilon": 3.0}
    (site,) = made(
        policy,
        num_steps=6,
        ledger=lambda name: tmp_path / f"{name}.jsonl",
        store=lambda name: SiteStore(tmp_path / "kept", interval=1),
    )
    public = bank(tmp_path / "bank.npz").batch(0, "A", 1, 2)
    info = site.open(1)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.write", full)
        with pytest.raises(OSError, match="No space"):
            site.step(batch(info, conditions=public))
    assert not list((tmp_path / "kept").glob("*.pt"))


def test_an_answer_of_another_policy_is_not_given_again():
    (site,) = made("guarded")
    site.step(batch(site.open(1)))
    state = site.state_dict()
    (same,), (stricter,) = made("guarded"), made({"policy": "guarded", "scalar_losses": False})
    for other in (same, stricter):
        other.load_state_dict(state)
    assert same.step(batch(same.open(1))).losses
    assert not stricter.step(batch(stricter.open(1))).losses


def test_a_step_that_fails_is_in_the_ledger_and_takes_of_the_budget(tmp_path, monkeypatch):
    (site,) = made({"policy": "private", "epsilon": 3.0}, num_steps=4, ledger=lambda name: tmp_path / f"{name}.jsonl")
    public = bank(tmp_path / "bank.npz").batch(0, "A", 1, 2)
    info = site.open(1)

    def fail(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(site.critic.loss, "generator", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        site.step(batch(info, conditions=public))
    last = json.loads((tmp_path / "A.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert (last["kind"], last["reason"]) == ("refusal", "the step failed at the site")
    assert 0 < site.gate.epsilon == pytest.approx(last["epsilon"])


def test_a_gradient_that_is_not_finite_is_answered_like_any_other(caplog, tmp_path):
    (site,) = made({"policy": "private", "epsilon": 3.0}, num_steps=4, ledger=lambda name: tmp_path / f"{name}.jsonl")
    public = bank(tmp_path / "bank.npz").batch(0, "A", 1, 2)
    with torch.no_grad():
        next(site.critic.discriminator.parameters()).fill_(math.nan)
    info = site.open(1)
    reply = site.step(batch(info, conditions=public))
    assert torch.isfinite(reply.image_gradient).all()
    assert reply.image_gradient.std() > 0
    assert "not finite" in caplog.text
    assert site.gate.epsilon > 0


def test_a_batch_out_of_range_is_refused_and_written_down(tmp_path):
    (site,) = made("guarded", ledger=lambda name: tmp_path / f"{name}.jsonl")
    info = site.open(1)
    with pytest.raises(ValueError, match="from 3 to 3"):
        site.step(batch(info, torch.full((2, 1, 8, 8), 3.0)))
    lines = [json.loads(line) for line in (tmp_path / "A.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines[-1]["kind"] == "refusal"
    assert "from 3 to 3" in lines[-1]["last"]
    site.step(batch(info))


def test_guarded_and_private_answers_hold_the_same_gradient_but_for_clip_and_noise(tmp_path):
    policy = {"policy": "private", "epsilon": math.inf, "clip_norm": 1e6, "conditions": "real", "secret_weights": False}
    (plain,), (clipped,) = made("guarded"), made(policy, num_steps=3)
    ours, theirs = (site.step(batch(site.open(1))) for site in (plain, clipped))
    assert torch.allclose(ours.image_gradient, theirs.image_gradient, atol=1e-7)
    assert POLICIES["guarded"].scalar_losses
    assert theirs.losses == {}
