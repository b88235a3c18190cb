"""The random transforms as the task's config declares them."""

from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from bundle.composition import task_files
from bundle.transforms import label_from_condition

ROOT = Path(__file__).resolve().parents[2]


def parsed(key, task="brats", **overrides):
    parser = ConfigParser()
    parser.read_config(task_files(task, ["demo"]))
    parser.update(overrides)
    return parser.get_parsed_content(key)


@pytest.mark.parametrize("margin", [0, 8])
def test_flips_and_crops_are_shared_by_x_and_y(margin):
    augmentation = parsed("augmentation", crop_margin=margin)
    image = torch.full((1, 64, 64), -1.0)
    image[0, 10:20, 30:50] = 1.0
    condition = (image > 0).to(torch.uint8).repeat(2, 1, 1)
    seen = set()
    for seed in range(16):
        sample = augmentation.set_random_state(seed=seed)({"image": image, "condition": condition})
        y, x = sample["image"].as_tensor(), sample["condition"].as_tensor()
        assert y.shape == (1, 64, 64)
        assert x.dtype == torch.uint8
        assert torch.equal(y > 0, x[:1] > 0)
        assert set(y.unique().tolist()) <= {-1.0, 1.0}
        seen.add(tuple(torch.nonzero(y[0] > 0)[0].tolist()))
    # without a margin: as it is, and mirrored
    assert len(seen) == 2 if margin == 0 else len(seen) > 8


@pytest.mark.parametrize("task", ["brats", "multi_organ"])
@pytest.mark.parametrize("size", [64, 128])
def test_x_and_y_are_bent_together(task, size):
    image = torch.full((3, size, size), -1.0)
    image[:, size // 4 : size // 2, size // 3 : 3 * size // 4] = 1.0
    condition = (image[:1] > 0).to(torch.uint8).repeat(2, 1, 1)
    plain = {"image": image, "condition": condition}
    augmentation = parsed("augmentation", task, image_size=size, bend_prob=1.0)
    changed = []
    for seed in range(8):
        sample = augmentation.set_random_state(seed=seed)(plain)
        y, x = sample["image"].as_tensor(), sample["condition"].as_tensor()
        assert (y.shape, y.dtype, x.shape, x.dtype) == (image.shape, image.dtype, condition.shape, torch.uint8)
        assert ((y[:1] > 0) != (x[:1] > 0)).float().mean() < 0.005  # edges are interpolated
        changed.append((x != condition).float().mean().item())
        deformed = parsed("condition_deformation", task, image_size=size).set_random_state(seed=seed)(plain)
        assert not torch.equal(deformed["condition"], condition)  # whatever bend_prob is
    assert min(changed) > 0.005
    never = parsed("augmentation", task, image_size=size, bend_prob=0.0).set_random_state(seed=0)(plain)
    assert never["image"].unique().tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("key", ["condition_augmentation", "copy_augmentation"])
def test_copies_of_a_condition_differ_and_stay_conditions(key):
    augmentation = parsed(key)
    condition = torch.zeros(2, 64, 64, dtype=torch.uint8)
    condition[1, 10:50, 12:40] = 1
    condition[0, 20:30, 15:25] = 1
    copies = [augmentation.set_random_state(seed=s)({"image": condition})["image"].as_tensor() for s in range(6)]
    for copy in copies:
        assert copy.shape == condition.shape
        assert set(copy.unique().tolist()) == {0, 1}
        assert 30 < label_from_condition(copy.to(torch.uint8), 1).sum() < 220
    assert all(not torch.equal(a, b) for i, a in enumerate(copies) for b in copies[:i])
