"""What the benchmark makes of trainings that were measured, and what it does not measure again."""

import json
import logging
from types import SimpleNamespace

import psutil
import pytest
from small_sites import sites
from torch.utils.tensorboard import SummaryWriter

from bundle.flare import site_clock
from bundle.flare.site_clock import SiteClock
from bundle.site import SiteStore
from scripts.benchmark import __main__ as benchmark
from scripts.benchmark import federation as benchmark_federation
from scripts.benchmark import measured_runs
from scripts.benchmark.federation import needed_memory, overhead, scale_rows
from scripts.benchmark.measured_runs import NotMeasured, Training, Variant, command, least_seconds, read, site_seconds

TRAINING = Training("brats", "demo", "data", steps=6, interval=2)


@pytest.mark.parametrize("text", ["process/2", "simulator/2/1", "simulator/2/1/spin"])
def test_variants_are_what_they_are_called(text):
    assert Variant.parse(text).key == text


@pytest.mark.parametrize("text", ["process", "process/0", "process/2/1", "simulator/2", "simulator/2/1/2", "flare/1/1"])
def test_what_is_no_variant(text, capsys):
    with pytest.raises(SystemExit):
        benchmark.parse_arguments(["federation", "--variants", text])
    assert "expected process/2" in capsys.readouterr().err


def test_a_variant_says_how_many_threads_compute_where(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    words, environment = command(Variant.parse("process/3"), TRAINING, tmp_path)
    assert environment["OMP_NUM_THREADS"] == "3"
    assert words[words.index("--num_steps") + 1] == "6"
    words, environment = command(Variant.parse("simulator/3/1"), TRAINING, tmp_path)
    assert (words[words.index("--server_threads") + 1], words[words.index("--threads") + 1]) == ("3", "1")
    assert "num_steps=6" in words[words.index("--set") :]
    assert not {key for key in environment if "OMP_" in key}
    assert "GOMP_SPINCOUNT" in command(Variant.parse("simulator/3/1/spin"), TRAINING, tmp_path)[1]


def test_a_sites_line_is_read_as_it_is_written(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger=site_clock.__name__)
    (site,) = sites({"A-1": 3}, store=lambda name: SiteStore(tmp_path, interval=1))
    clock = SiteClock()
    for step in range(4):
        with clock.message():
            clock.decoded()
            site.trained = step
            clock.computed(site)
    found = site_seconds(caplog.text, 1)
    assert found.keys() == {"A-1"}
    assert all(0 <= seconds < 60 for seconds in found["A-1"].values())


def lines(site, **seconds):
    """A site's lines of three checkpoints, the first of which is slow."""
    text = "12:00:00 INFO x: site {site} · step {step}: {computing} s computing ({cpu} s of CPU), "
    text += "0.01 s for messages, 1 s waiting a step\n"
    return "".join(
        text.format(site=site, step=step, **{key: value * (9 if step == 2 else 1) for key, value in seconds.items()})
        for step in (2, 4, 6)
    )


def test_medians_leave_out_the_steps_that_warm_up(tmp_path):
    with SummaryWriter(str(tmp_path / "events")) as writer:
        for step in range(1, 7):
            for part, seconds in {"generator": 2.0, "sites": 4.0, "other": 0.5}.items():
                writer.add_scalar(f"seconds/{part}", seconds * (9 if step <= 2 else 1), step)
    wire = {"bytes_to_sites": 700, "bytes_from_sites": 500, "steps": 6}
    (tmp_path / "record.json").write_text(json.dumps({"wire": wire}), encoding="utf-8")
    output = tmp_path / "output.txt"
    output.write_text(lines("A", computing=3.0, cpu=1.0) + lines("B", computing=2.0, cpu=2.0), encoding="utf-8")
    found = read(Variant(2), TRAINING, tmp_path, output)
    assert found == {"step": 6.5, "generator": 2.0, "sites": 4.0, "other": 0.5, "bytes": 200}
    found = read(Variant(2, 1), TRAINING, tmp_path, output)
    assert found["by_site"]["A"] == {"computing": 3.0, "cpu": 1.0, "messages": 0.01, "waiting": 1.0}
    # site B's two seconds are longer than three seconds on as many cores as there are, or on one they are three
    assert found["least"] == max(2.0, 3.0 / measured_runs.cores())
    assert found["not_computing"] == pytest.approx(1 - (2.0 + found["least"]) / 6.5)
    output.write_text("", encoding="utf-8")
    with pytest.raises(NotMeasured, match="no site said"):
        read(Variant(2, 1), TRAINING, tmp_path, output)


def test_the_least_time_is_that_of_all_cores_or_of_the_slowest():
    by_site = {"A": {"cpu": 1.0}, "B": {"cpu": 1.0}, "C": {"cpu": 4.0}}
    assert least_seconds(by_site, threads=1, count=1) == 6.0
    assert least_seconds(by_site, threads=1, count=2) == 4.0
    assert least_seconds(by_site, threads=2, count=2) == 3.0
    assert least_seconds(by_site, threads=8, count=2) == 3.0


def test_a_training_that_fails_is_not_measured(tmp_path, monkeypatch):
    import sys

    monkeypatch.setattr(measured_runs, "SAMPLING", 0.01)
    for words, limits, reason in (
        ("print('no memory'); raise SystemExit(1)", {}, "no memory"),
        ("import time; time.sleep(60)", {"seconds": 0.1}, "not finished after"),
        ("import time; time.sleep(60)", {"free_memory": 2**60}, "of memory were left"),
    ):
        monkeypatch.setattr(measured_runs, "command", lambda *_, words=words: ([sys.executable, "-c", words], None))
        with pytest.raises(NotMeasured, match=reason):
            measured_runs.measure(Variant(1), TRAINING, tmp_path / "run", measured_runs.Limits(**limits))


def test_pages_that_processes_share_are_counted_once_in_the_total():
    class Process:
        pid = 1

        def memory_info(self):
            return SimpleNamespace(rss=9)

        def memory_full_info(self):
            return SimpleNamespace(rss=7, pss=4)

    class Ended(Process):
        def memory_info(self):
            raise psutil.NoSuchProcess(2)

        memory_full_info = memory_info

    memory = measured_runs.Memory()
    for _ in range(3):
        memory.look([Process(), Ended(), Process()])
    assert (memory.total, memory.by_process) == (8, {1: 9})


# results


def run(step, cpu=None, total=10):
    found = {"step": step, "generator": 1.0, "sites": step - 1.0, "other": 0.0, "bytes": 5}
    found |= {"memory": {"server": 2, "total": total}, "start_seconds": 3.0}
    if cpu is not None:
        site = {"computing": cpu, "cpu": cpu, "messages": 0.0, "waiting": 0.0}
        found |= {"by_site": {"A": site}, "least": cpu, "not_computing": 1 - (1 + cpu) / step}
    return found


@pytest.fixture
def measured(monkeypatch):
    """Variants that were measured, in order; each takes a step of 2 s in one process and of 3 s in the simulator."""
    asked = []

    def measure(one, training, run_dir, limits):
        asked.append((one.key, training.dataset_dir))
        return run(2.0) if one.site_threads is None else run(3.0, 1.0)

    monkeypatch.setattr(benchmark_federation, "measure", measure)
    monkeypatch.setattr(benchmark_federation, "phantoms", lambda folder, sites, size: f"{sites} sites")
    return asked


def test_variants_take_turns_and_nothing_is_measured_twice(tmp_path, measured, capsys):
    words = ["federation", "--output", str(tmp_path), "--variants", "process/2", "simulator/2/1", "--dataset_dir", "d"]
    assert benchmark.main([*words, "--repeats", "1"]) == 0
    assert benchmark.main([*words, "--repeats", "2"]) == 0
    assert [key for key, _ in measured] == ["process/2", "simulator/2/1"] * 2
    table = capsys.readouterr().out.splitlines()
    cells = [cell.strip() for cell in table[-1].strip("|").split("|")]
    assert cells[1:4] == ["3.000", "3.000 3.000", "1.50"]
    assert cells[-2:] == ["1.000", "33.3%"]
    assert str(tmp_path) not in (tmp_path / "results.json").read_text(encoding="utf-8")
    # what was measured with other options is not mixed with these
    assert benchmark.main([*words, "--steps", "30"]) == 2
    assert "other steps" in capsys.readouterr().err


def test_what_the_budget_leaves_out_is_measured_by_the_next_call(tmp_path, measured, capsys):
    words = ["federation", "--output", str(tmp_path), "--repeats", "1", "--variants", "process/2", "simulator/2/1"]
    assert benchmark.main([*words, "--budget", "-1"]) == 1
    assert not measured
    assert "goes on" in capsys.readouterr().err
    assert benchmark.main(words) == 0
    assert len(measured) == 2


def test_a_scale_ends_where_the_memory_does(tmp_path, measured, monkeypatch, capsys):
    free = SimpleNamespace(available=20 * 2**30)
    monkeypatch.setattr(benchmark_federation.psutil, "virtual_memory", lambda: free)
    words = ["scale", "--output", str(tmp_path), "--sites", "8", "4", "64", "--variants", "process/2", "simulator/2/1"]
    monkeypatch.setattr(benchmark_federation, "needed_memory", lambda runs, sites: sites * 2**30)
    assert benchmark.main(words) == 1
    assert [data for _, data in measured] == ["4 sites"] * 2 + ["8 sites"] * 2
    captured = capsys.readouterr()
    assert "64 sites: about 64.0 GiB are needed" in captured.err
    assert captured.out.count("| 8 |") == 2
    assert (tmp_path / "scale.png").stat().st_size > 1000
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["overhead"]["seconds_per_call"] == 0


def test_memory_grows_with_the_sites():
    runs = {
        "4 process/2": run(1.0, total=100),
        "4 simulator/2/1": run(1.0, 0.5, total=10),
        "8 simulator/2/1": run(1.0, 0.5, total=16),
    }
    assert needed_memory(runs, 16) == 32
    assert needed_memory(runs, 4) == 16
    assert needed_memory({}, 4) == 6 * benchmark_federation.SITE_GUESS


def test_the_cost_of_a_call_is_the_slope_over_the_sites():
    # 0.1 s of a step and 0.02 s of a site on top of what computing takes
    runs = {f"{n} simulator/2/1": run(1.0 + 0.3 * n + 0.1 + 0.02 * n, 0.3 * n) for n in (4, 8, 16)}
    assert overhead(scale_rows(runs | {"4 process/2": run(2.0)})) == {"seconds_per_call": 0.02, "seconds_per_step": 0.1}
    assert overhead(scale_rows({"4 simulator/2/1": run(2.0, 0.5)})) == {}
