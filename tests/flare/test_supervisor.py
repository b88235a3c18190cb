"""What is submitted again and what is not, against a FLARE server that is a script."""

import math
import re
import sys
import textwrap
import time

import pytest

from bundle.flare.processes import Participants
from bundle.flare.supervisor import GivenUp, Policy, Supervisor


def about(step, saved, finished=False, paused=False, **states):
    sites = {site: {"state": state} for site, state in ({"A": "present", "B": "present"} | states).items()}
    sent = {"steps": 1500, "bytes_to_sites": 2 * 10**6 * step, "bytes_from_sites": 10**6 * step}
    return {"step": step, "saved": saved, "finished": finished, "paused": paused, "sites": sites} | sent


class Server:
    """
    Plays for each job a list of (status, progress, what the sites are in); the last stays. Jobs of the names in
    ``active`` are there from the start.
    """

    def __init__(self, *jobs, connected=("A", "B"), active=(), errors=()):
        self.scripts, self.connected = [list(job) for job in jobs], list(connected)
        self.submitted, self.aborted, self.paused, self.down = [], [], [], 0
        self.names, self.errors = {}, list(errors)
        for name in active:
            self._add(name)

    def _script(self, job):
        return self.scripts[self.submitted.index(job)]

    def _add(self, name):
        self.submitted.append(f"job-{len(self.submitted)}")
        self.names[self.submitted[-1]] = name
        return self.submitted[-1]

    def submit(self, folder):
        self._answer()
        return self._add(folder.name)

    def jobs(self):
        self._answer()
        return [
            {"job_id": job, "job_name": self.names[job], "status": self.status(job)} for job in self.submitted[::-1]
        ]

    def status(self, job):
        self._answer()
        return "FINISHED:ABORTED" if job in self.aborted else self._script(job)[0][0]

    def progress(self, job, pause=False):
        script = self._script(job)
        if pause:
            self.paused.append(job)
        found = script[0][1]
        if len(script) > 1:
            script.pop(0)
        return found

    def running(self):
        return [job for job in self.submitted[-1:] if self._script(job)[0][1:] != (None, "gone")]

    def sites(self):
        self._answer()
        if not self.submitted:
            return {site: [] for site in self.connected}
        script = self.scripts[len(self.submitted) - 1]
        inside = script[0][2] if len(script[0]) > 2 else self.connected
        return {site: [self.submitted[-1]] if site in inside else [] for site in self.connected}

    def abort(self, job):
        self.aborted.append(job)

    def download(self, job, folder):
        """The log of the server's process: for each job that failed the next of ``errors``."""
        if not self.errors:
            raise ConnectionError("no log")
        error, text = self.errors.pop(0).split(": ", 1)
        (folder / job / "workspace").mkdir(parents=True)
        (folder / job / "workspace" / "error_log.txt").write_text(LOG.format(error=error, text=text), encoding="utf-8")
        return folder / job

    def _answer(self):
        if self.down:
            self.down -= 1
            raise ConnectionError("down")


# as FLARE 2.9.0 writes it
LOG = """\
2026-01-01 05:52:22,192 - CollabController - ERROR - Traceback (most recent call last):
  File "nvflare/collab/runtime/lifecycle.py", line 40, in run_server
    result = main_func(**kwargs)
             ^^^^^^^^^^^^^^^^^^^
bundle.server.{error}: {text}

2026-01-01 05:52:22,193 - ServerRunner - ERROR - [identity=federation, run=job, wf=controller] - Aborting current RUN \
due to FATAL_SYSTEM_ERROR received: exception occurred: {text}
"""


class Clock:
    def __init__(self):
        self.now, self.slept = 0.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.slept.append(seconds)


def supervise(server, tmp_path, clock=None, **kwargs):
    clock = clock or Clock()
    kwargs.setdefault("sites", ["A", "B"])
    return Supervisor(server, tmp_path, clock=clock, sleep=clock.sleep, **kwargs)


DONE = ("RUNNING", about(100, 100, finished=True))
KILLED = ("FINISHED:EXECUTION_EXCEPTION", None)


def test_a_job_that_says_that_it_is_finished_is(tmp_path):
    server = Server([("RUNNING", about(10, 0)), DONE])
    assert supervise(server, tmp_path).run() == "job-0"
    assert len(server.submitted) == 1


def test_a_job_that_ended_without_success_is_submitted_again(tmp_path, caplog):
    server = Server([("RUNNING", about(30, 20)), KILLED], [("RUNNING", about(21, 20)), DONE])
    assert supervise(server, tmp_path).run() == "job-1"
    assert "ended as FINISHED:EXECUTION_EXCEPTION" in caplog.text
    assert server.aborted == ["job-1"]  # FLARE would wait for those that are gone


def test_a_job_that_a_server_gave_up_when_it_was_started_again_has_ended(tmp_path):
    server = Server([("RUNNING", about(30, 20)), ("ABANDONED", None)], [DONE])
    assert supervise(server, tmp_path).run() == "job-1"


def test_without_a_new_checkpoint_it_is_less_and_less_often_and_then_not_at_all(tmp_path):
    server, clock = Server(*[[KILLED]] * 9), Clock()
    policy = Policy(max_restarts=3, delay=5, longest_delay=15, interval=1)
    with pytest.raises(GivenUp, match="4 jobs in a row ended without a new checkpoint"):
        supervise(server, tmp_path, clock, policy=policy).run()
    assert len(server.submitted) == 4
    assert [seconds for seconds in clock.slept if seconds > 1] == [5, 10, 15]


NO_RUN_DIR = "job.JobError: server.yaml: expected run_dir"
NO_MEMORY = "torch.OutOfMemoryError: out of memory"


@pytest.mark.parametrize(
    "error",
    [
        NO_RUN_DIR,
        "workflows.ConfigError: /run/config.yaml keeps another configuration than this one",
        "data.DataError: bank.npz: expected conditions",
        "privacy.LedgerError: the ledger was changed",
        "PermissionError: [Errno 13] Permission denied: '/run'",
        "roster.TooFewSites: step 7 needs 2 of 2 sites and has 1. With so many left out or ended this run cannot go on",
    ],
)
def test_what_stays_until_a_person_changes_something_is_not_tried_again(tmp_path, error):
    server = Server([KILLED], [DONE], errors=[error])
    reason = error.rpartition(".")[2] if error.startswith("Perm") else error.partition(".")[2]
    with pytest.raises(GivenUp, match=re.escape(reason[:20])) as raised:
        supervise(server, tmp_path).run()
    assert (
        "(log.txt in jobs/job-0/workspace, a ZIP file of the server's kit, has the rest); the next would end so too"
        in str(raised.value)
    )
    assert len(server.submitted) == 1


def test_it_is_not_tried_again_when_it_comes_behind_a_new_checkpoint_either(tmp_path):
    server = Server([("RUNNING", about(30, 20)), KILLED], [DONE], errors=[NO_RUN_DIR])
    with pytest.raises(GivenUp, match="expected run_dir"):
        supervise(server, tmp_path).run()
    assert len(server.submitted) == 1


@pytest.mark.parametrize(
    "error",
    [NO_MEMORY, "roster.TooFewSites: step 1 needs 2 sites and has 1; without B (missing: refused: see the log)"],
)
def test_what_failed_twice_for_the_same_reason_is_not_tried_again(tmp_path, caplog, error):
    server = Server([KILLED], [KILLED], [DONE], errors=[error, error])
    said = error.partition(".")[2]
    with pytest.raises(GivenUp, match=re.escape(f"{said} (log.txt in jobs/job-1/workspace, a ZIP file")):
        supervise(server, tmp_path).run()
    assert len(server.submitted) == 2
    assert said in caplog.text  # the first time, too


@pytest.mark.parametrize(
    "errors",
    [
        [NO_MEMORY, "torch.OutOfMemoryError: out of memory again"],
        ["roster.TooFewSites: step 7 needs 2 of 2 sites and has 1"] * 2,
        ["flare.JobEnded: the job was ended from outside"] * 2,
        ["workflows.ConfigError: another process is writing what config.yaml belongs to"] * 2,
        [],
    ],
)
def test_another_reason_and_one_that_may_pass_is(tmp_path, errors):
    server = Server([KILLED], [KILLED], [DONE], errors=errors)
    assert supervise(server, tmp_path).run() == "job-2"


def test_the_same_reason_behind_a_new_checkpoint_is_another_time(tmp_path):
    jobs = [[("RUNNING", about(20 * n + 30, 20 * n + 20)), KILLED] for n in range(3)]
    assert supervise(Server(*jobs, [DONE], errors=[NO_MEMORY] * 3), tmp_path).run() == "job-3"


def test_a_new_checkpoint_starts_the_count_again(tmp_path):
    jobs = [[("RUNNING", about(20 * n + 30, 20 * n + 20)), KILLED] for n in range(6)]
    server = Server(*jobs, [DONE])
    assert supervise(server, tmp_path, policy=Policy(max_restarts=1)).run() == "job-6"


def test_a_job_that_somebody_ended_stays_ended(tmp_path):
    server = Server([("RUNNING", about(30, 20)), ("FINISHED:ABORTED", None)])
    with pytest.raises(GivenUp, match="somebody ended it"):
        supervise(server, tmp_path).run()
    assert len(server.submitted) == 1


def test_a_site_that_is_back_takes_part_after_the_next_checkpoint(tmp_path, caplog):
    without = ["A"]
    server = Server(
        [
            ("RUNNING", about(30, 20, B="missing"), without),
            ("RUNNING", about(32, 20, B="missing"), without),
            ("RUNNING", about(35, 20, B="missing"), without),
            ("RUNNING", about(40, 40, paused=True, B="missing"), without),
        ],
        [DONE],
    )
    assert supervise(server, tmp_path).run() == "job-1"
    assert server.aborted[0] == "job-0"
    assert set(server.paused) == {"job-0"}
    assert "site B is there and not in it" in caplog.text
    assert "ended after step 40" in caplog.text


def test_a_site_that_is_late_but_in_the_job_is_left_alone(tmp_path):
    late = ("RUNNING", about(30, 20, B="missing"), ["A", "B"])
    server = Server([late, late, late, DONE])
    assert supervise(server, tmp_path).run() == "job-0"
    assert server.paused == []


def test_too_few_sites_are_waited_for_and_not_for_ever(tmp_path):
    server = Server([KILLED], connected=["A"])
    with pytest.raises(GivenUp, match="1 of at least 2 sites are there after 60 s: A"):
        supervise(server, tmp_path, min_sites=2, policy=Policy(patience=60)).run()
    assert server.submitted == []


def test_it_starts_without_a_site_that_does_not_come_if_there_are_enough(tmp_path, caplog):
    server, clock = Server([DONE], connected=["A"]), Clock()
    assert supervise(server, tmp_path, clock, policy=Policy(patience=60)).run() == "job-0"
    assert clock.now > 60
    assert "B: the job starts without them" in caplog.text


def test_a_server_that_comes_back_is_waited_for(tmp_path, caplog):
    caplog.set_level("INFO")
    server = Server([DONE])
    server.down = 3
    assert supervise(server, tmp_path).run() == "job-0"
    assert "the server answers again" in caplog.text
    server = Server([DONE])
    server.down = 10**6
    with pytest.raises(GivenUp, match="the server does not answer since 60 s: down"):
        supervise(server, tmp_path, policy=Policy(patience=60)).run()


def test_while_the_server_does_not_answer_it_says_how_long_it_asks(tmp_path, caplog):
    server = Server([DONE])
    server.down = 10**6
    with pytest.raises(GivenUp, match="the same command goes on"):
        supervise(server, tmp_path, policy=Policy(patience=200, interval=5)).run()
    waits = [int(seconds) for seconds in re.findall(r"asked for (\d+) s more", caplog.text)]
    assert waits[0] == 200
    assert len(waits) == 4
    assert waits == sorted(waits, reverse=True)


def test_a_training_says_how_far_it_is(tmp_path, caplog):
    caplog.set_level("INFO")
    steps = [
        about(0, 0, A="missing", B="missing"),
        about(3, 0),
        about(20, 20),
        about(21, 20, B="missing"),
        about(40, 40),
    ]
    server = Server([("RUNNING", None), *[("RUNNING", one) for one in steps], DONE])
    assert supervise(server, tmp_path, policy=Policy(interval=1, report=1000)).run() == "job-0"
    said = [line for line in caplog.messages if "waits" in line or "start" in line or line.startswith("step")]
    assert said[:5] == [
        "job job-0: server and sites start, read their data and open",
        "step 3 of 1500, saved up to 0 · 6.0 MB to and 3.0 MB from the sites · A, B answer",
        "step 20 of 1500, saved up to 20 · 40.0 MB to and 20.0 MB from the sites · A, B answer",
        "step 21 of 1500, saved up to 20 · 42.0 MB to and 21.0 MB from the sites · A answers; B: missing",
        "step 40 of 1500, saved up to 40 · 80.0 MB to and 40.0 MB from the sites · A, B answer",
    ]


@pytest.mark.parametrize(("report", "lines"), [(math.inf, 0), (1000, 1), (5, 3)])
def test_between_checkpoints_it_says_so_every_now_and_then(tmp_path, caplog, report, lines):
    caplog.set_level("INFO")
    server = Server([*[("RUNNING", about(step, 0)) for step in range(1, 15)], DONE])
    supervise(server, tmp_path, policy=Policy(interval=1, report=report)).run()
    assert sum("saved up to 0 " in line for line in caplog.messages) == lines


def test_a_job_that_the_server_has_forgotten_is_submitted_again(tmp_path, caplog):
    server = Server([("RUNNING", about(30, 20)), ("RUNNING", None, "gone")], [DONE])
    assert supervise(server, tmp_path).run() == "job-1"
    assert "its process at the server is gone" in caplog.text


def test_a_job_that_runs_already_is_watched_and_submitted_again_when_it_dies(tmp_path, caplog):
    caplog.set_level("INFO")
    server = Server([("RUNNING", about(30, 20)), KILLED], [DONE], active=[tmp_path.name], connected=["A"])
    assert supervise(server, tmp_path).run() == "job-1"
    assert "job job-0: runs already and is watched" in caplog.text
    assert "job job-1: submitted" in caplog.text
    assert server.submitted == ["job-0", "job-1"]


def test_one_that_waits_is_taken_too_and_without_being_watched(tmp_path):
    server = Server([("SUBMITTED", None)], active=[tmp_path.name])
    assert supervise(server, tmp_path).start() == "job-0"
    assert server.submitted == ["job-0"]


def test_before_it_submits_again_it_looks_whether_somebody_did(tmp_path):
    class Rival(Server):
        def status(self, job):
            found = super().status(job)
            if found == KILLED[0] and len(self.submitted) == 1:
                self._add(tmp_path.name)
            return found

    server = Rival([("RUNNING", about(30, 20)), KILLED], [DONE])
    assert supervise(server, tmp_path).run() == "job-1"
    assert len(server.submitted) == 2


@pytest.mark.parametrize("status", ["RUNNING", "SUBMITTED"])
def test_a_job_of_another_training_is_named_and_nothing_is_submitted(tmp_path, status):
    server = Server([(status, about(30, 20))], active=["another"])
    with pytest.raises(GivenUp, match=rf"job job-0 \(another, {status}\) is of another training than {tmp_path.name}"):
        supervise(server, tmp_path).run()
    assert server.submitted == ["job-0"]


@pytest.mark.parametrize("state", [("RUNNING", None, "gone"), ("FINISHED:ABORTED", None), ("ABANDONED", None)])
def test_one_that_has_ended_is_left_alone(tmp_path, state):
    server = Server([state], [DONE], active=["another"])
    assert supervise(server, tmp_path).run() == "job-1"


def test_what_can_be_seen_here_counts_more_than_what_flare_says(tmp_path):
    server, seen = Server([("FINISHED:COMPLETED", None)], [("RUNNING", None)]), iter([False, False, True])
    assert supervise(server, tmp_path, finished=lambda: next(seen, True)).run() == "job-1"


@pytest.fixture
def kit(tmp_path):
    """A participant that says a line, starts a process of its own and waits."""
    script = tmp_path / "A" / "startup" / "sub_start.sh"
    script.parent.mkdir(parents=True)
    child = "import time; time.sleep(60)"
    script.write_text(
        textwrap.dedent(f"""\
            #!{sys.executable}
            import subprocess, sys, time
            print("here", sys.argv[1:], flush=True)
            subprocess.Popen([sys.executable, "-c", "{child}", __file__])
            time.sleep(60)
            """)
    )
    script.chmod(0o755)
    return tmp_path / "A"


def test_participants_are_ended_with_their_jobs_and_started_again_when_they_die(kit, tmp_path, capfd):
    def until(condition):
        end = time.monotonic() + 20
        while not condition() and time.monotonic() < end:
            time.sleep(0.05)
        assert condition()

    log = tmp_path / "logs" / "A.log"
    with Participants({"A": kit}, tmp_path / "logs", {"PATH": "/usr/bin"}, shown=["A"], revive=0.0) as participants:
        until(lambda: len(participants._of("A")) == 2)
        process = participants._processes["A"]
        process.kill()
        process.wait()
        participants.look()
        participants.look()
        assert participants._processes["A"] is not process
        until(lambda: log.read_text().count("here ['--once']") == 2)
        left = participants._of("A")
    assert not any(one.is_running() and one.status() != "zombie" for one in left)
    assert "[A] here" in capfd.readouterr().err
