import pytest
import torch

from bundle.metrics import nearest_neighbours


def test_a_planted_copy_is_found_at_distance_0():
    generator = torch.Generator().manual_seed(1)
    references = 100 + torch.rand(40, 16, generator=generator)
    x = 100 + torch.rand(5, 16, generator=generator)
    x[3] = references[17]
    found = nearest_neighbours(x, references)
    assert found.distance[3] == 0
    assert found.index[3] == 17
    assert (found.distance[[0, 1, 2, 4]] > 0.1).all()


def test_the_distance_is_a_root_mean_square():
    found = nearest_neighbours(torch.zeros(1, 4), torch.tensor([[2.0, 2, 2, 2], [1, -1, 1, -1]]))
    assert found.distance.tolist() == [1.0]
    assert found.index.tolist() == [1]


def test_the_own_group_is_left_out():
    x = torch.tensor([[0.0], [10.0]])
    references = torch.tensor([[0.0], [4.0], [11.0]])
    found = nearest_neighbours(x, references, ["a", "b"], ["a", "b", "b"])
    assert found.distance.tolist() == [4.0, 10.0]
    assert found.index.tolist() == [1, 0]


def test_where_no_reference_is_left():
    found = nearest_neighbours(torch.zeros(1, 2), torch.zeros(3, 2), ["a"], ["a"] * 3)
    assert found.distance.tolist() == [float("inf")]
    assert found.index.tolist() == [-1]
    assert nearest_neighbours(torch.zeros(1, 2), torch.zeros(0, 2)).index.tolist() == [-1]


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="N×F and M×F"):
        nearest_neighbours(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="those of one side"):
        nearest_neighbours(torch.zeros(2, 3), torch.zeros(2, 3), ["a", "b"])
    with pytest.raises(ValueError, match="each of 2 images and 2 references, got 1 and 2"):
        nearest_neighbours(torch.zeros(2, 3), torch.zeros(2, 3), ["a"], ["a", "b"])
