"""What a site's standing process takes of a job, before FLARE reads any of it: :class:`JobDeployer`.

FLARE reads a job's config in other formats than JSON as well, wherever in the job it lies. One of them, HOCON, includes
files and addresses and replaces variables of the environment while it is read; in JSON, FLARE replaces ``{name}`` by
what it knows of the site. So a job has to be what this package writes before anything of it is unpacked.
"""

from __future__ import annotations

import io
import json
import logging
import zipfile
from typing import Any

from nvflare.lighter.tool_consts import NVFLARE_SIG_FILE, NVFLARE_SUBMITTER_CRT_FILE
from nvflare.private.fed.utils.app_deployer import AppDeployer

from bundle import __version__
from bundle.declarations.job import Job, JobError
from bundle.installation import config_dir

__all__ = ["JobDeployer", "check_app"]

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


class JobDeployer(AppDeployer):
    """
    FLARE's deployer of a site, for jobs that :func:`bundle.flare.jobs.export_job` writes and no others.

    :func:`bundle.flare.kits.prepare_kit` names it in the site's ``local/resources.json``.
    """

    def deploy(self, workspace, job_id: str, job_meta: dict, app_name: str, app_data: bytes, fl_ctx) -> str:
        try:
            check_app(app_data)
        except JobError as error:
            logger.error("a job was refused: %s", error)
            return "this site takes only jobs that its own version of the package writes; its log says what is wrong"
        return super().deploy(workspace, job_id, job_meta, app_name, app_data, fl_ctx)


def check_app(packed: bytes) -> None:
    """
    Args:
        packed: the ZIP file that FLARE brings a site of a job.

    Raises:
        JobError: it is not what this package, in this version and with these configs, writes for any job.
    """
    if len(packed) > MAX_BYTES:
        raise JobError(f"the job takes {len(packed)} bytes, expected at most {MAX_BYTES}")
    content = _read_config(packed)
    try:
        job = content["components"][0]["args"]["job"]
    except (LookupError, TypeError) as error:
        raise JobError(f"{CONFIG}: expected a FlareSite with a job") from error
    Job.from_dict(job).check(config_dir(), __version__)
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
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            entries = archive.infolist()
            names = {entry.filename for entry in entries}
            if len(names) != len(entries) or not names <= FILES or CONFIG not in names:
                raise JobError(f"the job holds other files than {', '.join(sorted(FILES))}, or one of them twice")
            if any(entry.file_size > MAX_BYTES for entry in entries):
                raise JobError(f"the job holds a file of more than {MAX_BYTES} bytes")
            return json.loads(archive.read(CONFIG))
    except JobError:
        raise
    except _UNREADABLE as error:
        raise JobError(f"{CONFIG}: unreadable, expected JSON ({type(error).__name__})") from error
