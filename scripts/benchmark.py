#!/usr/bin/env python
"""Speed and memory; ratios are measured side by side. Run it on quiet cores.

`step`: the median step in float32 and in bfloat16, their ratio, where the time goes, its floating-point operations, and
the peak memory of the command `train`, as JSON. `federation`: a step behind FLARE's simulator against one with all
sites in one process, and the share that is not computing. `scale`: both, and memory, as sites become more. These two
write results.json as they go, print a table in Markdown, and go on where they were ended.

Examples:
    python scripts/benchmark.py step
    python scripts/benchmark.py step --dataset_dir data/lgg --profile paper --repeats 7
    python scripts/benchmark.py federation --dataset_dir data/lgg
    python scripts/benchmark.py scale --sites 4 8 16
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts import benchmark_federation

ROOT = Path(__file__).resolve().parents[1]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parts = parser.add_subparsers(dest="part", required=True)
    step = parts.add_parser("step", help="a step by precision, and where its time goes", allow_abbrev=False)
    step.add_argument("--dataset_dir", help="folder of datalist.json (default: phantoms of four sites)")
    step.add_argument("--task", default="brats", help="configs/TASK.yaml (default brats)")
    step.add_argument("--profile", default="paper", help="configs/PROFILE.yaml (default paper)")
    step.add_argument("--repeats", type=int, default=5, help="timed steps of each precision (default 5)")
    step.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="config keys, such as batch_size=2")
    step.add_argument("--output", type=Path, help="also write the JSON to this file")
    benchmark_federation.add_arguments(
        parts.add_parser("federation", help="FLARE's simulator against one process", allow_abbrev=False),
        parts.add_parser("scale", help="more and more sites", allow_abbrev=False),
    )
    return parser.parse_args(arguments)


def synchronize() -> None:
    """Wait for an accelerator, which computes after the call that asked for it has returned."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Stopwatch:
    """Time by part; a part that runs inside another is taken off it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner: list[float] = []

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
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


def phantoms(folder: Path) -> str:
    from bundle.data.brain_phantoms import write_brats_phantoms
    from bundle.data.preparation import PrepareOptions, prepare

    table = write_brats_phantoms(folder / "phantoms", cases_per_site=2, test_cases_per_site=0)
    options = {"layout": "brats", "source": folder / "phantoms", "output": folder / "data"}
    prepare(PrepareOptions(**options, sites="table", table=table, modalities=("flair",)))
    return str(folder / "data")


def make_trainer(options: argparse.Namespace, dataset_dir: str, run_dir: str, amp: bool) -> Any:
    """The trainer of the configs without its handlers: a step, and nothing that happens only at intervals."""
    import yaml

    from bundle.workflows import DistributedGANWorkflow

    given = {key: yaml.safe_load(value) for key, value in (pair.split("=", 1) for pair in options.set)}
    workflow = DistributedGANWorkflow(
        config_file=[str(ROOT / "configs" / f"{name}.yaml") for name in ("train", options.task, options.profile)],
        logging_file=False,
        **{"dataset_dir": dataset_dir, "run_dir": run_dir, "amp": amp, "num_steps": 100, "epoch_length": 100} | given,
    )
    workflow.parser["train"]["handlers"] = []
    workflow.initialize()
    return workflow.trainer


def sites_of(trainer: Any) -> list[Any]:
    return [trainer.federation.site(name) for name in trainer.federation.sites]


def time_steps(options: argparse.Namespace, dataset_dir: str, run_dir: str) -> dict:
    """Steps in float32 and bfloat16 in turn, after one of each to warm up."""
    import torch

    trainers = {
        name: make_trainer(options, dataset_dir, run_dir, name == "bfloat16") for name in ("float32", "bfloat16")
    }
    watches = {name: Stopwatch() for name in trainers}
    for name, trainer in trainers.items():
        watch = watches[name]
        watch.watch(trainer, "_iteration", "everything else")
        watch.watch(trainer, "_generate", "G")
        watch.watch(trainer.optimizer, "step", "G")
        codec = trainer.federation.codec
        watch.watch(codec, "encode", "everything else")
        watch.watch(codec, "decode", "everything else")
        for site in sites_of(trainer):
            watch.watch(site, "step", "D")
            watch.watch(site, "_draw", "data")
    backward = torch.autograd.backward
    durations: dict[str, list[float]] = {name: [] for name in trainers}
    for repeat in range(options.repeats + 1):
        for name, trainer in trainers.items():
            watch = watches[name]
            depth = len(watch._inner)

            def timed_backward(*args: Any, watch: Stopwatch = watch, depth: int = depth, **kwargs: Any) -> Any:
                # the discriminator's backward runs inside its site's step, the generator's directly in the trainer's
                with watch.part("G" if len(watch._inner) == depth + 1 else "D"):
                    return backward(*args, **kwargs)

            torch.autograd.backward = timed_backward
            trainer.state.iteration += 1
            if repeat == 1:
                watch.seconds.clear()
            start = time.perf_counter()
            trainer._iteration(trainer, None)
            synchronize()
            if repeat:
                durations[name].append(time.perf_counter() - start)
    torch.autograd.backward = backward
    report: dict[str, Any] = {"images per step": sum(site.batch_size for site in sites_of(trainers["float32"]))}
    for name, seconds in durations.items():
        spent = watches[name].seconds
        shares = {part: round(spent[part] / sum(spent.values()), 4) for part in ("G", "D", "data", "everything else")}
        report[name] = {
            "seconds_per_step": round(statistics.median(seconds), 4),
            "each": [round(value, 4) for value in seconds],
            "share": shares,
            "data and everything else": round(shares["data"] + shares["everything else"], 4),
        }
    ratio = report["bfloat16"]["seconds_per_step"] / report["float32"]["seconds_per_step"]
    return report | {"bfloat16 / float32": round(ratio, 4), "TFLOP per step": count_operations(trainers["float32"])}


def count_operations(trainer: Any) -> float:
    """Floating-point operations of a step in 10^12: what one has to know to guess at another machine."""
    from torch.utils.flop_counter import FlopCounterMode

    trainer.state.iteration += 1
    with FlopCounterMode(display=False) as counter:
        trainer._iteration(trainer, None)
    return float(f"{counter.get_total_flops() / 1e12:.3g}")


def peak_memory(options: argparse.Namespace, dataset_dir: str, run_dir: str, amp: bool) -> float:
    """Peak resident memory in GiB of three steps of the command `train`."""
    files = [f"configs/{name}.yaml" for name in ("train", options.task, options.profile)]
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


def step(options: argparse.Namespace) -> int:
    import torch

    with tempfile.TemporaryDirectory() as folder:
        dataset_dir = options.dataset_dir or phantoms(Path(folder))
        # first: Linux counts what the parent holds when it starts a process as the process's own
        memory = {
            name: peak_memory(options, dataset_dir, f"{folder}/{name}", name == "bfloat16")
            for name in ("bfloat16", "float32")
        }
        report = {
            "profile": options.profile,
            "set": options.set,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            **time_steps(options, dataset_dir, folder + "/steps"),
            "peak memory of train (GiB)": memory,
        }
    text = json.dumps(report, indent=1)
    print(text)
    if options.output:
        from bundle.files import write_text

        write_text(options.output, text + "\n")
    return 0


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    warnings.filterwarnings("ignore")
    parts = {"step": step, "federation": benchmark_federation.federation, "scale": benchmark_federation.scale}
    try:
        return parts[options.part](options)
    except (OSError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
