"""
A segmenter averaged over a wall: the weights of one process, bit for bit, and none where the owner has not allowed it.

In FLARE's simulator a process stands for each site (make test-federation).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bundle import __version__
from bundle.cli.main import main
from bundle.data import load_datalist, write_site_lists
from bundle.declarations.job import Job, JobError
from bundle.installation import config_dir
from bundle.server import LocalScoring, TooFewSites
from bundle.site.release import ReleaseRefused, summarize, verify
from bundle.wire import Codec
from bundle.wire.guards import Violation, check_round
from bundle.wire.messages import Refusal, RoundReply, RoundRequest, ScoreRequest
from bundle.wire.weights import pack_weights, packed_digest, unpack_weights
from bundle.workflows.averaging_rounds import Averaging, average_over, make_releasing_site
from bundle.workflows.scoring import participant_workflow

ROOT = Path(__file__).resolve().parents[2]
SIZES = {
    "image_size": 32,
    "segmenter_channels": [4, 8],
    "segmenter_batch_size": 2,
    "segmenter_steps": 4,
    "segmenter_epoch_length": 2,
}
FILES = [str(config_dir() / f"{name}.yaml") for name in ("average", "brats", "demo")]
SET = ["--set", *(f"{key}={json.dumps(value)}" for key, value in SIZES.items())]
TRAINING = ["--task", "brats", "--profile", "demo"]


@pytest.fixture(scope="module")
def local(phantom_dir, tmp_path_factory):
    """What ``segment.yaml`` makes with all sites in this process: the folder of its segmenter."""
    run_dir = tmp_path_factory.mktemp("local")
    words = ["segment", *TRAINING, "--dataset_dir", str(phantom_dir), "--run_dir", str(run_dir), "--setting", "fedavg"]
    assert main([*words, *SET, "device=cpu"]) == 0
    return run_dir / "seed_0" / "fedavg" / "segmenter"


def site(data, folder, name, **own):
    """A site with its own data alone, as it is behind a network."""
    lists = write_site_lists(load_datalist(data), folder / "lists")
    given = {**SIZES, "allow_averaging": True, "release_dir": str(folder / "releases"), "device": "cpu", **own}
    given |= {"dataset_dir": str(lists[name].parent), "site_names": ["A", "B"], "run_dir": str(folder / name)}
    return make_releasing_site(FILES, name, given)[0]


def server(federation, folder, **own):
    workflow = participant_workflow(FILES, "", {**SIZES, "device": "cpu", "run_dir": str(folder), **own})
    return Averaging(federation, workflow.make("network").state_dict(), workflow.make("min_sites"))


ABOUT = {"setting": "fedavg", "seed": 0, "steps": 4, "local_steps": 2, "proximal_mu": 0.0}


def test_the_weights_are_those_of_one_process(local, phantom_dir, tmp_path):
    ends = {name: site(phantom_dir, tmp_path, name) for name in "AB"}
    averaging = server(LocalScoring({name: end.train_round for name, end in ends.items()}), tmp_path)
    files = average_over(averaging, 2, tmp_path / "out", ABOUT)
    assert files[0].read_bytes() == (local / "segmenter.pt").read_bytes()
    ours, theirs = (
        json.loads((folder / "record.json").read_text(encoding="utf-8")) for folder in (files[0].parent, local)
    )
    same = ("setting", "seed", "steps", "rounds", "local_steps", "proximal_mu", "num_samples", "training_images")
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    assert ours["bytes_to_sites"] > theirs["bytes_to_sites"]
    assert ours["sites"] == {name: {"state": "present", "answered": 2, "failures": 0} for name in "AB"}
    for name, end in ends.items():
        end.gate.close()
        path = tmp_path / "releases" / f"{name}.jsonl"
        assert verify(path).whole
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert [(entry["kind"], entry.get("round")) for entry in entries] == [
            ("start", None),
            ("weights", 1),
            ("weights", 2),
        ]
        assert [part["what"] for part in entries[1]["parts"]] == ["weights of a segmenter", "losses"]
        assert "weights of a segmenter that was trained on the site's images 2" in summarize(path)


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ({"allow_averaging": False}, "it lets no weights out that were trained on its images"),
        ({"release_policy": "private"}, "its release policy, private, lets no weights out"),
    ],
)
def test_a_site_whose_owner_has_not_allowed_it_trains_nothing(own, reason, phantom_dir, tmp_path):
    end = site(phantom_dir, tmp_path, "A", **own)
    end._site.train = None
    with pytest.raises(ReleaseRefused, match=reason):
        end.train_round(RoundRequest("A", 1, pack_weights(end._network)))
    end.gate.close()
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "releases" / "A.jsonl").read_text("utf-8").splitlines()]
    assert kinds == ["start", "refusal"]


def answers(change=None, value=0.5, num_samples=2):
    """A site that answers with such weights."""

    def answer(request):
        weights = unpack_weights(request.weights, NETWORK)
        trained = {name: torch.full_like(tensor, value) for name, tensor in weights.items()}
        said = {"site": request.site, "round": request.round, "weights": pack_weights(trained)}
        return RoundReply(**{**said, "num_samples": num_samples, "losses": {"loss": 0.1}, **(change or {})})

    return answer


def fails(request):
    raise OSError("gone")


NETWORK = {"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}
NAN = pack_weights({**NETWORK, "bias": torch.full((2,), float("nan"))})


def test_the_mean_is_by_the_samples_that_sites_say():
    sites = {"A": answers(value=1.0, num_samples=3), "B": answers(value=0.0, num_samples=1)}
    averaging = Averaging(LocalScoring(sites), NETWORK, 1)
    averaging.round()
    assert torch.equal(averaging.weights["bias"], torch.full((2,), 0.75))
    assert averaging.num_samples == {"A": 3, "B": 1}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (fails, "gone"),
        (answers({"weights": NAN}), "not finite"),
        (answers({"weights": pack_weights({"weight": torch.zeros(2, 2)})}), "weights of another network"),
        (answers({"round": 7}), "it answers round 7, not 1"),
        (answers({"num_samples": 0}), "num_samples is 0"),
        (answers({"losses": {"loss": float("inf")}}), "expected a finite number"),
    ],
)
def test_a_site_that_fails_leaves_the_round_to_the_others(bad, reason, tmp_path):
    averaging = Averaging(LocalScoring({"A": bad, "B": answers(value=0.25)}), NETWORK, 1)
    average_over(averaging, 1, tmp_path, ABOUT)
    assert torch.equal(averaging.weights["bias"], torch.full((2,), 0.25))
    about = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))["sites"]
    assert reason in about["A"].pop("last_failure")
    assert about == {
        "A": {"state": "missing", "answered": 0, "failures": 1},
        "B": {"state": "present", "answered": 1, "failures": 0},
    }


@pytest.mark.parametrize("min_sites", [2, 5])
def test_without_enough_sites_it_ends_and_says_why(min_sites, tmp_path):
    averaging = Averaging(LocalScoring({"A": fails, "B": answers()}), NETWORK, min_sites)
    with pytest.raises(TooFewSites, match=r"round 1: 1 of at least 2 sites answered .min_sites.: A: gone"):
        average_over(averaging, 1, tmp_path, ABOUT)
    assert torch.equal(averaging.weights["bias"], NETWORK["bias"])
    assert list(tmp_path.iterdir()) == []


def test_a_reply_of_another_site_is_none():
    with pytest.raises(Violation, match="is of site 'B'"):
        check_round(RoundReply("B", 1, NAN, 1, {}), RoundRequest("A", 1, NAN))


def test_a_job_cannot_allow_it_and_begins_with_its_stage():
    files = ["average.yaml", "brats.yaml", "demo.yaml"]
    assert Job.make(files, {"setting": "fedprox"}, config_dir(), __version__).stage == "average"
    with pytest.raises(JobError, match="override allow_averaging: each participant sets it in its own file"):
        Job.make(files, {"allow_averaging": True}, config_dir(), __version__)
    with pytest.raises(JobError, match="configs: expected"):
        Job.make([*files, "flare.yaml"], {}, config_dir(), __version__)


def test_a_sites_end_of_flare_says_no_unless_its_file_says_yes(monkeypatch, local, phantom_dir, tmp_path):
    pytest.importorskip("nvflare", reason="the extra `federation` is not installed")
    from wired_sites import Collab, at, see, write_local

    from bundle.flare.participant import LOCAL_FILES
    from bundle.flare.site import FlareSite

    see(monkeypatch, Collab())
    monkeypatch.setenv(LOCAL_FILES, str(tmp_path))
    lists = write_site_lists(load_datalist(phantom_dir), tmp_path / "lists")
    job = Job.make(
        ["average.yaml", "brats.yaml", "demo.yaml"], {**SIZES, "site_names": ["A", "B"]}, config_dir(), __version__
    )
    begin = participant_workflow(FILES, "", {**SIZES, "device": "cpu"}).make("network").state_dict()
    for allowed in (None, True):
        own = {} if allowed is None else {"allow_averaging": allowed}
        own |= {"dataset_dir": str(lists["A"].parent), "checkpoint_dir": str(tmp_path / "kept"), "device": "cpu"}
        write_local(tmp_path, "A", "site.yaml", **own)
        end = FlareSite(job.to_dict())
        with at("A"):
            end.start()
            said = Codec().decode(end.receive(Codec().encode(RoundRequest("A", 1, pack_weights(begin)))))
            other = Codec().decode(end.receive(Codec().encode(ScoreRequest("A", pack_weights(begin)))))
        assert isinstance(other, Refusal)
        end.stop()
        if allowed is None:
            assert said == Refusal("A", "it lets no weights out that were trained on its images (allow_averaging)")
    assert packed_digest(said.weights) != packed_digest(pack_weights(begin))
    assert said.num_samples == json.loads((local / "record.json").read_text(encoding="utf-8"))["num_samples"]["A"]


@pytest.mark.federation
def test_processes_of_flare_end_with_the_weights_of_one_process(local, phantom_dir, tmp_path):
    pytest.importorskip("nvflare", reason="the extra `federation` is not installed")
    words = [sys.executable, "-m", "bundle.cli", "federate", "average", *TRAINING, "--dataset_dir", str(phantom_dir)]
    words += ["--run_dir", str(tmp_path), "--device", "cpu", "--threads", "1", *SET]
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    done = subprocess.run(
        words, cwd=tmp_path, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    path = tmp_path / "seed_0" / "fedavg" / "segmenter"
    assert (path / "segmenter.pt").read_bytes() == (local / "segmenter.pt").read_bytes()
    assert "A: state present, answered 2, failures 0" in done.stdout
