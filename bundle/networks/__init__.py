"""Networks that MONAI lacks. Discriminators are MONAI's PatchDiscriminator."""

from bundle.networks.init import init_weights
from bundle.networks.mlp import MLPDiscriminator, MLPGenerator
from bundle.networks.resnet_generator import ResnetGenerator
from bundle.networks.vgg import VGGFeatures

__all__ = ["MLPDiscriminator", "MLPGenerator", "ResnetGenerator", "VGGFeatures", "init_weights"]
