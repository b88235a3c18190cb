"""What a site's standing process takes of a job, before FLARE reads any of it.

FLARE reads a job's config in other formats than JSON as well, wherever in the job it lies. One of them, HOCON, includes
files and addresses and replaces variables of the environment while it is read; in JSON, FLARE replaces ``{name}`` by
what it knows of the site. So a job has to be what this package writes before anything of it is read
(:class:`JobDeployer`). FLARE unpacks it once before that, to look for signatures: what a job may unpack to is bounded
where it comes in (:class:`BoundedJobs`).
"""

from __future__ import annotations

import io
import json
import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_context import FLContext
from nvflare.lighter.tool_consts import NVFLARE_SIG_FILE, NVFLARE_SUBMITTER_CRT_FILE
from nvflare.private.admin_defs import error_reply
from nvflare.private.defs import CellChannel, TrainingTopic, new_cell_message
from nvflare.private.fed.utils.app_deployer import AppDeployer

from bundle import __version__
from bundle.declarations.job import Job, JobError, NotApproved
from bundle.declarations.own_configs import own_configs
from bundle.installation import config_dir

__all__ = ["BoundedJobs", "JobDeployer", "check_app"]

logger = logging.getLogger(__name__)

CONFIG = "config/config_fed_client.json"
MAX_BYTES = 2**18
"""What a file of a job may hold, and the whole of it packed."""
_SIGNATURES = (NVFLARE_SIG_FILE, NVFLARE_SUBMITTER_CRT_FILE)  # in every folder of a signed job
FILES = frozenset(
    {CONFIG, "config/config_fed_server.json", "config/"}
    | {place + name for place in ("", "config/") for name in _SIGNATURES}
)
_UNREADABLE = (zipfile.BadZipFile, zipfile.LargeZipFile, ValueError, RecursionError, NotImplementedError, OSError)


_REFUSED = "this site takes only jobs that its own version of the package writes; its log says what is wrong"
_NOT_APPROVED = "the job needs a config that this site has not approved; its log says which"


class BoundedJobs(FLComponent):
    """
    Refuses jobs that unpack to more than any of this package's, when they come in.

    :func:`bundle.flare.kits.prepare_kit` names it for the process of a site that waits for jobs.
    """

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        # the site listens to the server from then on, and takes no job before that is over
        if event_type == EventType.AFTER_CLIENT_REGISTER:
            cell = fl_ctx.get_engine().get_cell().core_cell
            cell.add_incoming_request_filter(CellChannel.CLIENT_MAIN, TrainingTopic.DEPLOY, self._refusal)

    def _refusal(self, message: Any) -> Any:
        """An answer in the job's place, or None."""
        try:
            with _opened(message.payload.body):
                return None
        except JobError as error:
            logger.error("a job was refused: %s", error)
        except Exception as error:  # no message of FLARE's
            logger.error("a job was refused: it is none (%s)", type(error).__name__)
        return new_cell_message({}, error_reply(_REFUSED))


class JobDeployer(AppDeployer):
    """
    FLARE's deployer of a site, for jobs that :func:`bundle.flare.jobs.export_job` writes and no others.

    :func:`bundle.flare.kits.prepare_kit` names it in the site's ``local/resources.json``.
    """

    def deploy(self, workspace, job_id: str, job_meta: dict, app_name: str, app_data: bytes, fl_ctx) -> str:
        own = own_configs(Path(workspace.get_site_config_dir()))
        try:
            check_app(app_data, own)
        except NotApproved as error:
            logger.error("a job was refused: %s", error)
            return _NOT_APPROVED
        except JobError as error:
            logger.error("a job was refused: %s", error)
            return _REFUSED
        return super().deploy(workspace, job_id, job_meta, app_name, app_data, fl_ctx)


def check_app(packed: bytes, own: Mapping[str, Path]) -> None:
    """
    Args:
        packed: the ZIP file that FLARE brings a site of a job.
        own: paths of the configs that the site has approved, by name.

    Raises:
        NotApproved: it needs a config that is not approved here.
        JobError: it is not what this package, in this version and with these configs, writes for any job.
    """
    content = _read_config(packed)
    try:
        job = content["components"][0]["args"]["job"]
    except (LookupError, TypeError) as error:
        raise JobError(f"{CONFIG}: expected a FlareSite with a job") from error
    Job.from_dict(job).check(config_dir(), __version__, own)
    if content != site_config(job):
        raise JobError(f"{CONFIG}: differs from what this package writes in more than its job")


def site_config(job: Any) -> dict[str, Any]:
    """What FLARE's recipe of :mod:`bundle.flare.jobs` writes for a site."""
    calls = {"max_inbound_call_threads": 100, "max_outbound_call_threads": 100}
    executor = {
        "path": "nvflare.collab.runtime.executor.CollabExecutor",
        "args": {"client_obj_id": "_client", "collab_obj_ids": [], "props": {}, **calls},
    }
    site = {"id": "_client", "path": "bundle.flare.site.FlareSite", "args": {"job": job}}
    return {
        "format_version": 2,
        "executors": [{"tasks": ["*"], "executor": executor}],
        "components": [site],
        "task_data_filters": [],
        "task_result_filters": [],
    }


def _read_config(packed: bytes) -> Any:
    with _opened(packed) as archive:
        try:
            return json.loads(archive.read(CONFIG))
        except _UNREADABLE as error:
            raise JobError(f"{CONFIG}: unreadable, expected JSON ({type(error).__name__})") from error


def _opened(packed: bytes) -> zipfile.ZipFile:
    """The job, if it holds the files that it may, of the size that they may have."""
    if len(packed) > MAX_BYTES:
        raise JobError(f"the job takes {len(packed)} bytes, expected at most {MAX_BYTES}")
    try:
        archive = zipfile.ZipFile(io.BytesIO(packed))
    except _UNREADABLE as error:
        raise JobError(f"unreadable, expected a ZIP file ({type(error).__name__})") from error
    entries = archive.infolist()
    names = {entry.filename for entry in entries}
    if len(names) != len(entries) or not names <= FILES or CONFIG not in names:
        raise JobError(f"the job holds other files than {', '.join(sorted(FILES))}, or one of them twice")
    if any(entry.file_size > MAX_BYTES for entry in entries):
        raise JobError(f"the job holds a file of more than {MAX_BYTES} bytes")
    return archive
