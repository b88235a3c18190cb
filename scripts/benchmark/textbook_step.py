"""A step of AsynDGAN as a textbook would write it, in plain PyTorch: the yardstick of the benchmark.

Nothing of the project is used, and nothing is optimised: float32, eager, channels first, a site after the other, no
messages. Sizes, losses and optimisers are the published ones (Chang et al., CVPR 2020): the ResNet generator of
CycleGAN, the 70×70 PatchGAN, the vanilla GAN, 100·L1, Adam. Not for training: it draws no data.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["TextbookStep", "patch_discriminator", "resnet_generator"]


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


def resnet_generator(inputs: int, outputs: int, width: int = 64, blocks: int = 9) -> nn.Sequential:
    """G of CycleGAN, https://arxiv.org/abs/1703.10593: B×inputs×H×W → B×outputs×H×W in (-1, 1), float32."""
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(inputs, width, 7)]
    layers += [nn.InstanceNorm2d(width), nn.ReLU(inplace=True)]
    for _ in range(2):
        layers += [nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.InstanceNorm2d(2 * width)]
        layers.append(nn.ReLU(inplace=True))
        width *= 2
    layers += [_Residual(width) for _ in range(blocks)]
    for _ in range(2):
        layers.append(nn.ConvTranspose2d(width, width // 2, 3, stride=2, padding=1, output_padding=1))
        layers += [nn.InstanceNorm2d(width // 2), nn.ReLU(inplace=True)]
        width //= 2
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, outputs, 7), nn.Tanh())


def patch_discriminator(inputs: int, width: int = 64, num_layers: int = 3) -> nn.Sequential:
    """D of pix2pix, https://arxiv.org/abs/1611.07004: B×inputs×H×W → logits of patches, float32."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    for layer in range(num_layers):
        stride = 1 if layer == num_layers - 1 else 2
        layers.append(nn.Conv2d(width, 2 * width, 4, stride=stride, padding=1, bias=False))
        layers += [nn.InstanceNorm2d(2 * width), nn.LeakyReLU(0.2)]
        width *= 2
    return nn.Sequential(*layers, nn.Conv2d(width, 1, 4, padding=1))


class TextbookStep:
    """
    One update of every D_j, and of G by Σ_j π_j ∂L_j/∂ŷ_j.

    Args:
        generator: G.
        discriminators: D_j, one a site.
        weights: π_j, one a site.
        rate: of Adam(rate, 0.5, 0.999), for G and every D.
        l1_weight: λ_L1.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminators: Sequence[nn.Module],
        weights: Sequence[float],
        rate: float = 2e-4,
        l1_weight: float = 100.0,
    ) -> None:
        self.generator = generator
        self.discriminators = list(discriminators)
        self.weights = list(weights)
        self.l1_weight = l1_weight
        self.optimizer = torch.optim.Adam(generator.parameters(), rate, (0.5, 0.999))
        self.optimizers = [torch.optim.Adam(d.parameters(), rate, (0.5, 0.999)) for d in self.discriminators]

    def __call__(self, batches: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> list[dict[str, float]]:
        """
        Args:
            batches: condition B×X×H×W and real image B×C×H×W of every site, float32.

        Returns:
            ``discriminator``, ``adversarial`` and ``l1`` of every site, neither weighted nor scaled.
        """
        losses = []
        self.optimizer.zero_grad()
        for place, (condition, real) in enumerate(batches):
            discriminator, optimizer = self.discriminators[place], self.optimizers[place]
            fake = self.generator(condition)

            optimizer.zero_grad()
            on_real = discriminator(torch.cat([condition, real], dim=1))
            on_fake = discriminator(torch.cat([condition, fake.detach()], dim=1))
            loss_d = 0.5 * (_bce(on_real, 1.0) + _bce(on_fake, 0.0))
            loss_d.backward()
            optimizer.step()

            discriminator.requires_grad_(False)
            adversarial = _bce(discriminator(torch.cat([condition, fake], dim=1)), 1.0)
            l1 = F.l1_loss(fake, real)
            (self.weights[place] * (adversarial + self.l1_weight * l1)).backward()
            discriminator.requires_grad_(True)
            losses.append({"discriminator": loss_d.item(), "adversarial": adversarial.item(), "l1": l1.item()})
        self.optimizer.step()
        return losses


def _bce(logits: torch.Tensor, target: float) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))
