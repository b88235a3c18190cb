import numpy as np

from bundle.report import contours


def test_objects_that_touch_are_outlined_apart():
    instances = np.array([[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 0, 2]])
    assert contours._separated(instances).astype(int).tolist() == [[1, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 1]]
    mask = np.array([[True, True], [False, True]])
    np.testing.assert_array_equal(contours._separated(mask), mask)
