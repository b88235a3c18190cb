"""
Who gets into a federation and who does not: server, two sites and those who should stay outside, as processes.

One federation and one training serve all of it; its processes take longer to start than the training takes.
"""

import base64
import json
import os
import re
import socket
import ssl
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml
from one_process import train_in_one_process
from tiny import NETWORKS

pytest.importorskip("nvflare", reason="the extra `federation` is not installed")

from certificates import authority, certify_again
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from bundle import __version__
from bundle.data import load_datalist, write_site_lists
from bundle.declarations.job import Job
from bundle.flare.administrator import Administrator
from bundle.flare.jobs import export_job
from bundle.flare.kits import ADMINISTRATOR, prepare_kit, provision
from bundle.flare.participant import SERVER
from bundle.flare.processes import Participants
from bundle.flare.supervisor import Policy, Supervisor
from bundle.installation import config_dir

pytestmark = pytest.mark.federation

ROOT = Path(__file__).resolve().parents[2]
SITES = ("A", "B")
STRANGERS = ("elsewhere", "expired", "resigned", "tampered")
SIZES = NETWORKS | {"num_steps": 60, "epoch_length": 20}
CONFIGS = ("train.yaml", "brats.yaml", "demo.yaml")
OUTPUTS = Path("seed_0") / "asyndgan" / "gan"
NOISE = {
    "random bytes": np.random.default_rng(0).bytes(2**16),
    "plain HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "half a greeting": bytes([22, 3, 1, 2, 0, 1]),
}
TLS_ALERT = bytes([21])
PATIENCE = 300


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tamper(kit):
    """Flip a byte of the certificate's signature."""
    path = kit / "startup" / "client.crt"
    content = bytearray(x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(serialization.Encoding.DER))
    content[-20] ^= 0xFF
    text = base64.encodebytes(bytes(content)).decode()
    path.write_text(f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n", encoding="utf-8")


@pytest.fixture(scope="module")
def federation(phantom_dir, tmp_path_factory):
    """Kits by participant, and the port: of the federation itself, and of strangers that reach for its server."""
    folder, port = tmp_path_factory.mktemp("federation"), free_port()
    kits = provision(folder / "ours", [*SITES, "expired", "resigned", "tampered"], port)
    kits["elsewhere"] = provision(folder / "theirs", ["elsewhere"], port)["elsewhere"]
    by, key = authority(folder / "ours")
    certify_again(kits["expired"], by, key, datetime.now(UTC) - timedelta(days=1))
    certify_again(kits["resigned"], *authority(folder / "theirs"), datetime.now(UTC) + timedelta(days=30))
    tamper(kits["tampered"])
    lists = write_site_lists(load_datalist(phantom_dir), folder / "data")
    local = {"device": "cpu", "num_threads": 1}
    for name in (SERVER, *SITES, *STRANGERS):
        prepare_kit(kits[name], check=False)
    for site in (*SITES, *STRANGERS):
        own = {"dataset_dir": str(lists.get(site, lists["A"]).parent), "checkpoint_dir": str(folder / site), **local}
        (kits[site] / "local" / "site.yaml").write_text(yaml.safe_dump(own), encoding="utf-8")
    own = {"run_dir": str(folder / "run"), **local}
    (kits[SERVER] / "local" / "server.yaml").write_text(yaml.safe_dump(own), encoding="utf-8")
    return kits, port, folder


def knock(port, kit=None):
    """What the server answers to a request over TLS, with a site's certificate or with none: HTTP, or nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if kit is not None:
        context.load_cert_chain(kit / "startup" / "client.crt", kit / "startup" / "client.key")
    try:
        with (
            socket.create_connection(("localhost", port), timeout=30) as line,
            context.wrap_socket(line, server_hostname="localhost") as tls,
        ):
            tls.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return tls.recv(1000)
    except (ssl.SSLError, ConnectionError):
        return b""


def make_noise(port, noise):
    """What the server answers to bytes over plain TCP: nothing, or that this is no TLS."""
    with socket.create_connection(("localhost", port), timeout=1) as line:
        try:
            line.sendall(noise)
            return line.recv(1000)
        except (ConnectionError, TimeoutError):
            return b""


@pytest.fixture(scope="module")
def undisturbed(phantom_dir, tmp_path_factory):
    """The generator of the same training in one process."""
    run_dir = tmp_path_factory.mktemp("undisturbed")
    train_in_one_process(CONFIGS, phantom_dir, run_dir, SIZES)
    return (run_dir / OUTPUTS / "generator.pt").read_bytes()


def test_nobody_else_gets_in_and_the_training_notices_nothing(federation, undisturbed):
    kits, port, folder = federation
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "NVFLARE_CLIENT_OUTCOME_WAIT_TIMEOUT": "10",
    }
    processes = {name: kits[name] for name in (SERVER, *SITES, *STRANGERS)}
    administrator = Administrator(kits[ADMINISTRATOR])
    job = Job.make([*CONFIGS, "flare.yaml"], {**SIZES, "site_names": list(SITES)}, config_dir(), __version__)
    seen, answers, steps = set(), {}, []

    def intrude():
        for name in ("A", *STRANGERS):
            answers.setdefault(name, set()).add(knock(port, kits[name])[:8])
        answers.setdefault("no certificate", set()).add(knock(port))
        for kind, noise in NOISE.items():
            answers.setdefault(kind, set()).add(make_noise(port, noise)[:1])
        seen.update(administrator.sites())
        steps.extend(about["step"] for about in map(administrator.progress, administrator.running()) if about)

    try:
        with Participants(processes, folder / "logs", environment, revive=None) as participants:
            wait_until_refused(kits["elsewhere"])
            supervisor = Supervisor(
                administrator,
                export_job(job, "training", folder / "job", len(SITES)),
                SITES,
                len(SITES),
                Policy(max_restarts=0, interval=0.5, patience=PATIENCE),
                at_each_look=intrude,
            )
            supervisor.run()
            alive = [name for name in processes if participants._of(name)]
    finally:
        administrator.close()
    assert [step for step in steps if 0 < step < SIZES["num_steps"]], "nobody tried while it trained"
    assert answers.pop("A") == {b"HTTP/1.1"}
    assert all(answers.pop(kind) <= {b"", TLS_ALERT} for kind in NOISE)
    assert answers == {name: {b""} for name in (*STRANGERS, "no certificate")}
    # their FLARE processes were there all the time, and took no part
    assert set(alive) == set(processes)
    assert seen == set(SITES)
    log = (kits[SERVER] / "log.txt").read_text(encoding="utf-8")
    assert set(re.findall(r"New client (\S+?)@\S+ joined", log)) == set(SITES)
    assert set(re.findall(r"Connection \[.* SSL (\S+)\] is created", log)) == {*SITES, ADMINISTRATOR}
    outputs = folder / "run" / OUTPUTS
    about = json.loads((outputs / "record.json").read_text(encoding="utf-8"))["sites"]
    assert all((about[site]["answered"], about[site]["failures"]) == (SIZES["num_steps"], 0) for site in SITES)
    assert (outputs / "generator.pt").read_bytes() == undisturbed


def wait_until_refused(kit):
    """Until the site of another project has found that this is not its server."""
    end = time.monotonic() + PATIENCE
    log = kit / "log.txt"
    while not (log.exists() and "SSLCertVerificationError" in log.read_text(encoding="utf-8")):
        assert time.monotonic() < end
        time.sleep(0.5)
