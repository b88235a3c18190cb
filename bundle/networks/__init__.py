"""Networks that MONAI lacks. MONAI's PatchDiscriminator is the published one."""

from bundle.networks.conv_regressor import ConvRegressor
from bundle.networks.image_channels import for_image_channels
from bundle.networks.init import init_weights
from bundle.networks.label_painter import LabelPainter
from bundle.networks.mlp import MLPDiscriminator, MLPGenerator
from bundle.networks.pooled import PooledFeatures
from bundle.networks.resnet_features import ResNetFeatures
from bundle.networks.resnet_generator import ResnetGenerator
from bundle.networks.segmentation_discriminator import SegmentationDiscriminator
from bundle.networks.spade_generator import SpadeGenerator
from bundle.networks.vgg import VGGFeatures
from bundle.networks.weight_norms import demodulate, spectrally_normalized
from bundle.networks.weights import load_weights, read_weights

__all__ = [
    "ConvRegressor",
    "LabelPainter",
    "MLPDiscriminator",
    "MLPGenerator",
    "PooledFeatures",
    "ResNetFeatures",
    "ResnetGenerator",
    "SegmentationDiscriminator",
    "SpadeGenerator",
    "VGGFeatures",
    "demodulate",
    "for_image_channels",
    "init_weights",
    "load_weights",
    "read_weights",
    "spectrally_normalized",
]
