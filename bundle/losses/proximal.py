"""The term that keeps a site's segmenter near the averaged one."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["ProximalLoss"]


class ProximalLoss(nn.Module):
    """
    A loss and mu / 2 times the squared distance of a network's parameters from those that they had when
    :meth:`anchor` was called (FedProx, Li et al. 2020, *Federated Optimization in Heterogeneous Networks*, equation 2).

    Args:
        loss: of a prediction and its label.
        network: whose parameters are held.
        mu: weight of the term, >= 0.
    """

    def __init__(self, loss: nn.Module, network: nn.Module, mu: float) -> None:
        super().__init__()
        self.loss = loss
        self.mu = mu
        self._parameters_held = list(network.parameters())
        self.anchor()

    def anchor(self) -> None:
        """Hold the network where it is now."""
        self._anchors = [parameter.detach().clone() for parameter in self._parameters_held]

    def forward(self, prediction: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        pairs = zip(self._parameters_held, self._anchors, strict=True)
        distance = torch.stack([(parameter - anchor).pow(2).sum() for parameter, anchor in pairs]).sum()
        return self.loss(prediction, label) + self.mu / 2 * distance
