"""The discriminator: MONAI's, with spectral normalisation where it is asked for."""

from __future__ import annotations

from typing import Any

from monai.networks.nets import PatchDiscriminator
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrizations import spectral_norm as normalize

__all__ = ["patch_discriminator"]


def patch_discriminator(spectral_norm: bool = False, **arguments: Any) -> PatchDiscriminator:
    """
    MONAI's ``PatchDiscriminator``, if wished with the weights of every convolution divided by their largest singular
    value (Miyato et al. 2018, https://arxiv.org/abs/1802.05957), by one power iteration at each call in training mode.

    A discriminator whose slope is bounded keeps on telling a generator where to go, where one without a bound becomes
    certain of itself and turns from step to step. It stands in for other normalisations: with ``norm: null`` a
    discriminator sees levels of intensity that instance normalisation takes away.

    Args:
        spectral_norm: whether to.
        arguments: of ``monai.networks.nets.PatchDiscriminator``.

    Raises:
        TypeError: for other arguments.

    >>> network = patch_discriminator(spatial_dims=2, channels=8, in_channels=3, norm=None, spectral_norm=True)
    >>> network.initial_conv.conv.parametrizations.weight[0].__class__.__name__
    '_SpectralNorm'
    """
    network = PatchDiscriminator(**arguments)
    if spectral_norm:
        for layer in [module for module in network.modules() if isinstance(module, _ConvNd)]:
            normalize(layer)
    return network
