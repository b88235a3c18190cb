"""
Segmenters scored at the sites: the numbers of ``asyndgan evaluate``, in one process, at a site's end of FLARE's road,
and in its simulator, where a process stands for each site. With certificates it is slower (make test-federation).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from stages import STAGES

from bundle import __version__
from bundle.cli.main import main
from bundle.data import load_datalist, write_site_lists
from bundle.declarations.job import SITE_KEYS, Job, JobError, read_local
from bundle.installation import config_dir
from bundle.phantoms.brains import write_brats_phantoms
from bundle.prepare.preparation import PrepareOptions, prepare
from bundle.site.release import verify
from bundle.wire import Codec
from bundle.wire.messages import OpenRequest, Refusal, ScoreRequest, Scores
from bundle.wire.weights import pack_weights

ROOT = Path(__file__).resolve().parents[2]
SITES = ("A", "B")
SIZES = {"image_size": 32, "segmenter_channels": [4, 8]}
BUDGET = {"segmenter_batch_size": 2, "segmenter_steps": 4, "segmenter_epoch_length": 2}
SETTINGS = ("real_all", "real_subset/A", "real_subset/B")
WORDS = ["--task", "brats", "--profile", "demo", "--device", "cpu", "--threads", "1", "--set"]
WORDS += [f"{key}={json.dumps(value)}" for key, value in SIZES.items()]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two sites with two held-out cases each."""
    folder = tmp_path_factory.mktemp("scored")
    table = write_brats_phantoms(folder, SITES, cases_per_site=1, test_cases_per_site=2, shape=(32, 32, 8))
    prepare(PrepareOptions("brats", folder, folder, sites="table", table=table, modalities=("flair",), name="phantoms"))
    return folder


@pytest.fixture(scope="module")
def run_dir(data, tmp_path_factory):
    """A run with segmenters of three settings, each evaluated."""
    folder = tmp_path_factory.mktemp("run")
    for setting in SETTINGS:
        for stage in ("segment", "evaluate"):
            files = [str(config_dir() / f"{name}.yaml") for name in (stage, "brats", "demo")]
            given = {"dataset_dir": str(data), "run_dir": str(folder), "setting": setting, "device": "cpu"}
            workflow = STAGES[stage](config_file=files, **given, **SIZES, **BUDGET)
            workflow.initialize()
            workflow.run()
            workflow.finalize()
    return folder


def evaluate(data, run_dir, *words):
    words = ["federate", "evaluate", *WORDS, "--dataset_dir", str(data), "--run_dir", str(run_dir), *words]
    assert main(words) == 0
    return read(run_dir)


def read(run_dir):
    return json.loads((run_dir / "federated_evaluation.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def scored(data, run_dir):
    """What one process says."""
    return evaluate(data, run_dir, "--min_cases", "2", "--per_case")


def test_every_case_has_the_bits_of_its_evaluation(scored, data, run_dir):
    test = load_datalist(data).test
    assert list(scored["segmenters"]) == list(SETTINGS)
    for setting, found in scored["segmenters"].items():
        path = run_dir / "seed_0" / setting / "evaluation" / "metrics.json"
        metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
        assert found["pooled"]["dice"]["mean"] == pytest.approx(metrics["dice"]["mean"], abs=1e-15)
        assert found["failures"] == {}
        for site in SITES:
            cases = [item["case"] for item in test if item["site"] == site]
            for name, values in found["per_case"][site].items():
                assert values == [metrics[name]["per_case"][case] for case in cases]
                own = [value for value in values if value is not None]
                assert found["sites"][site][name]["sum"] == sum(own)
                assert found["sites"][site][name]["count"] == len(own)
            assert {"dice", "hd95"} <= found["sites"][site].keys()


def test_the_matrix_is_shown_and_every_site_keeps_a_ledger(data, run_dir, capsys, scored):
    evaluate(data, run_dir, "--min_cases", "2", "--metric", "dice", "hd95")
    out = capsys.readouterr().out
    assert "trained at / scored at  A" in out
    assert out.index("\ndice\n") < out.index("\nhd95\n")
    for site in SITES:
        assert verify(run_dir / "federated_evaluation" / "releases" / f"{site}.jsonl").whole
        lines = (run_dir / "federated_evaluation" / "releases" / f"{site}.jsonl").read_text(encoding="utf-8")
        last = json.loads(lines.splitlines()[-1])
        assert (last["kind"], last["cases"]) == ("scores", 2)
        assert last["weights"] == read(run_dir)["segmenters"][SETTINGS[-1]]["weights"]
    evaluate(data, run_dir, "--min_cases", "2", "--per_case")


def test_below_min_cases_there_is_a_refusal(data, run_dir, tmp_path, capsys):
    file = run_dir / "seed_0" / "real_all" / "segmenter" / "segmenter.pt"
    results = evaluate(data, tmp_path, "--segmenter", f"mine={file}")
    said = "refused: too few held-out cases to let scores of them out (min_cases)"
    assert results["segmenters"]["mine"]["failures"] == dict.fromkeys(SITES, said)
    assert results["segmenters"]["mine"]["sites"] == results["segmenters"]["mine"]["pooled"] == {}
    assert f"A, mine: {said}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--metric", "age"], "unknown metric 'age', expected some of dice, sensitivity, specificity, hd95"),
        (["--seed", "7"], "seed_7: expected segmenters of a run"),
        (["--startup_kit", "kit", "--min_cases", "1"], "are for sites of this machine"),
    ],
)
def test_what_is_refused_before_anything_is_scored(data, run_dir, scored, words, reason, capsys):
    before = read(run_dir)
    words = ["federate", "evaluate", *WORDS, "--dataset_dir", str(data), "--run_dir", str(run_dir), *words]
    assert main(words) == 2
    assert reason in capsys.readouterr().err
    assert read(run_dir) == before


def test_a_job_cannot_say_what_a_site_lets_out():
    files = ["score.yaml", "brats.yaml", "demo.yaml"]
    assert Job.make(files, {"image_size": 32}, config_dir(), __version__).stage == "score"
    for key, value in {"min_cases": 1, "per_case": True, "release_policy": "published", "device": "cpu"}.items():
        with pytest.raises(JobError, match=f"override {key}: each participant sets it in its own file"):
            Job.make(files, {key: value}, config_dir(), __version__)
    for wrong in ([*files, "flare.yaml"], ["evaluate.yaml", *files[1:]], [files[1], files[0]], ["score.yaml"]):
        with pytest.raises(JobError, match="configs: expected"):
            Job.make(wrong, {}, config_dir(), __version__)


@pytest.mark.parametrize(("key", "value"), [("min_cases", 0), ("min_cases", True), ("per_case", "yes")])
def test_a_site_says_it_in_words_that_can_be(key, value, tmp_path):
    (tmp_path / "site.yaml").write_text(f"{key}: {json.dumps(value)}\n", encoding="utf-8")
    with pytest.raises(JobError, match=rf"site\.yaml: {key}: expected"):
        read_local(tmp_path / "site.yaml", SITE_KEYS)


# FLARE's two ends, without FLARE


def flare_end(monkeypatch, data, folder, site, overrides=None, **own):
    pytest.importorskip("nvflare", reason="the extra `federation` is not installed")
    from wired_sites import Collab, at, see, write_local

    from bundle.flare.participant import LOCAL_FILES
    from bundle.flare.site import FlareSite

    see(monkeypatch, Collab())
    monkeypatch.setenv(LOCAL_FILES, str(folder))
    lists = write_site_lists(load_datalist(data), folder / "lists", held_out=True)
    own = {"dataset_dir": str(lists[site].parent), "checkpoint_dir": str(folder / "kept"), "device": "cpu", **own}
    write_local(folder, site, "site.yaml", **own)
    job = Job.make(["score.yaml", "brats.yaml", "demo.yaml"], SIZES | (overrides or {}), config_dir(), __version__)
    end = FlareSite(job.to_dict())
    with at(site):
        end.start()

    def ask(message, caller="server"):
        with at(site, caller):
            return Codec().decode(end.receive(Codec().encode(message)))

    return end, ask


def weights(run_dir, setting="real_all"):
    file = run_dir / "seed_0" / setting / "segmenter" / "segmenter.pt"
    return pack_weights(torch.load(file, map_location="cpu", weights_only=True))


def test_a_site_answers_the_server_with_what_one_process_says(monkeypatch, data, run_dir, scored, tmp_path):
    end, ask = flare_end(monkeypatch, data, tmp_path, "A", min_cases=2)
    said = ask(ScoreRequest("A", weights(run_dir)))
    assert isinstance(said, Scores)
    found = scored["segmenters"]["real_all"]["sites"]["A"]
    assert {name: {"count": said.counts[name], "sum": said.sums[name]} for name in said.counts} == {
        name: {"count": sums["count"], "sum": sums["sum"]} for name, sums in found.items()
    }
    assert said.values.numel() == 0
    with pytest.raises(ValueError, match="another type of message"):
        Codec().decode(Codec().encode(OpenRequest("A", 1)), end._limits)
    for message, caller in (
        (ScoreRequest("A", weights(run_dir)), "B"),
        (ScoreRequest("B", weights(run_dir)), "server"),
    ):
        assert isinstance(ask(message, caller), Refusal)
    end.stop()
    assert (tmp_path / "kept" / "releases" / "A.jsonl").is_file()


def test_a_site_that_says_nothing_of_it_wants_five_cases(monkeypatch, data, run_dir, tmp_path):
    end, ask = flare_end(monkeypatch, data, tmp_path, "A")
    refusal = ask(ScoreRequest("A", weights(run_dir)))
    assert refusal == Refusal("A", "too few held-out cases to let scores of them out (min_cases)")
    end.stop()


def test_a_site_without_held_out_cases_refuses_in_the_same_words(monkeypatch, data, run_dir, tmp_path):
    end, ask = flare_end(monkeypatch, data, tmp_path, "A", min_cases=1)
    end.stop()
    listed = tmp_path / "lists" / "A" / "datalist.json"
    content = json.loads(listed.read_text(encoding="utf-8"))
    listed.write_text(json.dumps(content | {"test": [], "numTest": 0}), encoding="utf-8")
    end._site = None
    assert ask(ScoreRequest("A", weights(run_dir))) == Refusal(
        "A", "too few held-out cases to let scores of them out (min_cases)"
    )
    end.stop()


def test_a_site_whose_image_cannot_be_read_says_no_more_than_that(monkeypatch, data, run_dir, tmp_path):
    end, ask = flare_end(monkeypatch, data, tmp_path, "A", min_cases=1)
    item = next(item for item in load_datalist(data).test if item["site"] == "A")
    image = Path(item["image"][0] if isinstance(item["image"], list) else item["image"])
    kept = image.read_bytes()
    try:
        image.write_bytes(kept[:100])
        refusal = ask(ScoreRequest("A", weights(run_dir)))
    finally:
        image.write_bytes(kept)
    assert refusal == Refusal("A", "ScoreRequest: see the site's log")
    assert isinstance(ask(ScoreRequest("A", weights(run_dir))), Scores)
    end.stop()


def test_weights_that_are_none_are_refused_in_words(monkeypatch, data, run_dir, tmp_path):
    end, ask = flare_end(monkeypatch, data, tmp_path, "A", min_cases=1)
    assert "expected a safetensors file" in ask(ScoreRequest("A", torch.arange(200, dtype=torch.uint8))).reason
    other = pack_weights({"w": torch.ones(3)})
    assert "weights of another network" in ask(ScoreRequest("A", other)).reason
    assert ask(ScoreRequest("A", torch.zeros(2**22, dtype=torch.uint8) + 2)).reason == "the message could not be read"
    end.stop()


# FLARE's processes


@pytest.mark.parametrize(
    "over",
    [pytest.param("simulator", marks=pytest.mark.long), pytest.param("poc", marks=pytest.mark.federation)],
)
def test_processes_of_flare_say_what_one_process_says(over, data, run_dir, scored, tmp_path):
    pytest.importorskip("nvflare", reason="the extra `federation` is not installed")
    segmenters = [f"{name}={run_dir / 'seed_0' / name / 'segmenter' / 'segmenter.pt'}" for name in SETTINGS]
    words = [sys.executable, "-m", "bundle.cli", "federate", "evaluate", *WORDS, "--dataset_dir", str(data)]
    words += ["--run_dir", str(tmp_path), "--segmenter", *segmenters, "--min_cases", "2", "--per_case", "--over", over]
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    done = subprocess.run(
        words, cwd=tmp_path, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert read(tmp_path) == scored
    assert "real_subset/A" in done.stdout
    assert list((tmp_path / "federated_evaluation").rglob("*.nii.gz")) == []
