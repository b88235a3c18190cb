import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from bundle.transforms import TernaryLabeld


def nuclei(seed=0, size=72, count=40):
    """Ellipses that touch and are cut off by the tile, with gaps in their numbers; 1×X×Y."""
    rng = np.random.default_rng(seed)
    label = np.zeros((size, size), dtype=np.int32)
    rows, columns = np.indices(label.shape)
    for number in 3 * rng.permutation(count) + 2:
        (x, y), (a, b), turn = rng.uniform(0, size, 2), rng.uniform(2, 9, 2), rng.uniform(0, np.pi)
        u = (rows - x) * np.cos(turn) + (columns - y) * np.sin(turn)
        v = (columns - y) * np.cos(turn) - (rows - x) * np.sin(turn)
        label[(u / a) ** 2 + (v / b) ** 2 <= 1] = number
    return torch.from_numpy(label[None])


def ternary(label, width=2, **item):
    return TernaryLabeld(keys="label", boundary_width=width)({"label": label} | item)["label"]


def test_small_example():
    label = torch.zeros(1, 6, 7)
    label[0, 1:, 1:4] = 4
    label[0, 1:, 4:6] = 9  # two pixels wide, all on the edge: interior throughout
    expected = [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 2, 2, 2, 1, 1, 0],
        [0, 2, 1, 2, 1, 1, 0],
        [0, 2, 1, 2, 1, 1, 0],
        [0, 2, 1, 2, 1, 1, 0],
        [0, 2, 1, 2, 1, 1, 0],  # the border of the tile is no edge
    ]
    assert ternary(label, 1)[0].tolist() == expected


def test_an_object_without_interior_keeps_its_innermost_pixels():
    label = torch.zeros(1, 9, 9)
    label[0, 2:7, 2:7] = 1
    out = ternary(label, 3)
    assert torch.nonzero(out[0].as_tensor() == 1).tolist() == [[4, 4]]
    assert int((out == 2).sum()) == 24


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_against_distance_transforms(width, seed):
    label = nuclei(seed)
    padded = np.pad(label[0].numpy(), 4, mode="edge")  # so that the border of the tile is no edge
    expected = np.zeros(padded.shape, dtype=np.uint8)
    for number in np.unique(padded[padded > 0]):
        distance = ndimage.distance_transform_edt(padded == number)
        inside = distance[4:-4, 4:-4]
        least = min(inside.max(), np.nextafter(width, np.inf))
        expected[distance > 0] = 2
        expected[distance >= least] = 1
    assert np.array_equal(ternary(label, width)[0].numpy(), expected[4:-4, 4:-4])


@pytest.mark.parametrize("width", [1, 2, 3])
def test_properties(width):
    for seed in range(4):
        label = nuclei(seed)
        out = ternary(label, width)
        assert out.dtype == torch.uint8
        assert out.shape == label.shape
        assert torch.equal(out.as_tensor() > 0, label > 0)  # together, the objects
        interior = (out == 1).as_tensor()
        assert set(label[interior].tolist()) == set(label[label > 0].tolist())  # none lost
        # objects with a pixel off their edge: their cores touch no other one, and each other not even diagonally
        thick = {number for number in label[label > 0].unique().tolist() if _has_depth(label, number)}
        assert thick
        grid, core = label[0].numpy(), interior[0].numpy()
        for i, j in ((0, 1), (1, 0), (1, 1), (1, -1)):
            here = (slice(0, -1 if i else None), slice(max(-j, 0), -j if j > 0 else None))
            there = (slice(i, None), slice(j if j > 0 else 0, j if j < 0 else None))
            meet = core[here] & core[there] & (grid[here] != grid[there])
            for pair in zip(grid[here][meet].tolist(), grid[there][meet].tolist(), strict=True):
                assert len(thick.intersection(pair)) <= (1 if i and j else 0)


def _has_depth(label, number):
    mask = np.pad(label[0].numpy() == number, 1, mode="edge")
    return bool(ndimage.binary_erosion(mask)[1:-1, 1:-1].any())


def test_numbers_of_objects_do_not_matter():
    label = nuclei()
    names = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + torch.randperm(int(label.max()))])
    assert torch.equal(ternary(names[label.long()]), ternary(label))
    assert torch.equal(ternary(label.float()), ternary(label))


@pytest.mark.parametrize("width", [1, 3])
def test_turns_and_flips(width):
    label = nuclei()
    for turned in (
        lambda a: torch.rot90(a, 1, (1, 2)),
        lambda a: torch.flip(a, (1,)),
        lambda a: torch.flip(a, (2,)),
        lambda a: a.transpose(1, 2),
    ):
        assert torch.equal(ternary(turned(label), width).as_tensor(), turned(ternary(label, width).as_tensor()))


def test_empty_and_full_tiles():
    assert int(ternary(torch.zeros(1, 5, 5)).sum()) == 0
    assert torch.equal(ternary(torch.full((1, 5, 5), 7)).as_tensor(), torch.ones(1, 5, 5, dtype=torch.uint8))
    assert ternary(torch.ones(1, 1, 1), 3).tolist() == [[[1]]]


def test_classes_are_kept():
    classes = torch.tensor([[[0, 1, 2], [2, 2, 1]]])
    out = ternary(classes, label_type="classes")
    assert out.dtype == torch.uint8
    assert out.tolist() == classes.tolist()
    assert torch.equal(ternary(classes, label_type="instances"), ternary(classes))


def test_metadata_stays():
    label = MetaTensor(nuclei(), affine=torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0])), meta={"filename_or_obj": "T7"})
    out = ternary(label)
    assert torch.equal(out.affine, label.affine)
    assert out.meta["filename_or_obj"] == "T7"


@pytest.mark.parametrize(
    ("label", "item", "message"),
    [
        (torch.zeros(2, 4, 4), {}, "expected 1×X×Y"),
        (torch.zeros(4, 4), {}, "expected 1×X×Y"),
        (torch.full((1, 4, 4), 0.5), {}, "whole numbers"),
        (torch.full((1, 4, 4), -1), {}, "got -1"),
        (torch.full((1, 4, 4), 3), {"label_type": "classes"}, "classes 0, 1 and 2"),
        (torch.zeros(1, 4, 4), {"label_type": "masks"}, "'label_type'.*'masks'"),
    ],
)
def test_bad_labels_are_named(label, item, message):
    with pytest.raises(ValueError, match=f"case T7.*'label'.*{message}"):
        ternary(label, case="T7", **item)


def test_construction():
    with pytest.raises(ValueError, match="boundary_width"):
        TernaryLabeld(keys="label", boundary_width=0)
