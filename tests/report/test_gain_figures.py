import numpy as np
import pytest
from gain_results import MEANS, PATIENTS, gain_results
from pictures import check_png, has_colour

from bundle.report.drawing import PALETTE
from bundle.report.gain import read_gains
from bundle.report.gain_figures import _name, dumbbells, gain_figures, score_matrix, trained_and_scored


def test_both_figures_are_drawn_and_show_no_case(tmp_path):
    results = gain_results()
    figures = gain_figures(read_gains(results), tmp_path / "figures")
    assert [(figure.group, figure.pages) for figure in figures] == [("gain", "both")] * 2
    first, second = (check_png(figure.path, 900) for figure in figures)
    for colour in (PALETTE[2], PALETTE[4], PALETTE[0]):
        assert has_colour(first, colour)
    assert second.shape[0] < second.shape[1]


def test_the_matrix_is_trained_at_by_scored_at():
    results = gain_results(patients={"HT": 2, "CS": 3, "": 1}, seeds=1)
    values, rows, columns = score_matrix(read_gains(results), "real_subset", ("asyndgan", "fedavg"))
    assert rows == [*(f"real_subset/{site}" for site in ("CS", "DU", "FG", "HT")), "asyndgan", "fedavg"]
    assert columns == ["CS", "HT", ""]
    of_case = results["settings"]["real_subset/DU"]["dice"]["per_case"]
    at_ht = [value for case, (value,) in of_case.items() if results["test_patients"][case].startswith("HT/")]
    assert values[1, 1] == pytest.approx(np.mean(at_ht))


@pytest.mark.parametrize(
    ("means", "patients"),
    [
        ({"labels_only": 0.3, "real_subset/A$B": 0.4}, {"A$B": 3, "": 2}),
        (
            {f"{kind}/a hospital with a long name {n}": 0.5 for n in range(9) for kind in ("real_subset", "leave_out")},
            {},
        ),
        (MEANS, {f"hospital number {n}": 2 for n in range(10)}),
        ({s: m for s, m in MEANS.items() if "plus" not in s}, PATIENTS),
    ],
)
def test_few_or_many_hospitals(tmp_path, means, patients):
    results = gain_results(means, patients or {"x": 1}, seeds=1)
    results["test_patients"] = results["test_patients"] if patients else {}
    for figure in gain_figures(read_gains(results), tmp_path):
        check_png(figure.path)


def test_without_hospitals_there_is_nothing_to_draw(tmp_path):
    gains = read_gains(gain_results({"labels_only": 0.3, "fedavg": 0.5}, seeds=1))
    assert gain_figures(gains, tmp_path) == []
    dumbbells(gains, tmp_path / "a.png")
    trained_and_scored(gains, tmp_path / "b.png")
    check_png(tmp_path / "a.png")
    check_png(tmp_path / "b.png")


def test_long_names_stay_apart():
    assert _name("University Hospital 1", 11) == "Unive…tal 1"
    assert _name("CS$", 11) == r"CS\$"


def test_of_a_metric_where_lower_is_better(tmp_path):
    results = gain_results(seeds=1)
    for scores in results["settings"].values():
        del scores["dice"]
    gains = read_gains(results)
    assert gains.metric == "hd95"
    for figure in gain_figures(gains, tmp_path):
        check_png(figure.path)
