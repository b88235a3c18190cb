"""What an administrator asks of a running FLARE server: :class:`Administrator`."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

from nvflare.fuel.flare_api.api_spec import (
    AuthenticationError,
    AuthorizationError,
    InvalidJobDefinition,
    NoClientsAvailable,
    NoConnection,
    SessionClosed,
)
from nvflare.fuel.flare_api.flare_api import Session, new_secure_session

from bundle.flare.agreed import TOPIC

__all__ = ["Administrator", "NotAllowed", "NotReachable"]

logger = logging.getLogger(__name__)


class NotReachable(ConnectionError):
    """The FLARE server does not answer, or not as it should."""


class NotAllowed(RuntimeError):
    """The FLARE server answers, and refuses: asked again it would again."""


class Administrator:
    """
    What an administrator asks of a running FLARE server. A session that was lost is made anew at the next question.

    Args:
        kit: the administrator's startup kit.
        timeout: seconds to wait for a session.

    All methods raise :class:`NotReachable` when the server does not answer, or not as it should, and
    :class:`NotAllowed` when it refuses.
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
        except (NotReachable, NotAllowed) as error:
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
            if isinstance(error, AuthorizationError | InvalidJobDefinition):
                raise NotAllowed(f"{type(error).__name__}: {error}") from error
            raise NotReachable(f"{type(error).__name__}: {error}") from error
