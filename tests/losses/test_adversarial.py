import math

import pytest
import torch
from monai.losses import PatchAdversarialLoss

from bundle.losses import AdversarialLoss


def logits(seed, scale=2.0):
    return scale * torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(seed))


def test_vanilla_equals_monais_bce_on_moderate_logits():
    ours, theirs = AdversarialLoss("vanilla"), PatchAdversarialLoss(criterion="bce")
    real, fake = logits(0), logits(1)
    expected = 0.5 * (theirs(real, True, True) + theirs(fake, False, True))
    torch.testing.assert_close(ours.discriminator(real, fake), expected)
    torch.testing.assert_close(ours.generator(fake), theirs(fake, True, False))


def test_vanilla_equals_its_formula():
    real, fake = logits(0).double(), logits(1).double()
    loss = AdversarialLoss("vanilla")
    discriminator = 0.5 * (-real.sigmoid().log().mean() - (1 - fake.sigmoid()).log().mean())
    assert loss.discriminator(real, fake).item() == pytest.approx(discriminator.item(), rel=1e-5)
    assert loss.generator(fake).item() == pytest.approx(-fake.sigmoid().log().mean().item(), rel=1e-5)


def test_undecided_discriminator():
    zero = torch.zeros(1, 1, 3, 3)
    for criterion, discriminator, generator in [
        ("vanilla", math.log(2), math.log(2)),
        ("least_squares", 0.5, 1.0),
        ("hinge", 1.0, 0.0),
    ]:
        loss = AdversarialLoss(criterion)
        assert loss.discriminator(zero, zero).item() == pytest.approx(discriminator)
        assert loss.generator(zero).item() == pytest.approx(generator)


def test_vanilla_keeps_its_gradient_where_monais_bce_loses_it():
    # A discriminator that takes a synthetic image for real with certainty: no one has more to learn.
    for module, expected in [(AdversarialLoss("vanilla"), 0.5), (PatchAdversarialLoss(criterion="bce"), 0.0)]:
        fake = torch.full((1, 1, 1, 1), 30.0, requires_grad=True)
        if isinstance(module, AdversarialLoss):
            loss = module.discriminator(torch.zeros_like(fake), fake)
        else:
            loss = 0.5 * module(fake, False, True)
        loss.backward()
        assert fake.grad.item() == pytest.approx(expected)
    # And a generator whose image is found out with certainty.
    for module, expected in [(AdversarialLoss("vanilla"), -1.0), (PatchAdversarialLoss(criterion="bce"), 0.0)]:
        fake = torch.full((1, 1, 1, 1), -200.0, requires_grad=True)
        loss = module.generator(fake) if isinstance(module, AdversarialLoss) else module(fake, True, False)
        loss.backward()
        assert fake.grad.item() == pytest.approx(expected)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA autocast needs a GPU")
def test_cuda_autocast_refuses_monais_bce_and_takes_ours():
    fake = logits(0).cuda()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        with pytest.raises(RuntimeError, match="autocast"):
            PatchAdversarialLoss(criterion="bce")(fake.bfloat16(), True, False)
        assert torch.isfinite(AdversarialLoss("vanilla").generator(fake.bfloat16()))


def test_least_squares_and_hinge_equal_their_formulas():
    real, fake = logits(0), logits(1)
    loss = AdversarialLoss("least_squares")
    torch.testing.assert_close(loss.discriminator(real, fake), 0.5 * ((real - 1) ** 2).mean() + 0.5 * (fake**2).mean())
    torch.testing.assert_close(loss.generator(fake), ((fake - 1) ** 2).mean())
    loss = AdversarialLoss("hinge")
    expected = 0.5 * ((1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean())
    torch.testing.assert_close(loss.discriminator(real, fake), expected)
    torch.testing.assert_close(loss.generator(fake), -fake.mean())


def test_hinge_reaches_its_margin_and_monais_does_not():
    real, fake = torch.full((1, 1, 2, 2), 1.5), torch.full((1, 1, 2, 2), -1.5)
    assert AdversarialLoss("hinge").discriminator(real, fake).item() == 0
    assert PatchAdversarialLoss(criterion="hinge")(real, True, True).item() > 0.05


@pytest.mark.parametrize("criterion", ["vanilla", "least_squares", "hinge"])
def test_better_discriminators_lose_less(criterion):
    loss = AdversarialLoss(criterion)
    values = [loss.discriminator(torch.full((1, 1), x), torch.full((1, 1), -x)).item() for x in (-0.5, 0.0, 0.5)]
    assert values == sorted(values, reverse=True)
    assert loss.generator(torch.ones(1, 1)) < loss.generator(-torch.ones(1, 1))


def test_low_precision_is_summed_in_float32():
    half = logits(0).bfloat16()
    loss = AdversarialLoss("vanilla").generator(half)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, AdversarialLoss("vanilla").generator(half.float()))


def test_bad_arguments():
    with pytest.raises(ValueError, match="vanilla, least_squares, hinge"):
        AdversarialLoss("bce")
    with pytest.raises(TypeError, match="last"):
        AdversarialLoss().generator([logits(0)])
