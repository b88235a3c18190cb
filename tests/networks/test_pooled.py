import pytest
import torch
from monai.networks.nets import UNet

from bundle.networks import PooledFeatures, VGGFeatures, load_weights
from bundle.seeding import forked_rng

BOTTOM = "model.1.submodule.1.submodule"


def unet():
    with forked_rng(0):
        return UNet(2, 1, 2, channels=(4, 8, 16), strides=(2, 2), num_res_units=2, norm="BATCH")


@pytest.fixture
def images():
    return torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_features_are_the_mean_of_the_layer(images):
    network = unet().eval()
    kept = []
    network.get_submodule(BOTTOM).register_forward_hook(lambda module, inputs, output: kept.append(output))
    network(images)
    features = PooledFeatures(network, BOTTOM)(images)
    assert features.shape == (3, 16)
    torch.testing.assert_close(features, kept[0].mean(dim=(2, 3)), rtol=0, atol=0)


def test_features_of_an_image_do_not_depend_on_the_others_or_on_the_mode(images):
    features = PooledFeatures(unet(), BOTTOM)
    features.train()
    together = features(images)
    torch.testing.assert_close(features(images), together, rtol=0, atol=0)
    torch.testing.assert_close(torch.cat([features(image[None]) for image in images]), together)
    assert not together.requires_grad


def test_a_shift_of_all_intensities_is_seen(images):
    """Wrong brightness must count: batch norm, unlike instance norm, takes nothing out of an image that is its own."""
    features = PooledFeatures(unet(), BOTTOM)
    before = features(images)
    assert (features(images + 0.5) - before).norm() > 0.2 * before.norm()


def test_modalities_are_images_of_their_own():
    network = VGGFeatures(16, ["relu1_2"])
    images = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    features = PooledFeatures(network)(images)
    assert features.shape == (2, 4 * 64)
    torch.testing.assert_close(features[1, 64:128], PooledFeatures(network)(images[1:, 1:2])[0])


def test_an_unknown_layer():
    with pytest.raises(ValueError, match="UNet has no layer 'bottom'"):
        PooledFeatures(unet(), "bottom")


def test_weights_of_a_stage(tmp_path):
    path = tmp_path / "features.pt"
    with pytest.raises(FileNotFoundError, match=r"features\.pt is missing: features\.yaml writes it"):
        load_weights(unet(), path, "features.yaml writes it")
    saved = unet()
    torch.nn.init.ones_(saved.model[0].residual.weight)
    torch.save(saved.state_dict(), path)
    loaded = load_weights(unet(), path, "features.yaml writes it")
    assert torch.equal(loaded.model[0].residual.weight, saved.model[0].residual.weight)
    assert not loaded.training
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"features\.pt: weights of another network"):
        load_weights(unet(), path, "")
