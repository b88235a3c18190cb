"""Networks that MONAI lacks. Discriminators are MONAI's PatchDiscriminator."""

from bundle.networks.init import init_weights
from bundle.networks.mlp import MLPDiscriminator, MLPGenerator
from bundle.networks.pooled import PooledFeatures
from bundle.networks.resnet_features import ResNetFeatures
from bundle.networks.resnet_generator import ResnetGenerator
from bundle.networks.vgg import VGGFeatures
from bundle.networks.weights import load_weights, read_weights

__all__ = [
    "MLPDiscriminator",
    "MLPGenerator",
    "PooledFeatures",
    "ResNetFeatures",
    "ResnetGenerator",
    "VGGFeatures",
    "init_weights",
    "load_weights",
    "read_weights",
]
