"""Whether a startup kit is ready to be started: :func:`check_kit`."""

from __future__ import annotations

import json
import socket
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from bundle.declarations.job import RESERVED
from bundle.declarations.own_configs import check_own_config, own_configs
from bundle.flare.console import why_not_connected
from bundle.flare.kits import CLASSES
from bundle.flare.names import check_folder
from bundle.flare.own_files import read_server, read_site
from bundle.installation import config_dir
from bundle.site.release import ReleasePolicy
from bundle.threads import cores

__all__ = ["check_kit"]

TIMEOUT = 10.0
SILENT = 2.0
"""Seconds after which a server that waits for FLARE's own first words is taken to have accepted a certificate."""
# who is refused hears of it with the first answer only; a server of gRPC hangs up on all but HTTP/2
FIRST_WORDS = {
    "http": b"GET / HTTP/1.1\r\nHost: federation\r\n\r\n",
    "grpc": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]),
}
SOON = timedelta(days=30)


@dataclass(frozen=True)
class _Kit:
    """
    A startup kit.

    Attributes:
        folder: where it is.
        name: of the participant.
        host, port: of the server.
        scheme: by which FLARE talks to it: ``http``, ``grpc`` or ``tcp``.
        deep: whether images and labels are decoded.
    """

    folder: Path
    name: str
    host: str
    port: int
    scheme: str
    deep: bool

    @property
    def is_server(self) -> bool:
        return (self.folder / "startup" / "fed_server.json").is_file()

    def startup(self, ending: str) -> Path:
        return self.folder / "startup" / f"{'server' if self.is_server else 'client'}.{ending}"


def check_kit(kit: Path | str = ".", deep: bool = False) -> bool:
    """
    Check a site's or the server's startup kit, and print a line for each part: ``ok`` and what was found, or ``no`` and
    what was expected.

    Args:
        kit: the kit's folder.
        deep: decode all images and labels of a site's data list, as training does.

    Returns:
        Whether all is well.
    """
    folder = Path(kit).resolve()
    try:
        opened = _open(folder, deep)
    except (OSError, ValueError, KeyError, IndexError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        print(f"no   kit: {folder}: expected the startup kit of a site or the server ({reason})", flush=True)
        return False
    failed: set[str] = set()
    for name, check in (SERVER_CHECKS if opened.is_server else SITE_CHECKS).items():
        if name in OF_OWN_FILE and failed & OWN_FILES:
            continue
        if not _say(name, check, opened):
            failed.add(name)
    return not failed


def _say(name: str, check: Callable[[_Kit], str], kit: _Kit) -> bool:
    try:
        found = check(kit)
    except Exception as error:  # whatever is wrong with one part, the others are looked at
        print(f"no   {name}: {error}", flush=True)
        return False
    print(f"ok   {name}: {found}", flush=True)
    return True


def _open(folder: Path, deep: bool) -> _Kit:
    startup = folder / "startup"
    server = startup / "fed_server.json"
    content = json.loads((server if server.is_file() else startup / "fed_client.json").read_text(encoding="utf-8"))
    service = content["servers"][0]["service"]
    host, _, port = service["target"].rpartition(":")
    name = content["servers"][0]["admin_server"] if server.is_file() else content["client"]["fqsn"]
    return _Kit(folder, name, host, int(port), service["scheme"], deep)


def _check_rules(kit: _Kit) -> str:
    check_folder(kit.folder, "the kit")
    path = kit.folder / "local" / "resources.json"
    resources = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    again = "run `asyndgan federate kits` in the kit's folder"
    if resources.get("class_allow_list") != list(CLASSES):
        raise ValueError(f"{path} is not what this version of the package makes of it: {again}")
    stores = [c["args"]["uri_root"] for c in resources["components"] if c["id"] == "job_manager"]
    if any(store != str(kit.folder / "jobs") for store in stores):
        raise ValueError(f"{path} is for a kit in {Path(stores[0]).parent}, and it is moved to {kit.folder}: {again}")
    return f"{kit.name}, in {kit.folder}"


def _check_certificate(kit: _Kit) -> str:
    own = x509.load_pem_x509_certificate(kit.startup("crt").read_bytes())
    authority = x509.load_pem_x509_certificate((kit.folder / "startup" / "rootCA.pem").read_bytes())
    key = load_pem_private_key(kit.startup("key").read_bytes(), password=None)
    name = own.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    if name != kit.name:
        raise ValueError(f"{kit.startup('crt')} is for {name!s}, expected {kit.name}")
    if _public(key.public_key()) != _public(own.public_key()):
        raise ValueError(f"{kit.startup('key')} is not the key of {kit.startup('crt')}")
    try:
        own.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise ValueError(f"{kit.startup('crt')} is not signed by the authority in startup/rootCA.pem") from error
    now = datetime.now(UTC)
    for one, what in ((own, name), (authority, "the authority")):
        if not one.not_valid_before_utc <= now <= one.not_valid_after_utc:
            valid = f"valid from {one.not_valid_before_utc:%Y-%m-%d} to {one.not_valid_after_utc:%Y-%m-%d}"
            raise ValueError(
                f"that of {what} is {valid}, and here it is {now:%Y-%m-%d}: ask the coordinator for another, or set "
                "the clock"
            )
    ends = min(own.not_valid_after_utc, authority.not_valid_after_utc)
    renew = ": ask the coordinator for another" if ends - now < SOON else ""
    return f"{name}, valid until {ends:%Y-%m-%d}{renew}"


def _public(key) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _check_site_file(kit: _Kit) -> str:
    local = read_site(kit.folder / "local")
    _check_writable(Path(local["checkpoint_dir"]), "checkpoint_dir")
    policy = ReleasePolicy.make(local["release_policy"])
    approved = _check_configs(kit)
    return f"checkpoints in {local['checkpoint_dir']}, release policy {policy.describe()}{approved}"


def _check_server_file(kit: _Kit) -> str:
    local = read_server(kit.folder / "local")
    _check_writable(Path(local["run_dir"]), "run_dir")
    if "public_conditions" in local and not Path(local["public_conditions"]).is_file():
        raise ValueError(f"server.yaml, public_conditions: there is no file {local['public_conditions']}")
    return f"the run's folder is {local['run_dir']}{_check_configs(kit)}"


def _check_configs(kit: _Kit) -> str:
    own = own_configs(kit.folder / "local")
    for path in own.values():
        check_own_config(path, config_dir(), RESERVED)
    return f", approved {', '.join(own)}" if own else ""


def _check_writable(folder: Path, key: str) -> None:
    if not folder.is_absolute():
        raise ValueError(f"{key}: expected an absolute path, got {str(folder)!r}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"{key}: {folder} cannot be written ({error.strerror})") from error


def _check_device(kit: _Kit) -> str:
    import torch  # the parts before this one are said at once

    local = read_server(kit.folder / "local") if kit.is_server else read_site(kit.folder / "local")
    default = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(local.get("device", default))
    try:
        torch.zeros(1, device=device)
    except Exception as error:  # torch raises what the backend does
        raise ValueError(f"device {device}: not usable here, expected cpu or cuda:N ({error})") from error
    threads = local.get("num_threads", torch.get_num_threads())
    return f"{device}, {threads} threads on {cores()} cores"


def _check_data(kit: _Kit) -> str:
    from bundle.data import load_datalist

    datalist = load_datalist(read_site(kit.folder / "local")["dataset_dir"], deep=kit.deep)
    items = datalist.site_items(kit.name)
    others = len(datalist.training) - len(items)
    held_out = sum(item["site"] == kit.name for item in datalist.test)
    unused = f"; {others} of other sites are not used" if others else ""
    own = datalist.modalities.get(kit.name)
    lacks = f"; {', '.join(own)} alone of {', '.join(datalist.modality)}" if own else ""
    return f"{len(items)} cases of {kit.name} to train with, {held_out} held out{unused}{lacks}" + (
        ", decoded" if kit.deep else ""
    )


def _check_connection(kit: _Kit) -> str:
    context = ssl.create_default_context(cafile=kit.folder / "startup" / "rootCA.pem")
    context.load_cert_chain(kit.startup("crt"), kit.startup("key"))
    if kit.scheme == "grpc":
        context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((kit.host, kit.port), timeout=TIMEOUT) as line,
            context.wrap_socket(line, server_hostname=kit.host) as tls,
        ):
            answer = _answer(tls, kit.scheme)
    except OSError as error:
        raise ValueError(f"{kit.host}:{kit.port}: {why_not_connected(str(error))}") from error
    if not answer:
        raise ValueError(f"{kit.host}:{kit.port}: {why_not_connected('EOF occurred')}")
    return f"{kit.host}:{kit.port} answers, and takes this certificate"


def _answer(line: ssl.SSLSocket, scheme: str) -> bytes:
    """What the server says first; nothing when it hangs up."""
    if scheme in FIRST_WORDS:
        line.sendall(FIRST_WORDS[scheme])
        return line.recv(100)
    line.settimeout(SILENT)
    try:
        return line.recv(100)
    except TimeoutError:
        return b"silence"


def _check_port(kit: _Kit) -> str:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", kit.port))
        except OSError as error:
            if _listens(kit):
                return f"{kit.port}: this server is started"
            raise ValueError(f"{kit.port}: something else listens there already ({error.strerror})") from error
    return f"{kit.port} is free"


def _listens(kit: _Kit) -> bool:
    """Whether it is this server that listens on its port, by its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(kit.startup("crt"), kit.startup("key"))
    try:
        with socket.create_connection(("localhost", kit.port), TIMEOUT) as line, context.wrap_socket(line) as tls:
            return tls.getpeercert(True) == ssl.PEM_cert_to_DER_cert(kit.startup("crt").read_text())
    except (OSError, ValueError):
        return False


SITE_CHECKS = {
    "kit": _check_rules,
    "certificate": _check_certificate,
    "site.yaml": _check_site_file,
    "device": _check_device,
    "data list": _check_data,
    "server": _check_connection,
}
SERVER_CHECKS = {
    "kit": _check_rules,
    "certificate": _check_certificate,
    "server.yaml": _check_server_file,
    "device": _check_device,
    "port": _check_port,
}
OWN_FILES = {"site.yaml", "server.yaml"}
OF_OWN_FILE = {"device", "data list"}
"""Checks that say nothing new where the own file cannot be read."""
