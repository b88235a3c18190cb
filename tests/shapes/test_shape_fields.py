"""Regions as signed distances, and those as few numbers."""

import numpy as np
import pytest

from bundle.shapes.fields import from_coefficients, in_frame, on_pixels, signed_distance, to_coefficients


def disc(size, radius, centre=None):
    centre = (size / 2, size / 2) if centre is None else centre
    rows, columns = np.mgrid[:size, :size] + 0.5
    return np.hypot(rows - centre[0], columns - centre[1]) <= radius


def test_distances_are_positive_inside_and_of_the_right_size():
    field = signed_distance(disc(64, 20))
    assert ((field > 0) == disc(64, 20)).all()
    assert field.max() == pytest.approx(20, abs=1.5)
    assert field[0, 32] == pytest.approx(-12, abs=1)


def test_what_has_no_edge_is_far_from_it():
    assert (signed_distance(np.zeros((4, 6), bool)) == -10).all()
    assert (signed_distance(np.ones((4, 6), bool)) == 10).all()


def test_coefficients_do_not_depend_on_the_number_of_pixels():
    small, large = (to_coefficients(signed_distance(disc(size, 0.3 * size)) / size, 8) for size in (64, 256))
    assert np.allclose(small, large, atol=0.01)
    back = from_coefficients(large, 96) > 0
    assert (back ^ disc(96, 0.3 * 96)).mean() < 0.01


def test_all_frequencies_give_the_field_back():
    field = np.random.default_rng(0).standard_normal((8, 8))
    assert np.allclose(from_coefficients(to_coefficients(field, 8), 8), field)


@pytest.mark.parametrize("shape", [(8, 9), (6, 6), (8,)])
def test_fields_that_cannot_be_written_so_are_refused(shape):
    with pytest.raises(ValueError, match="square field of at least 8"):
        to_coefficients(np.zeros(shape), 8)


def test_a_window_lies_where_it_was_taken():
    field = signed_distance(disc(80, 9, (30.5, 50.5)))
    window = in_frame(field, np.array([30.0, 50.0]), 20.0, 48)
    back = on_pixels(window, np.array([30.0, 50.0]), 20.0, (80, 80), -99.0)
    assert ((back > 0) ^ (field > 0)).sum() <= 12
    assert back[0, 0] == -99
