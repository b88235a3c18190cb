"""The site's end: :class:`FlareSite` answers messages."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nvflare.collab import collab

from bundle import __version__
from bundle.declarations.job import AVERAGE, PRIVATE_OVERRIDES, SCORE, Job, NotApproved
from bundle.declarations.own_configs import own_configs
from bundle.flare.own_files import read_site
from bundle.flare.participant import SERVER, local_folder, make_workflow, settings
from bundle.flare.site_clock import SiteClock
from bundle.installation import config_dir
from bundle.site.release import ReleasePolicy, ReleaseRefused
from bundle.site.scoring import ScoringSite
from bundle.site.site import Site
from bundle.text import shown
from bundle.wire import guards
from bundle.wire.codec import MAX_BYTES, Codec
from bundle.wire.messages import (
    ConditionRequest,
    Message,
    OpenRequest,
    Refusal,
    RoundRequest,
    ScoreRequest,
    SyntheticBatch,
)
from bundle.workflows.averaging_rounds import ReleasingSite, make_releasing_site
from bundle.workflows.scoring import make_scoring_site

__all__ = ["FlareSite"]

logger = logging.getLogger(__name__)


class FlareSite:
    """
    A site's end: makes the :class:`bundle.site.Site` of a training, the :class:`bundle.site.ScoringSite` of an
    evaluation, or what trains a segmenter in rounds, from configs and files that lie here, and answers messages.

    Args:
        job: :meth:`Job.to_dict`; nothing of it is evaluated.
    """

    def __init__(self, job: dict) -> None:
        self.job = job
        self._lock = threading.Lock()
        self._name = ""
        self._local: Path | None = None
        self._site: Site | ScoringSite | ReleasingSite | None = None
        self._noted = 0  # refusals that the ledger knows of
        self._codec = Codec()
        # to be asked to take part, before anything is known of images
        self._limits = dict.fromkeys(("OpenRequest", "ConditionRequest"), 0) | dict.fromkeys(
            ("ScoreRequest", "RoundRequest"), MAX_BYTES
        )
        self._clock = SiteClock()
        # always the same thread: FLARE calls from dozens, and torch has a number and a team of threads for each
        self._computing = ThreadPoolExecutor(1, thread_name_prefix="site")

    @collab.init
    def start(self) -> None:
        self._name = collab.site_name
        self._local = local_folder(self._name)
        try:
            self._computing.submit(self._prepare).result()
        except Exception:
            # FLARE would end the job for everybody
            logger.exception("site %s cannot take part yet; it tries again when the server asks", self._name)
            return
        if isinstance(self._site, Site) and self._site.teacher is not None:
            # not waited for: FLARE gives a start less time than teachers may take. What the server asks comes after it
            self._computing.submit(self._site.teacher.prepare)

    def _prepare(self) -> None:
        name = self._name
        local = read_site(self._local)
        job = Job.from_dict(self.job)
        own = own_configs(self._local)
        _check_configs(job, own)
        _check_overrides(job, local.pop("allowed_overrides", None), ReleasePolicy.make(local["release_policy"]))
        if job.stage == SCORE:
            files, given = job.files(config_dir(), own), settings(job, local, SCORE, own)
            scoring, self._limits = make_scoring_site(files, name, given)
            self._site = scoring
            logger.info("site %s scores segmenters on %d held-out cases", name, scoring.cases)
            return
        if job.stage == AVERAGE:
            files, given = job.files(config_dir(), own), settings(job, local, AVERAGE, own)
            averaging, self._limits = make_releasing_site(files, name, given)
            self._site = averaging
            logger.info("site %s trains a segmenter in rounds", name)
            return
        local["checkpoint_dir"] = str(Path(local["checkpoint_dir"]) / job.identity)
        workflow = make_workflow(job, local, {"site_name": name}, own)
        limits = workflow.make("limits")
        self._codec = workflow.make("codec")
        (site,) = workflow.make("sites")
        self._limits = limits.requests(site.batch_size)
        self._site = site
        logger.info("site %s takes part with %d samples", name, len(site.samples))

    @collab.publish
    def receive(self, data: bytes) -> bytes:
        """
        Answer a message of the server, and of nobody else.

        What goes wrong is written to the log here. The server learns no more than that it was refused: the text of an
        error could name files and patients. What the release policy forbids is said in words that name nothing.
        """
        # nothing is raised: FLARE would send the error's text and its traceback to whoever called
        if collab.caller != SERVER:
            logger.error("site %s asked for something: only the server may", collab.caller)
            return self._refuse("only the server may ask")
        with self._lock, self._clock.message():  # late calls may overlap with the next
            try:
                message = self._codec.decode(data, self._limits)
            except Exception:
                logger.exception("a message of the server was refused")
                return self._refuse("the message could not be read")
            self._clock.decoded()
            try:
                answer = self._computing.submit(self._answer, message).result()
                if isinstance(self._site, Site):
                    self._clock.computed(self._site)
                return self._codec.encode(answer)
            except ReleaseRefused as error:
                return self._refuse(error.sent, error.final)
            except Exception:
                logger.exception("%s of the server was refused", type(message).__name__)
                return self._refuse(f"{type(message).__name__}: see the site's log")

    @collab.final
    def stop(self) -> None:
        if self._site is not None:
            self._site.gate.close()

    def _refuse(self, reason: str, final: bool = False) -> bytes:
        if self._site is not None:
            gate = self._site.gate
            # what the site refused itself is counted
            if gate.refused == self._noted:
                gate.note_refusal("a message that the site never saw", reason)
            self._noted = gate.refused
        return self._codec.encode(Refusal(self._name, shown(reason), final))

    def _answer(self, message: Message) -> Message:
        guards.check_request(message, self._name)
        if self._site is None:
            self._prepare()
        site = self._site
        if isinstance(site, ScoringSite) and isinstance(message, ScoreRequest):
            return site.score(message)
        if isinstance(site, ReleasingSite) and isinstance(message, RoundRequest):
            return site.train_round(message)
        if isinstance(site, Site) and isinstance(message, OpenRequest):
            return site.open(message.step)
        if isinstance(site, Site) and isinstance(message, SyntheticBatch):
            return site.step(message)
        if isinstance(site, Site) and isinstance(message, ConditionRequest):
            return site.conditions(message)
        raise TypeError(f"expected a request of this job, got a {type(message).__name__}")


def _check_configs(job: Job, own: Mapping[str, Path]) -> None:
    """
    Raises:
        ReleaseRefused: the job needs a config that is not approved here. The site's log has its name and digest.
        JobError: see :meth:`bundle.declarations.job.Job.check`.
    """
    try:
        job.check(config_dir(), __version__, own)
    except NotApproved as error:
        logger.error("%s", error)
        raise ReleaseRefused("the job needs a config that this site has not approved; its log says which") from error


def _check_overrides(job: Job, allowed: list[str] | None, policy: ReleasePolicy) -> None:
    """
    Raises:
        ReleaseRefused: the job overrides what the site does not let it. The reason, which goes to the server, names
            nothing that the job or the site said; the site's log does.
    """
    if allowed is None:
        if not policy.private:
            return
        allowed = sorted(PRIVATE_OVERRIDES)
    if refused := sorted(job.overrides.keys() - set(allowed)):
        logger.error("the job overrides %s; it may override %s", ", ".join(refused), ", ".join(allowed) or "nothing")
        raise ReleaseRefused("the job overrides what this site does not let it (allowed_overrides); its log says which")
