"""Both ends of the FLARE transport without its processes: proxies that are functions, participants in one process."""

import json
import re
import threading
from concurrent.futures import wait
from dataclasses import replace

import pytest
import torch
from flaky_sites import flaky
from ignite.engine import Events
from small_sites import federation, generator, sites
from tiny import NETWORKS

pytest.importorskip("nvflare", reason="the extra `federation` is not installed")

import wired_sites
from wired_sites import Collab, Gate, at, ends, federate, flare_site, see, write_local

from bundle import __version__
from bundle.data import load_datalist, write_site_lists
from bundle.declarations.job import SITE_KEYS, Job, JobError
from bundle.flare import federation as flare_federation
from bundle.flare.federation import FlareFederation
from bundle.flare.participant import LOCAL_FILES
from bundle.flare.server import FlareServer
from bundle.flare.site import FlareSite
from bundle.installation import config_dir
from bundle.server import DistributedGanTrainer, SiteUnreachable, conditions
from bundle.site.noised_updates import NOT_ALLOWED
from bundle.wire import Codec
from bundle.wire.messages import (
    ConditionBatch,
    ConditionRequest,
    OpenRequest,
    Refusal,
    SiteInfo,
    SiteReply,
    SyntheticBatch,
    TaughtBatch,
)

CODEC = Codec()
# small as sent, large as decoded
BOMB = Codec(compression="zstd").encode(SyntheticBatch("B", 1, torch.zeros(1, 1, 1024, 1024)))
FILES = ["train.yaml", "brats.yaml", "demo.yaml", "flare.yaml"]


def batches(names, step=1):
    return {name: SyntheticBatch(name, step, torch.full((2, 1, 8, 8), 0.1 * len(name))) for name in names}


def refuse(site, reason="no"):
    return lambda data: CODEC.encode(Refusal(site, reason))


def fail(error):
    def answer(data):
        raise error

    return answer


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


# the server's end


def test_every_site_is_sent_its_own_bytes_in_one_call_and_answers_as_in_one_process(monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda size: "0f" * size)  # else no two messages are the same
    fed, proxies = federate(monkeypatch, ends(sites()))
    local = federation()
    assert fed.sites == ("A", "B")
    pairs = [(fed.open(1).messages, local.open(1).messages)]
    for step in (1, 2):
        pairs.append(tuple(f.exchange(batches("AB", step)).messages for f in (fed, local)))
    for theirs, ours in pairs:
        assert theirs.keys() == ours.keys() == {"A", "B"}
        assert all(CODEC.encode(theirs[site]) == CODEC.encode(ours[site]) for site in "AB")
    for site, proxy in proxies.items():
        messages = [CODEC.decode(data) for data in proxy.received]
        assert [type(message) for message in messages] == [OpenRequest, SyntheticBatch, SyntheticBatch]
        assert {message.site for message in messages} == {site}
    summary, same = fed.ledger.summary(), local.ledger.summary()
    opened = sum(len(proxy.received[0]) for proxy in proxies.values())
    assert summary["bytes_to_sites"] == same["bytes_to_sites"] + opened
    assert summary["bytes_from_sites"] == same["bytes_from_sites"]
    # one round trip for each site and step, and one to open
    assert (summary["messages_to_sites"], summary["messages_from_sites"], summary["steps"]) == (6, 6, 2)


def test_a_site_that_is_not_named_hears_nothing(monkeypatch):
    fed, proxies = federate(monkeypatch, ends(sites()))
    assert list(fed.open(3, ["B"]).messages) == ["B"]
    assert list(fed.exchange(batches("B", 3)).messages) == ["B"]
    assert proxies["A"].received == []


def test_opening_may_take_longer_than_a_step_but_only_at_first(monkeypatch):
    deadlines, arrivals = [], flare_federation.arrivals

    def watched(futures, timeout):
        deadlines.append(timeout)
        return arrivals(futures, 60)

    monkeypatch.setattr(flare_federation, "arrivals", watched)
    fed, proxies = federate(monkeypatch, ends(sites()), step_timeout=7, open_timeout=70)
    fed.open(1)
    fed.exchange(batches("A"))
    fed.open(2, ["A"])
    fed.conditions(ConditionRequest("A", 0, 1))
    assert deadlines == [70, 7, 7, 70]
    # FLARE's own are no shorter, or they would be the deadline
    assert all(given >= deadline for given, deadline in zip(proxies["A"].timeouts, deadlines, strict=True))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (fail(RuntimeError("the line is dead")), "the line is dead"),
        (fail(TimeoutError()), ""),
        (refuse("B", "see the log"), "refused: see the log"),
        (refuse("A"), "answered in another site's name"),
        (lambda data: data, "got another type of message"),
        (lambda data: None, "answered with a NoneType, expected bytes"),
        (lambda data: Refusal("B", "no"), "answered with a Refusal, expected bytes"),
        (lambda data: bytearray(data), "answered with a bytearray, expected bytes"),
        (lambda data: b"", "not a message"),
        (lambda data: data[:-1], "not a message"),
        (lambda data: bytes(2**20 + 2**16 + 1), "at most 1114112 bytes, got 1114113"),
        (lambda data: BOMB, "a compressed message of"),
    ],
)
def test_a_site_that_does_not_answer_as_it_should_does_not_keep_the_others(monkeypatch, answer, reason):
    fed, proxies = federate(monkeypatch, ends(sites()) | {"B": answer}, max_message_bytes=2**20)
    for ask in (lambda: fed.open(1), lambda: fed.exchange(batches("AB"))):
        outcome = ask()
        assert list(outcome.messages) == ["A"]
        assert list(outcome.failures) == ["B"]
        assert reason in outcome.failures["B"]
        assert len(outcome.failures["B"]) < 500
    assert len(proxies["B"].received) == 2


def test_a_site_that_sends_the_wrong_kind_is_found_by_the_guards(monkeypatch):
    """The federation only decodes; what a message says is judged where it is used."""
    echo = {"B": lambda data: data}
    fed, _ = federate(monkeypatch, ends(sites()) | echo)
    network = generator()
    trainer = DistributedGanTrainer("cpu", 1, 2, fed, network, torch.optim.Adam(network.parameters()), max_strikes=1)
    trainer.run()
    assert trainer.state.sites["B"]["state"] == "left out"
    assert trainer.state.sites["A"]["answered"] == 2


def test_a_step_ends_at_its_deadline_without_the_slow_one_which_is_asked_nothing_until_it_has_answered(monkeypatch):
    gates, answers = {}, ends(sites())
    counted = threading.Event()

    class Watched(FlareFederation):
        def _count_late(self, site, future):
            super()._count_late(site, future)
            counted.set()

    monkeypatch.setattr(wired_sites, "FlareFederation", Watched)
    fed, proxies = federate(monkeypatch, answers, step_timeout=60)
    fed.open(1)
    gate = gates["B"] = Gate(answers["B"])
    proxies["B"].answer = gate
    # not a wait that has to be right: A's answer is there long before, and B answers only when it is let
    fed.step_timeout = 0.5
    try:
        outcome = fed.exchange(batches("B", 1))
        assert not gate.opened.is_set()
        assert (outcome.messages, outcome.failures) == ({}, {"B": "no answer within 0.5 s"})
        assert gate.entered.wait(60)
        fed.step_timeout = 60
        sent = fed.ledger.summary()
        again = fed.exchange(batches("AB", 1))
        assert list(again.messages) == ["A"]
        assert again.failures == {"B": "has not answered the call before"}
        assert fed.open(2, ["B"]).failures == {"B": "has not answered the call before"}
        with pytest.raises(SiteUnreachable, match="has not answered the call before"):
            fed.conditions(ConditionRequest("B", 0, 4))
        assert len(proxies["B"].received) == 2
        assert fed.ledger.to_sites["B"] == sent["per_site"]["B"]["to"]
        assert again.late == {}
    finally:
        gate.opened.set()
    # what comes now is dropped: neither this call nor a later one returns it
    assert counted.wait(60)
    proxies["B"].answer = answers["B"]
    outcome = fed.open(2, ["B"])
    assert outcome.late == {"B": 1}
    assert outcome.messages["B"].trained == 1
    assert type(outcome.messages["B"]) is SiteInfo
    assert [message.step for message in fed.exchange(batches("AB", 2)).messages.values()] == [2, 2]


def test_a_slow_site_costs_the_others_nothing_of_a_training(monkeypatch):
    """The generator's bits are those of a training in which the slow site's reply of that step was lost."""
    answers = ends(sites())
    fed, proxies = federate(monkeypatch, answers)
    gate = Gate(answers["B"])
    # the deadline of step 2, without a clock: it is over as soon as A has answered
    arrivals, late = flare_federation.arrivals, []

    def deadline(futures, timeout):
        all_of_them = arrivals(futures, 60)
        if not late:
            return all_of_them
        late.clear()
        return [next(all_of_them)]

    def run(fed, before_step):
        torch.manual_seed(0)
        network = generator()
        optimizer = torch.optim.Adam(network.parameters())
        trainer = DistributedGanTrainer("cpu", 3, 2, fed, network, optimizer, rejoin_interval=2)
        trainer.add_event_handler(Events.ITERATION_STARTED, lambda engine: before_step(engine.state.iteration))
        trainer.run()
        return trainer

    def before_step(step):
        if step == 2:
            proxies["B"].answer = gate
            late.append("B")
        if step == 3:
            gate.opened.set()
            wait(fed._running.values(), 60)
            proxies["B"].answer = answers["B"]

    monkeypatch.setattr(flare_federation, "arrivals", deadline)
    try:
        one = run(fed, before_step)
    finally:
        gate.opened.set()
    two = run(flaky({("B", 2): "lost"}), lambda step: None)
    assert one.state.sites["B"]["failures"] == 1
    # the one reply came after all, and was dropped; the other never came
    assert one.state.sites["B"].pop("late") - two.state.sites["B"].pop("late") == 1
    assert one.state.sites == two.state.sites
    assert torch.equal(weights(one.generator), weights(two.generator))


def test_conditions_of_a_site_that_refuses(monkeypatch):
    fed, _ = federate(monkeypatch, ends(sites()) | {"B": refuse("B", "see the log")})
    found = fed.conditions(ConditionRequest("A", 1, 9))
    assert isinstance(found, ConditionBatch)
    assert len(found.conditions) == 2
    with pytest.raises(SiteUnreachable, match="site B released no conditions: refused: see the log"):
        fed.conditions(ConditionRequest("B", 0, 9))


def test_conditions_that_may_not_be_kept_are_refused_as_in_one_process(monkeypatch, tmp_path, caplog):
    """The same file, the same bytes, the same words at both ends, and a training that notices nothing."""
    caplog.set_level("INFO", "bundle")
    keep, said, ledgers = {"A": True, "B": False}, [], []
    fed, proxies = federate(monkeypatch, ends(sites(keep_conditions=keep)))
    for one in (fed, federation(keep_conditions=keep)):
        path = tmp_path / f"{len(said)}.npz"
        network = generator()
        collector = conditions.ConditionCollector(one, str(path), chunk=2)
        trainer = DistributedGanTrainer(
            "cpu", 1, 2, one, network, torch.optim.Adam(network.parameters()), train_handlers=[collector]
        )
        collector(None)
        ledgers.append(one.ledger.summary())
        trainer.run()
        assert {site: len(found) for site, found in conditions.read_conditions(path).items()} == {"A": 3}
        for about in trainer.state.sites.values():
            assert (about["answered"], about["failures"], about["strikes"]) == (2, 0, 0)
        said.append([r.getMessage() for r in caplog.records if "keep_conditions: false" in r.getMessage()])
        caplog.clear()
    assert ledgers[0] == ledgers[1]
    reason = "its conditions may not be kept after training (keep_conditions: false)"
    assert (
        said[0]
        == said[1]
        == [
            f"site B refuses: {reason}",
            f"no conditions for generation from site B: site B released no conditions: refused: {reason}",
        ]
    )
    assert CODEC.decode(proxies["B"].answered[0]) == Refusal("B", reason)


def test_a_training_goes_on_where_no_site_releases_conditions_and_asks_again_when_it_is_resumed(tmp_path, caplog):
    fed = federation(keep_conditions=False)
    network = generator()
    collector = conditions.ConditionCollector(fed, str(tmp_path / "c.npz"))
    DistributedGanTrainer(
        "cpu", 1, 2, fed, network, torch.optim.Adam(network.parameters()), train_handlers=[collector]
    ).run()
    assert "no site released conditions for generation: it will need a bank" in caplog.text
    assert list(tmp_path.iterdir()) == []
    fed.site("A").gate.keep_conditions = True
    collector(None)
    assert list(conditions.read_conditions(tmp_path / "c.npz")) == ["A"]


@pytest.mark.parametrize(
    "nonsense",
    [
        lambda batch: SiteInfo("B", 1, 1, torch.ones(1, 2, 8, 8).byte(), 0),
        lambda batch: replace(batch, start=batch.start + 1),
        lambda batch: replace(batch, conditions=torch.ones(5, 2, 8, 8).byte()),
        lambda batch: replace(batch, conditions=torch.ones(1, 2, 8, 8)),
        lambda batch: replace(batch, conditions=torch.ones(8, 8).byte()),
        lambda batch: replace(batch, conditions=batch.conditions * 2),
        # one after the other, without an end
        lambda batch: replace(batch, conditions=torch.ones(4, 2, 8, 8).byte()),
    ],
)
def test_what_are_no_conditions_is_not_kept_and_not_asked_for_without_end(monkeypatch, tmp_path, nonsense, caplog):
    monkeypatch.setattr(conditions, "MAX_CONDITIONS", 20)
    answers = ends(sites())
    spoilt = {"B": lambda data: CODEC.encode(nonsense(CODEC.decode(answers["B"](data))))}
    fed, _ = federate(monkeypatch, answers | spoilt)
    network = generator()
    trainer = DistributedGanTrainer("cpu", 1, 1, fed, network, torch.optim.Adam(network.parameters()))
    trainer.state.sites = trainer.state.sites | {"B": trainer.state.sites["B"] | {"strikes": 1}}  # of a checkpoint
    conditions.ConditionCollector(fed, str(tmp_path / "c.npz"), chunk=4)(trainer)
    assert {site: len(found) for site, found in conditions.read_conditions(tmp_path / "c.npz").items()} == {"A": 3}
    assert "goes without site B: strike 2 of 3: conditions for generation" in caplog.text
    assert [trainer.state.sites[site]["strikes"] for site in "AB"] == [0, 2]


def test_a_name_that_two_sites_have_is_refused_with_the_list(monkeypatch):
    with pytest.raises(JobError, match="site_names: two sites are called B, in A, B, B"):
        federate(monkeypatch, ends(sites()), sites=["B", "A", "B"])


def test_a_checkpoint_of_the_server_counts_on(monkeypatch):
    fed, _ = federate(monkeypatch, ends(sites()))
    fed.open(1)
    fed.exchange(batches("AB"))
    other, _ = federate(monkeypatch, ends(sites()))
    other.load_state_dict(fed.state_dict())
    assert other.ledger.summary() == fed.ledger.summary()
    # the sites keep their own: nothing of theirs is in it
    assert fed.state_dict().keys() == {"ledger"}


def test_a_job_that_is_ended_blames_no_site(monkeypatch):
    """Every call fails then; a training that went on would find nobody and strike everybody."""
    fed, _ = federate(monkeypatch, dict.fromkeys("AB", fail(RuntimeError("aborted"))))
    monkeypatch.setattr(flare_federation.collab, "is_aborted", True)
    with pytest.raises(RuntimeError, match="the job was ended"):
        fed.exchange(batches("AB"))


# a site's end


@pytest.fixture
def site_end(monkeypatch):
    see(monkeypatch, Collab())
    (site,) = sites({"A": 3})
    return flare_site(site)


def receive(end, data, caller="server"):
    with at("A", caller):
        return end.receive(data)


def ask(end, message):
    return CODEC.decode(receive(end, CODEC.encode(message)))


def test_a_site_answers_the_three_questions(site_end):
    info = ask(site_end, OpenRequest("A", 1))
    assert (info.num_samples, info.step, info.trained) == (3, 1, 0)
    reply = ask(site_end, batches("A")["A"])
    assert (type(reply), reply.step) == (SiteReply, 1)
    assert len(ask(site_end, ConditionRequest("A", 0, 2)).conditions) == 2
    assert ask(site_end, OpenRequest("A", 2)).trained == 1


@pytest.mark.parametrize(
    "message",
    [
        OpenRequest("B", 1),
        OpenRequest("A", 0),
        ConditionRequest("B", 0, 4),
        ConditionRequest("A", -1, 4),
        ConditionRequest("A", 2, 2),
        ConditionRequest("A", 0, 1025),
        SyntheticBatch("B", 1, torch.zeros(2, 1, 8, 8)),
        SyntheticBatch("A", 1, torch.zeros(2, 1, 4, 4)),
        SyntheticBatch("A", 1, torch.full((2, 1, 8, 8), 7.0)),
        SyntheticBatch("A", 0, torch.zeros(2, 1, 8, 8)),
    ],
    ids=lambda message: f"{type(message).__name__} {message.site}",
)
def test_what_is_not_for_this_site_is_refused_and_changes_nothing(site_end, message, caplog):
    before = weights(site_end._site.critic.discriminator)
    refusal = ask(site_end, message)
    assert refusal == Refusal("A", f"{type(message).__name__}: see the site's log")
    assert torch.equal(weights(site_end._site.critic.discriminator), before)
    assert site_end._site.trained == 0
    assert f"{type(message).__name__} of the server was refused" in caplog.text


NO_REQUESTS = [
    SiteInfo("A", 1, 1, torch.zeros(1, 2, 8, 8).byte(), 0),
    SiteReply("A", 1, torch.zeros(2, 1, 8, 8), {"adversarial": 1.0}, torch.zeros(2, 2, 8, 8).byte()),
    ConditionBatch("A", 0, torch.zeros(1, 2, 8, 8).byte()),
    Refusal("A", "no"),
]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04K\x01.",
        bytes(100),
        CODEC.encode(OpenRequest("A", 1))[:-1],
        *(CODEC.encode(message) for message in NO_REQUESTS),
    ],
)
def test_what_is_no_message_is_refused(site_end, data):
    assert CODEC.decode(receive(site_end, data)) == Refusal("A", "the message could not be read")


def test_nobody_but_the_server_is_answered(site_end):
    answer = CODEC.decode(receive(site_end, CODEC.encode(batches("A")["A"]), caller="B"))
    assert answer == Refusal("A", "only the server may ask")
    assert site_end._site.trained == 0


@pytest.mark.parametrize("data", [None, 7, ["x"], {"a": 1}, "text", bytearray(b"x")])
def test_nothing_is_raised_to_flare_which_would_send_the_text_and_the_traceback_on(site_end, data):
    assert CODEC.decode(receive(site_end, data)) == Refusal("A", "the message could not be read")
    site_end._site.open = fail(RuntimeError("/archive/Doe_Jane.dcm"))
    assert b"Doe" not in receive(site_end, CODEC.encode(OpenRequest("A", 1)))


def test_two_calls_at_a_time_are_answered_one_after_the_other(site_end):
    """A late call of the server may overlap with the next: a step is done once all the same."""
    step, site = site_end._site.step, site_end._site
    inside, both = threading.Semaphore(1), threading.Event()

    def watched(batch):
        if not inside.acquire(blocking=False):
            both.set()
            return step(batch)
        # time for another to come in, if it can
        both.wait(0.2)
        try:
            return step(batch)
        finally:
            inside.release()

    site.step = watched
    answers = {}

    def call(number):
        answers[number] = receive(site_end, CODEC.encode(batches("A")["A"]))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not both.is_set()
    assert site.trained == 1
    assert len(answers) == 4
    assert len(set(answers.values())) == 1


# who decides what: the job, a site's own file, the server's own file


@pytest.fixture
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path, monkeypatch, threads_as_before):
    see(monkeypatch, Collab())
    monkeypatch.setenv(LOCAL_FILES, str(tmp_path))
    return tmp_path


SIZES = NETWORKS


@pytest.fixture(scope="module")
def lists(phantom_dir, tmp_path_factory):
    """Folders with the data lists of the sites, by name: each has its own cases and no others."""
    paths = write_site_lists(load_datalist(phantom_dir), tmp_path_factory.mktemp("lists"))
    return {site: str(path.parent) for site, path in paths.items()}


OWN = """
discriminator_def: "$lambda: torch.nn.Sequential(@layer(), torch.nn.Conv2d(8, 1, 3))"
layer:
  _target_: torch.nn.Conv2d
  _mode_: callable
  in_channels: $@condition_channels + @image_channels
  out_channels: 8
  kernel_size: 3
"""


def make_job(**overrides):
    return Job.make(FILES, SIZES | overrides, config_dir(), __version__).to_dict()


def start(job, name="A", config_dir="/nowhere"):
    end = FlareSite(job)
    with at(name, config_dir=config_dir):
        end.start()
    return end


def refused(caplog, job, message):
    """A site takes no part, says why in its log, and to the server no more than that it refuses."""
    end = start(job)
    assert end._site is None
    assert re.search(message, caplog.text)
    assert ask(end, OpenRequest("A", 1)) == Refusal("A", "OpenRequest: see the site's log")
    return end


def test_what_a_site_says_of_itself_wins(folder, lists):
    job = make_job(seed=3)
    own = {"checkpoint_dir": str(folder / "kept"), "device": "cpu:0", "num_threads": 1}
    write_local(folder, "A", "site.yaml", **own, dataset_dir=lists["A"], batch_size=3)
    write_local(folder, "B", "site.yaml", **own, dataset_dir=lists["B"])
    end = start(job)
    site, other = end._site, start(job, "B")._site
    assert (site.name, site.batch_size, site.seed) == ("A", 3, 3)
    # torch knows the two apart, and no config says cpu:0
    assert site.critic.device == torch.device("cpu:0") != torch.device("cpu")
    assert other.batch_size == 2  # demo.yaml's
    # torch's number holds in the thread that it was set in: here in the one that computes
    assert end._computing.submit(torch.get_num_threads).result() == 1
    # checkpoints lie where the site says, and those of trainings of different jobs do not meet
    assert site.store.folder.is_relative_to(folder / "kept")
    assert start(make_job(seed=4))._site.store.folder != site.store.folder


def test_no_job_weakens_what_a_site_releases(folder, lists, caplog):
    """Neither by a key nor by a config that every participant has: its own file counts, or the default."""
    own = {"dataset_dir": lists["A"], "checkpoint_dir": str(folder / "kept")}
    write_local(folder, "A", "site.yaml", **own)
    with pytest.raises(JobError, match="override release_policy"):
        make_job(release_policy="published")
    published = [*FILES[:-1], "published.yaml", FILES[-1]]
    job = Job.make(published, SIZES | {"generator_upsampling": "resize"}, config_dir(), __version__).to_dict()
    end = start(job)
    assert end._site is None
    with at("A"):
        refusal = ask(end, OpenRequest("A", 1))
    assert "out_of_fold, returns no gradient of l1" in refusal.reason
    ledger = (folder / "kept" / "releases" / "A.jsonl").read_text(encoding="utf-8")
    assert '"kind":"refusal"' in ledger
    write_local(folder, "A", "site.yaml", **own, release_policy="published")
    assert start(job)._site.policy.name == "published"
    private = own | {"release_policy": {"policy": "private", "epsilon": 4}, "allowed_overrides": [*SIZES]}
    write_local(folder, "A", "site.yaml", **private)
    assert start(make_job())._site.policy.describe() == "private (clip_norm 0.01, epsilon 4, delta 1e-05)"


def test_a_config_that_the_site_has_approved_and_no_other_is_a_jobs(folder, lists, caplog):
    given = {"dataset_dir": lists["A"], "checkpoint_dir": str(folder / "kept"), "device": "cpu"}
    write_local(folder, "A", "site.yaml", **given)
    mine = folder / "mine.yaml"
    mine.write_text(OWN, encoding="utf-8")
    names = [*FILES[:-1], "mine.yaml", FILES[-1]]
    job = Job.make(names, SIZES, config_dir(), __version__, {"mine.yaml": mine}).to_dict()
    approved = folder / "A" / "configs" / "mine.yaml"
    approved.parent.mkdir()
    for other in (None, OWN + "# read\n"):
        if other is not None:
            approved.write_text(other, encoding="utf-8")
        end = start(job)
        assert end._site is None
        with at("A"):
            refusal = ask(end, OpenRequest("A", 1))
        assert refusal.reason == "the job needs a config that this site has not approved; its log says which"
        assert not refusal.final
        assert f"mine.yaml of sha256 {job['approved']['mine.yaml']}" in caplog.text
    approved.write_bytes(mine.read_bytes())
    # once it is there, the site takes part in a job that waits for it
    with at("A"):
        assert ask(end, OpenRequest("A", 1)).num_samples == len(end._site.samples)
    assert all(isinstance(critic.discriminator[0], torch.nn.Conv2d) for critic in end._site.critic.critics)


def test_a_site_too_small_for_its_epsilon_says_no_numbers_to_the_server(folder, lists, caplog):
    own = {"dataset_dir": lists["A"], "checkpoint_dir": str(folder / "kept"), "allowed_overrides": [*SIZES]}
    policy = {"policy": "private", "mechanism": "dp_sgd", "epsilon": 4, "patients_per_update": 1000}
    write_local(folder, "A", "site.yaml", **own, release_policy=policy)
    end = start(make_job())
    with at("A"):
        assert ask(end, OpenRequest("A", 1)) == Refusal("A", NOT_ALLOWED, final=True)
    assert "a sampling rate above 1: 1000 patients_per_update, and the site has 2" in caplog.text


def test_a_private_site_lets_a_job_choose_nothing_among_its_data(folder, lists, caplog):
    """Whether it could take part would be an answer about them, and one that no noise covers."""
    own = {"dataset_dir": lists["A"], "checkpoint_dir": str(folder / "kept")}
    write_local(folder, "A", "site.yaml", **own, release_policy="private")
    for key, value in {"min_tumor_pixels": 50, "label_groups": {"all": [1]}, "generator_scale": 1e6}.items():
        job = Job.make(FILES, {key: value}, config_dir(), __version__).to_dict()
        end = start(job)
        with at("A"):
            refusal = ask(end, OpenRequest("A", 1))
        assert refusal.reason.startswith("the job overrides what this site does not let it (allowed_overrides)")
        assert key not in refusal.reason
    # others let a job, unless their owner says otherwise
    write_local(folder, "A", "site.yaml", **own)
    assert start(make_job(min_tumor_pixels=5))._site is not None
    write_local(folder, "A", "site.yaml", **own, allowed_overrides=["seed"])
    assert start(make_job(min_tumor_pixels=5))._site is None
    write_local(folder, "A", "site.yaml", **own, allowed_overrides="seed")
    refused(caplog, make_job(), "allowed_overrides: expected a list of .*, got the text 'seed'")


def test_trainings_of_a_site_share_a_ledger(folder, lists):
    write_local(folder, "A", "site.yaml", dataset_dir=lists["A"], checkpoint_dir=str(folder / "kept"))
    for seed in (1, 2):
        end = start(make_job(seed=seed))
        with at("A"):
            ask(end, OpenRequest("A", 1))
        end._site.gate.close()
    lines = (folder / "kept" / "releases" / "A.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["start", "folds", "open", "start", "open"]


def test_a_site_says_in_its_own_file_whether_its_conditions_may_be_kept(folder, lists, caplog):
    write_local(folder, "A", "site.yaml", dataset_dir=lists["A"], checkpoint_dir=str(folder), keep_conditions=False)
    write_local(folder, "B", "site.yaml", dataset_dir=lists["B"], checkpoint_dir=str(folder))
    said = {}
    for name in "AB":
        end = start(make_job(), name)
        with at(name):
            said[name] = [
                CODEC.decode(end.receive(CODEC.encode(message)))
                for message in (OpenRequest(name, 1), ConditionRequest(name, 0, 2))
            ]
    assert [type(message) for message in said["B"]] == [SiteInfo, TaughtBatch]
    # it takes part all the same
    assert type(said["A"][0]) is SiteInfo
    assert said["A"][1] == Refusal("A", "its conditions may not be kept after training (keep_conditions: false)")
    assert "Traceback" not in caplog.text
    write_local(folder, "A", "site.yaml", dataset_dir=lists["A"], checkpoint_dir=str(folder), keep_conditions="never")
    refused(caplog, make_job(), "site.yaml: keep_conditions: expected true or false, .* got the text 'never'")


def test_a_site_takes_what_the_training_sends_and_no_more_than_its_own_limit(folder, lists, caplog):
    own = {"checkpoint_dir": str(folder), "dataset_dir": lists["A"], "batch_size": 1}
    write_local(folder, "A", "site.yaml", **own)
    end = start(make_job())
    for size, said in {24: "SyntheticBatch: see the site's log", 64: "the message could not be read"}.items():
        # what is read is refused for its shape
        assert ask(end, SyntheticBatch("A", 1, torch.zeros(1, 1, size, size))).reason == said
    write_local(folder, "A", "site.yaml", **own, max_message_bytes=2**16)
    refused(caplog, make_job(image_size=128), "max_message_bytes: a batch of 1 images takes .*, got 65536")


def test_a_site_that_has_not_read_its_configs_takes_what_asks_it_to_open(folder, lists):
    end = start(make_job())
    assert ask(end, SyntheticBatch("A", 1, torch.zeros(1, 1, 128, 128))).reason == "the message could not be read"
    assert ask(end, OpenRequest("A", 1)).reason == "OpenRequest: see the site's log"
    write_local(folder, "A", "site.yaml", dataset_dir=lists["A"], checkpoint_dir=str(folder))
    assert type(ask(end, OpenRequest("A", 1))) is SiteInfo


@pytest.mark.parametrize("value", ["many", 2**16 - 1, True, 1e9])
def test_a_limit_is_a_number_of_bytes(folder, lists, value, caplog):
    write_local(folder, "A", "site.yaml", dataset_dir=lists["A"], checkpoint_dir=str(folder), max_message_bytes=value)
    refused(caplog, make_job(), "max_message_bytes: expected a whole number from 65536 to .*, got")


def test_a_site_computes_with_its_own_number_of_threads_whoever_calls(folder, lists):
    """The bits depend on it, and FLARE calls in one thread or another; torch's number is a thread's own."""
    own = {"checkpoint_dir": str(folder), "batch_size": 1}
    for name, number in {"A": 1, "B": 2}.items():
        write_local(folder, name, "site.yaml", **own, dataset_dir=lists[name], num_threads=number)
    members, seen = {name: start(make_job(), name) for name in "AB"}, []

    def watched(site):
        open_site = site.open

        def look(number):
            seen.append((site.name, torch.get_num_threads()))
            return open_site(number)

        return look

    for end in members.values():
        end._site.open = watched(end._site)

    def call():
        torch.set_num_threads(3)
        for name in "ABA":
            with at(name):
                members[name].receive(CODEC.encode(OpenRequest(name, 1)))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(60)
    assert seen == [("A", 1), ("B", 2), ("A", 1)]


def test_a_site_goes_by_its_workspace_where_no_folder_is_named(folder, lists, monkeypatch):
    monkeypatch.delenv(LOCAL_FILES)
    write_local(folder, "local", "site.yaml", dataset_dir=lists["B"], checkpoint_dir=str(folder), batch_size=1)
    end = start(make_job(), "B", config_dir=folder / "local")
    assert (end._site.name, end._site.batch_size) == ("B", 1)


@pytest.mark.parametrize("key", sorted(SITE_KEYS))
def test_a_job_that_sets_what_is_a_sites_own_is_refused_there(folder, lists, key, caplog):
    """However it was made: the site looks for itself."""
    write_local(folder, "A", "site.yaml", dataset_dir=lists["A"], checkpoint_dir=str(folder))
    job = make_job()
    job["overrides"][key] = 1
    refused(caplog, job, f"override {key}: each participant sets it in its own file")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sites::batch_size", 1),
        ("+sites", {"batch_size": 1}),
        ("critic_def#device", "meta"),
        ("gates::keep_conditions", True),
        ("+gates", {"policy": "published"}),
        ("samples_def::cache_dir", "/elsewhere"),
        ("site_loss_def::perceptual::weights_path", "/etc/passwd"),
        ("output_dir", "/elsewhere"),
        ("finished", "/etc/passwd"),
        ("bundle_root", "/elsewhere"),
        ("site_name", "B"),
        ("generator_def", "another"),
        ("logging_file", "/elsewhere"),
        ("tracking", "mlflow"),
        ("run_id", "x"),
    ],
)
def test_a_job_overrides_plain_keys_and_no_part_of_a_component(folder, lists, key, value, caplog):
    """By its parts a job could set what is a site's own, or where it writes; by MONAI's arguments what it runs."""
    write_local(folder, "A", "site.yaml", dataset_dir=lists["A"], checkpoint_dir=str(folder))
    with pytest.raises(JobError, match="expected a key of the configs that holds a plain value"):
        make_job(**{key: value})
    job = make_job()
    job["overrides"][key] = value
    refused(caplog, job, "expected a key of the configs that holds a plain value")


def test_sites_of_one_machine_may_share_folders(folder, phantom_dir):
    """One data list of all their cases, one folder of checkpoints: each takes and keeps its own."""
    own = {"dataset_dir": str(phantom_dir), "checkpoint_dir": str(folder / "kept")}
    for name in "AB":
        write_local(folder, name, "site.yaml", **own)
    members = {name: start(make_job(epoch_length=1), name)._site for name in "AB"}
    assert members["A"].store.folder != members["B"].store.folder
    for name, site in members.items():
        assert {item["site"] for item in site.samples.data} == {name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "0.0.1"}, r"for version '0\.0\.1' of this package"),
        ({"digest": "0" * 64}, "not those that the job was made with"),
        ({"config_files": ["train.yaml", "brats.yaml", "small.yaml", "flare.yaml"]}, "not those that the job was made"),
        ({"config_files": ["../configs/train.yaml"]}, "not a job, config_files"),
        ({"overrides": {"num_steps": "$__import__('os').getpid()"}}, "num_steps: expected a whole number"),
        ({"code": "import os"}, "not a job"),
    ],
)
def test_both_ends_refuse_a_job_that_is_not_for_what_is_installed(folder, lists, change, message, caplog):
    write_local(folder, "A", "site.yaml", dataset_dir=lists["A"], checkpoint_dir=str(folder / "kept"))
    write_local(folder, "server", "server.yaml", run_dir=str(folder / "run"))
    job = make_job() | change
    refused(caplog, job, message)
    with at("server"), pytest.raises(JobError, match=message):
        FlareServer(job).run()
    assert not (folder / "kept").exists()
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"dataset_dir": "/data"}, "expected checkpoint_dir, a folder"),
        ({"dataset_dir": "/data", "checkpoint_dir": "/kept", "l1_weight": 0.0}, "unknown key l1_weight"),
        ({"dataset_dir": "/data", "checkpoint_dir": "/kept", "run_dir": "/run"}, "unknown key run_dir"),
    ],
)
def test_a_site_file_holds_a_sites_keys(folder, content, message, caplog):
    write_local(folder, "A", "site.yaml", **content)
    refused(caplog, make_job(), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"device": "cpu"}, "expected run_dir"),
        ({"run_dir": "/run", "dataset_dir": "/data"}, "unknown key dataset_dir"),
        ({"run_dir": "/run", "batch_size": 2}, "unknown key batch_size"),
    ],
)
def test_a_server_file_holds_the_servers_keys_and_no_data(folder, content, message):
    write_local(folder, "server", "server.yaml", **content)
    with at("server"), pytest.raises(JobError, match=message):
        FlareServer(make_job()).run()


def test_a_site_that_could_not_start_takes_part_once_its_file_is_right(folder, lists, caplog):
    end = refused(caplog, make_job(), r"site\.yaml: unreadable")
    write_local(folder, "A", "site.yaml", dataset_dir=lists["A"], checkpoint_dir=str(folder), batch_size=1)
    assert len(ask(end, OpenRequest("A", 1)).conditions) == 1
