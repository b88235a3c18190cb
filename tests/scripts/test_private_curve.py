"""The curve of usefulness over patients: its table, its figure, and that it goes on where it ended."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bundle.audit.plan import MEASURED, PAINTED, REAL
from scripts import private_curve
from scripts.private_curve import Slices, figure, means, run, slices_of, table


def lines():
    named = [f"dp_sgd/{n}/{epsilon}" for n in (8, 1000) for epsilon in (4, "inf")]
    found = [{"kind": kind, "seed": seed, "dice": 0.5 + seed / 10, "norm": 2.0} for kind in named for seed in (0, 1)]
    found += [{"kind": "real/8", "seed": 0, "best single site": 0.7, "both sites": 0.8}]
    return [*found, {"kind": "painter", "seed": 0, "dice": 0.3}]


def test_the_table_says_what_there_is_and_the_figure_is_drawn(tmp_path):
    text = table(lines())
    assert "| real, best single site | 0.70 | – | – |" in text
    assert "| `dp_sgd`, ε = 4 | 0.55 (2) | – | 0.55 (2) |" in text
    assert "| `gradient_noise`, ε = ∞ | – | – | – |" in text
    assert "| label maps painted at random | 0.30 | 0.30 | 0.30 |" in text
    figure(lines(), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 5000


def test_slices_are_of_patients_in_range():
    found = slices_of("A", 0, 2)
    assert found.images.shape == (4, 1, 32, 32)
    assert found.images.min() == -1
    assert found.images.max() <= 1
    assert found.conditions.sum(dim=1).max() == 1
    assert [found.origin(i)[0] for i in range(4)] == ["patient 00000"] * 2 + ["patient 00001"] * 2
    assert len(found.first(1)) == 2


def test_a_training_of_each_kind_and_what_is_done_stays_done(tmp_path, monkeypatch):
    monkeypatch.setattr(private_curve, "STEPS", 1)
    monkeypatch.setattr(private_curve, "PATIENTS", (8, 9))
    monkeypatch.setattr(private_curve, "TEACHER_PATIENTS", (8,))
    generator = torch.Generator().manual_seed(0)

    def drawn(patients):
        condition = torch.zeros(2 * patients, 2, 32, 32, dtype=torch.uint8)
        condition[:, 0, 10:16, 10:16] = 1
        image = torch.rand(2 * patients, 1, 32, 32, generator=generator) * 2 - 1
        return Slices(condition, image, np.repeat(np.arange(patients), 2))

    parts = ("train A", "train B", "test A", "test B", "bank")
    monkeypatch.setattr(private_curve, "all_slices", lambda *asked: {name: drawn(8) for name in parts})
    monkeypatch.setattr(private_curve, "dice", lambda images, labels, found, seed, split: 0.5)
    taught = ["dp_sgd+teacher/8/4", "teacher_alone/8/4"]
    only = ["dp_sgd/8/4", *taught, "gradient_noise/8/inf", "painter", "real/8"]
    asked = {"output": tmp_path / "out", "cache": tmp_path, "seeds": 1, "minutes": 5, "split": "test", "updates": 1}
    asked |= {"teacher_steps": 2, "teacher_rate": 0.05, "paired_weight": 10.0}
    options = argparse.Namespace(**asked, rate=1e-3, only=only)
    found = run(options)
    assert sorted(line["kind"] for line in found) == sorted(only)
    noise = {line["kind"]: line["noise"] for line in found if line.get("norm")}
    # two updates more
    assert 1 < noise["dp_sgd/8/4"] < noise["dp_sgd+teacher/8/4"] == noise["teacher_alone/8/4"]
    assert run(options) == found
    assert len((tmp_path / "out" / "runs.jsonl").read_text(encoding="utf-8").splitlines()) == 6


def test_the_page_and_what_a_plan_says_are_of_the_lines_that_are_kept():
    lab = Path(__file__).resolve().parents[2] / "docs" / "lab"
    kept = (lab / "private_curve" / "runs.jsonl").read_text(encoding="utf-8").splitlines()
    lines = [json.loads(line) for line in kept]
    assert table(lines) in (lab / "private_curve.md").read_text(encoding="utf-8")
    found = means(lines)
    noise = {line["kind"]: line["norm"] for line in lines if line.get("norm") and line["kind"].startswith("dp_sgd/")}
    useful = sorted((norm, float(np.mean(found[kind]))) for kind, norm in noise.items())[: len(MEASURED)]
    np.testing.assert_allclose(MEASURED, useful, rtol=0.03)
    assert pytest.approx(np.mean(found["painter"]), abs=0.005) == PAINTED
    assert pytest.approx(np.mean(found["real/8/best single site"]), abs=0.005) == REAL
