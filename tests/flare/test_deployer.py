"""What a site's standing process takes of a job before FLARE reads it: what this package writes, and nothing else."""

import io
import json
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import pytest

pytest.importorskip("nvflare", reason="the extra `federation` is not installed")

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_context import FLContext
from nvflare.fuel.f3.cellnet.registry import Registry
from nvflare.private.admin_defs import Message
from nvflare.private.defs import CellChannel, TrainingTopic, new_cell_message

from bundle import __version__
from bundle.declarations.job import Job, JobError
from bundle.declarations.own_configs import own_configs
from bundle.flare.deployer import CONFIG, MAX_BYTES, BoundedJobs, JobDeployer, check_app
from bundle.flare.jobs import export_job
from bundle.flare.kits import prepare_kit, provision
from bundle.installation import config_dir

FILES = ["train.yaml", "brats.yaml", "demo.yaml", "flare.yaml"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An exported job's files by their names in what FLARE brings to a site."""
    job = Job.make(FILES, {"num_steps": 50, "site_names": ["A"]}, config_dir(), __version__)
    app = export_job(job, "training", tmp_path_factory.mktemp("job"), 1) / "app"
    return {path.relative_to(app).as_posix(): path.read_bytes() for path in app.rglob("*") if path.is_file()}


def packed(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def changed(files, change):
    """The job with its config changed by a function of it."""
    config = json.loads(files[CONFIG])
    change(config)
    return files | {CONFIG: json.dumps(config).encode()}


def test_what_this_package_writes_is_taken_signed_or_not(files):
    assert CONFIG in files
    check_app(packed(files), {})
    signed = {
        place + name: b"{}" for place in ("", "config/") for name in (".__nvfl_sig.json", ".__nvfl_submitter.crt")
    }
    check_app(packed(files | signed), {})


@pytest.mark.parametrize("ending", ["conf", "yml", "yaml", "json.default", "conf.default", "CONF"])
@pytest.mark.parametrize("place", ["config/", "", "config/deeper/", "custom/"])
def test_no_other_format_of_a_config_is_read_wherever_it_lies(files, place, ending):
    other = {f"{place}config_fed_client.{ending}": b'include url("http://127.0.0.1:9/beacon")'}
    without = {name: data for name, data in files.items() if name != CONFIG}
    for job in (files | other, without | other):
        with pytest.raises(JobError, match="the job holds other files than"):
            check_app(packed(job), {})


CHANGES = {
    "another component": lambda c: c["components"].append({"id": "x", "path": "subprocess.Popen", "args": {}}),
    "another executor": lambda c: c["executors"].append({"tasks": ["x"], "executor": {"path": "x.Y", "args": {}}}),
    "a filter": lambda c: c["task_result_filters"].append({"tasks": ["*"], "filters": []}),
    "a variable": lambda c: c.update({"workspace": "/etc"}),
    "an argument": lambda c: c["components"][0]["args"].update({"more": 1}),
    "threads": lambda c: c["executors"][0]["executor"]["args"].update({"max_inbound_call_threads": 10**6}),
    "no component": lambda c: c.update({"components": []}),
    "no job": lambda c: c["components"][0].update({"args": {}}),
    "FLARE's own variable": lambda c: c["components"][0]["args"]["job"]["overrides"].update(
        {"label_groups": {"{workspace}": [1]}}
    ),
    "a job's value": lambda c: c["components"][0]["args"]["job"]["overrides"].update({"num_steps": -1}),
    "not a number": lambda c: c["components"][0]["args"]["job"]["overrides"].update({"lr": float("nan")}),
    "another version": lambda c: c["components"][0]["args"]["job"].update({"version": "0.0.1"}),
    "a list": lambda c: c["components"][0]["args"].update({"job": [1]}),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_config_that_differs_from_what_this_package_writes(files, what):
    with pytest.raises(JobError):
        check_app(packed(changed(files, CHANGES[what])), {})


@pytest.mark.parametrize(
    "data",
    [b"", b"[", b"[" * 10**5, b"\xff\xfe", b"null", b" " * (MAX_BYTES + 1), b'{"components": [{"args": {"job": '],
    ids=["empty", "open", "nested", "no text", "null", "blanks", "cut"],
)
def test_a_config_that_is_no_json_or_too_much(files, data):
    with pytest.raises(JobError):
        check_app(packed(files | {CONFIG: data}), {})


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_no_file_comes_twice_and_none_leaves_the_folder(files):
    content = io.BytesIO(packed(files))
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr(CONFIG, files[CONFIG])
    for data in (content.getvalue(), packed(files | {"../x": b""}), b"no archive", b"\0" * (MAX_BYTES + 1)):
        with pytest.raises(JobError):
            check_app(data, {})


@pytest.fixture
def workspace(tmp_path):
    """FLARE's, of a site whose own files lie there."""
    return SimpleNamespace(get_site_config_dir=lambda: str(tmp_path))


def test_a_job_with_a_config_that_the_site_has_not_approved(workspace, tmp_path, caplog):
    own = tmp_path / "coordinator" / "mine.yaml"
    for folder in (own.parent, tmp_path / "configs"):
        folder.mkdir()
    own.write_text("lr: 1.0e-3\n", encoding="utf-8")
    names = [*FILES[:-1], "mine.yaml", FILES[-1]]
    job = Job.make(names, {"site_names": ["A"]}, config_dir(), __version__, {"mine.yaml": own})
    app = export_job(job, "training", tmp_path / "job", 1) / "app"
    data = packed({path.relative_to(app).as_posix(): path.read_bytes() for path in app.rglob("*") if path.is_file()})
    for content, reason in ((None, "which is not approved here"), ("lr: 1.0\n", "the one approved here has")):
        if content is not None:
            (tmp_path / "configs" / "mine.yaml").write_text(content, encoding="utf-8")
        said = JobDeployer().deploy(workspace, "id", {}, "app", data, None)
        assert said == "the job needs a config that this site has not approved; its log says which"
        assert reason in caplog.text
        assert f"mine.yaml of sha256 {job.approved['mine.yaml']}" in caplog.text
    (tmp_path / "configs" / "mine.yaml").write_bytes(own.read_bytes())
    check_app(data, own_configs(tmp_path))


def test_the_server_hears_that_a_job_was_refused_and_nothing_of_what_it_sent(files, workspace, caplog):
    evil = files | {"config/patient_0001.conf": b"x"}
    said = JobDeployer().deploy(workspace, "id", {}, "app", packed(evil), None)
    assert said
    assert "patient" not in said
    assert "the job holds other files" in caplog.text


def bomb(files, size=2**26):
    return packed(files | {"config/config_fed_server.json": bytes(size)})


BOMBS = {
    "a file": bomb,
    "many files": lambda files: packed(files | {f"config/{number}.json": b"" for number in range(10**4)}),
    "a config": lambda files: packed(files | {CONFIG: b" " * 2**26}),
    "bytes": lambda files: packed(files) + bytes(MAX_BYTES),
    "no ZIP": lambda files: b"PK" + bytes(10),
    "no bytes": lambda files: None,
    "text": lambda files: "PK",
}


@pytest.fixture
def deliver():
    """What a site's process answers at once to a job that the server brings; None where it goes on to FLARE."""
    filters = Registry()
    core = SimpleNamespace(add_incoming_request_filter=lambda *place_and_check: filters.append(*place_and_check))
    context = FLContext()
    context.get_engine = lambda: SimpleNamespace(get_cell=lambda: SimpleNamespace(core_cell=core))
    bounded = BoundedJobs()
    for event in (EventType.SYSTEM_BOOTSTRAP, EventType.AFTER_CLIENT_REGISTER, EventType.SYSTEM_START):
        bounded.handle_event(event, context)

    def answer(body):
        message = new_cell_message({}, Message(TrainingTopic.DEPLOY, body))
        (check,) = filters.find(CellChannel.CLIENT_MAIN, TrainingTopic.DEPLOY)
        reply = check(message)
        return reply if reply is None else reply.payload.body

    return answer


def test_what_is_brought_is_bounded_before_flare_unpacks_it(files, deliver, caplog):
    assert deliver(packed(files)) is None
    for what, make in BOMBS.items():
        caplog.clear()
        said = deliver(make(files))
        assert said, what
        assert said.startswith("this site takes only jobs"), what
        assert "a job was refused" in caplog.text, what


def test_a_sites_waiting_process_loads_neither_torch_nor_monai():
    code = "import sys, bundle.flare.deployer; sys.exit(any(m in sys.modules for m in ('torch', 'monai', 'numpy')))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_sites_kit_has_the_deployer_and_a_servers_has_none(tmp_path):
    kits = provision(tmp_path, ["A"], 8002)
    for name, expected in {"A": [f"{JobDeployer.__module__}.{JobDeployer.__name__}"], "server": []}.items():
        prepare_kit(kits[name])
        prepare_kit(kits[name])  # again changes nothing
        resources = json.loads((kits[name] / "local" / "resources.json").read_text(encoding="utf-8"))
        assert [c["path"] for c in resources["components"] if c["id"] == "app_deployer"] == expected
        own = json.loads((kits[name] / "local" / "asyndgan__p_resources.json").read_text(encoding="utf-8"))
        bounded = f"{BoundedJobs.__module__}.{BoundedJobs.__name__}"
        assert [c["path"] for c in own["components"] if c["id"] == "bounded_jobs"] == [bounded] * (name == "A")
