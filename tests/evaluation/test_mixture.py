import math

import numpy as np
import pytest

from bundle.evaluation import MixtureDistance, read_draws

COMPONENTS = {"low": [1], "high": [2]}


def item(values, component):
    values = np.asarray(values, dtype=float)
    return {"image": values, "label": np.full(values.shape, component)}


def measure(training, held_out=None):
    held_out = [item([0, 1], 1), item([10, 11], 2)] if held_out is None else held_out
    return MixtureDistance(held_out, training, dict, COMPONENTS)


def test_numbers_and_components_of_several_cases():
    values, labels = read_draws([item([[[1, 2]]], 1), item([[[3]]], 2)], dict)
    assert (values.tolist(), labels.tolist()) == ([1, 2, 3], [1, 1, 2])


def test_known_distances():
    equal = measure([item([0, 1], 1), item([10, 11], 2)])
    shifted = equal({"A": [item([0, 1], 1)]}, {"A": [item([0.5, 1.5], 1)], "B": [item([12, 13], 2)]})
    # a shift by c is a distance of c; half the numbers move by 0.5, half by 2
    assert shifted["w1"]["overall"] == pytest.approx(0.5 * 0.5 + 0.5 * 2)
    assert shifted["w1_component"] == pytest.approx({"overall": 1.25, "low": 0.5, "high": 2})
    # all that lies at the low component has to go to the high one, for half of the mixture
    assert shifted["w1_data"]["overall"] == pytest.approx(0.5 * 10)


def test_the_mixture_is_weighted_by_the_training_data_and_not_by_what_is_held_out():
    unequal = measure([item([0, 1, 0, 1, 0, 1], 1), item([10, 11], 2)])
    assert unequal.shares == {"low": 0.75, "high": 0.25}
    held_out_as_trained = {"A": [item([0, 0, 0, 1, 1, 1], 1), item([10, 11], 2)]}
    assert unequal(held_out_as_trained, held_out_as_trained)["w1"]["overall"] == pytest.approx(0)
    halves = {"A": [item([0, 1], 1), item([10, 11], 2)]}
    assert unequal(halves, halves)["w1"]["overall"] == pytest.approx(0.25 * 10)


def test_a_component_that_is_not_there():
    scores = measure([item([0, 1], 1), item([10, 11], 2)])({"A": [item([0], 1)]}, {"A": [item([0, 1], 1)]})
    assert scores["w1"]["overall"] == pytest.approx(5)
    assert scores["w1_component"]["low"] == pytest.approx(0)
    assert math.isnan(scores["w1_component"]["high"])
    assert math.isnan(scores["w1_component"]["overall"])


def test_nothing_held_out():
    with pytest.raises(ValueError, match="the list 'test' of the data list is empty"):
        measure([item([0], 1)], [])
    with pytest.raises(ValueError, match="component 'high'"):
        measure([item([0], 1)])
