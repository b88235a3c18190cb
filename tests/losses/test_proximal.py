"""FedProx's term: its value, and the gradient that it adds."""

import torch
from torch import nn

from bundle.losses import ProximalLoss


def test_value_and_gradient_are_those_of_the_formula():
    network = nn.Linear(3, 2)
    loss = ProximalLoss(nn.MSELoss(), network, mu=0.5)
    held = [parameter.detach().clone() for parameter in network.parameters()]
    x, y = torch.randn(4, 3), torch.randn(4, 2)
    assert torch.equal(loss(network(x), y), nn.MSELoss()(network(x), y))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
    moved = sum(((p - h) ** 2).sum() for p, h in zip(network.parameters(), held, strict=True))
    assert torch.allclose(loss(network(x), y), nn.MSELoss()(network(x), y) + 0.25 * moved)
    # far from the data's optimum or not: what the term adds is mu times the way
    plain = torch.autograd.grad(nn.MSELoss()(network(x), y), list(network.parameters()))
    held_back = torch.autograd.grad(loss(network(x), y), list(network.parameters()))
    for p, h, a, b in zip(network.parameters(), held, plain, held_back, strict=True):
        assert torch.allclose(b - a, 0.5 * (p - h), atol=1e-6)
    loss.anchor()
    assert torch.equal(loss(network(x), y), nn.MSELoss()(network(x), y))
