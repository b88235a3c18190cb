"""Means and principal components over patients."""

import numpy as np
import pytest

from bundle.shapes import Moments, TooFewPatients


def patients(number=8, each=5, size=6, seed=0):
    rng = np.random.default_rng(seed)
    return {f"p{n}": list(rng.standard_normal((each, size)) * np.arange(1, size + 1)) for n in range(number)}


def test_every_patient_weighs_the_same():
    vectors = {"many": [np.array([0.0, 0.0])] * 99, "one": [np.array([2.0, 4.0])]}
    assert Moments.of(vectors, 1, least=2).mean.tolist() == [1, 2]


def test_components_and_what_is_left_over_make_up_the_variance():
    vectors = patients()
    found = Moments.of(vectors, 3)
    variance = np.concatenate([*vectors.values()]).reshape(-1, 6).var(axis=0)
    assert np.allclose((found.components**2).sum(axis=0) + found.residual**2, variance)
    assert np.allclose(found.components @ found.components.T, np.diag((found.components**2).sum(axis=1)), atol=1e-9)


def test_there_are_fewer_components_than_patients():
    assert len(Moments.of(patients(5), 99).components) == 4


@pytest.mark.parametrize(("number", "least"), [(4, 5), (1, 1), (0, 5)])
def test_few_patients_are_no_statistics(number, least):
    with pytest.raises(TooFewPatients, match=f"at least {max(least, 2)} patients"):
        Moments.of(patients(number), 3, least)


def test_a_patient_without_any_does_not_count():
    with pytest.raises(TooFewPatients, match="got 4"):
        Moments.of(patients(4) | {"none": []}, 3)


def test_what_is_drawn_has_the_mean_and_stays_within_two_standard_deviations():
    found = Moments.of(patients(), 3)
    rng = np.random.default_rng(1)
    drawn = np.stack([found.draw(rng) for _ in range(4000)])
    assert np.allclose(drawn.mean(axis=0), found.mean, atol=0.3)
    bound = 2 * (np.abs(found.components).sum(axis=0) + found.residual)
    assert (np.abs(drawn - found.mean) <= bound + 1e-9).all()
    low, high = found.span(5)
    assert low < found.mean[5] < high


def test_a_draw_is_a_function_of_its_seed():
    found = Moments.of(patients(), 3)
    assert (found.draw(np.random.default_rng(3)) == found.draw(np.random.default_rng(3))).all()


def test_arrays_and_back():
    found = Moments.of(patients(), 3)
    again = Moments.from_arrays(found.to_arrays())
    assert np.allclose(again.components, found.components, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"residual": None}, "expected residual as well"),
        ({"mean": np.zeros(5, np.float32)}, "a mean of d numbers"),
        ({"components": np.zeros(6, np.float32)}, "components of q×d"),
        ({"mean": np.full(6, np.nan, np.float32)}, "finite"),
        ({"mean": np.zeros(6, np.int32)}, "floating-point"),
        ({"residual": np.full(6, -1, np.float32)}, "at least 0"),
    ],
)
def test_arrays_that_are_no_statistics_are_refused(change, said):
    arrays = Moments.of(patients(), 3).to_arrays() | change
    with pytest.raises(ValueError, match=said):
        Moments.from_arrays({name: array for name, array in arrays.items() if array is not None})
