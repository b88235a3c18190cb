"""Networks of one's own: what cannot be trained is refused before a training, in words that name the key."""

from functools import partial

import pytest
import torch
import yaml
from monai.networks.nets import AttentionUnet, UNet
from monai.networks.nets.spade_network import SPADENet
from torch import nn

from bundle.composition import stage_files
from bundle.networks import MLPGenerator, ResnetGenerator
from bundle.workflows import ConfigError, DistributedGANWorkflow
from bundle.workflows.network_checks import check_discriminator, check_generator, check_segmenter

CONDITION, IMAGE = (2, 16, 16), (1, 16, 16)
ATTENTION = partial(AttentionUnet, 2, 2, 1, channels=(4, 8), strides=(2,))
CONVOLUTION = partial(nn.Conv2d, 2, 1, 3, padding=1)


def spade(**kwargs):
    # a new list every time: MONAI's decoder adds to it
    return SPADENet(2, 1, 1, 2, (16, 16), [4, 4], is_vae=False, spade_intermediate_channels=4, **kwargs)


def ending_in(*last, first=CONVOLUTION):
    return lambda: nn.Sequential(first(), *last)


class WithSkip(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = CONVOLUTION()

    def forward(self, x):
        return torch.tanh(self.convolution(x)) + 0.1 * x[:, :1]


class SmallAtFirst(nn.Module):
    """In range with its first weights, and with no others."""

    def __init__(self):
        super().__init__()
        self.convolution = CONVOLUTION()
        nn.init.zeros_(self.convolution.weight)
        nn.init.zeros_(self.convolution.bias)

    def forward(self, x):
        return self.convolution(x)


BOUNDED = {
    "resnet": partial(ResnetGenerator, 2, 1, channels=4, num_blocks=1),
    "with noise": partial(ResnetGenerator, 2, 1, channels=4, num_blocks=1, noise_channels=2),
    "mlp": partial(MLPGenerator, 2, 1),
    "attention and tanh": ending_in(nn.Tanh(), first=ATTENTION),
    "a tuple of one": partial(spade, last_act="tanh"),
    "sigmoid": ending_in(nn.Sigmoid()),
    "cut off": ending_in(nn.Hardtanh()),
}
UNBOUNDED = {
    "attention": (ATTENTION, "got values from"),
    "spade": (spade, "got values from"),
    "relu": (ending_in(nn.ReLU()), "got values from"),
    "small at first": (SmallAtFirst, "in its last layer"),
    "beside a skip": (WithSkip, "got values from"),
    "a norm": (ending_in(nn.InstanceNorm2d(1)), "with its first weights"),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_what_is_bounded_by_its_kind_is_taken(name):
    before = torch.get_rng_state()
    check_generator(BOUNDED[name], CONDITION, IMAGE)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", UNBOUNDED)
def test_what_may_leave_the_range_is_refused(name):
    make, words = UNBOUNDED[name]
    with pytest.raises(ConfigError, match=rf"generator_def: expected one tensor .* in \[-1, 1\].*{words}.*end in tanh"):
        check_generator(make, CONDITION, IMAGE)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (partial(ResnetGenerator, 3, 1, channels=4), "of conditions B×2×16×16, got RuntimeError"),
        (partial(ResnetGenerator, 2, 3, channels=4), "got a tensor 2×3×16×16"),
        (ending_in(nn.MaxPool2d(2)), "got a tensor 2×1×8×8"),
        (lambda: SPADENet(2, 1, 1, 2, (16, 16), [4, 4], z_dim=4), r"got \w+Error"),
    ],
)
def test_another_shape_is_refused(make, words):
    with pytest.raises(ConfigError, match=rf"generator_def: expected one tensor B×1×16×16 .*{words}"):
        check_generator(make, CONDITION, IMAGE)


def test_a_tuple_of_several_is_refused():
    class Two(nn.Module):
        def forward(self, x):
            return x[:, :1], x[:, 1:]

    with pytest.raises(ConfigError, match=r"generator_def: expected one tensor .*, got a tuple of 2"):
        check_generator(Two, CONDITION, IMAGE)


def test_discriminators():
    check_discriminator(partial(nn.Conv2d, 3, 1, 4), CONDITION, IMAGE)
    with pytest.raises(ConfigError, match=r"discriminator_def: expected logits, .*B×3×16×16, got RuntimeError"):
        check_discriminator(partial(nn.Conv2d, 2, 1, 4), CONDITION, IMAGE)
    with pytest.raises(ConfigError, match=r"discriminator_def: expected logits, .* got a list of 0"):
        check_discriminator(lambda: _Fixed([]), CONDITION, IMAGE)
    with pytest.raises(ValueError, match="discriminator_def needs `_mode_: callable`"):
        check_discriminator(nn.Conv2d(3, 1, 4), CONDITION, IMAGE)


def test_segmenters():
    unet = partial(UNet, 2, 1, channels=(4, 8), strides=(2,))
    check_segmenter(partial(unet, out_channels=3), "segmenter_def", IMAGE, 3)
    with pytest.raises(ConfigError, match=r"segmenter_def: expected one tensor B×3×16×16, .* got a tensor 2×2×16×16"):
        check_segmenter(partial(unet, out_channels=2), "segmenter_def", IMAGE, 3)
    with pytest.raises(ConfigError, match="image_size: segmenter_def does not take images of 16x16 pixels"):
        check_segmenter(partial(nn.Conv2d, 2, 1, 4), "segmenter_def", IMAGE, 1)


class _Fixed(nn.Module):
    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x):
        return self.output


OWN = {
    "spatial_dims": 2,
    "in_channels": "@condition_channels",
    "out_channels": "@image_channels",
    "channels": [4, 8],
    "strides": [2],
}


def training(phantom_dir, run_dir, sizes, generator):
    return DistributedGANWorkflow(
        stage_files("train", "brats", "demo"),
        dataset_dir=str(phantom_dir),
        run_dir=str(run_dir),
        logging_file=False,
        **sizes | generator,
    )


def test_a_training_refuses_before_it_writes_anything(phantom_dir, tiny_sizes, tmp_path):
    own = {"generator_def": {"_target_": "AttentionUnet", "_mode_": "callable", **OWN}}
    workflow = training(phantom_dir, tmp_path, tiny_sizes, own)
    workflow.initialize()
    with pytest.raises(ConfigError, match=r"generator_def: expected one tensor B×1×32×32 in \[-1, 1\]"):
        workflow.run()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_network_of_the_how_to_is_trained(phantom_dir, tiny_sizes, tmp_path):
    own = {
        "generator_def": "$lambda: torch.nn.Sequential(@unbounded_def(), torch.nn.Tanh())",
        "unbounded_def": {"_target_": "AttentionUnet", "_mode_": "callable", **OWN},
    }
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(own), encoding="utf-8")
    workflow = DistributedGANWorkflow(
        [*stage_files("train", "brats", "demo"), str(mine)],
        dataset_dir=str(phantom_dir),
        run_dir=str(tmp_path / "run"),
        logging_file=False,
        **tiny_sizes,
    )
    workflow.initialize()
    workflow.run()
    assert workflow.finished
