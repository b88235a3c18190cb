"""A real MONAI Label server in an environment of its own, and a client that asks what 3D Slicer asks: for
label_checks.py."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path
from typing import Any

APP = "monaibundle"
LOG_LINES = 25
"""Of the server's log, in the message of a failure."""


class LabelError(RuntimeError):
    """The server did not start, or did not do what was asked; the message says what and shows the end of its log."""


class LabelServer:
    """
    MONAI Label's own sample app ``monaibundle`` on copies of bundles, on a free port of this machine.

    Args:
        environment: virtual environment with MONAI Label (``make monailabel`` builds it).
        bundles: folders of packed bundles; a model has the name of its folder. Training changes the copies.
        folder: for the app with the copies (``monaibundle``), the images (``studies``) and ``server.log``.
        start_timeout: seconds that the server may take until it answers.

    A context: started on entering, ended with its children on leaving.
    """

    def __init__(self, environment: Path, bundles: Sequence[Path], folder: Path, start_timeout: float = 600.0) -> None:
        folder = folder.absolute()
        self.python = environment.absolute() / "bin" / "python"
        self.bundles = list(bundles)
        self.app = folder / APP
        self.studies = folder / "studies"
        self.log = folder / "server.log"
        self.start_timeout = start_timeout
        self.url = ""
        self._process: subprocess.Popen | None = None

    def model_path(self, name: str) -> Path:
        """The weights that the server infers with and that training replaces."""
        return self.app / "model" / name / "models" / "model.pt"

    def __enter__(self) -> LabelServer:
        self._install()
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        names = ",".join(bundle.name for bundle in self.bundles)
        words = ["start_server", "--app", str(self.app), "--studies", str(self.studies)]
        words += ["--host", "127.0.0.1", "--port", str(port)]
        words += ["--conf", "models", names, "--conf", "zoo_source", "local", "--conf", "sam2", "false"]
        with self.log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                self._command(words),
                cwd=self.log.parent,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment() | {"MONAI_LABEL_SESSION_PATH": str(self.log.parent / "sessions")},
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if not self._end() and kind is None:
            raise LabelError(f"the server did not end when asked to; {self.tail()}")

    def tail(self) -> str:
        """The end of the server's log, and where all of it is."""
        return "\n".join([f"the end of {self.log}:", *self.lines()[-LOG_LINES:]])

    def lines(self) -> list[str]:
        """Of the log."""
        return self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []

    def _command(self, words: list[str]) -> list[str]:
        # -I: neither this folder nor PYTHONPATH: a bundle that needs the repository must fail here
        return [str(self.python), "-I", "-m", "monailabel.main", *words]

    def _install(self) -> None:
        if not self.python.exists():
            raise LabelError(f"{self.python}: no such file, expected MONAI Label's environment: make monailabel")
        # what `monailabel apps --download --name monaibundle` copies, without its minute of imports
        source = self.python.parents[1] / "monailabel" / "sample-apps" / APP
        if not source.is_dir():
            raise LabelError(f"{source}: no such folder, expected MONAI Label's sample app")
        shutil.copytree(source, self.app, ignore=shutil.ignore_patterns("logs", "model", "__pycache__"))
        for bundle in self.bundles:
            if (
                not (bundle / "configs" / "inference.yaml").exists()
                and not (bundle / "configs/inference.json").exists()
            ):
                raise LabelError(f"{bundle}: expected a packed bundle, with configs/inference.yaml or inference.json")
            shutil.copytree(bundle, self.app / "model" / bundle.name)
        self.studies.mkdir(parents=True, exist_ok=True)

    def _wait(self) -> None:
        deadline = time.monotonic() + self.start_timeout
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise LabelError(f"the server ended with status {self._process.returncode}; {self.tail()}")
            try:
                with urllib.request.urlopen(f"{self.url}/info/", timeout=10):
                    return
            except urllib.error.HTTPError as error:
                raise LabelError(f"GET /info/: {error.code}; {self.tail()}") from error
            except OSError:
                time.sleep(1)
        raise LabelError(f"the server did not answer within {self.start_timeout:g} s; {self.tail()}")

    def _end(self) -> bool:
        """Whether the first signal, Ctrl-C's, was enough."""
        willing = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)  # of the server and of a training that it started
                self._process.wait(timeout=20)
                willing = number == signal.SIGINT
                break
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return willing


class LabelClient:
    """
    What 3D Slicer's module asks of a server, with the parameters that it sends.

    Args:
        server: a server that answers.
        timeout: seconds for an answer; of a training, until it is done.
    """

    def __init__(self, server: LabelServer, timeout: float = 1800.0) -> None:
        self.server = server
        self.timeout = timeout

    def info(self) -> dict:
        return json.loads(self._ask("GET", "/info/")[1])

    def images(self) -> dict[str, dict]:
        """Images of the server by name, with their labels."""
        return json.loads(self._ask("GET", "/datastore/?output=all")[1])["objects"]

    def upload_image(self, name: str, file: Path) -> None:
        self._ask("PUT", f"/datastore/?image={_quoted(name)}", {"params": "{}"}, {"file": file})

    def remove_image(self, name: str) -> None:
        """With its labels."""
        self._ask("DELETE", f"/datastore/image?id={_quoted(name)}")

    def save_label(self, image: str, file: Path, label_info: list[dict]) -> None:
        fields = {"params": json.dumps({"label_info": label_info})}
        self._ask("PUT", f"/datastore/label?image={_quoted(image)}", fields, {"label": file})

    def next_sample(self) -> dict:
        """An image without a label, at random: the name is ``id``."""
        return json.loads(self._ask("POST", "/activelearning/random", document={})[1])

    def download_image(self, name: str) -> bytes:
        return self._ask("GET", f"/datastore/image?image={_quoted(name)}")[1]

    def open_session(self, file: Path) -> str:
        """Show the server an image that it does not keep among its own; returns the number of the session."""
        return json.loads(self._ask("PUT", "/session/", {}, {"files": file})[1])["session_id"]

    def infer_image(self, model: str, image: str) -> bytes:
        """The mask alone, as a file of the image's kind."""
        return self._ask("POST", f"/infer/{_quoted(model)}?image={_quoted(image)}&output=image", {"params": "{}"})[1]

    def infer_json(self, model: str, image: str) -> dict:
        """What is told of a mask."""
        path = f"/infer/{_quoted(model)}?image={_quoted(image)}&output=json"
        return json.loads(self._ask("POST", path, {"params": "{}"})[1])

    def infer_as_slicer(self, model: str, image: str = "", session: str = "") -> tuple[dict, bytes]:
        """What is told of a mask, and the mask as NRRD: one answer in two parts, with all options of the model sent."""
        options = self._options("models", model) | {"result_extension": ".nrrd", "result_dtype": "uint8"}
        path = f"/infer/{_quoted(model)}?image={_quoted(image)}" + (f"&session_id={session}" if session else "")
        kind, body = self._ask("POST", path, {"params": json.dumps(options)})
        message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
        parts = {part.get_param("name", header="content-disposition"): part for part in message.iter_parts()}
        if set(parts) != {"params", "image"}:
            raise LabelError(f"POST {path}: expected the parts params and image, got {sorted(map(str, parts))}")
        return json.loads(parts["params"].get_payload(decode=True)), parts["image"].get_payload(decode=True)

    def train_as_slicer(self, model: str, **options: Any) -> list[str]:
        """Train with all options that the server lists, but for ``options``; returns the last lines of its log."""
        sent = self._options("trainers", model) | options
        before = len(self.server.lines())
        self._ask("POST", f"/train/{_quoted(model)}", document=sent)
        deadline = time.monotonic() + self.timeout
        while True:
            time.sleep(2)
            state = json.loads(self._ask("GET", "/train/")[1])
            if state["status"] not in ("SUBMITTED", "RUNNING"):
                break
            if time.monotonic() > deadline:
                raise LabelError(f"training of {model}: not done within {self.timeout:g} s; {self.server.tail()}")
        lines = list(state.get("details", []))
        if state["status"] != "DONE":
            # the first exception is the cause of the others
            new = self.server.lines()[before:]
            cause = next((line for line in new if re.match(r"\w*(Error|Exception): ", line)), "no exception in its log")
            raise LabelError(
                f"training of {model}: status {state['status']}, expected DONE: {cause}; {self.server.tail()}"
            )
        return lines

    def _options(self, section: str, model: str) -> dict:
        # of several choices, the first is preselected
        config = self.info()[section][model]["config"]
        return {key: value[0] if isinstance(value, list) else value for key, value in config.items()}

    def _ask(
        self,
        method: str,
        path: str,
        fields: Mapping[str, str] | None = None,
        files: Mapping[str, Path] | None = None,
        document: dict | None = None,
    ) -> tuple[str, bytes]:
        body, headers = None, {}
        if fields is not None:
            body, kind = _form(fields, files or {})
            headers = {"Content-Type": kind}
        elif document is not None:
            body, headers = json.dumps(document).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(self.server.url + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                return answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")[:500]
            raise LabelError(f"{method} {path}: {error.code}, expected 200: {text}; {self.server.tail()}") from error
        except OSError as error:
            raise LabelError(f"{method} {path}: {error}; {self.server.tail()}") from error


def _form(fields: Mapping[str, str], files: Mapping[str, Path]) -> tuple[bytes, str]:
    """multipart/form-data and its content type."""
    boundary = uuid.uuid4().hex
    lines: list[bytes] = []
    for name, text in fields.items():
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        lines += [head.encode(), text.encode(), b"\r\n"]
    for name, file in files.items():
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{file.name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        lines += [head.encode(), file.read_bytes(), b"\r\n"]
    lines.append(f"--{boundary}--\r\n".encode())
    return b"".join(lines), f"multipart/form-data; boundary={boundary}"


def _environment() -> dict[str, str]:
    """This process's, without what would lead another Python to this one's packages or settings of another server."""
    return {
        key: value
        for key, value in os.environ.items()
        if key not in ("PYTHONPATH", "VIRTUAL_ENV") and not key.startswith("MONAI_LABEL_")
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")
