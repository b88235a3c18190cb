import threading

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, get_track_meta
from monai.transforms import Compose, Lambdad, RandFlipd, RandGaussianNoised

from bundle.composition import stage_files
from bundle.transforms import tracking_metadata, varied

KEYS = ("augmentation", "segmenter_augmentation", "strong_segmenter_augmentation", "condition_deformation")


@pytest.mark.parametrize(("task", "channels"), [("brats", 1), ("multi_organ", 3)])
@pytest.mark.parametrize("key", KEYS)
def test_bits_are_those_of_transforms_with_metadata(task, channels, key):
    parser = ConfigParser()
    parser.read_config([str(file) for file in stage_files("train", task, "compact")])
    transform = parser.get_parsed_content(key)
    size = parser.get_parsed_content("image_size")
    torch.manual_seed(0)
    sample = {
        "image": torch.rand(channels, size, size) * 2 - 1,
        "condition": (torch.rand(2, size, size) > 0.5).to(torch.uint8),
        "label": torch.randint(0, 2, (1, size, size)).to(torch.uint8),
        "case": "one",
    }
    before = {name: value.clone() for name, value in sample.items() if name != "case"}
    for seed in range(3):
        expected = transform.set_random_state(seed=seed)(dict(sample))
        found = varied(transform, sample, seed)
        assert found.keys() == sample.keys()
        assert found["case"] == "one"
        for name, kept in before.items():
            assert type(found[name]) is torch.Tensor
            assert torch.equal(found[name], torch.as_tensor(expected[name]).as_subclass(torch.Tensor))
            assert found[name].dtype == expected[name].dtype
            assert torch.equal(sample[name], kept)


def test_the_seed_says_what_happens():
    transform = Compose([RandFlipd("image", prob=0.5), RandGaussianNoised("image", prob=1.0)])
    image = torch.zeros(1, 8, 8)
    one, again, other = (varied(transform, {"image": image}, seed)["image"] for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_the_switch_is_as_before_whatever_happens():
    def fail(image):
        assert not get_track_meta()
        raise OSError("of the transform")

    with pytest.raises(RuntimeError):
        varied(Compose([Lambdad("image", fail)]), {"image": torch.zeros(1, 2, 2)}, 0)
    assert get_track_meta()


def test_whoever_reads_in_another_thread_has_metadata():
    inside, read = threading.Event(), []

    def wait(image):
        inside.set()
        # the other thread asks now, and must not get its turn
        reader.join(timeout=0.2)
        return image

    def load():
        inside.wait(timeout=10)
        with tracking_metadata(True):
            read.append(
                isinstance(
                    Compose([RandFlipd("image", prob=1.0)])({"image": torch.zeros(1, 2, 2)})["image"], MetaTensor
                )
            )

    reader = threading.Thread(target=load)
    reader.start()
    varied(Compose([Lambdad("image", wait)]), {"image": torch.zeros(1, 2, 2)}, 0)
    reader.join(timeout=10)
    assert read == [True]
