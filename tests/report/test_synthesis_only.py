"""A run that segments nothing: the scores of the synthetic data are its results."""

from bundle.report import (
    best_subset,
    compute_statistics,
    key_metric,
    markdown_table,
    metric_names,
    text_table,
    write_report,
)
from bundle.report.scores import is_synthesis_only


def entry(mean):
    if mean is None:
        return {"mean": None, "std": None, "per_seed": [None, None], "per_case": {}}
    return {"mean": mean, "std": 0.01, "per_seed": [mean - 0.01, mean + 0.01], "per_case": {}}


def make_results(**changes):
    means = {"asyndgan": 0.055, "syn_all": 0.05, "syn_subset/2": 1.5, "syn_subset/10": 2.5}
    # a generator of one site has no numbers of the others' components
    nothing = {"mean": None, "std": None, "per_seed": [None, None], "per_case": {}}
    quality = {
        setting: {"w1": entry(mean), "w1_component": nothing if "/" in setting else entry(2 * mean)}
        for setting, mean in means.items()
    }
    return {"task": "gaussian", "name": "toy", "seeds": [0, 1], "settings": {}, "quality": quality} | changes


def test_the_table():
    results = make_results()
    assert is_synthesis_only(results)
    assert metric_names(results) == ["w1", "w1_component"]
    assert key_metric(results) == "w1"
    assert best_subset(results) == "syn_subset/2"
    lines = [" ".join(line.split()) for line in text_table(results).splitlines()]
    assert lines[0] == "Setting W1 ↓ W1 by component ↓ W1 / Syn-All"
    assert lines[2] == "Syn-All 0.050 ± 0.010 0.100 ± 0.010 1.000"
    assert lines[3] == "Syn-Subset-2 * 1.500 ± 0.010 – 30.000"
    assert lines[5] == "AsynDGAN 0.055 ± 0.010 0.110 ± 0.010 1.100"
    assert "* best single site by W1." in lines
    assert markdown_table(results).count("\n| ") == 5


def test_with_segmentations_they_are_the_results():
    results = make_results(settings={"real_all": {"dice": entry(0.7), "training_images": 3}})
    assert not is_synthesis_only(results)
    assert metric_names(results) == ["dice"]
    assert "Training images" in text_table(results)


def test_a_single_site_is_one_of_real_data_where_there_are_such():
    settings = {"real_subset/1": {"dice": entry(0.5)}, "syn_subset/1": {"dice": entry(0.6)}}
    assert best_subset(make_results(settings=settings)) == "real_subset/1"
    assert best_subset({"settings": {"syn_subset/1": {"dice": entry(0.6)}}}) is None


def test_components_are_no_patients():
    """Nothing is tested or counted that would take them for such, on the page either."""
    results = make_results()
    for scores in results["quality"].values():
        scores["w1_component"]["per_case"] = {f"component {n}": [0.1 * n, 0.2] for n in range(6)}
    assert compute_statistics(results) == {}
    assert "patients" not in text_table(results)


def test_the_page(tmp_path):
    text = write_report(tmp_path / "report.html", make_results(), []).read_text(encoding="utf-8")
    said = " ".join(text.split())
    assert "W1 of 0.055, 1.10 times the 0.050 of Syn-All" in said
    assert "lower is better" in said
    assert "Syn-Subset-2, reached 1.500: AsynDGAN&#39;s is 0.04 times that" in said
    assert "draw data for 2 sites (2 and 10)." in said
    assert "egmentation" not in said
    assert not [word for word in ("patient", "Test cases", "Image quality") if word in said]
    assert "What each generator was trained on" in said


def test_before_asyndgan_is_scored(tmp_path):
    results = make_results()
    del results["quality"]["asyndgan"]
    assert "not been scored yet" in write_report(tmp_path / "report.html", results, []).read_text(encoding="utf-8")
