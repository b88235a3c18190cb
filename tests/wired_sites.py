"""FLARE's two ends without FLARE: proxies that hand bytes to a function, and participants in one process."""

from __future__ import annotations

import contextvars
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import yaml

from bundle.flare import federation, participant, server, site, watch
from bundle.flare.federation import FlareFederation
from bundle.flare.site import FlareSite
from bundle.wire import Codec, Limits

_context = contextvars.ContextVar("collab")


class Proxy:
    """
    What FLARE gives the server of a site.

    Args:
        name: of the site.
        answer: what becomes of the bytes: a function of them.

    ``received`` is all that was sent to it, ``answered`` all that came back, ``timeouts`` those of its calls.
    """

    def __init__(self, name, answer):
        self.name, self.answer = name, answer
        self.received, self.answered, self.timeouts = [], [], []

    def __call__(self, timeout):
        self.timeouts.append(timeout)
        return SimpleNamespace(receive=self._receive)

    def _receive(self, data):
        self.received.append(data)
        answer = self.answer(data)
        self.answered.append(answer)
        return answer


class Collab:
    """What our modules see of FLARE's ``collab``: by thread, who is called and by whom."""

    clients: tuple = ()
    is_aborted = False

    @property
    def site_name(self):
        return _context.get().site_name

    @property
    def caller(self):
        return _context.get().caller

    @property
    def workspace(self):
        return SimpleNamespace(get_site_config_dir=lambda: str(_context.get().config_dir))


@contextmanager
def at(site_name, caller="server", config_dir="/nowhere"):
    """Be at a participant, called by another."""
    token = _context.set(SimpleNamespace(site_name=site_name, caller=caller, config_dir=config_dir))
    try:
        yield
    finally:
        _context.reset(token)


def see(monkeypatch, collab):
    """Have all modules that use FLARE's ``collab`` see this one."""
    for module in (federation, participant, server, site, watch):
        monkeypatch.setattr(module, "collab", collab)


def federate(monkeypatch, answers, max_message_bytes=2**28, **kwargs):
    """A FlareFederation whose sites are functions from bytes to bytes; also its proxies by name."""
    kwargs = {"limits": Limits(max_message_bytes=max_message_bytes)} | kwargs
    proxies = {name: Proxy(name, answer) for name, answer in answers.items()}
    collab = Collab()
    collab.clients = tuple(proxies.values())
    see(monkeypatch, collab)
    return FlareFederation(**kwargs), proxies


def flare_site(member, codec=None, limits=None):
    """A FlareSite around a site that is there already."""
    end = FlareSite({})
    end._limits = (Limits() if limits is None else limits).requests(member.batch_size)
    end._name, end._site, end._codec = member.name, member, Codec() if codec is None else codec
    return end


def ends(members, codec=None, limits=None):
    """What the proxies of these sites do with bytes."""

    def answer(end):
        def receive(data):
            with at(end._site.name):
                return end.receive(data)

        return receive

    return {member.name: answer(flare_site(member, codec, limits)) for member in members}


def write_local(folder, name, file, **content):
    """A participant's own file, where a folder holds those of several."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / file).write_text(yaml.safe_dump(content), encoding="utf-8")


class Gate:
    """Answers when it is let; ``entered`` is set as soon as somebody waits."""

    def __init__(self, answer):
        self.answer, self.entered, self.opened = answer, threading.Event(), threading.Event()

    def __call__(self, data):
        self.entered.set()
        assert self.opened.wait(60)
        return self.answer(data)


def wired_training(monkeypatch, folder, dataset_dir, files, sizes, before=None, **local):
    """
    FLARE's two ends of a training by configs, started: sites with lists of their own, and the server's workflow.

    Args:
        folder: to write to; what is a site's own lies in ``kept/SITE``.
        dataset_dir: of the data list of all sites.
        files: names of the configs; ``flare.yaml`` is added.
        sizes: what the job overrides.
        before: called with a site's name and folder before it starts.
        local: keys of every site's own file.

    Returns:
        The sites' ends and the server's proxies, both by name, and paths of the configs.
    """
    from bundle import __version__
    from bundle.data import load_datalist, write_site_lists
    from bundle.declarations.job import Job
    from bundle.flare.participant import LOCAL_FILES
    from bundle.installation import config_dir

    files = [*files, "flare.yaml"]
    job = Job.make(files, sizes, config_dir(), __version__).to_dict()
    collab = Collab()
    see(monkeypatch, collab)
    monkeypatch.setenv(LOCAL_FILES, str(folder))
    sites, proxies = {}, {}

    def answer(name):
        def receive(data):
            with at(name):
                return sites[name].receive(data)

        return receive

    for name, path in write_site_lists(load_datalist(dataset_dir), folder / "lists").items():
        if before is not None:
            before(name, folder / "kept" / name)
        own = {"dataset_dir": str(path.parent), "checkpoint_dir": str(folder / "kept" / name), "device": "cpu"}
        write_local(folder, name, "site.yaml", **own, **local)
        sites[name], proxies[name] = FlareSite(job), Proxy(name, answer(name))
        with at(name):
            sites[name].start()
        # in one process they would draw from one stream of torch's at the same time
        sites[name]._computing.submit(lambda: None).result()
    collab.clients = tuple(proxies.values())
    return sites, proxies, [str(config_dir() / file) for file in files]
