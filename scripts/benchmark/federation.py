"""The parts `federation` and `scale` of the benchmark: a step behind FLARE's simulator, and with more sites.

Every training runs in processes of its own (measured_runs.py). Results are written as they come; what is there
already is not measured again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from scripts.benchmark.measured_runs import Limits, NotMeasured, Training, Variant, cores, measure

ROOT = Path(__file__).resolve().parents[2]
GIB = 2**30
CASES = 4
"""Different ones that are made at most."""
SITE_GUESS = 0.5 * GIB
"""Of a site's process, before one has been measured."""


def variant(text: str) -> Variant:
    try:
        return Variant.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_arguments(federation: argparse.ArgumentParser, scale: argparse.ArgumentParser) -> None:
    count = cores()
    for one in (federation, scale):
        one.add_argument("--task", default="brats", help="configs/TASK.yaml (default brats)")
        one.add_argument("--steps", type=int, default=60, help="of every training (default 60)")
        one.add_argument(
            "--interval", type=int, default=10, help="steps between two checkpoints; so many warm up (default 10)"
        )
        one.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="config keys, such as batch_size=2")
        one.add_argument(
            "--variants",
            nargs="+",
            type=variant,
            default=[Variant(count), Variant(count, 1)],
            metavar="VARIANT",
            help="process/THREADS, simulator/THREADS OF THE SERVER/THREADS OF A SITE, or that with /spin; the first is "
            f"what the others are compared with (default process/{count} simulator/{count}/1)",
        )
        one.add_argument("--budget", type=float, default=450, help="seconds in which it is to end (default 450)")
        one.add_argument("--limit", type=float, default=420, help="seconds that a training may take (default 420)")
        one.add_argument("--free_memory", type=float, default=1.5, help="GiB that are left free (default 1.5)")
    federation.add_argument("--dataset_dir", help="folder of datalist.json (default: phantoms of four sites)")
    federation.add_argument("--profile", default="small", help="configs/PROFILE.yaml (default small)")
    federation.add_argument("--repeats", type=int, default=3, help="trainings of each variant, in turn (default 3)")
    federation.add_argument("--output", type=Path, default=ROOT / "runs/benchmark/federation", help="folder")
    scale.add_argument("--sites", nargs="+", type=int, default=[4, 8, 16, 32], help="how many (default 4 8 16 32)")
    scale.add_argument(
        "--sites_per_step", type=int, metavar="K", help="how many of the sites a step asks (default all of them)"
    )
    scale.add_argument("--profile", default="demo", help="configs/PROFILE.yaml (default demo)")
    scale.add_argument("--output", type=Path, default=ROOT / "runs/benchmark/scale", help="folder")


class Results:
    """
    ``results.json`` of a folder: what was measured with which options, by key.

    Args:
        folder: made when needed.
        options: what all measurements have in common.

    Raises:
        ValueError: when the folder holds measurements with other options.
    """

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        self.path = folder / "results.json"
        self.begun = time.monotonic()
        self.longest = 0.0  # training of this call, in seconds
        self.content: dict[str, Any] = {"options": options, "runs": {}}
        if self.path.is_file():
            before = json.loads(self.path.read_text(encoding="utf-8"))
            if before["options"] != options:
                changed = [key for key in options if before["options"].get(key) != options[key]]
                raise ValueError(f"{self.path} was measured with other {', '.join(changed)}: choose another --output")
            self.content["runs"] = before["runs"]

    @property
    def runs(self) -> dict[str, dict[str, Any]]:
        return self.content["runs"]

    def add(self, key: str, result: dict[str, Any]) -> None:
        self.runs[key] = result
        self.write()

    def write(self, **more: Any) -> None:
        from bundle.files import write_json

        write_json(self.path, self.content | more)


def common(options: argparse.Namespace) -> dict[str, Any]:
    keys = ("task", "profile", "steps", "interval", "set")
    data = getattr(options, "dataset_dir", None)
    # the name of a folder, not where it is
    about = {"data": Path(data).name if data else "phantoms", "cores": cores()}
    # without importing them: this process waits beside those that it measures
    return {key: getattr(options, key) for key in keys} | about | {name: version(name) for name in ("torch", "nvflare")}


def phantoms(folder: Path, sites: int, size: int) -> str:
    """
    Data of so many sites with a case each, made unless it is there; returns its folder. Sites beyond the first
    :data:`CASES` have the cases of others: what a step costs does not depend on them.
    """
    data, source = folder.resolve() / "data", folder.resolve() / "phantoms"
    if not (data / "datalist.json").is_file():
        names = [f"S{number:02d}" for number in range(1, min(sites, CASES) + 1)]
        make = ["phantoms", "brains", str(source), "--cases_per_site", "1", "--test_cases_per_site", "0"]
        make += ["--sites", *names, "--size", str(size), str(size), str(size // 4)]
        prepare = ["prepare", "brats", str(source), "--output", str(data), "--modalities", "flair"]
        prepare += ["--sites", "table", "--table", str(source / "cases.csv")]
        for words in (make, prepare):
            command = [sys.executable, "-m", "bundle.cli", *words]
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _share(data / "datalist.json", sites)
    return str(data.resolve())


def _share(path: Path, sites: int) -> None:
    """Give a data list so many sites with a case each, of the cases that are in it."""
    content = json.loads(path.read_text(encoding="utf-8"))
    cases = content["training"]
    content["training"] = [
        cases[number % len(cases)]
        | {"site": f"S{number + 1:02d}"}
        | dict.fromkeys(("case", "patient"), f"case_{number}")
        for number in range(sites)
    ]
    content["numTraining"] = sites
    path.write_text(json.dumps(content), encoding="utf-8")


def training(options: argparse.Namespace, dataset_dir: str) -> Training:
    return Training(options.task, options.profile, dataset_dir, options.steps, options.interval, tuple(options.set))


def measure_missing(options: argparse.Namespace, results: Results, wanted: list[tuple[str, Any]], data: Any) -> bool:
    """
    Measure what is not there, in order.

    Args:
        options: of the command.
        results: where to.
        wanted: key and variant.
        data: from a key to the folder of its data.

    Returns:
        Whether all is measured; what is missing is said.
    """
    limits = Limits(options.limit, options.free_memory * GIB)
    for key, one in wanted:
        if key in results.runs:
            continue
        if time.monotonic() - results.begun + results.longest > options.budget:
            print("not all is measured yet: the same command goes on", file=sys.stderr)
            return False
        print(f"{key}: {one.title} …", file=sys.stderr, flush=True)
        begun = time.monotonic()
        try:
            result = measure(one, training(options, data(key)), options.output / "run", limits)
        except NotMeasured as error:
            print(error, file=sys.stderr)
            return False
        results.longest = max(results.longest, time.monotonic() - begun)
        print(f"    {result['step']:.3f} s a step", file=sys.stderr, flush=True)
        results.add(key, result)
    return True


def federation(options: argparse.Namespace) -> int:
    """A training in one process and in the simulator, in turn."""
    results = Results(options.output, common(options))
    data = options.dataset_dir or phantoms(options.output, 4, 64)
    wanted = [(f"{one.key} #{repeat}", one) for repeat in range(1, options.repeats + 1) for one in options.variants]
    done = measure_missing(options, results, wanted, lambda key: str(Path(data).resolve()))
    summary = [summarize(one, results.runs) for one in options.variants if f"{one.key} #1" in results.runs]
    results.write(summary=summary)
    print(federation_table(summary))
    return 0 if done else 1


def summarize(one: Variant, runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Medians over the repeats of a variant; ``each`` has the steps of all."""
    found = [run for key, run in runs.items() if key.split(" #")[0] == one.key]
    keys = [key for key in ("step", "generator", "sites", "other", "least", "not_computing") if key in found[0]]
    middle = {key: statistics.median(run[key] for run in found) for key in keys}
    if "by_site" in found[0]:
        slowest = [max(about["computing"] for about in run["by_site"].values()) for run in found]
        messages = [max(about["messages"] for about in run["by_site"].values()) for run in found]
        middle |= {"slowest_site": statistics.median(slowest), "site_messages": statistics.median(messages)}
    each = [run["step"] for run in found]
    return {"variant": one.key, "title": one.title, "each": each, "bytes": found[0]["bytes"]} | middle


def federation_table(summary: list[dict[str, Any]]) -> str:
    """In Markdown; seconds of a step, the first line is what the others are compared with."""
    lines = [
        "| | s a step | each | of the first | G | waiting for sites | other | slowest site computing | not computing |",
        "| --- | ---: | --- |" + " ---: |" * 6,
    ]
    for one in summary:
        cells = [one["title"], f"{one['step']:.3f}", " ".join(f"{step:.3f}" for step in one["each"])]
        cells += [f"{one['step'] / summary[0]['step']:.2f}"]
        cells += [f"{one[key]:.3f}" for key in ("generator", "sites", "other")]
        cells += [f"{one['slowest_site']:.3f}" if "slowest_site" in one else ""]
        cells += [f"{one['not_computing']:.1%}" if "not_computing" in one else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def scale(options: argparse.Namespace) -> int:
    """A training of ever more sites, in one process and in the simulator."""
    if options.sites_per_step is not None:
        options.set = [*options.set, f"sites_per_step={options.sites_per_step}"]
    results = Results(options.output, common(options))
    done = True
    for sites in sorted(options.sites):
        wanted = [(f"{sites} {one.key}", one) for one in options.variants]
        needed, free = needed_memory(results.runs, sites), psutil.virtual_memory().available
        missing = [one for key, one in wanted if key not in results.runs and one.site_threads is not None]
        if missing and needed + options.free_memory * GIB > free:
            print(f"{sites} sites: about {needed / GIB:.1f} GiB are needed, {free / GIB:.1f} are free", file=sys.stderr)
            done = False
            break
        data = phantoms(options.output / f"sites_{sites}", sites, 64)
        if not measure_missing(options, results, wanted, lambda key, data=data: data):
            done = False
            break
    rows = scale_rows(results.runs)
    results.write(rows=rows, overhead=overhead(rows))
    print(scale_table(rows))
    if rows:
        print(f"\n{json.dumps(overhead(rows))}")
        draw(rows, options.output / "scale.png")
    return 0 if done else 1


def scale_rows(runs: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """By sites and variant."""
    rows = []
    for key, run in runs.items():
        sites, name = key.split(" ", 1)
        kept = {part: run[part] for part in ("step", "generator", "sites", "other", "least", "bytes") if part in run}
        kept |= {"seconds_at_sites": kept.pop("sites"), "memory": run["memory"], "start_seconds": run["start_seconds"]}
        rows.append({"sites": int(sites), "variant": name} | kept)
    return sorted(rows, key=lambda row: (row["variant"], row["sites"]))


def overhead(rows: list[dict[str, Any]]) -> dict[str, float]:
    """
    What the server waits for sites beyond the least time in which they can compute, as a line over the number of
    sites (least squares): all of FLARE's and the messages' cost at both ends, on cores that they share.

    Returns:
        ``seconds_per_call`` (its slope: a site is called once a step) and ``seconds_per_step`` (at no site); empty with
        fewer than two numbers of sites.
    """
    found = {row["sites"]: row["seconds_at_sites"] - row["least"] for row in rows if "least" in row}
    if len(found) < 2:
        return {}
    slope, start = np.polyfit(list(found), list(found.values()), 1)
    return {"seconds_per_call": round(float(slope), 5), "seconds_per_step": round(float(start), 5)}


def needed_memory(runs: dict[str, dict[str, Any]], sites: int) -> float:
    """Bytes that so many sites' processes will take at their peak, by the largest federation measured so far."""
    known = [(int(key.split(" ")[0]), run["memory"]["total"]) for key, run in runs.items() if "by_site" in run]
    if not known:
        return (sites + 2) * SITE_GUESS
    count, total = max(known)
    return total * max(1.0, sites / count)


def scale_table(rows: list[dict[str, Any]]) -> str:
    """In Markdown."""
    lines = [
        "| sites | | s a step | G | sites | least for computing | start, s | server, GiB | all, GiB |",
        "| ---: | --- |" + " ---: |" * 7,
    ]
    for row in sorted(rows, key=lambda row: (row["sites"], row["variant"])):
        cells = [str(row["sites"]), Variant.parse(row["variant"]).title]
        cells += [f"{row[key]:.3f}" for key in ("step", "generator", "seconds_at_sites")]
        cells += [f"{row['least']:.3f}" if "least" in row else "", f"{row['start_seconds']:.0f}"]
        cells += [f"{row['memory'][key] / GIB:.2f}" for key in ("server", "total")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Seconds of a step, and memory, over the number of sites."""
    from matplotlib.figure import Figure

    from bundle.files import atomic_path
    from bundle.report.drawing import PALETTE

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    for colour, name in zip(PALETTE, dict.fromkeys(row["variant"] for row in rows), strict=False):
        mine = [row for row in rows if row["variant"] == name]
        sites, title = [row["sites"] for row in mine], Variant.parse(name).title
        time_axes.plot(sites, [row["step"] for row in mine], "o-", color=colour, label=title)
        for key, style, what in (("total", "o-", "all processes"), ("server", "s--", "the server's")):
            if key == "total" or Variant.parse(name).site_threads is not None:
                values = [row["memory"][key] / GIB for row in mine]
                memory_axes.plot(sites, values, style, color=colour, label=f"{title.split(':')[0]}, {what}")
    time_axes.set_ylabel("seconds a step")
    memory_axes.set_ylabel("peak memory, GiB")
    for axes in (time_axes, memory_axes):
        axes.set_xlabel("sites")
        axes.set_xticks(sorted({row["sites"] for row in rows}))
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
