"""Trainings in NVIDIA FLARE's simulator, started by the command as a user would."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import torch

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 300


def outputs(run_dir):
    return run_dir / "seed_0" / "asyndgan" / "gan"


def start(data, run_dir, sizes, *more):
    """Start a simulation; that each of its processes computes with one thread is the command's to see to."""
    words = [sys.executable, "-m", "bundle.cli", "federate", "simulate"]
    words += ["--task", "brats", "--profile", "demo", "--dataset_dir", str(data)]
    words += ["--run_dir", str(run_dir), "--threads", "1", "--device", "cpu", *more, "--set"]
    words += [f"{key}={json.dumps(value)}" for key, value in sizes.items()]
    return subprocess.Popen(
        words,
        cwd=run_dir,
        env={key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"} | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def finish(process):
    """Wait for a simulation; whatever becomes of it, none of its processes is left. Returns what it said."""
    try:
        return process.communicate(timeout=TIMEOUT)[0].decode(errors="replace")
    finally:
        kill(process)


def kill(process):
    """Kill a simulation that still runs, with all that it started: FLARE puts processes in groups of their own."""
    if process.poll() is not None:
        return
    family = psutil.Process(process.pid).children(recursive=True)
    for each in (process, *family):
        try:
            each.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=30)


def record(folder):
    return json.loads((folder / "record.json").read_text(encoding="utf-8"))


def load(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def simulate(data, run_dir, sizes, *more):
    """A simulation to its end; returns what it said."""
    run_dir.mkdir(parents=True, exist_ok=True)
    process = start(data, run_dir, sizes, *more)
    said = finish(process)
    assert process.returncode == 0, said
    return said
