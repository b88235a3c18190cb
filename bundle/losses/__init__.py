"""What a site computes on (x, y, ŷ)."""

from bundle.losses.adversarial import AdversarialLoss
from bundle.losses.discriminator_augmentation import DiscriminatorAugmentation
from bundle.losses.perceptual import PerceptualLoss
from bundle.losses.proximal import ProximalLoss
from bundle.losses.site_loss import SiteLoss

__all__ = ["AdversarialLoss", "DiscriminatorAugmentation", "PerceptualLoss", "ProximalLoss", "SiteLoss"]
