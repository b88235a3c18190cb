import pytest
import torch
from monai.networks.nets import PatchDiscriminator

from bundle.networks import ResnetGenerator
from bundle.networks.resnet_generator import _ReflectionPad


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def small(**options):
    return ResnetGenerator(**({"in_channels": 2, "out_channels": 1, "channels": 8, "num_blocks": 2} | options))


def by_hand(inputs, outputs, width, blocks, downsampling, bias):
    total = inputs * width * 49 + bias * width
    for _ in range(downsampling):
        total += 2 * (width * 2 * width * 9) + bias * 3 * width  # down and, later, up again
        width *= 2
    total += blocks * 2 * (width * width * 9 + bias * width)
    return total + (width // 2**downsampling) * outputs * 49 + outputs


def test_published_number_of_parameters():
    assert count(ResnetGenerator(3, 3)) == 11_378_179
    assert by_hand(3, 3, 64, 9, 2, True) == 11_378_179


@pytest.mark.parametrize(("blocks", "downsampling", "width"), [(6, 2, 16), (1, 1, 8), (0, 3, 4)])
def test_number_of_parameters_by_hand(blocks, downsampling, width):
    network = ResnetGenerator(5, 2, width, blocks, num_downsampling=downsampling)
    assert count(network) == by_hand(5, 2, width, blocks, downsampling, True)


def test_batch_norm_replaces_biases():
    affine = 2 * (8 + 16 + 32 + 2 * 2 * 32 + 16 + 8)
    assert count(small(norm="BATCH")) == by_hand(2, 1, 8, 2, 2, False) + affine
    assert count(small(norm=("INSTANCE", {"affine": True}))) == by_hand(2, 1, 8, 2, 2, True) + affine


@pytest.mark.parametrize("norm", ["INSTANCE", ("INSTANCE", {"affine": True}), "BATCH", ("GROUP", {"num_groups": 4})])
def test_shapes_and_range(norm):
    image = small(norm=norm, dropout=0.5)(torch.randn(2, 2, 16, 24))
    assert image.shape == (2, 1, 16, 24)
    assert image.abs().max() < 1


def test_three_dimensions():
    assert small(spatial_dims=3)(torch.randn(1, 2, 8, 12, 8)).shape == (1, 1, 8, 12, 8)


@pytest.mark.parametrize("size", [(18, 16), (16, 17), (4, 16)])
def test_sizes_that_do_not_fit(size):
    with pytest.raises(ValueError, match="multiples of 4 and at least 8"):
        small()(torch.zeros(1, 2, *size))


def test_torchscript_gives_the_same():
    network = small().eval()
    x = torch.randn(1, 2, 16, 16)
    scripted = torch.jit.script(network)
    torch.testing.assert_close(scripted(x), network(x))
    with pytest.raises(torch.jit.Error, match="multiples of 4"):
        scripted(torch.zeros(1, 2, 18, 16))


def test_bfloat16_autocast():
    network = small()
    x = torch.randn(1, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        image = network(x)
    assert image.dtype == torch.bfloat16
    assert (image.float() - network(x)).abs().max() < 0.1
    image.float().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


def test_instances_do_not_mix():
    # The reason for instance norm: a site's image must not depend on another site's.
    network = small().eval()
    x = torch.randn(2, 2, 16, 16)
    torch.testing.assert_close(network(x)[:1], network(x[:1]))


def test_same_seed_same_weights():
    networks = []
    for _ in range(2):
        torch.manual_seed(3)
        networks.append(small())
    for one, other in zip(*(network.parameters() for network in networks), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_resizing_has_the_weights_of_transposed_convolutions(spatial_dims):
    networks = [small(upsampling=kind, spatial_dims=spatial_dims) for kind in ("transposed", "resize")]
    assert count(networks[0]) == count(networks[1])
    shape = (16, 24, 8)[:spatial_dims]
    assert networks[1](torch.randn(1, 2, *shape)).shape == (1, 1, *shape)


def test_resizing_leaves_no_checkerboard():
    """Where the condition has no structure, far from the borders, what varies from pixel to pixel is the upsampling."""
    roughness = {}
    for kind in ("transposed", "resize"):
        torch.manual_seed(0)
        flat = small(upsampling=kind, norm=("GROUP", {"num_groups": 1}))(torch.ones(1, 2, 96, 96))[0, 0, 40:56, 40:56]
        roughness[kind] = flat.diff(dim=0).abs().mean() + flat.diff(dim=1).abs().mean()
    assert roughness["resize"] < 1e-6 < 1e-4 < roughness["transposed"]


def test_noise_makes_another_image_of_the_same_condition():
    network, x = small(noise_channels=3), torch.randn(2, 2, 16, 16)
    torch.manual_seed(0)
    first, second = network(x), network(x)
    torch.manual_seed(0)
    assert torch.equal(network(x), first)
    assert not torch.equal(first, second)
    assert count(network) == count(small()) + 3 * 8 * 49


def test_the_padding_of_mixed_precision_is_that_of_float32():
    x = torch.randn(2, 3, 8, 12).to(torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        padded, published = _ReflectionPad(3, 2)(x), torch.nn.ReflectionPad2d(3)(x)
    assert padded.dtype == torch.bfloat16
    assert torch.equal(padded.float(), published.float())
    weights = torch.randn(padded.shape)
    (ours,) = torch.autograd.grad((padded * weights).sum(), x)
    (theirs,) = torch.autograd.grad((published * weights).sum(), x)
    torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("shape", [(2, 3, 8, 5), (1, 2, 6, 4, 5)])
def test_padding_put_together_is_reflection_padding(shape, width):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    pad = _ReflectionPad(width, len(shape) - 2)
    together, padded = pad.put_together(x), pad(x)
    assert torch.equal(together, padded)
    weights = torch.randn_like(padded)
    gradients = [torch.autograd.grad((weights * y).sum(), x)[0] for y in (together, padded)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_coordinates_tell_places_of_one_class_apart(spatial_dims):
    """What convolutions alone cannot: far from the borders every pixel of a large region looks the same to them."""
    middles = {}
    for coordinates in (False, True):
        torch.manual_seed(0)
        network = small(coordinates=coordinates, num_blocks=1, spatial_dims=spatial_dims, upsampling="resize")
        shape = (96, 96, 32)[:spatial_dims]
        with torch.no_grad():
            drawn = network(torch.ones(2, 2, *shape))
        middles[coordinates] = drawn[0, 0, 36:60, 40:56]
        assert torch.equal(drawn[0], drawn[1])
    if spatial_dims == 2:
        assert middles[False].std() < 1e-4
    assert middles[True].diff(dim=0).abs().mean() > 1e-4
    assert count(small(coordinates=True)) == count(small()) + 2 * 8 * 49


@pytest.mark.parametrize(
    "options",
    [
        {"upsampling": "nearest"},
        {"noise_channels": -1},
        {"spatial_dims": 1},
        {"channels": 0},
        {"num_blocks": -1},
        {"dropout": 1.0},
    ],
)
def test_construction(options):
    with pytest.raises(ValueError, match="expected"):
        small(**options)


def test_monais_discriminator_is_the_published_one():
    # 3 layers, 64 filters: receptive field 70, see Isola et al. 2017, appendix 6.1.2.
    network = PatchDiscriminator(spatial_dims=2, channels=64, in_channels=6, num_layers_d=3, norm="INSTANCE")
    assert count(network) == 2_766_913
    with torch.no_grad():
        assert network(torch.zeros(1, 6, 256, 256))[-1].shape == (1, 1, 30, 30)
