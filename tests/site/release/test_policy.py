import math

import pytest

from bundle.site.release import DEFAULT, POLICIES, PolicyError, ReleasePolicy, make_gates, policies_by_site


def test_the_default_returns_nothing_that_compares_with_a_real_image():
    assert POLICIES["guarded"].forbidden(["adversarial", "l1", "perceptual"]) == ["l1", "perceptual"]
    assert POLICIES["published"].forbidden(["adversarial", "l1", "perceptual"]) == []
    assert POLICIES["private"].conditions == "public"
    assert not POLICIES["private"].scalar_losses


def test_a_policy_is_a_name_or_a_name_with_changes():
    assert ReleasePolicy.make("guarded") is not None
    changed = ReleasePolicy.make({"policy": "private", "epsilon": 4, "terms": ["adversarial"]})
    assert (changed.name, changed.epsilon, changed.terms) == ("private", 4, ("adversarial",))
    assert ReleasePolicy.make({"max_issues": 7}).name == DEFAULT
    assert changed.describe() == "private (clip_norm 0.01, epsilon 4, delta 1e-05)"
    assert ReleasePolicy.make({"max_issues": 7}).describe() == f"{DEFAULT} (max_issues 7)"
    assert POLICIES["published"].describe() == "published"


def test_an_infinite_budget_can_be_written_down():
    policy = ReleasePolicy.make({"policy": "private", "epsilon": math.inf})
    assert policy.to_dict()["epsilon"] == "inf"
    assert "epsilon inf" in policy.describe()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("open", "expected published, guarded, out_of_fold, private"),
        ({"policy": "open"}, "expected published, guarded, out_of_fold, private"),
        ({"policy": "guarded", "losses": []}, "no field losses"),
        ({"terms": ["l1"]}, "terms"),
        ({"terms": "adversarial"}, "terms"),
        ({"max_issues": 0}, "max_issues"),
        ({"max_releases": 1.5}, "max_releases"),
        ({"nonces": "no"}, "nonces"),
        ({"num_samples": "about"}, "num_samples"),
        ({"num_samples": True}, "num_samples"),
        ({"conditions": "fake"}, "conditions"),
        ({"epsilon": 1.0}, "together with clip_norm"),
        ({"policy": "private", "epsilon": math.nan}, "epsilon"),
        ({"policy": "private", "clip_norm": math.inf}, "clip_norm"),
        ({"policy": "private", "delta": 1.0}, "delta"),
        ({"policy": "private", "scalar_losses": True}, "scalar_losses: expected false while epsilon is finite"),
        ({"policy": "private", "conditions": "deformed"}, "conditions: expected public while epsilon is finite"),
        ({"policy": "private", "num_samples": "rounded"}, "num_samples: expected a fixed number while epsilon"),
        ({"policy": "private", "terms": ["adversarial", "l1"]}, "no real image"),
        ({"policy": "guarded", "folds": 1}, "folds: expected a whole number from 2 to 16, or null"),
        ({"policy": "out_of_fold", "folds": True}, "folds"),
        ({"policy": "published", "folds": 3}, "terms: expected adversarial alone where there are folds"),
        ({"policy": "private", "folds": 3}, "conditions: expected real or deformed where there are folds"),
        ({"min_patients": 1}, "min_patients: expected a whole number of at least 2"),
        ({"policy": "published", "conditions": "drawn"}, "with drawn conditions there is no real image"),
        ({"policy": "private", "conditions": "drawn"}, "conditions: expected public while epsilon is finite"),
        ({"policy": "out_of_fold", "conditions": "drawn"}, "conditions: expected real or deformed where there are fol"),
        (None, "expected published"),
    ],
)
def test_what_is_no_policy_is_refused_by_its_field(value, said):
    with pytest.raises(PolicyError, match=said):
        ReleasePolicy.make(value)


def test_policies_of_sites():
    alike = policies_by_site({"policy": "private", "epsilon": 1.0}, ["A", "B"])
    assert alike["A"] == alike["B"] == ReleasePolicy.make({"policy": "private", "epsilon": 1.0})
    assert policies_by_site({"max_issues": 3}, ["A"])["A"].max_issues == 3
    own = policies_by_site({"A": "published", "B": {"max_issues": 3}}, ["A", "B", "C"])
    assert [own[site].describe() for site in "ABC"] == ["published", f"{DEFAULT} (max_issues 3)", DEFAULT]
    with pytest.raises(ValueError, match="given for Z, but the sites are A, B: there is no Z"):
        policies_by_site({"Z": "published"}, ["A", "B"])


def test_a_run_in_one_process_can_be_repeated_and_what_promises_privacy_cannot(tmp_path):
    def secrets_of(folder, policy, seed):
        gates = make_gates(
            ["A", "B"], policy=policy, ledger=lambda name: tmp_path / folder / f"{name}.jsonl", repeatable_from=seed
        )
        (tmp_path / folder).mkdir(exist_ok=True)
        return [gates[name].secret for name in "AB"]

    folded = secrets_of("first", POLICIES["out_of_fold"], 0)
    assert folded == secrets_of("second", POLICIES["out_of_fold"], 0)
    assert len({*folded, *secrets_of("third", POLICIES["out_of_fold"], 1)}) == 4
    # a site that has a secret keeps it
    assert secrets_of("third", POLICIES["out_of_fold"], 0) == secrets_of("third", POLICIES["out_of_fold"], 1)
    for number, policy in enumerate(
        (POLICIES["private"], ReleasePolicy.make({"policy": "guarded", "secret_weights": True}))
    ):
        assert set(secrets_of(f"own {number}", policy, 0)).isdisjoint(secrets_of(f"other {number}", policy, 0))
    assert set(secrets_of("hospital", POLICIES["out_of_fold"], None)).isdisjoint(folded)
