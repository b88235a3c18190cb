"""What the check of a startup kit finds, part by part."""

import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import yaml

pytest.importorskip("nvflare", reason="the extra `federation` is not installed")

import grpc
from certificates import authority, certify_again

from bundle.data import load_datalist, write_site_lists
from bundle.flare.kits import prepare_kit, provision
from bundle.flare.participant import SERVER
from bundle.flare.preflight import check_kit


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Kits of a server and of site A, and the folder they were provisioned in."""
    folder = tmp_path_factory.mktemp("provisioned")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return provision(folder, ["A", "B"], port), folder, port


@pytest.fixture
def kit(made, phantom_dir, tmp_path):
    """Site A's kit, ready but for a server."""
    path = made[0]["A"]
    prepare_kit(path)
    own(path, dataset_dir=str(phantom_dir), checkpoint_dir=str(tmp_path / "checkpoints"), device="cpu")
    certificate = (path / "startup" / "client.crt").read_bytes()
    yield path
    (path / "startup" / "client.crt").write_bytes(certificate)


def own(kit, **content):
    (kit / "local" / "site.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def check(kit, capsys, **options):
    """Whether all is well, and what is said by part."""
    well = check_kit(kit, **options)
    lines = [line.partition(": ") for line in capsys.readouterr().out.splitlines() if line[:2] in ("ok", "no")]
    return well, {head: rest for head, _, rest in lines}


@pytest.mark.parametrize("deep", [False, True])
def test_a_site_that_is_ready_but_for_the_server(kit, made, capsys, deep):
    well, said = check(kit, capsys, deep=deep)
    assert not well
    assert list(said) == [
        "ok   kit",
        "ok   certificate",
        "ok   site.yaml",
        "ok   device",
        "ok   data list",
        "no   server",
    ]
    assert "nothing answers there" in said["no   server"]
    assert said["ok   certificate"].startswith("A, valid until 2")
    # a list may hold others' cases
    assert said["ok   data list"].startswith("2 cases of A to train with, 1 held out; 2 of other sites are not used")


@pytest.mark.parametrize(
    ("change", "part", "reason"),
    [
        ({"dataset_dir": None}, "site.yaml", "expected dataset_dir, a folder"),
        ({"checkpoint_dir": None, "dataset_dir": None}, "site.yaml", "expected dataset_dir and checkpoint_dir"),
        ({"batchsize": 2}, "site.yaml", "unknown key batchsize"),
        ({"release_policy": "none"}, "site.yaml", "none"),
        ({"checkpoint_dir": "/proc/nothing"}, "site.yaml", "checkpoint_dir: /proc/nothing cannot be written"),
        ({"checkpoint_dir": "checkpoints"}, "site.yaml", "expected an absolute path, got 'checkpoints'"),
        ({"device": "cuda:77"}, "device", "device cuda:77: not usable here"),
        ({"dataset_dir": "/nothing/here"}, "data list", "no such data list"),
    ],
)
def test_what_is_wrong_is_named_with_its_key(kit, capsys, change, part, reason):
    content = yaml.safe_load((kit / "local" / "site.yaml").read_text(encoding="utf-8")) | change
    own(kit, **{key: value for key, value in content.items() if value is not None})
    well, said = check(kit, capsys)
    assert not well
    assert reason in said[f"no   {part}"]
    assert len([one for one in said if one.startswith("no")]) == 2  # and the server


def test_a_list_of_others_only(kit, phantom_dir, tmp_path, capsys):
    lists = write_site_lists(load_datalist(phantom_dir), tmp_path)
    own(kit, dataset_dir=str(lists["B"].parent), checkpoint_dir=str(tmp_path))
    assert "has no site 'A', expected one of B" in check(kit, capsys)[1]["no   data list"]


def test_a_kit_without_its_rules_and_one_that_was_moved(kit, made, capsys, tmp_path):
    (kit / "local" / "resources.json").unlink()
    assert "run `asyndgan federate kits`" in check(kit, capsys)[1]["no   kit"]
    prepare_kit(made[0][SERVER])
    moved = tmp_path / "moved"
    made[0][SERVER].rename(moved)
    try:
        assert "it is moved to" in check(moved, capsys)[1]["no   kit"]
    finally:
        moved.rename(made[0][SERVER])


def test_certificates(kit, made, capsys, tmp_path):
    by, key = authority(made[1])
    for days, word in ((-1, "no"), (10, "ok"), (200, "ok")):
        certify_again(kit, by, key, datetime.now(UTC) + timedelta(days=days))
        said = check(kit, capsys)[1][f"{word}   certificate"]
        assert ("ask the coordinator for another" in said) == (days < 30)
    provision(tmp_path / "others", ["A"], 8002)
    certify_again(kit, *authority(tmp_path / "others"), datetime.now(UTC) + timedelta(days=200))
    assert "not signed by the authority" in check(kit, capsys)[1]["no   certificate"]
    (kit / "startup" / "client.crt").write_bytes((made[0]["B"] / "startup" / "client.crt").read_bytes())
    assert "is for B, expected A" in check(kit, capsys)[1]["no   certificate"]


def test_what_is_no_kit(tmp_path, capsys):
    assert not check_kit(tmp_path)
    assert "expected the startup kit of a site or the server" in capsys.readouterr().out


def test_the_server(made, capsys, tmp_path):
    kit, port = made[0][SERVER], made[2]
    prepare_kit(kit)
    assert "server.yaml" in check(kit, capsys)[1]["no   server.yaml"]
    (kit / "local" / "server.yaml").write_text(f"run_dir: {tmp_path}\ndevice: cpu\n", encoding="utf-8")
    well, said = check(kit, capsys)
    assert well
    assert said["ok   port"] == f"{port} is free"
    with socket.socket() as other:
        other.bind(("", port))
        other.listen()
        threading.Thread(target=lambda: other.accept()[0].close(), daemon=True).start()
        assert "something else listens there" in check(kit, capsys)[1]["no   port"]


@pytest.mark.parametrize("trusted", [True, False])
def test_the_way_to_a_server(kit, made, capsys, trusted):
    """One that asks for certificates as FLARE's does, and takes those of one authority."""
    startup = made[0][SERVER] / "startup"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(startup / "server.crt", startup / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    if trusted:
        context.load_verify_locations(startup / "rootCA.pem")

    def serve():
        with socket.create_server(("127.0.0.1", made[2])) as listener:
            ready.set()
            line = listener.accept()[0]
            try:
                with context.wrap_socket(line, server_side=True) as tls:
                    tls.recv(100)
                    tls.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            except OSError:
                line.close()

    ready = threading.Event()
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    ready.wait(30)
    well, said = check(kit, capsys)
    thread.join(30)
    assert well is trusted
    if trusted:
        assert said["ok   server"] == f"localhost:{made[2]} answers, and takes this certificate"
    else:
        assert "refuses the kit's certificate" in said["no   server"]


def speak(kit, scheme):
    """Change what FLARE's processes of a kit talk by; returns what it was."""
    path = kit / "startup" / "fed_client.json"
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace('"scheme": "http"', f'"scheme": "{scheme}"'), encoding="utf-8")
    return before


@pytest.mark.parametrize("trusted", [True, False])
def test_the_way_to_a_server_of_grpc(kit, made, capsys, trusted, tmp_path):
    """It hangs up on whoever speaks anything but HTTP/2, as it does on a certificate that it does not take."""
    startup = made[0][SERVER] / "startup"
    root = startup if trusted else provision(tmp_path / "others", ["A"], 8002)[SERVER] / "startup"
    pair = [((startup / "server.key").read_bytes(), (startup / "server.crt").read_bytes())]
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_secure_port(
        f"localhost:{made[2]}", grpc.ssl_server_credentials(pair, (root / "rootCA.pem").read_bytes(), True)
    )
    before = speak(kit, "grpc")
    server.start()
    try:
        well, said = check(kit, capsys)
    finally:
        server.stop(None).wait()
        (kit / "startup" / "fed_client.json").write_text(before, encoding="utf-8")
    assert well is trusted
    if trusted:
        assert said["ok   server"] == f"localhost:{made[2]} answers, and takes this certificate"
    else:
        assert "refuses the kit's certificate" in said["no   server"]


@pytest.mark.parametrize("trusted", [True, False])
def test_the_way_to_a_server_that_waits_for_flares_words(kit, made, capsys, monkeypatch, trusted):
    monkeypatch.setattr("bundle.flare.preflight.SILENT", 0.2)
    startup = made[0][SERVER] / "startup"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(startup / "server.crt", startup / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    if trusted:
        context.load_verify_locations(startup / "rootCA.pem")
    before = speak(kit, "tcp")

    def serve(listener):
        line = listener.accept()[0]
        try:
            with context.wrap_socket(line, server_side=True) as tls:
                tls.recv(100)
        except OSError:
            line.close()

    try:
        with socket.create_server(("127.0.0.1", made[2])) as listener:
            thread = threading.Thread(target=serve, args=(listener,), daemon=True)
            thread.start()
            well, _ = check(kit, capsys)
            thread.join(30)
    finally:
        (kit / "startup" / "fed_client.json").write_text(before, encoding="utf-8")
    assert well is trusted
