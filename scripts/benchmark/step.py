"""A step by precision, beside a plain PyTorch one, and where its time goes."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.composition import stage_files

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("G", "D", "data", "everything else")


@dataclass(frozen=True)
class Mode:
    """How a step is computed: ``textbook``, or a precision of the project's own step and what is added to it."""

    precision: str
    added: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return "+".join([self.precision, *sorted(self.added)])

    @contextlib.contextmanager
    def set(self) -> Iterator[None]:
        """What torch keeps for the whole process: TF32 in float32's products, and the algorithms of cuDNN."""
        import torch

        cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark
        cudnn.allow_tf32 = matmul.allow_tf32 = self.precision == "tf32"
        # as monai.utils.set_determinism has it in a training
        cudnn.benchmark = "autotune" in self.added
        cudnn.deterministic = not cudnn.benchmark
        try:
            yield
        finally:
            cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark = before


def parse_mode(text: str) -> Mode:
    precision, *added = text.split("+")
    options = () if precision == "textbook" else ("channels_last", "compile", "autotune")
    if precision not in ("textbook", "float32", "tf32", "bfloat16") or not set(added) <= set(options):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected textbook, float32, tf32 or bfloat16, and +channels_last, +compile, +autotune"
        )
    return Mode(precision, frozenset(added))


def synchronize() -> None:
    """Wait for an accelerator, which computes after the call that asked for it has returned."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Stopwatch:
    """Time by part; a part that runs inside another is taken off it. Off at first: it makes an accelerator wait."""

    def __init__(self) -> None:
        self.on = False
        self.seconds: dict[str, float] = {}
        self._inner: list[float] = []

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        if not self.on:
            yield
            return
        self._inner.append(0.0)
        synchronize()
        start = time.perf_counter()
        try:
            yield
        finally:
            synchronize()
            whole = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + whole - self._inner.pop()
            if self._inner:
                self._inner[-1] += whole

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Count every call of ``owner.method`` as ``name``."""
        inner: Callable = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return inner(*args, **kwargs)

        # also of a codec, which is frozen
        object.__setattr__(owner, method, timed)


def phantoms(folder: Path, num_sites: int) -> str:
    from bundle.phantoms.brains import write_brats_phantoms
    from bundle.prepare.preparation import PrepareOptions, prepare

    names = [f"S{number:02d}" for number in range(num_sites)]
    table = write_brats_phantoms(folder / "phantoms", names, cases_per_site=2, test_cases_per_site=0)
    options = {"layout": "brats", "source": folder / "phantoms", "output": folder / "data"}
    prepare(PrepareOptions(**options, sites="table", table=table, modalities=("flair",)))
    return str(folder / "data")


def make_workflow(options: argparse.Namespace, dataset_dir: str, run_dir: str, amp: bool) -> Any:
    """The training of the configs without its handlers: a step, and nothing that happens only at intervals."""
    import yaml

    from bundle.workflows import DistributedGANWorkflow

    given = {key: yaml.safe_load(value) for key, value in (pair.split("=", 1) for pair in options.set)}
    if options.device:
        given["device"] = options.device
    workflow = DistributedGANWorkflow(
        config_file=stage_files("train", options.task, options.profile, options.config),
        logging_file=False,
        **{"dataset_dir": dataset_dir, "run_dir": run_dir, "amp": amp, "num_steps": 100, "epoch_length": 100}
        | {"release_policy": "guarded"}  # one discriminator a site, as published, and no teachers before the first step
        | given,
    )
    workflow.parser["train"]["handlers"] = []
    workflow.initialize()
    return workflow


def sites_of(trainer: Any) -> list[Any]:
    return [trainer.federation.site(name) for name in trainer.federation.sites]


class ProjectStep:
    """The project's step in one mode."""

    def __init__(self, mode: Mode, options: argparse.Namespace, dataset_dir: str, run_dir: str) -> None:
        import torch

        self.workflow = make_workflow(options, dataset_dir, run_dir, mode.precision == "bfloat16")
        self.trainer = self.workflow.trainer
        self.watch = Stopwatch()
        networks = [self.trainer.generator, *(site.critic.discriminator for site in sites_of(self.trainer))]
        for network in networks:
            if "channels_last" in mode.added:
                if self.trainer.state.device.type == "cpu":
                    raise ValueError("channels_last: on a CPU torch's instance norm goes back wrongly through it")
                network.to(memory_format=torch.channels_last)
            if "compile" in mode.added:
                network.compile()
        self._watch()

    def _watch(self) -> None:
        trainer, watch = self.trainer, self.watch
        watch.watch(trainer, "_iteration", "everything else")
        watch.watch(trainer, "_generate", "G")
        watch.watch(trainer, "_back", "G")
        watch.watch(trainer.optimizer, "step", "G")
        watch.watch(trainer.federation.codec, "encode", "everything else")
        watch.watch(trainer.federation.codec, "decode", "everything else")
        for site in sites_of(trainer):
            watch.watch(site, "step", "D")
            watch.watch(site, "draw", "data")

    def __call__(self) -> None:
        self.trainer.state.iteration += 1
        self.trainer._iteration(self.trainer, None)


class PlainStep:
    """The textbook's step at the sizes of the same configs, on the images that the sites draw first."""

    def __init__(self, mode: Mode, options: argparse.Namespace, dataset_dir: str, run_dir: str) -> None:
        from scripts.benchmark.textbook_step import TextbookStep, patch_discriminator, resnet_generator

        workflow = make_workflow(options, dataset_dir, run_dir, False)
        sites, device = sites_of(workflow.trainer), workflow.trainer.state.device
        said = workflow.parser.get_parsed_content
        conditions, channels = said("condition_channels"), said("image_channels")
        critic = conditions + channels, said("discriminator_channels"), said("discriminator_layers")
        generator = resnet_generator(conditions, channels, said("generator_channels"), said("generator_blocks"))
        total = sum(len(site.samples) for site in sites)
        self.step = TextbookStep(
            generator.to(device),
            [patch_discriminator(*critic).to(device) for _ in sites],
            [len(site.samples) / total for site in sites],
        )
        drawn = [site.draw(1) for site in sites]
        self.batches = [(batch["condition"].float().to(device), batch["image"].to(device)) for batch in drawn]

    def __call__(self) -> None:
        self.step(self.batches)


def time_steps(options: argparse.Namespace, dataset_dir: str, run_dir: str) -> dict:
    """Steps of every mode in turn, after two of each to warm up; then some whose parts are timed."""
    steps: dict[Mode, ProjectStep | PlainStep] = {}
    seconds: dict[Mode, list[float]] = {mode: [] for mode in options.modes}
    memory = {}
    for mode in options.modes:
        make = PlainStep if mode.precision == "textbook" else ProjectStep
        with mode.set(), device_memory() as used:
            steps[mode] = make(mode, options, dataset_dir, f"{run_dir}/{mode}")
            for _ in range(2):
                seconds[mode].append(timed(steps[mode]))
        memory[mode] = used
    for _ in range(options.repeats):
        for mode, step in steps.items():
            with mode.set():
                seconds[mode].append(timed(step))
    own = [step for step in steps.values() if isinstance(step, ProjectStep)]
    report: dict[str, Any] = {"TFLOP per step": count_operations(own[0].trainer)} if own else {}
    if own:
        report["images per step"] = sum(site.batch_size for site in sites_of(own[0].trainer))
    for mode, step in steps.items():
        median = statistics.median(seconds[mode][2:])
        about = {"seconds_per_step": round(median, 4), "each": [round(value, 4) for value in seconds[mode][2:]]}
        about["first step"] = round(seconds[mode][0], 2)
        if own:
            about["TFLOP/s"] = round(report["TFLOP per step"] / median, 2)
        if memory[mode]:
            about["peak device memory (GiB)"] = memory[mode]["GiB"]
        if isinstance(step, ProjectStep):
            with mode.set():
                about["share"] = time_parts(step, max(1, options.repeats // 2))
            shares = about["share"]["data"] + about["share"]["everything else"]
            about["data and everything else"] = round(shares, 4)
        report[str(mode)] = about
    first = next(iter(steps))
    for mode in list(steps)[1:]:
        ratio = report[str(mode)]["seconds_per_step"] / report[str(first)]["seconds_per_step"]
        report[f"{mode} / {first}"] = round(ratio, 4)
    return report


def timed(step: Callable[[], None]) -> float:
    synchronize()
    start = time.perf_counter()
    step()
    synchronize()
    return time.perf_counter() - start


def time_parts(step: ProjectStep, repeats: int) -> dict[str, float]:
    """The share of every part in some steps. An accelerator waits after each part, so that it counts there."""
    step.watch.on = True
    for _ in range(repeats):
        step()
    step.watch.on = False
    spent = step.watch.seconds
    return {part: round(spent[part] / sum(spent.values()), 4) for part in PARTS}


@contextlib.contextmanager
def device_memory() -> Iterator[dict[str, float]]:
    """Fills in what a block takes of a GPU's memory at the most, beyond what is taken before it; nothing on a CPU."""
    import torch

    used: dict[str, float] = {}
    if not torch.cuda.is_available():
        yield used
        return
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    yield used
    used["GiB"] = round((torch.cuda.max_memory_allocated() - before) / 2**30, 2)


def count_operations(trainer: Any) -> float:
    """Floating-point operations of a step in 10^12: what one has to know to guess at another machine."""
    from torch.utils.flop_counter import FlopCounterMode

    trainer.state.iteration += 1
    with FlopCounterMode(display=False) as counter:
        trainer._iteration(trainer, None)
    return float(f"{counter.get_total_flops() / 1e12:.3g}")


def peak_memory(options: argparse.Namespace, dataset_dir: str, run_dir: str, amp: bool) -> float:
    """Peak resident memory in GiB of three steps of the command `train`."""
    files = stage_files("train", options.task, options.profile, options.config)
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run"]
    command += ["--workflow_name", "bundle.workflows.DistributedGANWorkflow", "--config_file", str(files)]
    command += ["--dataset_dir", os.path.abspath(dataset_dir), "--run_dir", run_dir, "--amp", str(amp)]
    command += ["--num_steps", "3", "--epoch_length", "3"]
    command += [word for pair in options.set for word in (f"--{pair.split('=', 1)[0]}", pair.split("=", 1)[1])]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"train failed:\n{output[-2000:]}")
    return round(usage.ru_maxrss / 2**20, 2)


def processor() -> str:
    """The CPU by name, and whether it has what bfloat16 is fast with."""
    try:
        about = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or "cpu"
    lines = dict(line.split(":", 1) for line in about.splitlines() if ":" in line)
    found = {key.strip(): value.strip() for key, value in lines.items()}
    flags = found.get("flags", "").split()
    has = [name for name, flag in {"AMX": "amx_bf16", "AVX-512 bfloat16": "avx512_bf16"}.items() if flag in flags]
    return f"{found.get('model name', 'cpu')} ({', '.join(has) or 'no bfloat16'})"


def step(options: argparse.Namespace) -> int:
    import torch

    with tempfile.TemporaryDirectory() as folder:
        dataset_dir = options.dataset_dir or phantoms(Path(folder), options.sites)
        device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
        report: dict[str, Any] = {
            "device": torch.cuda.get_device_name() if device == "cuda" else processor(),
            "profile": options.profile,
            "config": options.config,
            "set": options.set,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        if device == "cpu" and not options.no_memory:
            # first: Linux counts what the parent holds when it starts a process as the process's own
            report["peak memory of train (GiB)"] = {
                str(mode): peak_memory(options, dataset_dir, f"{folder}/{mode}", mode.precision == "bfloat16")
                for mode in options.modes
                if not mode.added and mode.precision in ("float32", "bfloat16")
            }
        report |= time_steps(options, dataset_dir, folder + "/steps")
    text = json.dumps(report, indent=1)
    print(text)
    if options.output:
        from bundle.files import write_text

        write_text(options.output, text + "\n")
    return 0
