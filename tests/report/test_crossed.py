import pytest
from gain_results import gain_results

from bundle.report.crossed import crossed_table, kinds_from_sites
from bundle.report.table import to_markdown, to_text


def cells(results):
    table = crossed_table(results)
    return {row.name: dict(zip(table.headings[1:], row.cells, strict=True)) for row in table.rows}


def test_what_crossed_by_method():
    found = cells(gain_results(seeds=1))
    assert list(found) == ["AsynDGAN, guarded", "FedAvg", "FedProx, μ 0.01"]
    assert found["AsynDGAN, guarded"] == {
        "To hospitals": "synthetic images",
        "From hospitals": "label maps, image gradients, losses",
        "Bytes to": "198 MB",
        "Bytes from": "212 MB",
        "Exchanges": "1,500 steps",
        "Membership AUC": "0.61 (0.55 to 0.68)",
        "Control / chance": "0.54 / 0.50",
        "Strongest attack": "wall, loss",
    }
    assert found["FedAvg"]["From hospitals"] == "weights"
    assert found["FedAvg"]["Exchanges"] == "100 rounds of 15 steps"
    assert found["FedProx, μ 0.01"]["Membership AUC"] == "not measured in this run"


def test_what_was_not_measured_says_how_it_is():
    results = gain_results(seeds=1)
    del results["attacks"]
    assert cells(results)["FedAvg"]["Membership AUC"] == "not measured in this run"
    ours, averaged = crossed_table(results).notes
    assert "asyndgan audit membership" in ours
    assert "asyndgan audit segmenters" in averaged


@pytest.mark.parametrize(
    ("policy", "kinds"),
    [
        (None, "label maps, image gradients, losses"),
        ("guarded", "label maps, image gradients, losses"),
        ("guarded (conditions deformed)", "deformed label maps, image gradients, losses"),
        ("guarded (conditions drawn)", "drawn label maps, image gradients, losses"),
        ("guarded (conditions public)", "image gradients, losses"),
        ("guarded (scalar_losses False)", "label maps, image gradients"),
        ("private (epsilon 4, delta 1e-05, clip_norm 0.01)", "image gradients"),
        ("private (epsilon 4, teacher True, mechanism dp_sgd)", "teachers' weights with noise, image gradients"),
        ("out_of_fold", "label maps, teachers' images, image gradients, losses"),
        ("out_of_fold (teacher False)", "label maps, image gradients, losses"),
        ("private (epsilon inf, delta 1e-05, clip_norm 0.01, conditions real)", "label maps, image gradients"),
        ("A: guarded; B: private (epsilon 4)", "label maps (of some), image gradients, losses (of some)"),
    ],
)
def test_what_leaves_the_hospitals_under_a_policy(policy, kinds):
    assert kinds_from_sites(policy) == kinds


@pytest.mark.parametrize(
    "partial",
    [
        {"averaging": {"fedavg": None}, "attacks": {"fedavg": [None, {"attack": "a"}, {"value": "x"}]}},
        {"averaging": {"fedavg": {"rounds": "many"}}, "attacks": {"fedavg": {"a": 1}}},
        {"averaging": None, "attacks": None, "wire": None, "policy": 3},
        {"attacks": {"fedavg": [{"value": 0.6}]}},
    ],
)
def test_what_is_missing_or_odd_is_a_dash(partial):
    results = {"settings": {"fedavg": {"dice": {"mean": 0.5}}, "asyndgan": {"dice": {"mean": 0.5}}}} | partial
    for render in (to_text, to_markdown):
        assert "nan" not in render(crossed_table(results)).lower()
    assert "–" in cells(results)["FedAvg"].values()
