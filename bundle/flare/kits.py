"""Startup kits: certificates, and the rules that a participant makes for itself."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from nvflare.apis.fl_constant import SystemComponents
from nvflare.fuel.utils.network_utils import get_open_ports
from nvflare.lighter.constants import CtxKey
from nvflare.lighter.prov_utils import prepare_builders
from nvflare.lighter.provision import prepare_project
from nvflare.lighter.provisioner import Provisioner

from bundle.files import require_file, write_json
from bundle.flare.deployer import BoundedJobs, JobDeployer
from bundle.flare.logs import quiet
from bundle.flare.names import check_folder, check_site_names
from bundle.text import SERVER

__all__ = ["ADMINISTRATOR", "CLASSES", "free_port", "prepare_kit", "provision"]


def _path(component: type) -> str:
    return f"{component.__module__}.{component.__name__}"


ADMINISTRATOR = "admin@federation.local"
CLASSES = (
    "bundle.flare.server.FlareServer",
    "bundle.flare.site.FlareSite",
    "nvflare.collab.runtime.controller.CollabController",
    "nvflare.collab.runtime.executor.CollabExecutor",
)
"""All classes that a job names, written out: with them comes torch. A participant allows nothing else."""
CLASS_RULES = {"class_allow_list": list(CLASSES), "class_list_enforcement_mode": "enforce"}


def free_port() -> int:
    """A port of this machine on which nothing listens."""
    return get_open_ports(1)[0]


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

    Raises:
        ValueError: a name that FLARE takes for no site's.
    """
    check_site_names(sites)
    participants: list[dict[str, Any]] = [
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
    made = context.get(CtxKey.CURRENT_PROD_DIR)
    if context.get(CtxKey.BUILD_ERROR) or made is None:
        raise RuntimeError(f"provisioning in {folder} failed: {context.get(CtxKey.ERRORS)}")
    return {name: Path(made) / name for name in names}


def prepare_kit(kit: Path | str = ".", check: bool = True) -> None:
    """
    Make a server's or a site's own rules, in ``local/`` of its startup kit: jobs may name :data:`CLASSES` and nothing
    else, and bring no code; administrators may not look into files; logs are sent nowhere; the console shows our lines,
    who is connected, and errors; a server keeps its jobs in the kit's folder; a site reads no job but one that this
    package writes.

    Args:
        kit: the kit's folder, where it stays.
        check: run :func:`bundle.flare.preflight.check_kit` whenever the kit is started.

    Raises:
        FileNotFoundError: when there is no kit of a server or a site.
        ValueError: FLARE could not start a job in this folder.
    """
    kit = Path(kit).resolve()
    check_folder(kit, "the kit")
    check_folder(Path(sys.executable), "Python")
    local = kit / "local"
    path = Path(require_file(local / "resources.json.default", "FLARE puts it into every startup kit"))
    resources = json.loads(path.read_text(encoding="utf-8"))
    resources |= CLASS_RULES
    # of errors, whose texts may name files and patients; FLARE sends them to the server otherwise
    resources["allow_log_streaming"] = False
    for component in resources["components"]:
        if component["id"] == "job_manager":
            component["args"]["uri_root"] = str(kit / "jobs")
    # of the process that waits for jobs, not of those of jobs
    own = [{"id": "check", "path": "bundle.flare.console.CheckAtStart", "args": {}}] if check else []
    if "snapshot_persistor" in resources:
        storage = resources["snapshot_persistor"]["args"]["storage"]
        storage["args"]["root_dir"] = str(kit / "snapshots")
    else:
        others = [
            component for component in resources["components"] if component["id"] != SystemComponents.APP_DEPLOYER
        ]
        resources["components"] = [
            *others,
            {"id": SystemComponents.APP_DEPLOYER, "path": _path(JobDeployer), "args": {}},
        ]
        own.append({"id": "bounded_jobs", "path": _path(BoundedJobs), "args": {}})
    write_json(local / "resources.json", resources)
    write_json(local / "asyndgan__p_resources.json", {"format_version": 2, "components": own})
    permissions = json.loads((local / "authorization.json.default").read_text(encoding="utf-8"))
    permissions["permissions"]["project_admin"] = dict(permissions["permissions"]["lead"])
    for role in ("project_admin", "lead", "org_admin"):
        permissions["permissions"][role] |= {"byoc": "none", "shell_commands": "none", "clone_job": "none"}
        # how far the training of a job is, and to end it after a checkpoint: for who may end it anyhow
        permissions["permissions"][role]["app_command"] = permissions["permissions"][role]["manage_job"]
    write_json(local / "authorization.json", permissions)
    config = json.loads((local / "log_config.json.default").read_text(encoding="utf-8"))
    write_json(local / "log_config.json", quiet(config))
