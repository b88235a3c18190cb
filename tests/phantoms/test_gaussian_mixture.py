"""The toy mixture on disk: the distributions that it says, and the same numbers for everybody with the seed."""

import json

import nibabel as nib
import numpy as np
import pytest
from scipy.stats import kstest

from bundle.data import load_datalist
from bundle.data.errors import DataError
from bundle.phantoms.gaussian import MIXTURE, Component, write_mixture
from scripts import make_phantoms


def numbers(item, key="image"):
    return nib.load(item[key]).get_fdata().ravel()


@pytest.mark.parametrize(("spread", "deviations"), [("variance", [2**0.5, 1, 0.5**0.5]), ("std", [2, 1, 0.5])])
def test_the_published_mixture(tmp_path, spread, deviations):
    datalist = load_datalist(write_mixture(tmp_path / "toy", spread=spread, draws=3000, test_draws=2000), deep=True)
    assert datalist.sites == ("1", "2", "3")
    assert (datalist.task, datalist.modality) == ("gaussian", ("value",))
    for split, count in ((datalist.training, 3000), (datalist.test, 2000)):
        for place, (item, mean, deviation) in enumerate(zip(split, [-3, 1, 3], deviations, strict=True), start=1):
            values = numbers(item)
            assert item["site"] == str(place)
            assert nib.load(item["image"]).shape == (1, 1, count)
            assert kstest(values, "norm", (mean, deviation)).pvalue > 1e-3
            assert set(numbers(item, "label")) == {place}
    assert not np.isin(numbers(datalist.test[0]), numbers(datalist.training[0])).any()


def test_numbers_by_site_and_seed(tmp_path):
    def written(name, **options):
        datalist = load_datalist(write_mixture(tmp_path / name, test_draws=10, **options))
        return {item["site"]: numbers(item) for item in datalist.training}

    unequal = written("a", draws=[20, 300, 7], sites=["north", "south", "west"])
    assert {site: len(values) for site, values in unequal.items()} == {"north": 20, "south": 300, "west": 7}
    # other numbers elsewhere leave a site's draws alone
    again = written("b", draws=[20, 5, 7], sites=["north", "south", "west"])
    np.testing.assert_array_equal(unequal["north"], again["north"])
    np.testing.assert_array_equal(unequal["west"], again["west"])
    assert not np.array_equal(unequal["north"], written("c", draws=20, seed=1)["1"])


def test_what_was_there_is_replaced_if_it_is_a_mixture(tmp_path):
    write_mixture(tmp_path / "toy", draws=5, test_draws=5)
    write_mixture(tmp_path / "toy", MIXTURE[:2], draws=5, test_draws=5)
    assert load_datalist(tmp_path / "toy").sites == ("1", "2")
    assert len(list((tmp_path / "toy" / "draws").iterdir())) == 8
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years", encoding="utf-8")
    with pytest.raises(DataError, match="holds other files"):
        write_mixture(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text(encoding="utf-8") == "years"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"components": [Component(0, 0)]}, r"component 1 is N\(0, 0\)"),
        ({"components": []}, "0 components"),
        ({"spread": "sigma"}, "variance, std"),
        ({"draws": [1, 2]}, "3 components, 2 numbers of draws and 3 sites"),
        ({"draws": 40000}, "40000, expected 1 to 32767"),
        ({"test_draws": 0}, "0, expected 1 to 32767"),
        ({"sites": ["a", "a", "b"]}, "different names"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_options(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        write_mixture(tmp_path / "toy", **options)
    assert not (tmp_path / "toy").exists()


def test_the_command(tmp_path, capsys):
    words = ["gaussian", str(tmp_path / "toy"), "--means", "0", "5", "--spreads", "1", "2", "--spread", "std"]
    assert make_phantoms.main([*words, "--draws", "8", "16", "--test_draws", "4", "--sites", "A", "B"]) == 0
    rule = json.loads((tmp_path / "toy" / "datalist.json").read_text(encoding="utf-8"))["site_rule"]
    assert rule["components"] == [[0, 1], [5, 2]]
    assert (rule["spread"], rule["draws"]) == ("std", [8, 16])
    assert make_phantoms.main(["gaussian", str(tmp_path / "other"), "--means", "1"]) == 2
    assert "1 means and 3 spreads" in capsys.readouterr().err
