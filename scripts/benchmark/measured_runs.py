"""Short trainings in processes of their own, as users start them, and what they took: for the benchmark."""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bundle.composition import stage_files

ROOT = Path(__file__).resolve().parents[2]
# what bundle.flare.site_clock writes into a site's log
SITE_LINE = re.compile(
    r"site (?P<site>\S+) · step (?P<step>\d+): (?P<computing>\S+) s computing \((?P<cpu>\S+) s of CPU\), "
    r"(?P<messages>\S+) s for messages, (?P<waiting>\S+) s waiting a step"
)
SAMPLING = 1.0
"""Seconds between two looks at the processes."""
LOOKS_PER_TOTAL = 10
"""Every so many looks the memory of all is added up: the kernel goes through all their pages for it, on these cores."""
LIBGOMP_SPINS = "300000"
"""What libgomp does before a thread sleeps unless it is told: https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html"""


class NotMeasured(RuntimeError):
    """A training that did not finish; the message says why."""


@dataclass(frozen=True)
class Variant:
    """
    Where a training computes.

    Args:
        server_threads: of the process that holds G; of the only one without ``site_threads``.
        site_threads: of the process of every site in FLARE's simulator; None for all sites in one process.
        spin: whether OpenMP's threads spin before they sleep, as is libgomp's default and not that of
            ``asyndgan federate``.
    """

    server_threads: int
    site_threads: int | None = None
    spin: bool = False

    @classmethod
    def parse(cls, text: str) -> Variant:
        """``process/THREADS``, ``simulator/THREADS OF THE SERVER/THREADS OF A SITE`` or that with ``/spin``."""
        match = re.fullmatch(r"process/([1-9]\d*)|simulator/([1-9]\d*)/([1-9]\d*)(/spin)?", text)
        if match is None:
            raise ValueError(
                f"{text!r}: expected process/2, simulator/2/1 or simulator/2/1/spin, with numbers of threads"
            )
        alone, server, site, spin = match.groups()
        return cls(int(alone)) if alone else cls(int(server), int(site), bool(spin))

    @property
    def key(self) -> str:
        if self.site_threads is None:
            return f"process/{self.server_threads}"
        return f"simulator/{self.server_threads}/{self.site_threads}" + "/spin" * self.spin

    @property
    def title(self) -> str:
        def threads(count: int) -> str:
            return f"{count} thread{'s' * (count > 1)}"

        if self.site_threads is None:
            return f"one process, {threads(self.server_threads)}"
        text = f"simulator: server {threads(self.server_threads)}, each site {threads(self.site_threads)}"
        return text + ", spinning" * self.spin


@dataclass(frozen=True)
class Training:
    """
    What is trained.

    Args:
        task: of ``configs/``.
        profile: of ``configs/``.
        dataset_dir: folder of its ``datalist.json``.
        steps: how many.
        interval: steps between two checkpoints, after each of which the sites say what their steps took. Those up to
            the first checkpoint are for warming up.
        overrides: ``KEY=VALUE`` of the configs.
    """

    task: str
    profile: str
    dataset_dir: str
    steps: int
    interval: int
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.interval < 1 or self.steps < 2 * self.interval:
            raise ValueError(f"steps: expected at least 2 intervals of {self.interval}, got {self.steps}")


@dataclass
class Limits:
    """
    Of a training's processes.

    Args:
        seconds: after which they are ended.
        free_memory: bytes that the machine must have left, or they are ended.
    """

    seconds: float = 420.0
    free_memory: float = 1.5 * 2**30


@dataclass
class Memory:
    """Peaks in bytes."""

    total: int = 0
    """Of all processes together; pages that several of them share are counted once."""
    by_process: dict[int, int] = field(default_factory=dict)
    """Resident, by process id; shared pages are counted in each."""
    looks: int = 0

    def look(self, processes: list[psutil.Process]) -> None:
        adding_up = self.looks % LOOKS_PER_TOTAL == 0
        self.looks += 1
        total = 0
        for process in processes:
            try:
                about = process.memory_full_info() if adding_up else process.memory_info()
            except psutil.Error:
                continue  # it has ended
            total += getattr(about, "pss", about.rss) if adding_up else 0
            self.by_process[process.pid] = max(about.rss, self.by_process.get(process.pid, 0))
        self.total = max(self.total, total)


POLICY = "guarded"
"""Of every site: one discriminator each, and no teachers before the first step."""


def command(variant: Variant, training: Training, run_dir: Path) -> tuple[list[str], dict[str, str]]:
    """What to start, and its environment."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    environment["PYTHONWARNINGS"] = "ignore"
    sizes = [f"num_steps={training.steps}", f"epoch_length={training.interval}", *training.overrides]
    if variant.site_threads is None:
        words = [sys.executable, "-m", "monai.bundle", "run"]
        words += ["--workflow_name", "bundle.workflows.DistributedGANWorkflow"]
        words += ["--config_file", str(stage_files("train", training.task, training.profile))]
        words += ["--dataset_dir", training.dataset_dir, "--run_dir", str(run_dir), "--release_policy", POLICY]
        words += [word for pair in sizes for word in (f"--{pair.split('=', 1)[0]}", pair.split("=", 1)[1])]
        return words, environment | {"OMP_NUM_THREADS": str(variant.server_threads)}
    if variant.spin:
        environment["GOMP_SPINCOUNT"] = LIBGOMP_SPINS
    words = [sys.executable, "-m", "bundle.cli", "federate", "simulate"]
    words += ["--task", training.task, "--profile", training.profile]
    words += ["--dataset_dir", training.dataset_dir, "--run_dir", str(run_dir), "--release_policy", POLICY]
    words += ["--server_threads", str(variant.server_threads), "--threads", str(variant.site_threads)]
    return [*words, "--set", *sizes], environment


def measure(variant: Variant, training: Training, run_dir: Path, limits: Limits) -> dict[str, Any]:
    """
    Run a training and measure it.

    Args:
        variant: where.
        training: what.
        run_dir: an older run there is deleted; this one is kept when it fails.
        limits: beyond which it is ended.

    Returns:
        What :func:`read` returns, and ``memory``: ``server`` (resident) and ``total``, peaks in bytes, and
        ``start_seconds``, from the start to the first step.

    Raises:
        NotMeasured: the training failed or went beyond the limits.
    """
    shutil.rmtree(run_dir, ignore_errors=True)
    run_dir.mkdir(parents=True)
    output = run_dir / "output.txt"
    words, environment = command(variant, training, run_dir.resolve())
    memory, started, reason = Memory(), time.time(), None
    with output.open("w", encoding="utf-8") as file:
        process = psutil.Popen(words, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None and reason is None:
                memory.look([process, *process.children(recursive=True)])
                if psutil.virtual_memory().available < limits.free_memory:
                    reason = f"less than {limits.free_memory / 2**30:.1f} GiB of memory were left"
                elif time.time() - started > limits.seconds:
                    reason = f"it was not finished after {limits.seconds:.0f} s"
                time.sleep(SAMPLING)
        finally:
            end(process)
    results = run_dir / "seed_0" / "asyndgan" / "gan"
    if reason or not (results / "record.json").is_file():
        tail = output.read_text(encoding="utf-8", errors="replace")[-1500:]
        raise NotMeasured(f"{variant.title}: {reason or 'the training failed'}; {output} ends with:\n{tail}")
    events = next((results / "events").glob("*tfevents*"))
    # events.out.tfevents.TIME.HOST.PID.NUMBER
    server = int(events.name.rsplit(".", 2)[1])
    resident = memory.by_process.get(server, 0)
    peaks = {"server": resident, "total": max(memory.total, resident)}
    first = int(events.name.split("tfevents.")[1].split(".")[0]) - started
    return read(variant, training, results, output) | {"memory": peaks, "start_seconds": round(first, 1)}


def end(process: psutil.Popen) -> None:
    """Kill what is left of a training, with all that it started."""
    if process.poll() is not None:
        return
    family = process.children(recursive=True)
    for each in (process, *family):
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs([process, *family], timeout=30)


def read(variant: Variant, training: Training, results: Path, output: Path) -> dict[str, Any]:
    """
    What the steps after the first checkpoint took.

    Args:
        variant: where the training ran.
        training: what it was.
        results: folder of its ``record.json``.
        output: what its processes said.

    Returns:
        Medians in seconds: ``step``; ``generator``, ``sites`` and ``other`` of the server's
        (:class:`bundle.server.DistributedGanTrainer`); with sites in processes of their own ``by_site``: {site:
        {computing, cpu, messages, waiting}}, and what follows from them: ``least`` and ``not_computing``
        (:func:`least_seconds`). And ``bytes``: of a step, both ways, all sites.
    """
    from bundle.report import read_scalars

    curves = read_scalars(results / "events")
    parts = {}
    for part in ("generator", "sites", "other"):
        steps, seconds = curves[f"seconds/{part}"]
        parts[part] = seconds[steps > training.interval]
    whole = sum(parts.values())
    wire = json.loads((results / "record.json").read_text(encoding="utf-8"))["wire"]
    found: dict[str, Any] = {"step": statistics.median(whole)}
    found |= {part: statistics.median(seconds) for part, seconds in parts.items()}
    found["bytes"] = round((wire["bytes_to_sites"] + wire["bytes_from_sites"]) / wire["steps"])
    if variant.site_threads is not None:
        found["by_site"] = site_seconds(output.read_text(encoding="utf-8", errors="replace"), training.interval)
        found["least"] = least_seconds(found["by_site"], variant.site_threads, cores())
        found["not_computing"] = 1 - (found["generator"] + found["least"]) / found["step"]
    return found


def site_seconds(text: str, warm_up: int) -> dict[str, dict[str, float]]:
    """
    Medians over a site's lines in the log.

    Args:
        text: of the log.
        warm_up: lines of steps up to this one do not count.

    Raises:
        NotMeasured: no such line.
    """
    parts = ("computing", "cpu", "messages", "waiting")
    lines: dict[str, list[dict[str, float]]] = {}
    for match in SITE_LINE.finditer(text):
        if int(match["step"]) > warm_up:
            lines.setdefault(match["site"], []).append({part: float(match[part]) for part in parts})
    if not lines:
        raise NotMeasured("no site said what its steps took")
    return {
        site: {part: statistics.median(line[part] for line in lines[site]) for part in parts} for site in sorted(lines)
    }


def least_seconds(by_site: dict[str, dict[str, float]], threads: int, count: int) -> float:
    """
    The least time in which the sites of this machine can compute a step: as long as all cores together, or the slowest
    site with its threads, need for the seconds of the CPU that it takes.

    Args:
        by_site: ``cpu`` by site, in seconds.
        threads: of a site.
        count: of cores.
    """
    used = [about["cpu"] for about in by_site.values()]
    return max(sum(used) / count, max(used) / min(threads, count))


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
