"""The average of a network's weights over a training, which generates in place of the last ones."""

from __future__ import annotations

import torch
from ignite.engine import Engine
from ignite.handlers import EMAHandler

__all__ = ["WeightsAverage"]


class WeightsAverage(EMAHandler):
    """
    Ignite's exponential moving average of weights, in a network that is given, with a decay that grows to its value.

    A GAN's weights circle around where they should be, and their average is nearer to it (Yazici et al. 2019,
    https://arxiv.org/abs/1806.04498). After step t the average is decay_t · average + (1 − decay_t) · weights, with
    decay_t = min(decay, (1 + t) / (10 + t)), as TensorFlow's has it, so that the initial weights do not stay in it.

    Args:
        network: the network that is trained.
        average: a network of the same kind, which the average is written to; it begins as it is.
        decay: above 0, below 1.

    Raises:
        ValueError: when the decay is out of range.
    """

    def __init__(self, network: torch.nn.Module, average: torch.nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay: expected a number above 0 and below 1, got {decay}")
        super().__init__(network, momentum=1 - decay)
        self.decay = decay
        self.ema_model = average.requires_grad_(False)

    def _update_ema_model(self, engine: Engine, name: str) -> None:
        step = engine.state.iteration
        # from the step alone: a training that resumes goes on as if it had not stopped
        setattr(engine.state, name, 1 - min(self.decay, (1 + step) / (10 + step)))
        super()._update_ema_model(engine, name)
