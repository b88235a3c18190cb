"""The same sites behind NVIDIA FLARE: the only module that imports it.

FLARE's Collab API calls a method of an object at a site from the server. One method is published,
:meth:`FlareSite.receive`: bytes in, bytes out, both of them messages of :mod:`bundle.federation.messages`. FLARE starts
the processes, authenticates them (mutual TLS), and carries the bytes; what is asked and answered is decided here.
"""

from __future__ import annotations

import io
import json
import logging
import os
import pydoc
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from nvflare.collab import CollabRecipe, collab
from nvflare.fuel.flare_api.api_spec import AuthenticationError, NoClientsAvailable, NoConnection, SessionClosed
from nvflare.fuel.flare_api.flare_api import Session, new_secure_session
from nvflare.fuel.utils import log_utils
from nvflare.lighter.constants import CtxKey
from nvflare.lighter.prov_utils import prepare_builders
from nvflare.lighter.provision import prepare_project
from nvflare.lighter.provisioner import Provisioner
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
from bundle.federation.site_clock import SiteClock
from bundle.files import write_json
from bundle.installation import config_dir

__all__ = [
    "ADMINISTRATOR",
    "LOCAL_FILES",
    "RESULTS",
    "SERVER",
    "Administrator",
    "FlareFederation",
    "FlareServer",
    "FlareSite",
    "NotReachable",
    "export_job",
    "make_recipe",
    "prepare_kit",
    "provision",
    "run_simulation",
]

logger = logging.getLogger(__name__)

LOCAL_FILES = "ASYNDGAN_LOCAL_FILES"
"""Environment variable: a folder with ``NAME/site.yaml`` for several participants of one machine."""
WORKFLOW = "bundle.workflows.DistributedGANWorkflow"
SERVER = "server"
CLASSES = (
    "bundle.federation.flare.FlareServer",
    "bundle.federation.flare.FlareSite",
    "nvflare.collab.runtime.controller.CollabController",
    "nvflare.collab.runtime.executor.CollabExecutor",
)
"""All classes that a job names; a participant that runs nothing else allows nothing else."""
RESULTS = ("generator.pt", "record.json")
"""Files of a finished training that an administrator may collect. Conditions are not among them."""
ADMINISTRATOR = "admin@federation.local"
CONSOLE_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
TOPIC = "training"
NO_ANSWER = "has not answered the call before"
RETURN_TIMEOUT = 1.0
PAUSE_TIMEOUT = 120.0
FAREWELL_TIMEOUT = 15.0


class JobEnded(RuntimeError):
    """The job was ended by somebody; its checkpoints are as they were."""


class FlareFederation(Federation):
    """
    Sites in other processes, on other machines.

    Every site is called by itself, with a payload that goes to no other. All are called at the same time, and the step
    waits for them until its own deadline: what FLARE promises about timeouts is not relied on. A reply that arrives
    later is dropped and counted, and its site is asked nothing before it has answered.

    Made by the server's process of a FLARE job, inside of the method that the job runs.

    Args:
        codec: messages ↔ bytes.
        sites: names of all the sites that the run is for; None for those that are there when the job starts.
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
        sites: Sequence[str] | None = None,
    ) -> None:
        self.codec = Codec() if codec is None else codec
        self.step_timeout = step_timeout
        self.open_timeout = open_timeout
        self.max_message_bytes = max_message_bytes
        self.ledger = WireLedger()
        self.late: dict[str, int] = {}
        self._proxies = {proxy.name: proxy for proxy in collab.clients}
        self._names = tuple(sorted(self._proxies if sites is None else sites))
        if not set(self._proxies) <= set(self._names):
            strangers = ", ".join(sorted(set(self._proxies) - set(self._names)))
            raise JobError(f"the run is for the sites {', '.join(self._names)}, and {strangers} is there")
        # one thread for the call that is waited for, and one for a call that is late
        self._pool = ThreadPoolExecutor(max(1, 2 * len(self._proxies)), thread_name_prefix="sites")
        self._running: dict[str, Future] = {}
        self._silent: set[str] = set()
        self._opened = False

    @property
    def sites(self) -> tuple[str, ...]:
        return self._names

    def open(self, step: int, sites: Sequence[str] | None = None) -> Outcome:
        chosen = self.sites if sites is None else sorted(sites)
        requests = {site: OpenRequest(site, step) for site in chosen}
        if not self._opened:
            self._opened = True
            return self._ask(requests, self.open_timeout)
        # one that did not answer must not hold up the others: it is waited for when it has given a sign of life
        silent = {site: requests[site] for site in chosen if site in self._silent}
        awake = {site: requests[site] for site in chosen if site not in self._silent}
        first = self._ask(silent, RETURN_TIMEOUT, self.step_timeout)
        # one reason for it, however it shows: the roster tells of another one
        still = {site: NO_ANSWER for site in first.failures if site in self._silent}
        second = self._ask(awake, self.step_timeout)
        return Outcome(first.messages | second.messages, first.failures | still | second.failures)

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

    def close(self) -> None:
        """Nothing is asked any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, messages: Mapping[str, Message], timeout: float, patience: float | None = None) -> Outcome:
        """Wait ``timeout`` seconds for answers; those that come later are dropped, after ``patience`` unseen."""
        answers, failures, asked = {}, {}, {}
        for site in sorted(messages):
            if site not in self._proxies:
                failures[site] = "was not there when the job started"
                continue
            before = self._running.get(site)
            if before is not None and not before.done():
                failures[site] = NO_ANSWER
                continue
            data = self.codec.encode(messages[site])
            self.ledger.sent(site, len(data))
            # FLARE gives up later than the step does: or a late answer would not be seen
            asked[site] = self._running[site] = self._pool.submit(self._send, site, data, patience or 2 * timeout)
        if asked:
            wait(asked.values(), timeout)
        if collab.is_aborted:
            # every call fails then, which says nothing about the sites
            raise JobEnded("the job was ended from outside")
        for site, future in asked.items():
            if not future.done():
                failures[site] = f"no answer within {timeout:g} s"
                self._silent.add(site)
                future.add_done_callback(lambda late, site=site: self._count_late(site, late))
                continue
            try:  # whatever a site or the network did, the others go on
                data = future.result()
            except Exception as error:
                failures[site] = str(error)
                self._silent.add(site)
                continue
            self._silent.discard(site)
            try:
                answers[site] = self._decode(site, data)
            except Exception as error:
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
            self._silent.discard(site)
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
        self._name = ""
        self._local: Path | None = None
        self._site = None
        self._codec = Codec()
        self._clock = SiteClock()
        # always the same thread: FLARE calls from dozens, and torch has a number and a team of threads for each
        self._computing = ThreadPoolExecutor(1, thread_name_prefix="site")

    @collab.init
    def start(self) -> None:
        self._name = collab.site_name
        self._local = _local_folder(self._name)
        try:
            self._computing.submit(self._prepare).result()
        except Exception:
            # FLARE would end the job for everybody
            logger.exception("site %s cannot take part yet; it tries again when the server asks", self._name)

    def _prepare(self) -> None:
        name = self._name
        local = read_local(self._local / "site.yaml", SITE_KEYS)
        job = Job.from_dict(self.job)
        if "dataset_dir" not in local or "checkpoint_dir" not in local:
            raise JobError("site.yaml: expected dataset_dir and checkpoint_dir")
        local["checkpoint_dir"] = str(Path(local["checkpoint_dir"]) / job.identity)
        workflow = _make_workflow(job, local, {"site_name": name})
        self._codec = workflow.make("codec")
        (self._site,) = workflow.make("sites")
        logger.info("site %s takes part with %d samples", name, len(self._site.samples))

    @collab.publish
    def receive(self, data: bytes) -> bytes:
        """
        Answer a message of the server, and of nobody else.

        What goes wrong is written to the log here. The server learns no more than that it was refused: the text of an
        error could name files and patients.
        """
        # nothing is raised: FLARE would send the error's text and its traceback to whoever called
        if collab.caller != SERVER:
            logger.error("site %s asked for something: only the server may", collab.caller)
            return self._codec.encode(Refusal(self._name, "only the server may ask"))
        with self._lock, self._clock.message():  # late calls may overlap with the next
            try:
                message = self._codec.decode(data, max_bytes=2**28)
            except Exception:
                logger.exception("a message of the server was refused")
                return self._codec.encode(Refusal(self._name, "the message could not be read"))
            self._clock.decoded()
            try:
                answer = self._computing.submit(self._answer, message).result()
                self._clock.computed(self._site)
                return self._codec.encode(answer)
            except Exception:
                logger.exception("%s of the server was refused", type(message).__name__)
                return self._codec.encode(Refusal(self._name, f"{type(message).__name__}: see the site's log"))

    def _answer(self, message: Message) -> Message:
        if message.site != self._name:
            raise ValueError(f"the message is for site {message.site}")
        if self._site is None:
            self._prepare()
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
        local = read_local(_local_folder(SERVER) / "server.yaml", SERVER_KEYS)
        if "run_dir" not in local:
            raise JobError("server.yaml: expected run_dir, the folder of the run")
        workflow = _make_workflow(Job.from_dict(self.job), local, {})
        watch = _Watch(workflow)
        try:
            workflow.run()
        except Exception as error:
            # FLARE writes it out at length in its own log
            logger.error("the training stopped: %s", error)
            raise
        finally:
            workflow.make("federation_def").close()
        workflow.finalize()
        if not workflow.finished:
            raise RuntimeError("the training ended without its record")
        record = Path(workflow.make("finished"))
        results = Path(collab.workspace.get_result_root(collab.fl_ctx.get_job_id()))
        for name in RESULTS:
            shutil.copyfile(record.with_name(name), results / name)
        watch.say_goodbye()


class _Watch:
    """
    Tells an administrator how far the training is, and lets it be ended where nothing is lost: after a checkpoint.

    Args:
        workflow: the training, not yet run.
    """

    def __init__(self, workflow: Any) -> None:
        self._engine = workflow.make("train::trainer")
        self._ledger = workflow.make("federation_def").ledger
        self._interval = int(workflow.make("checkpoint_epochs"))
        self._saved = 0
        self._pause = threading.Event()
        self._paused = False
        self._finished = False
        self._asked = False
        self._told = threading.Event()
        self._engine.add_event_handler(Events.STARTED, self._note)
        # behind the handler that writes the checkpoint
        self._engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)
        collab.fl_ctx.get_engine().register_app_command(TOPIC, self.answer)

    def answer(self, topic: str, data: Any, context: Any) -> dict[str, Any]:
        """What FLARE calls, in a thread of its own, when an administrator asks."""
        self._asked = True
        if isinstance(data, Mapping) and data.get("pause"):
            self._pause.set()
        if self._finished:
            self._told.set()
        state = self._engine.state
        return {
            "step": int(state.iteration),
            "steps": int((state.epoch_length or 0) * (state.max_epochs or 0)),
            "saved": self._saved,
            "paused": self._paused,
            "finished": self._finished,
            "sites": {site: dict(about) for site, about in state.sites.items()},
        }

    def say_goodbye(self) -> None:
        """When somebody has been asking, wait until they know that the training is finished."""
        self._finished = True
        if self._asked:
            self._told.wait(FAREWELL_TIMEOUT)

    def _note(self, engine: Engine) -> None:
        self._saved = int(engine.state.iteration)

    def _after_epoch(self, engine: Engine) -> None:
        if engine.state.epoch % self._interval or engine.state.epoch == engine.state.max_epochs:
            return
        self._saved = int(engine.state.iteration)
        wire = self._ledger.summary()
        logger.info(
            "step %d is saved · %.1f MB to and %.1f MB from the sites so far",
            self._saved,
            wire["bytes_to_sites"] / 1e6,
            wire["bytes_from_sites"] / 1e6,
        )
        if not self._pause.is_set():
            return
        self._paused = True
        logger.info("the job waits for being ended")
        end = time.monotonic() + PAUSE_TIMEOUT
        while time.monotonic() < end and not collab.is_aborted:
            time.sleep(0.2)
        raise JobEnded(f"the job was ended after step {self._saved}, which is saved")


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


def export_job(job: Job, name: str, folder: Path, min_sites: int = 1) -> Path:
    """
    Write a FLARE job without code to a folder, to be submitted as often as needed.

    Args:
        job: what to train.
        name: of the FLARE job.
        folder: to write to; an older job of that name in it is replaced.
        min_sites: sites that must be there for it to start.

    Returns:
        The job's own folder in ``folder``.
    """
    shutil.rmtree(folder / name, ignore_errors=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it takes the digest of the configs for a password
        make_recipe(job, name, min_sites).export(str(folder))
    return folder / name


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
    config = workspace / "log_config.json"
    default = Path(log_utils.__file__).with_name(log_utils.DEFAULT_LOG_JSON)
    config.write_text(json.dumps(_quiet(json.loads(default.read_text(encoding="utf-8")))), encoding="utf-8")
    environment = SimEnv(
        clients=list(sites), num_threads=len(sites), workspace_root=str(workspace), log_config=str(config)
    )
    make_recipe(job, "training", min_sites=len(sites), code=True).run(environment)


def provision(folder: Path, sites: Sequence[str], port: int, server: str = "localhost") -> dict[str, Path]:
    """
    Certificates and startup kits of a federation, with a certificate authority of its own.

    Args:
        folder: to write to; a federation that was provisioned there before is gone on with.
        sites: their names.
        port: the server's.
        server: the host that sites and administrator connect to.

    Returns:
        Kits by participant: :data:`SERVER`, the sites, and :data:`ADMINISTRATOR`.
    """
    participants = [
        {"name": SERVER, "type": "server", "org": "server", "fed_learn_port": port, "default_host": server},
        {"name": ADMINISTRATOR, "type": "admin", "org": "server", "role": "lead"},
        *({"name": site, "type": "client", "org": "sites"} for site in sites),
    ]
    names = [participant["name"] for participant in participants]
    builders = [
        {"path": "nvflare.lighter.impl.workspace.WorkspaceBuilder"},
        {"path": "nvflare.lighter.impl.static_file.StaticFileBuilder", "args": {"config_folder": "config"}},
        {"path": "nvflare.lighter.impl.cert.CertBuilder"},
        {"path": "nvflare.lighter.impl.signature.SignatureBuilder"},
    ]
    project = {"api_version": 3, "name": "federation", "participants": participants, "builders": builders}
    with redirect_stdout(io.StringIO()):
        context = Provisioner(str(folder), prepare_builders(project)).provision(prepare_project(project))
    if context.get(CtxKey.BUILD_ERROR):
        raise RuntimeError(f"provisioning in {folder} failed: {context.get(CtxKey.ERRORS)}")
    newest = sorted((folder / "federation").glob("prod_*"))[-1]
    return {name: newest / name for name in names}


def prepare_kit(kit: Path | str = ".") -> None:
    """
    Make a server's or a site's own rules, in ``local/`` of its startup kit: jobs may name :data:`CLASSES` and nothing
    else, and bring no code; administrators may not look into files; logs are sent nowhere; the console shows our lines
    and warnings; a server keeps its jobs in the kit's folder.

    Raises:
        FileNotFoundError: when there is no kit of a server or a site.
    """
    kit = Path(kit)
    local = kit / "local"
    resources = json.loads((local / "resources.json.default").read_text(encoding="utf-8"))
    resources |= {"class_allow_list": list(CLASSES), "class_list_enforcement_mode": "enforce"}
    # of errors, whose texts may name files and patients; FLARE sends them to the server otherwise
    resources["allow_log_streaming"] = False
    for component in resources["components"]:
        if component["id"] == "job_manager":
            component["args"]["uri_root"] = str((kit / "jobs").resolve())
    if "snapshot_persistor" in resources:
        storage = resources["snapshot_persistor"]["args"]["storage"]
        storage["args"]["root_dir"] = str((kit / "snapshots").resolve())
    write_json(local / "resources.json", resources)
    permissions = json.loads((local / "authorization.json.default").read_text(encoding="utf-8"))
    permissions["permissions"]["project_admin"] = dict(permissions["permissions"]["lead"])
    for role in ("project_admin", "lead", "org_admin"):
        permissions["permissions"][role] |= {"byoc": "none", "shell_commands": "none", "clone_job": "none"}
        # how far the training of a job is, and to end it after a checkpoint: for who may end it anyhow
        permissions["permissions"][role]["app_command"] = permissions["permissions"][role]["manage_job"]
    write_json(local / "authorization.json", permissions)
    config = json.loads((local / "log_config.json.default").read_text(encoding="utf-8"))
    write_json(local / "log_config.json", _quiet(config))


def _quiet(config: dict) -> dict:
    """FLARE's logging, with nothing on the console but what our modules say, and its errors; its files keep it all."""
    config["formatters"]["consoleFormatter"] = {"format": CONSOLE_FORMAT, "datefmt": "%H:%M:%S"}
    console = config["handlers"]["consoleHandler"] | {"formatter": "consoleFormatter"}
    kinds = {"ours": ("INFO", ["bundle"]), "errors": ("ERROR", ["nvflare.private"])}
    for name, (level, loggers) in kinds.items():
        config["filters"][name] = {
            "()": "nvflare.fuel.utils.log_utils.LoggerNameFilter",
            "logger_names": loggers,
            "exclude_logger_names": ["AppCommandProcessor"],  # asked before the training has begun
            "allow_all_error_logs": False,
        }
        config["handlers"][name] = console | {"filters": [name], "level": level}
    del config["handlers"]["consoleHandler"]
    for logger_config in config["loggers"].values():
        handlers = [name for name in logger_config.get("handlers", []) if name != "consoleHandler"]
        logger_config["handlers"] = handlers + list(kinds)
    return config


class NotReachable(ConnectionError):
    """The FLARE server does not answer, or not as it should."""


class Administrator:
    """
    What an administrator asks of a running FLARE server. A session that was lost is made anew at the next question.

    Args:
        kit: the administrator's startup kit.
        timeout: seconds to wait for a session.

    All methods raise :class:`NotReachable` when the server does not answer or refuses.
    """

    def __init__(self, kit: Path, timeout: float = 10.0) -> None:
        path = kit / "startup" / "fed_admin.json"
        try:
            self.name = json.loads(path.read_text(encoding="utf-8"))["admin"]["username"]
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{kit}: expected the startup kit of an administrator ({error!r})") from error
        self.kit = kit
        self.timeout = timeout
        self._session: Session | None = None

    def submit(self, folder: Path) -> str:
        """Returns: the job's id."""
        return self._ask(lambda session: session.submit_job(str(folder.resolve())))

    def status(self, job: str) -> str:
        """FLARE's word for the state of a job: ``SUBMITTED``, ``RUNNING``, ``FINISHED:COMPLETED`` …"""
        return str(self._ask(lambda session: session.get_job_status(job)))

    def jobs(self) -> list[dict[str, str]]:
        """All jobs, newest first: ``job_id``, ``job_name``, ``status``, ``submit_time``."""
        return self._ask(lambda session: session.list_jobs(reverse=True))

    def running(self) -> list[str]:
        """Jobs with a process at the server."""
        return [about.job_id for about in self._ask(lambda session: session.get_system_info()).job_info]

    def sites(self) -> dict[str, list[str]]:
        """Sites that answer, and the jobs that each of them takes part in."""
        try:
            replies = self._ask(lambda session: session.get_client_job_status()) or []
        except NotReachable as error:
            if isinstance(error.__cause__, NoClientsAvailable):
                return {}
            raise
        found: dict[str, list[str]] = {}
        for reply in replies:
            if reply.get("status") not in ("no_reply", "error"):
                jobs = found.setdefault(reply["client_name"], [])
                jobs += [reply["job_id"]] if reply.get("job_id") else []
        return found

    def progress(self, job: str, pause: bool = False) -> dict[str, Any] | None:
        """
        How far the training of a job is, by its own account; None when it does not say.

        Args:
            job: its id.
            pause: ask it to wait, after the next checkpoint, for being ended.
        """
        try:
            return self._ask(lambda session: session.do_app_command(job, TOPIC, {"pause": pause}))
        except NotReachable as error:
            if self._session is None:
                raise
            logger.debug("job %s does not say how far it is: %s", job, error)
            return None

    def abort(self, job: str) -> None:
        self._ask(lambda session: session.abort_job(job))

    def download(self, job: str, folder: Path) -> Path:
        """Results of a job that has ended. Returns: the folder with the files that the server's process left."""
        return Path(self._ask(lambda session: session.download_job_result(job, str(folder.resolve()))))

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with suppress(Exception):
                session.close()

    def _ask(self, question: Callable[[Session], Any]) -> Any:
        try:
            if self._session is None:
                with redirect_stdout(io.StringIO()):
                    self._session = new_secure_session(self.name, str(self.kit), timeout=self.timeout)
            return question(self._session)
        except Exception as error:  # FLARE raises what its transport does
            if isinstance(error, NoConnection | SessionClosed | AuthenticationError | OSError):
                self.close()
            raise NotReachable(f"{type(error).__name__}: {error}") from error


class _InstalledCode(CollabRecipe):
    """A recipe whose job carries no source files: FLARE takes any as code from outside (BYOC)."""

    def finalize(self):
        self._job.set_app_packages([__name__.partition(".")[0]])
        return super().finalize()

    @staticmethod
    def _user_source_entries(objs: Sequence[object]) -> list:
        return []


def _local_folder(name: str) -> Path:
    folder = os.environ.get(LOCAL_FILES)
    return Path(folder) / name if folder else Path(collab.workspace.get_site_config_dir())


def _make_workflow(job: Job, local: Mapping[str, Any], given: Mapping[str, Any]):
    job.check(config_dir(), __version__)
    own = dict(local)
    torch.set_num_threads(int(own.pop("num_threads", torch.get_num_threads())))
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
    # found by its name: the federation knows no workflows
    workflow = pydoc.locate(WORKFLOW)(
        config_file=job.files(config_dir()),
        bundle_root=str(config_dir().parent),
        logging_file=False,  # FLARE's logging stays as it is
        **job.overrides,
        **given,
        **own,
    )
    workflow.initialize()
    return workflow
