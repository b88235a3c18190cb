import pytest
import torch

from bundle.losses import AdversarialLoss, PerceptualLoss, SiteLoss
from bundle.networks import VGGFeatures


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 1, 4, 4, generator=generator)
    return logits, torch.rand(2, 1, 16, 16, generator=generator) * 2 - 1, torch.rand(2, 1, 16, 16, generator=generator)


def test_published_sum_and_its_terms():
    logits, synthetic, image = batch()
    adversarial = AdversarialLoss()
    total, terms = SiteLoss(adversarial).generator(logits, synthetic, image)
    assert list(terms) == ["adversarial", "l1"]
    torch.testing.assert_close(terms["adversarial"], adversarial.generator(logits))
    torch.testing.assert_close(terms["l1"], (synthetic - image).abs().mean())
    torch.testing.assert_close(total, terms["adversarial"] + 100 * terms["l1"])
    assert total.ndim == 0
    assert total.dtype == torch.float32


def test_gradient_of_l1_by_hand():
    logits, synthetic, image = batch()
    synthetic.requires_grad_()
    SiteLoss(AdversarialLoss(), l1_weight=7).generator(logits, synthetic, image)[0].backward()
    torch.testing.assert_close(synthetic.grad, 7 * (synthetic - image).sign().detach() / synthetic.numel())


def test_scales_of_the_2020_code():
    logits, synthetic, image = batch()
    adversarial = AdversarialLoss()
    plain, scaled = SiteLoss(adversarial), SiteLoss(adversarial, generator_scale=0.1, discriminator_scale=0.05)
    torch.testing.assert_close(
        scaled.generator(logits, synthetic, image)[0], 0.1 * plain.generator(logits, synthetic, image)[0]
    )
    torch.testing.assert_close(scaled.discriminator(logits, -logits), 0.05 * plain.discriminator(logits, -logits))
    assert scaled.generator(logits, synthetic, image)[1] == plain.generator(logits, synthetic, image)[1]
    assert scaled.describe() == "vanilla adversarial + 100·L1; scaled by 0.1 (G) and 0.05 (D)"


def test_perceptual_term(tmp_path):
    torch.save(VGGFeatures(16, ("relu1_1",)).state_dict(), tmp_path / "vgg.pth")
    perceptual = PerceptualLoss(tmp_path / "vgg.pth", VGGFeatures(16, ("relu1_1",)))
    logits, synthetic, image = batch()
    loss = SiteLoss(AdversarialLoss(), l1_weight=0, perceptual=perceptual, perceptual_weight=10)
    total, terms = loss.generator(logits, synthetic, image)
    assert list(terms) == ["adversarial", "perceptual"]
    torch.testing.assert_close(total, terms["adversarial"] + 10 * perceptual(synthetic, image))
    assert loss.describe() == "vanilla adversarial + 10·perceptual"


@pytest.mark.parametrize("weight", [0.0, 10.0])
def test_terms_without_weight_or_weights_are_off(weight):
    loss = SiteLoss(AdversarialLoss("hinge"), perceptual=PerceptualLoss(), perceptual_weight=weight)
    assert list(loss.generator(*batch())[1]) == ["adversarial", "l1"]
    assert loss.describe() == "hinge adversarial + 100·L1"
    assert not list(loss.parameters())


def test_class_weights():
    logits, synthetic, image = batch()
    adversarial = AdversarialLoss()
    loss = SiteLoss(adversarial, l1_weight=0, class_weights=[10, 2, 1])
    assert loss.describe() == "vanilla adversarial (classes 10:2:1)"
    condition = torch.zeros(2, 2, 16, 16)
    condition[0, 1] = 1  # the outline is everywhere in the first image
    condition[0, 0, :8] = 1  # its upper half is of the class
    # a logit stands for 4×4 pixels; the second image is all background
    shares = torch.tensor([[10.0] * 8 + [2.0] * 8, [1.0] * 16]).view(2, 1, 4, 4)
    losses = torch.nn.functional.softplus(-logits)
    expected = (losses * shares).sum() / shares.sum()
    torch.testing.assert_close(loss.generator(logits, synthetic, image, condition)[0], expected)
    # what is all of one class is not weighted at all, and real and synthetic have weights of their own
    whole = torch.zeros_like(condition)
    real, fake = torch.nn.functional.softplus(-logits).mean(), torch.nn.functional.softplus(-logits)
    torch.testing.assert_close(
        loss.discriminator(logits, -logits, whole, condition), 0.5 * (real + (fake * shares).sum() / shares.sum())
    )


@pytest.mark.parametrize("criterion", ["vanilla", "least_squares", "hinge"])
def test_class_weights_that_are_alike_change_nothing(criterion):
    logits, synthetic, image = batch()
    plain = SiteLoss(AdversarialLoss(criterion))
    alike = SiteLoss(AdversarialLoss(criterion), class_weights=[3, 3, 3])
    assert torch.equal(plain.generator(logits, synthetic, image)[0], alike.generator(logits, synthetic, image)[0])
    assert plain.describe() == alike.describe()


def test_bad_class_weights():
    logits, synthetic, image = batch()
    with pytest.raises(ValueError, match="class_weights: expected numbers above 0"):
        SiteLoss(AdversarialLoss(), class_weights=[1, 0])
    loss = SiteLoss(AdversarialLoss(), class_weights=[10, 1])
    with pytest.raises(ValueError, match="condition of 1 channels and the background, got a condition of 2"):
        loss.generator(logits, synthetic, image, torch.zeros(2, 2, 16, 16))
    with pytest.raises(ValueError, match="got no condition"):
        loss.discriminator(logits, logits)


def test_bad_arguments():
    logits, synthetic, image = batch()
    with pytest.raises(ValueError, match="one shape"):
        SiteLoss(AdversarialLoss()).generator(logits, synthetic, image[:1])
    for options in ({"l1_weight": -1}, {"perceptual_weight": -1}, {"generator_scale": 0}, {"discriminator_scale": 0}):
        with pytest.raises(ValueError, match="expected"):
            SiteLoss(AdversarialLoss(), **options)
