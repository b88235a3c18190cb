import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.handlers import from_engine
from scipy import ndimage

from bundle.metrics import HausdorffDistance95, HausdorffDistance95Handler


def voxels(shape, *points):
    mask = torch.zeros(1, 1, *shape)
    for point in points:
        mask[(0, 0, *point)] = 1
    return mask


def score(y_pred, y, **options):
    return HausdorffDistance95(**options)(y_pred, y).flatten().tolist()


def test_conventions_of_empty_masks():
    empty, one = torch.zeros(1, 1, 30, 40), voxels((30, 40), (3, 3))
    assert score(empty, empty) == [0]
    assert score(empty, one) == [pytest.approx(50)]
    assert score(one, empty) == [pytest.approx(50)]
    assert score(one, empty, spacing=0.5) == [pytest.approx(25)]


def test_brats_2018_scores_37313_for_an_empty_prediction():
    empty = torch.zeros(1, 1, 240, 240, 155)
    assert score(empty, voxels((240, 240, 155), (9, 9, 9))) == [pytest.approx(373.13, abs=0.005)]


def test_anisotropic_spacing_by_hand():
    found, truth = voxels((10, 10, 10), (2, 2, 2)), voxels((10, 10, 10), (2, 5, 6))
    assert score(found, truth) == [pytest.approx(5)]  # 3, 4
    assert score(found, truth, spacing=(1, 1, 3)) == [pytest.approx(153**0.5)]  # 3, 12
    affine = torch.diag(torch.tensor([1.0, 1.0, 3.0, 1.0]))
    meta = MetaTensor(truth[0], affine=affine)
    assert score([found[0]], [meta]) == [pytest.approx(153**0.5)]
    assert score([MetaTensor(found[0], affine=affine)], [truth[0]]) == [pytest.approx(153**0.5)]
    diagonal = (10**2 + 10**2 + 30**2) ** 0.5
    assert score([torch.zeros_like(found[0])], [meta]) == [pytest.approx(diagonal)]


def test_percentile_by_hand():
    # Twenty separate voxels at distances 0, 1, ..., 19 of a single one: their 95th percentile is 0.95 · 19.
    truth = voxels((1, 20), (0, 0))
    found = torch.ones(1, 1, 1, 20)
    assert score(found, truth) == [pytest.approx(18.05)]


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.1, 4.0)])
def test_against_distance_transforms(spacing):
    rng = np.random.default_rng(0)
    masks = [ndimage.gaussian_filter(rng.standard_normal((24, 20, 10)), 2) > 0.02 for _ in range(2)]
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in masks]
    distances = [ndimage.distance_transform_edt(~surface, sampling=spacing) for surface in surfaces]
    expected = max(np.percentile(distances[1][surfaces[0]], 95), np.percentile(distances[0][surfaces[1]], 95))
    found, truth = (torch.from_numpy(mask)[None, None].float() for mask in masks)
    assert score(found, truth, spacing=spacing) == [pytest.approx(expected, rel=1e-5)]
    assert score(truth, found, spacing=spacing) == [pytest.approx(expected, rel=1e-5)]
    assert score(found, found, spacing=spacing) == [0]


def test_batches_channels_and_reduction():
    metric = HausdorffDistance95(reduction="none")
    one = voxels((30, 40), (3, 3))
    y_pred = torch.cat([torch.cat([one, one], 1), torch.cat([one, torch.zeros_like(one)], 1)])
    y = torch.cat([torch.cat([one, one], 1)] * 2)
    metric(y_pred, y)
    assert metric.aggregate().tolist() == [[0, 0], [0, 50]]
    assert metric.aggregate("mean").item() == pytest.approx(12.5)
    metric.reset()
    with pytest.raises(ValueError, match="nothing to aggregate"):
        metric.aggregate()


def test_collated_batch_has_a_spacing_for_each_sample():
    found, truth = voxels((9, 9, 9), (2, 2, 2)), voxels((9, 9, 9), (2, 2, 4))
    batch = MetaTensor(truth.repeat(2, 1, 1, 1, 1))
    batch.is_batch = True
    batch.meta["affine"] = torch.stack([torch.eye(4), torch.diag(torch.tensor([1.0, 1.0, 5.0, 1.0]))])
    assert score(found.repeat(2, 1, 1, 1, 1), batch) == [2, 10]


def test_bad_input():
    one = voxels((8, 8), (3, 3))
    with pytest.raises(ValueError, match="y_pred: expected 0 or 1"):
        score(one * 0.5, one)
    with pytest.raises(ValueError, match="of one shape"):
        score(one, one[..., :4])
    with pytest.raises(ValueError, match="spacing"):
        score(one, one, spacing=(1, 1, 1))


def test_handler_in_an_engine():
    one, empty = voxels((30, 40), (3, 3))[0], torch.zeros(1, 30, 40)
    engine = Engine(lambda engine, batch: batch)
    HausdorffDistance95Handler(output_transform=from_engine(["pred", "label"])).attach(engine, "hd95")
    engine.run([[{"pred": one, "label": one}, {"pred": empty, "label": one}]], max_epochs=1)
    assert engine.state.metrics["hd95"] == pytest.approx(25)
    assert engine.state.metric_details["hd95"].flatten().tolist() == [0, 50]
