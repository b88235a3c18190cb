import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.networks.utils import one_hot

from bundle.metrics import aggregated_jaccard_index
from bundle.transforms import TernaryLabeld, WatershedInputsd

PATHOLOGY = "monai.apps.pathology.transforms"
CHAIN = {
    "imports": ["$import numpy as np"],
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {"_target_": "bundle.transforms.WatershedInputsd", "key": "pred"},
            {
                "_target_": f"{PATHOLOGY}.GenerateWatershedMaskd",
                "keys": "foreground",
                "activation": "$lambda probability: probability",
                "threshold": 0.5,
                "min_object_size": 10,
                "dtype": "$np.int32",
            },
            {
                "_target_": f"{PATHOLOGY}.GenerateWatershedMarkersd",
                "threshold": 0.5,
                "radius": 0,
                "min_object_size": 4,
                "dtype": "$np.int32",
            },
            {"_target_": f"{PATHOLOGY}.GenerateDistanceMapd", "dist_map_key": "pred"},
            {"_target_": f"{PATHOLOGY}.Watershedd", "keys": "pred", "markers_key": "markers", "dtype": "$np.int32"},
            {"_target_": "RemoveSmallObjectsd", "keys": "pred", "min_size": 10},
            {"_target_": "EnsureTyped", "keys": "pred"},
            {"_target_": "DeleteItemsd", "keys": ["foreground", "border", "mask", "markers"]},
        ],
    },
}


@pytest.fixture(scope="module")
def chain():
    return ConfigParser(CHAIN).get_parsed_content("postprocessing")


def logits(label, width=1):
    """What an ideal segmenter would say of an instance map 1×X×Y."""
    classes = TernaryLabeld(keys="label", boundary_width=width)({"label": label})["label"]
    return 20 * one_hot(classes.as_tensor()[None].long(), 3)[0]


def nuclei(count, spacing=14, seed=0, touching=True):
    """Ellipses on a jittered grid, next to each other or apart, numbered at random; 1×X×Y."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(count**0.5))
    label = np.zeros((side * spacing + 6,) * 2, dtype=np.int32)
    rows, columns = np.indices(label.shape)
    for place, number in enumerate(rng.permutation(count) + 1):
        x, y = (3 + spacing * (np.array(divmod(place, side)) + 0.5)) + rng.uniform(-1, 1, 2)
        axes = rng.uniform(0.5, 0.62, 2) if touching else rng.uniform(0.3, 0.45, 2)
        inside = ((rows - x) / axes[0]) ** 2 + ((columns - y) / axes[1]) ** 2 <= spacing**2
        label[inside & (label == 0)] = number
    return torch.from_numpy(label[None])


def test_probabilities_are_taken_apart():
    pred = torch.randn(3, 5, 4).softmax(0)
    given = {"pred": MetaTensor(pred, meta={"filename_or_obj": "T7"}), "case": "T7"}
    out = WatershedInputsd(key="pred")(given)
    assert set(out) == {"foreground", "border", "case"}
    assert set(given) == {"pred", "case"}
    torch.testing.assert_close(out["foreground"].as_tensor(), pred[1:].sum(0, keepdim=True))
    torch.testing.assert_close(out["border"].as_tensor(), pred[[0, 2]].sum(0, keepdim=True))
    assert out["border"].meta["filename_or_obj"] == "T7"


@pytest.mark.parametrize("touching", [True, False])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_ideal_probabilities_give_the_instances_back(chain, touching, width):
    label = nuclei(36, spacing=18, touching=touching)
    given = {"pred": MetaTensor(logits(label, width)), "case": "T7"}
    out = chain(given)
    assert set(out) == {"pred", "case"}
    pred = out["pred"]
    assert pred.shape == label.shape
    assert pred.dtype == torch.int32
    assert len(pred.unique()) == len(label.unique())
    assert aggregated_jaccard_index(pred, label) >= 0.9
    assert torch.equal(pred > 0, label > 0)


def test_more_nuclei_than_a_byte_holds(chain):
    label = nuclei(18 * 18, spacing=12)
    pred = chain({"pred": logits(label)})["pred"]
    assert len(pred.unique()) == len(label.unique()) == 18 * 18 + 1


@pytest.mark.filterwarnings("error:.*label:UserWarning")
@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_nuclei(chain, count):
    label = torch.zeros(1, 40, 30, dtype=torch.int32)
    for number in range(1, count + 1):
        label[0, 5 : 8 + 4 * number, 12 * number - 10 : 12 * number - 1] = number
    pred = chain({"pred": logits(label)})["pred"]
    assert len(pred.unique()) == count + 1
    assert aggregated_jaccard_index(pred, label) == 1
    assert isinstance(pred, torch.Tensor)


def test_a_tile_full_of_one_nucleus(chain):
    label = torch.ones(1, 20, 20, dtype=torch.int32)
    assert torch.equal(chain({"pred": logits(label)})["pred"].as_tensor(), label)


def test_small_objects_are_removed_and_their_neighbours_are_not(chain):
    label = torch.zeros(1, 20, 20, dtype=torch.int32)
    label[0, 2:5, 2:5] = 1  # 9 pixels
    label[0, 10:18, 2:9] = 2
    label[0, 10:18, 9:16] = 3
    pred = chain({"pred": logits(label)})["pred"]
    assert int((pred[0, 2:5, 2:5] > 0).sum()) == 0
    assert len(pred.unique()) == 3


@pytest.mark.parametrize(
    ("pred", "message"),
    [
        (torch.zeros(2, 4, 4), "3×X×Y"),
        (torch.zeros(3, 4), "3×X×Y"),
        (torch.full((3, 4, 4), 2.0), "probabilities, 0 to 1"),
        (torch.full((3, 4, 4), float("nan")), "probabilities, 0 to 1"),
    ],
)
def test_bad_predictions_are_named(pred, message):
    with pytest.raises(ValueError, match=f"case T7.*'pred'.*{message}"):
        WatershedInputsd(key="pred")({"pred": pred, "case": "T7"})
