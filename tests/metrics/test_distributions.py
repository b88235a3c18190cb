import pytest
import torch
from monai.metrics.fid import get_fid_score

from bundle.metrics import frechet_distance, mean_discrepancy


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_equal_sets_are_at_no_distance(generator):
    x = torch.randn(30, 50, generator=generator)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x[torch.randperm(30, generator=generator)]) == pytest.approx(0, abs=1e-9)


def test_a_shift_alone_is_its_squared_length(generator):
    """Equal covariances: what is left of the formula is the squared distance of the means."""
    x = torch.randn(200, 8, generator=generator)
    shift = torch.tensor([3.0, -4.0, 0, 0, 0, 0, 0, 12.0])
    assert frechet_distance(x, x + shift) == pytest.approx(169, rel=1e-5)


def test_a_scale_alone(generator):
    """Commuting covariances: the trace of (Σ_x^½ − Σ_y^½)²."""
    x = torch.randn(500, 4, generator=generator)
    x -= x.mean(dim=0)
    spread = torch.linalg.eigvalsh(torch.cov(x.T.double())).sum().item()
    assert frechet_distance(x, 3 * x) == pytest.approx(4 * spread, rel=1e-5)


@pytest.mark.parametrize(("n", "m", "features"), [(300, 200, 16), (40, 25, 64)])
def test_the_figure_is_monais(n, m, features, generator):
    """Also with fewer images than features, where the covariances are singular."""
    x = torch.randn(n, features, generator=generator)
    y = 1.5 * torch.randn(m, features, generator=generator) + 0.2
    assert frechet_distance(x, y) == pytest.approx(get_fid_score(x, y).item(), rel=1e-5)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-9)


def test_discrepancy_is_unbiased(generator):
    """Of sets of the same distribution it is 0 in the mean, also of small ones; the Fréchet distance is not."""
    draws = [torch.randn(2, 8, 4, generator=generator) for _ in range(2000)]
    values = torch.tensor([mean_discrepancy(x, y) for x, y in draws])
    assert abs(values.mean()) < 4 * values.std() / len(values) ** 0.5
    assert values.min() < 0
    assert min(frechet_distance(x, y) for x, y in draws[:50]) > 0.5


def test_discrepancy_by_its_definition():
    """All sums written out."""
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    y = torch.tensor([[0.0, 1.0], [3.0, 1.0]])

    def k(a, b):
        return float((a @ b / 2 + 1) ** 3)

    within_x = sum(k(x[i], x[j]) for i in range(3) for j in range(3) if i != j) / 6
    within_y = sum(k(y[i], y[j]) for i in range(2) for j in range(2) if i != j) / 2
    between = sum(k(a, b) for a in x for b in y) / 6
    assert mean_discrepancy(x, y) == pytest.approx(within_x + within_y - 2 * between)


@pytest.mark.parametrize("distance", [frechet_distance, mean_discrepancy])
@pytest.mark.parametrize("shapes", [((1, 3), (5, 3)), ((5, 3), (5, 4)), ((5, 3, 1), (5, 3, 1))])
def test_sets_that_do_not_fit(distance, shapes):
    with pytest.raises(ValueError, match="features of at least two images each"):
        distance(*(torch.zeros(shape) for shape in shapes))
