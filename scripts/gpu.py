"""Everything that needs a GPU, prepared to run once, as it is, where one can be had for a few minutes.

`pack` puts into one folder what such a machine may lack and cannot download: this checkout, wheels, and a share of a
prepared data set. `run` does, one after the other, each within its share of the time: the card's own rates, the tests
marked `cuda`, `benchmark step` at the published sizes, and as much of a 256×256 training as is left; then it writes
OUTPUT/gpu.json, OUTPUT/gpu.md and a picture. A part that fails is named, and the next one begins.

From a checkout; no command of the product.

Examples:
    python -m scripts.gpu pack build/gpu --dataset_dir data/lgg --python 3.12
    python -m scripts.gpu run --output build/gpu-results --dataset_dir build/gpu/data --minutes 8
    python -m scripts.gpu run --output build/gpu-smoke --device cpu --smoke
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# what PyTorch's own images lack; torch, NumPy, SciPy, scikit-image and matplotlib they have
WHEELS = ("monai", "SimpleITK", "nibabel", "pytorch-ignite", "zstandard", "opacus", "fire", "termcolor")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
TESTS = ("tests/test_cuda.py", "tests/losses/test_adversarial.py")
PUBLISHED = ["--config", "published"]
MODES = "textbook float32 tf32 bfloat16 bfloat16+autotune bfloat16+channels_last bfloat16+compile"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parts = parser.add_subparsers(dest="part", required=True)
    pack = parts.add_parser("pack", help="one folder to carry to the machine", allow_abbrev=False)
    pack.add_argument("output", type=Path, help="folder, replaced")
    pack.add_argument(
        "--dataset_dir", type=Path, help="folder of datalist.json, of which training cases are taken along"
    )
    pack.add_argument("--megabytes", type=float, default=14, help="of data at the most (default 14)")
    pack.add_argument("--python", default="3.12", help="version of the machine's Python (default 3.12)")
    run = parts.add_parser("run", help="all measurements", allow_abbrev=False)
    run.add_argument("--output", type=Path, required=True, help="folder of gpu.json, gpu.md and the picture")
    run.add_argument("--dataset_dir", type=Path, help="folder of datalist.json to train with (default: phantoms)")
    run.add_argument("--minutes", type=float, default=8, help="for all of it (default 8)")
    run.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    run.add_argument("--smoke", action="store_true", help="tiny sizes: whether every part runs, and no figures")
    return parser.parse_args(arguments)


# pack


def pack(options: argparse.Namespace) -> int:
    """
    Writes ``site.tar.xz`` (wheels, unpacked: far smaller than wheels), ``code.tar.xz`` and ``data/``.

    Raises:
        ValueError: there is no data list, or no training case fits.
        subprocess.CalledProcessError: pip or git failed.
    """
    shutil.rmtree(options.output, ignore_errors=True)
    options.output.mkdir(parents=True)
    if options.dataset_dir:
        print(f"{_pack_data(options.dataset_dir, options.output / 'data', options.megabytes * 2**20)} training cases")
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "code.tar"
        subprocess.run(["git", "archive", "-o", archive, "HEAD", ":(exclude)docs/results"], cwd=ROOT, check=True)
        (options.output / "code.tar.xz").write_bytes(lzma.compress(archive.read_bytes()))
        _download(Path(folder) / "wheels", options.python)
        site = Path(folder) / "site"
        for wheel in (Path(folder) / "wheels").glob("*.whl"):
            with zipfile.ZipFile(wheel) as content:
                content.extractall(site)
        with tarfile.open(options.output / "site.tar.xz", "w:xz", preset=6) as content:
            content.add(site, ".")
    total = sum(file.stat().st_size for file in options.output.rglob("*") if file.is_file())
    print(f"{options.output}: {total / 1e6:.1f} MB")
    return 0


def _download(folder: Path, python: str) -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = {line.split("==")[0].lower(): line for line in lines if "==" in line}
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "-d", folder]
    command += ["--python-version", python, "--implementation", "cp", "--abi", f"cp{python.replace('.', '')}"]
    command += ["--abi", "abi3", "--abi", "none"]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    subprocess.run([*command, *(pins.get(name.lower(), name) for name in WHEELS)], check=True)


def _pack_data(source: Path, output: Path, limit: float) -> int:
    """Training cases of the sites in turn, with every other slice along the last axis, up to the limit; how many."""
    import nibabel as nib

    try:
        content = json.loads((source / "datalist.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{source}: no datalist.json: asyndgan prepare writes one") from error
    by_site: dict[str, list[dict]] = {}
    for item in content["training"]:
        by_site.setdefault(item["site"], []).append(item)
    turns = [item for turn in range(max(map(len, by_site.values()))) for item in _nth(by_site, turn)]
    taken, size = [], 0
    for item in turns:
        made = dict(item)
        files = []
        for key in ("image", "label"):
            paths = [item[key]] if isinstance(item[key], str) else item[key]
            names = [f"{item['case']}_{key}_{place}.nii.gz" for place in range(len(paths))]
            for name, path in zip(names, paths, strict=True):
                (output / item["case"]).mkdir(parents=True, exist_ok=True)
                volume = nib.load(source / path)
                nib.save(volume.slicer[:, :, ::2], output / item["case"] / name)
                files.append(output / item["case"] / name)
            relative = [f"{item['case']}/{name}" for name in names]
            made[key] = relative[0] if isinstance(item[key], str) else relative
        size += sum(file.stat().st_size for file in files)
        if size > limit:
            shutil.rmtree(output / item["case"])
            break
        taken.append(made)
    if not taken:
        raise ValueError(f"{source}: no training case fits into {limit / 2**20:g} MiB")
    whole = content | {"training": taken, "test": [], "numTraining": len(taken), "numTest": 0}
    (output / "datalist.json").write_text(json.dumps(whole, indent=1), encoding="utf-8")
    return len(taken)


def _nth(by_site: dict[str, list[dict]], turn: int) -> list[dict]:
    return [items[turn] for _, items in sorted(by_site.items()) if turn < len(items)]


# run


class Run:
    """The parts of a run: each writes its figures to ``report``, in time."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.end = time.monotonic() + 60 * options.minutes
        self.report: dict[str, Any] = {"failed": {}}
        self.output = options.output.resolve()
        self.dataset_dir = options.dataset_dir and options.dataset_dir.resolve()
        self.output.mkdir(parents=True, exist_ok=True)

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    def part(self, name: str, work: Callable[[], Any]) -> None:
        start = time.monotonic()
        print(f"{name}: {self.left:.0f} s left", flush=True)
        try:
            self.report[name] = work()
        except Exception as error:  # the next part has nothing to do with it, and the time is short
            self.report["failed"][name] = f"{type(error).__name__}: {error}"[-3000:]
            print(f"{name} failed: {self.report['failed'][name]}", flush=True)
        self.report.setdefault("seconds", {})[name] = round(time.monotonic() - start, 1)
        (self.output / "gpu.json").write_text(json.dumps(self.report, indent=1) + "\n", encoding="utf-8")
        (self.output / "gpu.md").write_text(as_markdown(self.report), encoding="utf-8")

    def command(self, words: list[str], seconds: float, log: str) -> str:
        """Run one of this checkout's commands in a process of its own; its output is kept in OUTPUT/LOG."""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        environment["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        with open(self.output / log, "w+", encoding="utf-8") as out:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", *words],
                cwd=ROOT,
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
            try:
                status = process.wait(timeout=max(seconds, 1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                status = f"killed after {seconds:.0f} s"
            out.seek(0)
            text = out.read()
        if status:
            raise RuntimeError(f"{' '.join(words[:4])} …: {status}\n{text[-2000:]}")
        return text

    # the parts

    def about(self) -> dict[str, Any]:
        """The machine, and the rates of its products and copies: what the figures can be held against."""
        import torch

        about = {"torch": torch.__version__, "device": "cpu", "cores": os.cpu_count()}
        if self.options.device == "cuda":
            about |= {"device": torch.cuda.get_device_name(), "CUDA": torch.version.cuda}
            about["memory (GiB)"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
        side = 512 if self.options.smoke else 8192
        for name, dtype, tf32 in (
            ("float32", torch.float32, False),
            ("tf32", torch.float32, True),
            ("bfloat16", torch.bfloat16, False),
        ):
            torch.backends.cuda.matmul.allow_tf32 = tf32
            matrix = torch.randn(side, side, device=self.options.device, dtype=dtype)
            seconds = min(self._seconds(lambda m=matrix: m @ m) for _ in range(5))
            about[f"TFLOP/s of a product, {name}"] = round(2 * side**3 / seconds / 1e12, 1)
        return about

    def _seconds(self, work: Callable[[], Any]) -> float:
        import torch

        wait = torch.cuda.synchronize if self.options.device == "cuda" else lambda: None
        wait()
        start = time.perf_counter()
        work()
        wait()
        return time.perf_counter() - start

    def tests(self) -> dict[str, Any]:
        # by their names: to collect the others takes long, and some want NVIDIA FLARE
        words = ["-m", "pytest", "-m", "cuda", "-p", "no:cacheprovider", "-o", "addopts=-q", *TESTS]
        try:
            text = self.command(words, min(150, self.left), "tests.log")
        except RuntimeError as error:
            text = str(error)
        lines = text.strip().splitlines()
        return {
            "result": lines[-1],
            "not passed": [line for line in lines if line.startswith(("FAILED", "ERROR"))],
        }

    def step(self, sites: int, modes: str, repeats: int) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            words = ["-m", "scripts.benchmark", "step", *PUBLISHED, "--sites", str(sites), "--modes", *modes.split()]
            words += ["--repeats", str(repeats), "--no_memory", "--device", self.options.device]
            words += ["--profile", "demo" if self.options.smoke else "paper", "--output", f"{folder}/step.json"]
            self.command(words, min(150, self.left - 60), f"step_{sites}.log")
            return json.loads(Path(folder, "step.json").read_text(encoding="utf-8"))

    def training(self) -> dict[str, Any]:
        """As much of the training as there is time for, under the default policy: the number of steps comes first."""
        from bundle.composition import stage_files
        from scripts.benchmark.step import phantoms

        profile = "demo" if self.options.smoke else "paper"
        with tempfile.TemporaryDirectory() as folder:
            data = str(self.dataset_dir) if self.dataset_dir else phantoms(Path(folder), 4)
            configs = stage_files("train", "brats", profile)
            words = ["-m", "monai.bundle", "run", "--workflow_name", "bundle.workflows.DistributedGANWorkflow"]
            words += ["--config_file", str(configs), "--dataset_dir", data, "--device", self.options.device]
            words += ["--checkpoint_epochs", "1000"]

            def train(name: str, steps: int, seconds: float) -> dict:
                sizes = ["--run_dir", f"{folder}/{name}", "--num_steps", str(steps)]
                sizes += ["--epoch_length", str(steps // 2)]
                self.command([*words, *sizes], seconds, f"{name}.log")
                record = Path(folder, name, "seed_0", "asyndgan", "gan", "record.json")
                return json.loads(record.read_text(encoding="utf-8"))

            start = time.monotonic()
            first = train("probe", 4 if self.options.smoke else 40, self.left - 30)
            overhead = time.monotonic() - start - first["seconds_per_step"] * first["steps"]
            steps = int((self.left - overhead - 45) / (1.15 * first["seconds_per_step"]))
            steps = 4 if self.options.smoke else max(40, steps // 20 * 20)
            record = train("training", steps, self.left - 20)
            self.picture(Path(folder, "training"), data, configs)
        return {"steps": steps, "data": "as given" if self.dataset_dir else "phantoms"} | record

    def picture(self, run_dir: Path, data: str, configs: list[str]) -> None:
        """Condition, synthetic and real image of two samples of every site, in columns: OUTPUT/training.png."""
        import torch
        from PIL import Image

        from bundle.workflows import DistributedGANWorkflow

        workflow = DistributedGANWorkflow(
            config_file=configs,
            logging_file=False,
            dataset_dir=data,
            run_dir=str(run_dir / "picture"),
            device=self.options.device,
        )
        network = workflow.parser.get_parsed_content("network")
        weights = run_dir / "seed_0" / "asyndgan" / "gan" / "generator.pt"
        network.load_state_dict(torch.load(weights, weights_only=True, map_location=self.options.device))
        columns = []
        for _, samples in sorted(workflow.parser.get_parsed_content("site_samples").items()):
            for place in (len(samples) // 3, 2 * len(samples) // 3):
                sample = samples[place]
                condition = torch.as_tensor(sample["condition"]).float()[None]
                with torch.inference_mode():
                    fake = network.eval()(condition.to(self.options.device)).cpu()[0, 0]
                shown = condition[0].mean(dim=0), (fake + 1) / 2, (torch.as_tensor(sample["image"])[0] + 1) / 2
                columns.append(torch.cat([part.clamp(0, 1).flip(-1).T for part in shown]))
        picture = (torch.cat(columns, dim=1) * 255).to(torch.uint8).numpy()
        Image.fromarray(picture).save(self.output / "training.png")


def as_markdown(report: dict[str, Any]) -> str:
    """The report as tables for docs/performance.md."""
    about = report.get("about", {})
    rows = [f"{about.get('device', '?')}, torch {about.get('torch', '?')}.", ""]
    rows += [f"- {name}: {value}" for name, value in about.items() if name.startswith("TFLOP")]
    for name, part in report.items():
        if name.startswith("step, "):
            rows += ["", f"A step with {name.removeprefix('step, ')}, {part['TFLOP per step']} TFLOP:", ""]
            rows += ["| mode | ms a step | of the first | TFLOP/s | GiB | first step, s | G | D | the rest |"]
            rows += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
            modes = {key: value for key, value in part.items() if isinstance(value, dict) and "each" in value}
            first = next(iter(modes.values()))["seconds_per_step"]
            for mode, found in modes.items():
                share = found.get("share", {})
                shares = [share.get("G"), share.get("D"), found.get("data and everything else")]
                cells = [mode, f"{1000 * found['seconds_per_step']:.1f}", f"{found['seconds_per_step'] / first:.2f}"]
                cells += [found["TFLOP/s"], found.get("peak device memory (GiB)", ""), found["first step"]]
                cells += ["" if value is None else f"{100 * value:.0f} %" for value in shares]
                rows.append(f"| {' | '.join(map(str, cells))} |")
    if "training" in report:
        part = report["training"]
        rows += ["", f"Training at {part['seconds_per_step']:.4f} s a step: {part['steps']} steps ({part['data']})."]
    if "tests" in report:
        rows += ["", f"Tests: {re.sub(r'=+', '', report['tests']['result']).strip()}"]
    rows += [f"\nNot measured: {name} ({text.splitlines()[0]})" for name, text in report["failed"].items()]
    return "\n".join(rows) + "\n"


def run(options: argparse.Namespace) -> int:
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("there is no GPU; --device cpu --smoke tries every part without")
    whole = Run(options)
    whole.part("about", whole.about)
    if not options.smoke:
        whole.part("tests", whole.tests)
    modes = "textbook float32 bfloat16" if options.smoke else MODES
    whole.part("step, 4 sites", lambda: whole.step(2 if options.smoke else 4, modes, 1 if options.smoke else 20))
    if not options.smoke:
        whole.part("step, 10 sites", lambda: whole.step(10, "textbook tf32 bfloat16", 10))
    whole.part("training", whole.training)
    print((whole.output / "gpu.md").read_text(encoding="utf-8"))
    return 1 if whole.report["failed"] else 0


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    try:
        return {"pack": pack, "run": run}[options.part](options)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
