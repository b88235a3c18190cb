"""Label maps that are drawn: like those that they were made from, and none of them."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from bundle.phantoms.nuclei import nuclei_phantom
from bundle.shapes import (
    Cells,
    OrganWithRegions,
    ShapeStatistics,
    TooFewPatients,
    model_of,
    read_statistics,
    write_statistics,
)
from bundle.transforms import TernaryLabeld


def head(rng, size=48, classes=1, region=True):
    """An ellipse with a disc in it, whose inner half is another class where there are two."""
    rows, columns = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    high, wide = rng.uniform(0.3, 0.42, 2)
    condition = np.zeros((classes + 1, size, size), np.uint8)
    condition[-1] = (rows / high) ** 2 + (columns / wide) ** 2 <= 1
    if region:
        centre, radius = rng.uniform(-0.08, 0.08, 2), rng.uniform(0.06, 0.12)
        distance = np.hypot(rows - centre[0], columns - centre[1])
        condition[0] = distance <= radius
        if classes == 2:
            condition[1] = distance <= radius / 2
            condition[0] &= 1 - condition[1]
    return condition


def heads(patients=8, each=6, classes=1, seed=0):
    rng = np.random.default_rng(seed)
    return {
        f"p{n}": [head(rng, classes=classes, region=place % 3 > 0) for place in range(each)] for n in range(patients)
    }


@pytest.fixture(scope="module")
def fitted():
    model = OrganWithRegions(1)
    return model, model.fit(heads())


@pytest.fixture(scope="module")
def tiles():
    classes = TernaryLabeld("label")
    found = {}
    for number in range(6):
        instances = nuclei_phantom(number, size=128)["instances"]
        label = np.asarray(classes({"label": torch.from_numpy(instances.astype(np.int32))[None]})["label"][0])
        found[f"p{number}"] = [np.stack([label == 1, label == 2]).astype(np.uint8)]
    return found


def draws(model, statistics, number, size=48, **controls):
    return [model.draw(statistics, np.random.default_rng(seed), size, **controls) for seed in range(number)]


def test_heads_are_of_the_size_and_have_tumours_as_often_and_as_large(fitted):
    model, statistics = fitted
    drawn, real = draws(model, statistics, 300), [one for own in heads().values() for one in own]
    for measure in (
        lambda own: np.mean([one[-1].mean() for one in own]),
        lambda own: np.mean([one[0].any() for one in own]),
        lambda own: np.mean([one[0].sum() / one[-1].sum() for one in own if one[0].any()]),
    ):
        assert measure(drawn) == pytest.approx(measure(real), rel=0.15)


def test_what_is_drawn_is_a_condition(fitted):
    for one in draws(*fitted, 50):
        assert one.shape == (2, 48, 48)
        assert one.dtype == np.uint8
        assert not (one[0] & ~one[1] & 1).any(), "a tumour outside the head"
        assert ndimage.label(one[-1])[1] == 1
        assert one[0].sum() == 0 or one[0].sum() >= 4


def test_a_draw_is_a_function_of_its_seed_and_the_size_only_says_how_fine(fitted):
    model, statistics = fitted
    first, second, fine = (model.draw(statistics, np.random.default_rng(5), size) for size in (48, 48, 144))
    assert (first == second).all()
    assert (fine[-1][1::3, 1::3] ^ first[-1]).mean() < 0.03


def test_none_is_one_that_it_was_made_of(fitted):
    real = [one for own in heads().values() for one in own]
    assert not any((one == other).all() for one in draws(*fitted, 50) for other in real)


def test_a_region_of_a_size_is_drawn_where_it_is_asked_for(fitted):
    model, statistics = fitted
    low, high = model.size_range(statistics)
    middle = (low * high) ** 0.5
    drawn = draws(model, statistics, 30, region_size=(middle, high))
    shares = [one[0].sum() / one[-1].sum() for one in drawn if one[0].any()]
    assert len(shares) >= 28
    assert min(shares) > 0.6 * middle


@pytest.mark.parametrize("wanted", [(0.5, 0.9), (1e-9, 0.01), (0.05, 0.02)])
def test_a_size_beyond_the_range_is_refused_with_the_range(fitted, wanted):
    model, statistics = fitted
    low, high = model.size_range(statistics)
    with pytest.raises(ValueError, match=f"between {low:.3g} and {high:.3g}"):
        model.draw(statistics, np.random.default_rng(0), 48, region_size=wanted)


def test_classes_lie_in_the_region_apart_from_each_other():
    model = OrganWithRegions(2)
    drawn = [one for one in draws(model, model.fit(heads(classes=2)), 40) if one[:2].any()]
    assert not any((one[0] & one[1]).any() for one in drawn)
    assert np.mean([one[1].any() for one in drawn]) > 0.8
    inner = [ndimage.distance_transform_edt(one[:2].any(axis=0))[one[1] > 0].mean() for one in drawn if one[1].any()]
    outer = [ndimage.distance_transform_edt(one[:2].any(axis=0))[one[0] > 0].mean() for one in drawn if one[0].any()]
    assert np.mean(inner) > np.mean(outer)


def test_few_patients_are_refused_also_where_few_have_a_region():
    with pytest.raises(TooFewPatients, match="at least 5 patients"):
        OrganWithRegions(1).fit(heads(patients=4))
    rng = np.random.default_rng(0)
    few = {f"p{n}": [head(rng, region=n < 3)] for n in range(9)}
    with pytest.raises(TooFewPatients, match="got 3"):
        OrganWithRegions(1).fit(few)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 8, 9), (2, 8)])
def test_conditions_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="expected conditions of 2×N×N"):
        OrganWithRegions(1).fit({"p": [np.ones(shape, np.uint8)]})


def test_cells_are_as_dense_and_as_large(tiles):
    model = Cells()
    statistics = model.fit(tiles)

    def measures(conditions):
        numbers = [ndimage.label(one[0], np.ones((3, 3)))[1] for one in conditions]
        return np.mean(numbers), np.sum([one.any(axis=0).sum() for one in conditions]) / np.sum(numbers)

    drawn = draws(model, statistics, 12, size=128)
    number, area = measures([one for own in tiles.values() for one in own])
    assert measures(drawn)[0] == pytest.approx(number, rel=0.35)
    assert measures(drawn)[1] == pytest.approx(area, rel=0.35)
    assert not any((one[0] & one[1]).any() for one in drawn)


def test_density_is_a_control_with_a_range(tiles):
    model = Cells()
    statistics = model.fit(tiles)
    low, high = model.density_range(statistics)
    few, many = (
        np.mean(
            [ndimage.label(one[0], np.ones((3, 3)))[1] for one in draws(model, statistics, 6, 128, density=density)]
        )
        for density in (low, high)
    )
    assert few < many
    with pytest.raises(ValueError, match=f"between {low:.3g} and {high:.3g}"):
        model.draw(statistics, np.random.default_rng(0), 128, density=2 * high)


def test_statistics_lie_in_a_file_that_says_by_what_they_were_made(fitted, tmp_path):
    model, statistics = fitted
    write_statistics(tmp_path / "shapes.npz", {"A": statistics})
    read = read_statistics(tmp_path / "shapes.npz")["A"]
    assert vars(model_of(read)) == vars(model)
    assert read.about == {"patients": 8, "conditions": 48}
    drawn, again = (model.draw(own, np.random.default_rng(1), 48) for own in (statistics, read))
    assert (drawn != again).mean() < 0.01  # float32


@pytest.mark.parametrize(
    ("model", "arguments"), [("Anything", {}), ("OrganWithRegions", {"classes": 1}), ("Cells", {"boundary_width": 0})]
)
def test_statistics_of_no_model_are_refused(model, arguments):
    with pytest.raises(ValueError, match=r"boundary_width|statistics of shapes"):
        model_of(ShapeStatistics(model, arguments, {}))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"text"])
def test_a_file_that_holds_anything_else_is_named(tmp_path, content):
    (tmp_path / "shapes.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"shapes\.npz: expected statistics of shapes"):
        read_statistics(tmp_path / "shapes.npz")


@pytest.mark.parametrize("lacking", ["about", "A/place/mean"])
def test_a_file_that_lacks_a_part_is_named(fitted, tmp_path, lacking):
    write_statistics(tmp_path / "whole.npz", {"A": fitted[1]})
    with np.load(tmp_path / "whole.npz") as stored:
        np.savez(tmp_path / "shapes.npz", **{name: stored[name] for name in stored.files if name != lacking})
    with pytest.raises(ValueError, match=r"shapes\.npz: expected statistics of shapes"):
        read_statistics(tmp_path / "shapes.npz")


def test_no_file_says_who_writes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="asyndgan shapes writes them"):
        read_statistics(tmp_path / "shapes.npz")
