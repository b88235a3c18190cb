"""What a site's and the server's consoles say of FLARE's own lines, and what that costs."""

import io
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from bundle.flare.console import ConnectionLines, why_not_connected

ROOT = Path(__file__).resolve().parents[2]
# as FLARE 2.9.0 logs it
STARTED = "Connection [CN00002 127.0.0.1:51362 => 127.0.0.1:18002 SSL server] is created: PID: 8959"
REGISTERED = "Successfully registered client:A for project federation."
FAILED = (
    "Connector [CH00001 ACTIVE http://localhost:18002] failed with exception ClientConnectorError: "
    "ClientConnectorError: Cannot connect to host localhost:18002 ssl:<ssl.SSLContext object at 0x7f> {}"
)
REFUSED = FAILED.format("[Connect call failed ('127.0.0.1', 18002)]")
UNKNOWN = FAILED.format("[Name or service not known]")
OTHERS = ["re-challenge after 2.0 seconds", "Connection [CN00002 Not Connected] is closed PID: 8959"]


def said(*messages, name="nvflare.fuel.f3.sfm.conn_manager.ConnManager"):
    stream = io.StringIO()
    handler = ConnectionLines(stream)
    handler.set_name("connection")  # as a configuration does
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    for message in messages:
        handler.handle(logging.LogRecord(name, logging.ERROR, "", 0, message, (), None))
    return stream.getvalue().splitlines()


def test_a_site_says_that_it_is_connected_and_when_it_is_not_any_more():
    lines = said(*OTHERS, STARTED, REGISTERED, *OTHERS, REFUSED, REFUSED, *OTHERS, STARTED, STARTED, REFUSED)
    lost = (
        "WARNING no connection to localhost:18002: nothing answers there, the server is down or a firewall is between"
    )
    again = f"{lost}; it is tried again and again"
    connected = "connected to the server as A"
    assert lines == [f"INFO {connected}; waiting for jobs", again, f"INFO {connected} again", again]


def test_one_that_never_was_says_why_once_for_each_reason():
    lines = said(UNKNOWN, UNKNOWN, REFUSED, UNKNOWN, STARTED, REGISTERED)
    assert len(lines) == 4
    assert "no machine of that name" in lines[0]
    assert lines[-1].endswith("waiting for jobs")


def test_a_server_says_who_is_connected_and_no_token():
    joined = "Client: New client A@192.0.2.2 joined. Sent token.  Total clients: 1"
    lines = said(
        "Server started", joined, "Client Name:A left.  Total clients: 0", "Re-activate the client: A at A", name="root"
    )
    assert [line.partition(" ")[2] for line in lines] == [
        "the server is started; waiting for sites",
        "site A is connected",
        "site A is not connected any more",
        "site A is connected",
    ]


def test_lines_of_ours_are_left_to_others():
    assert said(REGISTERED, name="bundle.site.site") == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2580)", "refuses the kit's certificate"),
        ("[SSL: SSLV3_ALERT_CERTIFICATE_EXPIRED] sslv3 alert certificate expired", "refuses the kit's certificate"),
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required", "refuses the kit's certificate"),
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired",
            "server's certificate has",
        ),
        ("certificate verify failed: self-signed certificate in certificate chain", "not of the authority"),
        ("certificate verify failed: Hostname mismatch, certificate is not valid for 'x'", "is for another name"),
        ("[Errno 104] Connection reset by peer", "as one that refuses the kit's certificate does"),
        ("[Errno 111] Connection refused", "nothing answers"),
        ("[Errno -2] Name or service not known", "no machine of that name"),
        ("timed out", "no answer in time"),
        ("something\nelse " + 200 * "x", "something else xxx"),
    ],
)
def test_errors_of_connections_are_said_in_words(text, reason):
    assert reason in why_not_connected(text)
    assert len(why_not_connected(text)) <= 120


def test_it_costs_a_process_that_waits_neither_torch_nor_monai():
    code = "import sys, bundle.flare.console; sys.exit(any(m in sys.modules for m in ('torch', 'monai', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
