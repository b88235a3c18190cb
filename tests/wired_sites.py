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
