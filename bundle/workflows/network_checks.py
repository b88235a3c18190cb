"""What is asked of a configuration's networks before anything is trained: each is made, called once and thrown away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from bundle.engines import one_tensor
from bundle.seeding import derive_seed, forked_rng, seeded
from bundle.wire.guards import TOLERANCE, by
from bundle.workflows.config_checks import ConfigError

__all__ = ["check_discriminator", "check_generator", "check_segmenter"]

# what a network raises that is called with what it does not take
_REFUSALS = (RuntimeError, ValueError, TypeError, AttributeError, LookupError)
_BATCH = 2
_FAR = 1e3  # standard deviation of weights with which what is not bounded goes far out of [-1, 1]


def check_generator(make: Callable[[], nn.Module], condition_shape: Sequence[int], image_shape: Sequence[int]) -> None:
    """
    Call a generator on random conditions twice: with its first weights, and with those of its last layer drawn anew
    from N(0, 10³). What ends in tanh stays in [-1, 1] with any weights; what has to learn to stay there may leave.

    It is made on the CPU in the size of the training. The random stream of torch is left as it was.

    Args:
        make: the content of ``generator_def``.
        condition_shape: X×H×W.
        image_shape: C×H×W.

    Raises:
        ConfigError: when it does not take B×X×H×W, or returns anything but one tensor B×C×H×W of finite values in
            [-1, 1]; a tuple or list of one counts as what is in it.
        ValueError: see :func:`bundle.seeding.seeded`.
    """
    expected = f"one tensor B×{by(image_shape)} in [-1, 1], made of conditions B×{by(condition_shape)}"
    network = seeded(make, 0, "generator").eval()
    with forked_rng(derive_seed(0, "check", "generator")), torch.no_grad():
        conditions = torch.randint(0, 2, (_BATCH, *condition_shape)).float()
        called: list[nn.Module] = []
        hooks = [module.register_forward_hook(_note(called)) for module in network.modules() if _weights(module)]
        image = one_tensor(_call(network, conditions, "generator_def", expected))
        for hook in hooks:
            hook.remove()
        _check_shape(image, image_shape, "generator_def", expected)
        _check_range(image, expected, "its first weights")
        if called:
            for weight in _weights(called[-1]):
                weight.normal_(0, _FAR)
            image = one_tensor(_call(network, conditions, "generator_def", expected))
            _check_range(image, expected, "other weights in its last layer")


def check_discriminator(
    make: Callable[[], nn.Module], condition_shape: Sequence[int], image_shape: Sequence[int]
) -> None:
    """
    Pass a condition and an image through a discriminator, all without numbers.

    Args:
        make: the content of ``discriminator_def``.
        condition_shape: X×H×W.
        image_shape: C×H×W.

    Raises:
        ConfigError: when it does not take B×(X+C)×H×W, or returns neither logits B×K×… nor layers with them at the end.
        ValueError: when ``make`` is a network already.
    """
    inputs = (condition_shape[0] + image_shape[0], *image_shape[1:])
    expected = f"logits, or a list of layers with the logits last, of condition and image as channels, B×{by(inputs)}"
    layers = _without_numbers(make, inputs, "discriminator_def", expected)
    if layers is None:
        return
    logits = layers[-1] if isinstance(layers, list | tuple) and layers else layers
    if not isinstance(logits, torch.Tensor) or logits.dim() < 2 or len(logits) != _BATCH:
        raise ConfigError(f"discriminator_def: expected {expected}, got {_said(logits)}")


def check_segmenter(make: Callable[[], nn.Module], key: str, image_shape: Sequence[int], classes: int) -> None:
    """
    Pass an image of the training's size through a network that segments, all without numbers.

    Args:
        make: the content of ``key``.
        key: ``segmenter_def`` or ``feature_network_def``.
        image_shape: C×H×W.
        classes: how many channels it has to return, with the background.

    Raises:
        ConfigError: naming the key and the size.
        ValueError: when ``make`` is a network already.
    """
    size = f"image_size: {key} does not take images of {'x'.join(map(str, image_shape[1:]))} pixels"
    expected = f"one tensor B×{by((classes, *image_shape[1:]))}, a channel for every class and one for the background"
    logits = _without_numbers(make, image_shape, key, expected, size)
    if logits is None:
        return
    logits = one_tensor(logits)
    if isinstance(logits, torch.Tensor) and logits.shape[2:] != torch.Size(image_shape[1:]):
        raise ConfigError(f"{size}: what it returns is {'x'.join(map(str, logits.shape[2:]))}")
    _check_shape(logits, (classes, *image_shape[1:]), key, expected)


def _without_numbers(
    make: Callable[[], nn.Module], shape: Sequence[int], key: str, expected: str, refused: str | None = None
) -> Any:
    """What a network returns on the meta device; None where it needs numbers to be called."""
    if isinstance(make, nn.Module):
        raise ValueError(f"{key} needs `_mode_: callable`, so that its weights can be seeded")
    try:
        with torch.device("meta"):
            network, inputs = make().eval(), torch.empty(_BATCH, *shape)
        return _call(network, inputs, key, expected, refused)
    except NotImplementedError:
        return None


def _call(network: nn.Module, inputs: torch.Tensor, key: str, expected: str, refused: str | None = None) -> Any:
    try:
        return network(inputs)
    except NotImplementedError:
        raise
    except _REFUSALS as error:
        said = refused or f"{key}: expected {expected}, got {type(error).__name__}"
        raise ConfigError(f"{said} ({(str(error).splitlines() or [''])[0]})") from error


def _note(called: list[nn.Module]) -> Callable[..., None]:
    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        called.append(module)

    return note


def _weights(module: nn.Module) -> list[nn.Parameter]:
    """Weights that are a layer's own, and not those of layers in it."""
    return [weight for weight in module.parameters(recurse=False) if weight.is_floating_point()]


def _check_shape(output: Any, shape: Sequence[int], key: str, expected: str) -> None:
    if not isinstance(output, torch.Tensor) or output.shape != (_BATCH, *shape):
        raise ConfigError(f"{key}: expected {expected}, got {_said(output)}")


def _check_range(image: torch.Tensor, expected: str, weights: str) -> None:
    low, high = image.min().item(), image.max().item()
    if not -1 - TOLERANCE <= low <= high <= 1 + TOLERANCE:
        raise ConfigError(
            f"generator_def: expected {expected}, got values from {low:.4g} to {high:.4g} with {weights}: "
            "let it end in tanh"
        )


def _said(output: Any) -> str:
    if isinstance(output, torch.Tensor):
        return f"a tensor {by(output.shape) or 'of one number'}"
    if isinstance(output, list | tuple):
        return f"a {type(output).__name__} of {len(output)}"
    return f"a {type(output).__name__}"
