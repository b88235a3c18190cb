import numpy as np
import pytest

from bundle.wire.quantization import PRECISIONS, pack_mask, quantize, restore, restored_size


def noise(shape=(2, 1, 16, 16), scale=1.0, seed=0):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def round_trip(values, precision, seed=0):
    stored, encoding = quantize(values, precision, lambda: seed)
    restored = restore(stored, encoding)
    assert restored.dtype == np.float32
    assert restored.shape == values.shape
    assert restored_size(stored, encoding) == restored.nbytes
    return restored


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e-9, 1e-3, 1.0, 1e30])
def test_float16_keeps_eleven_bits_of_any_magnitude(scale):
    values = noise(scale=scale)
    if scale > 1e-38:  # below, float32 itself has fewer
        np.testing.assert_allclose(round_trip(values, "float16"), values, rtol=2**-11, atol=0)
    else:
        np.testing.assert_allclose(round_trip(values, "float16"), values, rtol=0, atol=2**-11 * np.abs(values).max())


def test_float16_of_values_far_apart():
    values = (1 + np.random.default_rng(0).random(60, np.float32)) * np.float32(2) ** -np.arange(60, dtype=np.float32)
    values[0] = 1
    error = np.abs(round_trip(values, "float16") - values)
    assert (error <= np.where(values >= 2**-28, values * 2**-11, 2**-39)).all()


def test_float16_of_float16_is_exact():
    once = round_trip(noise(scale=1e-5), "float16")
    np.testing.assert_array_equal(round_trip(once, "float16"), once)


def test_int8_of_whole_multiples_is_exact():
    values = np.array([-127, -64, -1, 0, 1, 2, 126, 127], np.float32) * np.float32(2**-20)
    stored, encoding = quantize(values, "int8", lambda: 3)
    assert stored.tolist() == [-127, -64, -1, 0, 1, 2, 126, 127]
    assert encoding == {"int8": 2**-20}
    np.testing.assert_array_equal(restore(stored, encoding), values)


@pytest.mark.parametrize("scale", [1e-42, 1e-6, 1.0, 1e37])
def test_int8_is_within_a_step_and_keeps_zeros_and_range(scale):
    values = noise(scale=scale).clip(-3 * scale, 3 * scale)
    values[0] = 0
    values[1, 0, 0] = [3 * scale, -3 * scale] * 8
    restored = round_trip(values, "int8")
    largest = np.float64(np.abs(values).max())
    assert np.abs(restored.astype(np.float64) - values).max() <= largest / 127 * (1 + 1e-6) + 1e-45
    assert np.array_equal(restored[0], values[0])
    assert np.array_equal(restored[1, 0, 0], values[1, 0, 0])
    assert np.abs(restored).max() <= largest


def test_the_largest_numbers_do_not_overflow():
    values = np.array([np.finfo(np.float32).max, np.finfo(np.float32).min], np.float32)
    for precision in PRECISIONS:
        np.testing.assert_allclose(round_trip(values, precision), values, rtol=2**-11)


def test_int8_is_unbiased():
    values = noise((400,), 1e-4, seed=1)
    trials = 2000
    mean = np.mean([round_trip(values, "int8", seed).astype(np.float64) for seed in range(trials)], axis=0)
    # one rounding deviates by at most half a step, so the mean of the trials by scale / 2 / sqrt(trials)
    deviation = np.abs(values).max() / 127 / 2 / np.sqrt(trials)
    assert np.abs(mean - values).max() < 5 * deviation
    assert abs((mean - values).mean()) < 5 * deviation / np.sqrt(values.size)
    # what rounding to the nearest would do to values below half a step: lose them
    small = np.concatenate([[1.0], np.full(10000, 0.1 / 127)]).astype(np.float32)
    assert round_trip(small, "int8")[1:].mean() == pytest.approx(0.1 / 127, rel=0.2)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", [(3, 0, 4), (0,), (), (2, 3)])
def test_zeros_and_nothing_come_back(precision, shape):
    values = np.zeros(shape, np.float32)
    np.testing.assert_array_equal(round_trip(values, precision), values)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_arrives_as_it_is(precision, odd):
    values = noise()
    values[0, 0, 3, 3] = odd
    np.testing.assert_array_equal(round_trip(values, precision), values)


@pytest.mark.parametrize("shape", [(2, 2, 16, 16), (1000,), (1, 1, 9, 9), (3, 5, 7, 11)])
def test_masks_are_packed_without_loss(shape):
    mask = np.random.default_rng(0).integers(0, 2, shape, dtype=np.uint8)
    stored, encoding = pack_mask(mask)
    assert stored.nbytes == -(-mask.size // 8)
    np.testing.assert_array_equal(restore(stored, encoding), mask)
    assert restored_size(stored, encoding) == mask.nbytes


def test_masks_are_packed_only_where_it_is_lossless_and_pays():
    small = np.ones((1, 2, 4, 4), np.uint8)
    three = np.full((1, 2, 32, 32), 2, np.uint8)
    for values in (small, three, np.empty(0, np.uint8)):
        stored, encoding = pack_mask(values)
        assert encoding is None
        assert stored is values


@pytest.mark.parametrize(
    ("dtype", "shape", "encoding"),
    [
        ("float64", (2,), None),
        ("int8", (2,), None),
        ("int8", (2,), {"int8": float("nan")}),
        ("int8", (2,), {"int8": -1.0}),
        ("int8", (2,), {"int8": float("inf")}),
        ("int8", (2,), {"int8": True}),
        ("uint8", (2,), {"int8": 1.0}),
        ("float16", (2,), {"float16": 10**30}),
        ("float16", (2,), {"float16": 1.5}),
        ("uint8", (2,), {"bits": [17]}),
        ("uint8", (2,), {"bits": [8]}),
        ("uint8", (2,), {"bits": [2**40, 2**40]}),
        ("uint8", (2,), {"bits": [-4, -4]}),
        ("uint8", (2,), {"bits": [16.0]}),
        ("uint8", (2,), {"bits": 16}),
        ("uint8", (1, 2), {"bits": [16]}),
        ("uint8", (0,), {"bits": [1] * 9}),
        ("uint8", (2,), {"bits": [16], "int8": 1.0}),
        ("uint8", (2,), {"zip": 1}),
        ("uint8", (2,), {}),
        ("uint8", (2,), "bits"),
    ],
)
def test_an_encoding_that_does_not_fit_is_refused_before_it_is_used(dtype, shape, encoding):
    stored = np.zeros(shape, dtype)
    for function in (restored_size, restore):
        with pytest.raises(ValueError, match="expected"):
            function(stored, encoding)
