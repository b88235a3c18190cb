"""What teachers predicted, in the place of a generator: the images that left, or the mean of the networks that did."""

import numpy as np
import pytest
import torch

from bundle.server import TaughtImages, TeacherNetworks, write_conditions, write_teacher_images
from bundle.wire.weights import pack_weights


def conv():
    return torch.nn.Conv2d(2, 1, 3, padding=1)


def conditions(number, seed=0):
    return list(np.random.default_rng(seed).integers(0, 2, (number, 2, 8, 8), dtype=np.uint8))


def images(number, seed=1):
    return list(np.random.default_rng(seed).uniform(-1, 1, (number, 1, 8, 8)).astype(np.float16))


def files(folder, known, taught):
    write_conditions(folder / "conditions.npz", known)
    write_teacher_images(folder / "teacher.npz", taught)
    return folder / "conditions.npz", folder / "teacher.npz"


def test_a_condition_that_left_gets_the_image_that_left_with_it(tmp_path):
    known = {"A": conditions(3), "B": conditions(2, 5), "no teacher": conditions(1, 6)}
    taught = {"A": images(3), "B": images(2, 7)}
    network = TaughtImages(*files(tmp_path, known, taught))
    batch = torch.from_numpy(np.stack([known["B"][1], known["A"][2]]))
    made = network(batch.float())  # as an inferer gives it
    assert made.dtype == torch.float32
    assert torch.equal(made, torch.from_numpy(np.stack([taught["B"][1], taught["A"][2]]).astype(np.float32)))
    assert list(network.parameters()) == []
    for condition in (known["no teacher"][0], known["A"][2] ^ 1):
        with pytest.raises(ValueError, match="no teacher's image of this condition"):
            network(torch.from_numpy(condition)[None])


def test_any_condition_gets_the_mean_of_what_the_networks_predict(tmp_path):
    teachers = TeacherNetworks(tmp_path / "teachers", conv)
    made = [conv() for _ in range(3)]
    for number, network in enumerate(made):
        teachers.keep(f"site {number}", pack_weights(network.state_dict()))
    assert teachers.sites() == ["site 0", "site 1", "site 2"]
    batch = torch.from_numpy(np.stack(conditions(2)))
    taught = TaughtImages(tmp_path / "no conditions.npz", tmp_path / "no images.npz", teachers)
    with torch.no_grad():
        expected = torch.stack([network(batch.float()).clamp(-1, 1) for network in made]).mean(dim=0)
    assert torch.allclose(taught(batch), expected, atol=1e-6)


def test_without_teachers_or_with_images_of_other_conditions_it_is_refused(tmp_path):
    for teachers in (None, TeacherNetworks(tmp_path / "none", conv)):
        with pytest.raises(ValueError, match=r"teacher\.npz: no site has a teacher"):
            TaughtImages(tmp_path / "conditions.npz", tmp_path / "teacher.npz", teachers)
    with pytest.raises(ValueError, match="the images of site A are not those of the conditions"):
        TaughtImages(*files(tmp_path, {"A": conditions(3)}, {"A": images(2)}))
