"""What the stages of a run left of it in their files, over settings and seeds."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import monai
import psutil
import torch

from bundle.report import read_scalars, summarize_loss

__all__ = ["Collected", "hardware"]


class Collected:
    """
    Args:
        output_dir: the folder of a setting's outputs, from its name and the seed.
        settings: of the run.
        seeds: of the run.
    """

    def __init__(self, output_dir: Callable[[str, int], Path], settings: Sequence[str], seeds: Sequence[int]) -> None:
        self.output_dir = output_dir
        self.settings = settings
        self.seeds = seeds

    def records(self, setting: str, name: str) -> list[dict]:
        paths = [self.output_dir(setting, seed) / name for seed in self.seeds]
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]

    def training(self) -> dict:
        """What the generators took, as a mean over seeds."""
        found = {setting: self.records(setting, "gan/record.json") for setting in self.settings}
        return {
            setting: {key: mean(r[key] for r in records) for key in ("steps", "seconds", "seconds_per_step")}
            for setting, records in found.items()
            if records
        }

    def averaging(self) -> dict:
        """What federated averaging took, by setting."""
        told = ("rounds", "local_steps", "proximal_mu", "bytes_to_sites", "bytes_from_sites")
        found = {setting: self.records(setting, "segmenter/record.json") for setting in self.settings}
        return {
            setting: {key: records[0][key] for key in told}
            for setting, records in found.items()
            if records and "rounds" in records[0]
        }

    def units(self) -> dict | None:
        """Units of the metrics, as the task's config has them."""
        names = ("evaluation/metrics.json", "quality/metrics.json")
        found = [record for s in self.settings for name in names for record in self.records(s, name)]
        return found[0].get("units") if found else None

    def scores(self, setting: str) -> dict:
        segmenters = self.records(setting, "segmenter/record.json")
        scores = self._over_seeds(setting, "evaluation/metrics.json")
        if not scores or not segmenters:
            return {}
        folders = [self.output_dir(setting, seed) / "segmenter" for seed in self.seeds]
        losses = [
            segmenter_loss(folder, (folder / "record.json").stat().st_mtime)
            for folder in folders
            if (folder / "record.json").exists()
        ]
        return scores | {"training_images": segmenters[0]["training_images"], "segmenter_loss": losses}

    def quality(self, setting: str) -> dict:
        return self._over_seeds(setting, "quality/metrics.json")

    def _over_seeds(self, setting: str, name: str) -> dict:
        """The metrics of a file of every seed, over the seeds."""
        evaluations = [evaluation["metrics"] for evaluation in self.records(setting, name)]
        scores: dict[str, Any] = {}
        if not evaluations:
            return scores
        for metric in evaluations[0]:
            per_seed = [evaluation[metric]["mean"] for evaluation in evaluations]
            known = [value for value in per_seed if value is not None]
            cases = evaluations[0][metric]["per_case"]
            scores[metric] = {
                "mean": mean(known) if known else None,
                "std": stdev(known) if len(known) > 1 else None,
                "per_seed": per_seed,
                "per_case": {
                    case: [evaluation[metric]["per_case"][case] for evaluation in evaluations] for case in cases
                },
            }
        return scores

    def seconds(self) -> float:
        """Time of all trainings, whenever they ran."""
        trainings = [
            r for s in self.settings for part in ("gan", "segmenter") for r in self.records(s, f"{part}/record.json")
        ]
        return round(sum(record["seconds"] for record in trainings), 1)


@cache
def segmenter_loss(folder: Path, finished: float) -> dict[str, float] | None:
    """How the loss of a segmenter went that was finished at a time; None where its events are gone."""
    loss = read_scalars(folder / "events").get("loss") if (folder / "events").is_dir() else None
    return None if loss is None else summarize_loss(loss[1])


def hardware() -> dict:
    """What the run was made on; no names of machines or people."""
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
        "monai": monai.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
