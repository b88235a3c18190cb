"""The same sites behind NVIDIA FLARE: the only module that imports it.

FLARE's Collab API calls a method of an object at a site from the server. One method is published,
:meth:`FlareSite.receive`: bytes in, bytes out, both of them messages of :mod:`bundle.federation.messages`. FLARE starts
the processes, authenticates them (mutual TLS), and carries the bytes; what is asked and answered is decided here.
"""

from __future__ import annotations

import logging
import os
import pydoc
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch
from nvflare.collab import CollabRecipe, collab
from nvflare.recipe import SimEnv

from bundle import __version__
from bundle.federation.base import Federation, Outcome, SiteUnreachable
from bundle.federation.codec import Codec, WireLedger
from bundle.federation.job import SERVER_KEYS, SITE_KEYS, Job, JobError, read_local
from bundle.federation.messages import (
    ConditionBatch,
    ConditionRequest,
    Message,
    OpenRequest,
    Refusal,
    SyntheticBatch,
)
from bundle.installation import config_dir

__all__ = ["LOCAL_FILES", "FlareFederation", "FlareServer", "FlareSite", "make_recipe", "run_simulation"]

logger = logging.getLogger(__name__)

LOCAL_FILES = "ASYNDGAN_LOCAL_FILES"
"""Environment variable: a folder with ``NAME/site.yaml`` for several participants of one machine."""
WORKFLOW = "bundle.workflows.DistributedGANWorkflow"
SERVER = "server"


class FlareFederation(Federation):
    """
    Sites in other processes, on other machines.

    Every site is called by itself, with a payload that goes to no other. All are called at the same time, and the step
    waits for them until its own deadline: what FLARE promises about timeouts is not relied on. A reply that arrives
    later is dropped and counted, and its site is asked nothing before it has answered.

    Made by the server's process of a FLARE job, inside of the method that the job runs.

    Args:
        codec: messages ↔ bytes.
        step_timeout: seconds that a step waits for the sites.
        open_timeout: seconds that opening waits for them at first, and that they may take to release conditions.
        max_message_bytes: of a message from a site, encoded and decoded; larger ones are refused before they are
            decoded.
    """

    def __init__(
        self,
        codec: Codec | None = None,
        step_timeout: float = 60.0,
        open_timeout: float = 600.0,
        max_message_bytes: int = 2**28,
    ) -> None:
        self.codec = Codec() if codec is None else codec
        self.step_timeout = step_timeout
        self.open_timeout = open_timeout
        self.max_message_bytes = max_message_bytes
        self.ledger = WireLedger()
        self.late: dict[str, int] = {}
        self._proxies = {proxy.name: proxy for proxy in collab.clients}
        # one thread for the call that is waited for, and one for a call that is late
        self._pool = ThreadPoolExecutor(2 * len(self._proxies), thread_name_prefix="sites")
        self._running: dict[str, Future] = {}
        self._opened = False

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(sorted(self._proxies))

    def open(self, step: int, sites: Sequence[str] | None = None) -> Outcome:
        chosen = self.sites if sites is None else sorted(sites)
        # at first sites prepare their data; one that comes back must not hold up the others
        timeout = self.step_timeout if self._opened else self.open_timeout
        self._opened = True
        return self._ask({site: OpenRequest(site, step) for site in chosen}, timeout)

    def exchange(self, batches: Mapping[str, SyntheticBatch]) -> Outcome:
        self.ledger.steps += 1
        return self._ask(batches, self.step_timeout)

    def conditions(self, request: ConditionRequest) -> ConditionBatch:
        outcome = self._ask({request.site: request}, self.open_timeout)
        if request.site in outcome.failures:
            raise SiteUnreachable(f"site {request.site} released no conditions: {outcome.failures[request.site]}")
        return outcome.messages[request.site]

    def state_dict(self) -> dict:
        """The sites keep checkpoints of their own: here is what only the server knows."""
        return {"ledger": self.ledger.state_dict(), "late": dict(self.late)}

    def load_state_dict(self, state: dict) -> None:
        self.ledger.load_state_dict(state["ledger"])
        self.late = dict(state["late"])

    def _ask(self, messages: Mapping[str, Message], timeout: float) -> Outcome:
        answers, failures, asked = {}, {}, {}
        for site in sorted(messages):
            before = self._running.get(site)
            if before is not None and not before.done():
                failures[site] = "has not answered the call before"
                continue
            data = self.codec.encode(messages[site])
            self.ledger.sent(site, len(data))
            asked[site] = self._running[site] = self._pool.submit(self._send, site, data, timeout)
        wait(asked.values(), timeout)
        for site, future in asked.items():
            if not future.done():
                failures[site] = f"no answer within {timeout:g} s"
                future.add_done_callback(lambda late, site=site: self._count_late(site, late))
                continue
            try:
                answers[site] = self._decode(site, future.result())
            except Exception as error:  # whatever a site or the network did, the others go on
                failures[site] = str(error)
        return Outcome(answers, failures)

    def _send(self, site: str, data: bytes, timeout: float) -> bytes:
        return self._proxies[site](timeout=timeout).receive(data)

    def _decode(self, site: str, data: Any) -> Message:
        if not isinstance(data, bytes):
            raise ValueError(f"answered with a {type(data).__name__}, expected bytes")
        self.ledger.received(site, len(data))
        message = self.codec.decode(data, max_bytes=self.max_message_bytes)
        if message.site != site:
            raise ValueError("answered in another site's name")
        if isinstance(message, Refusal):
            raise ValueError(f"refused: {message.reason}")
        return message

    def _count_late(self, site: str, future: Future) -> None:
        if future.exception() is None:
            self.late[site] = self.late.get(site, 0) + 1
            logger.warning("site %s answered too late: the answer is dropped (%d so far)", site, self.late[site])


class FlareSite:
    """
    A site's end: makes the :class:`bundle.federation.Site` from configs and files that lie here, and answers messages.

    Args:
        job: :meth:`Job.to_dict` of the training; nothing of it is evaluated.
    """

    def __init__(self, job: dict) -> None:
        self.job = job
        self._lock = threading.Lock()
        self._site = None
        self._codec: Codec | None = None

    @collab.init
    def start(self) -> None:
        name = collab.site_name
        local = _read_local(name, "site.yaml", SITE_KEYS)
        job = Job.from_dict(self.job)
        if "dataset_dir" not in local or "checkpoint_dir" not in local:
            raise JobError("site.yaml: expected dataset_dir and checkpoint_dir")
        local["checkpoint_dir"] = str(Path(local["checkpoint_dir"]) / job.identity)
        workflow = _make_workflow(job, local, {"site_name": name})
        with self._lock:
            (self._site,) = workflow.make("sites")
            self._codec = workflow.make("codec")
        logger.info("site %s takes part with %d samples", name, len(self._site.samples))

    @collab.publish
    def receive(self, data: bytes) -> bytes:
        """
        Answer a message of the server, and of nobody else.

        What goes wrong is written to the log here. The server learns no more than that it was refused: the text of an
        error could name files and patients.
        """
        if collab.caller != SERVER:
            raise PermissionError("only the server may ask")
        with self._lock:  # late calls may overlap with the next
            try:
                message = self._codec.decode(data, max_bytes=2**28)
            except ValueError:
                logger.exception("a message of the server was refused")
                return self._codec.encode(Refusal(self._site.name, "the message could not be read"))
            try:
                return self._codec.encode(self._answer(message))
            except Exception:
                logger.exception("%s of the server was refused", type(message).__name__)
                return self._codec.encode(Refusal(self._site.name, f"{type(message).__name__}: see the site's log"))

    def _answer(self, message: Message) -> Message:
        if message.site != self._site.name:
            raise ValueError(f"the message is for site {message.site}")
        if isinstance(message, OpenRequest):
            return self._site.open(message.step)
        if isinstance(message, SyntheticBatch):
            return self._site.step(message)
        if isinstance(message, ConditionRequest):
            return self._site.conditions(message)
        raise ValueError(f"a {type(message).__name__} is nothing that the server sends")


class FlareServer:
    """
    The server's end: runs the training of ``train.yaml`` as it would run in one process.

    Args:
        job: :meth:`Job.to_dict` of the training.
    """

    def __init__(self, job: dict) -> None:
        self.job = job

    @collab.main
    def run(self) -> None:
        local = _read_local(SERVER, "server.yaml", SERVER_KEYS)
        if "run_dir" not in local:
            raise JobError("server.yaml: expected run_dir, the folder of the run")
        workflow = _make_workflow(Job.from_dict(self.job), local, {})
        workflow.run()
        workflow.finalize()


def make_recipe(job: Job, name: str, min_sites: int = 1, start_timeout: float = 600.0, code: bool = False):
    """
    The FLARE job of a training.

    Args:
        job: what to train.
        name: of the FLARE job.
        min_sites: sites that must be there for it to start.
        start_timeout: seconds that sites may take to prepare their data.
        code: whether FLARE may put this module's source into the job (simulator and POC). Without, the job holds names
            of installed classes only, and sites may forbid code from outside.
    """
    recipe = CollabRecipe if code else _InstalledCode
    content = job.to_dict()
    return recipe(
        job_name=name,
        server=FlareServer(content),
        client=FlareSite(content),
        sync_task_timeout=start_timeout,
        min_clients=min_sites,
    )


def run_simulation(job: Job, sites: Sequence[str], workspace: Path) -> None:
    """
    Run a job in FLARE's simulator: a process for the server and one for each site, on this machine.

    Args:
        job: what to train.
        sites: their names; their own files are where :data:`LOCAL_FILES` says.
        workspace: folder of FLARE's logs.

    Raises:
        RuntimeError: when the simulator fails.
    """
    workspace.mkdir(parents=True, exist_ok=True)
    environment = SimEnv(clients=list(sites), num_threads=len(sites), workspace_root=str(workspace))
    make_recipe(job, "training", min_sites=len(sites), code=True).run(environment)


class _InstalledCode(CollabRecipe):
    """A recipe whose job carries no source files: FLARE takes any as code from outside (BYOC)."""

    @staticmethod
    def _user_source_entries(objs: Sequence[object]) -> list:
        return []


def _read_local(name: str, file: str, keys: frozenset[str]) -> dict[str, Any]:
    folder = os.environ.get(LOCAL_FILES)
    place = Path(folder) / name if folder else Path(collab.workspace.get_site_config_dir())
    return read_local(place / file, keys)


def _make_workflow(job: Job, local: Mapping[str, Any], given: Mapping[str, Any]):
    job.check(config_dir(), __version__)
    own = dict(local)
    torch.set_num_threads(int(own.pop("num_threads", torch.get_num_threads())))
    # found by its name: the federation knows no workflows
    workflow = pydoc.locate(WORKFLOW)(
        config_file=job.files(config_dir()), bundle_root=str(config_dir().parent), **job.overrides, **given, **own
    )
    workflow.initialize()
    return workflow
