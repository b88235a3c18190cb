"""The GAN in one file of MONAI and FLARE: small, right in one step, and the same whether FLARE carries it or not."""

import ast
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PATH = Path(__file__).resolve().parents[2] / "examples" / "flare_gan" / "train.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(PATH))


def test_it_is_one_short_file_that_needs_nothing_of_this_repository():
    text = PATH.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {name for node in nodes for name in [getattr(node, "module", None), *(a.name for a in node.names)] if name}
    roots = {name.partition(".")[0] for name in names if "." in name or name in sys.modules}
    assert "bundle" not in roots
    assert {"monai", "nvflare", "torch"} <= roots


class Scale(torch.nn.Module):
    """A discriminator that multiplies the image by its only parameter."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, masks_and_image):
        return [self.weight * masks_and_image[:, -1:]]


def test_a_hospital_learns_first_and_then_returns_the_gradient_of_its_loss(example):
    hospital = example["Hospital"]()
    hospital.prepare("south")
    hospital.discriminator = Scale()
    hospital.optimizer = example["adam"](hospital.discriminator)
    _, images = hospital.batch(3)
    synthetic = torch.full_like(images, 0.25)
    # least squares: (wy - 1)² + (wŷ)², of which Adam's first step is the learning rate against the sign
    slope = (2 * images * (0.5 * images - 1)).mean() + 2 * 0.5 * 0.25**2
    weight = 0.5 - 1e-3 * slope.sign()
    reply = hospital.judge(3, synthetic)
    torch.testing.assert_close(hospital.discriminator.weight.detach(), weight)
    expected = 2 * weight * (weight * synthetic - 1) / synthetic.numel()
    torch.testing.assert_close(reply["gradient"], expected)
    assert reply["loss"] == pytest.approx(((weight * 0.25 - 1) ** 2).item())
    assert torch.equal(reply["masks"], hospital.batch(4)[0])
    assert reply.keys() == {"gradient", "loss", "masks"}
    # the kind of lesion that this hospital has
    assert reply["masks"][:, 0].sum() == 0 < reply["masks"][:, 1].sum()


class Site:
    """A hospital that answers what it is told to."""

    def __init__(self, name, count, value):
        self.name, self.count, self.value, self.asked = name, count, value, []

    def start(self):
        return {"count": self.count, "masks": torch.full((1, 2, 4, 4), self.value)}

    def judge(self, step, synthetic):
        self.asked.append((step, synthetic))
        return {"gradient": torch.ones_like(synthetic), "loss": 0.0, "masks": self.start()["masks"]}


def test_the_server_sends_each_hospital_its_own_images_and_weighs_by_their_number(example):
    generator = torch.nn.Conv2d(2, 1, 1, bias=False)
    torch.nn.init.ones_(generator.weight)
    sites = [Site("a", 30, 1.0), Site("b", 10, 2.0)]
    example["Server"](1, "").learn(generator, sites)
    for site in sites:
        ((step, synthetic),) = site.asked
        assert step == 0
        assert not synthetic.requires_grad
        assert torch.equal(synthetic, torch.full((1, 1, 4, 4), 2 * site.value))
    # of 16 pixels: 3/4 · 1 + 1/4 · 2, for each of two channels
    assert generator.weight.grad.flatten().tolist() == pytest.approx([20.0, 20.0])


def simulate(folder, *words):
    words = [sys.executable, str(PATH), "--output", str(folder), *words]
    done = subprocess.run(words, cwd=folder, env=os.environ, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return torch.load(folder / "generator.pt", weights_only=True)


@pytest.mark.federation
def test_flare_changes_no_bit(example, tmp_path):
    sites = []
    for name in example["HOSPITALS"]:
        sites.append(example["Hospital"]())
        sites[-1].prepare(name)
        sites[-1].name = name
    torch.manual_seed(0)
    here = example["Server"](10, "").learn(example["make_generator"](), sites).state_dict()
    there = simulate(tmp_path, "--steps", "10")
    assert here.keys() == there.keys()
    assert all(torch.equal(here[name], there[name]) for name in here)


@pytest.mark.federation
def test_the_generator_draws_what_each_hospital_has(example, tmp_path):
    generator = example["make_generator"]()
    generator.load_state_dict(simulate(tmp_path))
    assert (tmp_path / "synthetic.png").stat().st_size > 500
    bright, dark = (torch.stack([example["draw_mask"](seed + n) for n in range(8)]) for seed in (5000, 6000))
    dark = dark * (1 - bright)
    with torch.no_grad():
        images = generator(torch.stack([bright, dark], dim=1))[:, 0]
    assert images[bright > 0].mean() > 0.4
    assert images[dark > 0].mean() < -0.4
    assert images[(bright + dark) == 0].mean().abs() < 0.2
