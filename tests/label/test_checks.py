"""The checks of label_checks.py against a server of a few lines; against a real one: make monailabel."""

import json
import threading
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import label_checks
import label_server
import nibabel as nib
import numpy as np
import pytest
from label_checks import Checks
from label_server import LabelClient, LabelError, LabelServer
from PIL import Image

CONFIG = {"device": ["cpu", "gpu"], "max_epochs": 50, "run_id": ""}
INFO = {
    "models": {"m": {"type": "segmentation", "labels": {"tumor": 1}, "version": "1", "config": {"device": ["cpu"]}}},
    "trainers": {"m": {"config": CONFIG}},
}


@pytest.fixture
def server(tmp_path):
    """Answers by path, set in ``answers``; ``asked`` has what came."""
    seen = SimpleNamespace(answers={}, asked=[], tail=lambda: "the end of a log")

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.asked.append((self.command, self.path, self.headers.get("Content-Type"), body))
            status, kind, content = seen.answers.get(self.path.split("?")[0], (404, "text/plain", b"nothing here"))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = answer

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    seen.lines = list
    seen.url = f"http://127.0.0.1:{http.server_port}"
    seen.answers["/info/"] = (200, "application/json", json.dumps(INFO).encode())
    yield seen
    http.shutdown()
    thread.join()
    http.server_close()


def _checks(server, folder: Path) -> Checks:
    checks = Checks(LabelClient(server), "m", folder)
    checks.labels = {"tumor": 1}
    return checks


def test_a_label_is_sent_as_a_form(server, tmp_path):
    server.answers["/datastore/label"] = (200, "application/json", b"{}")
    file = tmp_path / "mask.nii.gz"
    file.write_bytes(b"\x1f\x8b\r\n--\x00")
    LabelClient(server).save_label("a b", file, [{"name": "tumor", "idx": 1}])
    method, path, kind, body = server.asked[-1]
    assert (method, path) == ("PUT", "/datastore/label?image=a%20b")
    parts = list(BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body).iter_parts())
    assert [part.get_param("name", header="content-disposition") for part in parts] == ["params", "label"]
    assert json.loads(parts[0].get_payload(decode=True)) == {"label_info": [{"name": "tumor", "idx": 1}]}
    assert parts[1].get_filename() == "mask.nii.gz"
    assert parts[1].get_payload(decode=True) == file.read_bytes()


def test_slicers_request_and_its_answer_in_two_parts(server):
    params = b'--xx\r\nContent-Disposition: form-data; name="params"\r\n\r\n{"label_names": {"tumor": 1}}\r\n'
    image = b'--xx\r\nContent-Disposition: form-data; name="image"; filename="a.nrrd"\r\n\r\nNRRD\x00\r\n--xx--\r\n'
    server.answers["/infer/m"] = (200, "multipart/form-data; boundary=xx", params + image)
    assert LabelClient(server).infer_as_slicer("m", session="7") == ({"label_names": {"tumor": 1}}, b"NRRD\x00")
    _, path, _, body = server.asked[-1]
    assert path == "/infer/m?image=&session_id=7"
    assert b'"device": "cpu", "result_extension": ".nrrd", "result_dtype": "uint8"' in body
    server.answers["/infer/m"] = (200, "multipart/form-data; boundary=xx", params + b"--xx--\r\n")
    with pytest.raises(LabelError, match=r"expected the parts params and image, got \['params'\]"):
        LabelClient(server).infer_as_slicer("m", "a")


def test_a_training_that_fails_says_why(server, monkeypatch):
    monkeypatch.setattr(label_server.time, "sleep", lambda _: None)
    server.answers["/train/m"] = (200, "application/json", b"{}")
    server.answers["/train/"] = (200, "application/json", b'{"status": "DONE", "details": ["x"]}')
    assert LabelClient(server).train_as_slicer("m", max_epochs=2) == ["x"]
    sent = next(body for method, path, _, body in server.asked if path == "/train/m")
    assert json.loads(sent) == {"device": "cpu", "max_epochs": 2, "run_id": ""}
    server.answers["/train/"] = (200, "application/json", b'{"status": "ERROR"}')
    logs = iter([["ValueError: former"], ["ValueError: former", "  raise", "KeyError: 'x'", "RuntimeError: later"]])
    server.lines = lambda: next(logs)
    with pytest.raises(LabelError, match=r"status ERROR, expected DONE: KeyError: 'x'; the end of a log"):
        LabelClient(server).train_as_slicer("m")
    with pytest.raises(LabelError, match=r"GET /datastore/.*404, expected 200: nothing here; the end of a log"):
        LabelClient(server).images()


@pytest.mark.parametrize(
    ("mask", "affine", "message"),
    [
        (np.ones((3, 4, 5)), np.eye(4), "expected whole numbers in the mask of a, found float64"),
        (np.ones((3, 4, 5), np.uint8), np.diag([1, 1, 2, 1]), "expected a mask of the affine of a"),
        (
            np.ones((3, 4, 5), np.uint8),
            np.diag([-1, 1, 1, 1]),
            "expected a mask of the orientation RAS of a, found LAS",
        ),
        (np.ones((4, 3, 5), np.uint8), np.eye(4), r"expected a mask of the shape \(3, 4, 5\) of a, found \(4, 3, 5\)"),
        (np.full((3, 4, 5), 2, np.uint8), np.eye(4), r"expected values 0 and \[1\] in the mask of a, found \[2\]"),
    ],
)
def test_what_is_wrong_with_a_mask(server, tmp_path, mask, affine, message):
    volume, answer = tmp_path / "volume.nii.gz", tmp_path / "answer.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)), volume)
    nib.save(nib.Nifti1Image(mask, affine), answer)
    server.answers["/infer/m"] = (200, "application/octet-stream", answer.read_bytes())
    with pytest.raises(LabelError, match=f"m: {message}"):
        label_checks._volume_mask(_checks(server, tmp_path / "checks"), "a", volume)


def test_what_is_wrong_with_a_map_of_nuclei(server, tmp_path):
    tile, answer = tmp_path / "tile.png", tmp_path / "answer.png"
    Image.new("RGB", (7, 5)).save(tile)
    checks = _checks(server, tmp_path / "checks")
    for shape, dtype, message in (
        ((7, 5), np.uint16, "expected a mask of 5 × 7 pixels of a"),
        ((5, 7), np.uint8, "expected 16 bits a pixel"),
        ((5, 7), np.uint16, "expected nuclei in the mask of a, found none"),
    ):
        Image.fromarray(np.zeros(shape, dtype)).save(answer)
        server.answers["/infer/m"] = (200, "image/png", answer.read_bytes())
        with pytest.raises(LabelError, match=message):
            label_checks._tile_mask(checks, "a", tile)


def test_a_tilted_volume_shows_the_same_in_other_axes(tmp_path):
    voxels = np.arange(24).reshape(2, 3, 4)
    nib.save(nib.Nifti1Image(voxels.astype(np.int16), np.diag([-1, -1, 1, 1])), tmp_path / "volume.nii.gz")
    tilted = nib.load(label_checks._tilt(tmp_path / "volume.nii.gz", tmp_path / "tilted.nii.gz"))
    assert nib.aff2axcodes(tilted.affine) == ("S", "L", "A")
    assert nib.affines.voxel_sizes(tilted.affine) == pytest.approx((3.0, 0.9, 1.1))
    # from left, posterior, superior to right, anterior, superior
    canonical = voxels[::-1, ::-1]
    assert (np.asarray(nib.as_closest_canonical(tilted).dataobj) == canonical).all()
    assert (np.asarray(tilted.dataobj).transpose(1, 2, 0)[::-1] == canonical).all()


def test_what_is_missing_before_a_server_starts(tmp_path):
    with pytest.raises(
        LabelError, match=r"bin/python: no such file, expected MONAI Label's environment: make monailabel"
    ):
        LabelServer(tmp_path / "none", [], tmp_path / "run").__enter__()
