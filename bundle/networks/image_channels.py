"""A network's definition for fewer image channels than it was written for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

__all__ = ["for_image_channels"]


def for_image_channels(
    network: Callable[[], nn.Module], lacking: int, keys: Sequence[str] = ("in_channels", "image_channels")
) -> Callable[[], nn.Module]:
    """
    Args:
        network: makes a discriminator; in a config a component with ``_mode_: callable``, that is a partial with
            ``in_channels`` of condition and image, or ``image_channels``, or both.
        lacking: how many of the image's channels a site does not have.
        keys: arguments that count the image's channels, others among them or not; of a teacher ``out_channels``.

    Returns:
        Makes the same network for an image with that many channels less.

    Raises:
        ValueError: when the definition says neither, or too few.
    """
    if not lacking:
        return network
    makes = network
    while isinstance(makes, partial) and callable(inner := makes.keywords.get("network")):
        makes = inner  # one that normalises what another makes
    given = makes.keywords if isinstance(makes, partial) else {}
    sizes = {key: given[key] - lacking for key in keys if isinstance(given.get(key), int)}
    if not sizes or min(sizes.values()) < 1:
        raise ValueError(
            f"the definition of a network says {sizes or 'nothing of ' + ' and '.join(keys)} for a site that lacks "
            f"{lacking} of the modalities: expected a component with `_mode_: callable` and {' or '.join(keys)} "
            "(discriminator_def, teacher_def, private_teacher_def)"
        )
    return _remade(network, sizes)


def _remade(network: Callable[[], nn.Module], sizes: dict[str, int]) -> Callable[[], nn.Module]:
    if isinstance(network, partial) and callable(inner := network.keywords.get("network")):
        return partial(network, network=_remade(inner, sizes))
    return partial(network, **sizes)
