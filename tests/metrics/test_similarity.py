import pytest
import torch

from bundle.metrics import structural_similarity


def test_equal_images_have_1_and_others_less():
    images = torch.rand(3, 2, 16, 20, generator=torch.Generator().manual_seed(0)) * 2 - 1
    other = images.clone()
    other[1] += 0.3
    other[2] = other[2].flip(-1)
    found = structural_similarity(images, other)
    assert found.shape == (3,)
    assert found[0] == pytest.approx(1, abs=1e-6)
    assert 0.2 < found[1] < 0.999
    assert found[2] < 0.5


def test_flat_images_are_compared_by_their_values():
    """Without structure only the luminance is left: (2ab + c) / (a² + b² + c), c = 0.01², of values in [0, 1]."""
    a, b, c = 0.5, 0.25, 0.01**2
    found = structural_similarity(torch.full((1, 1, 12, 12), 2 * a - 1), torch.full((1, 1, 12, 12), 2 * b - 1))
    assert found.item() == pytest.approx((2 * a * b + c) / (a * a + b * b + c), rel=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 16, 12), (1, 1, 16, 8), (16, 16)])
def test_what_cannot_be_compared(shape):
    with pytest.raises(ValueError, match="at least 11 pixels a side"):
        structural_similarity(
            torch.zeros(1, 1, 16, 8) if shape[-1] == 8 else torch.zeros(1, 1, 16, 16), torch.zeros(shape)
        )
